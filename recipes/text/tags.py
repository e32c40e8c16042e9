"""Tagged texts for `SequenceTagger`: Python's own standard library, and files of a token and its tag on each line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightkit.errors import ConfigError, DataError, MissingDataError, require
from recipes.text.base import BucketedData
from recipes.text.batches import CollateFields, Examples
from recipes.text.fields import TextCodec, TextField, vocabulary_of
from recipes.text.lines import lines_of, read_text
from recipes.text.rows import OnBadRow
from recipes.text.stdlib import library_files, parts_of, tag_statements, tokens_of

_BLANKS = " \t"


class Tagged(NamedTuple):
    """Tokens, the tag of each, and where they stand: "train.txt, line 17"."""

    tokens: list[str]
    tags: list[str]
    where: str


class _CountTokens(CollateFields):
    """Batches that also know how many tokens they hold: `batch.token_count`."""

    def __call__(self, examples: list[Any]) -> Any:
        batch = super().__call__(examples)
        batch.token_count = sum(len(example.text) for example in examples)
        return batch


class TaggedData(BucketedData):
    """Base of the data modules for tagged texts; a subclass says in `read` which there are.

    Every batch is a `torchtext.data.Batch`: `batch.text` and `batch.tags`, both int64 (batch, tokens), padded alike.
    Tags are numbered in alphabetical order; the number after the last one stands at padding.

    Args:
        field: vocabulary; tokens come as they are, so `tokenize`, `ngrams` and `fix_length` have no meaning.
        batch_size: texts a batch.
        num_workers: processes that prepare batches.
        on_bad_row: "error" or "skip" texts with a tag that the training texts lack.

    Attributes:
        class_names: the tags, by number; known after `setup`.
    """

    parts: dict[str, list[Tagged]]

    def __init__(self, field: TextField | None, batch_size: int, num_workers: int, on_bad_row: OnBadRow) -> None:
        field = TextField("split", lower=False) if field is None else field
        super().__init__(field, batch_size, num_workers, on_bad_row)
        if self.settings.ngrams > 1 or self.settings.fix_length is not None:
            raise ConfigError(f"{type(self).__name__}: ngrams and fix_length cannot be used where each token has a tag")

    def read(self) -> dict[str, list[Tagged]]:
        """Return the texts to train, val and test with."""
        raise NotImplementedError

    def read_parts(self) -> None:
        """Read the texts."""
        self.parts = self.read()

    def build_codec(self) -> TextCodec:
        """Return the vocabulary and the tags of the training texts, numbered."""
        field, train = self.settings.build(), self.parts["train"]
        tokens = [field.preprocess(text.tokens) for text in train]
        field.build_vocab(tokens, min_freq=self.settings.min_freq, max_size=self.settings.max_size)
        return TextCodec(self.settings, field.vocab.itos, sorted({tag for text in train for tag in text.tags}))

    def use_codec(self, codec: TextCodec) -> None:
        """Number tokens and tags as `codec` does; a checkpoint's takes the place of the data's own.

        Raises:
            DataError: a text has a tag that the codec lacks.
        """
        known = set(codec.labels)
        for part, texts in self.parts.items():
            kept = []
            for text in texts:
                unknown = [tag for tag in text.tags if tag not in known]
                if unknown:
                    problem = f"the tag {unknown[0]!r} is none of {', '.join(codec.labels)}"
                    self.bad.found(text.where, problem)
                else:
                    kept.append(text)
            self.parts[part] = kept
        self.bad.report()
        data = require("torchtext.data", "text", needed_by=type(self).__name__)
        tags = data.Field(unk_token=None, is_target=True, batch_first=codec.settings.batch_first)
        tags.vocab = vocabulary_of([*codec.labels, tags.pad_token])
        self.codec, self.fields = codec, {"text": codec.field, "tags": tags}
        cut = codec.settings.max_length
        self.sets = {
            part: Examples([_example(data, codec.field.preprocess(t.tokens), t.tags[:cut]) for t in texts])
            for part, texts in self.parts.items()
        }

    def collate(self) -> CollateFields:
        """Return what makes batches of examples."""
        return _CountTokens(self.fields)


def _example(data: Any, tokens: list[str], tags: list[str]) -> Any:
    example = data.Example()
    example.text, example.tags = tokens, tags
    return example


class StdlibTags(TaggedData):
    """Statements of Python's own standard library: what is each token? Nothing is downloaded.

    Tags: argument, attribute, call, comment, definition, keyword, name, number, operator, string; see
    `recipes.text.stdlib.tag_statements`. What a name is stands in its neighbours, so a network that sees single tokens
    cannot tell.

    Args:
        max_files: so many modules, evenly spread over the alphabet.
        max_statements: statements in the training part; a tenth and a fifth of it validate and test.
        field: vocabulary.
        batch_size: statements a batch.
        num_workers: processes that prepare batches.
        split_seed: seed of the choice of files for each part.
        on_bad_row: "error" or "skip" statements with a tag that the training part lacks.
    """

    def __init__(
        self,
        max_files: int = 42,
        max_statements: int = 6000,
        field: TextField | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        split_seed: int = 42,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(field, batch_size, num_workers, on_bad_row)
        if max_files < 10:
            raise ConfigError(f"StdlibTags(max_files={max_files}): expected at least 10, to have some for each part")
        self.max_files = max_files
        self.max_statements = max_statements
        self.split_seed = split_seed
        self.save_hyperparameters(ignore=["field"])

    def read(self) -> dict[str, list[Tagged]]:
        """Return the statements of each part's files, evenly spread."""
        shares = {"train": 1.0, "val": 0.1, "test": 0.2}
        texts = {}
        for part, files in parts_of(library_files("StdlibTags", self.max_files), self.split_seed).items():
            found = [
                Tagged([token for token, _ in pairs], [tag for _, tag in pairs], str(path))
                for path in files
                for pairs in tag_statements(tokens_of(path))
            ]
            at_most = max(1, int(self.max_statements * shares[part]))
            step = max(1.0, len(found) / at_most)
            texts[part] = [found[int(i * step)] for i in range(min(at_most, len(found)))]
        return texts


