"""What is `Any`: the share of expressions whose type is known, and annotations that give a part away as `Any`."""

from __future__ import annotations

import ast
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.structure.rows import Row, mypy, sources

# Files of the core by the beginning of their name; a room ends in a dot. The last line: names before the redesign.
CORE = (
    "trainer", "settings", "board", "module", "results", "optimizers", "hooks",
    "run.", "loops.", "legacy.", "checkpoint.", "data.", "devices.",
    "callbacks.base", "loggers.base", "profilers.base",
    "runs", "arguments", "resume", "rundir", "report",
)  # fmt: skip
# Names that are a trainer, a run or a loop: arguments, variables, attributes, and properties of these names.
NAMES = re.compile(r"(.*_)?(trainer|run|loop)$")
MODULES = re.compile(r"(.*_)?(module|model|datamodule)$")
_LINE = re.compile(r"\s*(\S+)\s+(\d+)\s+(\d+)\s+([\d.]+)%")


class Share(NamedTuple):
    """Of `expressions`, how many mypy knows only as `Any`."""

    anys: int
    expressions: int

    @property
    def known(self) -> float:
        """In percent."""
        return 100.0 * (1 - self.anys / self.expressions) if self.expressions else 100.0


def shares(root: Path) -> dict[str, Share]:
    """By module of lightkit, and "Total": the columns of `mypy --any-exprs-report`, which uses no cache."""
    with tempfile.TemporaryDirectory() as folder:
        mypy(root, "--any-exprs-report", folder, "lightkit")
        text = Path(folder, "any-exprs.txt").read_text(encoding="utf-8")
    found = {match[1]: Share(int(match[2]), int(match[3])) for match in map(_LINE.match, text.splitlines()) if match}
    assert "Total" in found and len(found) > 10, text
    return found


def is_core(module: str) -> bool:
    """Whether it is one of the files that may not fall below the limit."""
    name = module.removeprefix("lightkit.")
    return any(f"{name}.".startswith(core) if core.endswith(".") else name == core for core in CORE)


def share_rows(root: Path, least: float) -> list[Row]:
    """In all, by room, and the files of the core; `least`: what a file of the core must reach."""
    found = shares(root)
    total = found.pop("Total")
    rooms: dict[str, list[Share]] = defaultdict(list)
    for name, share in found.items():
        rooms[name.split(".")[1] if "." in name else name].append(share)
    by_room = {room: Share(sum(s.anys for s in all_), sum(s.expressions for s in all_)) for room, all_ in rooms.items()}
    core = {name.removeprefix("lightkit."): share for name, share in found.items() if is_core(name)}
    low = sorted((share.known, name) for name, share in core.items())
    below = [name for known, name in low if known < least]
    first = ", ".join(f"{name} {known:.0f}" for known, name in low[:5])
    return [
        Row("known", "expressions in lightkit/ that are not Any, %", total.known, f"{total.known:.1f}",
            [f"{share.known:6.1f}  {room}" for room, share in sorted(by_room.items(), key=lambda pair: pair[1].known)]),
        Row("known_core", "  the lowest file of the core, %", low[0][0],
            f"{low[0][0]:.1f} ({first}); {len(below)} of {len(low)} under {least:g}",
            [f"{known:6.1f}  {name}" for known, name in low]),
    ]  # fmt: skip


# ---------------------------------------------------------------- annotations


def bare(tree: ast.AST, names: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """(line, text) of what bears one of these names and is annotated as exactly `Any`.

    Arguments (of lambdas none), variables and attributes (`self._trainer: Any`), and properties that return `Any`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            name, annotation = node.arg, node.annotation
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name | ast.Attribute):
            name = node.target.attr if isinstance(node.target, ast.Attribute) else node.target.id
            annotation = node.annotation
        elif isinstance(node, ast.FunctionDef) and any("property" in ast.unparse(d) for d in node.decorator_list):
            name, annotation = node.name, node.returns
        else:
            continue
        if annotation is not None and names.match(name) and ast.unparse(annotation) in ("Any", "typing.Any"):
            yield node.lineno, name


def bare_rows(root: Path) -> list[Row]:
    """Annotations `Any` of a trainer, run or loop; for comparison those of a module, model or data module."""
    parts, modules, arguments = [], [], 0
    for path in sources(root):
        tree, file = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(root)
        parts += [f"{file}:{line}  {name}: Any" for line, name in bare(tree, NAMES)]
        modules += [f"{file}:{line}  {name}: Any" for line, name in bare(tree, MODULES)]
        arguments += sum(isinstance(node, ast.arg) and _is_any_trainer(node) for node in ast.walk(tree))
    return [
        Row("bare_any", "bare Any for a trainer, run or loop", len(parts),
            f"{len(parts)} ({arguments} arguments `trainer: Any`)", parts),
        Row("bare_any_module", "  and for a module or data module", len(modules), places=modules),
    ]  # fmt: skip


def _is_any_trainer(node: ast.arg) -> bool:
    return node.arg == "trainer" and node.annotation is not None and ast.unparse(node.annotation) == "Any"
