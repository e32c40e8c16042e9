"""YAML as nodes that know their lines, and what is wrong with a configuration."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightkit.errors import ConfigError
from lightkit.plain_yaml import MERGE, NULL, STRING, compose, what_and_where

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, or on the command line, and what.

    `line` counts from 1, 0 stands for none. `is_value` is true of a value that its parameter does not take, or that
    is missing, and false of keys and classes. `cut` is what to leave out so that the rest can be tried: a node of the
    file, or an option. `key` is the plain key of a value, which may be given anew later on; `is_in_list` is true of
    what stands in an item of a list.
    """

    source: str
    line: int
    text: str
    is_value: bool
    cut: object = None
    key: str = ""
    is_in_list: bool = False

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


def composed(path: Path) -> Node | None:
    """The YAML in a file as nodes, whose marks name the file; raises ConfigError where that cannot be."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        return compose(text, str(path))
    except yaml.YAMLError as error:
        what, line = what_and_where(error, text)
        raise ConfigError(f"{path}:{line}: {what}" if line else f"{path}: {what}") from error


def compose_text(text: str) -> Node:
    """The text of an option as a node; what is no YAML, or none that is taken, is a string."""
    with suppress(yaml.YAMLError):
        node = compose(text)
        if node is not None:
            return node
    return ScalarNode(STRING, text)


def scalars(node: Node | None) -> Iterator[ScalarNode]:
    """Every key and every single value in a node, at any depth."""
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield from scalars(key)
            yield from scalars(value)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from scalars(item)


def without(node: Node, cuts: Container[object]) -> None:
    """Take the nodes out of `node`, at any depth."""
    if isinstance(node, MappingNode):
        node.value = [(key, value) for key, value in node.value if value not in cuts]
    elif isinstance(node, SequenceNode):
        node.value = [value for value in node.value if value not in cuts]
    for _, child in children(node):
        without(child, cuts)


def written(node: Node, at_most: int = 80) -> str:
    """A value as the file has it, though perhaps in another layout; long ones are cut."""
    text = str(node.value)
    if isinstance(node, MappingNode):
        text = f"{{{', '.join(f'{written(key)}: {written(value)}' for key, value in node.value)}}}"
    elif isinstance(node, SequenceNode):
        text = f"[{', '.join(map(written, node.value))}]"
    return text if len(text) <= at_most else f"{text[: at_most - 3]}..."


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
        own = [pair for pair in node.value if pair[0].tag != MERGE]  # also what is given twice, which is an error
        yaml.constructor.SafeConstructor().flatten_mapping(node)
        names = {str(key.value) for key, _ in own}
        merged = {str(key.value): (key, value) for key, value in node.value[: -len(own) or None]}
        node.value = [*(pair for name, pair in merged.items() if name not in names), *own]
    for key, value in node.value:
        yield str(key.value), key, value


def entry(node: Node | None, name: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for key, _, value in entries(node) if key == name), None)
