"""Rows of numbers: the five-row table of the first lesson, and any csv by the names of its columns.

A batch is `(features, targets)`: float32 (batch, columns) as they stand in the table, and float32 (batch,) for
regression or int64 (batch,) for classification. Standardising is the model's: the means and deviations of
the training rows, which these data modules find, go into it and into its checkpoint.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

import lightkit as lk
from lightkit.errors import DataError, MissingDataError, did_you_mean
from recipes.datamodule import RecipeData
from recipes.splits import check_fraction, stratified_split

Task = Literal["regression", "classification"]
MAX_LISTED = 12


@dataclass(frozen=True)
class Columns:
    """What the columns of the features are, so that other tables can be read alike; plain when saved.

    Attributes:
        target: name of the target's column.
        numeric: names of the columns that are numbers.
        categories: name of each column of words to its words; each word becomes a feature, 0 or 1.
        class_names: the classes by number; empty for regression.
    """

    target: str
    numeric: list[str]
    categories: dict[str, list[str]]
    class_names: list[str]

    @property
    def names(self) -> list[str]:
        """The names of the features, `column=word` for words."""
        return [*self.numeric, *(f"{name}={word}" for name, words in self.categories.items() for word in words)]


class TableData(RecipeData):
    """Base of the data modules: the three parts of a table, which `setup` of a subclass makes.

    Args:
        task: what the target is.
        batch_size: rows a batch.

    Attributes:
        columns: what the features and classes are; known after `setup`.
        parts: "train", "val", "test" to features, float32 (rows, columns), and targets (rows,); after `setup`.
    """

    columns: Columns

    def __init__(self, task: Task, batch_size: int) -> None:
        super().__init__(batch_size)
        self.task: Task = task
        self.parts: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def class_names(self) -> list[str]:
        """The classes by number; known after `setup`, empty for regression."""
        return self.columns.class_names

    def use_parts(self, parts: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Take the features and targets of the parts."""
        self.parts = parts
        self.sets = {part: TensorDataset(*tensors) for part, tensors in parts.items()}

    def loading(self, part: str) -> dict[str, Any]:
        """Return the arguments of the `DataLoader` over a part."""
        return {**super().loading(part), "collate_fn": None, "pin_memory": False}


class ExamScores(TableData):
    """Five students, three quizzes and a final exam: the table of every beginner's course, made for lessons.

    All five rows train, validate and test: with three weights and a bias for five rows nothing can be held
    out, so the figures say how well the line fits, not how well it predicts.

    Args:
        batch_size: rows a batch; 5 is the whole table.
    """

    def __init__(self, batch_size: int = 5) -> None:
        super().__init__("regression", batch_size)
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """Make the table; the same for every stage."""
        quizzes = [[73, 80, 75], [93, 88, 93], [89, 91, 90], [96, 98, 100], [73, 66, 70]]
        x, y = torch.tensor(quizzes, dtype=torch.float32), torch.tensor([152.0, 185.0, 180.0, 196.0, 142.0])
        self.columns = Columns("final", ["quiz_1", "quiz_2", "quiz_3"], {}, [])
        self.use_parts(dict.fromkeys(("train", "val", "test"), (x, y)))


@dataclass(frozen=True)
class _Table:
    """A csv as read: the path, the header, and each row with its line in the file."""

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str) -> list[tuple[int, str]]:
        """Return line and text of every cell of a column."""
        place = self.header.index(name)
        return [(line, row[place].strip()) for line, row in self.rows]


