"""The names of a package whose files are imported when somebody first asks for one."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder


def attach(package: str, places: Mapping[str, str], modules: Collection[str] = ()) -> None:
    """Give a package the `__getattr__` that finds these names, and the `__dir__` that lists its `__all__`.

    A package that writes its own is one in which a type checker takes every name for one that is there.

    places: by name the file that holds it, in full where it is another room's, `file:other` where it is called
    otherwise there. modules: files that are themselves names.
    """
    space = vars(sys.modules[package])

    def find(name: str) -> object:
        if name in modules:
            value: object = import_module(f"{package}.{name}")
        elif name in places:
            file, _, other = places[name].partition(":")
            value = getattr(import_module(file if file.startswith("lightkit.") else f"{package}.{file}"), other or name)
        else:
            # `from package import file` asks for the name first, and imports the file where nobody has it
            is_file = PathFinder.find_spec(f"{package}.{name}", space.get("__path__", ())) is not None
            if not (is_file or name.startswith("_")):
                from lightkit.foreign_names import refuse_name

                refuse_name(package, name)
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        space[name] = value
        return value

    space.update(__getattr__=find, __dir__=lambda: sorted(space["__all__"]))


class _Foreign:
    """A finder that is asked after all others: says what to write instead of a file that only Lightning has."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.startswith("lightkit."):
            from lightkit.foreign_names import refuse_module

            refuse_module(name)
        return None


def answer_imports() -> None:
    """From now on, `import lightkit.x` of a file that only Lightning has says what to write."""
    if _Foreign not in sys.meta_path:
        sys.meta_path.append(_Foreign)
