"""One pass over a config's YAML nodes against the signatures: all problems at once, each with file and line.

Values are left to jsonargparse. It reports one problem at a time and no line, so keys and class paths are
looked at here first, before anything is built or any data is touched.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightkit.cli import classes
from lightkit.cli.sections import SECTIONS, Kinds
from lightkit.errors import ConfigError, did_you_mean
from lightkit.settings import REMOVED, refuse_unknown

MERGE = "tag:yaml.org,2002:merge"
CLASS_SPEC_KEYS = ("class_path", "init_args", "dict_kwargs")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, `line` counting from 1."""

    line: int
    text: str


@dataclass
class Document:
    """A config file as composed nodes, and what is wrong with it so far."""

    path: Path
    root: MappingNode
    problems: list[Problem] = field(default_factory=list)

    def add(self, node: Node, text: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, text))

    def raise_problems(self) -> None:
        """Raise one ConfigError that lists every problem, in the order of the file."""
        if not self.problems:
            return
        count = len(self.problems)
        lines = [
            f"  {self.path}:{problem.line}: {problem.text}"
            for problem in sorted(self.problems, key=lambda found: found.line)
        ]
        raise ConfigError("\n".join([f"{self.path}: {count} problem{'s' if count > 1 else ''}", *lines]))


def read_document(path: Path) -> Document:
    """Compose the YAML in `path`; raises ConfigError where it is no YAML, empty, or no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise ConfigError(f"{place}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if root is None:
        raise ConfigError(f"{path}: empty; it should hold keys such as model: and trainer:")
    if not isinstance(root, MappingNode):
        line = root.start_mark.line + 1
        raise ConfigError(f"{path}:{line}: expected keys such as model: and trainer:, found a {kind_of(root)}")
    return Document(path, root)


def kind_of(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "mapping"
    return "list" if isinstance(node, SequenceNode) else "single value"


def is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def entries(node: MappingNode) -> Iterator[tuple[str, Node, Node]]:
    """Name, key node and value node of each entry, those of merged (`<<`) mappings included."""
    if any(key.tag == MERGE for key, _ in node.value):
        yaml.constructor.SafeConstructor().flatten_mapping(node)
        node.value = list({str(key.value): (key, value) for key, value in node.value}.values())
    for key, value in node.value:
        yield str(key.value), key, value


def entry(node: Node, name: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for key, _, value in entries(node) if key == name), None)


def check_keys(path: Path, kinds: Kinds, sections: Iterable[str] = SECTIONS) -> Document:
    """Compose `path` and check every key and class_path in it; raises ConfigError that lists all problems."""
    document = read_document(path)
    check_names(document, document.root, "", list(sections))
    for name, _, value in entries(document.root):
        if name == "trainer":
            check_arguments(document, value, name, classes.parameters_of(kinds.trainer), kinds)
        elif name in ("model", "data") and kinds.fixed(name) is not None:
            check_arguments(document, value, name, classes.parameters_of(kinds.fixed(name)), kinds)
        elif name in kinds.bases:
            check_class(document, value, name, kinds.bases[name], kinds)
    document.raise_problems()
    return document


def check_names(document: Document, node: MappingNode, where: str, allowed: list[str] | None) -> None:
    """Report unknown and repeated keys of one mapping."""
    seen: dict[str, Node] = {}
    for name, key, value in entries(node):
        full = f"{where}.{name}" if where else name
        if name in seen:
            document.add(key, f"{full}: given twice, first in line {seen[name].start_mark.line + 1}")
        elif allowed is not None and name not in allowed:
            document.add(key, f"{full}: {what_to_write(where, name, value, allowed)}")
        seen[name] = key


def what_to_write(where: str, name: str, value: Node, allowed: list[str]) -> str:
    """The end of the message for an unknown key, or what to write for one that Lightning once had."""
    if where == "trainer" and name in REMOVED:
        given = yaml.safe_load(value.value) if isinstance(value, ScalarNode) else "..."
        try:
            refuse_unknown({name: given}, allowed)
        except ConfigError as error:
            return str(error).partition("): ")[2]
    return f"unknown key{did_you_mean(name, allowed)}"


def check_arguments(document: Document, node: Node, where: str, allowed: list[str] | None, kinds: Kinds) -> None:
    """Check a mapping of arguments: its keys, then every class spec below it."""
    if is_null(node):
        return
    if not isinstance(node, MappingNode):
        document.add(node, f"{where}: expected keys and values, found a {kind_of(node)}")
        return
    check_names(document, node, where, allowed)
    for name, _, value in entries(node):
        if allowed is None or name in allowed:
            base = kinds.trainer_bases.get(name) if where == "trainer" else None
            check_value(document, value, f"{where}.{name}", kinds, base)


def check_value(document: Document, node: Node, where: str, kinds: Kinds, base: type | None = None) -> None:
    """Look for class specs at any depth; `base` is what they must be, where that is known."""
    if isinstance(node, SequenceNode):
        for number, item in enumerate(node.value):
            check_value(document, item, f"{where}[{number}]", kinds, base)
    elif isinstance(node, MappingNode):
        if entry(node, "class_path") is not None:
            check_class(document, node, where, base, kinds)
        else:
            check_names(document, node, where, None)
            for name, _, value in entries(node):
                check_value(document, value, f"{where}.{name}", kinds)


def check_class(document: Document, node: Node, where: str, base: type | None, kinds: Kinds) -> None:
    """Check one class spec: that the class can be imported and is of the right kind, then its arguments."""
    if is_null(node):
        return
    spec = entry(node, "class_path") if isinstance(node, MappingNode) else node
    if not isinstance(spec, ScalarNode):
        document.add(node, f"{where}: expected class_path: and init_args:, found {_found(node)}")
        return
    if isinstance(node, MappingNode):
        check_names(document, node, where, list(CLASS_SPEC_KEYS))
    thing = find_class(document, spec, where, base)
    arguments = entry(node, "init_args")
    if thing is None or arguments is None:
        return
    skip = {"optimizer": {"params"}, "lr_scheduler": {"optimizer"}}.get(where, set())
    check_arguments(document, arguments, f"{where}.init_args", classes.parameters_of(thing, skip), kinds)


def _found(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "keys " + ", ".join(name for name, _, _ in entries(node)) if node.value else "nothing"
    return f"a {kind_of(node)}"


def find_class(document: Document, spec: ScalarNode, where: str, base: type | None) -> Any:
    """Return the class that `spec` names, or None with the problem noted."""
    path = classes.plain_class_path(str(spec.value))
    if "." not in path:
        if base is None:
            return None
        known = classes.all_subclasses(base)
        if path in known:
            return known[path]
        meant = did_you_mean(path, known)
        document.add(spec, f"{where}: class_path {path!r}: no {base.__name__} of that name{meant}")
        return None
    try:
        thing = classes.resolve(path)
    except classes.ClassPathError as error:
        document.add(spec, f"{where}: {error}")
        return None
    if base is not None and inspect.isclass(thing) and not issubclass(thing, base):
        document.add(spec, f"{where}: class_path {path!r}: {thing.__name__} is not a {base.__name__}")
        return None
    return thing
