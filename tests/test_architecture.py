"""DESIGN's rules of layout, read from the source with `ast`: import direction and lengths; a light import.

Imports under `if TYPE_CHECKING:` are exempt: they only name a type and never run. Those in functions count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.structure import rows
from benchmarks.structure.sizes import MOST_CODE_LINES, MOST_FUNCTION_LINES, code_lines, long_functions

ROOT = Path(__file__).resolve().parent.parent

# The further right a room stands, the lower its rank; an import goes from a higher rank to a lower one.
# DESIGN names module ... devices as one set; 27 to 20 is the order that they have among themselves.
RANKS = {
    "cli": 60, "tuner": 60, "testing": 60, "utilities": 60, "core": 60, "plugins": 60, "accelerators": 60,
    "strategies": 60, "demos": 60,
    "trainer": 50, "trainer_parts": 48, "trainer_plugins": 48, "records": 48, "run": 45, "legacy": 42,
    "loops": 40,
    "callbacks": 30, "loggers": 30, "profilers": 30,
    "supervised_module": 28, "supervised_batches": 21, "supervised_choices": 2,
    "data": 27, "module": 26, "datamodule": 26, "datamodule_sources": 25, "module_hooks": 25,
    "export": 24, "board": 24, "results": 23, "results_state": 22,
    "monitoring": 22, "log_arguments": 22, "logged_metrics": 22, "metric_objects": 21,
    "model_summary": 21, "throughput": 21,
    "optimizers": 22, "optimizer_forms": 21, "stepped_optimizer": 21, "checkpoint": 21, "devices": 20,
    "settings": 15, "global_seed": 11, "hooks": 10, "hparams": 10, "seeding": 10, "calling": 0,
    "earlier_arguments": 22, "intervals": 3, "durations": 2, "schema": 2, "removed_arguments": 2,
    "lazy": 2, "contracts": 1, "states": 1, "foreign_names": 1, "errors": 0, "plain_yaml": 0, "ranks": 0, "version": 0,
}  # fmt: skip
# In these rooms a concrete file knows the room's bases and what stands right of it, nothing else of the room.
ROOMS_WITH_BASE = {
    # `progress_bar` is what all bars share; `checkpoint_...` hold none, `default_bar` picks
    "lightkit.callbacks": ("base", "progress.progress_bar", "checkpoint_names",
                           "checkpoint_rules", "checkpoint_folder", "default_bar",
                           "model_summary"),
    # `directory` and `service` are bases of those that write files, and through another package
    "lightkit.loggers": ("base", "directory", "service", "calls"),
    "lightkit.profilers": ("base", "timing"),  # `timing` makes sections of what a run hands to it, for all of them
    "lightkit.devices.strategies": ("base",),
}
# What a recipe may name, besides what `lightkit` itself exports.
PUBLIC_ROOMS = {"callbacks", "loggers", "profilers", "tuner", "errors", "data", "utilities"}
HEAVY = (
    "torchvision", "torchaudio", "torchtext", "torchmetrics",
    "tensorboard", "rich", "jsonargparse", "matplotlib",
)  # fmt: skip


class Import(NamedTuple):
    """One imported module, `line` of the statement."""

    target: str
    line: int


def source_files(package: str) -> list[Path]:
    return rows.sources(ROOT, package)


def module_name(path: Path) -> str:
    return rows.module_name(ROOT, path)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in {
        name.id if isinstance(name, ast.Name) else name.attr
        for name in ast.walk(node.test)
        if isinstance(name, ast.Name | ast.Attribute)
    }


def imports_in(tree: ast.AST, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import that can run, `from room import file` resolved to `room.file` where that is a module."""
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node):
            assert isinstance(node, ast.If)
            for other in node.orelse:
                yield from imports_in(ast.Module([other], []), module, is_package)
        elif isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[
                    : None if is_package and node.level == 1 else -node.level + is_package
                ]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_ours = base.startswith(("lightkit", "recipes")) and is_module(full)
                yield Import(full if is_ours else base, node.lineno)
        else:
            yield from imports_in(node, module, is_package)


