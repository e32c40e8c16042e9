"""Which classes a constructor expects for an argument: those that its annotation, its default, or a base's name.

Strings and names that only a type checker imports are read as far as they can be. Nothing is imported: what is found
are classes that the constructor itself refers to, and those derived from them that the program has made already.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, cast

from lightkit.hparams.kinds import take_apart

_NONE = inspect.Parameter.empty
_NO_FAMILY = frozenset(("builtins", "typing", "abc", "collections", "collections.abc", "numpy", "pathlib"))


class _Names(dict[str, Any]):
    """Names that an annotation may use; one that is not there is anything."""

    def __missing__(self, name: str) -> Any:
        return Any


def hints_of(cls: type, argument: str) -> list[object]:
    """The annotations and kinds of defaults of an argument, of the class's own `__init__` first, then of its bases'.

    A base's counts too: `**kwargs` hand an argument on, and a subclass may leave an annotation out.
    """
    found: list[object] = []
    for owner in cls.__mro__[:-1]:
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters  # type: ignore[misc]
        parameter = parameters.get(argument)
        if parameter is None:
            parameter = next((p for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
        if parameter is None:
            break  # this one takes it not, so its bases get none
        if parameter.annotation is not _NONE:
            found.append(_resolved(parameter.annotation, _names_of_function(owner)))
        if dataclasses.is_dataclass(owner):
            found.append(field_hints(owner).get(argument, Any))  # a default that is made stands there alone
        found += _kinds_in(parameter.default)
    return [hint for hint in found if hint is not Any and hint is not object]


def members_of(hint: object) -> list[object]:
    """What a union unites, seen through aliases; the annotation itself where it is none."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return members_of(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(hint) for member in members_of(part)]
    if isinstance(hint, typing.NewType):
        return members_of(hint.__supertype__)
    if isinstance(hint, typing.TypeVar):
        return [member for part in (hint.__bound__, *hint.__constraints__) if part for member in members_of(part)]
    if not isinstance(hint, type) and (value := getattr(hint, "__value__", None)) is not None:  # `type X = ...`
        return members_of(value)
    return [hint]


def field_hints(cls: type) -> dict[str, object]:
    """The annotations of a dataclass's, a named tuple's or a TypedDict's fields."""
    names = _Names({**vars(builtins), **vars(cls), **vars(sys.modules.get(cls.__module__, builtins))})
    found: dict[str, object] = {}
    for owner in reversed(cls.__mro__):
        for name, hint in vars(owner).get("__annotations__", {}).items():
            found[name] = _resolved(hint, names)
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            hint, factory = found.get(field.name, Any), cast(object, field.default_factory)
            if hint is Any and isinstance(factory, type):
                found[field.name] = factory
            elif hint is Any and field.default is not dataclasses.MISSING:
                found[field.name] = type(field.default)
    return found


def classes_in(hints: list[object]) -> list[type]:
    """Every class that the annotations name, and those that their fields name, each once, in that order."""
    found: dict[type, None] = {}
    waiting = list(hints)
    while waiting:
        for member in members_of(waiting.pop(0)):
            arguments = typing.get_args(member)
            origin = typing.get_origin(member)
            if origin is typing.Literal:
                waiting += map(type, arguments)
                continue
            waiting += [part for part in arguments if part is not Ellipsis and not isinstance(part, (str, list))]
            cls = origin or member
            if isinstance(cls, type) and cls not in found and cls is not object and cls is not type(None):
                found[cls] = None
                waiting += [*_parts_of(cls), *_family_of(cls)]
    return list(found)


def _parts_of(cls: type) -> list[object]:
    has_fields = dataclasses.is_dataclass(cls) or hasattr(cls, "_fields") or typing.is_typeddict(cls)
    return [hint for hint in field_hints(cls).values() if hint is not Any] if has_fields else []


def _family_of(cls: type) -> Iterator[type]:
    """Classes of values derived from one that is expected, as far as the program has them."""
    if cls.__module__ in _NO_FAMILY:
        return
    derived: Any
    for derived in type.__subclasses__(cls):
        if dataclasses.is_dataclass(derived) or issubclass(derived, enum.Enum) or hasattr(derived, "_fields"):
            yield derived


def _kinds_in(default: object) -> list[object]:
    """The classes of a default and of the values in it."""
    if default is _NONE or default is None:
        return []
    try:
        _, content = take_apart(default)
    except TypeError:
        return [type(default)]
    items = [*content, *content.values()] if isinstance(content, dict) else content
    parts = items if isinstance(items, (list, tuple, set)) else ()
    return [type(default), *(kind for item in parts for kind in _kinds_in(item))]


def _names_of_function(owner: type) -> _Names:
    function = inspect.unwrap(owner.__init__)  # type: ignore[misc]
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    closure = {}
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # it is given its value later
            continue
    space: Mapping[str, Any] = getattr(function, "__globals__", {})
    return _Names({**vars(builtins), **vars(owner), **space, **closure})


def _resolved(hint: object, names: _Names) -> object:
    """An annotation that is text, as its author's own code would read it; Any where it cannot be read."""
    if isinstance(hint, typing.ForwardRef):
        hint = hint.__forward_arg__
    if isinstance(hint, str):
        try:
            return _resolved(eval(hint, {"__builtins__": {}}, names), names)
        except Exception:  # whatever such text leads to, it names no class
            return Any
    arguments, origin = typing.get_args(hint), typing.get_origin(hint)
    is_text = any(isinstance(part, (str, typing.ForwardRef)) for part in arguments)
    if not is_text or origin in (typing.Literal, typing.Annotated):
        return hint
    parts = tuple(_resolved(part, names) for part in arguments)
    is_union = origin in (typing.Union, types.UnionType)
    return typing.Union[parts] if is_union else origin[parts]  # type: ignore[index]  # noqa: UP007
