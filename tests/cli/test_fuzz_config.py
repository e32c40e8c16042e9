"""Configs with something changed at random are taken, or one error; nothing is executed, nothing else is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_changed_configs_are_taken_or_one_error() -> None:
    """The short form of `python -m benchmarks.fuzz_config`, in a process of its own, whose memory it bounds."""
    command = [sys.executable, "-m", "benchmarks.fuzz_config", "--configs", "60", "--seed", "11"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    counts, problems = done.stdout.splitlines()
    assert problems == "0 problems"
    assert "'taken': " in counts and "'error': " in counts
