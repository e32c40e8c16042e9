"""The options of a command line as nodes, as if they stood in a config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import yaml
from jsonargparse import ArgumentParser
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightkit.cli.documents import MAPPING, NULL, SEQUENCE, STRING

HELP = ("-h", "--help", "--print_config")


class OptionNode(MappingNode):
    """A part of an option's name: of `--model.lr=3` the mappings in `{model: {lr: 3}}`."""


@dataclass(frozen=True)
class Option:
    """`--name=text` or `--name text`, which stands in the arguments at `span`; text None: nothing follows."""

    name: str
    text: str | None
    span: tuple[int, int]

    @property
    def is_appended(self) -> bool:
        return self.name.endswith("+")

    @cached_property
    def keys(self) -> list[str]:
        names = self.name.lstrip("-").removesuffix("+").split(".")
        return [name for name in names if name not in ("class_path", "init_args")]

    @cached_property
    def value(self) -> Node:
        """The text as a node; what is no YAML is a string."""
        if self.text is None:
            return ScalarNode(NULL, "null")
        try:
            node = yaml.compose(self.text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            node = None
        if isinstance(node, MappingNode) and self.name.endswith(".init_args"):
            return OptionNode(node.tag, node.value)
        return ScalarNode(STRING, self.text) if node is None else node

    @cached_property
    def node(self) -> Node:
        """The value below its keys; what is appended is an item of a list."""
        node = self.value
        if self.is_appended and not isinstance(node, SequenceNode):
            node = SequenceNode(SEQUENCE, [node])
        for key in reversed(self.keys):
            node = OptionNode(MAPPING, [(ScalarNode(STRING, key), node)])
        return node


def read_options(arguments: list[str], parser: ArgumentParser) -> Iterator[Option]:
    """The options that take a value, in their order; an argument that belongs to none is an option of its own."""
    takes = {name: action.nargs for action in parser._actions for name in action.option_strings}
    position = 0
    while position < len(arguments):
        start, following = position, arguments[position + 1 :]
        name, equals, text = arguments[start].partition("=")
        values = next((n for n, argument in enumerate(following) if _is_option(argument)), len(following))
        nargs = takes.get(name)
        wanted = nargs if isinstance(nargs, int) else 1 if nargs in (None, "?") else values
        used = 0 if equals or not name.startswith("-") else min(values, wanted)
        position += 1 + used
        if name not in HELP and not name.endswith(".help") and nargs != 0:
            yield Option(name, text if equals else following[0] if used else None, (start, position))


def _is_option(argument: str) -> bool:
    return argument.startswith("-") and not argument[1:2].isdigit() and argument != "-"


def asks_for_help(arguments: list[str]) -> bool:
    """Whether something is only to be shown, for which nothing need be given."""
    names = [argument.partition("=")[0] for argument in arguments]
    return any(name in HELP or name.endswith(".help") for name in names)
