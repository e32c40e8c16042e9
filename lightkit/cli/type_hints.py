"""What a parameter's annotation accepts, by jsonargparse's own verdict on one value, and how a message names it."""

from __future__ import annotations

import collections.abc
import inspect
from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, Namespace
from yaml.nodes import MappingNode, Node, SequenceNode

from lightkit.cli.parser import PARSER_MODE
from lightkit.plain_yaml import RefusedError, compose

_LISTS = (list, tuple, set, frozenset, collections.abc.Iterable, collections.abc.Sequence, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_CALLABLE: object = collections.abc.Callable
_ANYTHING = object()


@cache
def _parser_of(hint: object) -> ArgumentParser | None:
    """A parser of one option `--value` with this annotation; None where jsonargparse cannot tell what it accepts."""
    parser = ArgumentParser(exit_on_error=False, add_help=False, parser_mode=PARSER_MODE)
    try:
        parser.add_argument("--value", type=hint)
    except ValueError:
        return None
    return parser


def accepts(hint: object, value: object) -> bool:
    """Whether jsonargparse takes the value for a parameter with this annotation."""
    if not all(map(is_harmless, _texts_in(value))):
        return members(hint) == [str]
    parser = _parser_of(hint)
    if parser is None:
        return True
    try:
        parser.validate(Namespace(value=value), skip_required=True)
    except Exception:  # whatever the value leads to, such as an import that fails, it is refused
        return False
    return True


def is_harmless(text: str) -> bool:
    """Whether a text may be read as YAML, as jsonargparse does where a number is asked for, by a reader of its own."""
    try:
        compose(text)
    except RefusedError:
        return False
    except yaml.YAMLError:
        pass
    return True


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts_in(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)


def members(hint: object) -> list[object]:
    """What a union unites, null left out; the annotation itself where it is none."""
    if get_origin(hint) not in (Union, UnionType):
        return [hint]
    return [member for member in get_args(hint) if member is not NoneType]


def class_base(hint: object) -> type | None:
    """The class of which the annotation takes an instance, or None where it takes none or one of several."""
    found = [member for member in members(hint) if inspect.isclass(member) and _is_built(member)]
    return found[0] if len(found) == 1 else None


def _is_built(cls: type) -> bool:
    """Whether jsonargparse builds the class from its arguments: then it offers help about it."""
    parser = _parser_of(cls | None)  # alone, the arguments of a dataclass would be options of their own
    return parser is not None and "--value.help" in parser._option_string_actions


def part_hints(hint: object, node: Node) -> list[object] | None:
    """The annotation of each item of a list or value of a mapping; None where the annotation is of no such thing."""
    containers = _LISTS if isinstance(node, SequenceNode) else _MAPPINGS if isinstance(node, MappingNode) else ()
    for member in members(hint):
        origin, arguments = get_origin(member) or member, get_args(member) or (Any,)
        if origin is tuple and tuple in containers and Ellipsis not in arguments:
            return list(arguments) if len(arguments) == len(node.value) else None
        if origin in containers:
            return [arguments[0 if containers is _LISTS else -1]] * len(node.value)
    return [Any] * len(node.value) if containers and accepts(hint, _ANYTHING) else None


def name_of(hint: object) -> str:
    """`int or null` for `int | None`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(name_of, arguments))
    if isinstance(origin, type) and origin is not _CALLABLE:
        return f"{origin.__name__}[{', '.join(map(name_of, arguments))}]"
    named = origin or hint
    if isinstance(named, type):
        return "null" if named is NoneType else named.__name__
    return repr(hint).removeprefix("typing.")
