"""LightkitCLI: the command line of `lightkit` for a script of one's own."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import torch
import yaml
from jsonargparse import Namespace

from lightkit.callbacks.base import Callback
from lightkit.cli import config, job
from lightkit.cli.classes import Kinds, bases_of
from lightkit.cli.commands import JOB_COMMANDS
from lightkit.cli.main import EXIT_BAD_INPUT, EXIT_RUN_FAILED, find_command, report, wants_traceback
from lightkit.cli.parser import LightkitArgumentParser
from lightkit.cli.save_config import SaveConfigCallback
from lightkit.datamodule import LightDataModule
from lightkit.errors import ConfigError, LightkitError
from lightkit.module import LightModule
from lightkit.trainer import Trainer

ArgsType = list[str] | dict[str, Any] | Namespace | None


class ReduceLROnPlateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """torch's ReduceLROnPlateau with the name of the metric it watches, for `lr_scheduler:` in a config."""

    def __init__(self, optimizer: torch.optim.Optimizer, monitor: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(optimizer, *args, **kwargs)
        self.monitor = monitor


class LightkitCLI:
    """Gives a script the same command line as `lightkit`: `python script.py fit --trainer.max_epochs 3`.

    With `model_class` (or `datamodule_class`) the arguments of that class stand directly under `model:` (or
    `data:`), unless `subclass_mode_model` (`subclass_mode_data`) lets any subclass be named. Without, as
    with `lightkit`, any LightModule may be named by class_path. Built and run at once; with `run=False`
    there is no subcommand and nothing is run. Afterwards `model`, `datamodule`, `trainer`, `config` and `config_init`
    (the same, built) are there to use; with a subcommand these are `config["fit"]`.

    Names and arguments follow LightningCLI. A wrong argument ends the script with exit code 2 and one message.

    Args:
        model_class, datamodule_class: a class, or a function that is annotated to return what it makes.
        save_config_callback: keeps the configuration with the run; None: nothing does.
        save_config_kwargs: more arguments of it.
        trainer_class: a Trainer, or a function that returns one.
        trainer_defaults: defaults of its arguments; its `callbacks` come in addition to those of the config.
        seed_everything_default: as `seed_everything:` in a config.
        parser_kwargs: of `parser_class`, such as default_env=True, default_config_files, parser_mode="omegaconf"; under
            the name of a subcommand those of it alone.
        args: stands in for sys.argv[1:]; as a dict, what a config holds, under the subcommand's name if there is one.
        auto_configure_optimizers: whether a config may replace configure_optimizers.
        load_from_checkpoint_support: changes nothing: a checkpoint holds what `save_hyperparameters` saw, and objects
            among the arguments are to be given to `load_from_checkpoint`.
    """

    def __init__(
        self, model_class: type[LightModule] | Callable[..., LightModule] | None = None,
        datamodule_class: type[LightDataModule] | Callable[..., LightDataModule] | None = None,
        save_config_callback: type[SaveConfigCallback] | None = SaveConfigCallback,
        save_config_kwargs: dict[str, Any] | None = None, trainer_class: Callable[..., Trainer] = Trainer,
        trainer_defaults: dict[str, Any] | None = None, seed_everything_default: bool | int | None = True,
        parser_kwargs: dict[str, Any] | None = None,
        parser_class: type[LightkitArgumentParser] = LightkitArgumentParser,
        subclass_mode_model: bool = False, subclass_mode_data: bool = False, args: ArgsType = None, run: bool = True,
        auto_configure_optimizers: bool = True, load_from_checkpoint_support: bool = True,
    ) -> None:  # fmt: skip
        self.model_class, self.datamodule_class, self.trainer_class = model_class, datamodule_class, trainer_class
        self.save_config_callback, self.save_config_kwargs = save_config_callback, save_config_kwargs or {}
        self.trainer_defaults, self.seed_everything_default = trainer_defaults or {}, seed_everything_default
        self.parser_kwargs, self.parser_class = parser_kwargs or {}, parser_class
        self.subclass_mode_model = model_class is None or subclass_mode_model
        self.subclass_mode_data = datamodule_class is None or subclass_mode_data
        self.auto_configure_optimizers = auto_configure_optimizers
        self.load_from_checkpoint_support = load_from_checkpoint_support
        self.subcommand: str | None = None
        show_traceback, self._exit_code = False, EXIT_BAD_INPUT
        try:
            arguments = _as_arguments(args, run=run, commands=list(self.subcommands()))
            show_traceback = wants_traceback(arguments)
            if run:
                self.subcommand = find_command(arguments, self.subcommands())
            self.parse_arguments(arguments[run:])
            job.sow(self._parsed)
            self.before_instantiate_classes()
            self.instantiate_classes()
            self.after_instantiate_classes()
            self._exit_code = EXIT_RUN_FAILED
            if self.subcommand is not None:
                self._run_subcommand(self.subcommand)
        except LightkitError as error:
            raise SystemExit(report(error, self._exit_code, show_traceback)) from None

    # ------------------------------------------------------------ the parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, methods of the Trainer, each with those of its arguments that no command line gives."""
        taken = {"model", "dataloaders", "datamodule"}
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule"},
            **{name: taken for name in ("validate", "test", "predict")},
        }  # fmt: skip

    def init_parser(self, **kwargs: Any) -> LightkitArgumentParser:
        """Make a parser, without arguments."""
        return self.parser_class(**kwargs)

    def add_default_arguments_to_parser(self, parser: LightkitArgumentParser) -> None:
        """Add what is of no class: the seed."""
        config.add_seed(parser, self._kinds)

    def add_core_arguments_to_parser(self, parser: LightkitArgumentParser) -> None:
        """Add the arguments of trainer, model and data module."""
        config.add_classes(parser, self._kinds)

    def add_arguments_to_parser(self, parser: LightkitArgumentParser) -> None:
        """Override to add arguments, or to link some.

        For example `parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")`.
        """

    def _fill(self, parser: LightkitArgumentParser) -> None:
        self.add_default_arguments_to_parser(parser)
        self.add_core_arguments_to_parser(parser)
        self.add_arguments_to_parser(parser)
        if self.auto_configure_optimizers:
            config.add_optimizers(parser)
        if (name := self.subcommand) is not None and name not in JOB_COMMANDS:
            method = getattr(self.trainer_class, name)
            parser.add_function_arguments(method, skip={0, *self.subcommands()[name], "ckpt_path"}, fail_untyped=False)
        parser.link_made_later()

    def _make_parser(self, **own: Any) -> LightkitArgumentParser:
        names = self.subcommands()
        of_all = {name: value for name, value in self.parser_kwargs.items() if name not in names}
        of_this = self.parser_kwargs.get(self.subcommand, {}) if self.subcommand is not None else {}
        return self.init_parser(**{**own, **of_all, **of_this})

    def parse_arguments(self, arguments: list[str]) -> None:
        """Read the command line, without the subcommand, into `config`."""
        given = {"model": self.model_class, "data": self.datamodule_class}
        free = {"model": self.subclass_mode_model, "data": self.subclass_mode_data}
        classes = {name: _made_by(cls) for name, cls in given.items() if cls is not None}
        bases = bases_of(classes.get("model", LightModule), classes.get("data", LightDataModule))
        self._kinds = Kinds(
            bases, fixed=frozenset(name for name in given if not free[name]),
            makers={name: cls for name, cls in given.items() if cls is not None and not isinstance(cls, type)},
            trainer=self.trainer_class, trainer_defaults=self.trainer_defaults, prog=Path(sys.argv[0]).name,
            seed_default=self.seed_everything_default, make_parser=self._make_parser, fill=self._fill,
        )  # fmt: skip
        command = self.subcommand or ""
        self._parsed = job.read_job(command, arguments, self._kinds)
        self.parser, values = self._parsed.parser, self._parsed.values
        self.config = values if self.subcommand is None else Namespace({"subcommand": command, command: values})

    # ------------------------------------------------------------ the objects

    def before_instantiate_classes(self) -> None:
        """Override to do something before anything is built; `config` may be changed."""

    def instantiate_classes(self) -> None:
        """Build model, data module and trainer."""
        combine = self.configure_optimizers if self.auto_configure_optimizers else None
        self._built = built = job.build_parts(self._parsed, self.subcommand or "", combine)
        self.config_init = built if self.subcommand is None else Namespace({self.subcommand: built})
        self.model, self.datamodule = built.model, built.data
        self.trainer = self.instantiate_trainer()
        self.job = job.Job(self.model, self.datamodule, self.trainer, self._parsed.values)

    def after_instantiate_classes(self) -> None:
        """Override to do something when everything is built."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer; kwargs: arguments that count more than the config's."""
        parsed = self._parsed
        callbacks: list[Callback] = [self._built[key] for key in self.parser.callback_keys]
        if self.save_config_callback is not None:
            callbacks.append(self.save_config_callback(self.parser, parsed.values, **self.save_config_kwargs))
        changes = {**job.changes_of(parsed), **kwargs}
        return job.build_trainer(parsed, changes, callbacks, self._built.get("trainer"))

    @staticmethod
    def configure_optimizers(
        lightning_module: LightModule, optimizer: torch.optim.Optimizer, lr_scheduler: Any = None
    ) -> Any:
        """Override to say what the module's configure_optimizers returns of the optimizer and scheduler of a config."""
        return job.optimizers_of(lightning_module, optimizer, lr_scheduler)

    # ------------------------------------------------------------ the run

    def _run_subcommand(self, name: str) -> None:
        """Run it between the methods `before_fit` and `after_fit`, where a subclass has them; its own `fit`, too."""
        getattr(self, f"before_{name}", lambda: None)()
        own, known = getattr(self, name, None), JOB_COMMANDS.get(name)
        if own is not None or known is None:
            (own or getattr(self.trainer, name))(**self._arguments_of(name))
        else:
            known.run(self.job)
        getattr(self, f"after_{name}", lambda: None)()

    def _arguments_of(self, name: str) -> dict[str, Any]:
        taken = inspect.signature(getattr(self.trainer, name)).parameters
        values = {key: value for key, value in vars(self._built).items() if key in taken}
        found = {**values, "model": self.model}
        return found if self.datamodule is None else {**found, "datamodule": self.datamodule}


