"""The rename test: where the definition of a member gets another name, does mypy see the files that use the old one?

For each member a copy of the tree in which its definition, and what the class itself says of it (`self.member`), bears
another name. It is seen where mypy then finds an error in another file.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from benchmarks.structure.rows import Row, module_name, mypy, sources

Member = tuple[str, str, str]  # module, class, member

# Twelve that another file uses. A member that moves gets one more place: the first that the tree has is renamed.
RENAMES: tuple[tuple[Member, ...], ...] = (
    (("lightkit.trainer.trainer", "Trainer", "call"), ("lightkit.run.base", "Run", "call")),
    (("lightkit.trainer.trainer", "Trainer", "log_to_loggers"), ("lightkit.run.base", "Run", "write")),
    (("lightkit.trainer.trainer", "Trainer", "global_step"),),
    (("lightkit.runs", "Run", "reloads_at"), ("lightkit.run.data", "FitData", "reloads_at")),
    (("lightkit.loops.training", "TrainingLoop", "complete_gradients"),),
    (("lightkit.loops.training", "TrainingLoop", "batches_done"),),
    (
        ("lightkit.loops.progress", "Progress", "end_validation"),
        ("lightkit.loops.position", "Counters", "end_validation"),
    ),
    (("lightkit.loops.validation_plan", "ValidationPlan", "is_due"),),
    (("lightkit.hooks", "Dispatcher", "refresh"),),
    (("lightkit.results", "Results", "enter"),),
    (("lightkit.board", "MetricBoard", "take"),),
    (("lightkit.checkpoint.async_write", "Writer", "settle"), ("lightkit.checkpoint.writer", "Writer", "settle")),
)
_SUFFIX = "_renamed"


def rename_rows(root: Path) -> list[Row]:
    """How many of `RENAMES` mypy sees."""
    with tempfile.TemporaryDirectory() as folder:
        copy, cache = Path(folder, "tree"), Path(folder, "cache")
        for package in ("lightkit", "recipes"):
            shutil.copytree(root / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "pyproject.toml", copy)
        said = mypy(copy, "lightkit", "recipes", cache=cache).stdout
        assert said == "", f"mypy finds errors before anything is renamed:\n{said}"
        found = [_try(copy, cache, places) for places in RENAMES]
    seen = sum(said.startswith("seen") for said, _ in found)
    lines = [f"{said:16} {member}" for said, member in found]
    return [Row("renames", f"renamed members that mypy sees, of {len(found)}", seen, places=lines)]


def _try(copy: Path, cache: Path, places: tuple[Member, ...]) -> tuple[str, str]:
    """("seen in N files", "unseen" or "not found", the member)."""
    for member in places:
        path = next((path for path in sources(copy) if module_name(copy, path) == member[0]), None)
        before = path.read_text(encoding="utf-8") if path is not None else ""
        after = renamed(before, member[1], member[2])
        if path is None or after == before:
            continue
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder, "cache")  # what mypy learns of the renamed tree is not kept
            shutil.copytree(cache, trial)
            path.write_text(after, encoding="utf-8")
            try:
                said = mypy(copy, "lightkit", "recipes", cache=trial).stdout
            finally:
                path.write_text(before, encoding="utf-8")
        own = str(path.relative_to(copy))
        files = {line.split(":")[0] for line in said.splitlines() if ": error:" in line} - {own}
        return f"seen in {len(files)} files" if files else "unseen", ".".join(member)
    return "not found", " or ".join(".".join(member) for member in places)


def renamed(text: str, owner: str, member: str) -> str:
    """The source with another name for a member of the class `owner` (or for a function, where that is "")."""
    tree = ast.parse(text)
    scope: ast.AST | None = tree
    if owner:
        scope = next((n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == owner), None)
    if not isinstance(scope, ast.Module | ast.ClassDef):
        return text
    lines = [line.encode() for line in StringIO(text, newline="")]
    for line, column in sorted(set(_places(scope, member, lines)), reverse=True):
        end = column + len(member.encode())
        lines[line - 1] = lines[line - 1][:end] + _SUFFIX.encode() + lines[line - 1][end:]
    return b"".join(lines).decode()


def _places(scope: ast.Module | ast.ClassDef, member: str, lines: list[bytes]) -> Iterator[tuple[int, int]]:
    """(line, first byte) of the name in its definition and after `self.`."""
    for node in scope.body:
        if isinstance(node, ast.FunctionDef) and node.name == member:
            found = re.compile(rf"\s*(async )?def (?={re.escape(member)}\b)".encode()).match(lines[node.lineno - 1])
            assert found is not None
            yield node.lineno, found.end()
        for target in _assigned(node):
            if isinstance(target, ast.Name) and target.id == member:
                yield target.lineno, target.col_offset
        for decorator in getattr(node, "decorator_list", []):  # `@member.setter`
            if isinstance(decorator, ast.Attribute) and ast.unparse(decorator.value) == member:
                yield decorator.lineno, decorator.col_offset
    for use in ast.walk(scope) if isinstance(scope, ast.ClassDef) else ():
        if isinstance(use, ast.Attribute) and use.attr == member and ast.unparse(use.value) == "self":
            yield use.end_lineno or use.lineno, (use.end_col_offset or 0) - len(member.encode())


def _assigned(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []
