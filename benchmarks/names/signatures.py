"""What a public name is, in facts that can be written down and compared: kind, parameters, bases, members."""

from __future__ import annotations

import enum
import inspect
from typing import Any

# Kinds of parameters: given by place or name, by name alone, `*args`, `**kwargs`.
PLACE, NAME, REST, NAMED = "place", "name", "*", "**"
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: PLACE, inspect.Parameter.POSITIONAL_OR_KEYWORD: PLACE,
    inspect.Parameter.KEYWORD_ONLY: NAME, inspect.Parameter.VAR_POSITIONAL: REST,
    inspect.Parameter.VAR_KEYWORD: NAMED,
}  # fmt: skip
NO_DEFAULT = "-"


def default_of(value: object) -> str:
    """A default as it is compared: what has no plain form by its name or kind."""
    if value is inspect.Parameter.empty:
        return NO_DEFAULT
    if isinstance(value, enum.Enum):
        return repr(value.value)
    if isinstance(value, (str, int, float, bool, type(None), tuple, list, dict, frozenset)):
        return repr(value)
    return getattr(value, "__qualname__", type(value).__name__)


def parameters_of(value: Any) -> list[list[str]] | None:
    """[name, kind, default] of each, without `self`; None where Python cannot say."""
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, _KINDS[p.kind], default_of(p.default)] for p in found]


def bases_of(value: type, package: str) -> list[str]:
    """Its ancestors: the names of public ones of the package, the full names of those of others; `object` is none."""
    found = []
    for base in value.__mro__[1:]:
        if base is object or base.__name__.startswith("_") or base.__module__ in ("typing", "abc"):
            continue
        is_ours = base.__module__.startswith(package)
        found.append(base.__name__ if is_ours else f"{base.__module__.split('.')[0]}.{base.__name__}")
    return found


def members_of(value: type, package: str) -> list[str]:
    """Public methods and attributes that the class, or an ancestor of the package, has."""
    found: set[str] = set()
    for base in value.__mro__:
        if base.__module__.startswith(package):
            found |= {name for name in vars(base) if not name.startswith("_")}
    return sorted(found)


def facts_of(value: Any, package: str) -> dict[str, Any]:
    """All of it; package: whose bases go by their name alone."""
    if value is Any:
        return {"kind": "value"}
    if inspect.isclass(value):
        return {"kind": "class", "parameters": parameters_of(value), "bases": bases_of(value, package)}
    if inspect.isroutine(value):
        return {"kind": "function", "parameters": parameters_of(value)}
    return {"kind": "value"}
