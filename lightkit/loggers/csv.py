"""Metrics as rows of a CSV file, which a spreadsheet or pandas opens."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightkit.checkpoint.places import place
from lightkit.errors import ConfigError
from lightkit.loggers.directory import DirectoryLogger

__all__ = ["CSVExperiment", "CSVLogger"]

_FLUSH_EVERY_S = 10.0
_MOST_HELD = 100_000  # rows, where they cannot be written


class CSVLogger(DirectoryLogger):
    """Writes one row for each step to `metrics.csv`; hyperparameters to `hparams.yaml`.

    What is logged one after the other at the same step and epoch shares a row; a metric that the row has already begins
    a new one. Rows are held in memory and written every `flush_logs_every_n_steps` steps or 10 seconds, whichever
    comes first, and before a checkpoint is taken; a crash loses at most those held. A new metric adds a
    column, which rewrites the file once, row by row; otherwise the millionth row costs what the first did.

    On a resume, the rows written after the checkpoint leave `metrics.csv` and are kept beside it as
    `metrics.before_resume_K.csv`; so are those of a run that was killed before its first checkpoint and is started
    again with `ckpt_path="last"`. A file that is there when a run starts afresh is continued.

    Rows that could not be written, as for a full disk, are held and written with the next ones.

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
        self._early: list[dict[str, Any]] = []  # rows for which no table could be opened
        self._num_lost = 0
        self._cut: _Position | None = None  # that it goes back to

    def __getstate__(self) -> dict[str, object]:
        self.save()  # a copy, which opens the file when it writes, finds every row there
        return {**super().__getstate__(), "_table": None}

    @property
    def experiment(self) -> CSVExperiment:
        """What writes, with the methods that Lightning's has."""
        return CSVExperiment(self)

    def _opened(self) -> _Table:
        """The open table; made when first asked for."""
        if self._table is None:
            path = self._directory() / self.NAME_METRICS_FILE
            if self._mirror is not None:
                self._mirror.pull(self.NAME_METRICS_FILE)
            row: dict[str, Any] | None = None
            if self._cut is not None:
                if path.exists() and path.resolve().parent == path.parent.resolve():  # no link to a file elsewhere
                    row = _cut_back(path, self._free_name, self._cut)
                self._cut = None
            self._table = _Table(path)
            if row is not None:
                self._table.go_on_with(row)
        return self._table

    def _unwritten(self) -> list[dict[str, Any]]:
        """The rows that are not in the file."""
        return [] if self._table is None else self._table.unwritten

    @property
    def metrics_file(self) -> Path | None:
        """The path of `metrics.csv`; None before the directory is known."""
        return None if self.log_dir is None else place(self.log_dir) / self.NAME_METRICS_FILE

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row of metrics; without a step, the number of rows so far stands for it."""
        self._add({self._key(name): value for name, value in metrics.items() if name != "step"}, step)

    def _add(self, values: Mapping[str, Any], step: int | None) -> None:
        row = {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
        self._early.append({"step": step, **row})
        with self._io():
            table = self._opened()
            while self._early:  # the table holds a row before it writes
                table.append(self._early.pop(0), self._flush_every)
            if self._publish_is_due():
                table.flush()
                self._publish()

    def save(self) -> None:
        """Write the rows that are held."""
        if self._table is not None:
            with self._io():
                self._table.flush()
                self._publish()
        super().save()

    def finalize(self, status: str) -> None:
        """Write the rows that are held; the next row continues the file."""
        try:
            self.save()
        finally:
            table, self._table = self._table, None
            self._num_lost += len(self._early) + (0 if table is None else len(table.unwritten))
            self._early = []
        self._say_what_is_missing()

    def set_aside(self) -> None:
        """See Logger: the rows are kept in `metrics.before_resume_K.csv`."""
        self.finalize("interrupted")
        path = self.metrics_file
        with self._io():
            if path is not None and path.exists():
                path.replace(path.with_name(self._free_name(path.name)))

    def state_dict(self) -> dict[str, Any]:
        """Return how many rows the file has, its columns and its last row, which may grow; the held are written."""
        state = super().state_dict()
        if self.log_dir is None:
            return state
        with self._io():
            table = self._opened()
            state |= {"num_rows": table.num_rows, "columns": list(table.columns), "last_row": table.last_row}
            table.flush()
            self._publish()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Cut the file back to the rows of the checkpoint; later rows are kept in a file beside it."""
        from lightkit.schema import NUMBER, TEXT, TRUTH, WHOLE, DictOf, ListOf, Record, optional

        cell = optional(NUMBER, TEXT, TRUTH)
        Record({}, {"num_rows": WHOLE, "columns": ListOf(TEXT), "last_row": DictOf(cell)}).check(state_dict)
        self.finalize("interrupted")
        super().load_state_dict(state_dict)
        if self.log_dir is not None and "num_rows" in state_dict:
            self._cut = _Position(state_dict["num_rows"], state_dict["columns"], state_dict.get("last_row", {}))
            with self._io():  # where it fails, it is done before the next row
                self._opened().flush()
                self._publish()

    def _free_name(self, name: str) -> str:
        """The name of a file beside, for rows that leave it."""
        path = self._place() / name
        names = (f"{path.stem}.before_resume_{k}{path.suffix}" for k in itertools.count(1))
        return next(name for name in names if not path.with_name(name).exists())

    def _take_failure(self) -> None:
        lost = max(len(self._early) - _MOST_HELD, 0)
        self._num_lost += lost + (0 if self._table is None else self._table.lose(_MOST_HELD))
        del self._early[:lost]

    def _missing(self) -> list[str]:
        num_lost, self._num_lost = self._num_lost, 0
        return [*([f"{num_lost} rows of {self.NAME_METRICS_FILE}"] if num_lost else []), *super()._missing()]


