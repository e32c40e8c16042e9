"""YAML as nodes that know their lines, and what is wrong with a configuration."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightkit.errors import ConfigError

COMMAND_LINE = "command line"
STRING, MAPPING, SEQUENCE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
NULL, MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, or on the command line, and what.

    `line` counts from 1, 0 stands for none. `is_value` is true of a value that its parameter does not take, or that
    is missing, and false of keys and classes. `cut` is what to leave out so that the rest can be tried: a node of the
    file, or an option.
    """

    source: str
    line: int
    text: str
    is_value: bool
    cut: object = None

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.text}" if self.line else f"{self.source}: {self.text}"


def raise_problems(problems: list[Problem]) -> NoReturn:
    """Raise one ConfigError: the problem alone, or all of them in the order of files and lines."""
    first = problems[0]
    if len(problems) == 1 and (first.is_value or not first.line):
        raise ConfigError(str(first))
    sources = list(dict.fromkeys(problem.source for problem in problems))
    ordered = sorted(problems, key=lambda found: (sources.index(found.source), found.line))
    raise ConfigError(listed(first.source, ordered))


def listed(heading: str, problems: Sequence[object]) -> str:
    """`job.yaml: 2 problems` and each of them in a line of its own."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return "\n  ".join([f"{heading}: {count}" if heading else count, *map(str, problems)])


def compose_text(text: str) -> Node:
    """The text of an option as a node; what is no YAML is a string."""
    with suppress(yaml.YAMLError):
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            return node
    return ScalarNode(STRING, text)


def without(node: Node, cuts: Container[object]) -> None:
    """Take the nodes out of `node`, at any depth."""
    if isinstance(node, MappingNode):
        node.value = [(key, value) for key, value in node.value if value not in cuts]
    elif isinstance(node, SequenceNode):
        node.value = [value for value in node.value if value not in cuts]
    for _, child in children(node):
        without(child, cuts)


def kind_of(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "mapping"
    return "list" if isinstance(node, SequenceNode) else "single value"


def is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == NULL


def is_string(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == STRING


def children(node: Node) -> list[tuple[str, Node]]:
    """The values of a mapping or the items of a list, each with what leads there: `.name` or `[0]`."""
    if isinstance(node, MappingNode):
        return [(f".{name}", value) for name, _, value in entries(node)]
    return [(f"[{number}]", item) for number, item in enumerate(node.value)] if isinstance(node, SequenceNode) else []


def entries(node: MappingNode) -> Iterator[tuple[str, Node, Node]]:
    """Name, key node and value node of each entry, those of merged (`<<`) mappings included."""
    if any(key.tag == MERGE for key, _ in node.value):
        yaml.constructor.SafeConstructor().flatten_mapping(node)
        node.value = list({str(key.value): (key, value) for key, value in node.value}.values())
    for key, value in node.value:
        yield str(key.value), key, value


def entry(node: Node | None, name: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for key, _, value in entries(node) if key == name), None)
