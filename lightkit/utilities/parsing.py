"""Hyperparameters and arguments of constructors, for code that handles them itself."""

from __future__ import annotations

import inspect
import pickle
import sys
from argparse import Namespace
from collections.abc import MutableMapping, Sequence
from types import FrameType
from typing import Any

from lightkit.errors import ConfigError
from lightkit.hparams import AttributeDict, collect
from lightkit.utilities.rank_zero import rank_zero_warn

__all__ = [
    "AttributeDict", "clean_namespace", "collect_init_args", "get_init_args", "is_picklable", "lightning_getattr",
    "lightning_hasattr", "lightning_setattr", "parse_class_init_keys", "save_hyperparameters",
]  # fmt: skip


def is_picklable(obj: object) -> bool:
    """Whether it can be pickled."""
    try:
        pickle.dumps(obj)
    except Exception:  # each class has its own for what it cannot
        return False
    return True


def clean_namespace(hparams: MutableMapping[str, Any] | Namespace) -> None:
    """Take out, in place, what cannot be pickled; warns of each."""
    entries: MutableMapping[str, Any] = vars(hparams) if isinstance(hparams, Namespace) else hparams
    for name in [name for name, value in entries.items() if not is_picklable(value)]:
        rank_zero_warn(f"attribute {name!r} is taken out of the hyperparameters: it cannot be pickled")
        del entries[name]


def parse_class_init_keys(cls: type) -> tuple[str, str | None, str | None]:
    """The names that a constructor has for itself, its `*args` and its `**kwargs`; None where it has none."""
    found = list(inspect.signature(cls.__init__).parameters.values())  # type: ignore[misc]
    rest = next((p.name for p in found if p.kind is p.VAR_POSITIONAL), None)
    named = next((p.name for p in found if p.kind is p.VAR_KEYWORD), None)
    return found[0].name, rest, named


def get_init_args(frame: FrameType) -> dict[str, Any]:
    """The arguments of the `__init__` that runs in this frame."""
    return _arguments(frame)[1]


def _arguments(frame: FrameType) -> tuple[object, dict[str, Any]]:
    names, _, keywords, values = inspect.getargvalues(frame)
    if frame.f_code.co_name != "__init__" or not names:
        return None, {}
    given = {name: values[name] for name in names[1:] if name in values}
    return values.get(names[0]), {**given, **values.get(keywords or "", {})}


def collect_init_args(
    frame: FrameType, path_args: list[dict[str, Any]], inside: bool = False, classes: tuple[type, ...] = ()
) -> list[dict[str, Any]]:
    """The arguments of each running `__init__` from this frame outwards, after those in `path_args`.

    classes: only of objects of these classes. inside: a constructor was found already, so the first other frame ends.
    """
    found, outer = list(path_args), frame
    while outer is not None:
        obj, arguments = _arguments(outer)
        if obj is not None and (not classes or isinstance(obj, classes)):
            found, inside = [*found, arguments], True
        elif inside:
            break
        if outer.f_back is None:
            break
        outer = outer.f_back
    return found


def save_hyperparameters(
    obj: Any, *args: Any, ignore: Sequence[str] | str | None = None, frame: FrameType | None = None,
    given_hparams: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """As `obj.save_hyperparameters(...)`; given_hparams: these instead of the arguments of its `__init__`."""
    chosen = args if given_hparams is None else (given_hparams,)
    vars(obj)["_hyperparameters"] = collect(obj, chosen, ignore, frame or sys._getframe(1))


# ------------------------------------------------------------ attributes of a module, its hyperparameters or data


def _holders(model: Any, attribute: str) -> list[Any]:
    """Who has it: the module, its hyperparameters, the trainer's data module and that one's, in this order."""
    found = []
    trainer = getattr(model, "_trainer", None)
    datamodule = None if trainer is None else getattr(trainer, "datamodule", None)
    for part in (model, datamodule):
        if part is None:
            continue
        if hasattr(part, attribute):
            found.append(part)
        hparams = getattr(part, "hparams", None)
        if hparams is not None and (attribute in hparams if isinstance(hparams, dict) else hasattr(hparams, attribute)):
            found.append(hparams)
    return found


def lightning_hasattr(model: Any, attribute: str) -> bool:
    """Whether the module, its hyperparameters or its data module has the attribute."""
    return bool(_holders(model, attribute))


def lightning_getattr(model: Any, attribute: str) -> Any:
    """The attribute of whoever has it, the last of `lightning_hasattr`'s; raises ConfigError where nobody does."""
    holders = _needed(model, attribute)
    holder = holders[-1]
    return holder[attribute] if isinstance(holder, dict) else getattr(holder, attribute)


def lightning_setattr(model: Any, attribute: str, value: Any) -> None:
    """Set it on everyone who has it; raises ConfigError where nobody does."""
    for holder in _needed(model, attribute):
        if isinstance(holder, dict):
            holder[attribute] = value
        else:
            setattr(holder, attribute, value)


def _needed(model: Any, attribute: str) -> list[Any]:
    if not (holders := _holders(model, attribute)):
        raise ConfigError(
            f"{type(model).__name__} has no {attribute!r}, neither itself nor in its hyperparameters or data module"
        )
    return holders
