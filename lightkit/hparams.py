"""`save_hyperparameters`: the arguments an object was built with, kept plain, safe to load, printable.

The module and the data module keep what `collect` returns. It goes to the loggers and, as "hyper_parameters",
into every checkpoint; `load_from_checkpoint` builds the object from it again (`load_kwargs`).
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import os
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import torch

from lightkit.errors import CheckpointError, ConfigError, did_you_mean


class AttributeDict(dict[str, Any]):
    """A dict whose items are attributes too: `hparams.lr` is `hparams["lr"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            hint = "" if name.startswith("__") else did_you_mean(name, map(str, self))
            raise AttributeError(f"no hyperparameter {name!r}{hint}", name=name, obj=self) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"no hyperparameter {name!r}")
        del self[name]

    def __str__(self) -> str:
        """Return one line a value, aligned."""
        width = max((len(str(key)) for key in self), default=0)
        return "\n".join(f"{key!s:<{width}}  {value}" for key, value in self.items())


@dataclass(frozen=True)
class Hyperparameters:
    """What one object keeps, in its attribute `_hyperparameters`.

    initial: a copy, as they were when they were saved. argument: the one that they came in, see `load_kwargs`.
    """

    values: AttributeDict = field(default_factory=AttributeDict)
    initial: AttributeDict = field(default_factory=AttributeDict)
    argument: str | None = None
    is_logged: bool = False


def of(obj: object) -> Hyperparameters:
    """What the object keeps; nothing where it has saved none."""
    found = vars(obj).get("_hyperparameters")
    return found if isinstance(found, Hyperparameters) else Hyperparameters()


def collect(
    obj: object, args: tuple[object, ...], ignore: Sequence[str] | str | None = None, frame: FrameType | None = None,
    logger: bool = True,
) -> Hyperparameters:  # fmt: skip
    """Return what `obj` is to keep of the arguments that it is being built with, as Lightning does.

    Without `args` all arguments of its `__init__`, subclasses' included; with names those; with one dict,
    Namespace or dataclass its entries. `ignore` leaves names out; `frame` is the caller's; `logger=False`
    keeps them from the loggers. A later call adds to the earlier ones.
    Only plain values are kept: numbers, strings, None, paths, enums, dtypes, devices, and lists, tuples,
    sets, dicts and dataclasses of them; one warning names the rest.
    Raises ConfigError for a name that is no argument, and for an object that holds no names.
    """
    if len(args) == 1 and not args[0] and not isinstance(args[0], str) and not dataclasses.is_dataclass(args[0]):
        return of(obj)  # an empty dict or None: nothing to keep
    ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
    given, name = _given(obj, args, frame)
    kept = _only_plain({key: value for key, value in given.items() if key not in ignored})
    values = AttributeDict({**of(obj).values, **kept})
    return Hyperparameters(values, copy.deepcopy(values), name, logger)


def _given(obj: object, args: tuple[object, ...], frame: FrameType | None) -> tuple[dict[str, object], str | None]:
    """Return what the call asks to keep, and the name of the argument it came in (`hparams_name`)."""
    if len(args) == 1 and not isinstance(args[0], str):
        return _entries(args[0]), _name_of(obj, args[0], frame)
    arguments = _init_arguments(obj, frame)
    if not args:
        return arguments, "kwargs" if arguments else None
    chosen: dict[str, object] = {}
    for name in args:
        if not isinstance(name, str):
            raise ConfigError(
                f"save_hyperparameters(...): expected names of arguments or one dict, got a {type(name).__name__}"
            )
        if name not in arguments:
            known = ", ".join(map(repr, arguments)) or "none"
            raise ConfigError(
                f"save_hyperparameters({name!r}): {type(obj).__name__}.__init__ has no such argument (it "
                f"has: {known}){did_you_mean(name, arguments)}"
            )
        chosen[name] = arguments[name]
    return chosen, "kwargs"


def _entries(hparams: object) -> dict[str, object]:
    if isinstance(hparams, Mapping):
        return {str(key): hparams[key] for key in hparams}
    if dataclasses.is_dataclass(hparams) and not isinstance(hparams, type):
        return {field.name: getattr(hparams, field.name) for field in dataclasses.fields(hparams)}
    if isinstance(hparams, Namespace):
        return dict(vars(hparams))
    raise ConfigError(
        f"save_hyperparameters(...): expected names of arguments, a dict, a Namespace or a dataclass, got a "
        f"{type(hparams).__name__}"
    )


def _init_calls(obj: object, frame: FrameType | None) -> Iterator[tuple[dict[str, object], dict[str, object]]]:
    """The arguments by name, and the further keywords, of this object's running `__init__`: a parent class's first."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__init__" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is obj:
            names, _, keywords, values = inspect.getargvalues(frame)
            given = {name: values[name] for name in names[1:] if name in values}  # `del` takes a name away
            yield given, values.get(keywords or "", {})
        frame = frame.f_back


def _init_arguments(obj: object, frame: FrameType | None) -> dict[str, object]:
    if dataclasses.is_dataclass(obj):  # its generated __init__ holds placeholders for default factories
        return _entries(obj)
    arguments: dict[str, object] = {}
    for named, keywords in _init_calls(obj, frame):
        arguments |= named | keywords  # the subclass's value wins: it decided what the parent got
    return arguments


def _name_of(obj: object, value: object, frame: FrameType | None) -> str | None:
    found = (name for named, _ in _init_calls(obj, frame) for name, given in named.items() if given is value)
    return next(found, None)


_NUMBERS = (bool, int, float, complex, np.number, np.bool_)  # not Decimal, Fraction: no checkpoint takes them
_SCALARS = (*_NUMBERS, str, bytes, type(None), os.PathLike, torch.dtype, torch.device)


def _only_plain(given: dict[str, object]) -> dict[str, object]:
    kept: dict[str, object] = {}
    refused: dict[str, str] = {}
    for name, value in given.items():
        try:
            kept[name] = _plain(value)
        except TypeError:
            refused[name] = f"{type(value).__module__}.{type(value).__qualname__}"
    if refused:
        listed = ", ".join(f"{name!r} ({kind})" for name, kind in refused.items())
        warnings.warn(
            f"save_hyperparameters(): left out {listed}: only plain values are saved, so that loading a "
            "checkpoint never runs code; give them to load_from_checkpoint() again, and write "
            f"save_hyperparameters(ignore={list(refused)}) to say that you know",
            stacklevel=4,
        )
    return kept


def _plain(value: object) -> object:
    """Return a copy made of plain values, a dataclass as an AttributeDict, or raise TypeError."""
    if isinstance(value, enum.Enum):
        _plain(value.value)  # that is what the checkpoint will hold
        return value
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        make: Callable[..., object] = type(value)
        return make(*map(_plain, value)) if hasattr(value, "_fields") else tuple(map(_plain, value))
    if isinstance(value, (set, frozenset)):
        return {_plain(item) for item in value}
    if isinstance(value, Mapping):
        entries: dict[Any, object] = {_plain(key): _plain(value[key]) for key in value}
        return AttributeDict(entries) if isinstance(value, AttributeDict) else entries
    if isinstance(value, Namespace) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return AttributeDict({name: _plain(part) for name, part in _entries(value).items()})
    raise TypeError(type(value).__name__)


def load_kwargs(
    cls: type, checkpoint: Mapping[str, Any], overrides: Mapping[str, Any], key: str = "hyper_parameters"
) -> dict[str, Any]:
    """Return the arguments to build `cls` with: those saved in the checkpoint, `overrides` winning.

    Saved ones that `cls.__init__` does not take are left out, unless it takes `**kwargs`. Where one dict was
    saved (`save_hyperparameters(conf)`), it is given to the argument of that name, with the overrides in it.
    `key` is where the checkpoint holds them. Raises CheckpointError where a required argument is neither
    saved nor given, ConfigError for an override that is no argument.
    """
    saved: dict[str, object] = {str(name): value for name, value in (checkpoint.get(key) or {}).items()}
    parameters = dict(list(inspect.signature(cls.__init__).parameters.items())[1:])  # type: ignore[misc]
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    whole = checkpoint.get(key.replace("hyper_parameters", "hparams_name"))  # Lightning's names
    if whole in named and whole not in saved:
        kwargs: dict[str, Any] = {whole: AttributeDict({**saved, **overrides})}
        kwargs |= {name: value for name, value in overrides.items() if name in named}
    else:
        unknown = [name for name in overrides if name not in named and not takes_any]
        if unknown:
            raise ConfigError(
                f"{cls.__name__}.load_from_checkpoint({unknown[0]}=...): {cls.__name__}.__init__ has no such "
                f"argument (it has: {', '.join(map(repr, named)) or 'none'}){did_you_mean(unknown[0], named)}"
            )
        kwargs = {name: value for name, value in saved.items() if takes_any or name in named}
        kwargs |= overrides
    missing = [name for name, p in named.items() if p.default is p.empty and name not in kwargs]
    if missing:
        example = ", ".join(f"{name}=..." for name in missing)
        raise CheckpointError(
            f"{cls.__name__}.load_from_checkpoint(...): arguments that {cls.__name__}.__init__ requires "
            f"are neither saved in the checkpoint nor given: {', '.join(map(repr, missing))}; call "
            f"load_from_checkpoint(path, {example}), or self.save_hyperparameters() in __init__ before "
            "training"
        )
    return kwargs
