"""Checkpoint files: written whole or not at all, verified before use, opened without running code.

A file is torch's own zip format (`torch.save`), so `torch.load(path, weights_only=True)` opens it anywhere.
torch itself looks neither at the check sums in that file nor twice at its table: a flipped bit would load as a wrong
weight. So a file is verified to the last byte (`archive.py`) before torch sees it.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import torch

from lightkit.checkpoint import archive
from lightkit.checkpoint.atomic import replace
from lightkit.checkpoint.places import local_copy, place, remote
from lightkit.checkpoint.plain import to_plain
from lightkit.checkpoint.writer import Writer
from lightkit.errors import CheckpointError, ConfigError
from lightkit.schema import StateError

SUFFIXES = (".ckpt", ".pt", ".pth")
MAX_LISTED = 10

PathLike = str | os.PathLike[str]

# Writers of this process with a file under way: who reads waits for them, so that a path given out is a file.
unfinished: set[Writer] = set()


def save(checkpoint: Mapping[str, Any], path: PathLike, note: Mapping[str, object] | None = None) -> None:
    """Write a checkpoint: the file at `path` is the whole new one, or, after any failure, the old one.

    The content is made plain first (see `to_plain`), missing folders are made. note: values that JSON knows, which
    stand beside the content, where `note` reads them without the rest; a .safetensors has none.
    To a path that ends in .safetensors weights are written, and what a checkpoint of weights alone holds beside them.
    Raises CheckpointError for what cannot be saved, RunDirError where the disk is full or not writable.
    """
    write(plain_for(checkpoint, path), path, note)


def plain_for(checkpoint: Mapping[str, Any], path: PathLike) -> dict[str, Any]:
    """The content of the file at `path`, made plain; CheckpointError where such a file cannot hold it."""
    plain: dict[str, Any] = to_plain(checkpoint)
    if (format_ := _safetensors(place(path))) is not None:
        format_.check(plain)
    return plain


def write(plain: Mapping[str, Any], path: PathLike, note: Mapping[str, object] | None = None) -> None:
    """As `save`, for content that is plain already."""
    format_ = _safetensors(place(path))
    replace(place(path), lambda file: _write(plain, file, note) if format_ is None else format_.write(plain, file))


def _safetensors(path: Path) -> ModuleType | None:
    """What reads and writes a file of that name, where it is a .safetensors."""
    if path.suffix != ".safetensors":
        return None
    from lightkit.checkpoint import safetensors_file

    return safetensors_file


def pack(plain: object) -> bytes:
    """The bytes of a file that holds this."""
    buffer = io.BytesIO()
    _write(plain, buffer)
    return buffer.getvalue()


def unpack(data: bytes) -> Any:
    """What `pack` was given; CheckpointError where the bytes are not whole."""
    if (problem := archive.damage(io.BytesIO(data), len(data))) is not None:
        raise CheckpointError(problem)
    with _only_harmless():
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _write(plain: object, file: BinaryIO, note: Mapping[str, object] | None = None) -> None:
    has_sums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)  # a file without check sums could not be verified
    try:
        torch.save(plain, file)  # not by name: the file's name would be in its content
    finally:
        torch.serialization.set_crc32_options(has_sums)
    if note is not None:
        archive.append(file, archive.NOTE, json.dumps(note).encode())


def note(path: PathLike) -> object:
    """What `save` was given as a note, and nothing of the rest of the file is read; None where there is none."""
    _await_writers()
    try:
        with place(path).open("rb") as file, zipfile.ZipFile(file) as found:
            return json.loads(found.read(archive.NOTE.decode()))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        return None


def saved_by(path: PathLike) -> dict[str, Any] | None:
    """What a file's note says of the callbacks that save, by their state keys; None where it says nothing of them."""
    found = note(path)
    said = found.get("saved_by") if isinstance(found, dict) else None
    return said if isinstance(said, dict) else None


def _await_writers() -> None:
    for writer in list(unfinished):
        writer.wait()


def load(path: PathLike, map_location: Any = "cpu") -> dict[str, Any]:
    """Read and verify a checkpoint, a plain state_dict or a Lightning `.ckpt`; code in it is never run.

    Raises CheckpointError where the file is not there (near names are listed), is truncated or damaged (the
    newest whole file beside it is named), holds objects instead of data, or holds no dict.
    """
    _await_writers()
    file = place(path)
    try:
        _require_file(file)
    except OSError as error:  # of a store that cannot be reached, or a folder that may not be read
        raise CheckpointError(f"the checkpoint {file} cannot be read: {error.strerror or error}") from error
    if _safetensors(file) is not None:
        content = _load_safetensors(file, map_location)
    else:
        content = _load_torchs(file, map_location)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file}: expected a checkpoint or a state_dict, found a {type(content).__name__}; "
            "save a dict, for example torch.save(model.state_dict(), path)"
        )
    if "state_dict" in content:  # else it is one
        from lightkit.checkpoint import contents

        contents.check(content, str(file))
    return content


