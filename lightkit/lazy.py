"""The names of a package whose files are imported when somebody first asks for one."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from importlib import import_module


def attach(package: str, places: Mapping[str, str], modules: Collection[str] = ()) -> None:
    """Give a package the `__getattr__` that finds these names, and the `__dir__` that lists its `__all__`.

    A package that writes its own is one in which a type checker takes every name for one that is there.

    places: by name the file that holds it, `file:other` where it is called otherwise there. modules: files that are
    themselves names.
    """
    space = vars(sys.modules[package])

    def find(name: str) -> object:
        if name in modules:
            value: object = import_module(f"{package}.{name}")
        elif name in places:
            file, _, other = places[name].partition(":")
            value = getattr(import_module(f"{package}.{file}"), other or name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        space[name] = value
        return value

    space.update(__getattr__=find, __dir__=lambda: sorted(space["__all__"]))
