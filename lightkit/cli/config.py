"""YAML and command line to one checked configuration, on jsonargparse, with errors that say the line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import yaml
from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentParser, Namespace
from torch.optim.lr_scheduler import LRScheduler
from yaml.nodes import MappingNode

from lightkit.cli import classes
from lightkit.cli.checking import Checker
from lightkit.cli.classes import Kinds
from lightkit.cli.commands import COMMANDS
from lightkit.cli.documents import COMMAND_LINE, entries, entry, raise_problems, without
from lightkit.cli.loading import register_loader
from lightkit.cli.options import Option, read_options
from lightkit.cli.parser import LightkitArgumentParser
from lightkit.cli.resuming import AUTO
from lightkit.errors import ConfigError

# What is of one command only; left out of printed configs, so that the others can read those too.
_VERBOSE = {"verbose": "Print the metrics (default: true)."}
COMMAND_ARGUMENTS = {
    "fit": {
        "test": "After training, test the best checkpoint in the same process.",
        "resume": "Go on from the newest whole checkpoint of this run, where there is one; with a run directory: of "
        "that run, with its config.yaml where no CONFIG is given.",
    },
    "validate": _VERBOSE,
    "test": _VERBOSE,
    "predict": {"return_predictions": "Save the outputs in the run directory (default: true)."},
}
_KINDS: dict[str, dict[str, Any]] = {
    "test": {"action": "store_true"},
    "resume": {"nargs": "?", "const": AUTO, "type": str},
}
# Written by the command line, not part of the job: left out of the config that is saved.
NOT_SAVED = ("config", "print_config", *(name for own in COMMAND_ARGUMENTS.values() for name in own))


@dataclass(frozen=True)
class Parsed:
    """A whole, checked configuration, and what made it.

    options: of the command line. places: the file and line of each argument of the trainer that a file gave last.
    """

    parser: LightkitArgumentParser
    kinds: Kinds
    values: Namespace
    options: list[Option]
    places: dict[str, str]


def without_command(values: Namespace) -> Namespace:
    """The configuration without what is of one command, to be saved and run again."""
    kept = values.clone()
    for name in NOT_SAVED:
        kept.pop(name, None)
    if kept.get("description") is None:
        kept.pop("description", None)
    return kept


def as_yaml(parser: ArgumentParser, values: Namespace) -> str:
    """A resolved configuration as YAML that can be run again."""
    return str(parser.dump(without_command(values), skip_validation=True, skip_unset=False))


def parse(command: str, arguments: list[str], kinds: Kinds) -> Parsed:
    """Check and read the config files and the options in `arguments`.

    Raises ConfigError that lists all problems with their lines. Nothing is built, no data touched. SystemExit after
    --help and --print_config.
    """
    checker = check_input(command, arguments, kinds)
    if checker.problems:
        raise_problems(checker.problems)
    return parse_without(checker, checker.cuts)


def check_input(command: str, arguments: list[str], kinds: Kinds) -> Checker:
    """Look at every key, class and value in the config files and options."""
    classes.let_the_working_directory_be_imported()
    parser = make_parser(command, kinds)
    if (first := parser.first_arguments(command)) and arguments and not arguments[0].startswith("-"):
        arguments = ["--config", *arguments]
    checker = Checker(parser, classes.Arguments(parser), kinds, read_options([*first, *arguments], parser))
    checker.check()
    return checker


def parse_without(checker: Checker, cuts: list[object]) -> Parsed:
    """Read what was checked, without some of its values and options; see `Problem.cut`.

    Raises ConfigError where jsonargparse refuses it all the same.
    """
    parser, options = checker.parser, checker.options
    if cuts or checker.is_rewritten:
        for document in checker.documents:
            without(document, cuts)
        texts = (yaml.serialize(document, Dumper=yaml.SafeDumper) for document in checker.documents)
        options = [Option("--config", [next(texts)]) if o.name == "--config" and o.texts else o for o in options]
        options = [option for option in options if option not in cuts]
    try:
        values = parser.parse_args([argument for option in options for argument in option.arguments])
    except argparse.ArgumentError as error:  # what only jsonargparse knows to be wrong, in its own words
        files = [option.texts[0] for option in checker.options if option.name == "--config" and option.texts]
        raise ConfigError(f"{files[-1] if files else COMMAND_LINE}: {' '.join(str(error).split())}") from error
    return Parsed(parser, checker.kinds, values, checker.options, places_of_trainer(checker))


def places_of_trainer(checker: Checker) -> dict[str, str]:
    """The file and line of each argument of the trainer, but of those that the command line gave later."""
    documents, places = iter(checker.documents), dict[str, str]()
    for option in checker.options:
        is_file = option.name == "--config" and bool(option.texts)
        root = next(documents) if is_file else option.node
        group = entry(root, "trainer")
        for name, key, _ in entries(group) if isinstance(group, MappingNode) else ():
            places.pop(name, None)
            if is_file:
                places[name] = f"{root.start_mark.name}:{key.start_mark.line + 1}"
    return places


def make_parser(command: str, kinds: Kinds) -> LightkitArgumentParser:
    """Return the parser of one command, "" where nothing is run; it accepts what the classes' signatures say."""
    register_loader()
    prog, description = f"{kinds.prog} {command}".strip(), "Build a model, its data and a trainer."
    if command in COMMANDS:
        description = f"{COMMANDS[command].description}: lightkit {command} CONFIG [--key value ...]"
    parser = kinds.make_parser(prog=prog, description=description)
    help_text = "A YAML file or the name of a shipped config; given first, it needs no --config."
    parser.add_argument("--config", action=ActionConfigFile, help=help_text)
    parser.add_argument("--description", type=str | None, help="One line, shown by `lightkit list`.")
    if kinds.fill is not None:
        kinds.fill(parser)
    else:
        add_seed(parser, kinds)
        add_classes(parser, kinds)
        add_optimizers(parser)
    help_text = "Checkpoint to go on from or to use: a path, 'last' or 'best'."
    parser.add_argument("--ckpt_path", type=str | None, help=help_text)
    for name, help_text in COMMAND_ARGUMENTS.get(command, {}).items():
        parser.add_argument(f"--{name}", default=SUPPRESS, help=help_text, **_KINDS.get(name, {"type": bool}))
    return parser


def add_seed(parser: LightkitArgumentParser, kinds: Kinds) -> None:
    """Add the seed."""
    help_text = "Seed of every random generator; true: any, null or false: leave them alone."
    parser.add_argument("--seed_everything", type=bool | int | None, default=kinds.seed_default, help=help_text)


def add_classes(parser: LightkitArgumentParser, kinds: Kinds) -> None:
    """Add the arguments of trainer, model and data module."""
    parser.add_lightning_class_args(kinds.trainer, "trainer")
    defaults = {name: value for name, value in kinds.trainer_defaults.items() if name != "callbacks"}
    parser.set_defaults({f"trainer.{name}": value for name, value in defaults.items()})
    for name in ("model", "data"):
        if name in kinds.fixed:
            parser.add_lightning_class_args(kinds.makers.get(name, kinds.bases[name]), name)
        else:
            parser.add_lightning_class_args(kinds.bases[name], name, subclass_mode=True, required=name == "model")


def add_optimizers(parser: LightkitArgumentParser) -> None:
    """Add an optimizer and a scheduler that replace the module's own, where the script has added none."""
    if not parser.optimizers:
        parser.add_optimizer_args()
    if not parser.lr_schedulers:
        parser.add_lr_scheduler_args((LRScheduler,))
