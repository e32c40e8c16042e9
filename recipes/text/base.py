"""What all text data modules share: fields, vocabulary, checks, and the loaders of torchtext batches."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.errors import ConfigError, DataError, require
from recipes.datamodule import RecipeData
from recipes.splits import check_fraction, stratified_split
from recipes.text.batches import BucketSampler, CollateFields, Examples
from recipes.text.fields import TextCodec, TextField, label_field, vocabulary_of
from recipes.text.rows import BadRows, OnBadRow, Row, checked_tokens
from recipes.text.vectors import vectors_for


@dataclass(frozen=True)
class Parts:
    """The rows to train, validate and test with; None where the data has no such part of its own."""

    train: list[Row]
    val: list[Row] | None = None
    test: list[Row] | None = None


class BucketedData(RecipeData):
    """Base: torchtext batches of the texts that a subclass reads, and the vocabulary of those that train.

    Training batches hold texts of similar length, in an order from torch's default generator; the others keep the
    order of the data.

    Args:
        field: tokenization and vocabulary; see `TextField`.
        batch_size: texts a batch.
        num_workers: processes that prepare batches; 0 is the fastest for texts in memory.
        on_bad_row: "error" stops at the first bad row, "skip" leaves such rows out and says how many.

    Attributes:
        codec: tokenization, vocabulary and names of classes or tags, known after `setup`; what a checkpoint needs.
        class_names: the classes or tags, by number; known after `setup`.
        vectors: pre-trained vectors, float (vocabulary, dimensions), or None; known after `setup("fit")`.
        fields: the torchtext field of each attribute of a batch.
    """

    sets: dict[str, Examples]
    parts: Mapping[str, list[Any]]

    def __init__(self, field: TextField, batch_size: int, num_workers: int, on_bad_row: OnBadRow) -> None:
        super().__init__(batch_size, num_workers)
        self.settings = field
        self.bad = BadRows(type(self).__name__, on_bad_row)
        self.fields: dict[str, Any] = {}
        self.parts = {}
        self.codec: TextCodec | None = None
        self.vectors: Tensor | None = None

    @property
    def class_names(self) -> list[str]:
        """The names of the classes or tags, by number."""
        return [] if self.codec is None else self.codec.class_names

    def setup(self, stage: str) -> None:
        """Read the texts, build the vocabulary of the training texts; once, whatever the stage."""
        if not self.parts:
            self.read_parts()
        if self.codec is None:
            self.use_codec(self.build_codec())
        if stage == "fit" and self.settings.vectors is not None and self.vectors is None:
            assert self.codec is not None
            field, tokens = self.codec.field, self.codec.tokens
            self.vectors = vectors_for(field, tokens, self.settings.vectors, self.settings.vectors_cache)

    def read_parts(self) -> None:
        """Fill `parts` with the texts to train, val and test with."""
        raise NotImplementedError

    def build_codec(self) -> TextCodec:
        """Return the vocabulary and the labels of the training texts, numbered."""
        raise NotImplementedError

    def use_codec(self, codec: TextCodec) -> None:
        """Number the texts of `parts` as `codec` does, into `sets` and `fields`."""
        raise NotImplementedError

    def collate(self) -> CollateFields:
        """Return what makes batches of examples."""
        return CollateFields(self.fields)

    def loading(self, part: str) -> dict[str, Any]:
        """Return the arguments of the `DataLoader` over a part."""
        how = {**super().loading(part), "collate_fn": self.collate(), "pin_memory": False}
        if part != "train":
            return how
        lengths = [len(example.text) for example in self.sets[part].examples]
        return {**how, "batch_size": 1, "shuffle": False, "batch_sampler": BucketSampler(lengths, self.batch_size)}

    def loader(self, part: str) -> DataLoader[Any]:
        """Return the batches of a part; DataError where it has no rows."""
        if self.fields and (part not in self.sets or len(self.sets[part]) == 0):
            raise DataError(f"{type(self).__name__}: there are no rows to {part} with")
        return super().loader(part)


class TextData(BucketedData):
    """Base of the data modules for labelled texts; a subclass says in `read` which rows there are.

    Every batch is a `torchtext.data.Batch`: `batch.text`, int64 (batch, tokens), padded, and `batch.label`, int64
    (batch,). The vocabulary is that of the training texts, the classes are numbered in
    alphabetical order. Labels that the training data lacks are bad rows.

    Args:
        field: tokenization and vocabulary; see `TextField`.
        batch_size: texts a batch.
        num_workers: processes that prepare batches; 0 is the fastest for texts in memory.
        val_fraction: share of the training rows, of each class alike, that validates where there is no other part
            for that.
        split_seed: seed of every split; another one gives other parts of the same sizes.
        on_bad_row: "error" stops at the first row without text, with an unknown label and the like; "skip" leaves
            such rows out and says how many.

    Attributes:
        skipped: rows left out by `on_bad_row`.
    """

    parts: dict[str, list[tuple[Row, list[str]]]]

    def __init__(
        self,
        field: TextField | None,
        batch_size: int,
        num_workers: int,
        val_fraction: float,
        split_seed: int,
        on_bad_row: OnBadRow,
    ) -> None:
        super().__init__(TextField() if field is None else field, batch_size, num_workers, on_bad_row)
        check_fraction(type(self).__name__, "val_fraction", val_fraction)
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.class_name_of: dict[str, str] = {}
        self.made_up: Parts | None = None

    @property
    def skipped(self) -> int:
        """How many rows were left out."""
        return self.bad.count

    def read(self) -> Parts:
        """Return the rows of all parts."""
        raise NotImplementedError

    def use_codec(self, codec: TextCodec) -> None:
        """Number texts and labels as `codec` does; a checkpoint's takes the place of the data's own.

        Raises:
            DataError: a row has a label that the codec lacks.
        """
        if codec.settings != self.settings:
            self.settings = codec.settings
            self._tokenize({name: [row for row, _ in rows] for name, rows in self.parts.items()})
        known = set(codec.labels)
        for name, rows in self.parts.items():
            for row, _ in rows:
                if row.label not in known:
                    self.bad.found(row.where, f"the label {row.label!r} is none of {_listed(codec.labels)}")
            self.parts[name] = [row for row in rows if row[0].label in known]
        self.bad.report()
        labels = label_field()
        labels.vocab = vocabulary_of(codec.labels)
        self.codec, self.fields = codec, {"text": codec.field, "label": labels}
        self.sets = {
            name: Examples([_example(row, tokens) for row, tokens in rows]) for name, rows in self.parts.items()
        }

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Read a few made-up texts of two classes from now on; for `lightkit check` without the real ones."""
        rows = [Row(f"made up text number {i}", "ab"[i % 2], f"made-up row {i}") for i in range(120)]
        self.made_up, self.parts, self.codec = Parts(rows[:80], rows[80:100], rows[100:]), {}, None
        self.settings = replace(self.settings, vectors=None)

    def read_parts(self) -> None:
        """Read and tokenize the rows; split off what validates, where there is no other part for that."""
        parts = self.made_up or self.read()
        self._tokenize({name: rows for name, rows in vars(parts).items() if rows is not None})
        if not self.parts["train"]:
            raise DataError(f"{type(self).__name__}: there are no rows to train with{self.bad.summary()}")
        if parts.val is None:
            rows = self.parts["train"]
            rest, part = stratified_split(_numbers(rows), self.val_fraction, self.split_seed)
            self.parts["train"], self.parts["val"] = ([rows[i] for i in where.tolist()] for where in (rest, part))

    def _tokenize(self, rows_of: dict[str, list[Row]]) -> None:
        tokenize = self.settings.build().preprocess
        self.parts = {name: checked_tokens(rows, tokenize, self.bad) for name, rows in rows_of.items()}

    def build_codec(self) -> TextCodec:
        """Build the vocabulary as `Field.build_vocab` does, and number the labels."""
        field, train = self.settings.build(), self.parts["train"]
        limits = {"min_freq": self.settings.min_freq, "max_size": self.settings.max_size}
        field.build_vocab([tokens for _, tokens in train], **limits)
        labels = sorted({row.label for row, _ in train}, key=_natural)
        names = [self.class_name_of.get(label, label) for label in labels]
        return TextCodec(self.settings, field.vocab.itos, names, labels)


