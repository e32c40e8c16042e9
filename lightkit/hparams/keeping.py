"""`save_hyperparameters`: the arguments an object was built with, safe to load, printable.

The module and the data module keep what `collect` returns. It goes to the loggers and into every checkpoint
(`stored`); `load_from_checkpoint` builds the object from it again (`lightkit.hparams.loading`).
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import warnings
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import FrameType, SimpleNamespace
from typing import Any

from lightkit.errors import ConfigError, did_you_mean
from lightkit.hparams.kinds import Note, encode, fields_of, name_of, same, take_apart
from lightkit.hparams.values import AttributeDict, Hyperparameters, of

_BY_NAME = "kwargs"  # Lightning's word for arguments that were saved one by one


def collect(
    obj: object, args: tuple[object, ...], ignore: Sequence[str] | str | None = None, frame: FrameType | None = None,
    logger: bool = True,
) -> Hyperparameters:  # fmt: skip
    """Return what `obj` is to keep of the arguments that it is being built with, as Lightning does.

    Without `args` all arguments of its `__init__`, subclasses' included; with names those; with one dict,
    Namespace or dataclass its entries. `ignore` leaves names out, those of earlier calls too; `frame` is the
    caller's; `logger=False` keeps them from the loggers. A later call adds to the earlier ones.
    Only plain values are saved: numbers, strings, None, paths, enums, dtypes, devices, tensors and arrays of at most
    1000 numbers, and lists, tuples, sets, dicts, Namespaces and dataclasses of them; one warning names the rest, which
    is in `hparams` alone.
    Raises ConfigError for a name that is no argument, and for an object that holds no names.
    """
    before = of(obj)
    if len(args) == 1 and not args[0] and not isinstance(args[0], (str, Mapping)):
        return before  # None: nothing to keep
    ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
    given, name = _given(obj, args, frame)
    kept, refused = _only_plain({key: value for key, value in given.items() if key not in ignored})
    earlier = {key: value for key, value in before.values.items() if key not in ignored}
    left_out = {key: kind for key, kind in before.left_out.items() if key not in ignored and key not in kept}
    left_out |= {key: kind for key, kind in refused.items() if not _is_default(obj, args, key, given[key])}
    live = {key: value for key, value in before.live.items() if earlier.get(key) is value and key not in kept}
    live |= {key: given[key] for key in refused}
    values = AttributeDict({**earlier, **kept, **live})
    plain = AttributeDict({key: value for key, value in values.items() if key not in live})
    kind, entries = "", tuple[str, ...]()
    if len(args) == 1 and not isinstance(args[0], str):
        kind, entries = (_kind_of_one(args[0]), tuple(kept)) if name else ("", ())
        left_out |= {name: name_of(type(args[0]))} if name and not kind else {}
        if before.argument and before.kind and before.argument not in (name, *values):  # of two the last is made again
            left_out[before.argument] = before.kind.partition(":")[0]
    elif before.kind and before.argument not in values:  # names after an object: it is still needed
        name, kind, entries = before.argument, before.kind, before.entries
    initial = AttributeDict({**copy.deepcopy(plain), **live})
    # under these names libraries on top of Lightning's modules take some away again
    vars(obj).update(_hparams=values, _hparams_initial=initial)
    return Hyperparameters(values, initial, name, logger, kind, entries, left_out, live)


def stored(kept: Hyperparameters, prefix: str = "") -> dict[str, Any]:
    """What a checkpoint gets of them: plain values, and apart from them what those have lost.

    `hyper_parameters` and `hparams_name` are Lightning's; `hparams_type` is the kind of the one object that they came
    in, `hparams_kinds` the notes of their kinds, `hparams_entries` which of them came in it where not all did,
    `hparams_left_out` what has no plain form. What is as it is by default is not written. prefix: of the keys. Where
    a value put in later has no plain form it is left to the writer, which says so.
    """
    plain: dict[str, Any] = {}
    notes: dict[str, Note] = {}
    for name, value in kept.values.items():
        if name in kept.live and value is kept.live[name]:
            continue
        try:
            plain[name], note = encode(value)
        except (TypeError, RecursionError):
            plain[name], note = value, None
        if note is not None:
            notes[name] = note
    is_one = kept.kind != ""
    found: dict[str, Any] = {"hyper_parameters": plain} if plain or is_one else {}
    if notes:
        found["hparams_kinds"] = notes
    if is_one:
        found |= {"hparams_name": kept.argument, "hparams_type": kept.kind}
        if any(name not in kept.entries for name in plain):
            found["hparams_entries"] = list(kept.entries)
    if kept.left_out:
        found["hparams_left_out"] = dict(kept.left_out)
    return {prefix + key: value for key, value in found.items()}


def leave_out_added(checkpoint: dict[str, Any], known: Collection[str]) -> None:
    """Of hyperparameters that hooks have added to a checkpoint, those without a plain form; a warning names them.

    known: those that were there before.
    """
    found = checkpoint.get("hyper_parameters")
    if not isinstance(found, dict):
        return
    for name in [name for name in found if name not in known]:
        try:
            found[name], note = encode(found[name])
        except (TypeError, RecursionError):
            kind, note = name_of(type(found.pop(name))), None
            checkpoint.setdefault("hparams_left_out", {})[name] = kind
            warnings.warn(
                f"on_save_checkpoint: left out hyperparameter {name!r} ({kind}): only plain values are saved, so that "
                "loading a checkpoint never runs code; give it to load_from_checkpoint() again",
                stacklevel=2,
            )
        if note is not None:
            checkpoint.setdefault("hparams_kinds", {})[name] = note


def _kind_of_one(value: object) -> str:
    """The kind of the object that the hyperparameters came in; "" where its entries alone do not make it again."""
    try:
        return take_apart(value)[0] or name_of(type(value))
    except TypeError:
        return ""


def _given(obj: object, args: tuple[object, ...], frame: FrameType | None) -> tuple[dict[str, object], str | None]:
    """Return what the call asks to keep, and the name of the argument it came in (`hparams_name`)."""
    if len(args) == 1 and not isinstance(args[0], str):
        return _entries(args[0]), _name_of(obj, args[0], frame)
    arguments = _init_arguments(obj, frame)
    if not args:
        return arguments, _BY_NAME if arguments else None
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
    return chosen, _BY_NAME


def _entries(hparams: object) -> dict[str, Any]:
    if isinstance(hparams, Mapping):
        if type(hparams).__module__.startswith("omegaconf."):  # one that is missing has no value to be read
            return {key: hparams[key] if key in hparams else "???" for key in hparams}
        return {key: hparams[key] for key in hparams}
    if dataclasses.is_dataclass(hparams) and not isinstance(hparams, type):
        return fields_of(hparams)
    if isinstance(hparams, (Namespace, SimpleNamespace)):
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
    """The argument that a value came in: the outermost `__init__`'s, which is the one that builds the object again."""
    calls = [named for named, _ in reversed(list(_init_calls(obj, frame)))]
    found = [name for named in calls for name, given in named.items() if given is value]
    if not found and _entries(value):  # a copy of it
        found = [name for named in calls for name, given in named.items() if same(given, value)]
    return found[0] if found else None


