"""YAML and command line to one checked configuration, on jsonargparse, with errors that say the line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import (
    SUPPRESS,
    ActionConfigFile,
    ArgumentParser,
    Namespace,
    get_loader,
    set_loader,
    set_parsing_settings,
)

from lightkit.cli import classes
from lightkit.cli.check_keys import Document, check_keys
from lightkit.cli.explain import explain
from lightkit.cli.sections import Kinds
from lightkit.cli.shipped import find_config
from lightkit.errors import ConfigError

PARSER_MODE = "lightkit"
# Written by the command line, not part of the job: left out of the config that is saved.
NOT_SAVED = ("config", "test", "verbose", "return_predictions", "print_config")


def load_value(text: str) -> Any:
    """jsonargparse's YAML (`1e-3` is a float), with Lightning's class paths turned into ours."""
    return _with_our_class_paths(get_loader("yaml")(text))


def _with_our_class_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: classes.plain_class_path(item)
            if key == "class_path" and isinstance(item, str)
            else _with_our_class_paths(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_our_class_paths(item) for item in value]
    return value


@dataclass(frozen=True)
class Parsed:
    """A whole, checked configuration, the parser that made it, the files it came from."""

    parser: ArgumentParser
    values: Namespace
    documents: list[Document]

    def as_yaml(self) -> str:
        """The resolved job as YAML that can be run again."""
        kept = self.values.clone()
        for name in NOT_SAVED:
            kept.pop(name, None)
        if kept.get("description") is None:
            kept.pop("description", None)
        return str(self.parser.dump(kept, skip_validation=True, skip_unset=False))


def make_parser(
    prog: str,
    command: str,
    kinds: Kinds,
    trainer_defaults: dict[str, Any] | None = None,
    seed_default: bool | int | None = True,
    extend: Callable[[ArgumentParser], None] | None = None,
) -> ArgumentParser:
    """Return the parser of one command; what it accepts is read from the signatures of the classes.

    `extend` may add arguments of its own. `command` is "" where nothing is run.
    """
    set_loader(PARSER_MODE, load_value, (yaml.YAMLError,))
    # a class named where any value is accepted is built too; what jsonargparse calls dangerous is refused
    set_parsing_settings(instantiate_subclass_spec_in_any=True, import_path_denylist=[])
    parser = ArgumentParser(
        prog=prog,
        description=DESCRIPTIONS[command],
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
        default=seed_default,
        help="Seed of every random generator; true: any, null or false: leave them alone.",
    )
    parser.add_class_arguments(kinds.trainer, "trainer", instantiate=False, fail_untyped=False)
    parser.set_defaults({f"trainer.{name}": value for name, value in (trainer_defaults or {}).items()})
    _add_class(parser, kinds.model, "model", fixed=kinds.model_is_fixed, required=True)
    _add_class(parser, kinds.data, "data", fixed=kinds.data_is_fixed, required=False)
    for name, given in (("optimizer", "params"), ("lr_scheduler", "optimizer")):
        parser.add_subclass_arguments(
            kinds.bases[name], name, required=False, instantiate=False, skip={given}, fail_untyped=False
        )
    parser.add_argument(
        "--ckpt_path", type=str | None, help="Checkpoint to go on from or to use: a path, 'last' or 'best'."
    )
    _add_command_arguments(parser, command)
    if extend is not None:
        extend(parser)
    return parser


DESCRIPTIONS = {
    "": "Build a model, its data and a trainer.",
    "fit": "Train a model: lightkit fit CONFIG [--key value ...]",
    "validate": "Run the validation loop once: lightkit validate CONFIG [--ckpt_path PATH] [--key value ...]",
    "test": "Run the test loop once: lightkit test CONFIG [--ckpt_path PATH] [--key value ...]",
    "check": "Build everything and run two steps: lightkit check CONFIG [--key value ...]",
    "predict": "Predict and keep the outputs: lightkit predict CONFIG [--ckpt_path PATH] [--key value ...]",
}


def _add_class(parser: ArgumentParser, cls: type, name: str, *, fixed: bool, required: bool) -> None:
    if fixed:
        parser.add_class_arguments(cls, name, fail_untyped=False)
    else:
        parser.add_subclass_arguments(cls, name, required=required, fail_untyped=False)


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


def parse(parser: ArgumentParser, arguments: list[str], kinds: Kinds) -> Parsed:
    """Check and read the config files and the options in `arguments`.

    Raises ConfigError: for keys and class paths one that lists all problems with their lines, for values the
    first. Nothing is built, no data touched. SystemExit after --help and --print_config.
    """
    arguments, documents = checked_files(parser, arguments, kinds)
    try:
        values = parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(explain(str(error), documents, parser, arguments)) from error
    return Parsed(parser, values, documents)


def checked_files(parser: ArgumentParser, arguments: list[str], kinds: Kinds) -> tuple[list[str], list[Document]]:
    """Return the arguments with files for names, and the files, their keys and class paths checked.

    Raises ConfigError that lists all problems of the first file that has any.
    """
    classes.let_the_working_directory_be_imported()
    arguments = _config_first(arguments)
    sections = {action.dest.partition(".")[0] for action in parser._actions} - {
        "config",
        "help",
        "print_config",
    }
    documents = [check_keys(path, kinds, sections) for path in _config_paths(arguments)]
    _check_classes_on_the_command_line(arguments)
    return arguments, documents


def _config_first(arguments: list[str]) -> list[str]:
    """`fit NAME ...` means `fit --config FILE ...`; names of shipped configs become files."""
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--config", *arguments]
    found: list[str] = []
    for number, argument in enumerate(arguments):
        if argument.startswith("--config="):
            found.append("--config=" + str(find_config(argument.removeprefix("--config="))))
        elif number and arguments[number - 1] in ("--config", "-c"):
            found.append(str(find_config(argument)))
        elif argument.startswith("--"):
            option, equals, value = argument.partition("=")
            found.append(f"{option}{equals}{classes.plain_class_path(value)}")
        else:
            found.append("--config" if argument == "-c" else classes.plain_class_path(argument))
    return found


def _config_paths(arguments: list[str]) -> list[Path]:
    joined = [argument.removeprefix("--config=") for argument in arguments if argument.startswith("--config=")]
    apart = [after for before, after in zip(arguments, arguments[1:], strict=False) if before == "--config"]
    return [Path(path) for path in joined + apart]


def _check_classes_on_the_command_line(arguments: list[str]) -> None:
    """`--model package.Class` fails with our message, which names what is near or what to install."""
    following = [*arguments[1:], ""][: len(arguments)]
    for argument, after in zip(arguments, following, strict=True):
        option, equals, value = argument.partition("=")
        option = option.removesuffix(".class_path").removesuffix(".help")
        value = value if equals else after
        if option in ("--model", "--data", "--optimizer", "--lr_scheduler") and "." in value:
            if value[:1] in "-{" or value.endswith((".yaml", ".yml")):
                continue
            try:
                classes.resolve(value)
            except classes.ClassPathError as error:
                raise ConfigError(f"command line: {option}: {error}") from error
