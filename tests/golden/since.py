"""What was changed on purpose since the recordings were made: a recording as it would be made today.

The recordings stay as they are; each function here is one such change, and has its own tests elsewhere.
"""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Iterable
from typing import Any

PARTS = ("whole", "stopped", "resumed")


def as_made_today(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recording with the changes of logging."""
    made = copy.deepcopy(recorded)
    for part in (made[name] for name in PARTS if name in made):
        if "csv" in part:
            part["csv"] = {name: one_row_a_step(lines) for name, lines in part["csv"].items()}
        for _, values in part.get("logged", []):
            if is_of_a_batch(values):
                values.pop("epoch", None)
        if "run/metrics.csv" in part["files"]:
            part["files"] = sorted({*part["files"], "run/hparams.yaml"})
    return made


def comparable(recording: dict[str, Any]) -> dict[str, Any]:
    """Without the position of the CSVLogger, which holds its last row since: tests/loggers/test_csv.py has that."""
    found = copy.deepcopy(recording)
    trees = found.pop("trees")
    for part in (found[name] for name in PARTS if name in found):
        for contents in part.get("checkpoints", {}).values():
            if isinstance(contents, str):  # as another part's
                continue
            contents["entries"] = [x for x in trees[contents["entries"]] if not x.startswith(("loggers:", "loggers/1"))]
            del contents["digests"]["loggers"]
            contents["values"] = {k: v for k, v in contents["values"].items() if not k.startswith("loggers/1")}
    return found


def is_of_a_batch(names: Iterable[str]) -> bool:
    """Whether metrics are those of one batch of an evaluation, which are logged without an epoch."""
    return any("_step/dataloader_idx_" in name for name in names)


def one_row_a_step(lines: list[str]) -> list[str]:
    """Rows that follow each other, of one step and epoch and without a common metric, are one."""
    rows: list[dict[str, str]] = []
    reader = csv.DictReader(lines)
    for line in reader:
        row = {name: value for name, value in line.items() if value}
        if is_of_a_batch(row):
            row.pop("epoch", None)
        common = rows[-1].keys() & row.keys() if rows else set()
        # what calls after the fit logged has rows of its own
        is_later = any(name.startswith("test_") for name in row.keys() | (rows[-1].keys() if rows else set()))
        is_same = all(name in ("step", "epoch") and rows[-1][name] == row[name] for name in common)
        if rows and not is_later and is_same:
            rows[-1] |= row
        else:
            rows.append(row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(reader.fieldnames or []))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().splitlines()