def is_alias(path: Path) -> bool:
    """Whether a file holds names of other files alone, as Lightning's file of that name does."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_list = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if not (is_text or is_list or isinstance(node, ast.ImportFrom)):
            return False
    return True


def imports_of(path: Path) -> list[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return list(imports_in(tree, module_name(path), path.name == "__init__.py"))


def room_of(module: str) -> str:
    """`lightkit.callbacks.timer` -> `callbacks`; '' for `lightkit` itself."""
    return module.split(".")[1] if "." in module else ""


def is_base(module: str) -> bool:
    # `calls` holds no logger: it is how any of them is called
    return module.endswith((".base", ".loggers.calls"))


def problem_within_room(module: str, target: str, is_package: bool) -> str | None:
    for room, names in ROOMS_WITH_BASE.items():
        bases = [f"{room}.{name}" for name in names]
        inside = module.startswith(f"{room}.") and target.startswith(room)
        if inside and not is_package and module not in bases and target not in bases:
            return f"imports {target}; inside {room} a file may import only {' or '.join(bases)}"
    return None


def problem_with(module: str, target: str, is_package: bool) -> str | None:
    """What is wrong with `module` importing `target`, or None."""
    here, there = room_of(module), room_of(target)
    if target.split(".", maxsplit=1)[0] == "recipes":
        return f"imports {target}; lightkit never imports recipes"
    if target.split(".", maxsplit=1)[0] != "lightkit" or not here:
        return None
    if here == there:
        return problem_within_room(module, target, is_package)
    if not there:
        return None if here == "cli" else f"imports {target} itself; name the file that holds it"
    if RANKS[there] >= RANKS[here]:
        return (
            f"imports {target}; imports point only to the right, and {there} does not stand right of {here}"
        )
    names_concrete = RANKS[here] >= RANKS["trainer_parts"]
    if there in ("callbacks", "loggers", "profilers") and not names_concrete and not is_base(target):
        return (
            f"imports {target}; only {there}.base is known here, concrete ones are named in trainer_parts.py alone"
        )
    return None


def problem_of_recipe(target: str) -> str | None:
    parts = target.split(".")
    if parts[0] != "lightkit" or len(parts) == 1:
        return None
    if len(parts) > 2 or parts[1] not in PUBLIC_ROOMS:
        public = ", ".join(sorted(PUBLIC_ROOMS))
        return f"imports {target}, which is not public; public are lightkit and {public}"
    return None


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {room_of(module_name(path)) for path in source_files("lightkit")} - {"", "__main__"}
    assert rooms - set(RANKS) == set(), (
        "give the new room a rank in RANKS, and a line in docs/architecture.md"
    )
    assert len(rooms) >= 10


def test_imports_in_lightkit_point_only_to_the_right() -> None:
    files = [path for path in source_files("lightkit") if module_name(path) != "lightkit.__main__"]
    found, problems = 0, []
    for path in files:
        for target, line in imports_of(path):
            found += target.startswith("lightkit")
            problem = problem_with(module_name(path), target, path.name == "__init__.py" or is_alias(path))
            if problem:
                problems.append(f"{path.relative_to(ROOT)}:{line} {problem}")
    assert problems == []
    assert len(files) >= 30
    assert found >= 60


def test_recipes_import_only_public_names() -> None:
    files, found, problems = source_files("recipes"), 0, []
    for path in files:
        for target, line in imports_of(path):
            found += target.startswith("lightkit")
            problem = problem_of_recipe(target)
            if problem:
                problems.append(f"{path.relative_to(ROOT)}:{line} {problem}")
    assert problems == []
    assert len(files) >= 3
    assert found >= 3


@pytest.mark.parametrize("module, source, problem", [
    ("lightkit.data.order", "from lightkit.trainer import Trainer",
     "imports lightkit.trainer; imports point only to the right, and trainer does not stand right of data"),
    ("lightkit.callbacks.timer", "def f():\n    from lightkit.loops.training import fit",
     "imports lightkit.loops.training; imports point only to the right, and loops does not stand right of "
     "callbacks"),
    ("lightkit.callbacks.timer", "from lightkit.callbacks.early_stopping import EarlyStopping",
     "imports lightkit.callbacks.early_stopping; inside lightkit.callbacks a file may import only "
     "lightkit.callbacks.base or lightkit.callbacks.progress.progress_bar or lightkit.callbacks.checkpoint_names or "
     "lightkit.callbacks.checkpoint_rules or "
     "lightkit.callbacks.checkpoint_folder or lightkit.callbacks.default_bar or lightkit.callbacks.model_summary"),
    ("lightkit.loops.training", "from lightkit.callbacks.early_stopping import EarlyStopping",
     "imports lightkit.callbacks.early_stopping; only callbacks.base is known here, concrete ones are named "
     "in trainer_parts.py alone"),
    ("lightkit.cli.main", "import recipes.vision", "imports recipes.vision; lightkit never imports recipes"),
    ("lightkit.module", "import lightkit", "imports lightkit itself; name the file that holds it"),
    ("lightkit.module", "from .errors import ConfigError", None),
    ("lightkit.loops.training", "from lightkit.callbacks.base import Callback", None),
    ("lightkit.module", "if TYPE_CHECKING:\n    from lightkit.trainer import Trainer", None),
])  # fmt: skip
def test_the_rules_see_a_wrong_import(module: str, source: str, problem: str | None) -> None:
    problems = [problem_with(module, target, False) for target, _ in imports_in(ast.parse(source), module)]
    assert [found for found in problems if found] == ([problem] if problem else [])


def test_contributing_has_a_line_for_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = {room_of(module_name(path)) for path in source_files("lightkit")} - {"", "__main__"}
    missing = [room for room in sorted(rooms) if f"{room}/`" not in text and f"{room}.py`" not in text]
    assert missing == []
    assert len(text.splitlines()) < 60
    assert len(rooms) >= 10


@pytest.mark.parametrize("package, at_least", [("lightkit", 30), ("recipes", 3)])
def test_no_file_and_no_function_is_too_long(package: str, at_least: int) -> None:
    files, too_long = source_files(package), []
    for path in files:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
        lines = code_lines(text)
        if lines > MOST_CODE_LINES:
            too_long.append(f"{name}: {lines} lines of code, at most {MOST_CODE_LINES}")
        for line, function, lines in long_functions(text):
            too_long.append(f"{name}:{line} {function}: {lines} lines, at most {MOST_FUNCTION_LINES}")
    assert too_long == []
    assert len(files) >= at_least


def test_every_module_can_be_imported_first() -> None:
    """A name that moved is found by type checkers under TYPE_CHECKING, and missing when the file is loaded."""
    names = [module_name(path) for path in source_files("lightkit")]
    names = [name for name in names if not name.endswith("__main__")]
    code = """if True:
        import importlib, sys
        for name in sys.argv[1:]:
            try:
                importlib.import_module(name)
            except Exception as error:
                print(f"{name}: {error!r}")
        """
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert len(names) > 150 and done.stdout == ""


def test_import_lightkit_loads_nothing_heavy() -> None:
    code = f"import sys, lightkit; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout == "[]\n"
    assert len(HEAVY) == 8
