"""`lightkit fit CONFIG --resume`, `lightkit fit --resume RUN_DIR`, and how a stopped command ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Run = Callable[..., Any]


STOPPING = """
import os
import jobs

class Stopping(jobs.Deep):
    def training_step(self, batch, batch_idx):
        if self.global_step == 3:
            os.kill(os.getpid(), 15)
        return super().training_step(batch, batch_idx)
"""


def run_dirs(project: Path) -> list[Path]:
    return sorted(project.glob("runs/*/version_*"))


@pytest.fixture
def stopped(lightkit: Run, project: Path) -> Path:
    """A run directory in which a job was stopped after step 4."""
    (project / "stopping.py").write_text(STOPPING)
    job = (project / "job.yaml").read_text()
    (project / "job.yaml").write_text(job.replace("jobs.Deep", "stopping.Stopping"))
    result = lightkit("fit", "job.yaml", "--trainer.run_name=mine")
    assert result.code == 128 + signal.SIGTERM == 143
    assert result.err == "", result.err
    assert "SIGTERM: the fit ends in epoch" in result.out
    (run_dir,) = run_dirs(project)
    return run_dir


def test_a_stopped_command_ends_with_143_and_its_run_directory_goes_on(
    lightkit: Run, project: Path, stopped: Path
) -> None:
    before = yaml.safe_load((stopped / "config.yaml").read_text())
    assert before["model"]["class_path"] == "stopping.Stopping" and "resume" not in before
    result = lightkit("fit", "--resume", str(stopped.relative_to(project)))
    assert (result.code, result.err) == (0, "")
    assert run_dirs(project) == [stopped], "in the same directory"
    assert sorted(path.name for path in stopped.glob("config*")) == ["config.yaml"], "it is the same job"
    again = lightkit("fit", f"--resume={stopped}")
    assert "fit: nothing is left to train, the run is finished" in again.out


def test_resume_with_a_config_goes_on_or_begins(lightkit: Run, project: Path) -> None:
    for expected in (False, True):
        result = lightkit("fit", "job.yaml", "--resume")
        assert (result.code, result.err) == (0, "")
        assert ("the run is finished" in result.out) == expected
    assert len(run_dirs(project)) == 1
    more = lightkit("fit", "job.yaml", "--resume", "--trainer.max_epochs=3")
    assert more.code == 0 and "is finished" not in more.out
    assert len(run_dirs(project)) == 1


@pytest.mark.parametrize(("arguments", "message"), [
    (["--resume"], "lightkit fit --resume: give a CONFIG before it, or the run directory behind it"),
    (
        ["--resume", "runs"],
        "lightkit fit --resume runs: there is no runs/config.yaml, which `lightkit fit` writes into a run directory; "
        "give the config too: lightkit fit CONFIG --resume runs",
    ),
])  # fmt: skip
def test_resume_without_a_run_is_wrong_input(lightkit: Run, arguments: list[str], message: str) -> None:
    os.makedirs("runs")
    result = lightkit("fit", *arguments)
    assert (result.code, result.err.strip()) == (2, f"lightkit: error: {message}")
