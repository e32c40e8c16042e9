"""A parsed configuration made real: seed, model, data, trainer, in the order of a script."""

from __future__ import annotations

import os
import re
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from torch.optim import Optimizer

from lightkit.callbacks.base import Callback
from lightkit.cli.classes import Kinds
from lightkit.cli.config import Parsed, parse
from lightkit.cli.parser import AUTOMATIC, instantiate_class, with_class
from lightkit.cli.resuming import changes, with_config_of_run
from lightkit.cli.save_config import SaveConfigCallback
from lightkit.datamodule import LightDataModule
from lightkit.errors import ConfigError
from lightkit.global_seed import GLOBAL_SEED, seed_everything
from lightkit.module import LightModule
from lightkit.settings import as_list
from lightkit.trainer import Trainer

Combine = Callable[[LightModule, Optimizer, Any], Any]  # -> what configure_optimizers returns; Any: a scheduler or None


@dataclass(frozen=True)
class Job:
    """All that a command needs. `values` is the configuration, nothing in it built."""

    model: LightModule
    data: LightDataModule | None
    trainer: Trainer
    values: Namespace

    @property
    def ckpt_path(self) -> str | None:
        path: str | None = self.values.get("ckpt_path")
        return path

    def flag(self, name: str) -> bool:
        """An option of one command that is on unless it is turned off."""
        return bool(self.values.get(name, True))


def prepare_job(command: str, arguments: list[str]) -> Job:
    """Read and check everything, then build it; nothing is run. Raises LightkitError for what is wrong."""
    parsed = read_job(command, arguments, Kinds())
    sow(parsed)
    built = build_parts(parsed, command)
    saver = SaveConfigCallback(parsed.parser, parsed.values)
    return Job(built.model, built.data, build_trainer(parsed, changes_of(parsed), [saver]), parsed.values)


def read_job(command: str, arguments: list[str], kinds: Kinds) -> Parsed:
    """Read and check everything; nothing is built."""
    return parse(command, with_config_of_run(arguments) if command == "fit" else arguments, kinds)


def changes_of(parsed: Parsed) -> dict[str, Any]:
    """What options of the command change of the trainer's arguments."""
    return changes(parsed.values.get("resume"))


def sow(parsed: Parsed) -> None:
    """Seed every generator as the configuration asks for it; it then says with what."""
    parsed.values.seed_everything = seed(parsed.values.get("seed_everything"))


def build_parts(parsed: Parsed, command: str, combine: Combine | None = None) -> Namespace:
    """Build `model`, `data` (None without any) and what a script has added to the command line.

    combine: see `replace_optimizers`. The model that evaluates a checkpoint is the one that it was trained as. Random
    numbers are drawn only by the constructors of the user's classes, model before data before trainer, so that a script
    which does the same gets the same weights. Arguments that are linked from one object to the other decide the order
    of building themselves; then the trainer's are built, too.
    """
    values = parsed.values
    if any(getattr(action, "apply_on", None) == "instantiate" for action in parsed.parser._actions):
        _refuse_scheduler_alone(parsed)
        built: Namespace = parsed.parser.instantiate(values, instantiators=_builders(parsed, command))
        built["data"] = built.get("data")
        replace_optimizers(parsed, built.model, combine or optimizers_of)
        return built
    built = Namespace(model=build_part(parsed, "model", command, combine), data=build_part(parsed, "data"))
    later = {"model", "data", "trainer", *parsed.parser.supplied}
    rest = Namespace({name: value for name, value in vars(values).items() if name not in later})
    for name, value in vars(_instantiate(parsed.parser, rest)).items():
        built[name] = value
    groups: list[Any] = [g for g in parsed.parser._action_groups if hasattr(g, "instantiate_class")]
    for group in sorted(groups, key=lambda group: -group.dest.count(".")):  # of classes that a script has added
        if group.dest.partition(".")[0] not in later:
            built[group.dest] = group.group_class(**vars(built[group.dest]))
    return built


def build_part(parsed: Parsed, name: str, command: str = "", combine: Combine | None = None) -> Any:
    """Build the model alone, with the optimizer that the config may give it, or the data module; None without any."""
    builders = _builders(parsed, command) if name == "model" else None
    if parsed.values.get(name) is None:
        return None
    if name == "model":
        _refuse_scheduler_alone(parsed)
    built = _instantiate(parsed.parser, Namespace({name: parsed.values[name]}), builders)[name]
    part = built
    if name in parsed.kinds.fixed:
        cls = parsed.kinds.makers.get(name, parsed.kinds.bases[name])
        part = builders[0][0](cls, **vars(built)) if builders else cls(**vars(built))
    if name == "model":
        replace_optimizers(parsed, part, combine or optimizers_of)
    return part


