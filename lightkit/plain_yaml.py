"""YAML that anybody may have written, as nodes that are safe to walk: of bounded depth and size, plain values alone.

`yaml.compose` runs nothing, and yet gives nodes that contain themselves, that stand for billions of values, or that no
constructor takes. Here each of these is an error with its line, found before anything walks the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import yaml
from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

STRING, MAPPING, SEQUENCE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
NULL, MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool", NULL)
_PLAIN = (STRING, MAPPING, SEQUENCE, *_NUMBERS)
MAX_DEPTH = 40  # every level costs those who walk the nodes a few stack frames
MAX_ALIASED = 10_000  # values that aliases add to those that are written down
MAX_INT = 2**64  # seeds have 64 bits


class RefusedError(yaml.MarkedYAMLError):
    """YAML, but none that is taken here; `problem` says why and `problem_mark` where."""

    def __init__(self, problem: str, mark: Mark | None) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def compose(text: str, name: str = "<text>") -> Node | None:
    """The text as a node; None where it holds nothing. Each place has a node of its own, those of aliases too.

    Args:
        text: one YAML document.
        name: of the file, for the marks of the nodes.

    Raises:
        yaml.YAMLError: it is no YAML, or none that is taken here (RefusedError).
    """
    loader = _Loader(text)
    loader.name = name
    try:
        node: Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    if node is None:
        return None
    check_size(node)
    return _separate(node, set())


def check_size(node: Node) -> None:
    """Raise RefusedError for a node that contains itself, is nested too deeply, or stands for too many values."""
    _Sizes().check(node)


def what_and_where(error: yaml.YAMLError, text: str) -> tuple[str, int]:
    """What is wrong with a text that cannot be composed, and the line, from 1; 0 where that is not known."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        sign = error.character if isinstance(error.character, int) else ord(error.character)
        return f"not valid YAML: the character U+{sign:04X} is not allowed", line
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    text = problem if isinstance(error, RefusedError) else f"not valid YAML: {problem}"
    return text, 0 if mark is None else mark.line + 1


class _Loader(yaml.SafeLoader):
    """Composes; nothing of it constructs."""

    depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        kind = {yaml.MappingStartEvent: MAPPING, yaml.SequenceStartEvent: SEQUENCE}.get(type(event))
        if tag not in (None, "!") and (tag not in _PLAIN or (kind or tag) != tag or (not kind and tag in _PLAIN[1:3])):
            raise RefusedError(f"the tag {_written(tag)} is not taken: values here are plain ones", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise RefusedError(f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_scalar_node(self, anchor: dict[str, Node]) -> ScalarNode:
        node: ScalarNode = super().compose_scalar_node(anchor)
        _check_scalar(node)
        return node

    def compose_mapping_node(self, anchor: dict[str, Node]) -> MappingNode:
        node: MappingNode = super().compose_mapping_node(anchor)
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise RefusedError("a key must be one word, and this is a list or a mapping", key.start_mark)
            if key.tag == MERGE:
                merged = value.value if isinstance(value, SequenceNode) else [value]
                if not all(isinstance(part, MappingNode) for part in merged):
                    raise RefusedError("<<: takes a mapping, or a list of mappings", value.start_mark)
            _refuse_merge(value)
        return node

    def compose_sequence_node(self, anchor: dict[str, Node]) -> SequenceNode:
        node: SequenceNode = super().compose_sequence_node(anchor)
        for item in node.value:
            _refuse_merge(item)
        return node


def _written(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _refuse_merge(node: Node) -> None:
    if isinstance(node, ScalarNode) and node.tag == MERGE:
        raise RefusedError("'<<' is a key, and here it is a value; quote it", node.start_mark)


def _check_scalar(node: ScalarNode) -> None:
    """Refuse what no constructor reads, numbers that would not stay what they are, and text that no file can hold."""
    text, mark = node.value, node.start_mark
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise RefusedError("a text with a NUL or half a character (U+D800 to U+DFFF)", mark)
    if node.tag == "tag:yaml.org,2002:value":
        raise RefusedError("'=' is nothing that can be read; quote it", mark)
    if node.tag in _NUMBERS:
        try:
            value = yaml.constructor.SafeConstructor().construct_object(node)
        except (ValueError, KeyError, OverflowError):
            raise RefusedError(f"{_cut(text)!r} cannot be read as {_written(node.tag)}; quote it", mark) from None
        if isinstance(value, int) and abs(value) >= MAX_INT:
            raise RefusedError(f"{_cut(text)!r} has more than 64 bits", mark)
    if not node.style and text[-1:].isdigit():
        try:
            is_lost = math.isinf(float(text))
        except ValueError:
            return
        if is_lost:
            raise RefusedError(f"{_cut(text)!r} is more than a float can hold; write .inf where that is meant", mark)


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


class _Sizes:
    """How much each node stands for when its aliases are written out."""

    def __init__(self) -> None:
        self.of: dict[int, tuple[int, int]] = {}  # values and levels
        self.above: set[int] = set()

    def check(self, root: Node) -> None:
        values, _ = self.measure(root)
        if values > len(self.of) + MAX_ALIASED:
            raise RefusedError(f"its aliases stand for more than {MAX_ALIASED:,} values", root.start_mark)

    def measure(self, node: Node) -> tuple[int, int]:
        """Number of values, and of levels, below and with a node."""
        if id(node) in self.above:
            raise RefusedError("an alias of what it stands in: it would never end", node.start_mark)
        found = self.of.get(id(node))
        if found is None:
            self.above.add(id(node))
            parts = [self.measure(child) for child in _children(node)]
            self.above.remove(id(node))
            found = 1 + sum(values for values, _ in parts), 1 + max((levels for _, levels in parts), default=0)
            self.of[id(node)] = found
        if found[1] > MAX_DEPTH:
            raise RefusedError(f"nested more than {MAX_DEPTH} levels deep, with its aliases", node.start_mark)
        return found


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _separate(node: Node, seen: set[int]) -> Node:
    """The same, with a copy where an alias stands: what is done to one place must not be done to the others."""
    is_alias = id(node) in seen
    seen.add(id(node))
    make: Callable[..., Node] = type(node)
    value: object = node.value
    if isinstance(node, MappingNode):
        value = [(_separate(key, seen), _separate(part, seen)) for key, part in node.value]
    elif isinstance(node, SequenceNode):
        value = [_separate(item, seen) for item in node.value]
    if not is_alias:
        node.value = value
        return node
    style = node.style if isinstance(node, ScalarNode) else getattr(node, "flow_style", None)
    return make(node.tag, value, node.start_mark, node.end_mark, style)
