"""LightkitCLI: the command line of `lightkit` for a script of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from lightkit.cli.classes import Kinds, bases_of
from lightkit.cli.commands import JOB_COMMANDS
from lightkit.cli.job import prepare_job
from lightkit.cli.main import EXIT_BAD_INPUT, EXIT_RUN_FAILED, find_command, report, wants_traceback
from lightkit.datamodule import LightDataModule
from lightkit.errors import LightkitError
from lightkit.module import LightModule


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
    there is no subcommand and nothing is run. Afterwards `model`, `datamodule`, `trainer` and `config` are
    there to use.

    Names and arguments follow LightningCLI. A wrong argument ends the script with exit code 2 and one
    message; `args` stands in for sys.argv[1:].
    """

    def __init__(
        self, model_class: type[LightModule] | None = None, datamodule_class: type[LightDataModule] | None = None, *,
        run: bool = True, args: list[str] | None = None, seed_everything_default: bool | int | None = True,
        trainer_defaults: dict[str, Any] | None = None, subclass_mode_model: bool = False,
        subclass_mode_data: bool = False, save_config: bool = True,
    ) -> None:  # fmt: skip
        arguments = list(sys.argv[1:] if args is None else args)
        show_traceback, exit_code = wants_traceback(arguments), EXIT_BAD_INPUT
        given = {"model": model_class, "data": datamodule_class}
        free = {"model": subclass_mode_model, "data": subclass_mode_data}
        fixed = frozenset(name for name in given if given[name] is not None and not free[name])
        bases = bases_of(model_class or LightModule, datamodule_class or LightDataModule)
        prog, extend = Path(sys.argv[0]).name, self.add_arguments_to_parser
        kinds = Kinds(bases, fixed, trainer_defaults or {}, prog, seed_everything_default, extend)
        try:
            self.subcommand = find_command(arguments, JOB_COMMANDS) if run else ""
            self.job = job = prepare_job(self.subcommand, arguments[run:], kinds, save_config)
            self.model, self.datamodule, self.trainer, self.config = job.model, job.data, job.trainer, job.values
            exit_code = EXIT_RUN_FAILED
            if run:
                self._run()
        except LightkitError as error:
            raise SystemExit(report(error, exit_code, show_traceback)) from None

    def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
        """Override to add arguments, or to link some.

        For example `parser.link_arguments("data.num_classes", "model.num_classes")`.
        """

    def _run(self) -> None:
        """Run the subcommand between the methods `before_fit` and `after_fit`, where a subclass has them."""
        getattr(self, f"before_{self.subcommand}", lambda: None)()
        JOB_COMMANDS[self.subcommand].run(self.job)
        getattr(self, f"after_{self.subcommand}", lambda: None)()


LightningCLI = LightkitCLI  # Lightning's name
