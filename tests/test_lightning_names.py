"""Every public name of Lightning's is the same, differs for a reason, or is answered: told without Lightning."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

import lightkit as lk
from benchmarks.names.compare import ANSWER, DIFFERS, MISSING, SAME, Row, differences, figures, rows
from benchmarks.names.differences import DIFFERENCES
from benchmarks.names.signatures import facts_of
from lightkit.errors import ForeignNameError
from lightkit.foreign_names import FILES, NAMES


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return rows()


def test_no_name_is_missing(found: list[Row]) -> None:
    missing = {row.name for row in found if row.status == MISSING}
    assert missing == set()
    assert len(found) == 350


def test_nine_of_ten_names_are_the_same_or_differ_on_purpose(found: list[Row]) -> None:
    count = figures(found)
    assert count["here"] > 250
    assert count["share"] >= 90


def test_every_reason_belongs_to_a_name_that_differs(found: list[Row]) -> None:
    assert {row.name for row in found if row.status == DIFFERS} == set(DIFFERENCES)


def test_every_answer_is_one_line(found: list[Row]) -> None:
    answers = [row for row in found if row.status == ANSWER]
    assert [row.path for row in answers if not row.note or "\n" in row.note] == []
    counts = Counter(row.status for row in found)
    assert counts[SAME] > 150 and len(answers) >= 40


def test_the_names_that_are_used_most_are_the_same(found: list[Row]) -> None:
    same = {row.path for row in found if row.status == SAME}
    wanted = "LightningModule Callback seed_everything callbacks.ModelCheckpoint callbacks.EarlyStopping".split()
    assert [name for name in wanted if f"lightkit.{name}" not in same] == []


@pytest.mark.parametrize("source, wanted", [
    ("def f(a, b=1): ...", []),
    ("def f(a, b=1, *, c=2): ...", []),
    ("def f(a, b=2): ...", ["`b=2` for 1"]),
    ("def f(b=1, a=None): ...", ["`a=None` for -"]),
    ("def f(a): ...", ["no `b`"]),
    ("def f(a, *, b=1): ...", ["`b` by keyword alone"]),
    ("def f(a, b=1, c=2): ...", ["further `c`"]),
])  # fmt: skip
def test_another_signature_is_seen(source: str, wanted: list[str]) -> None:
    def theirs(a, b=1): ...  # type: ignore[no-untyped-def]

    space: dict[str, object] = {}
    exec(source, space)
    assert differences(facts_of(theirs, "lightkit"), space["f"]) == wanted


def test_another_base_class_is_seen() -> None:
    theirs = {"kind": "class", "parameters": [], "bases": ["Callback"]}
    assert differences(theirs, type("Other", (), {})) == ["no `Callback`"]
    assert differences(theirs, type("Other", (lk.Callback,), {})) == []


# ------------------------------------------------------------ answers


@pytest.mark.parametrize("statement, message", [
    ("from lightkit.strategies import DDPStrategy",
     "lightkit.strategies.DDPStrategy: this version trains in one process on one device; leave strategy out, or write "
     "strategy='auto'"),
    ("import lightkit.strategies.deepspeed",
     "lightkit.strategies.deepspeed: this version trains in one process on one device; leave strategy out, or write "
     "strategy='auto'"),
    ("from lightkit.plugins.environments import SLURMEnvironment",
     "lightkit.plugins.environments: this version trains in one process and needs no cluster; leave it out"),
    ("import lightkit; lightkit.Fabric",
     "lightkit.Fabric: write a plain loop, or a LightModule with automatic_optimization = False"),
    ("from lightkit.utilities.types import EPOCH_OUTPUT", "lightkit.utilities.types.EPOCH_OUTPUT: write list[Any]"),
    ("from lightkit.metrics.functional import accuracy", "lightkit.metrics: write `import torchmetrics`"),
])  # fmt: skip
def test_a_foreign_name_says_what_to_write(statement: str, message: str) -> None:
    with pytest.raises(ForeignNameError, match=f"^{re.escape(message)}$"):
        exec(statement)


def test_a_program_that_tries_an_import_goes_on() -> None:
    try:
        from lightkit.loggers import CometLogger  # type: ignore[attr-defined]  # noqa: F401
    except ImportError as error:
        assert str(error).startswith("lightkit.loggers.CometLogger: ")
    else:
        pytest.fail("nothing was raised")


def test_a_name_that_nobody_has_is_python_s_own_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'lightkit\.nonsense'$"):
        exec("import lightkit.nonsense")
    with pytest.raises(AttributeError, match=r"^module 'lightkit\.loggers' has no attribute 'nonsense'$"):
        exec("import lightkit.loggers; lightkit.loggers.nonsense")


def test_no_answer_hides_what_is_there() -> None:
    for room, names in NAMES.items():
        for name in names:
            with pytest.raises(ImportError):
                exec(f"from {'.'.join(part for part in ('lightkit', room) if part)} import {name}")
    for file in FILES:
        with pytest.raises(ImportError):
            exec(f"import lightkit.{file}")
    assert len(FILES) > 40


def test_a_name_of_the_command_line_can_be_the_first_import() -> None:
    code = "from lightkit.cli import LightningArgumentParser; print(LightningArgumentParser.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "lightkit.cli.parser\n"