def _made_by(cls: Any) -> Any:
    """The class itself, or the one that a function is annotated to return."""
    if isinstance(cls, type):
        return cls
    found = get_type_hints(cls.func if isinstance(cls, partial) else cls).get("return")
    if not isinstance(found, type):
        name = getattr(cls, "__name__", cls)
        raise ConfigError(f"LightkitCLI({name}): annotate the class that this function returns")
    return found


def _as_arguments(args: ArgsType, *, run: bool, commands: list[str]) -> list[str]:
    """A list of arguments, the subcommand first where one is to be run."""
    if args is None or isinstance(args, list):
        return list(sys.argv[1:] if args is None else args)
    given: Mapping[str, Any] = args.as_dict() if isinstance(args, Namespace) else args
    first: list[str] = []
    if run:
        named = given.get("subcommand") or next((name for name in given if name in commands), None)
        if named is None:
            raise ConfigError(f"args: a dict with one of the keys {', '.join(commands)} is expected")
        first, given = [named], {**given.get(named, {})}
    try:
        return [*first, *(f"--{key}={yaml.safe_dump(_plain(given[key]), default_flow_style=True)}" for key in given)]
    except yaml.YAMLError as error:
        raise ConfigError(f"args: only what may stand in a YAML file can be given: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


LightningCLI = LightkitCLI  # Lightning's name