def _is_default(obj: object, args: tuple[object, ...], name: str, value: object) -> bool:
    """Whether an argument, or a field of the one object, is what it is where nobody gives it."""
    if len(args) == 1 and dataclasses.is_dataclass(args[0]):
        return any(field.default is value for field in dataclasses.fields(args[0]) if field.name == name)
    inits = [vars(cls)["__init__"] for cls in type(obj).__mro__[:-1] if "__init__" in vars(cls)]
    found = [inspect.signature(init).parameters.get(name) for init in inits]
    return any(parameter is not None and parameter.default is value for parameter in found)


def _only_plain(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Copies of what has a plain form, and the kinds of what has none."""
    kept: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name, value in given.items():
        try:
            if encode(name)[1] is not None:
                raise TypeError("a name that is not plain")
            encode(value)
            kept[name] = copy.deepcopy(value)
        except (TypeError, RecursionError):
            refused[name] = name_of(type(value))
    if refused:
        listed = ", ".join(f"{name!r} ({kind})" for name, kind in refused.items())
        warnings.warn(
            f"save_hyperparameters(): left out {listed}: only plain values are saved, so that loading a "
            "checkpoint never runs code; give them to load_from_checkpoint() again, and write "
            f"save_hyperparameters(ignore={list(refused)}) to say that you know",
            stacklevel=4,
        )
    return kept, refused
