"""A module as a file that runs without its class: TorchScript, ONNX, torch.export's programs.

Each export runs the module in evaluation mode and leaves the mode of each part as it was. What is written is read again
and compared with the module on the example; one that gives other numbers is not kept.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lightkit.checkpoint.atomic import replace_all
from lightkit.checkpoint.places import place
from lightkit.devices.example import left_as_found, to_device_of
from lightkit.errors import ConfigError, ExportError, did_you_mean, require

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.onnx import ONNXProgram

TOLERANCE = 1e-4  # absolute, and of the size of each number
METHODS = ("script", "trace")
_TORCHS_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`torch\.jit\.", DeprecationWarning),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    ("The given buffer is not writable", UserWarning),
    ("No complete tensor found in the group", UserWarning),
    (r"The tensor attributes .*_flat_weights\[0\]", UserWarning),  # of recurrent layers
)
_LARGE = 1 << 30  # bytes; one file of ONNX holds less than twice as many
Target = str | os.PathLike[str] | IO[bytes]


@dataclass(frozen=True)
class Example:
    """What a module is called with: positional arguments and those by name."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, module: nn.Module, given: Any, who: str, argument: str) -> Example:
        """From what was given, else the module's `example_input_array`; ConfigError where there is neither.

        A tuple or list holds the positional arguments, a dict those by name, anything else is the one argument.
        """
        if given is None:
            given = getattr(module, "example_input_array", None)
        if given is None:
            raise ConfigError(
                f"{who}: nothing to run the module on; give {argument}=..., or set self.example_input_array in __init__"
            )
        given = to_device_of(module, given)
        if isinstance(given, dict):
            return cls((), given)
        return cls(tuple(given) if isinstance(given, (tuple, list)) else (given,), {})

    def run(self, module: Callable[..., Any]) -> list[Tensor]:
        """All tensors that the module returns, in order."""
        return [leaf for leaf in tree_leaves(module(*self.args, **self.kwargs)) if isinstance(leaf, Tensor)]

    def tensors(self) -> list[Tensor]:
        """All tensors that it holds, in order."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]


# ---------------------------------------------------------------- the three formats


def to_torchscript(
    module: nn.Module, file_path: Target | None = None, method: str = "script", example_inputs: Any = None,
    **kwargs: Any,
) -> torch.jit.ScriptModule:  # fmt: skip
    """Compile ("script") or record ("trace") a module in evaluation mode; write it where a file is named.

    example_inputs: what the module is called with. A trace needs it; with "script" it is what the file is checked on.
    Further arguments are those of `torch.jit.script` or `torch.jit.trace`.

    Raises:
        ConfigError: another method, or a trace without an example.
        ExportError: what was written gives other numbers than the module; nothing is kept.
    """
    who = f"{type(module).__name__}.to_torchscript(method={method!r})"
    if method not in METHODS:
        raise ConfigError(f"{who}: expected one of 'script', 'trace'{did_you_mean(method, METHODS)}")
    has_example = example_inputs is not None or getattr(module, "example_input_array", None) is not None
    if method == "script" and not has_example:
        example = None
    else:
        example = Example.of(module, example_inputs, who, "example_inputs")
    with left_as_found(module), _torchs_warnings_ignored():
        if method == "script":
            made = torch.jit.script(module, **kwargs)
        else:
            assert example is not None
            by_name = {"example_kwarg_inputs": example.kwargs} if example.kwargs else {"example_inputs": example.args}
            # what is written is compared below
            made = torch.jit.trace(module, **by_name, **{"check_trace": file_path is None, **kwargs})
        if file_path is not None:
            with Draft(file_path, "model.pt") as draft:
                torch.jit.save(made, draft.file)
                if example is not None:
                    loaded = torch.jit.load(draft.file)
                    compare(module, example, lambda: example.run(loaded), who)
    return made


def to_onnx(
    module: nn.Module, file_path: Target | None = None, input_sample: Any = None, **kwargs: Any
) -> ONNXProgram | None:
    """Write a module in evaluation mode as ONNX; -> torch's program, None with `dynamo=False`.

    Weights of more than 1 GiB, or all with `external_data=True`, stand in a second file, `<name>.data`, which belongs
    to the first: both are written, or neither. Further arguments are those of `torch.onnx.export`.

    Raises:
        ConfigError: no example.
        MissingExtraError: onnx or onnxscript is not installed.
        ExportError: what was written gives other numbers than the module; nothing is kept.
    """
    who = f"{type(module).__name__}.to_onnx(...)"
    for package in ("onnx", "onnxscript"):
        require(package, "export", needed_by=f"{type(module).__name__}.to_onnx")
    example = Example.of(module, input_sample, who, "input_sample")
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
    kwargs = {"verbose": False, "external_data": size > _LARGE, **kwargs}
    with left_as_found(module), _torchs_warnings_ignored():
        if file_path is None:
            return torch.onnx.export(module, example.args, kwargs=example.kwargs or None, **kwargs)
        with Draft(file_path, "model.onnx") as draft:
            made = torch.onnx.export(module, example.args, str(draft.file), kwargs=example.kwargs or None, **kwargs)
            if (run := _onnx_runner(module, draft.file, example, who)) is not None:
                compare(module, example, run, who)
    return made


def to_exported_program(
    module: nn.Module, file_path: Target | None = None, example_inputs: Any = None, **kwargs: Any
) -> ExportedProgram:
    """Export a module in evaluation mode with `torch.export`; write it where a file is named, a `.pt2` by custom.

    example_inputs: what the module is called with. Further arguments, such as `dynamic_shapes`, are those of
    `torch.export.export`.

    Raises:
        ConfigError: no example.
        ExportError: what was written gives other numbers than the module; nothing is kept.
    """
    who = f"{type(module).__name__}.to_exported_program(...)"
    example = Example.of(module, example_inputs, who, "example_inputs")
    with left_as_found(module), _torchs_warnings_ignored():
        made = torch.export.export(module, example.args, example.kwargs or None, **kwargs)
        if file_path is not None:
            with Draft(file_path, "model.pt2") as draft:
                torch.export.save(made, str(draft.file))
                loaded = torch.export.load(str(draft.file)).module()
                compare(module, example, lambda: example.run(loaded), who)
    return made


# ---------------------------------------------------------------- the file


class Draft:
    """A file to write to and to look at; when the block ends it is moved to its target, after an error nothing is.

    What stands beside the file in its folder is moved with it, under names that begin alike.
    """

    def __init__(self, target: Target, name: str):
        self._buffer = target if not isinstance(target, (str, os.PathLike)) else None
        self._target = None if self._buffer is not None else place(target)  # type: ignore[arg-type]
        self._folder = tempfile.TemporaryDirectory(prefix="lightkit-")
        # of its last name: a file may name the one beside it
        self.file = Path(self._folder.name, name if self._target is None else self._target.name)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._move()
        finally:
            self._folder.cleanup()

    def _move(self) -> None:
        made = sorted(self.file.parent.iterdir(), key=lambda path: path == self.file)  # itself last
        if self._target is not None:
            replace_all({self._target.with_name(path.name): path for path in made})
            return
        if len(made) > 1:
            names = ", ".join(path.name for path in made if path != self.file)
            raise ExportError(f"these weights need a second file ({names}), which a buffer cannot hold; give a path")
        assert self._buffer is not None
        self._buffer.write(self.file.read_bytes())


# ---------------------------------------------------------------- the comparison


def compare(module: nn.Module, example: Example, run: Callable[[], list[Tensor]], who: str) -> None:
    """Raise ExportError where what was exported gives other numbers than the module, in evaluation mode both."""
    with _full_precision():
        expected = example.run(module)
        again = example.run(module)
        if not all(is_same(a, b) for a, b in zip(expected, again, strict=True)):
            warnings.warn(
                f"{who}: not compared with the module, which gives other numbers each time it is called", stacklevel=4
            )
            return
        found = run()
    if len(found) != len(expected):
        raise ExportError(f"{who}: gives {len(found)} tensors, the module {len(expected)}; nothing was kept")
    for number, (tensor, wanted) in enumerate(zip(found, expected, strict=True)):
        which = "" if len(found) == 1 else f" in tensor {number}"
        if tensor.shape != wanted.shape:
            raise ExportError(
                f"{who}: gives {tuple(tensor.shape)}{which}, the module {tuple(wanted.shape)}; nothing was kept"
            )
        if (most := _difference(tensor, wanted)) > 0:
            raise ExportError(
                f"{who}: differs from the module by {most:.2g}{which}, more than {TOLERANCE:g}; nothing was kept. "
                "Its forward may depend on Python values, which an export keeps as they were"
            )


def _difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference where one is too large; 0 where all are near."""
    a, b = (tensor.detach().cpu().to(torch.complex128 if tensor.is_complex() else torch.float64)
            for tensor in (found, wanted))  # fmt: skip
    is_near = torch.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    if bool(is_near.all()):
        return 0.0
    most = (a - b).abs()[~is_near].nan_to_num(nan=torch.inf).max()
    return float(most)


