"""The benchmarks run, and compare runs that end with the same numbers; no time is asserted."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.structure.rows import sources
from benchmarks.structure.sizes import long_functions

WORKLOADS = [
    f"{name}_{kind}"
    for kind in ("own", "tensor")
    for name in ("bare", "everything", "validation", "epochs", "accumulate")
] + ["cnn", "keyed", "in_memory", "workers_own"]


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a file of benchmarks/."""
    monkeypatch.syspath_prepend(str(repository))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def program(repository: Path, *arguments: str) -> str:
    command = [sys.executable, str(repository / "benchmarks" / "run.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_list_names_every_workload(repository: Path) -> None:
    others = ["metrics", "callbacks", "import_time", "async_checkpoint", "growth"]
    assert program(repository, "--list").split() == [*WORKLOADS, *others]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_gpu_benchmark_says_that_there_is_no_gpu(repository: Path) -> None:
    command = [sys.executable, str(repository / "benchmarks" / "gpu.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "no GPU: nothing is measured (torch.cuda.is_available() is False); --cpu runs what the CPU can\n"
    )


@pytest.mark.slow
def test_the_gpu_benchmark_runs_what_the_cpu_can(repository: Path) -> None:
    command = [sys.executable, str(repository / "benchmarks" / "gpu.py"), "--cpu", "--quick", "--rounds", "1"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.count("1.00 of raw") >= 3
    assert said.count("raw waits for data") == 3


@pytest.mark.slow
def test_a_quick_run_measures_one_workload_and_writes_it_down(repository: Path, tmp_path: Path) -> None:
    options = ("--quick", "--only", "bare_tensor", "--no-peers", "--rounds", "1", "--out", str(tmp_path))
    said = program(repository, *options)
    assert f"written: {tmp_path / 'benchmarks.md'}" in said
    figures = json.loads((tmp_path / "benchmarks.json").read_text())
    assert [result["name"] for result in figures["steps"]] == ["bare_tensor"]
    rows = figures["steps"][0]["rows"]
    assert list(rows) == ["raw", "sliced", "lightkit", "raw again"]
    assert {name: row["equality"] for name, row in rows.items()} == dict.fromkeys(rows, "bits")
    assert all(len(row["seconds"]) == 1 and row["seconds"][0] > 0 for row in rows.values())
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| bare step, DataLoader(TensorDataset) |" in text
    assert (tmp_path / "benchmarks.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_ends_as_the_hand_written_loop(bench: Any, name: str) -> None:
    jobs, harness, raw, ours, steps = (bench(n) for n in ("jobs", "harness", "raw", "ours", "steps"))
    job = next(job for job in steps.jobs(True) if job.name == name)
    batches = {"train_batches": min(job.data.train_batches, 12), "val_batches": min(job.data.val_batches, 3)}
    small = jobs.Data(**{**vars(job.data), **batches, "cache": {}})
    job = jobs.Job(**{**vars(job), "data": small, "epochs": min(job.epochs, 3), "units": 0})
    _, wanted = harness.run_once(raw.raw, job)
    _, found = harness.run_once(ours.lightkit, job)
    assert harness.compare(found, wanted) == "bits"
    if not small.own:
        assert harness.compare(harness.run_once(raw.sliced, job)[1], wanted) == "bits"
    if job.kind != "validation":
        started = list(job.model().state_dict().values())
        assert harness.compare(wanted[: len(started)], started) == "differs"  # something was learned


def test_ends_are_compared_to_the_bit(bench: Any) -> None:
    compare = bench("harness").compare
    one = torch.ones(2)
    assert compare([one], [torch.ones(2)]) == "bits"
    assert compare([one + 1e-6], [one]) == "close"
    assert compare([one + 1e-2], [one]) == "differs"
    assert compare([one], [one, one]) == "differs"


@pytest.mark.slow
def test_growth_is_measured_in_a_process_of_its_own(bench: Any) -> None:
    found = bench("growth").measure(200)
    assert found["steps"] == 200
    assert sorted(found) == ["last_us", "rss_growth_mb", "second_us", "steps"]


@pytest.mark.slow
def test_checkpoints_are_measured_waited_for_and_by_a_thread(bench: Any) -> None:
    module = bench("async_checkpoint")
    rows = module.measure(1)
    assert [row["way"] for row in rows] == ["sync", "async"] and rows[0]["ratio"] == 1.0
    assert [line.split(" |")[0] for line in module.table(rows)[2:]] == ["| 1 MB, sync", "| 1 MB, async"]


def test_two_checkouts_are_measured_in_turns(repository: Path) -> None:
    command = [sys.executable, str(repository / "benchmarks" / "versus.py"), str(repository)]
    command += ["--quick", "--rounds", "1", "--only", "bare_own"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    head, row = found.stdout.splitlines()
    assert head.split() == ["workload", "new/old", "old/raw", "new/raw"]
    name, *ratios = row.split()
    assert name == "bare_own" and all(float(ratio) > 0 for ratio in ratios) and len(ratios) == 3
    assert found.stderr.count(str(repository / "lightkit")) == 2


def test_no_file_and_no_function_of_the_benchmarks_is_too_long(repository: Path) -> None:
    files = sources(repository, "benchmarks")
    assert len(files) >= 10
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, file.name
        assert long_functions(text) == [], file.name