def _load_torchs(file: Path, map_location: Any) -> Any:
    if (problem := _damage(file)) is not None:
        raise CheckpointError(_damaged(file, problem))
    try:
        with _only_harmless(), local_copy(file) as local:
            return torch.load(local, map_location=map_location, weights_only=True)
    except Exception as error:  # torch's readers raise nearly everything for bytes they cannot make sense of
        raise CheckpointError(_unreadable(file, error)) from error


def _load_safetensors(file: Path, map_location: Any) -> Any:
    from lightkit.checkpoint import safetensors_file

    if not isinstance(map_location, (str, torch.device)):
        raise ConfigError(f"{file}: map_location={map_location!r}: expected a device, such as 'cuda:0'")
    safetensors_file.library()
    try:
        with local_copy(file) as local:
            return safetensors_file.read(local, map_location)
    except Exception as error:  # the library, base64 and torch each have their own
        what = f"it cannot be read ({type(error).__name__}: {error})"
        problem = error.problem if isinstance(error, StateError) else what
        raise CheckpointError(_damaged(file, problem)) from error


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    folder = path.parent
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a checkpoint file{_listed(_checkpoints(path))}")
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint {path}: its folder {folder} does not exist")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    near = difflib.get_close_matches(path.name, names, n=5, cutoff=0.5)
    raise CheckpointError(
        f"there is no checkpoint {path}" + _listed([folder / name for name in near] or _checkpoints(folder))
    )


def _listed(files: list[Path]) -> str:
    if not files:
        return "; the folder holds no checkpoint"
    shown = ", ".join(repr(file.name) for file in files[:5])
    return f"; in that folder: {shown}" + (f" and {len(files) - 5} more" if len(files) > 5 else "")


def _unreadable(path: Path, error: Exception) -> str:
    if unsafe := _unsafe_globals(path, error):
        return (
            f"the checkpoint {path} holds objects, not only data: {', '.join(unsafe[:MAX_LISTED])}; loading "
            "never runs code from a checkpoint, so they are not built. If you trust the file, open it with "
            "torch.load(path, weights_only=False) and save its state_dict again"
        )
    if _is_archive(path):
        return f"the checkpoint {path} is whole, but cannot be read here: {_reason(error)}"
    return _damaged(path, f"torch.save did not write it, or only a part of it is there ({_reason(error)})")


def _damage(path: Path) -> str | None:
    """Say what is wrong with a file, or None. Reads all of it; torch's format before 1.6, which has no check sums, is
    left to whoever reads its content."""
    try:
        size = path.stat().st_size
        if size == 0:
            return "it is empty (0 bytes)"
        if not _is_archive(path):
            return None
        with local_copy(path) as local, open(local, "rb") as file:
            return archive.damage(file, size)
    except OSError as error:
        return f"it cannot be read ({error.strerror or type(error).__name__})"


def _is_archive(path: Path) -> bool:
    with local_copy(path) as local, open(local, "rb") as file:
        return file.read(len(archive.MAGIC)) == archive.MAGIC


def _damaged(path: Path, problem: str) -> str:
    other = newest_whole(path.parent, skip=path)
    advice = "no whole checkpoint is beside it" if other is None else f"use the newest whole one, {other}"
    return f"the checkpoint {path} is damaged: {problem}; {advice}"


@contextlib.contextmanager
def _only_harmless() -> Iterator[None]:
    """Let torch take what `_harmless` lists, in the place of what others have declared safe under the same name.

    torch_geometric, once imported, declares collections.defaultdict itself, which torch then cannot fill.
    """
    before = torch.serialization.get_safe_globals()
    ours = _harmless()
    names = {entry[1] for entry in ours if isinstance(entry, tuple)}
    others = [entry for entry in before if _name_of(entry) not in names]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*others, *ours])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _name_of(entry: Any) -> str:
    return str(entry[1]) if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__qualname__}"


