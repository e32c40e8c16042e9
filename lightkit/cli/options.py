"""The options of a command line as nodes, as if they stood in a config."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from jsonargparse import ArgumentParser
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightkit.cli.documents import compose_text
from lightkit.cli.loading import option_in_full
from lightkit.cli.shipped import find_config
from lightkit.plain_yaml import MAPPING, NULL, SEQUENCE, STRING


class OptionNode(MappingNode):
    """A part of an option's name: of `--model.lr=3` the mappings in `{model: {lr: 3}}`."""


@dataclass(frozen=True, eq=False)
class Option:
    """`--name=text` or `--name text text`; what belongs to no option is one without texts."""

    name: str
    texts: list[str]

    @property
    def arguments(self) -> list[str]:
        """The option as jsonargparse is to see it."""
        return [f"{self.name}={self.texts[0]}"] if len(self.texts) == 1 else [self.name, *self.texts]

    @cached_property
    def keys(self) -> list[str]:
        names = self.name.lstrip("-").removesuffix("+").split(".")
        return [name for name in names if name not in ("class_path", "init_args")]

    @cached_property
    def value(self) -> Node:
        """The text as a node."""
        node = compose_text(self.texts[0]) if self.texts else ScalarNode(NULL, "null")
        is_below = self.name.endswith(".init_args") and isinstance(node, MappingNode)
        return OptionNode(node.tag, node.value) if is_below else node

    @cached_property
    def node(self) -> Node:
        """The value below its keys; what is appended is an item of a list."""
        node = self.value
        if self.name.endswith("+") and not isinstance(node, SequenceNode):
            node = SequenceNode(SEQUENCE, [node])
        for key in reversed(self.keys):
            node = OptionNode(MAPPING, [(ScalarNode(STRING, key), node)])
        return node


def read_options(arguments: list[str], parser: ArgumentParser) -> list[Option]:
    """The options in their order, with files for the names of configs, and class specs and their paths in full.

    `fit NAME ...` means `fit --config FILE ...`.
    """
    rest = ["--config", *arguments] if arguments and not arguments[0].startswith("-") else list(arguments)
    takes = {name: action.nargs for action in parser._actions for name in action.option_strings}
    found = []
    while rest:
        name, equals, text = rest.pop(0).partition("=")
        name = "--config" if name == "-c" else name
        texts = [text] if equals else []
        if name.startswith("-") and not equals:
            nargs = takes.get(name)
            wanted = nargs if isinstance(nargs, int) else 1 if nargs in (None, "?") else len(rest)
            while rest and len(texts) < wanted and not re.match(r"-\D", rest[0]):
                texts.append(rest.pop(0))
        is_config = name == "--config"
        found.append(Option(name, [str(find_config(t)) if is_config else option_in_full(name, t) for t in texts]))
    return found


def is_help(option: Option) -> bool:
    """Whether something is only to be shown, for which nothing need be given."""
    return option.name in ("-h", "--help", "--print_config") or option.name.endswith(".help")
