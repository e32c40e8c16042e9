"""Values whose kind nobody recorded, such as those of a YAML file, as the constructor's annotations expect them."""

from __future__ import annotations

import ast
import collections.abc
import dataclasses
import enum
import os
import typing
from argparse import Namespace
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from lightkit.hparams import expected
from lightkit.hparams.building import CannotBuild, member_of_value
from lightkit.hparams.values import AttributeDict

_NUMBERS = (bool, int, float, complex, np.generic)
_LISTS = (list, tuple, set, frozenset, torch.Size)


def suit(value: Any, hints: list[object], *, is_text: bool) -> Any:
    """The value as the first of the annotations has it; as it is where that says nothing or accepts it.

    "relu" is `Act.RELU` for an `Act`, a dict a dataclass, a string a path. is_text: it was written as text, so that a
    string may be a dtype, a device or a number, too, and a list a tuple or a set. Raises CannotBuild where an enum or
    a dataclass is expected and none can be made of it.
    """
    return _Suiter(is_text).suited(value, hints[0]) if hints else value


def _accepts(member: object, value: Any) -> bool:
    if member is Any or member is object:
        return True
    origin = typing.get_origin(member) or member
    if origin is typing.Literal:
        return value in typing.get_args(member)
    return isinstance(origin, type) and not typing.is_typeddict(origin) and _is_instance(value, origin)


def _is_instance(value: Any, cls: type) -> bool:
    try:
        return isinstance(value, cls)
    except TypeError:  # a protocol that cannot be asked
        return True


class _Suiter:
    """Suits values, and what is in them; see `suit`."""

    def __init__(self, is_text: bool):
        self.is_text = is_text
        self.lists = _LISTS if is_text else (frozenset, torch.Size)

    def suited(self, value: Any, hint: object) -> Any:
        if value is None:
            return value  # `x: Act = None` is written for an optional one
        members = expected.members_of(hint)
        problem: CannotBuild | None = None
        if any(_accepts(member, value) for member in members):
            members = [member for member in members if _accepts(member, value)]
        for member in members:
            try:
                return self._as_one(value, member)
            except CannotBuild as error:
                problem = error
            except (TypeError, ValueError, SyntaxError):  # not of this one
                continue
        if problem is not None:
            raise problem
        return value

    def _as_one(self, value: Any, member: Any) -> Any:
        """The value as one class or annotation; raises what the class raises where it is not one."""
        cls = typing.get_origin(member) or member
        if cls is typing.Literal:
            return _literal(value, typing.get_args(member))
        if not isinstance(cls, type) or cls is type(None) or typing.is_typeddict(cls):
            return _only_if(value is None or cls is not type(None), value)
        if dataclasses.is_dataclass(cls):
            return self._dataclass(value, cls)
        if issubclass(cls, enum.Enum):
            return _member(value, cls)
        return self._of_builtin(value, cls, typing.get_args(member))

    def _of_builtin(self, value: Any, cls: type, arguments: tuple[Any, ...]) -> Any:
        is_list = issubclass(cls, self.lists) or (issubclass(cls, _LISTS) and isinstance(value, cls))
        if hasattr(cls, "_fields") or is_list:
            return self._listed(value, cls, arguments)
        if issubclass(cls, (dict, collections.abc.Mapping)) and isinstance(value, Mapping):
            return self._mapped(value, cls, arguments)
        if _is_instance(value, cls):
            return value
        for base, make, was_lost in _FROM:
            if issubclass(cls, base) and (was_lost or self.is_text):
                return make(value, cls)
        return value

    def _dataclass(self, value: Any, cls: type) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise CannotBuild(f"{value!r}; expected are the fields of a {cls.__qualname__}")
        hints = expected.field_hints(cls)
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        unknown = [name for name in value if name not in known]
        if unknown:
            raise CannotBuild(f"a {cls.__qualname__} with {unknown[0]!r}, which is no field of it ({', '.join(known)})")
        fields: dict[str, Any] = {}
        for name, part in value.items():
            try:
                fields[name] = self.suited(part, hints.get(name, Any))
            except CannotBuild as error:
                raise error.inside(name) from error.__cause__
        try:
            return cls(**fields)
        except Exception as error:
            raise CannotBuild(f"{value!r}, of which no {cls.__qualname__} is made: {error}") from error

    def _listed(self, value: Any, cls: type, arguments: tuple[Any, ...]) -> Any:
        _only_if(isinstance(value, (*_LISTS, Mapping) if hasattr(cls, "_fields") else _LISTS), value)
        if hasattr(cls, "_fields"):
            hints = expected.field_hints(cls)
            given = dict(value) if isinstance(value, Mapping) else dict(zip(cls._fields, value, strict=True))
            return cls(**{name: self.suited(part, hints.get(name, Any)) for name, part in given.items()})
        each = [arguments[0] if arguments else Any] * len(value)
        if issubclass(cls, tuple) and arguments and arguments[-1] is not Ellipsis:
            each = list(arguments)
        items = [self.suited(item, hint) for item, hint in zip(value, each, strict=True)]
        made: Any = cls
        return made(items)

    def _mapped(self, value: Mapping[Any, Any], cls: type, arguments: tuple[Any, ...]) -> Any:
        key_hint, item_hint = arguments if len(arguments) == 2 else (Any, Any)
        items = {self.suited(key, key_hint): self.suited(item, item_hint) for key, item in value.items()}
        return AttributeDict(items) if issubclass(cls, AttributeDict) or isinstance(value, AttributeDict) else items


