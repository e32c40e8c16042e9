"""The names of a package whose files are imported when somebody first asks for one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module


def attach(
    package: str, places: Mapping[str, str], modules: Collection[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package.

    To be assigned under `if not TYPE_CHECKING:`, or a checker takes every name for one that is there.

    places: by name the file that holds it, `file:other` where it is called otherwise there. modules: files that are
    themselves names.
    """

    def __getattr__(name: str) -> object:
        if name in modules:
            value: object = import_module(f"{package}.{name}")
        elif name in places:
            file, _, other = places[name].partition(":")
            value = getattr(import_module(f"{package}.{file}"), other or name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted(sys.modules[package].__all__)

    return __getattr__, __dir__