def is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers of one type, NaN where the other has NaN."""
    if a.dtype != b.dtype or a.shape != b.shape or torch.equal(a, b):
        return a.dtype == b.dtype and a.shape == b.shape
    has_nan = a.is_floating_point() or a.is_complex()
    return has_nan and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Inside, a GPU multiplies in whole float32: TF32 alone would differ by more than is allowed."""
    backends = torch.backends
    # by the newer of torch's two ways to say it, which may be read whichever one the user has taken
    parts: list[Any] = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def _onnx_runner(
    module: nn.Module, file: Path, example: Example, who: str
) -> Callable[[], list[Tensor]] | None:
    """What runs a file on the example; None, with a warning, where nothing here can."""
    try:
        import onnxruntime
    except ImportError:
        warnings.warn(
            f"{who}: not compared with the module, onnxruntime is not installed: pip install \"lightkit[export]\"",
            stacklevel=4,
        )
        return None
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    tensors, names = example.tensors(), [argument.name for argument in session.get_inputs()]
    if len(names) != len(tensors):  # an argument that the graph does not read may be left out of it
        warnings.warn(
            f"{who}: not compared with the module, which takes {len(tensors)} tensors, the file {len(names)}",
            stacklevel=4,
        )
        return None
    feed = {name: tensor.detach().cpu().numpy() for name, tensor in zip(names, tensors, strict=True)}
    return lambda: [torch.as_tensor(array) for array in session.run(None, feed)]


@contextmanager
def _torchs_warnings_ignored() -> Iterator[None]:
    """Inside, torch does not tell what whoever exports knows, or cannot change: it calls TorchScript deprecated, and
    its exporters warn of what they do themselves."""
    with warnings.catch_warnings():
        for message, kind in _TORCHS_WARNINGS:
            warnings.filterwarnings("ignore", message, kind)
        yield
