"""A parsed configuration made real: seed, model, data, trainer, in the order of a script."""

from __future__ import annotations

import os
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightkit.callbacks.base import Callback
from lightkit.checkpoint import atomic
from lightkit.cli import classes
from lightkit.cli.classes import Kinds
from lightkit.cli.config import Parsed, parse
from lightkit.cli.resuming import changes, with_config_of_run
from lightkit.datamodule import LightDataModule
from lightkit.errors import ConfigError
from lightkit.global_seed import GLOBAL_SEED, seed_everything
from lightkit.module import LightModule
from lightkit.trainer import Trainer


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


class SaveConfig(Callback):
    """Writes the resolved config into the run directory when a run begins, as `config.yaml`.

    A config that differs from the one already there, as when a run is resumed with other options, is written
    beside it as `config_2.yaml` and so on; nothing is overwritten.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        folder, number = trainer.run_dir, 1
        path = folder / "config.yaml"
        while path.exists() and path.read_text(encoding="utf-8") != self.text:
            number += 1
            path = folder / f"config_{number}.yaml"
        if not path.exists():
            atomic.replace(path, lambda file: file.write(self.text.encode()))


def prepare_job(command: str, arguments: list[str], kinds: Kinds | None = None, save_config: bool = True) -> Job:
    """Read and check everything, then build it; nothing is run. Raises LightkitError for what is wrong."""
    if command == "fit":
        arguments = with_config_of_run(arguments)
    return build(parse(command, arguments, kinds or Kinds()), save_config, command)


def build(parsed: Parsed, save_config: bool = True, command: str = "") -> Job:
    """Seed, then build model, data and trainer; to evaluate a checkpoint, the model that it was trained as.

    Random numbers are drawn only by the constructors of the user's classes, model before data before trainer,
    so that a script which does the same gets the same weights.
    """
    values = parsed.values
    values.seed_everything = seed(values.get("seed_everything"))
    if any(getattr(action, "apply_on", None) == "instantiate" for action in parsed.parser._actions):
        # arguments linked from one object to the other decide the order of building themselves
        _refuse_scheduler_alone(values)
        both = Namespace({name: value for name, value in vars(values).items() if name != "trainer"})
        built = parsed.parser.instantiate(both, instantiators=_builders(parsed, command))
        model, data = _with_optimizers(built.model, values), built.get("data")
    else:
        model, data = build_part(parsed, "model", command), build_part(parsed, "data")
    resumed = changes(values.get("resume"))
    trainer = build_trainer(parsed, resumed, SaveConfig(parsed.as_yaml()) if save_config else None)
    return Job(model, data, trainer, values)


def build_part(parsed: Parsed, name: str, command: str = "") -> Any:
    """Build the model alone, with the optimizer that the config may give it, or the data module; None without any."""
    builders = _builders(parsed, command) if name == "model" else None
    if parsed.values.get(name) is None:
        return None
    if name == "model":
        _refuse_scheduler_alone(parsed.values)
    built = _instantiate(parsed.parser, Namespace({name: parsed.values[name]}), builders)[name]
    part = built
    if name in parsed.kinds.fixed:
        cls = parsed.kinds.bases[name]
        part = builders[0][0](cls, **vars(built)) if builders else cls(**vars(built))
    return _with_optimizers(part, parsed.values) if name == "model" else part


def build_trainer(parsed: Parsed, changes: dict[str, Any], saver: SaveConfig | None = None) -> Trainer:
    """Build the trainer alone, with some of its arguments changed and the config saved by `saver`."""
    built = _instantiate(parsed.parser, Namespace(trainer=parsed.values.trainer))
    arguments = {**vars(built.trainer), **changes}
    if saver is not None:
        given: list[Callback] | Callback | None = arguments.get("callbacks")
        own = [] if given is None else [given] if isinstance(given, Callback) else given
        arguments["callbacks"] = [*own, saver]
    try:
        return Trainer(**arguments)
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


def _refuse_scheduler_alone(values: Namespace) -> None:
    """Asked before anything is built, which may download and take its time."""
    if values.get("optimizer") is None and values.get("lr_scheduler") is not None:
        raise ConfigError("lr_scheduler: give an optimizer: too; without one the module's own are used")


def _with_optimizers(model: LightModule, values: Namespace) -> LightModule:
    """Let `optimizer:` and `lr_scheduler:` of the config replace the module's own configure_optimizers."""
    optimizer_spec, scheduler_spec = values.get("optimizer"), values.get("lr_scheduler")
    if optimizer_spec is None:
        return model

    def configure_optimizers(self: LightModule) -> Any:
        optimizer = _create(optimizer_spec, self.parameters())
        if scheduler_spec is None:
            return optimizer
        scheduler = _create(scheduler_spec, optimizer)
        monitor = getattr(scheduler, "monitor", None)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor}}

    # on the instance: a subclass made here would change the class name that checkpoints record
    model._take_hook("configure_optimizers", types.MethodType(configure_optimizers, model))
    return model


def _create(spec: Namespace, subject: Any) -> Any:
    """Call the class that `spec` names with `subject` first: parameters or an optimizer."""
    given = spec.as_dict()
    arguments = {**(given.get("init_args") or {}), **(given.get("dict_kwargs") or {})}
    return classes.resolve(given["class_path"])(subject, **arguments)
