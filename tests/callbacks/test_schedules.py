"""Random schedules of ModelCheckpoint leave what its rules name, however they are interrupted."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from lightkit.callbacks import ModelCheckpoint

COUNT = int(os.environ.get("LIGHTKIT_SCHEDULES", "40"))  # python benchmarks/schedules.py runs 300


@pytest.fixture
def schedules(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program."""
    monkeypatch.syspath_prepend(str(repository))
    return importlib.import_module("benchmarks.schedules")


@pytest.mark.slow
def test_interrupted_schedules_leave_the_files_and_scores_of_the_rules(schedules: Any, tmp_path: Path) -> None:
    ended = 0
    for seed in [*range(COUNT), 5075]:  # the last: a save that waits for the epoch's end does not come before it
        schedule, wrong, deaths = schedules.check(seed, tmp_path / str(seed))
        assert wrong == [], (seed, schedule)
        ended += deaths
    assert ended >= COUNT


def test_the_rules_find_a_folder_that_is_not_reconciled(
    schedules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelCheckpoint, "_reconcile", lambda self, trainer: None)
    assert any(schedules.check(seed, tmp_path / str(seed))[1] for seed in range(12))
