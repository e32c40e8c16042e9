"""What one more logged metric and one more callback cost in a step: the slope from 1 to 50 of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import Result, measure
from benchmarks.jobs import Data, Job, Maker

COUNTS = (1, 10, 50)


def jobs(quick: bool) -> list[list[Job]]:
    """Two groups: logged metrics, callbacks; each with 1, 10 and 50."""
    steps = Data((32,), 4, 60 if quick else 500, own=True)
    metrics = [
        Job(f"metrics_{n}", f"{n} metrics, each step's value and the epoch's mean", steps, logged=n) for n in COUNTS
    ]
    callbacks = [Job(f"callbacks_{n}", f"{n} callbacks with one hook each", steps, callbacks=n) for n in COUNTS]
    return [metrics, callbacks]


def measure_group(group: list[Job], makers: Mapping[str, Maker], *, rounds: int) -> tuple[list[Result], dict[str, Any]]:
    """The results of each job, and the microseconds that one more costs, by framework."""
    results = [measure(job, makers, rounds=rounds) for job in group]
    first, last = results[0], results[-1]
    more = (group[-1].logged - group[0].logged) or (group[-1].callbacks - group[0].callbacks)
    each = {}
    for name in first.rows:
        if name.startswith("raw"):
            continue
        # how much longer than raw a step takes, so that a slow moment of the machine is taken out
        extra = [
            statistics.median(a - b for a, b in zip(r.rows[name].seconds, r.rows["raw"].seconds, strict=True)) / r.count
            for r in (first, last)
        ]
        each[name] = (extra[1] - extra[0]) / more * 1e6
    return results, {"title": group[-1].title, "us_each": each}
