"""Write down the public names of Lightning's package: run it with a Python that has Lightning.

/path/to/side/environment/bin/python benchmarks/names/collect.py

Public are, of every module whose path has no underscore: its `__all__`; where it has none, the classes and functions
that it defines, and in packages and in `utilities` the names of Lightning's family that it takes from elsewhere and the
type aliases. What is written are facts: paths, kinds, names of parameters, defaults, names of base classes.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
import types
import typing
import warnings
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from benchmarks.names.signatures import facts_of, members_of  # noqa: E402

PACKAGE = "lightning.pytorch"
FILE = Path(__file__).with_name("lightning.json")
# whose methods and attributes user code calls and overrides
MEMBERS = ("Callback", "LightningDataModule", "LightningModule", "Trainer")
# where `utilities` is a facade: names that user code imports from there, made elsewhere
FACADES = ("rank_zero", "exceptions", "types", "enums", "warnings", "seed")


def public_names(name: str, module: types.ModuleType) -> list[str]:
    """What is public in a module."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(n for n in listed if not n.startswith("_"))
    found = []
    is_package = hasattr(module, "__path__")
    is_facade = is_package or (name.rpartition(".")[2] in FACADES and ".utilities" in name)
    for key, value in vars(module).items():
        if key.startswith("_") or inspect.ismodule(value):
            continue
        home = getattr(value, "__module__", "")
        is_kind = inspect.isclass(value) or inspect.isfunction(value)
        is_own = is_kind and home == name
        is_family = is_facade and is_kind and home.startswith(("lightning", PACKAGE))
        is_alias = is_facade and key.isupper() or (is_facade and name.endswith("types") and typing.get_origin(value))
        if is_own or is_family or is_alias:
            found.append(key)
    return sorted(set(found))


def collect() -> dict[str, Any]:
    """By module, from `lightning.pytorch` on, the facts of each public name."""
    package = importlib.import_module(PACKAGE)
    found: dict[str, Any] = {}
    names = [PACKAGE, *(info.name for info in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."))]
    for name in names:
        if any(part.startswith("_") for part in name.split(".")):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            print(f"left out {name}: {error}")
            continue
        facts = {}
        for key in public_names(name, module):
            facts[key] = facts_of(getattr(module, key), "lightning")
            if key in MEMBERS:
                facts[key]["members"] = members_of(getattr(module, key), "lightning")
        if facts:
            found[name.removeprefix(PACKAGE).lstrip(".")] = facts
    return {"version": package.__version__, "modules": found}


def text_of(found: dict[str, Any]) -> str:
    """As JSON, one line a name."""
    rooms = []
    for module, names in sorted(found["modules"].items()):
        each = (f"  {json.dumps(name)}: {json.dumps(facts, sort_keys=True)}" for name, facts in names.items())
        lines = ",\n".join(each)
        rooms.append(f" {json.dumps(module)}: {{\n{lines}\n }}")
    modules = ",\n".join(rooms)
    return f'{{"version": {json.dumps(found["version"])}, "modules": {{\n{modules}\n}}}}\n'


def main() -> None:
    """Write the list."""
    warnings.simplefilter("ignore")
    found = collect()
    FILE.write_text(text_of(found), encoding="utf-8")
    count = sum(map(len, found["modules"].values()))
    print(f"{count} names in {len(found['modules'])} modules of {PACKAGE} {found['version']}")


if __name__ == "__main__":
    main()
