"""The parser of a command line, with Lightning's methods that add more classes to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from glob import glob
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, class_from_function
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightkit.callbacks.base import Callback
from lightkit.datamodule import LightDataModule
from lightkit.errors import ConfigError
from lightkit.module import LightModule
from lightkit.trainer import Trainer

OptimizerCallable = Callable[[Iterable[Any]], Optimizer]
LRSchedulerCallable = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
LRSchedulerTypeUnion = LRScheduler | ReduceLROnPlateau
LRSchedulerType = type[LRScheduler] | type[ReduceLROnPlateau]
AUTOMATIC = "AUTOMATIC"
PARSER_MODE = "lightkit"
MODES = ("yaml", "json", "omegaconf", "omegaconf+", PARSER_MODE)  # lightkit reads YAML, of which JSON is a part

Classes = type | tuple[type, ...]


class LightkitArgumentParser(ArgumentParser):
    """jsonargparse's parser, read by lightkit: all that is wrong is found at once, with file and line.

    Args:
        env_prefix: of environment variables: PL_TRAINER__MAX_EPOCHS, or PL_FIT__TRAINER__MAX_EPOCHS of one command.
        default_env: whether they are read.
        default_config_files: paths, or patterns, of files that are read first where they are there.
        parser_mode: "omegaconf" resolves `${...}` in config files, with the package omegaconf.
    """

    def __init__(
        self, *args: Any, description: str = "Build a model, its data and a trainer.", env_prefix: str = "PL",
        default_env: bool = False, default_config_files: Iterable[str] = (), parser_mode: str = PARSER_MODE,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        if parser_mode not in MODES:
            raise ConfigError(
                f"parser_kwargs: parser_mode={parser_mode!r}: lightkit reads YAML and JSON; give 'yaml', or "
                "'omegaconf' for files with ${...}"
            )
        given = {"exit_on_error": False, "allow_abbrev": False, "print_config": "--print_config", **kwargs}
        super().__init__(*args, description=description, parser_mode=PARSER_MODE, **given)
        self.reads_env, self.prefix, self.first_files = default_env, env_prefix, list(default_config_files)
        self.resolves = parser_mode.startswith("omegaconf")
        self.callback_keys: list[str] = []
        # of each key: the class, or the classes whose subclasses may be named, and what it is linked to
        self.optimizers: dict[str, tuple[Classes, str]] = {}
        self.lr_schedulers: dict[str, tuple[Classes, str]] = {}

    @property
    def supplied(self) -> dict[str, frozenset[str]]:
        """By key, the arguments that the command line gives a class itself."""
        given = {key: frozenset({"params"}) for key in self.optimizers}
        return {**given, **{key: frozenset({"optimizer"}) for key in self.lr_schedulers}}

    @property
    def bases(self) -> dict[str, type]:
        """By key, what an optimizer or scheduler that may be named there derives from."""
        known = [(self.optimizers, Optimizer), (self.lr_schedulers, LRScheduler)]
        return {
            key: classes[0] if len(classes) == 1 else base
            for register, base in known for key, (classes, _) in register.items() if isinstance(classes, tuple)
        }  # fmt: skip

    def add_lightning_class_args(
        self, lightning_class: Any, nested_key: str, subclass_mode: bool = False, required: bool = True
    ) -> list[str]:
        """Add the arguments of a Trainer, LightModule, LightDataModule or Callback, or of a function that makes one.

        A callback added so is one of the trainer's. Returns the names that were added.
        """
        cls = lightning_class if isinstance(lightning_class, type) else class_from_function(lightning_class)
        if not issubclass(cls, (Trainer, LightModule, LightDataModule, Callback)):
            raise ConfigError(
                f"add_lightning_class_args({lightning_class!r}): expected a Trainer, LightModule, LightDataModule or "
                "Callback, or a function that is annotated to return one; for others there is add_class_arguments"
            )
        if issubclass(cls, Callback):
            self.callback_keys.append(nested_key)
        if subclass_mode:
            added = self.add_subclass_arguments(cls, nested_key, fail_untyped=False, required=required)
        else:
            how: dict[str, Any] = {"fail_untyped": False, "sub_configs": True}
            added = self.add_class_arguments(cls, nested_key, instantiate=not issubclass(cls, Trainer), **how)
        return list(added or ())

    add_lightkit_class_args = add_lightning_class_args

    def add_optimizer_args(
        self, optimizer_class: Classes = (Optimizer,), nested_key: str = "optimizer", link_to: str = AUTOMATIC
    ) -> None:
        """Add the arguments of an optimizer; of a tuple of classes, a subclass of one may be named.

        link_to: an argument of the model that gets class and arguments; by default `configure_optimizers` is replaced.
        """
        self._add_made_later(optimizer_class, nested_key, "params")
        self.optimizers[nested_key] = (optimizer_class, link_to)

    def add_lr_scheduler_args(
        self, lr_scheduler_class: Classes = LRSchedulerTypeTuple, nested_key: str = "lr_scheduler",
        link_to: str = AUTOMATIC,
    ) -> None:  # fmt: skip
        """Add the arguments of a scheduler, as `add_optimizer_args` does."""
        self._add_made_later(lr_scheduler_class, nested_key, "optimizer")
        self.lr_schedulers[nested_key] = (lr_scheduler_class, link_to)

    def _add_made_later(self, classes: Classes, key: str, skip: str) -> None:
        how: dict[str, Any] = {"instantiate": False, "fail_untyped": False, "skip": {skip}}
        if isinstance(classes, tuple):
            self.add_subclass_arguments(classes, key, required=False, **how)
        else:
            self.add_class_arguments(classes, key, sub_configs=True, **how)

    def link_made_later(self) -> None:
        """Link optimizers and schedulers to what they are for, where that was said."""
        for key, (classes, target) in {**self.optimizers, **self.lr_schedulers}.items():
            if target != AUTOMATIC:
                self.link_arguments(key, target, compute_fn=None if isinstance(classes, tuple) else with_class(classes))

    def first_arguments(self, command: str) -> list[str]:
        """What comes before the command line: files that are always read, then what environment variables say."""
        files = [found for pattern in self.first_files for found in sorted(glob(os.path.expanduser(pattern)))]
        if not self.reads_env:
            return [f"--config={file}" for file in files]
        taken: dict[str, str] = {}
        for prefix in (f"{self.prefix}_", f"{self.prefix}_{command}__")[: 1 + bool(command)]:
            for action in self._actions:
                name = f"{prefix}{action.dest}".replace(".", "__").replace("-", "_").upper()
                if action.option_strings and action.nargs != 0 and name in os.environ:
                    taken[action.dest] = os.environ[name]
        named = next((action.dest for action in self._actions if isinstance(action, ActionConfigFile)), "config")
        if (own := taken.pop(named, None)) is not None:
            files.append(own)
        return [*(f"--config={file}" for file in files), *(f"--{name}={text}" for name, text in taken.items())]


LightningArgumentParser = LightkitArgumentParser  # Lightning's name


def with_class(cls: type) -> Callable[[Any], dict[str, Any]]:
    """What makes a class spec of the arguments of this class."""

    def spec(arguments: Any) -> dict[str, Any]:
        given = arguments.as_dict() if isinstance(arguments, Namespace) else arguments
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": given or {}}

    return spec


def instantiate_class(args: Any, init: Mapping[str, Any]) -> Any:
    """Call the class that `{"class_path": ..., "init_args": {...}}` names, with `args` first, one or a tuple."""
    from lightkit.cli.classes import resolve

    first = args if isinstance(args, tuple) else (args,)
    return resolve(init["class_path"])(*first, **{**(init.get("init_args") or {}), **(init.get("dict_kwargs") or {})})