class RunMetrics(CSVLogger):
    """`metrics.csv` of a run whose loggers write none; hyperparameters are theirs to keep."""

    def _write_hparams(self) -> None:
        self._has_unwritten_hparams, self._has_hparams_file = False, True


class CSVExperiment:
    """What a CSVLogger writes with, under the names that Lightning's has."""

    def __init__(self, logger: CSVLogger):
        self._logger = logger

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows that are not in the file yet."""
        return self._logger._unwritten()

    @property
    def metrics_file_path(self) -> str:
        """Where the rows are written to."""
        return str(self._logger._place() / self._logger.NAME_METRICS_FILE)

    @property
    def log_dir(self) -> str:
        """The directory of `metrics.csv`."""
        return str(self._logger._place())

    @property
    def hparams(self) -> dict[str, Any]:
        """The hyperparameters so far."""
        return self._logger.hparams

    def log_metrics(self, metrics_dict: Mapping[str, Any], step: int | None = None) -> None:
        """As the logger's, without its prefix."""
        self._logger._add({name: value for name, value in metrics_dict.items() if name != "step"}, step)

    def log_hparams(self, params: Any) -> None:
        """As the logger's `log_hyperparams`."""
        self._logger.log_hyperparams(params)

    def save(self) -> None:
        """Write the rows that are held."""
        self._logger.save()


class _Position(NamedTuple):
    """Where a checkpoint was taken: the rows and columns that were there; what the last row had, {}: it was closed."""

    num_rows: int
    columns: list[str]
    last_row: dict[str, Any]