def _only_if(is_right: bool, value: Any) -> Any:
    if not is_right:
        raise TypeError
    return value


def _literal(value: Any, choices: tuple[Any, ...]) -> Any:
    found = [choice for choice in choices if isinstance(choice, enum.Enum) and _is_member_text(choice, value)]
    return found[0] if found else _only_if(value in choices, value)


def _is_member_text(member: enum.Enum, value: Any) -> bool:
    return value in (member.name, str(member))


def _member(value: Any, cls: type[enum.Enum]) -> enum.Enum:
    if isinstance(value, cls):
        return value
    found = member_of_value(cls, value)
    if found is None:
        found = next((member for member in cls.__members__.values() if _is_member_text(member, value)), None)
    if found is None and isinstance(value, list):  # YAML has no tuples
        found = member_of_value(cls, tuple(value))
    if found is None:
        raise CannotBuild(f"{value!r}, which is no {cls.__qualname__} (it has: {', '.join(cls.__members__)})")
    return found


def _attributes(value: Any, cls: Any) -> Any:
    made = cls()
    vars(made).update(_only_if(isinstance(value, Mapping), value))
    return made


def _torch_name(value: Any, cls: type) -> Any:
    found = getattr(torch, _only_if(isinstance(value, str), value).removeprefix("torch."), None)
    return _only_if(isinstance(found, cls), found)


def _number(value: Any, cls: Any) -> Any:
    if cls is bool or isinstance(value, bool) or not isinstance(value, (str, *_NUMBERS)):
        raise TypeError
    made = cls(value)
    is_same = isinstance(value, str) or isinstance(made, np.inexact) or made == value
    return _only_if(bool(is_same), made)


def _bytes(value: Any, cls: type) -> Any:
    found = ast.literal_eval(_only_if(isinstance(value, str), value))
    return _only_if(isinstance(found, bytes), found)


def _text_of(value: Any, cls: Any) -> Any:
    return cls(_only_if(isinstance(value, str), value))


# class, how it is made, whether checkpoints before format 2 lost it
_FROM: tuple[tuple[Any, Callable[[Any, Any], Any], bool], ...] = (
    ((Namespace, SimpleNamespace), _attributes, True), (np.generic, _number, True), (_NUMBERS, _number, False),
    ((torch.dtype, torch.layout), _torch_name, False), (bytes, _bytes, False), (torch.device, _text_of, False),
    (os.PathLike, _text_of, True),
)  # fmt: skip
