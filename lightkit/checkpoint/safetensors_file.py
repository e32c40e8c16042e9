"""Weights as safetensors (https://github.com/huggingface/safetensors), which many programs read.

The format holds tensors by name and, as text, metadata. What else a checkpoint of weights holds (hyperparameters,
epoch, step) stands in the metadata as `lightkit`: a small archive of torch's in base64, with a check sum of the
tensors, which the format lacks. Tensors that are one (tied weights) are written once; the metadata names the others, as
the library's own `save_model` does.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lightkit.checkpoint import files
from lightkit.errors import CheckpointError, require
from lightkit.schema import ANYTHING, TEXT, WHOLE, DictOf, ListOf, Record, StateError

SUFFIX = ".safetensors"
_OURS, _MARK = "lightkit", "lightkit_format"  # two: where one byte of either name is changed, the other one tells
_FORM = Record({"crc": WHOLE, "names": ListOf(TEXT), "objects": DictOf(ANYTHING), "rest": DictOf(ANYTHING)})


def library() -> ModuleType:
    """The library; MissingExtraError where it is not installed."""
    return require("safetensors.torch", "safetensors", needed_by=f"{SUFFIX} files")


def check(plain: object) -> None:
    """Raise CheckpointError for a checkpoint that holds more than weights, MissingExtraError without the library."""
    library()
    if isinstance(plain, Mapping) and "optimizer_states" in plain:
        raise CheckpointError(
            f"a {SUFFIX} file holds weights alone: save with weights_only=True, or to a .ckpt to go on training from it"
        )


def write(plain: Mapping[str, Any], file: BinaryIO) -> None:
    """Write weights, `plain` itself or its state_dict, and beside them what else is in it."""
    weights: Mapping[str, Any] = plain.get("state_dict", plain)
    rest = {key: value for key, value in plain.items() if key != "state_dict"} if weights is not plain else {}
    tensors, same = _apart({name: value for name, value in weights.items() if isinstance(value, Tensor)})
    beside = {
        "crc": _crc(tensors, same), "names": list(weights), "rest": rest,
        "objects": {name: value for name, value in weights.items() if not isinstance(value, Tensor)},
    }  # fmt: skip
    ours = {_OURS: base64.b64encode(files.pack(beside)).decode(), _MARK: "1"}
    try:
        file.write(library().save(tensors, {"format": "pt", **same, **ours}))
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{SUFFIX} files do not hold these weights ({error}); save to a .ckpt") from error


def _apart(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors each in memory of its own; and those that are another one, by its name."""
    apart: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    views: dict[tuple[object, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in weights.items():
        if tensor.layout is not torch.strided:
            problem = f"{SUFFIX} files hold no tensors of {tensor.layout}; save to a .ckpt"
            raise CheckpointError(f"state_dict[{name!r}]: {problem}")
        storage = tensor.untyped_storage()
        view = (storage._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and view in views:
            same[name] = views[view]
            continue
        views[view] = name
        is_shared = storage._cdata in storages
        storages.add(storage._cdata)
        tensor = tensor.detach().cpu()
        apart[name] = tensor.clone(memory_format=torch.contiguous_format) if is_shared else tensor.contiguous()
    return apart, same


def read(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Read and verify a file, also one that another program wrote, which has no check sum.

    Raises StateError for a file that is not whole; what reading raises (OSError, the library's error) passes.
    """
    loaded, metadata = _open(path)
    if _OURS not in metadata and _MARK not in metadata:
        same = {name: first for name, first in metadata.items() if first in loaded and name not in loaded}
        weights = {**loaded, **{name: loaded[first] for name, first in same.items()}}
        return {"state_dict": _moved(weights, device)}
    same = {name: first for name, first in metadata.items() if name not in (_OURS, _MARK, "format")}
    beside = files.unpack(base64.b64decode(metadata.get(_OURS, ""), validate=True))
    _FORM.check(beside)
    if beside["crc"] != _crc(loaded, same):
        raise StateError("it was changed after it was written (wrong check sum)")
    known = {**loaded, **{name: loaded[first] for name, first in same.items()}, **beside["objects"]}
    return {**beside["rest"], "state_dict": _moved({name: known[name] for name in beside["names"]}, device)}


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    library()
    import safetensors

    with safetensors.safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def _moved(weights: Mapping[str, Any], device: Any) -> dict[str, Any]:
    moved = {id(value): value.to(device) if isinstance(value, Tensor) else value for value in weights.values()}
    return {name: moved[id(value)] for name, value in weights.items()}


def _crc(tensors: Mapping[str, Tensor], same: Mapping[str, str]) -> int:
    """A check sum of names, types, shapes and numbers."""
    crc = zlib.crc32(repr(sorted(same.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        numbers: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        crc = zlib.crc32(numbers, crc)
    return crc
