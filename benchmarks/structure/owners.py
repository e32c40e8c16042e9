"""Assignments to an attribute of another part: of a trainer, run, loop, module, data module or callback but `self`.

Read from the source alone, so that it judges a tree where these are `Any` as well. An assignment is a plain, augmented
or annotated one, a name in a tuple, a `for`, `with` or `del` target, `setattr` and `delattr`, and what goes around
them: `vars(x)[...] = `, `x.__dict__[...] = `, `x.__dict__.update(...)` (`pop`, `setdefault`, `clear`) and
`object.__setattr__(x, ...)`. Whose attribute it is, the expression before the last dot says:

- `self` (`cls`, and a local name for it) is the part's own, and so is what it owns: `self.progress.epoch = 1`;
- where a name on the way is a part's (`PARTS`, or one that ends in `_loop`, `_module`, `_callback`), it is another
  part's: `trainer.x`, `self.trainer.x`, `self.loop.progress.x`; a local name stands for what it was assigned from;
- so it is where an argument or a variable is annotated with a part's class (`CLASSES`);
- a part that the function has itself made, by calling a class, is nobody else's yet.

What torch has on every module (`TORCH`) is not ours to judge. Everything else (an optimizer's group, a worker's handle)
belongs to no part and is not counted; it is listed apart, to be read. The issue counted 67 by the last name alone; with
local names, `__dict__`, `setattr` and what lies behind a part (`loop.progress.x`) the same tree has a few more.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.structure.rows import Row, sources

PARTS = frozenset(
    "trainer run loop module model pl_module lightning_module callback checkpoint_callback datamodule".split()
)
SUFFIXES = ("_loop", "_module", "_callback", "_trainer", "_run")
CLASSES = frozenset(
    "Trainer Run TrainingLoop EvaluationLoop PredictionLoop LightModule LightningModule LightDataModule Callback "
    "Checkpoint ModelCheckpoint".split()
)
# Of torch's nn.Module, set as torch's own code and documentation do, on whatever module.
TORCH = frozenset({"training", "track_running_stats", "momentum", "requires_grad", "grad", "_compiled_call_impl"})
# Documented setters: a callback, a user or the tuner may say so while a run goes on (docs/architecture.md).
PUBLIC_SETTERS = frozenset({"should_stop", "logger", "loggers", "accumulate_grad_batches", "callbacks", "takes_steps"})
PUBLIC_PREFIXES = ("limit_", "max_", "min_")
_AROUND = ("update", "pop", "setdefault", "clear", "popitem")


class Place(NamedTuple):
    """One assignment; `text`: as it stands."""

    file: str
    line: int
    text: str
    attribute: str
    is_listed: bool  # through a documented public setter

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {self.text}"


def places(root: Path, package: str = "lightkit") -> tuple[list[Place], list[Place]]:
    """-> (assignments to another part's attribute, those to attributes of any other object but `self`)."""
    foreign: list[Place] = []
    others: list[Place] = []
    for path in sources(root, package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        file = str(path.relative_to(root))
        for scope, names in _scopes(tree, {}):
            for owner, attribute, node in _targets(scope):
                if attribute in TORCH:
                    continue
                text = ast.unparse(node).splitlines()[0]
                is_listed = attribute in PUBLIC_SETTERS or attribute.startswith(PUBLIC_PREFIXES)
                place = Place(file, node.lineno, text, attribute, is_listed)
                whose = _whose(owner, names)
                if whose == "part":
                    foreign.append(place)
                elif whose == "other":
                    others.append(place._replace(text=text + _annotation(scope, owner)))
    return foreign, others


def _annotation(scope: ast.AST, owner: ast.expr) -> str:
    """What an argument is said to be, for the reader of the list."""
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(owner, ast.Name):
        for argument in _arguments(scope):
            if argument.arg == owner.id and argument.annotation is not None:
                return f"  ({ast.unparse(argument.annotation)})"
    return ""


# ---------------------------------------------------------------- whose it is


def _whose(owner: ast.expr, names: dict[str, str]) -> str:
    """ "self", "part" (another one's), "made" (here) or "other"."""
    steps, root = [], owner
    while isinstance(root, ast.Attribute | ast.Subscript):
        if isinstance(root, ast.Attribute):
            steps.append(root.attr)
        root = root.value
    if any(_is_part(step) for step in steps):
        return "part"
    if isinstance(root, ast.Name):
        known = names.get(root.id)
        if known is not None:
            return known
        if root.id in ("self", "cls"):
            return "self"
        return "part" if _is_part(root.id) else "other"
    if isinstance(root, ast.Call) and isinstance(root.func, ast.Name) and root.func.id == "super":
        return "self"
    return "other"


def _is_part(name: str) -> bool:
    bare = name.strip("_")
    return bare in PARTS or bare.endswith(SUFFIXES)


def _aliases(scope: ast.AST) -> dict[str, str]:
    """What the names of one function stand for, where a name alone does not say it."""
    found: dict[str, str] = {}
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
        for argument in _arguments(scope):
            if argument.annotation is not None and _names_part(argument.annotation):
                found[argument.arg] = "part"
    for node in _own(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name, value in _pairs(target, node.value):
                    _take(found, name, value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if _names_part(node.annotation):
                found[node.target.id] = "part"
            elif node.value is not None:
                _take(found, node.target.id, node.value)
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name) and _gives_parts(node.iter):
            found[node.target.id] = "part"
    return found


def _arguments(scope: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return [*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs]


def _take(found: dict[str, str], name: str, value: ast.expr) -> None:
    if isinstance(value, ast.IfExp):
        _take(found, name, value.body)
        if found.get(name) != "part":
            _take(found, name, value.orelse)
    elif isinstance(value, ast.Call):
        # `Thing(...)`, `room.Thing(...)`, `cls(...)`
        if _last(value.func) == "cls" or _last(value.func).lstrip("_")[:1].isupper():
            found[name] = "made"
    elif isinstance(value, ast.Name | ast.Attribute):
        whose = _whose(value, found)
        if whose != "other":
            # `run = self.run` is another part; `progress = self.progress` is one's own
            found[name] = "part" if _is_part(name) and not isinstance(value, ast.Name) else whose


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, other in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, other)


def _names_part(annotation: ast.expr) -> bool:
    text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    names = str(text).replace("|", " ").replace("None", " ").split()
    return bool(names) and all(name.rpartition(".")[2] in CLASSES for name in names)


def _gives_parts(each: ast.expr) -> bool:
    """`trainer.callbacks`, `(self.model, data)`."""
    found = each.elts if isinstance(each, ast.Tuple | ast.List) else [each]
    return any(_is_part(_last(one)) or _is_part(_last(one).removesuffix("s")) for one in found)


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


# ---------------------------------------------------------------- what is assigned


def _scopes(node: ast.AST, names: dict[str, str]) -> Iterator[tuple[ast.AST, dict[str, str]]]:
    """Every function (and module and class body) with what the names in it stand for."""
    names = {**names, **_aliases(node)}
    yield node, names
    for child in _own(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _scopes(child, names)


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, those of functions and classes inside of it left out (they themselves are given)."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _own(child)


def _targets(scope: ast.AST) -> Iterator[tuple[ast.expr, str, ast.stmt | ast.expr]]:
    """(object, attribute, where) of every assignment to an attribute."""
    for node in _own(scope):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.value, node.attr, node
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            owner = _behind_dict(node.value)
            if owner is not None:
                yield owner, _constant(node.slice), node
        elif isinstance(node, ast.Call):
            yield from _called(node)


def _called(node: ast.Call) -> Iterator[tuple[ast.expr, str, ast.expr]]:
    function = node.func
    if isinstance(function, ast.Name) and function.id in ("setattr", "delattr") and len(node.args) >= 2:
        yield node.args[0], _constant(node.args[1]), node
    elif isinstance(function, ast.Attribute):
        if function.attr in ("__setattr__", "__delattr__") and len(node.args) == 3:
            yield node.args[0], _constant(node.args[1]), node
        owner = _behind_dict(function.value)
        if owner is not None and function.attr in _AROUND:
            yield owner, _constant(node.args[0]) if node.args else "", node


def _behind_dict(node: ast.expr) -> ast.expr | None:
    """x of `x.__dict__` and `vars(x)`."""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "vars" and node.args:
        return node.args[0]
    return None


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def assignment_rows(root: Path) -> list[Row]:
    """Assignments to another part's attribute; those through listed setters and those to other objects, apart."""
    foreign, others = places(root)
    bad, listed = [p for p in foreign if not p.is_listed], [p for p in foreign if p.is_listed]
    return [
        Row("foreign", "assignments to another part's attribute", len(bad),
            f"{len(bad)} ({len({p.attribute for p in bad})} attributes)", list(map(str, bad))),
        Row("foreign_listed", "  through listed public setters", len(listed), places=list(map(str, listed))),
        Row("foreign_others", "  to objects that are no part (to be read)", len(others), places=list(map(str, others))),
    ]  # fmt: skip
