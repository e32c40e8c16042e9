"""A shipped config and the recipe files behind it, rewritten so that they run from a folder of one's own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightkit.cli.shipped import PACKAGE, find_config, shipped_configs
from lightkit.errors import ConfigError, RunDirError

_NAME = re.compile(r"\brecipes(?:\.[A-Za-z_]\w*)+")


@dataclass(frozen=True)
class Copy:
    """What is to be written: `config` is the YAML among the files, relative to `folder`."""

    folder: Path
    config: str
    files: dict[str, str]


def plan_copy(name: str, folder: Path) -> Copy:
    """Read a config and every recipe file that it needs, and rewrite their imports; nothing is written.

    The files go into a package called like the config (`vision_digits/`), beside the config (`digits.yaml`).
    Raises ConfigError where there is no such config, or a file would be overwritten.
    """
    path = find_config(name)
    text = path.read_text(encoding="utf-8")
    shipped = {file.resolve(): known for known, file in shipped_configs().items()}
    known = shipped.get(path.resolve(), path.stem + "_recipe")
    package = re.sub(r"\W", "_", known)
    modules = _closure(list(_class_paths(yaml.safe_load(text))), PACKAGE.parent)
    if not modules:
        raise ConfigError(f"config {name!r}: names no class of the recipes; there is nothing but the file to copy")
    places = _places(modules, package)
    config = f"{path.stem}.yaml"
    files = {f"{package}/__init__.py": f'"""A copy of lightkit\'s recipe {known}, to be changed."""\n'}
    for module, source in modules.items():
        files[places[module].replace(".", "/") + ".py"] = _rewritten(source, module, places)
    files[config] = _renamed(text, places).replace(f"lightkit fit {known}", f"lightkit fit {config}")
    return Copy(folder, config, files)


def write_copy(copy: Copy) -> None:
    """Write the files; raises ConfigError where one is there already, and then writes none."""
    if copy.folder.exists() and not copy.folder.is_dir():
        raise ConfigError(f"{copy.folder}: this is a file, give a folder")
    there = [str(copy.folder / name) for name in copy.files if (copy.folder / name).exists()]
    if there:
        shown = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        raise ConfigError(f"{shown}: already there; nothing is overwritten, give another folder")
    try:
        for name, text in copy.files.items():
            path = copy.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunDirError(f"{copy.folder}: cannot be written: {error}") from error


def _class_paths(value: Any) -> Iterator[str]:
    """Every class of the recipes that a config names, at any depth, as a value or, in short, as a key."""
    if isinstance(value, dict | list):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _class_paths(item)
    elif isinstance(value, str) and _NAME.fullmatch(value):
        yield value


def _file_of(module: str, root: Path) -> Path | None:
    """The file of a module, `__init__.py` for a package, or None where there is no such module."""
    path = root.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _module_in(dotted: str, root: Path) -> str | None:
    """The longest beginning of `dotted` that is a module: `recipes.plots.Curves` -> `recipes.plots`."""
    while dotted:
        if _file_of(dotted, root) is not None:
            return dotted
        dotted = dotted.rpartition(".")[0]
    return None


def _closure(names: list[str], root: Path) -> dict[str, str]:
    """Module to source, of all modules of the recipes that the names need, directly or through others."""
    found: dict[str, str] = {}
    todo = list(names)
    while todo:
        module = _module_in(todo.pop(0), root)
        if module is None or module in found or module == "recipes":
            continue
        file = _file_of(module, root)
        assert file is not None
        found[module] = file.read_text(encoding="utf-8")
        todo += [name for _, names in _recipe_imports(found[module], module) for name in names]
    return found


def _recipe_imports(source: str, module: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, list[str]]]:
    """Every import of something of the recipes, with the dotted names that it brings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        names = [name for name in names if name.partition(".")[0] == "recipes"]
        if names:
            yield node, names


def _absolute(node: ast.ImportFrom, module: str) -> str:
    """The module that a `from` names, leading dots resolved."""
    if not node.level:
        return node.module or ""
    is_package = _file_of(module, PACKAGE.parent) == PACKAGE.parent.joinpath(*module.split("."), "__init__.py")
    parents = module.split(".")
    parents = parents[: len(parents) - node.level + is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _places(modules: dict[str, str], package: str) -> dict[str, str]:
    """Where each module goes: flat in the package, with the room in front where two are called the same."""
    places: dict[str, str] = {}
    for module in modules:
        room, _, last = module.removeprefix("recipes.").rpartition(".")
        place = f"{package}.{last}"
        if place in places.values():
            place = f"{package}.{room.replace('.', '_')}_{last}"
        places[module] = place
    return places


def _renamed(text: str, places: dict[str, str]) -> str:
    """Replace the dotted names of copied modules, also in strings and comments."""

    def new_name(match: re.Match[str]) -> str:
        module = match.group()
        while module and module not in places:
            module = module.rpartition(".")[0]
        return places.get(module, module) + match.group()[len(module) :]

    return _NAME.sub(new_name, text)


def _rewritten(source: str, module: str, places: dict[str, str]) -> str:
    """Return the source of a module with its imports of the recipes turned into imports of the copies."""
    lines = source.splitlines(keepends=True)
    for node, names in sorted(_recipe_imports(source, module), key=lambda found: -found[0].lineno):
        if not isinstance(node, ast.ImportFrom):
            continue  # `import recipes.plots` is renamed with its uses
        base = _absolute(node, module)
        if not node.level and base in places and not any(name in places for name in names):
            continue  # renamed below, its layout kept
        indent = lines[node.lineno - 1][: node.col_offset]
        statements = []
        for alias in node.names:
            full = f"{base}.{alias.name}"
            home, _, name = places[full].rpartition(".") if full in places else (places[base], "", alias.name)
            used = alias.asname or alias.name
            statements.append(f"{indent}from {home} import {name}" + (f" as {used}" if used != name else "") + "\n")
        lines[node.lineno - 1 : node.end_lineno] = statements
    return _renamed("".join(lines), places)
