"""YAML and command line to one checked configuration, on jsonargparse, with errors that say the line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentParser, Namespace
from yaml.nodes import MappingNode

from lightkit.cli import classes
from lightkit.cli.checking import Checker
from lightkit.cli.commands import COMMANDS
from lightkit.cli.documents import COMMAND_LINE, Problem, raise_problems, read_document
from lightkit.cli.loading import PARSER_MODE, in_full, register_loader
from lightkit.cli.options import Option, is_help, read_options
from lightkit.cli.sections import Kinds
from lightkit.errors import ConfigError

# Written by the command line, not part of the job: left out of the config that is saved.
NOT_SAVED = ("config", "test", "verbose", "return_predictions", "print_config")


@dataclass(frozen=True)
class Parsed:
    """A whole, checked configuration, and what made it."""

    parser: ArgumentParser
    kinds: Kinds
    values: Namespace

    def as_yaml(self) -> str:
        """The resolved job as YAML that can be run again."""
        kept = self.values.clone()
        for name in NOT_SAVED:
            kept.pop(name, None)
        if kept.get("description") is None:
            kept.pop("description", None)
        return str(self.parser.dump(kept, skip_validation=True, skip_unset=False))


def make_parser(command: str, kinds: Kinds, prog: str | None = None) -> ArgumentParser:
    """Return the parser of one command, "" where nothing is run; it accepts what the classes' signatures say."""
    register_loader()
    parser = ArgumentParser(
        prog=prog or f"lightkit {command}",
        description=f"{COMMANDS[command].description}: lightkit {command} CONFIG [--key value ...]"
        if command
        else "Build a model, its data and a trainer.",
        exit_on_error=False,
        allow_abbrev=False,
        parser_mode=PARSER_MODE,
        print_config="--print_config",
    )
    parser.add_argument(
        "--config",
        action=ActionConfigFile,
        help="A YAML file or the name of a shipped config; given first, it needs no --config.",
    )
    parser.add_argument("--description", type=str | None, help="One line, shown by `lightkit list`.")
    parser.add_argument(
        "--seed_everything",
        type=bool | int | None,
        default=kinds.seed_default,
        help="Seed of every random generator; true: any, null or false: leave them alone.",
    )
    parser.add_class_arguments(kinds.trainer, "trainer", instantiate=False, fail_untyped=False)
    parser.set_defaults({f"trainer.{name}": value for name, value in (kinds.trainer_defaults or {}).items()})
    for name in ("model", "data"):
        if name in kinds.fixed:
            parser.add_class_arguments(kinds.bases[name], name, fail_untyped=False)
        else:
            parser.add_subclass_arguments(kinds.bases[name], name, required=name == "model", fail_untyped=False)
    for name, given in (("optimizer", "params"), ("lr_scheduler", "optimizer")):
        parser.add_subclass_arguments(
            kinds.bases[name], name, required=False, instantiate=False, skip={given}, fail_untyped=False
        )
    parser.add_argument(
        "--ckpt_path", type=str | None, help="Checkpoint to go on from or to use: a path, 'last' or 'best'."
    )
    _add_command_arguments(parser, command)
    if kinds.extend is not None:
        kinds.extend(parser)
    return parser


def _add_command_arguments(parser: ArgumentParser, command: str) -> None:
    """Add what is of one command only; left out of printed configs, so that the others can read those too."""
    if command == "fit":
        parser.add_argument(
            "--test",
            action="store_true",
            default=SUPPRESS,
            help="After training, test the best checkpoint in the same process.",
        )
    elif command in ("validate", "test"):
        parser.add_argument("--verbose", type=bool, default=SUPPRESS, help="Print the metrics (default: true).")
    elif command == "predict":
        parser.add_argument(
            "--return_predictions",
            type=bool,
            default=SUPPRESS,
            help="Save the outputs in the run directory (default: true).",
        )


@dataclass(frozen=True)
class Input:
    """The options of a command line and the config files among them, with all that is wrong."""

    options: list[Option]
    documents: list[MappingNode]
    problems: list[Problem]


def parse(parser: ArgumentParser, arguments: list[str], kinds: Kinds) -> Parsed:
    """Check and read the config files and the options in `arguments`.

    Raises ConfigError that lists all problems with their lines. Nothing is built, no data touched. SystemExit after
    --help and --print_config.
    """
    given = check_input(parser, arguments, kinds)
    if given.problems:
        raise_problems(given.problems)
    return parse_checked(parser, kinds, given.options)


def parse_checked(parser: ArgumentParser, kinds: Kinds, options: list[Option]) -> Parsed:
    """Read what was checked; raises ConfigError where jsonargparse refuses it all the same."""
    try:
        values = parser.parse_args([argument for option in options for argument in option.arguments])
    except argparse.ArgumentError as error:  # what only jsonargparse knows to be wrong, in its own words
        files = [option.texts[0] for option in options if option.name == "--config" and option.texts]
        raise ConfigError(f"{files[-1] if files else COMMAND_LINE}: {' '.join(str(error).split())}") from error
    return Parsed(parser, kinds, values)


def check_input(parser: ArgumentParser, arguments: list[str], kinds: Kinds) -> Input:
    """Look at every key, class and value in the config files and options, in the order in which they are given."""
    classes.let_the_working_directory_be_imported()
    checker, documents = Checker(classes.Arguments(parser), kinds), []
    options = read_options(arguments, parser)
    for option in options:
        if option.name != "--config":
            checker.check_option(option)
        elif option.texts:
            documents.append(read_document(Path(option.texts[0])))
            in_full(documents[-1])
            checker.check_document(documents[-1])
    if not any(map(is_help, options)):
        checker.add_missing()
    return Input(options, documents, checker.problems)