class CSVData(TableData):
    """A table with a header, comma-separated or otherwise: features and target are chosen by column names.

    Columns of numbers are taken as they are; columns named in `categorical` become one feature a word, 0 or
    1, with the words of the training rows; a word that is met only later is no feature and counts as 0 of all.
    Classes are the different words of the target in the training rows, sorted (as numbers where they are).

    Without `val_path` and `test_path` the shares `val_fraction` and `test_fraction` of the rows are held out at
    random, each class with its share; a file that is given is used whole.

    Args:
        path: the csv with the training rows.
        target: name of the column to predict.
        task: "regression" (a number) or "classification" (a word or number that names a class).
        features: names of the columns to predict from; None takes all but the target.
        categorical: those of the features that hold words.
        val_path: another csv with the same columns to validate with.
        test_path: another csv with the same columns to test with.
        val_fraction: share of the rows that validates where there is no `val_path`.
        test_fraction: share of the rows that tests where there is no `test_path`.
        delimiter: what stands between the cells.
        on_bad_row: what to do with a row that has a cell too many or too few, is empty where a number is
            wanted, or holds no number there: "error", or "skip" it and print how many were skipped.
        batch_size: rows a batch.
        split_seed: seed of the choice of held-out rows.

    Raises:
        ConfigError: shares that leave nothing to train with.
        DataError: no such file, column or class, a wrong delimiter, a cell that is no number; names file and line.
    """

    def __init__(
        self,
        path: str = "data/table.csv",
        target: str = "target",
        task: Task = "regression",
        features: list[str] | None = None,
        categorical: list[str] | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        delimiter: str = ",",
        on_bad_row: Literal["error", "skip"] = "error",
        batch_size: int = 32,
        split_seed: int = 42,
    ) -> None:
        super().__init__(task, batch_size)
        check_fraction("CSVData", "val_fraction", val_fraction)
        check_fraction("CSVData", "test_fraction", test_fraction)
        self.path, self.target = Path(path), target
        self.features, self.categorical = features, categorical or []
        self.part_paths = {"val": val_path, "test": test_path}
        self.fractions = {"val": val_fraction, "test": test_fraction}
        self.delimiter, self.on_bad_row, self.split_seed = delimiter, on_bad_row, split_seed
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """Read the csv, find out what its columns are from the training rows, and make the three parts."""
        if self.parts:
            return
        table = self._read(self.path)
        rows = self._split(table)
        train = _Table(table.path, table.header, rows["train"])
        self.columns = self._columns(train)
        parts: dict[str, tuple[Tensor, Tensor]] = {}
        for part, found in rows.items():
            other = self.part_paths.get(part)
            here = self._read(Path(other)) if other else _Table(table.path, table.header, found)
            parts[part] = self._tensors(here, part)
        self.use_parts(parts)

    def _read(self, path: Path) -> _Table:
        """Return the rows that can be used; what cannot is an error or left out, as `on_bad_row` says."""
        if not path.is_file():
            raise MissingDataError(
                f"CSVData: no file {path}; expected a csv with a header there (set data.path to another)"
            )
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=self.delimiter)
                lines = [(reader.line_num, row) for row in reader if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read as csv in UTF-8: {error}") from None
        if len(lines) < 2:
            raise DataError(f"{path}: {len(lines)} lines; expected a header and rows below it")
        header = [name.strip() for name in lines[0][1]]
        if len(header) == 1:
            raise DataError(
                f"{path}: one column, {header[0]!r}, with data.delimiter {self.delimiter!r}; "
                "set data.delimiter to what stands between the cells, such as ';'"
            )
        for name in [self.target, *(self.features or []), *self.categorical]:
            if name not in header:
                raise DataError(
                    f"{path}: no column {name!r} (there are: {', '.join(header[:MAX_LISTED])}"
                    f"{', ...' if len(header) > MAX_LISTED else ''}){did_you_mean(name, header)}"
                )
        return _Table(path, header, self._usable(path, header, lines[1:]))

    def _numbers(self, header: list[str]) -> list[str]:
        """The columns that must hold numbers."""
        features = self.features or [name for name in header if name != self.target]
        numeric = [name for name in features if name not in self.categorical and name != self.target]
        return [*numeric, *([self.target] if self.task == "regression" else [])]

    def _usable(self, path: Path, header: list[str], lines: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
        places = [(name, header.index(name)) for name in self._numbers(header)]
        kept, first = [], ""
        for line, row in lines:
            problem = _problem(row, header, places)
            if problem is None:
                kept.append((line, row))
                continue
            first = first or f"{path}:{line}: {problem}"
            if self.on_bad_row == "error":
                raise DataError(
                    f"{first}; mend it, name columns of words in data.categorical, leave columns out with "
                    "data.features, or set data.on_bad_row to skip"
                )
        if not kept:
            raise DataError(f"{path}: no row can be used; the first: {first}")
        if len(kept) < len(lines):
            print(f"{path}: {len(lines) - len(kept)} of {len(lines)} rows skipped, the first: {first}")
        return kept

    def _split(self, table: _Table) -> dict[str, list[tuple[int, list[str]]]]:
        """Hold rows out for the parts that have no file of their own."""
        words = [word for _, word in table.column(self.target)]
        order = {word: number for number, word in enumerate(dict.fromkeys(words))}
        classes = torch.tensor([order[word] if self.task == "classification" else 0 for word in words])
        rest = torch.arange(len(words))
        parts: dict[str, list[tuple[int, list[str]]]] = {"val": [], "test": []}
        for part in ("test", "val"):
            if self.part_paths[part] is None:
                share = self.fractions[part] * len(words) / max(len(rest), 1)
                kept, held_out = stratified_split(classes[rest], min(share, 1.0), self.split_seed)
                parts[part] = [table.rows[i] for i in rest[held_out].tolist()]
                rest = rest[kept]
        if not len(rest):
            raise DataError(f"{table.path}: {len(words)} rows are too few to hold some out to validate and test")
        return {"train": [table.rows[i] for i in rest.tolist()], **parts}

    def _columns(self, train: _Table) -> Columns:
        numeric = [name for name in self._numbers(train.header) if name != self.target]
        categories = {name: sorted({word for _, word in train.column(name)}) for name in self.categorical}
        if not numeric and not categories:
            raise DataError(f"{train.path}: no features beside the target {self.target!r}; set data.features")
        names: list[str] = []
        if self.task == "classification":
            names = sorted({word for _, word in train.column(self.target)}, key=_as_sorted)
            if len(names) < 2:
                raise DataError(f"{train.path}: column {self.target!r} holds {names}; expected at least 2 classes")
        return Columns(self.target, numeric, categories, names)

    def _tensors(self, table: _Table, part: str) -> tuple[Tensor, Tensor]:
        features = encode(self.columns, table.header, [row for _, row in table.rows])
        cells = table.column(self.target)
        if self.task == "regression":
            return features, torch.tensor([float(text) for _, text in cells])
        numbers = {name: number for number, name in enumerate(self.columns.class_names)}
        for line, word in cells:
            if word not in numbers:
                raise DataError(
                    f"{table.path}:{line}: {self.target} is {word!r}, which no training row has "
                    f"({part} rows; classes: {', '.join(list(numbers)[:MAX_LISTED])})"
                )
        return features, torch.tensor([numbers[word] for _, word in cells])

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write a small made-up table with the columns asked for, and read that one; for `lightkit check`."""
        root.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(0)
        names = list(dict.fromkeys([*(self.features or ["a", "b", "c"]), *self.categorical]))
        self.path, self.part_paths, self.parts = root / "table.csv", {"val": None, "test": None}, {}
        with open(self.path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=self.delimiter)
            writer.writerow([*names, self.target])
            for number, row in enumerate(torch.rand(60, len(names), generator=generator).tolist()):
                cells = ["xyz"[number % 3] if n in self.categorical else v for n, v in zip(names, row, strict=True)]
                writer.writerow([*cells, sum(row) if self.task == "regression" else "uv"[number % 2]])


def encode(columns: Columns, header: list[str], rows: list[list[str]]) -> Tensor:
    """Return the features of rows of text, float32 (rows, columns); numbers must be numbers."""
    places = [header.index(name) for name in columns.numeric]
    numbers = torch.tensor([[float(row[place]) for place in places] for row in rows]).view(len(rows), len(places))
    found = [numbers]
    for name, words in columns.categories.items():
        place = header.index(name)
        found.append(torch.tensor([[float(row[place].strip() == word) for word in words] for row in rows]))
    return torch.cat(found, dim=1)


def _as_sorted(word: str) -> tuple[float, str]:
    """Numbers by their size, words behind them."""
    return (float(word), "") if _is_number(word) else (math.inf, word)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _problem(row: list[str], header: list[str], numbers: list[tuple[str, int]]) -> str | None:
    """Say what is wrong with a row, or None."""
    if len(row) != len(header):
        return f"{len(row)} cells, the header has {len(header)}"
    for name, place in numbers:
        if not _is_number(row[place]):
            return f"{name} is {row[place].strip()!r}, not a number"
    return None


def as_plain(columns: Columns) -> dict[str, Any]:
    """Return what a checkpoint keeps of the columns."""
    return {
        "target": columns.target,
        "numeric": list(columns.numeric),
        "categories": {name: list(words) for name, words in columns.categories.items()},
        "class_names": list(columns.class_names),
    }