def build_trainer(
    parsed: Parsed, changes: dict[str, Any], callbacks: Sequence[Callback] = (), built: Namespace | None = None
) -> Trainer:
    """Build the trainer alone, with some of its arguments changed. callbacks: more. built: its arguments, if so."""
    if built is None:
        built = _instantiate(parsed.parser, Namespace(trainer=parsed.values.trainer)).trainer
    arguments = {**vars(built), **changes}
    more = [*as_list(parsed.kinds.trainer_defaults.get("callbacks")), *callbacks]
    if "callbacks" in arguments:
        arguments["callbacks"] = [*as_list(arguments["callbacks"]), *more]
    elif more:
        name = getattr(parsed.kinds.trainer, "__name__", "trainer_class")
        left = ", ".join(type(callback).__name__ for callback in more)
        warnings.warn(f"{name} takes no callbacks: {left} are left out", stacklevel=2)
    try:
        return parsed.kinds.trainer(**arguments)
    except ConfigError as error:
        named = re.match(r"Trainer\((\w+)=", str(error))
        place = parsed.places.get(named[1]) if named else None
        if place is None:
            raise
        raise ConfigError(f"{place}: {error}") from error


def seed(asked: bool | int | None) -> int | bool | None:
    """Seed everything where that is asked for; return what a repeated run must be given."""
    if asked is None or asked is False:
        return asked
    if asked is True:
        asked = None if GLOBAL_SEED in os.environ else 0
    return seed_everything(asked, workers=True)


def _builders(parsed: Parsed, command: str) -> list[tuple[Callable[..., Any], type, bool]] | None:
    """What builds the model where a checkpoint says how, in jsonargparse's terms; None where the config alone does."""
    if "model" in parsed.kinds.makers:  # what a checkpoint says is of a class
        return None
    from lightkit.cli import trained

    found = trained.builder(
        command, parsed.values, trained.given_for_model(parsed.options), parsed.kinds.bases["model"]
    )  # fmt: skip
    return None if found is None else [(found[1], found[0], False)]


def _instantiate(parser: ArgumentParser, values: Namespace, builders: Any = None) -> Namespace:
    """Build the classes that the values name; what a constructor raises is raised as it was.

    jsonargparse builds a class that may be null while it tries which of the two it is, and hides the error of the
    constructor behind a ValueError of its own.
    """
    try:
        built: Namespace = parser.instantiate(values, instantiate_groups=False, instantiators=builders)
    except ValueError as error:
        cause: BaseException = error
        while str(cause).startswith("Does not validate against any of the Union subtypes") and cause.__cause__:
            cause = cause.__cause__
        if cause is error:
            raise
        raise cause from None
    return built


def _automatic(register: Mapping[str, tuple[Any, str]]) -> list[str]:
    """The keys of what is to replace the module's own."""
    return [key for key, (_, target) in register.items() if target == AUTOMATIC]


def _refuse_scheduler_alone(parsed: Parsed) -> None:
    """Asked before anything is built, which may download and take its time."""
    optimizers, schedulers = _automatic(parsed.parser.optimizers), _automatic(parsed.parser.lr_schedulers)
    if len(optimizers) > 1 or len(schedulers) > 1:
        keys = ", ".join([*optimizers, *schedulers])
        raise ConfigError(
            f"add_optimizer_args, add_lr_scheduler_args: {keys} would all replace configure_optimizers; link each to "
            'an argument of the model, link_to="model.optimizer_init", and use that in configure_optimizers'
        )
    given = [key for key in optimizers if parsed.values.get(key) is not None]
    for key in schedulers:
        if not given and parsed.values.get(key) is not None:
            raise ConfigError(f"{key}: give an optimizer: too; without one the module's own are used")


def replace_optimizers(parsed: Parsed, model: LightModule, combine: Combine) -> None:
    """Let an optimizer and a scheduler of the config replace the module's own configure_optimizers.

    combine: what that returns of the model, the optimizer and the scheduler, None without one.
    """
    optimizer_spec = _spec(parsed, parsed.parser.optimizers)
    scheduler_spec = _spec(parsed, parsed.parser.lr_schedulers)
    if optimizer_spec is None:
        return

    def configure_optimizers(self: LightModule) -> Any:
        optimizer = instantiate_class(self.parameters(), optimizer_spec)
        scheduler = None if scheduler_spec is None else instantiate_class(optimizer, scheduler_spec)
        return combine(self, optimizer, scheduler)

    # on the instance: a subclass made here would change the class name that checkpoints record
    model._take_hook("configure_optimizers", types.MethodType(configure_optimizers, model))


def optimizers_of(model: LightModule, optimizer: Optimizer, lr_scheduler: Any = None) -> Any:
    """What configure_optimizers returns of both."""
    if lr_scheduler is None:
        return optimizer
    monitor = getattr(lr_scheduler, "monitor", None)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "monitor": monitor}}


def _spec(parsed: Parsed, register: Mapping[str, tuple[Any, str]]) -> dict[str, Any] | None:
    """Class and arguments of what replaces the module's own, where the config gives it."""
    for key in _automatic(register):
        if (given := parsed.values.get(key)) is not None:
            cls = register[key][0]
            return given.as_dict() if isinstance(cls, tuple) else with_class(cls)(given)
    return None
