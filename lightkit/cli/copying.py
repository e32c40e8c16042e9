"""A shipped config and the recipe files behind it, rewritten so that they run from a folder of one's own."""

from __future__ import annotations

import ast
import re
from importlib.util import resolve_name
from io import StringIO
from pathlib import Path

from lightkit.cli.documents import composed, scalars
from lightkit.cli.shipped import PACKAGE, find_config, shipped_configs
from lightkit.errors import ConfigError, RunDirError

_NAME = re.compile(r"\brecipes(?:\.[A-Za-z_]\w*)+")


def copy_config(name: str, folder: Path) -> list[str]:
    """Write a config and every recipe file that it needs, imports rewritten; return what is there and how to start it.

    The files go into a package called like the config (`vision_digits/`), beside the config (`digits.yaml`).
    Raises ConfigError where there is no such config, or a file would be overwritten; then none is written.
    """
    path = find_config(name)
    named = [scalar.value for scalar in scalars(composed(path))]
    text = path.read_text(encoding="utf-8-sig")
    shipped = {file.resolve(): known for known, file in shipped_configs().items()}
    known = shipped.get(path.resolve(), path.stem + "_recipe")
    modules = _closure([value for value in named if _NAME.fullmatch(value)])
    if not modules:
        raise ConfigError(f"config {name!r}: names no class of the recipes; there is nothing but the file to copy")
    package, config = re.sub(r"\W", "_", known), f"{path.stem}.yaml"
    places = _places(modules, package)
    files = {f"{package}/__init__.py": f'"""A copy of lightkit\'s recipe {known}, to be changed."""\n'}
    for module, source in modules.items():
        files[places[module].replace(".", "/") + ".py"] = _rewritten(source, module, places)
    files[config] = _renamed(text, places).replace(f"lightkit fit {known}", f"lightkit fit {config}")
    _write({folder / file: text for file, text in files.items()}, folder)
    return [*(str(folder / file) for file in files), f"start it: cd {folder} && lightkit fit {config}"]


def _write(files: dict[Path, str], folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: this is a file, give a folder")
    there = [str(path) for path in files if path.exists()]
    if there:
        shown = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        raise ConfigError(f"{shown}: already there; nothing is overwritten, give another folder")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunDirError(f"{folder}: cannot be written: {error}") from error


def _closure(todo: list[str]) -> dict[str, str]:
    """Module to source, of all modules of the recipes that the names need, directly or through others."""
    found: dict[str, str] = {}
    while todo:
        parts = todo.pop(0).split(".")
        while len(parts) > 1 and not PACKAGE.parent.joinpath(*parts).with_suffix(".py").is_file():
            parts.pop()  # what is not a module is a name in one
        module = ".".join(parts)
        if len(parts) > 1 and module not in found:
            found[module] = PACKAGE.parent.joinpath(*parts).with_suffix(".py").read_text(encoding="utf-8")
            todo += [name for node in ast.walk(ast.parse(found[module])) for name in _imported(node, module)]
    return found


def _imported(node: ast.AST, module: str) -> list[str]:
    """The dotted names of the recipes that an import brings; none for any other statement."""
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), module.rpartition(".")[0])
        names = [f"{base}.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith("recipes.")]


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
    lines = list(StringIO(source, newline=""))  # as Python counts them: a form feed ends none
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    for node in sorted(found, key=lambda node: -node.lineno):
        names = _imported(node, module)
        if not names or (not node.level and not any(name in places for name in names)):
            continue  # renamed with its uses, its layout kept
        indent, statements = lines[node.lineno - 1][: node.col_offset], []
        for full, alias in zip(names, node.names, strict=True):
            home, _, name = places.get(full, full).rpartition(".")
            used = alias.asname or alias.name
            statements.append(f"{indent}from {home} import {name}" + (f" as {used}" if used != name else "") + "\n")
        lines[node.lineno - 1 : node.end_lineno] = statements
    return _renamed("".join(lines), places)
