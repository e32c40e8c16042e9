"""`Trainer.add_argparse_args` and what reads their arguments again (0.6 to 1.9)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lightkit.legacy.trainer_arguments import READ_AS
from lightkit.settings import Settings

_NOT_ON_A_LINE = ("logger", "callbacks", "compile")  # objects; --logger takes True and False


def defaults() -> dict[str, Any]:
    """Every argument of the Trainer with its default; earlier ones are None."""
    return {**{each.name: each.default for each in fields(Settings)}, **dict.fromkeys(READ_AS)}


def add_arguments(parser: ArgumentParser) -> ArgumentParser:
    """The parser with an option for every argument of the Trainer that it does not have yet, earlier ones too."""
    group = parser.add_argument_group("Trainer")
    taken = {option for action in parser._actions for option in action.option_strings}
    for name, default in defaults().items():
        if f"--{name}" in taken or name in _NOT_ON_A_LINE[1:]:
            continue
        how: dict[str, Any] = {"nargs": "?", "const": True} if isinstance(default, bool) else {}
        group.add_argument(f"--{name}", default=default, type=value_of, metavar="VALUE", **how)
    return parser


def value_of(text: str) -> Any:
    """What a word of a command line means: True, False, None, a number, or the word."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def arguments_of(args: Namespace | ArgumentParser, given: Mapping[str, Any]) -> dict[str, Any]:
    """The Trainer's arguments among those of a command line, where they are not the defaults; `given` win."""
    values = vars(args.parse_args() if isinstance(args, ArgumentParser) else args)
    asked = {name: values[name] for name, default in defaults().items() if name in values and values[name] != default}
    return {**asked, **given}


def parsed(args: Namespace | ArgumentParser) -> Namespace:
    """The arguments of a command line, words read as what they mean."""
    values = vars(args.parse_args() if isinstance(args, ArgumentParser) else args)
    known = defaults()
    return Namespace(**{
        name: value_of(value) if name in known and isinstance(value, str) else value for name, value in values.items()
    })  # fmt: skip