def _example(row: Row, tokens: list[str]) -> Any:
    example_class = require("torchtext.data", "text", needed_by="the text recipes").Example
    example = example_class()
    example.text, example.label = tokens, row.label
    return example


def _numbers(rows: Sequence[tuple[Row, list[str]]]) -> Tensor:
    """Return a number for the label of each row."""
    number = {label: i for i, label in enumerate(sorted({row.label for row, _ in rows}))}
    return torch.tensor([number[row.label] for row, _ in rows])


def _natural(label: str) -> tuple[int, int, str]:
    """Order "2" before "10", and numbers before words."""
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)


def _listed(names: Sequence[str], at_most: int = 10) -> str:
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "")


def split_rows(owner: str, rows: list[Row], ratio: Sequence[float], seed: int, *, stratified: bool) -> Parts:
    """Split rows as torchtext's `Dataset.split` does; `ratio` is [train, test] or [train, test, validation].

    Stratified, every class has its share of each part. torchtext's own stratified split goes through the classes in
    an order that changes from process to process; this one depends on `seed` alone.

    Raises:
        ConfigError: not two or three positive shares.
    """
    if len(ratio) not in (2, 3) or min(ratio) <= 0:
        raise ConfigError(
            f"{owner}(split_ratio={list(ratio)}): expected the shares of train and test, or of train, test and "
            "validation, such as [0.8, 0.2]"
        )
    share = [part / sum(ratio) for part in ratio]
    if not stratified:
        return _split_by_torchtext(rows, share, seed)
    labels = _numbers([(row, []) for row in rows])
    rest, test = stratified_split(labels, share[1], seed)
    parts = {"test": test, "train": rest}
    if len(share) == 3:
        kept, val = stratified_split(labels[rest], share[2] / (share[0] + share[2]), seed)
        parts = {"test": test, "train": rest[kept], "val": rest[val]}
    return Parts(**{name: [rows[i] for i in where.tolist()] for name, where in parts.items()})


def _split_by_torchtext(rows: list[Row], share: list[float], seed: int) -> Parts:
    data = require("torchtext.data", "text", needed_by="the text recipes")
    state = random.Random(seed).getstate()
    sets = data.Dataset(rows, []).split(share, random_state=state)  # train, (validation,) test
    found = [split.examples for split in sets]
    return Parts(found[0], found[1] if len(found) == 3 else None, found[-1])
