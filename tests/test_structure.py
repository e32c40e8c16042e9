"""benchmarks/structure counts what it says, on small trees made for it; its figures are of real trees, not asserted."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.structure import expressions, owners, renames, sizes, users
from benchmarks.structure.rows import cache_of


def tree_of(tmp_path: Path, source: str) -> Path:
    folder = tmp_path / "lightkit"
    folder.mkdir()
    (folder / "room.py").write_text(source, encoding="utf-8")
    return tmp_path


def found_in(tmp_path: Path, source: str) -> tuple[list[str], list[str]]:
    """The attributes that are assigned: of other parts (by a listed setter: in brackets), of other objects."""
    foreign, others = owners.places(tree_of(tmp_path, source))
    return [f"({p.attribute})" if p.is_listed else p.attribute for p in foreign], [p.attribute for p in others]


@pytest.mark.parametrize("statement, attribute", [
    ("trainer.status = 'running'", "status"),
    ("self.trainer.status = 'running'", "status"),
    ("self._trainer.status = 'running'", "status"),
    ("trainer.steps += 1", "steps"),
    ("trainer.status: str = 'running'", "status"),
    ("self.own, trainer.status = 1, 2", "status"),
    ("for trainer.index in range(3): pass", "index"),
    ("del trainer.status", "status"),
    ("self.loop.progress.epoch = 1", "epoch"),
    ("progress = self.loop.progress\n        progress.epoch = 1", "epoch"),
    ("held = trainer.fit_loop\n        held.epoch = 1", "epoch"),
    ("held = trainer.progress if trainer.fitting else self\n        held.epoch = 1", "epoch"),
    ("for each in trainer.callbacks:\n            each.state = None", "state"),
    ("for each in (self.model, data):\n            each.state = None", "state"),
    ("def inner():\n            trainer.status = 1", "status"),
    ("setattr(trainer, 'status', 1)", "status"),
    ("object.__setattr__(trainer, 'status', 1)", "status"),
    ("delattr(trainer, 'status')", "status"),
    ("vars(trainer)['status'] = 1", "status"),
    ("trainer.__dict__['status'] = 1", "status"),
    ("trainer.__dict__.update(status=1)", ""),
    ("vars(module).pop('status')", "status"),
    ("trainer.lightning_module.scale = 1", "scale"),
    ("fitted.status = 1", "status"),
    ("quoted.status = 1", "status"),
    ("trainer.should_stop = True", "(should_stop)"),
    ("trainer.limit_val_batches = 1", "(limit_val_batches)"),
    ("trainer.max_epochs = 1", "(max_epochs)"),
])  # fmt: skip
def test_an_assignment_to_another_part_is_found(tmp_path: Path, statement: str, attribute: str) -> None:
    source = (
        "class Part:\n    def act(self, trainer, module, data, fitted: Run, quoted: 'Run | None'):\n"
        f"        {statement}\n"
    )
    assert found_in(tmp_path, source)[0] == [attribute]


@pytest.mark.parametrize("statement", [
    "self.status = 1",
    "self.progress.epoch = 1",
    "progress = self.progress\n        progress.epoch = 1",
    "setattr(self, 'status', 1)",
    "self.__dict__['status'] = 1",
    "run = Run()\n        run.status = 1",
    "trainer = status",
    "trainer.loaders['val'] = 1",
    "module.training = False",
    "trainer.__dict__.get('status')",
])  # fmt: skip
def test_what_is_one_s_own_or_torch_s_is_not_counted(tmp_path: Path, statement: str) -> None:
    source = f"class Part:\n    def act(self, trainer, module, status):\n        {statement}\n"
    assert found_in(tmp_path, source) == ([], [])


def test_an_object_that_is_no_part_is_listed_apart(tmp_path: Path) -> None:
    source = "def act(group, slot: Slot, module: nn.Module):\n    group.lr = 1\n    slot.used = 2\n"
    foreign, others = owners.places(tree_of(tmp_path, source))
    assert foreign == []
    assert [place.text for place in others] == ["group.lr", "slot.used  (Slot)"]


def test_a_place_says_its_file_and_line(tmp_path: Path) -> None:
    foreign, _ = owners.places(tree_of(tmp_path, "def act(trainer):\n    trainer.status = 1\n"))
    assert [str(place) for place in foreign] == ["lightkit/room.py:2  trainer.status"]


def test_a_bare_any_is_one_of_a_trainer_a_run_or_a_loop() -> None:
    source = """
