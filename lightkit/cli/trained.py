"""The model that a checkpoint was trained as, for `lightkit test CONFIG --ckpt_path FILE`: built with what is in it.

A config that was edited since, or options that only the training was given, would build another model, and the numbers
would be those of neither. What is given on this command line counts; `fit` builds what the config says.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jsonargparse import Namespace
from yaml.nodes import MappingNode

from lightkit.checkpoint import files
from lightkit.checkpoint.places import place
from lightkit.cli import classes
from lightkit.cli.options import Option
from lightkit.hparams import differ
from lightkit.hparams.loading import Arguments, parameters_of, read

COMMANDS = ("validate", "test", "predict")


def given_for_model(options: Sequence[Option]) -> frozenset[str] | None:
    """The arguments of the model that the command line names itself; None where it gives the model as a whole."""
    found = [option for option in options if option.keys[0] == "model"]
    if any(len(option.keys) == 1 and isinstance(option.value, MappingNode) for option in found):
        return None
    return frozenset(option.keys[1] for option in found if len(option.keys) > 1)


def builder(
    command: str, values: Namespace, given: frozenset[str] | None, base: type
) -> tuple[type, Callable[..., Any]] | None:
    """The model's class, and what builds it of the config's arguments; None where the config alone decides.

    Raises CheckpointError for a file that cannot be read.
    """
    path = values.get("ckpt_path")
    if command not in COMMANDS or given is None or path is None or not place(path).is_file():
        return None
    named = values.model.get("class_path") if isinstance(values.get("model"), Namespace) else None
    cls: Any = base if named is None else classes.resolve(named)
    if not isinstance(cls, type):
        return None
    saved = read(files.load(path))
    return cls, _Trained(path, Arguments(cls, saved, path, "--model.{} ..."), given).build


@dataclass(frozen=True)
class _Trained:
    """Builds a model with the hyperparameters in the checkpoint at `path`; the arguments in `given` are left alone."""

    path: str
    arguments: Arguments
    given: frozenset[str]

    def build(self, cls: Any, **config: Any) -> Any:
        """The model. Raises CheckpointError for a hyperparameter that cannot be made again, nor is in the config."""
        named, _ = parameters_of(cls)
        taken: dict[str, Any] = {}
        for name in self.arguments.names():
            if name in self.given:
                continue
            default = named[name].default if name in named else None
            in_config = config.get(name, default)
            if self.arguments.is_stored_as(name, in_config):
                continue
            value = self.arguments.build(name)
            if differ(in_config, value):
                taken[name] = value
        if taken:
            said = ", ".join(f"{name}={value!r} (the config: {config.get(name)!r})" for name, value in taken.items())
            warnings.warn(
                f"{self.path}: was trained with {said}; the model is built so. To build another, give it on the "
                f"command line, --model.{next(iter(taken))} ...",
                stacklevel=2,
            )
        return cls(**{**config, **taken})