def _harmless() -> list[Any]:
    """What torch refuses by default and only holds data: numpy values, paths, dict- and list-likes."""
    allowed: list[Any] = [(_Array, "numpy.ndarray"), (_NumberType, "numpy.dtype")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # the names of numpy 1 and numpy 2
        allowed += [(_scalar, f"{module}.scalar"), (_new_array, f"{module}._reconstruct")]
    for module in ("pathlib", "pathlib._local"):  # of Python up to 3.12 and 3.13
        # whichever system wrote it: a Path of the other one cannot be made here
        allowed += [(Path, f"{module}.PosixPath"), (Path, f"{module}.WindowsPath")]
    allowed += [list, dict, set, int, float, bytes]  # a defaultdict names what it makes; no bytes are bytes()
    allowed += [(_new_dict, "collections.defaultdict"), (_new_list, "collections.deque")]
    allowed += [Namespace, SimpleNamespace]  # in hyperparameters of Lightning's files
    for module in ("lightning.fabric", "lightning_fabric", "lightning.pytorch", "pytorch_lightning"):
        file = "data" if "fabric" in module else "parsing"
        allowed += [(dict, f"{module}.utilities.{file}.AttributeDict")]
    return allowed


class _NumberType:
    """Stands for numpy's dtype: a real one takes fields and sizes from a file, and would then read foreign memory."""

    def __init__(self, code: str, *_: Any):
        self.dtype = np.dtype(code) if isinstance(code, str) else np.dtype(object)
        if self.dtype.kind not in "biufc":
            raise ValueError(f"the numpy dtype {code!r} is not one of numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """An array of numbers, whose size numpy checks against the bytes that are there."""

    def __new__(cls, *_: Any) -> _Array:
        return super().__new__(cls, (0,))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, kind, is_fortran, data = state
        super().__setstate__((version, shape, kind.dtype, is_fortran, data))


def _new_array(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: _NumberType, data: bytes) -> Any:
    return np.frombuffer(data, dtype=kind.dtype, count=1)[0]


def _new_dict(factory: Any = None) -> dict[Any, Any]:
    return {}  # torch's unpickler fills only a real dict


def _new_list(items: Iterable[Any] = (), maxlen: int | None = None) -> list[Any]:
    return list(items)


def _unsafe_globals(path: Path, error: Exception) -> list[str]:
    """Name what the refused file would have built: all of it, or for torch's old format the first."""
    with contextlib.suppress(Exception):  # as in load()
        with _only_harmless(), local_copy(path) as local:
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(local))
    return [".".join(match.groups()) for match in re.finditer(r"GLOBAL (\w+)[ .]([\w.]+)", str(error))][:1]


def is_whole(path: PathLike) -> bool:
    """Say whether the file is there and every part of it is as it was written."""
    _await_writers()
    file = place(path)
    if not file.is_file():
        return False
    if _safetensors(file) is not None:
        with contextlib.suppress(CheckpointError):
            return bool(_load_safetensors(file, "cpu"))
        return False
    if _damage(file) is not None:
        return False
    if _is_archive(file):
        return True
    try:  # torch's old format: only reading it shows whether its end is there
        with local_copy(file) as local:
            torch.load(local, map_location="cpu", weights_only=True)
    except Exception:  # as in load()
        return False
    return True


def outline(path: PathLike) -> Any:
    """The content of a file without what its tensors hold: only its table of contents is read.

    Raises whatever torch's readers raise for files that are not theirs, OSError where it is not there.
    """
    file = place(path)
    if (there := remote(file)) is None:
        with _only_harmless():
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    from torch._subclasses.fake_tensor import FakeTensorMode

    # in the mode storages are not read
    with there.open("rb", block_size=1 << 20) as found, _only_harmless(), FakeTensorMode():
        return torch.load(found, map_location="cpu", weights_only=True)


def newest_whole(
    directory: PathLike | Iterable[PathLike], skip: PathLike | None = None,
    is_wanted: Callable[[Path], bool] | None = None,
) -> Path | None:  # fmt: skip
    """Return the newest whole checkpoint of a folder or of several, by time, then name; None where there is none.

    Looks at .ckpt, .pt and .pth; `skip` and those that are not wanted are left out.
    """
    _await_writers()
    folders = [directory] if isinstance(directory, str | os.PathLike) else directory
    skipped = None if skip is None else place(skip)
    found = (file for file in _checkpoints(*map(place, folders)) if file != skipped and is_whole(file))
    return next((file for file in found if is_wanted is None or is_wanted(file)), None)


def _checkpoints(*folders: Path) -> list[Path]:
    """Checkpoint files of some folders, newest first; half-written ones have another suffix."""
    files = [
        file for folder in folders if folder.is_dir()
        for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file()
    ]  # fmt: skip
    return sorted(files, key=lambda file: (file.stat().st_mtime_ns, _in_order(file.name)), reverse=True)


def _in_order(name: str) -> list[tuple[int, str]]:
    """What sorts `step=10` after `step=9`: a store says the time of a file in whole seconds."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]


def _reason(error: Exception) -> str:
    """The one line that says what happened, from a message that goes on about torch's options."""
    lines = str(error).rpartition("WeightsUnpickler error:")[2].strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
