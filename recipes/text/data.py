"""Labelled texts: any csv, tsv or json file, one file or folder per class, and the sets that torchtext downloads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightkit.errors import ConfigError, MissingDataError, did_you_mean, require
from recipes.text.base import Parts, TextData, split_rows
from recipes.text.fields import TextField
from recipes.text.lines import lines_of, read_text
from recipes.text.rows import Column, OnBadRow, Row, Table, files_of_lines, folders_of_files, row_range


class TabularText(TextData):
    """Texts and labels in the columns of csv, tsv or json files, by name or by position.

    The parts are files of their own (`train`, `val`, `test`), ranges of rows (`train_rows`, `test_rows`), or random
    shares of one file (`split_ratio`). Without `val` and `val_rows`, `val_fraction` of the training rows validates.

    Args:
        root: folder of the files.
        train: file of training rows, below `root`.
        val: file of validation rows; None takes `val_rows` of `train`.
        test: file of test rows; None takes `test_rows` of `train`.
        train_rows: rows of `train` to use, first and end: [0, 6600] are 6,600 rows; None uses all.
        val_rows: rows of `val`, or else of `train`, to validate with.
        test_rows: rows of `test`, or else of `train`, to test with: [-1000, None] are the last 1,000.
        split_ratio: shares of train and test, or of train, test and validation, of the rows of `train`; drawn as
            torchtext's `Dataset.split` draws them.
        stratified: give each class its share in every part of `split_ratio`.
        format: "csv", "tsv" or "json" (one object a line), as torchtext's TabularDataset.
        text: column of the text, or several, which are joined; by name, or by position from 0.
        label: column of the label.
        skip_header: leave the first line out, where columns go by position. Named columns read it.
        delimiter: another sign than the comma (csv) or the tab (tsv).
        class_names: what to call labels in pictures and predictions, where the data has numbers or codes.
        field: tokenization and vocabulary.
        batch_size: texts a batch.
        num_workers: processes that prepare batches.
        val_fraction: share of the training rows that validates where nothing else does.
        split_seed: seed of the splits.
        on_bad_row: "error" or "skip" rows that lack a column, a text or a known label.

    Raises:
        DataError: a file or column is missing, or a row is bad; names file and line.
    """

    def __init__(
        self,
        root: str = "data",
        train: str = "train.csv",
        val: str | None = None,
        test: str | None = None,
        train_rows: list[int | None] | None = None,
        val_rows: list[int | None] | None = None,
        test_rows: list[int | None] | None = None,
        split_ratio: list[float] | None = None,
        stratified: bool = True,
        format: str = "csv",
        text: list[Column] | Column = "text",
        label: Column = "label",
        skip_header: bool = False,
        delimiter: str | None = None,
        class_names: dict[str, str] | None = None,
        field: TextField | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        val_fraction: float = 0.1,
        split_seed: int = 42,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(field, batch_size, num_workers, val_fraction, split_seed, on_bad_row)
        owner = type(self).__name__
        if split_ratio is not None and (val, test, val_rows, test_rows) != (None,) * 4:
            raise ConfigError(f"{owner}: split_ratio splits train alone; leave it out, or val, test and their rows")
        self.root = Path(root)
        self.files = {"train": train, "val": val, "test": test}
        wanted = {"train": train_rows, "val": val_rows, "test": test_rows}
        self.ranges = {part: row_range(owner, f"{part}_rows", bounds) for part, bounds in wanted.items()}
        self.has_part = {part: part == "train" or wanted[part] is not None or self.files[part] for part in wanted}
        self.split_ratio = split_ratio
        self.stratified = stratified
        columns = text if isinstance(text, list) else [text]
        self.table = Table(owner, format, columns, label, skip_header, delimiter, self.bad)
        self.class_name_of = dict(class_names or {})
        self.save_hyperparameters(ignore=["field"])

    def read(self) -> Parts:
        """Return the rows of the files, or of the ranges of the files."""
        rows: dict[str, list[Row]] = {}

        def rows_of(part: str) -> list[Row]:
            name = str(self.files[part] or self.files["train"])
            if name not in rows:
                rows[name] = self.table.read(self.root / name)
            return rows[name][self.ranges[part]]

        if self.split_ratio is not None:
            owner = type(self).__name__
            return split_rows(owner, rows_of("train"), self.split_ratio, self.split_seed, stratified=self.stratified)
        return Parts(**{part: rows_of(part) for part, has_it in self.has_part.items() if has_it})


# the labels of these files are numbers from 1; what they mean stands in classes.txt, or not in the archive at all
_TORCHTEXT_CSV = {
    "AG_NEWS": "ag_news_csv",
    "SogouNews": "sogou_news_csv",
    "DBpedia": "dbpedia_csv",
    "YelpReviewPolarity": "yelp_review_polarity_csv",
    "YelpReviewFull": "yelp_review_full_csv",
    "YahooAnswers": "yahoo_answers_csv",
    "AmazonReviewPolarity": "amazon_review_polarity_csv",
    "AmazonReviewFull": "amazon_review_full_csv",
}


class TorchtextCsvData(TabularText):
    """One of the sets of Zhang, Zhao, LeCun (2015) that torchtext downloads: AG_NEWS, DBpedia, Yelp, Amazon, ...

    They lie in ROOT/FOLDER/train.csv and test.csv, such as `data/ag_news_csv/train.csv`, without a header: the class,
    from 1, then one to three columns of text, which are joined. Their classes are named by `classes.txt` there.

    Args:
        name: AG_NEWS, SogouNews, DBpedia, YelpReviewPolarity, YelpReviewFull, YahooAnswers, AmazonReviewPolarity or
            AmazonReviewFull.
        root: folder that holds, or gets, the set.
        download: fetch the archive where the files are missing.
        text: positions of the text columns.
        field: tokenization and vocabulary.
        batch_size: texts a batch.
        num_workers: processes that prepare batches.
        val_fraction: share of the training rows that validates.
        split_seed: seed of that split.
        on_bad_row: "error" or "skip".

    Raises:
        ConfigError: no such set.
        DataError: the files are not there and cannot be downloaded; says which to put where.
    """

    def __init__(
        self,
        name: str = "AG_NEWS",
        root: str = "data",
        download: bool = True,
        text: list[int] | None = None,
        field: TextField | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        val_fraction: float = 0.1,
        split_seed: int = 42,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        if name not in _TORCHTEXT_CSV:
            raise ConfigError(
                f"TorchtextCsvData(name={name!r}): expected one of {', '.join(_TORCHTEXT_CSV)}"
                f"{did_you_mean(name, _TORCHTEXT_CSV)}"
            )
        columns: list[Column] = list(text or [1, 2])
        super().__init__(
            str(Path(root) / _TORCHTEXT_CSV[name]), "train.csv", None, "test.csv", text=columns, label=0,
            field=field, batch_size=batch_size, num_workers=num_workers, val_fraction=val_fraction,
            split_seed=split_seed, on_bad_row=on_bad_row,
        )  # fmt: skip
        self.dataset = name
        self.download = download
        self.save_hyperparameters(ignore=["field"])

    def prepare_data(self) -> None:
        """Download and unpack the archive where a file is missing, if `download` says so."""
        missing = [name for name in ("train.csv", "test.csv") if not (self.root / name).is_file()]
        if not missing:
            return
        who = f"TorchtextCsvData(name={self.dataset!r}, download={self.download})"
        failed = "; set data.download to true, or"
        if self.download:
            failed = f" and the download failed ({_download_csv(self.dataset, self.root)});"
        if not all((self.root / name).is_file() for name in missing):
            raise MissingDataError(f"{who}: no {' and '.join(missing)} in {self.root}{failed} put the files there")

    def read(self) -> Parts:
        """Return the rows of both files; the names of the classes, where the set brings them."""
        names = self.root / "classes.txt"
        if names.is_file():
            lines = lines_of(read_text(type(self).__name__, names))
            self.class_name_of = {str(i): line.strip() for i, line in enumerate(lines, start=1) if line.strip()}
        return super().read()


def _download_csv(name: str, root: Path) -> str:
    """Let torchtext fetch and unpack the archive of a set beside `root`; return what went wrong, or ""."""
    who = f"TorchtextCsvData(name={name!r})"
    urls = require("torchtext.datasets.text_classification", "text", needed_by=who).URLS
    utils = require("torchtext.utils", "text", needed_by=who)
    root.parent.mkdir(parents=True, exist_ok=True)
    archive = root.with_suffix(".tar.gz")
    try:
        if not archive.is_file():
            utils.download_from_url(urls[name], path=str(archive))
        utils.extract_archive(str(archive), str(root.parent))
    except Exception as error:  # requests, tarfile and the service's own pages fail in many ways
        archive.unlink(missing_ok=True)  # what is no archive would be taken for one the next time
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"{archive} holds no such file"


class LinesPerClass(TextData):
    """One file per class, ROOT/CLASS.txt, with one text on each line, such as names of several languages.

    Args:
        root: folder of the files.
        pattern: which files in it.
        split_ratio: shares of train and test, or of train, test and validation; each class has its share of each.
        field: tokenization and vocabulary; "characters" for single words.
        batch_size: texts a batch.
        num_workers: processes that prepare batches.
        val_fraction: share of the training lines that validates where `split_ratio` has no third part.
        split_seed: seed of the splits.
        on_bad_row: "error" or "skip" lines without a token.

    Raises:
        DataError: no such folder, no such files, or a file without lines.
    """

    def __init__(
        self,
        root: str = "data/names",
        pattern: str = "*.txt",
        split_ratio: Sequence[float] = (0.8, 0.2),
        field: TextField | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        val_fraction: float = 0.1,
        split_seed: int = 42,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(field, batch_size, num_workers, val_fraction, split_seed, on_bad_row)
        self.root = Path(root)
        self.pattern = pattern
        self.split_ratio = list(split_ratio)
        self.save_hyperparameters(ignore=["field"])

    def read(self) -> Parts:
        """Return the lines of all files, split."""
        rows = files_of_lines("LinesPerClass", self.root, self.pattern)
        return split_rows("LinesPerClass", rows, self.split_ratio, self.split_seed, stratified=True)


class FilesPerClass(TextData):
    """One text file per example in one folder per class: ROOT/train/CLASS/*.txt, ROOT/test, perhaps ROOT/val.

    Args:
        root: folder of the parts.
        classes: the class folders to use; None uses all of train.
        field: tokenization and vocabulary.
        batch_size: texts a batch.
        num_workers: processes that prepare batches.
        val_fraction: share of the training texts, of each class alike, that validates where there is no ROOT/val.
        split_seed: seed of that split.
        on_bad_row: "error" or "skip" files without a token.

    Raises:
        DataError: no such folder, or a class folder without files.
    """

    def __init__(
        self,
        root: str = "data/texts",
        classes: list[str] | None = None,
        field: TextField | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        val_fraction: float = 0.1,
        split_seed: int = 42,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(field, batch_size, num_workers, val_fraction, split_seed, on_bad_row)
        self.root = Path(root)
        self.classes = classes
        self.save_hyperparameters(ignore=["field"])

    def read(self) -> Parts:
        """Return the texts of the folders that are there."""
        owner = type(self).__name__
        folders = {part: self.root / part for part in ("train", "val", "test")}
        there = {part: path for part, path in folders.items() if path.is_dir() or part == "train"}
        return Parts(**{part: folders_of_files(owner, path, self.classes) for part, path in there.items()})


class IMDBData(FilesPerClass):
    """50,000 film reviews, half of them to test, positive or negative (Maas et al. 2011), downloaded by torchtext.

    They lie in ROOT/imdb/aclImdb/{train,test}/{pos,neg}/*.txt.

    Args:
        root: folder that holds, or gets, the set (84 MB, 490 MB unpacked).
        download: fetch the archive where the files are missing.
        field: tokenization and vocabulary.
        batch_size: reviews a batch.
        num_workers: processes that prepare batches.
        val_fraction: share of the training reviews that validates.
        split_seed: seed of that split.
        on_bad_row: "error" or "skip" files without a token.

    Raises:
        DataError: the files are not there and cannot be downloaded; says which to put where.
    """

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        field: TextField | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        val_fraction: float = 0.1,
        split_seed: int = 42,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        folder = str(Path(root) / "imdb" / "aclImdb")
        # train/unsup has reviews without a class
        super().__init__(
            folder, ["neg", "pos"], field, batch_size, num_workers, val_fraction, split_seed, on_bad_row
        )
        self.download = download
        self.download_root = root
        self.save_hyperparameters(ignore=["field"])

    def prepare_data(self) -> None:
        """Download and unpack the archive where the reviews are missing, if `download` says so."""
        if all((self.root / part).is_dir() for part in ("train", "test")):
            return
        reason = "; set data.download to true, or"
        if self.download:
            imdb: Any = require("torchtext.datasets", "text", needed_by="IMDBData").IMDB
            try:
                imdb.download(self.download_root, check=str(self.root))
                return
            except Exception as error:  # requests and tarfile fail in many ways
                (self.root.parent / "aclImdb_v1.tar.gz").unlink(missing_ok=True)
                reason = f" and the download failed ({' '.join(str(error).split())[:200]});"
        raise MissingDataError(
            f"IMDBData(root={self.download_root!r}, download={self.download}): no reviews in {self.root}{reason} "
            f"unpack aclImdb_v1.tar.gz there, so that {self.root}/train/pos is a folder"
        )
