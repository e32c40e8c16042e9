"""Raw inputs, sentences or files, classified from a checkpoint alone: `lightkit predict --ckpt_path FILE --text ...`.

A module takes part by saying what it takes, `raw_input = "text"`, "audio" or "image", and by a method
`predict_raw(raw) -> list[(label, probability)]`, most likely first, for one sentence or the path of one file.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lightkit.checkpoint import files
from lightkit.cli import classes
from lightkit.errors import ConfigError, HookError
from lightkit.module import LightModule

KINDS = ("text", "audio", "image")
TOP = 3
MAX_SHOWN = 60
# what lightkit brings along; nothing else is imported because a checkpoint names it
_RECIPE = re.compile(r"recipes(\.[a-z_][a-z0-9_]*)+\.[A-Z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class RawJob:
    """A module with its weights, and what it is to classify."""

    model: LightModule
    inputs: list[str]


class Parser(argparse.ArgumentParser):
    """argparse with our errors."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}")


def is_raw(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for raw inputs."""
    options = [f"--{kind}" for kind in KINDS]
    return any(argument.partition("=")[0] in options for argument in arguments)


def prepare_raw(arguments: list[str]) -> RawJob:
    """Read the options, load the module from the checkpoint, and look whether the inputs are there.

    Raises:
        ConfigError: an unknown option, no checkpoint, an input of the wrong kind, a file that is not there.
        CheckpointError: the checkpoint cannot be used.
        HookError: the module's class has no predict_raw.
    """
    kind, inputs, options = _parse(arguments)
    checkpoint = files.load(options.ckpt_path)
    cls = class_of(checkpoint, options.model, options.ckpt_path)
    takes = getattr(cls, "raw_input", None)
    if not callable(getattr(cls, "predict_raw", None)) or takes not in KINDS:
        raise HookError(
            f"{cls.__name__} cannot predict from raw input: it has no raw_input ('text', 'audio' or 'image') and "
            "predict_raw(raw) -> [(label, probability), ...]; use lightkit predict CONFIG"
        )
    if takes != kind:
        raise ConfigError(f"--{kind}: {cls.__name__} takes {takes}; give --{takes}")
    missing = [name for name in inputs if kind != "text" and not Path(name).is_file()]
    if missing:
        raise ConfigError(f"--{kind}: no such file: {', '.join(missing)}")
    return RawJob(cls.load_from_checkpoint(options.ckpt_path), inputs)


def _parse(arguments: list[str]) -> tuple[str, list[str], argparse.Namespace]:
    """Return the one kind of input, the inputs, and the other options."""
    parser = Parser(prog="lightkit predict", allow_abbrev=False)
    parser.add_argument("config", nargs="*")
    parser.add_argument("--ckpt_path")
    parser.add_argument("--model", metavar="CLASS")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", nargs="+", action="extend", default=[])
    options = parser.parse_args(arguments)
    given = [kind for kind in KINDS if getattr(options, kind)]
    if options.config:
        raise ConfigError(
            f"lightkit predict: {options.config[0]!r} and --{given[0]} exclude each other: raw input is predicted "
            "from the checkpoint alone; leave the config out"
        )
    if len(given) > 1:
        raise ConfigError(f"lightkit predict: --{' and --'.join(given)} are given; a module takes one kind of input")
    if not options.ckpt_path:
        raise ConfigError(f"lightkit predict --{given[0]}: give the checkpoint too, --ckpt_path FILE")
    inputs = getattr(options, given[0])
    if given[0] == "text":  # that of a file is in `--text "$(cat FILE)"` too
        inputs = [text.removeprefix("\ufeff") for text in inputs]
    return given[0], inputs, options


def class_of(checkpoint: dict[str, Any], given: str | None, where: str) -> Any:
    """Return the class to load: the one that was given, else the recipe that the checkpoint at `where` names."""
    named: Any = given or checkpoint.get("class_path")
    if given:
        where = "command line: --model"
        classes.let_the_working_directory_be_imported()
    elif not isinstance(named, str):
        raise ConfigError(f"{where}: does not say of which class it is; give it, --model package.Class")
    elif not _RECIPE.fullmatch(named):
        raise ConfigError(
            f"{where}: of class {named}, which is none of lightkit's recipes; nothing is imported because "
            f"a checkpoint names it: if you trust that class, add --model {named}"
        )
    try:
        cls = classes.resolve(named)
    except classes.ClassPathError as error:
        raise ConfigError(f"{where}: {error}") from error
    is_module = isinstance(cls, type) and issubclass(cls, LightModule)
    if not is_module or not (given or cls.__module__.startswith("recipes.")):
        raise ConfigError(f"{where}: {named} is not a LightModule{'' if given else ' of the recipes'}")
    return cls


def run_raw(job: RawJob) -> None:
    """Print one line for each input: the most likely labels with their probabilities."""
    import torch

    job.model.eval()
    lines = [" ".join(raw.split()) for raw in job.inputs]
    names = [line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 3] + "..." for line in lines]
    width = max(map(len, names))
    for name, raw in zip(names, job.inputs, strict=True):
        with torch.inference_mode():
            ranked: list[tuple[str, float]] = job.model.predict_raw(raw)  # type: ignore[operator]
        best = ", ".join(f"{label} {probability:.4f}" for label, probability in ranked[:TOP])
        print(f"{name:<{width}}  {best}")
