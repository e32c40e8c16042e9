"""Text to token ids and back, for language models: characters, or byte pairs through `tokenizers`.

A tokenizer's `state()` is a dict of plain values that travels in checkpoints; `tokenizer_from_state` builds
it again, without the text it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lightkit.errors import CheckpointError, ConfigError, require
from recipes.text.lines import lines_of

UNKNOWN = 0  # the id of a character that was not in the training text


class Tokenizer(Protocol):
    """What a language model needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""

    @property
    def never_sampled(self) -> list[int]:
        """Ids that stand for no text of their own."""

    def encode(self, text: str) -> Tensor:
        """Return the text as int64 ids (tokens,)."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the ids as text."""

    def state(self) -> dict[str, Any]:
        """Return what `tokenizer_from_state` needs."""


class CharTokenizer:
    """A token is a character. Id 0 stands for every character that was not in the training text.

    Args:
        characters: the known characters, each once, in the order of their code points; ids from 1.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._codes = np.array([ord(c) for c in characters], dtype=np.uint32)

    @classmethod
    def train(cls, text: str) -> CharTokenizer:
        """Know the characters of `text`."""
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        """Number of tokens: the characters, and the one for all others."""
        return len(self.characters) + 1

    @property
    def never_sampled(self) -> list[int]:
        """The id of unknown characters."""
        return [UNKNOWN]

    def encode(self, text: str) -> Tensor:
        """Return one id a character, int64 (characters,)."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        ids = np.where(self._codes[places] == codes, places + 1, UNKNOWN)
        return torch.from_numpy(ids.astype(np.int64))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; an unknown character is the replacement character, U+FFFD."""
        table = "\ufffd" + self.characters
        return "".join(table[i] for i in ids)

    def state(self) -> dict[str, Any]:
        """Return the characters."""
        return {"kind": "char", "characters": self.characters}


class BPETokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 2016; bytes as in GPT-2), by the `tokenizers` package.

    Every text can be encoded: what is in no longer token is spelled in bytes.

    Args:
        json: the tokenizer as `tokenizers` writes it.

    Raises:
        MissingExtraError: `tokenizers` is not installed.
    """

    def __init__(self, json: str) -> None:
        tokenizers = require("tokenizers", "text", needed_by="BPETokenizer")
        self._inner = tokenizers.Tokenizer.from_str(json)

    @classmethod
    def train(cls, text: str, vocab_size: int) -> BPETokenizer:
        """Learn `vocab_size` tokens from `text`: 256 bytes, then the pairs that are most frequent.

        Raises:
            ConfigError: fewer than 257 tokens asked for.
        """
        if vocab_size < 257:
            raise ConfigError(
                f"BPETokenizer(vocab_size={vocab_size}): 256 tokens are the single bytes; give more, such as 1024"
            )
        tokenizers = require("tokenizers", "text", needed_by="BPETokenizer")
        inner = tokenizers.Tokenizer(tokenizers.models.BPE())
        inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        # by lines: pairs never cross a line's end, and one huge string is slow to count
        inner.train_from_iterator(lines_of(text, keep_ends=True), trainer)
        return cls(inner.to_str())

    @property
    def vocab_size(self) -> int:
        """Number of tokens; fewer than asked for where the text has no more pairs."""
        return int(self._inner.get_vocab_size())

    @property
    def never_sampled(self) -> list[int]:
        """None: every token is text."""
        return []

    def encode(self, text: str) -> Tensor:
        """Return the text as int64 ids (tokens,)."""
        return torch.tensor(self._inner.encode(text).ids, dtype=torch.int64)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; bytes that are no whole character are U+FFFD."""
        return str(self._inner.decode(list(ids)))

    def state(self) -> dict[str, Any]:
        """Return the tokenizer as `tokenizers` writes it."""
        return {"kind": "bpe", "json": self._inner.to_str()}


def tokenizer_from_state(state: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer that `state()` described.

    Raises:
        CheckpointError: neither of the two kinds.
    """
    kind = state.get("kind")
    if kind == "char":
        return CharTokenizer(state["characters"])
    if kind == "bpe":
        return BPETokenizer(state["json"])
    raise CheckpointError(f"tokenizer of kind {kind!r}: expected 'char' or 'bpe'")
