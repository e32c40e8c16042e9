"""Values made again from their plain form and their note, by classes that the constructor expects.

Nothing is imported: a class that a file names is taken where the constructor names it too, see `expected`.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import pathlib
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lightkit.hparams.kinds import FACTORIES, Note, encode, fields_of, name_of, parts_of, same, same_plain
from lightkit.hparams.values import AttributeDict


class CannotBuild(Exception):
    """A value cannot be made again; its text says what is stored and what was found instead.

    place: the keys that lead to it inside its argument. needs_class: the constructor does not name its class.
    """

    def __init__(self, problem: str, place: tuple[object, ...] = (), *, needs_class: bool = False):
        super().__init__(problem)
        self.problem, self.place, self.needs_class = problem, place, needs_class

    def inside(self, key: object) -> CannotBuild:
        """The same of what holds the value under this key."""
        return CannotBuild(self.problem, (key, *self.place), needs_class=self.needs_class)


class Builder:
    """Makes values again by the classes that their argument names; then by those that others name."""

    def __init__(self, classes: Sequence[type], others: Sequence[type] = ()):
        self.classes, self.others = classes, others

    def build(self, plain: Any, note: Note, changes: Mapping[str, Any] | None = None) -> Any:
        """The value that was stored. changes: entries of a dict, a Namespace or a dataclass that are to be others.

        Raises CannotBuild, and what the constructor of a user's class raises.
        """
        try:
            kind, notes, keys = parts_of(note)
        except TypeError:
            raise CannotBuild(f"a note of its kind that is none: {_shown(note)}") from None
        make = (
            self._maker(kind, plain, is_changed=bool(changes)) if kind else None
        )  # its class first: the error names it
        content: Any
        if isinstance(plain, dict):
            content = type(plain)(
                (self._part(key, keys.get(key), key), self._part(item, notes.get(key), key))
                for key, item in plain.items()
            )
        elif isinstance(plain, set):
            content = {self._part(item, notes.get(item), item) for item in plain}
        elif type(plain) in (list, tuple):
            content = type(plain)(self._part(item, notes.get(index), index) for index, item in enumerate(plain))
        else:
            content = plain
        if changes:
            content = {**content, **changes}
        try:
            return content if make is None else make(content)
        except CannotBuild:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise CannotBuild(f"{_shown(plain)}, of the kind {kind}, which cannot be made ({said})") from error

    def _part(self, plain: Any, note: Note, key: object) -> Any:
        if note is None:
            return plain
        try:
            return self.build(plain, note)
        except CannotBuild as error:
            raise error.inside(key) from error.__cause__

    def _maker(self, kind: str, plain: Any, *, is_changed: bool) -> Callable[[Any], Any]:
        name, _, detail = kind.partition(":")
        if (make := _known(name, detail)) is not None:
            return make
        cls = self._class_of(name, plain)
        for base, make_one in _MAKERS:
            if issubclass(cls, base):
                return lambda content: make_one(cls, content, detail)
        if dataclasses.is_dataclass(cls):
            return lambda content: _dataclass(cls, content, is_changed)
        raise CannotBuild(f"{_shown(plain)}, of the kind {name}, which is none of a value")

    def _class_of(self, name: str, plain: Any) -> type:
        """The class of this name; or the one called so in another module, as where a script was __main__."""
        for cls in (*self.classes, *self.others):
            if name_of(cls) == name:
                return cls
        moved = [cls for cls in self.classes if f".{name}".endswith(f".{cls.__qualname__}")]
        if len(moved) == 1:
            return moved[0]
        own = [cls.__qualname__ for cls in self.classes if _is_own(cls)]
        expected = f"; expected is {' or '.join(own)}" if own else ""
        raise CannotBuild(f"{_shown(plain)}, of the kind {name}{expected}", needs_class=True)


def _is_own(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or (issubclass(cls, enum.Enum) and cls.__module__ != "enum")


def _shown(plain: Any) -> str:
    text = repr(plain)
    return text if len(text) <= 100 else f"{text[:97]}..."


# ------------------------------------------------------------ kinds that need no class of the user's


def _namespace(cls: Callable[[], Any]) -> Callable[[dict[str, Any]], Any]:
    def make(content: dict[str, Any]) -> Any:
        made = cls()
        vars(made).update(content)
        return made

    return make


_KNOWN: dict[str, Callable[[Any], Any]] = {
    **{f"pathlib.{name}": getattr(pathlib, name) for name in ("PurePath", "PurePosixPath", "PureWindowsPath")},
    "pathlib.Path": Path, "builtins.frozenset": frozenset, "collections.Counter": Counter,
    "builtins.dict": dict, "collections.OrderedDict": OrderedDict,
    "argparse.Namespace": _namespace(Namespace), "types.SimpleNamespace": _namespace(SimpleNamespace),
    name_of(AttributeDict): AttributeDict,
    "numpy.ndarray": lambda tensor: tensor.numpy(), "numpy.str_": np.str_, "numpy.bytes_": np.bytes_,
}  # fmt: skip
_LIGHTNINGS = ("lightning.fabric.", "lightning_fabric.", "lightning.pytorch.", "pytorch_lightning.")


def _known(name: str, detail: str) -> Callable[[Any], Any] | None:
    if name == name_of(defaultdict):
        return lambda content: defaultdict(FACTORIES[detail] if detail else None, content)
    if name in ("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"):
        return lambda content: _omegaconf(content, detail)
    if name.startswith(_LIGHTNINGS) and name.endswith(".AttributeDict"):
        return AttributeDict
    if name not in _KNOWN and name.startswith("numpy."):
        return _numpy_number(name.removeprefix("numpy."))
    return _KNOWN.get(name)


def _omegaconf(content: Any, flags: str) -> Any:
    from omegaconf import OmegaConf

    made = OmegaConf.create(content)
    if "struct" in flags:
        OmegaConf.set_struct(made, True)
    if "readonly" in flags:
        OmegaConf.set_readonly(made, True)
    return made


def _numpy_number(name: str) -> Callable[[Any], Any]:
    def make(plain: Any) -> Any:
        kind = np.dtype(name)
        if kind.kind not in "biufc":
            raise ValueError(f"the numpy dtype {name!r} is not one of numbers")
        return kind.type(plain)

    return make


# ------------------------------------------------------------ classes of the user's


def _member(cls: type[enum.Enum], plain: Any, name: str) -> enum.Enum:
    """The member of this value; by its name where its value is another now."""
    named = cls.__members__.get(name)
    valued = member_of_value(cls, plain)
    if valued is not None and (named is None or named is valued):
        return valued
    if named is None:
        raise CannotBuild(f"{_shown(plain)}, which is no {cls.__qualname__} (it has: {', '.join(cls.__members__)})")
    if valued is not None:
        raise CannotBuild(
            f"{_shown(plain)}, which was {cls.__qualname__}.{name} and is {cls.__qualname__}.{valued.name} now"
        )
    return named


def member_of_value(cls: type[enum.Enum], plain: Any) -> enum.Enum | None:
    """The member whose value has this plain form; of a Flag, too, what is put together of members."""
    for member in cls.__members__.values():
        if same_plain(encode(member.value)[0], plain):
            return member
    if issubclass(cls, enum.Flag) and type(plain) is int:
        return cls(plain)
    return None


def _dataclass(cls: type, content: dict[str, Any], is_changed: bool) -> Any:
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    unknown = [name for name in content if name not in known]
    if unknown:
        raise CannotBuild(f"a {cls.__qualname__} with {unknown[0]!r}, which is no field of it now ({', '.join(known)})")
    made = cls(**content)
    after = fields_of(made)
    changed = [name for name, value in content.items() if not is_changed and not same(after[name], value)]
    if changed:
        name = changed[0]
        raise CannotBuild(
            f"a {cls.__qualname__} whose {name} is {_shown(content[name])}; built again, {name} is "
            f"{_shown(after[name])}"
        )
    return made


def _tuple(cls: type[tuple[Any, ...]], content: Any, _: str) -> Any:
    make: Any = cls
    return make(*content) if hasattr(cls, "_fields") else make(content)


def _of_one(cls: Any, content: Any, _: str) -> Any:
    return cls(content)


_MAKERS: tuple[tuple[Any, Callable[[Any, Any, str], Any]], ...] = (
    (enum.Enum, _member), (tuple, _tuple),
    ((Namespace, SimpleNamespace), lambda cls, content, _: _namespace(cls)(content)),
    ((int, float, complex, str, bytes, list, set, frozenset, Mapping, os.PathLike), _of_one),
)  # fmt: skip