def a(trainer: Any, loop: Any, other: Any, trainers: Any, run: Run, _trainer: typing.Any): ...
class B:
    fit_loop: Any
    def __init__(self):
        self.run: Any = None
        self.trainer: Any | None = None
    @property
    def trainer(self) -> Any: ...
    def run(self) -> Any: ...
"""
    names = [name for _, name in expressions.bare(ast.parse(source), expressions.NAMES)]
    assert sorted(names) == ["_trainer", "fit_loop", "loop", "run", "trainer", "trainer"]


def test_the_core_are_the_rooms_and_files_that_the_limit_is_for() -> None:
    names = "loops loops.training loops.steps.manual trainer trainers run.data callbacks.base callbacks.timer cli.main"
    core = [name for name in names.split() if expressions.is_core(f"lightkit.{name}")]
    assert core == ["loops", "loops.training", "loops.steps.manual", "trainer", "run.data", "callbacks.base"]


def test_only_the_definition_and_what_the_class_says_of_itself_are_renamed() -> None:
    source = """
class Other:
    def take(self): return self.take
class Board:
    taken: int = 0
    @property
    def take(self): return self._take, other.take
    @take.setter
    def take(self, value): self.take, é = value, self.take  # take
"""
    after = source.replace("def take(self): return self._", "def take_renamed(self): return self._")
    after = after.replace("@take", "@take_renamed").replace("def take(self, value)", "def take_renamed(self, value)")
    after = after.replace("self.take, é = value, self.take ", "self.take_renamed, é = value, self.take_renamed ")
    assert renames.renamed(source, "Board", "take") == after
    assert renames.renamed(source, "Board", "taken") == source.replace("taken", "taken_renamed")
    assert renames.renamed(source, "Board", "missing") == source
    assert renames.renamed("def f(): ...\nf()\n", "", "f") == "def f_renamed(): ...\nf()\n"


def test_code_lines_leave_out_docstrings_comments_and_blanks() -> None:
    source = '"""One\n\ntwo."""\n\nimport os  # why\n# how\n\ndef f():\n    """Says."""\n    return """a\n\nb"""\n'
    assert sizes.code_lines(source) == 5
    assert sizes.long_functions(source, most=4) == [(8, "f", 5)]
    assert sizes.long_functions(source, most=5) == []


def test_the_issue_s_attributes_are_59() -> None:
    assert len(set(users.OF_THE_ISSUE)) == 59


def test_another_checkout_s_cache_is_not_written(repository: Path, tmp_path: Path) -> None:
    assert cache_of(repository) == repository / ".mypy_cache"
    assert tmp_path not in cache_of(tmp_path).parents


def test_check_ends_with_one_where_a_figure_misses_its_limit(repository: Path, tmp_path: Path) -> None:
    root = tree_of(tmp_path, "def act(trainer: Any):\n    trainer.status = 1\n")
    command = [sys.executable, str(repository / "benchmarks" / "structure"), "--check", "--root", str(root)]
    done = subprocess.run([*command, "--only", "any", "assignments"], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "! bare Any for a trainer, run or loop                           <= 0  1 (1 arguments `trainer: Any`)",
        "      lightkit/room.py:1  trainer: Any",
        "! assignments to another part's attribute                       <= 0  1 (1 attributes)",
        "      lightkit/room.py:2  trainer.status",
        "structure: 2 figures miss their limit",
    ]
    assert done.returncode == 1
    fine = subprocess.run([*command, "--only", "sizes"], capture_output=True, text=True, check=False)
    assert (fine.stdout, fine.returncode) == ("structure: every figure within its limit\n", 0)


def test_a_steady_step_and_its_imports_are_counted(repository: Path) -> None:
    command = [sys.executable, str(repository / "benchmarks" / "structure"), "--only", "step", "imports", "--list"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "\n      results.py  Slot.update\n" in said
    assert "  lightkit/trainer/trainer.py" in said
    assert said.count("\n") > 40
