"""How text becomes numbers: the settings of a torchtext field, and what of it a checkpoint must hold."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from lightkit.errors import ConfigError, DataError, did_you_mean, require
from recipes.text.lines import without_mark

Tokenize = Callable[[str], list[str]]
_WORDS = re.compile(r"\w+|[^\w\s]")
# beside our own those that torchtext makes; spacy, moses, toktok and revtok need packages of their own
_NAMES = ("basic_english", "split", "words", "characters", "spacy", "moses", "toktok", "revtok")


def words(text: str) -> list[str]:
    """Return the runs of letters, digits and underscores in `text`, and every other visible sign alone."""
    return _WORDS.findall(text)


def find_tokenizer(name: str) -> Tokenize:
    """Return the tokenizer of this name: see `TextField.tokenize`.

    Raises:
        ConfigError: neither a known name nor the import path of a function.
    """
    own: dict[str, Tokenize] = {"words": words, "characters": list, "split": str.split}
    if name in own:
        return own[name]
    module_name, _, function_name = name.rpartition(".")
    if module_name:
        try:
            found: Tokenize = getattr(importlib.import_module(module_name), function_name)
            return found
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"TextField(tokenize={name!r}): cannot be imported ({error})") from None
    if name not in _NAMES:
        raise ConfigError(
            f"TextField(tokenize={name!r}): expected one of {', '.join(_NAMES)}, or the import path of a function "
            f"such as my_module.tokenize{did_you_mean(name, _NAMES)}"
        )
    torchtext = require("torchtext.data", "text", needed_by=f"TextField(tokenize={name!r})")
    made: Tokenize = torchtext.get_tokenizer(name)
    return made


@dataclass(frozen=True)
class TextField:
    """Settings of a `torchtext.data.Field` for text, and of the vocabulary that is built from the training texts.

    Args:
        tokenize: "basic_english" (torchtext's: lower case, signs apart), "split" (at blanks), "words" (letters
            and digits together, every other sign alone), "characters", "spacy", "moses", "toktok", "revtok", or the
            import path of a function from a string to a list of strings.
        lower: turn tokens into lower case.
        fix_length: pad and cut every text to this many tokens; None pads to the longest of the batch.
        max_length: cut longer texts to this many tokens, without padding the others; None keeps all.
        batch_first: batches are (batch, tokens); False: (tokens, batch), as torchtext has it by default.
        ngrams: 2 adds every pair of neighbouring tokens as a token of its own, 3 the triples as well. For networks
            that take no notice of order.
        min_freq: leave tokens that occur more rarely in the training texts out of the vocabulary.
        max_size: keep the most frequent so many; None keeps all.
        vectors: pre-trained vectors for the embedding: a word2vec or GloVe text file, or a set that torchtext
            downloads, such as "glove.6B.100d"; None starts at random.
        vectors_cache: folder of downloaded vectors and of their faster form.
    """

    tokenize: str = "basic_english"
    lower: bool = True
    fix_length: int | None = None
    max_length: int | None = None
    batch_first: bool = True
    ngrams: int = 1
    min_freq: int = 1
    max_size: int | None = None
    vectors: str | None = None
    vectors_cache: str = ".vector_cache"

    def __post_init__(self) -> None:
        for name in ("fix_length", "max_length", "ngrams", "min_freq", "max_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"TextField({name}={value}): expected at least 1")

    def build(self) -> Any:
        """Return the `torchtext.data.Field`, without a vocabulary yet."""
        data = require("torchtext.data", "text", needed_by="the text recipes")
        return data.Field(
            sequential=True,
            use_vocab=True,
            tokenize=find_tokenizer(self.tokenize),
            lower=self.lower,
            fix_length=self.fix_length,
            batch_first=self.batch_first,
            preprocessing=_Reshape(self.max_length, self.ngrams),
        )


@dataclass(frozen=True)
class _Reshape:
    """Cuts a list of tokens and adds its n-grams; a class, so that worker processes can be sent it."""

    max_length: int | None
    ngrams: int

    def __call__(self, tokens: list[str]) -> list[str]:
        tokens = tokens[: self.max_length]
        runs = (zip(*(tokens[i:] for i in range(n)), strict=False) for n in range(2, self.ngrams + 1))
        return [*tokens, *(" ".join(run) for several in runs for run in several)]


def label_field() -> Any:
    """Return the `torchtext.data.Field` of one label a text; it knows no unknown label."""
    data = require("torchtext.data", "text", needed_by="the text recipes")
    return data.Field(sequential=False, is_target=True, unk_token=None)


def vocabulary_of(tokens: Sequence[str]) -> Any:
    """Return the torchtext vocabulary that numbers `tokens` by their position."""
    vocab = require("torchtext.vocab", "text", needed_by="the text recipes")
    return vocab.Vocab(Counter(), specials=list(tokens))


class TextCodec:
    """All that is needed to turn raw text into a network's input, and its output into names; goes into checkpoints.

    Args:
        settings: how text is tokenized.
        tokens: the vocabulary, by number.
        class_names: the names of the classes or tags, by number, as they are shown.
        labels: the same as the data calls them; None: they are the names.
    """

    key = "text_codec"  # its place in a checkpoint

    def __init__(
        self,
        settings: TextField,
        tokens: Sequence[str],
        class_names: Sequence[str],
        labels: Sequence[str] | None = None,
    ) -> None:
        self.settings = settings
        self.tokens = list(tokens)
        self.class_names = list(class_names)
        self.labels = list(class_names if labels is None else labels)
        self._field: Any = None

    @property
    def field(self) -> Any:
        """The `torchtext.data.Field`, with its vocabulary; made when first asked for."""
        if self._field is None:
            self._field = self.settings.build()
            self._field.vocab = vocabulary_of(self.tokens)
        return self._field

    @property
    def pad_index(self) -> int:
        """The number of the token that fills short texts up."""
        return self.tokens.index("<pad>")

    def __eq__(self, other: object) -> bool:
        """Compare all that is saved."""
        return isinstance(other, TextCodec) and self.to_plain() == other.to_plain()

    __hash__ = None  # type: ignore[assignment]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the numbers of the tokens of raw texts, int64 (texts, tokens), or (tokens, texts); see `TextField`.

        Raises:
            DataError: a text has no token.
        """
        tokens = [self.field.preprocess(without_mark(text)) for text in texts]
        for text, found in zip(texts, tokens, strict=True):
            if not found:
                raise DataError(f"the text {text!r} has no token; expected at least one word")
        encoded: Tensor = self.field.process(tokens)
        return encoded

    def to_plain(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "settings": asdict(self.settings),
            "tokens": self.tokens,
            "class_names": self.class_names,
            "labels": self.labels,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TextCodec:
        """Return what `to_plain` described."""
        return cls(TextField(**plain["settings"]), plain["tokens"], plain["class_names"], plain["labels"])
