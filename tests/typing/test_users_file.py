"""What mypy, and pyright where it is installed, say of a user's file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.structure import live, rows, users

USER = Path(__file__).parent / "user"
NEEDS_PYRIGHT = pytest.mark.skipif(users.pyright_command() is None, reason="pyright is not installed")
# the lines of misspelt.py that name what no Trainer has
MISSPELT = [
    number
    for number, line in enumerate((USER / "misspelt.py").read_text(encoding="utf-8").splitlines(), 1)
    if "curent_epoch" in line
]


def said_by_mypy(repository: Path, name: str) -> list[str]:
    """`line: severity: message` of mypy over one of the user's files, by the repository's own configuration."""
    done = rows.mypy(repository, str((USER / name).relative_to(repository)))
    assert all(f"{name}:" in line for line in done.stdout.splitlines()), done.stdout
    return [line.split(f"{name}:")[1] for line in done.stdout.splitlines()]


def said_by_pyright(repository: Path, name: str) -> list[tuple[int, str, str]]:
    return users.pyright(repository, (USER / name).read_text(encoding="utf-8"))


def test_mypy_sees_a_misspelt_attribute_of_the_trainer(repository: Path) -> None:
    said = said_by_mypy(repository, "misspelt.py")
    expected = '"Trainer" has no attribute "curent_epoch"; maybe "current_epoch"?  [attr-defined]'
    assert said == [f"{line}: error: {expected}" for line in MISSPELT]
    assert len(MISSPELT) == 5


@NEEDS_PYRIGHT
def test_pyright_sees_a_misspelt_attribute_of_the_trainer(repository: Path) -> None:
    said = said_by_pyright(repository, "misspelt.py")
    assert [(line, severity) for line, severity, _ in said] == [(line, "error") for line in MISSPELT]
    assert all('Cannot access attribute "curent_epoch" for class "Trainer"' in message for _, _, message in said)


def test_mypy_sees_a_misspelt_name_of_a_room(repository: Path) -> None:
    said = [line for line in said_by_mypy(repository, "misspelt_names.py") if "error" in line]
    assert [int(line.split(":")[0]) for line in said] == [3, 4, 5, 6, 7, 8]
    assert all(line.endswith("[attr-defined]") and "has no attribute" in line for line in said)


@NEEDS_PYRIGHT
def test_pyright_sees_a_misspelt_name_of_a_room(repository: Path) -> None:
    said = said_by_pyright(repository, "misspelt_names.py")
    assert [line for line, severity, _ in said if severity == "error"] == [3, 4, 5, 6, 7, 8]


def test_mypy_sees_an_argument_that_the_trainer_does_not_have(repository: Path) -> None:
    [said] = said_by_mypy(repository, "arguments.py")
    expected = 'Argument "max_epoch" to "Trainer" has incompatible type "int"; expected "Never"  [arg-type]'
    assert said == f"5: error: {expected}"


def test_mypy_lets_overrides_have_arguments_and_types_of_their_own(repository: Path) -> None:
    assert said_by_mypy(repository, "overrides.py") == []


@NEEDS_PYRIGHT
def test_pyright_lets_overrides_have_arguments_and_types_of_their_own(repository: Path) -> None:
    assert said_by_pyright(repository, "overrides.py") == []


def test_the_overrides_are_checked_strictly(repository: Path, tmp_path: Path) -> None:
    # that they pass would say nothing if mypy did not look at them
    text = (USER / "overrides.py").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(f"{text}\n\ndef loose(x): ...\n", encoding="utf-8")
    said = rows.mypy(repository, str(wrong)).stdout
    # mypy's cache may tell the path of an earlier run's folder
    place = f"wrong.py:{len(text.splitlines()) + 3}"
    assert said.endswith(f"{place}: error: Function is missing a type annotation  [no-untyped-def]\n")
    assert len(said.splitlines()) == 1
    assert len(re.findall(r"^    def ", text, re.MULTILINE)) >= 45


@pytest.fixture(scope="module")
def trainer_attributes() -> list[str]:
    """The public attributes of a Trainer after a fit, methods left out; those of the issue in any case."""
    found = live.fit(rows.REPOSITORY, live.ALL_OFF)["attributes"]
    return sorted({*found, *users.OF_THE_ISSUE})


def test_mypy_knows_every_public_attribute_of_the_trainer(repository: Path, trainer_attributes: list[str]) -> None:
    found = users.by_mypy(repository, trainer_attributes)
    assert {name: kind for name, kind in found.items() if kind != users.KNOWN} == {}
    assert len(found) >= 59


@NEEDS_PYRIGHT
def test_pyright_knows_every_public_attribute_of_the_trainer(repository: Path, trainer_attributes: list[str]) -> None:
    found = users.by_pyright(repository, trainer_attributes)
    assert found is not None and len(found) >= 59
    assert {name: kind for name, kind in found.items() if kind != users.KNOWN} == {}
