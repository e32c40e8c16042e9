"""Labelled texts as rows, read from csv, tsv and json files, folders of text files, or files of lines."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightkit.errors import ConfigError, DataError, MissingDataError, did_you_mean
from recipes.listing import is_data
from recipes.text.lines import lines_of, read_text

OnBadRow = Literal["error", "skip"]
Column = int | str
_MAX_CELL = 2**31 - 1  # csv's own limit of 131,072 characters is less than one long review
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}


class Row(NamedTuple):
    """One text, its label, and where it stands, as errors call it: "train.csv, line 17"."""

    text: str
    label: str
    where: str


class BadRows:
    """Raises for rows that cannot be used, or counts those that are left out.

    Args:
        owner: who reads, at the beginning of the errors.
        mode: "error" raises at the first, "skip" leaves such rows out.

    Attributes:
        count: rows left out so far.
    """

    def __init__(self, owner: str, mode: OnBadRow) -> None:
        if mode not in ("error", "skip"):
            raise ConfigError(f"{owner}(on_bad_row={mode!r}): expected 'error' or 'skip'")
        self.owner = owner
        self.mode = mode
        self.count = 0
        self.first = ""
        self.reported = 0

    def found(self, where: str, problem: str) -> None:
        """Raise DataError, or count the row."""
        if self.mode == "error":
            raise DataError(
                f"{self.owner}: {where}: {problem}; correct it, or set data.on_bad_row to skip to leave such rows out"
            )
        self.count += 1
        self.first = self.first or f"{where}: {problem}"

    def summary(self) -> str:
        """Return how many rows were left out, and why the first was, as the end of a sentence."""
        if not self.count:
            return ""
        return f"; {self.count} {'row was' if self.count == 1 else 'rows were'} left out, the first: {self.first}"

    def report(self) -> None:
        """Warn of rows that were left out since the last report."""
        if self.count > self.reported:
            self.reported = self.count
            warnings.warn(f"{self.owner}{self.summary().replace(';', ':', 1)}", stacklevel=2)


def row_range(owner: str, name: str, bounds: Sequence[int | None] | None) -> slice:
    """Return the slice from the first of two bounds up to the second; None is all rows.

    Raises:
        ConfigError: not two bounds.
    """
    if bounds is None:
        return slice(None)
    if len(bounds) != 2:
        raise ConfigError(
            f"{owner}({name}={list(bounds)}): expected first and end, such as [0, 6600], or [-1000, null] for the last "
            "1,000 rows"
        )
    return slice(*bounds)


class Table:
    """Reads texts and labels from the columns of a csv, tsv or json file.

    The formats are those of torchtext's TabularDataset: a json file holds one object a line. Columns that are named
    need a header line (or json); columns by position, from 0, do not, and `skip_header` leaves a first line out.

    Args:
        owner: who reads, at the beginning of the errors.
        file_format: "csv", "tsv" or "json".
        text: columns of the text; several are joined with a blank.
        label: column of the label.
        skip_header: leave the first line out, where columns go by position.
        delimiter: another one than the format's.
        bad: what to do with rows that lack a column.
    """

    def __init__(
        self,
        owner: str,
        file_format: str,
        text: Sequence[Column],
        label: Column,
        skip_header: bool,
        delimiter: str | None,
        bad: BadRows,
    ) -> None:
        if file_format not in ("csv", "tsv", "json"):
            raise ConfigError(f"{owner}(format={file_format!r}): expected one of csv, tsv, json")
        columns = [*text, label]
        if len({isinstance(column, str) for column in columns}) != 1:
            raise ConfigError(f"{owner}: columns are all named or all positions, got {columns}")
        if file_format == "json" and not isinstance(label, str):
            raise ConfigError(f"{owner}(format='json'): columns must be named, got {columns}")
        self.owner = owner
        self.file_format = file_format
        self.columns = columns
        self.skip_header = skip_header
        self.delimiter = delimiter or ("\t" if file_format == "tsv" else ",")
        self.bad = bad

    def read(self, path: Path) -> list[Row]:
        """Return the rows of a file, those that lack nothing.

        Raises:
            DataError: the file is not there, is not UTF-8, has no such column, or a row lacks one.
        """
        try:
            # utf-8-sig also reads the mark that spreadsheets write first
            with path.open(encoding="utf-8-sig", newline="") as file:
                cells = self._objects(file, path) if self.file_format == "json" else self._cells(file, path)
                return [
                    Row(" ".join(found[:-1]), found[-1].strip(), f"{path}, line {line}")
                    for line, found in cells
                ]
        except UnicodeDecodeError as error:
            raise DataError(f"{self.owner}: {path} is not UTF-8 ({error}); convert it") from None
        except csv.Error as error:
            raise DataError(f"{self.owner}: {path} cannot be read as {self.file_format} ({error})") from None
        except OSError as error:
            raise MissingDataError(
                f"{self.owner}: {path} cannot be read ({error.strerror or error}); "
                "put the file there, or name another one"
            ) from None

    def _objects(self, file: Iterable[str], path: Path) -> Iterator[tuple[int, list[str]]]:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                found = json.loads(text)
            except ValueError as error:
                self.bad.found(f"{path}, line {line}", f"no json object ({error})")
                continue
            names = list(found) if isinstance(found, dict) else []
            missing = [column for column in self.columns if column not in names]
            if missing:
                self.bad.found(f"{path}, line {line}", f"no {missing[0]!r}; there are {', '.join(names) or 'no keys'}")
                continue
            yield line, [str(found[column]) for column in self.columns]

    def _cells(self, file: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(_MAX_CELL)
        reader = csv.reader(file, delimiter=self.delimiter)
        positions: list[int] = [column for column in self.columns if isinstance(column, int)]
        if not positions:
            positions = self._positions(next(reader, []), path)
        elif self.skip_header:
            next(reader, None)
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue  # an empty line, which csv files often end with
            if max(positions) >= len(cells):
                problem = f"has {_columns(len(cells))}, column {max(positions)} is needed{self._hint(cells)}"
                self.bad.found(f"{path}, line {line}", problem)
                continue
            yield line, [cells[position] for position in positions]

    def _positions(self, header: list[str], path: Path) -> list[int]:
        names = [name.strip() for name in header]
        for column in self.columns:
            if column not in names:
                raise DataError(
                    f"{self.owner}: {path} has no column {column!r}; its first line has {', '.join(map(repr, names))}"
                    f"{did_you_mean(str(column), names) or self._hint(header)}"
                )
        return [names.index(str(column)) for column in self.columns]

    def _hint(self, cells: list[str]) -> str:
        """Guess at another delimiter where a row looks like one cell."""
        if len(cells) != 1:
            return ""
        found = [name for name, sign in _DELIMITERS.items() if sign in cells[0]]
        if not found:
            return ""
        return f" (it holds a {' and a '.join(found)}: is data.delimiter right? It is {self.delimiter!r})"


def _columns(count: int) -> str:
    return f"{count} column" if count == 1 else f"{count} columns"


def files_of_lines(owner: str, root: Path, pattern: str = "*.txt") -> list[Row]:
    """Return every line that is not blank of the files ROOT/CLASS.txt, labelled by the file's name.

    Raises:
        DataError: no such folder, no such files, a file without lines, or one that is not UTF-8.
    """
    rows: list[Row] = []
    for path in _matching(owner, root, pattern, f"one file per class there, {root}/CLASS{pattern.lstrip('*')}"):
        lines = lines_of(read_text(owner, path))
        found = [
            Row(line.strip(), path.stem, f"{path}, line {number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
        if not found:
            raise DataError(f"{owner}: {path} has no lines; remove it, or write an example on each line")
        rows += found
    return rows


def folders_of_files(owner: str, root: Path, labels: Sequence[str] | None = None) -> list[Row]:
    """Return every text file ROOT/CLASS/*.txt, labelled by the folder's name.

    Args:
        owner: who reads, at the beginning of the errors.
        root: folder of the class folders.
        labels: the folders to read; None reads all.

    Raises:
        DataError: no such folder, a class folder without files, or a file that is not UTF-8.
    """
    expected = f"one folder per class there, {root}/CLASS/*.txt"
    if labels is None:
        labels = [path.name for path in _matching(owner, root, "*", expected) if path.is_dir()]
        if not labels:
            raise MissingDataError(f"{owner}: no folders in {root}; expected {expected}")
    return [
        Row(read_text(owner, path), label, str(path))
        for label in labels
        for path in _matching(owner, root / label, "*.txt", f"texts there, {root / label}/*.txt")
    ]


def _matching(owner: str, folder: Path, pattern: str, expected: str) -> list[Path]:
    """Return what matches, in alphabetical order: that of the disk differs between machines."""
    if not folder.is_dir():
        raise MissingDataError(f"{owner}: no folder {folder}; expected {expected}")
    found = sorted(path for path in folder.glob(pattern) if is_data(path, folder))
    if not found:
        raise MissingDataError(f"{owner}: no {pattern} in {folder}; expected {expected}")
    return found


def checked_tokens(
    rows: Iterable[Row], tokenize: Callable[[str], list[str]], bad: BadRows
) -> list[tuple[Row, list[str]]]:
    """Return the rows with their tokens; those without text or without label are bad."""
    kept = []
    for row in rows:
        tokens = tokenize(row.text)
        if not row.text.strip():
            bad.found(row.where, "the text is empty")
        elif not tokens:
            bad.found(row.where, f"the text {row.text!r} has no token")
        elif not row.label:
            bad.found(row.where, "the label is empty")
        else:
            kept.append((row, tokens))
    return kept