class TaggedFiles(TaggedData):
    """Files with a token and its tag on each line, a blank line between texts, as CoNLL's.

    Args:
        root: folder of the files.
        train: file of training texts.
        val: file of validation texts.
        test: file of test texts; None: there are none.
        separator: what stands between columns; None takes blanks and tabs.
        tag_column: column of the tag, -1 the last one; the token is column 0.
        field: vocabulary.
        batch_size: texts a batch.
        num_workers: processes that prepare batches.
        on_bad_row: "error" or "skip" lines without a tag, and texts with a tag that the training texts lack.

    Raises:
        DataError: a file is missing or empty, or a line has no tag; names file and line.
    """

    def __init__(
        self,
        root: str = "data/tags",
        train: str = "train.txt",
        val: str = "val.txt",
        test: str | None = "test.txt",
        separator: str | None = None,
        tag_column: int = -1,
        field: TextField | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(field, batch_size, num_workers, on_bad_row)
        self.files = {"train": Path(root) / train, "val": Path(root) / val}
        if test is not None:
            self.files["test"] = Path(root) / test
        self.separator = separator
        self.tag_column = tag_column
        self.save_hyperparameters(ignore=["field"])

    def read(self) -> dict[str, list[Tagged]]:
        """Return the texts of the files."""
        return {part: self._read(path) for part, path in self.files.items()}

    def _read(self, path: Path) -> list[Tagged]:
        try:
            lines = lines_of(read_text("TaggedFiles", path))
        except OSError as error:
            raise MissingDataError(f"TaggedFiles: {path} cannot be read ({error}); put the file there") from None
        texts: list[Tagged] = []
        open_text: Tagged | None = None
        for number, line in enumerate(lines, start=1):
            if not line.strip(_BLANKS):
                open_text = None
                continue
            # split() would also cut at a no-break space or U+2028, which may be a token
            cells = line.split(self.separator) if self.separator else re.split(f"[{_BLANKS}]+", line.strip(_BLANKS))
            if not -len(cells) <= self.tag_column < len(cells) or len(cells) < 2:
                self.bad.found(f"{path}, line {number}", f"{line!r} has no tag; expected a token and its tag")
                continue
            if open_text is None:
                open_text = Tagged([], [], f"{path}, line {number}")
                texts.append(open_text)
            open_text.tokens.append(cells[0])
            open_text.tags.append(cells[self.tag_column])
        if not texts:
            raise DataError(f"TaggedFiles: {path} has no lines of a token and its tag{self.bad.summary()}")
        return texts


def most_frequent_tag_accuracy(train: Sequence[Tagged], test: Sequence[Tagged]) -> float:
    """Return how often the tag that a token has most often in `train` is right in `test`: what a network must beat."""
    counts: dict[str, dict[str, int]] = {}
    overall: dict[str, int] = {}
    for text in train:
        for token, tag in zip(text.tokens, text.tags, strict=True):
            of_token = counts.setdefault(token, {})
            of_token[tag] = of_token.get(tag, 0) + 1
            overall[tag] = overall.get(tag, 0) + 1
    usual = {token: max(of_token, key=lambda tag: of_token[tag]) for token, of_token in counts.items()}
    rest = max(overall, key=lambda tag: overall[tag])
    pairs = [pair for text in test for pair in zip(text.tokens, text.tags, strict=True)]
    return sum(usual.get(token, rest) == tag for token, tag in pairs) / len(pairs)
