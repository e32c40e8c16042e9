"""The arguments that `load_from_checkpoint` builds an object with: those saved, made again, and those given."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lightkit.errors import CheckpointError, ConfigError, did_you_mean
from lightkit.hparams import expected
from lightkit.hparams.building import Builder, CannotBuild
from lightkit.hparams.kinds import Note, encode, name_of, parts_of, same_plain
from lightkit.hparams.suiting import suit
from lightkit.hparams.values import AttributeDict

KEY = "hyper_parameters"
RECORDS_KINDS = 2  # the first `lightkit_format` in which a checkpoint says of which kind its hyperparameters are


@dataclass(frozen=True)
class Saved:
    """What a checkpoint, or a file of hyperparameters, says about the arguments of one object.

    has_lost_kinds: an enum is its value in it, a path a string. is_text: so are dtypes and tuples.
    """

    values: Mapping[Any, Any]
    notes: Mapping[Any, Note] = field(default_factory=dict)
    name: str | None = None
    kind: str | None = None
    entries: list[Any] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    has_lost_kinds: bool = False
    is_text: bool = False


def read(checkpoint: Mapping[str, Any], key: str = KEY, hparams_file: str | Path | None = None) -> Saved:
    """What is saved under `key`, or stands in a file of hyperparameters instead."""
    prefix = key.removesuffix(KEY)
    name, entries = checkpoint.get(f"{prefix}hparams_name"), checkpoint.get(f"{prefix}hparams_entries")
    found = checkpoint.get(f"{prefix}hparams_type")
    kind = found if isinstance(found, str) else None  # Lightning's is a class, where it is one of OmegaConf's
    left_out = checkpoint.get(f"{prefix}hparams_left_out", {})
    if hparams_file is not None:
        from lightkit.hparams.text import read_file

        values = read_file(hparams_file, may_be_missing=True)
        return Saved(values, {}, name, kind, entries, left_out, has_lost_kinds=True, is_text=True)
    made = checkpoint.get("lightkit_format")
    is_before = made is not None and made < RECORDS_KINDS
    notes = checkpoint.get(f"{prefix}hparams_kinds", {})
    return Saved(checkpoint.get(key) or {}, notes, name, kind, entries, left_out, has_lost_kinds=is_before)


def load_kwargs(
    cls: type, checkpoint: Mapping[str, Any], overrides: Mapping[str, Any], key: str = KEY,
    hparams_file: str | Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the arguments to build `cls` with: those saved in the checkpoint, `overrides` winning.

    Saved ones that `cls.__init__` does not take are left out, unless it takes `**kwargs`. Where one dict,
    Namespace or dataclass was saved (`save_hyperparameters(conf)`), it is given to the argument of that name, with
    the overrides in it. Values get back the kind that they had: a class of the user's is found where the constructor
    names it, never imported. `key` is where the checkpoint holds them; a `hparams_file` takes their place.
    Raises CheckpointError where a required argument is neither saved nor given, or a value cannot be made again;
    ConfigError for an override that is no argument.
    """
    saved = read(checkpoint, key, hparams_file)
    named, takes_any = parameters_of(cls)
    arguments = Arguments(cls, saved)
    if arguments.one is not None:
        kwargs = _with_one_object(arguments, overrides)
    else:
        unknown = [name for name in overrides if name not in named and not takes_any]
        if unknown:
            raise _no_argument(cls, unknown[0], named)
        kwargs = arguments.build_each(saved.values, overrides)
    missing = [name for name, p in named.items() if p.default is p.empty and name not in kwargs]
    if missing:
        example = ", ".join(f"{name}=..." for name in missing)
        raise CheckpointError(
            f"{cls.__name__}.load_from_checkpoint(...): arguments that {cls.__name__}.__init__ requires "
            f"are neither saved in the checkpoint nor given: {', '.join(map(repr, missing))}; call "
            f"load_from_checkpoint(path, {example}), or self.save_hyperparameters() in __init__ before "
            "training"
        )
    _refuse_defaults(arguments, named, kwargs, overrides)
    if saved.values and named and not kwargs and not takes_any:
        warnings.warn(
            f"{cls.__name__}.load_from_checkpoint(...): {cls.__name__}.__init__ takes none of the saved "
            f"hyperparameters ({', '.join(map(repr, saved.values))}), so that its defaults are used; give what it "
            f"takes, load_from_checkpoint(path, {next(iter(named))}=...)",
            stacklevel=3,
        )
    return kwargs


