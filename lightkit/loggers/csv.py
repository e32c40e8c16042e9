"""Metrics as rows of a CSV file, which a spreadsheet or pandas opens."""

from __future__ import annotations

import csv
import itertools
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightkit.errors import ConfigError
from lightkit.loggers.directory import DirectoryLogger

__all__ = ["CSVLogger"]

_FLUSH_EVERY_S = 10.0


class CSVLogger(DirectoryLogger):
    """Writes one row for each call of `log_metrics` to `metrics.csv`; hyperparameters to `hparams.yaml`.

    Rows are held in memory and written every `flush_logs_every_n_steps` steps or 10 seconds, whichever
    comes first, and before a checkpoint is taken; a crash loses at most those held. A new metric adds a
    column, which rewrites the file once, row by row; otherwise the millionth row costs what the first did.

    On a resume, the rows written after the checkpoint leave `metrics.csv` and are kept beside it as
    `metrics.before_resume_K.csv`. A file that is there when a run starts afresh is continued.

    Args:
        save_dir, name, version: where to write; see `DirectoryLogger`. Default: the run directory.
        prefix: put before every name, with a `-`.
        flush_logs_every_n_steps: how many steps may pass before held rows are written.
    """

    NAME_METRICS_FILE = "metrics.csv"

    def __init__(
        self, save_dir: str | Path | None = None, name: str | None = "lightning_logs",
        version: int | str | None = None, prefix: str = "", flush_logs_every_n_steps: int = 100,
    ) -> None:  # fmt: skip
        super().__init__(save_dir, name, version, prefix)
        if flush_logs_every_n_steps < 1:
            raise ConfigError(f"CSVLogger(flush_logs_every_n_steps={flush_logs_every_n_steps!r}): expected at least 1.")
        self._flush_every = flush_logs_every_n_steps
        self._table: _Table | None = None

    def __getstate__(self) -> dict[str, object]:
        self.save()  # a copy, which opens the file when it writes, finds every row there
        return {**vars(self), "_table": None}

    @property
    def experiment(self) -> _Table:
        """The open table; made when first asked for."""
        if self._table is None:
            self._table = _Table(self._directory() / self.NAME_METRICS_FILE)
        return self._table

    @property
    def metrics_file(self) -> Path | None:
        """The path of `metrics.csv`; None before the directory is known."""
        return None if self.log_dir is None else Path(self.log_dir, self.NAME_METRICS_FILE)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row of metrics; without a step, the number of rows so far stands for it."""
        table = self.experiment
        row: dict[str, Any] = {"step": table.num_rows if step is None else step}
        for name, value in metrics.items():
            if name != "step":
                row[self._key(name)] = value.item() if hasattr(value, "item") else value
        table.append(row, self._flush_every)

    def save(self) -> None:
        """Write the rows that are held."""
        if self._table is not None:
            self._table.flush()

    def finalize(self, status: str) -> None:
        """Write the rows that are held; the next row continues the file."""
        self.save()
        self._table = None

    def state_dict(self) -> dict[str, Any]:
        """Return how many rows the file has and its columns, after writing the held ones."""
        if self.log_dir is None:
            return super().state_dict()
        table = self.experiment
        table.flush()
        return {**super().state_dict(), "num_rows": table.num_rows, "columns": list(table.columns)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Cut the file back to the rows of the checkpoint; later rows are kept in a file beside it."""
        self.finalize("interrupted")
        super().load_state_dict(state_dict)
        path = self.metrics_file
        if path is not None and path.exists() and "num_rows" in state_dict:
            _cut_back(path, state_dict["num_rows"], state_dict["columns"])


class _Table:
    """A CSV file that rows are appended to, and whose columns may grow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        columns = _columns(path)
        self.columns = dict.fromkeys(columns)  # an ordered set
        self.num_rows = sum(1 for _ in _rows(path))
        self._held: list[dict[str, Any]] = []
        self._has_new_columns = False
        self._flushed_step = 0
        self._flushed_at_s = time.monotonic()
        if path.exists() and not _ends_in_newline(path):
            _write(path, columns, _rows(path))  # a crash cut the last row short

    def append(self, row: dict[str, Any], flush_every: int) -> None:
        """Hold a row back; write those held where enough steps or seconds have passed since the last flush."""
        self._has_new_columns |= not row.keys() <= self.columns.keys()
        self.columns |= dict.fromkeys(row)
        self._held.append(row)
        self.num_rows += 1
        is_long_ago = time.monotonic() - self._flushed_at_s >= _FLUSH_EVERY_S
        if is_long_ago or row["step"] - self._flushed_step >= flush_every:
            self._flushed_step = row["step"]
            self.flush()

    def flush(self) -> None:
        """Write the held rows to the file."""
        self._flushed_at_s = time.monotonic()
        if not self._held:
            return
        if self._has_new_columns:
            _write(self.path, list(self.columns), _rows(self.path))
            self._has_new_columns = False
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, list(self.columns)).writerows(self._held)
        self._held = []


def _columns(path: Path) -> list[str]:
    """The columns of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file).fieldnames or [])


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole rows of a CSV file, one by one: a table of millions is never in memory."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        yield from rows if _ends_in_newline(path) else (row for row, _ in itertools.pairwise(rows))


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        return file.read(1) in (b"\n", b"")


def _write(path: Path, columns: list[str], rows: Iterable[dict[str, Any]]) -> None:
    """Replace the file by these rows, which may be its own, in one move; missing values are left empty."""
    partial = path.with_name(path.name + ".tmp")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def _cut_back(path: Path, num_rows: int, columns: list[str]) -> None:
    """Keep the first `num_rows` rows and these columns; move the rows after them to a file of their own."""
    found, in_file = _columns(path), sum(1 for _ in _rows(path))
    if in_file < num_rows:
        problem = f"CSVLogger: {path} holds {in_file} rows, but the checkpoint was taken after {num_rows}"
        warnings.warn(f"{problem}; going on at its end.", stacklevel=3)
    if in_file > num_rows:
        names = (path.with_name(f"{path.stem}.before_resume_{k}{path.suffix}") for k in itertools.count(1))
        beside = next(name for name in names if not name.exists())
        _write(beside, found, itertools.islice(_rows(path), num_rows, None))
    if in_file > num_rows or found != columns:
        _write(path, columns or found, itertools.islice(_rows(path), num_rows))
