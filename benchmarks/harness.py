"""Measures several makers of one job, interleaved, and compares what they end with."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.jobs import Job, Maker

RAW, AGAIN = "raw", "raw again"


@dataclass
class Row:
    """One framework's figures for one job."""

    name: str
    seconds: list[float] = field(default_factory=list)  # one a round
    ratio: float = 1.0  # median over the rounds of its time to raw's in the same round
    equality: str = ""  # of what it ends with to raw's: "bits", "close", "differs"

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


@dataclass
class Result:
    """All frameworks' figures for one job."""

    name: str
    title: str
    count: int  # units of work in a run
    rows: dict[str, Row]
    skipped: dict[str, str] = field(default_factory=dict)

    def microseconds(self, name: str) -> float:
        """Per unit of work."""
        return self.rows[name].median / self.count * 1e6

    @property
    def is_equal(self) -> bool:
        """Whether lightkit and the hand-written slices end with what raw ends with, bit for bit."""
        return all(self.rows[name].equality == "bits" for name in ("lightkit", "sliced") if name in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = {
            name: {
                "ratio": row.ratio, "equality": row.equality, "seconds": row.seconds,
                "us": self.microseconds(name),
            }
            for name, row in self.rows.items()
        }  # fmt: skip
        return {
            "name": self.name, "title": self.title, "count": self.count, "rows": rows, "skipped": self.skipped,
            "is_equal": self.is_equal,
        }  # fmt: skip


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, no log lines, no output: bars and prints go to the null device."""
    with open(os.devnull, "w", encoding="utf-8") as null, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            with contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
                yield
        finally:
            logging.disable(logging.NOTSET)


def run_once(maker: Maker, job: Job) -> tuple[float, list[Tensor]]:
    """Seconds of one run, set-up of model, data and trainer not counted, and what it ended with."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        run = maker(job, folder)
        gc.collect()
        start = time.perf_counter()
        found = run()
        seconds = time.perf_counter() - start
        return seconds, [tensor.clone() for tensor in found]


def compare(found: list[Tensor], wanted: list[Tensor]) -> str:
    """How equal two ends are."""
    if [t.shape for t in found] != [t.shape for t in wanted]:
        return "differs"
    if all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)):
        return "bits"
    pairs = zip(found, wanted, strict=True)
    return "close" if all(torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5) for a, b in pairs) else "differs"


def measure(job: Job, makers: Mapping[str, Maker], *, rounds: int) -> Result:
    """Run every maker `rounds` times in turn, after one run each that is not counted.

    raw runs twice a round: the ratio of the two is the noise of the measurement.
    """
    rows: dict[str, Row] = {}
    skipped: dict[str, str] = {}
    _, wanted = run_once(makers[RAW], job)
    for name, maker in makers.items():
        try:
            _, found = run_once(maker, job)
        except NotImplementedError as reason:
            skipped[name] = str(reason)
            continue
        rows[name] = Row(name, equality=compare(found, wanted))
    rows[AGAIN] = Row(AGAIN, equality="bits")
    order = list(rows)
    for index in range(rounds):
        turn = index % len(order)
        for name in order[turn:] + order[:turn]:
            rows[name].seconds.append(run_once(makers[RAW if name == AGAIN else name], job)[0])
    for row in rows.values():
        row.ratio = statistics.median(a / b for a, b in zip(row.seconds, rows[RAW].seconds, strict=True))
    return Result(job.name, job.title, job.count, rows, skipped)