def _refuse_defaults(
    arguments: Arguments, named: Mapping[str, Any], kwargs: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """Raises CheckpointError where something that was not saved would be its default, and another model be built."""
    saved, one = arguments.saved, arguments.one
    is_one_built = one is not None and one not in overrides
    for name, kind in saved.left_out.items():
        is_entry = is_one_built and name not in named and name not in overrides
        if is_entry or (name in named and name not in kwargs):
            raise CheckpointError(
                f"{arguments.cls.__name__}.load_from_checkpoint(...): {name!r}, a {kind}, was not saved as it is, and "
                "its default would build another one: give it, "
                f"load_from_checkpoint(path, {name}=...), or leave it out when saving, "
                f"save_hyperparameters(ignore=[{name!r}])"
            )


def refuse_code(weights_only: bool | None, where: str = "load_from_checkpoint") -> None:
    """Raises ConfigError where somebody asks for the code in a checkpoint, as Lightning's argument would."""
    if weights_only is False:
        raise ConfigError(f"{where}(weights_only=False): loading never executes code from a checkpoint; leave it out")


def parameters_of(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """The arguments that a class is built with, by name, and whether it takes any further ones."""
    parameters = dict(list(inspect.signature(cls.__init__).parameters.items())[1:])  # type: ignore[misc]
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return named, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _no_argument(cls: type, name: str, named: Mapping[str, Any]) -> ConfigError:
    return ConfigError(
        f"{cls.__name__}.load_from_checkpoint({name}=...): {cls.__name__}.__init__ has no such "
        f"argument (it has: {', '.join(map(repr, named)) or 'none'}){did_you_mean(name, named)}"
    )


def _with_one_object(arguments: Arguments, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments where one object was saved: that one, and what was saved beside it."""
    one, (named, takes_any) = arguments.one, parameters_of(arguments.cls)
    assert one is not None
    fields = [] if one in overrides else arguments.fields_of_one()
    known = None if fields is None or takes_any else [*named, *fields]
    unknown = [name for name in overrides if known is not None and name not in known]
    if unknown:
        raise _no_argument(arguments.cls, unknown[0], dict.fromkeys(known or ()))
    kwargs = arguments.build_each(arguments.beside, overrides)
    if one not in overrides:
        entries = arguments.entries()
        changes = {
            name: value for name, value in overrides.items()
            if name in entries or (name not in named if fields is None else name in fields)
        }  # fmt: skip
        kwargs[one] = arguments.build_one(changes)
        kwargs = {name: value for name, value in kwargs.items() if name in named or name not in changes}
    return kwargs


@dataclass(frozen=True)
class Arguments:
    """The arguments of one class, built from what was saved.

    who, give: how an error begins, and how an argument is given otherwise (`{}` is its name).
    """

    cls: type
    saved: Saved
    who: str = ""
    give: str = "load_from_checkpoint(path, {}=...)"

    @cached_property
    def one(self) -> str | None:
        """The argument that was saved by its entries, `save_hyperparameters(conf)`."""
        name = self.saved.name
        return name if name in parameters_of(self.cls)[0] and name not in self.saved.values else None

    @cached_property
    def beside(self) -> list[Any]:
        """The names of those that were saved by themselves; some may be none that the class takes."""
        entries = self.entries() if self.one is not None else {}
        return [name for name in self.saved.values if name not in entries]

    def names(self) -> list[str]:
        """The arguments of the class that are saved."""
        named, takes_any = parameters_of(self.cls)
        found = [name for name in self.beside if isinstance(name, str) and (takes_any or name in named)]
        return found if self.one is None else [self.one, *found]

    def build_each(self, names: Iterable[Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Those that were saved by themselves and are taken, and the overrides."""
        wanted = [name for name in self.names() if name in names and name not in overrides]
        return {name: self.build(name) for name in wanted} | dict(overrides)

    def build(self, name: str) -> Any:
        """One of `names()`."""
        if name == self.one:
            return self.build_one({})
        value, note = self.saved.values[name], self.saved.notes.get(name)
        hints = expected.hints_of(self.cls, name)
        if self.saved.has_lost_kinds:
            return self._try(name, lambda: suit(value, hints, is_text=self.saved.is_text))
        return value if note is None else self._try(name, lambda: self._builder(hints).build(value, note))

    def build_one(self, changes: Mapping[str, Any]) -> Any:
        """The one object that was saved by its entries, some of them changed."""
        saved, name = self.saved, self.one
        assert name is not None
        values: dict[Any, Any] = self.entries()
        notes = {entry: saved.notes[entry] for entry in values if entry in saved.notes}
        hints = expected.hints_of(self.cls, name)
        if saved.has_lost_kinds or saved.kind is None:
            values = AttributeDict({**values, **changes})
            made = self._try(name, lambda: suit(values, hints, is_text=saved.is_text))
            if made is not values or saved.kind is None:
                return made
        return self._try(name, lambda: self._builder(hints).build(values, [saved.kind, notes], changes))

    def is_stored_as(self, name: str, value: Any) -> bool:
        """Whether a value would be stored as one of `names()` is: nothing is built to know that it is the same."""
        try:
            plain, note = encode(value)
        except (TypeError, RecursionError):
            return False
        saved = self.saved
        if name != self.one:
            return note == saved.notes.get(name) and same_plain(plain, saved.values[name])
        kind, notes, _ = parts_of(note)
        entries = self.entries()
        known = {entry: saved.notes[entry] for entry in entries if entry in saved.notes}
        return (kind or name_of(dict), notes) == (saved.kind, known) and same_plain(plain, entries)

    def fields_of_one(self) -> list[str] | None:
        """The names that the one object takes; None where it takes any."""
        assert self.saved.name is not None
        for cls in expected.classes_in(expected.hints_of(self.cls, self.saved.name)):
            if hasattr(cls, "__dataclass_fields__") and f".{self.saved.kind}".endswith(f".{cls.__qualname__}"):
                return [name for name, field in cls.__dataclass_fields__.items() if field.init]
        return None

    def entries(self) -> dict[Any, Any]:
        """What came in the one object; of a text file, which may have more in it, what a dataclass has as fields."""
        saved, fields = self.saved, self.fields_of_one()
        return {
            name: value for name, value in saved.values.items()
            if (saved.entries is None or name in saved.entries) and (not saved.is_text or not fields or name in fields)
        }  # fmt: skip

    def _builder(self, hints: list[object]) -> Builder:
        """With what this argument's hints name; then what the other arguments' do."""
        named, _ = parameters_of(self.cls)
        others = [hint for name in named for hint in expected.hints_of(self.cls, name)]
        return Builder(expected.classes_in(hints), expected.classes_in(others))

    def _try(self, name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except CannotBuild as error:
            problem = error
        except (TypeError, ValueError, KeyError, RecursionError) as error:  # a note that does not belong to its value
            problem = CannotBuild(f"what it cannot be made of again ({type(error).__name__}: {error})")
            problem.__cause__ = error
        who = self.who or f"{self.cls.__name__}.load_from_checkpoint(...)"
        place = ".".join(map(str, (name, *problem.place)))
        advice = f"give it, {self.give.format(name)}"
        if problem.needs_class:
            advice = (
                f"no class is imported because a file names it: annotate the argument {name!r} of "
                f"{self.cls.__name__}.__init__ with its class, or {advice}"
            )
        raise CheckpointError(f"{who}: {place!r} was saved as {problem.problem}; {advice}") from problem.__cause__
