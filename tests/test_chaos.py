"""The short form of benchmarks/chaos.py: jobs of many kinds, killed at random, end as the undisturbed ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.chaos import differences
from benchmarks.chaos_jobs import JOBS


def test_there_are_jobs_of_many_kinds() -> None:
    assert len(JOBS) >= 30


@pytest.mark.parametrize(("one", "other", "told"), [
    ({"a": [torch.zeros(2)]}, {"a": [torch.tensor([0.0, 1.0])]}, [".a[0]: tensors differ"]),
    ({"files": ["a", "b"]}, {"files": ["a"]}, [""".files: "['a', 'b']" != "['a']\""""]),
    ({"a": 1, "b": 2}, {"a": 1}, [".b: only in the whole run"]),
    ({"a": torch.zeros(2)}, {"a": torch.zeros(2, dtype=torch.float64)}, [".a: torch.float32 is torch.float64"]),
    ({"a": float("nan"), "b": (1, "x")}, {"a": float("nan"), "b": (1, "x")}, []),
])  # fmt: skip
def test_a_difference_is_seen(one: object, other: object, told: list[str]) -> None:
    assert list(differences(one, other)) == told


@pytest.mark.slow
@pytest.mark.parametrize("how", ["KILL", "TERM"])
def test_jobs_that_are_killed_at_random_end_as_the_undisturbed_ones(repository: Path, how: str) -> None:
    """At most 40 seconds of it, and in them as many jobs as the machine gets through."""
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "60", "--seconds", "40", "--signal", how]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("s: 0 differences")
