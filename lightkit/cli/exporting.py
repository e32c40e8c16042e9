"""`lightkit export CKPT --format onnx`: a checkpoint of a recipe as a file that runs, or is read, without lightkit."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lightkit import export
from lightkit.checkpoint import files
from lightkit.checkpoint.places import place
from lightkit.cli.raw_input import Parser, class_of
from lightkit.errors import ConfigError, ExportError, LightkitError, did_you_mean, require
from lightkit.module import LightModule

# none is one that a checkpoint may have: those of a run are looked for by their suffix
SUFFIXES = {"onnx": ".onnx", "torchscript": ".torchscript", "pt2": ".pt2", "safetensors": ".safetensors"}
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "safetensors": ("safetensors",)}
_OF_TRAINING = (
    "optimizer_states", "optimizer_groups", "lr_schedulers", "callbacks", "precision", "loop", "loggers", "rng",
    "loops",
)  # fmt: skip


@dataclass(frozen=True)
class ExportJob:
    """A module with its weights, the checkpoint that they are from, and what it is to become, where."""

    model: LightModule
    checkpoint: dict[str, Any]
    format: str
    target: Path


def prepare_export(arguments: list[str]) -> ExportJob:
    """Read the options and load the module.

    Raises:
        ConfigError: an unknown option or format, or a target that is the checkpoint itself.
        CheckpointError: the checkpoint cannot be used.
        MissingExtraError: a package for this format is not installed.
    """
    parser = Parser(prog="lightkit export", allow_abbrev=False)
    parser.add_argument("ckpt_path", nargs="?")
    parser.add_argument("--format")
    parser.add_argument("--output")
    parser.add_argument("--model", metavar="CLASS")
    options = parser.parse_args(arguments)
    if options.ckpt_path is None:
        raise ConfigError("lightkit export: give the checkpoint, lightkit export CKPT --format onnx")
    made = _format(options.format, options.output)
    source = place(options.ckpt_path)
    target = source.with_suffix(SUFFIXES[made]) if options.output is None else place(options.output)
    if _is_same(source, target):
        raise ConfigError(f"lightkit export: {target} is the checkpoint itself; name another file with --output")
    for package in NEEDS.get(made, ()):
        require(package, "safetensors" if made == "safetensors" else "export", needed_by=f"--format {made}")
    checkpoint = files.load(options.ckpt_path)
    cls = class_of(checkpoint, options.model, options.ckpt_path)
    model: LightModule = cls.load_from_checkpoint(options.ckpt_path)
    if made != "safetensors" and model.example_input_array is None:
        raise ConfigError(
            f"lightkit export: {cls.__name__} has no example_input_array, so that nothing says what its forward takes; "
            "set it in __init__, or export its weights alone, --format safetensors"
        )
    return ExportJob(model, checkpoint, made, target)


def _format(given: str | None, output: str | None) -> str:
    """The format that was asked for, or that the suffix of the output says."""
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    if given is None and output is not None:
        given = by_suffix.get(os.path.splitext(output)[1])
    expected = f"expected one of {', '.join(SUFFIXES)}"
    if given is None:
        raise ConfigError(f"lightkit export: give --format, {expected}")
    if given not in SUFFIXES:
        raise ConfigError(f"lightkit export: --format {given}: {expected}{did_you_mean(given, SUFFIXES)}")
    return given


def _is_same(source: Path, target: Path) -> bool:
    try:
        return source == target or source.resolve() == target.resolve()
    except OSError:
        return False


def run_export(job: ExportJob) -> None:
    """Write the file, compare it with the module, and print where it is; ExportError where it cannot be made."""
    job.model.eval()
    try:
        with _exporters_are_quiet():
            _WRITERS[job.format](job)
    except Exception as error:
        raise _as_one_line(error, job) from error
    print(f"{job.format}: {job.target}")


@contextlib.contextmanager
def _exporters_are_quiet() -> Iterator[None]:
    """A trace warns of each size that it looks at, though it is compared; torch.export prints graphs after an error."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    told: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as told, contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            yield
    finally:
        logging.disable(before)
        for one in told:  # what was not compared, for example, is the user's to read
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _as_one_line(error: Exception, job: ExportJob) -> LightkitError:
    """The error of a module's own, which exporters wrap; else the first line of the exporter's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LightkitError):
            return cause
        last, cause = cause, cause.__cause__ or cause.__context__
    first = str(last).strip().partition("\n")[0]
    return ExportError(f"{type(job.model).__name__} cannot be exported as {job.format}: {type(last).__name__}: {first}")


def _write_onnx(job: ExportJob) -> None:
    job.model.to_onnx(str(job.target), dynamic_shapes=_any_sizes(job.model))


def _write_program(job: ExportJob) -> None:
    job.model.to_exported_program(str(job.target), dynamic_shapes=_any_sizes(job.model))


def _write_torchscript(job: ExportJob) -> None:
    job.model.to_torchscript(str(job.target), method="trace")


def _write_safetensors(job: ExportJob) -> None:
    """Weights and hyperparameters, without what only training needs."""
    content = {key: value for key, value in job.checkpoint.items() if key not in _OF_TRAINING}
    with export.Draft(str(job.target), "") as draft:
        files.save(content, draft.file.with_suffix(".safetensors"))
        again = type(job.model).load_from_checkpoint(draft.file.with_suffix(".safetensors")).eval()
        read, wanted = again.state_dict(), job.model.state_dict()
        if read.keys() != wanted.keys() or any(not _is_equal(read[name], wanted[name]) for name in wanted):
            raise ExportError(f"{job.target}: the weights that were written are not the module's; nothing was kept")
        if draft.file.suffix != ".safetensors":
            draft.file.with_suffix(".safetensors").rename(draft.file)


def _is_equal(a: Any, b: Any) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return bool(a == b)
    return export.is_same(a, b)


def _any_sizes(model: LightModule) -> Any:
    """Each size of each input may be another one, as far as the module allows."""
    example = export.Example.of(model, None, "lightkit export", "example_inputs")
    given: Any = example.kwargs or example.args
    return tree_map_only(Tensor, lambda tensor: dict.fromkeys(range(tensor.dim()), torch.export.Dim.AUTO), given)


_WRITERS: dict[str, Callable[[ExportJob], None]] = {
    "onnx": _write_onnx, "pt2": _write_program, "torchscript": _write_torchscript, "safetensors": _write_safetensors,
}  # fmt: skip