class _Table:
    """A CSV file that rows are appended to, and whose columns may grow.

    The last row may be in the file and grow all the same: it stays held, and is written again in its place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        columns = _columns(path)
        self.columns = dict.fromkeys(columns)  # an ordered set
        self.num_rows = sum(1 for _ in _rows(path))
        self._held: list[dict[str, Any]] = []  # those to be written, the last one always among them
        self._last_at: tuple[int, int] | None = None  # where the last row begins and ends, where it is in the file
        self._is_written = True  # all that is held, as it is now
        self._num_gone = 0  # with a file that was deleted
        self._must_rewrite = False
        self._flushed_step = 0
        self._flushed_at_s = time.monotonic()
        if path.exists() and not _ends_in_newline(path):
            _write(path, columns, _rows(path))  # a crash cut the last row short

    def go_on_with(self, row: dict[str, Any]) -> None:
        """This is the last row; it is not in the file."""
        self._held, self.num_rows, self._is_written = [row], self.num_rows + 1, False
        self._must_rewrite |= not row.keys() <= self.columns.keys()
        self.columns |= dict.fromkeys(row)

    @property
    def unwritten(self) -> list[dict[str, Any]]:
        """Rows that are not in the file, or not as they are now."""
        return [] if self._is_written else self._held

    @property
    def last_row(self) -> dict[str, Any]:
        """The row that may grow, of plain values."""
        return {} if not self._held else {name: _plain(value) for name, value in self._held[-1].items()}

    def append(self, row: dict[str, Any], flush_every: int) -> None:
        """Hold a row back; write those held where enough steps or seconds have passed since the last flush.

        A step of None is the number of rows so far.
        """
        if row["step"] is None:
            row["step"] = self.num_rows
        self._must_rewrite |= not row.keys() <= self.columns.keys()
        self.columns |= dict.fromkeys(row)
        if self._held and _go_together(self._held[-1], row):
            self._held[-1] |= row
        else:
            if self._is_written:
                self._held, self._last_at = [], None
            self._held.append(row)
            self.num_rows += 1
        self._is_written = False
        is_long_ago = time.monotonic() - self._flushed_at_s >= _FLUSH_EVERY_S
        if is_long_ago or row["step"] - self._flushed_step >= flush_every:
            self._flushed_step = row["step"]
            self.flush()

    def flush(self) -> None:
        """Write the held rows to the file: all, or, after an OSError, none; they are held until they are there."""
        self._flushed_at_s = time.monotonic()
        if self._is_written:
            return
        in_file = self.num_rows - len(self._held)
        if not self.path.exists():
            self._begin_file(in_file)
        if self._must_rewrite:
            _write(self.path, list(self.columns), itertools.islice(_rows(self.path), in_file))
            self._must_rewrite = False
            self._last_at = None
        size = self.path.stat().st_size
        if self._last_at is not None and self._last_at[1] == size:  # and nobody has written after it
            size = self._last_at[0]
            os.truncate(self.path, size)
        self._last_at = None
        whole, last = self._text_of(self._held[:-1]), self._text_of(self._held[-1:])
        try:
            with self.path.open("ab") as file:
                file.write(whole + last)
        except OSError:
            self._must_rewrite = True  # unless what was written of them can be taken away
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
                self._must_rewrite = False
            raise
        self._held, self._is_written = self._held[-1:], True
        self._last_at = size + len(whole), size + len(whole) + len(last)

    def _text_of(self, rows: list[dict[str, Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, list(self.columns)).writerows(rows)
        return text.getvalue().encode()

    def _begin_file(self, num_gone: int) -> None:
        """Make the folder; say so where somebody has deleted the file: the next flush makes one of the rows held."""
        self.num_rows, self._must_rewrite, self._last_at = len(self._held), True, None
        self._num_gone += num_gone
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if num_gone:
            problem = f"{self.path} was deleted while the run was going on, with {num_gone} rows"
            raise FileNotFoundError(errno.ENOENT, problem)

    def lose(self, most_held: int) -> int:
        """Forget the oldest rows held where there are more than that; -> rows lost since this was asked last."""
        dropped = max(len(self._held) - most_held, 0)
        del self._held[:dropped]
        self.num_rows -= dropped
        lost, self._num_gone = dropped + self._num_gone, 0
        return lost


def _go_together(row: Mapping[str, Any], more: Mapping[str, Any]) -> bool:
    """Whether two records are of one step and epoch, and name no metric both."""
    return all(name in ("step", "epoch") and row[name] == more[name] for name in row.keys() & more.keys())


def _plain(value: object) -> float | str | None:
    """A cell as a checkpoint keeps it."""
    return value if value is None or isinstance(value, int | float | str) else str(value)


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
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)  # on a full disk its room is wanted
        raise


def _cut_back(path: Path, free_name: Callable[[str], str], to: _Position) -> dict[str, Any] | None:
    """Keep the rows and columns of a checkpoint; what came after it moves to a file of its own.

    -> The last row where it may grow; it is to be written again.
    """
    last = to.last_row or None
    num_whole = to.num_rows - (last is not None)
    found, in_file = _columns(path), sum(1 for _ in _rows(path))
    if in_file < num_whole:
        problem = f"CSVLogger: {path} holds {in_file} rows, but the checkpoint was taken after {to.num_rows}"
        warnings.warn(f"{problem}; going on at its end.", stacklevel=4)
        last = None
    leaving: Iterator[dict[str, Any]] = itertools.islice(_rows(path), num_whole, None)
    if last is not None:
        leaving = itertools.chain(_added(last, next(leaving, {})), leaving)
    if (first := next(leaving, None)) is not None:
        _write(path.with_name(free_name(path.name)), found, itertools.chain([first], leaving))
    if in_file > num_whole or found != to.columns:
        _write(path, to.columns or found, itertools.islice(_rows(path), num_whole))
    return last


def _added(before: Mapping[str, Any], row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a row has more than it had."""
    more = {name: value for name, value in row.items() if value not in ("", None) and name not in before}
    if more:
        yield {**{name: row[name] for name in ("step", "epoch") if name in row}, **more}
