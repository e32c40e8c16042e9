"""Windows of a long text for `LanguageModel`: from a plain text file, or Python's own standard library.

The first 90 % of the text train, the last 10 % validate. Every batch is a pair of int64 tensors
(batch, context): token ids, and the ids that follow each of them. Which windows come when is the sampler's
choice alone, so seeding and resuming cover it, also in the middle of an epoch and with worker processes.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, RandomSampler

import lightkit as lk
from lightkit.errors import ConfigError, DataError, MissingDataError
from recipes.datamodule import RecipeData
from recipes.splits import check_fraction
from recipes.text.language_tokens import BPETokenizer, CharTokenizer, Tokenizer
from recipes.text.lines import without_mark

Batch = tuple[Tensor, Tensor]


class Windows(Dataset[Batch]):
    """All windows of `context` tokens that begin at multiples of `stride`; only whole ones.

    Args:
        tokens: int64 ids (tokens,).
        context: length of a window.
        stride: distance of neighbouring beginnings; 1 for every place of the text.
    """

    def __init__(self, tokens: Tensor, context: int, stride: int) -> None:
        self.tokens = tokens
        self.stride = stride
        self.offsets = torch.arange(context + 1)  # one more: the last token's successor
        self.count = max(0, (len(tokens) - context - 1) // stride + 1)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        """Return one window as tokens (context,) and their successors (context,)."""
        tokens, targets = self.__getitems__([index])
        return tokens[0], targets[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a whole batch at once."""
        starts = torch.tensor(indices).mul_(self.stride)
        windows = self.tokens[starts[:, None] + self.offsets]  # (batch, context + 1)
        return windows[:, :-1], windows[:, 1:]


class LanguageData(RecipeData):
    """Base of the data modules: splits, tokenizes and cuts the text that a subclass's `read` returns.

    Args:
        context: tokens a window; at most the model's.
        batch_size: windows a batch.
        tokenizer: "char", or "bpe" for byte pairs; trained on the training part alone.
        vocab_size: tokens of "bpe".
        windows: "random" draws windows from anywhere in the text, as many an epoch as fit into it side by side;
            "strided" takes those at multiples of `stride`, each once an epoch, in random order.
        stride: distance of strided windows; None: `context`, side by side.
        val_fraction: share of the text, its end, that validates.
        num_workers: processes that cut windows; 0 is the fastest here.

    Attributes:
        text_tokenizer: what the text was encoded with; known after `setup`.
        chars_per_token: of the validation text; 1 for characters.
    """

    sets: dict[str, Windows]
    text_tokenizer: Tokenizer
    chars_per_token: float

    def __init__(
        self,
        context: int,
        batch_size: int,
        tokenizer: Literal["char", "bpe"],
        vocab_size: int,
        windows: Literal["random", "strided"],
        stride: int | None,
        val_fraction: float,
        num_workers: int,
    ) -> None:
        super().__init__(batch_size, num_workers)
        self.where = type(self).__name__
        for name, value in {"context": context, "stride": stride or 1}.items():
            if value < 1:
                raise ConfigError(f"{self.where}({name}={value}): expected at least 1")
        for name, choice, known in (
            ("tokenizer", tokenizer, ("char", "bpe")),
            ("windows", windows, ("random", "strided")),
        ):
            if choice not in known:
                raise ConfigError(f"{self.where}({name}={choice!r}): expected {known[0]!r} or {known[1]!r}")
        check_fraction(self.where, "val_fraction", val_fraction)
        self.context = context
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.windows = windows
        self.stride = stride or context
        self.val_fraction = val_fraction

    def read(self) -> tuple[str, str]:
        """Return the whole text, and where it comes from, for messages."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Read, split and encode the text, once; the same for every stage."""
        if self.sets:
            return
        text, source = self.read()
        cut = int(len(text) * (1 - self.val_fraction))
        train, val = text[:cut], text[cut:]
        if not train:
            raise DataError(f"{self.where}: {source} holds {len(text)} characters, which is no text to learn from")
        if self.tokenizer == "char":
            self.text_tokenizer = CharTokenizer.train(train)
        else:
            self.text_tokenizer = BPETokenizer.train(train, self.vocab_size)
        train_tokens, val_tokens = (self.text_tokenizer.encode(part) for part in (train, val))
        for name, tokens in (("training", train_tokens), ("validation", val_tokens)):
            if len(tokens) <= self.context:
                raise DataError(
                    f"{self.where}: the {name} part of {source} holds {len(tokens)} tokens, too few for one window of "
                    f"{self.context} and the token after it; give more text, or a smaller data.context"
                )
        self.chars_per_token = len(val) / len(val_tokens)
        val_windows = Windows(val_tokens, self.context, self.context)
        self.sets = {
            "train": Windows(train_tokens, self.context, 1 if self.windows == "random" else self.stride),
            "val": val_windows,
            "test": val_windows,  # the text has two parts, so a test measures the best checkpoint on the validation's
        }

    def loading(self, part: str) -> dict[str, Any]:
        """Return the arguments of the `DataLoader` over a part."""
        if part != "train":
            return super().loading(part)
        windows, is_random = self.sets[part], self.windows == "random"
        count = len(windows.tokens) // self.context
        sampler = RandomSampler(
            windows, replacement=is_random, num_samples=max(count, self.batch_size) if is_random else None
        )
        # a batch of another size would weigh its windows differently from all others
        is_full = len(sampler) >= self.batch_size
        return {**super().loading(part), "shuffle": False, "sampler": sampler, "drop_last": is_full}


class TextFileData(LanguageData):
    """One plain text file, UTF-8.

    Args:
        path: the file.
        context: tokens a window; at most the model's.
        batch_size: windows a batch.
        tokenizer: "char", or "bpe" for byte pairs; trained on the training part alone.
        vocab_size: tokens of "bpe".
        windows: "random" or "strided"; see `LanguageData`.
        stride: distance of strided windows; None: `context`.
        val_fraction: share of the text, its end, that validates.
        num_workers: processes that cut windows; 0 is the fastest here.

    Raises:
        ConfigError: an argument that cannot work.
        DataError: no such file, not UTF-8, or too short; says which.
    """

    def __init__(
        self,
        path: str = "data/input.txt",
        context: int = 128,
        batch_size: int = 16,
        tokenizer: Literal["char", "bpe"] = "char",
        vocab_size: int = 1024,
        windows: Literal["random", "strided"] = "random",
        stride: int | None = None,
        val_fraction: float = 0.1,
        num_workers: int = 0,
    ) -> None:
        super().__init__(context, batch_size, tokenizer, vocab_size, windows, stride, val_fraction, num_workers)
        self.path = Path(path)
        # not to the loggers: the context is a hyperparameter of the model too
        self.save_hyperparameters(logger=False)

    def read(self) -> tuple[str, str]:
        """Return the file's text, with `\\n` at the ends of its lines, and its path."""
        if not self.path.is_file():
            raise MissingDataError(
                f"TextFileData: no file {self.path}; put the text there (UTF-8), or say where it lies: "
                "--data.path /where/it/is.txt"
            )
        data = self.path.read_bytes()
        try:
            text = without_mark(data.decode("utf-8"))
            return text.replace("\r\n", "\n").replace("\r", "\n"), str(self.path)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"TextFileData: {self.path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; convert the "
                "file, for instance with `iconv -f latin1 -t utf-8`"
            ) from None

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write letters in a made-up order, and read those; for `lightkit check` without the text."""
        letters = torch.randint(97, 123, (40 * self.context,), generator=torch.Generator().manual_seed(0))
        root.mkdir(parents=True, exist_ok=True)
        self.path = root / "text.txt"
        self.path.write_text("".join(map(chr, letters.tolist())), encoding="utf-8")


class StdlibData(LanguageData):
    """The source of the running Python's own standard library: text that is there without any download.

    The modules at the top of the library, without its tests, one after the other; which of them come last, and so
    validate, is fixed by their names. The text differs a little from one Python version to the next.

    Args:
        max_chars: how much of it to use.
        context: tokens a window; at most the model's.
        batch_size: windows a batch.
        tokenizer: "char", or "bpe" for byte pairs; trained on the training part alone.
        vocab_size: tokens of "bpe".
        windows: "random" or "strided"; see `LanguageData`.
        stride: distance of strided windows; None: `context`.
        val_fraction: share of the text, its end, that validates.
        num_workers: processes that cut windows; 0 is the fastest here.

    Raises:
        ConfigError: an argument that cannot work.
        DataError: this Python was installed without the source of its library.
    """

    def __init__(
        self,
        max_chars: int = 2_000_000,
        context: int = 128,
        batch_size: int = 16,
        tokenizer: Literal["char", "bpe"] = "char",
        vocab_size: int = 1024,
        windows: Literal["random", "strided"] = "random",
        stride: int | None = None,
        val_fraction: float = 0.1,
        num_workers: int = 0,
    ) -> None:
        super().__init__(context, batch_size, tokenizer, vocab_size, windows, stride, val_fraction, num_workers)
        self.max_chars = max_chars
        self.save_hyperparameters(logger=False)

    def read(self) -> tuple[str, str]:
        """Return the text of the modules, and the folder of the library."""
        folder = Path(sysconfig.get_paths()["stdlib"])
        texts: list[str] = []
        # by their names read backwards: neighbours in the alphabet (test_*, async*) do not end up in one part
        for path in sorted(folder.glob("*.py"), key=lambda p: p.stem[::-1]):
            if sum(map(len, texts)) >= self.max_chars:
                break
            texts.append(path.read_text(encoding="utf-8-sig", errors="replace"))
        if not texts:
            raise DataError(
                f"StdlibData: no *.py in {folder}: this Python was installed without the source of its library; "
                "use a text file (text/shakespeare_gpt --data.path ...)"
            )
        return "".join(texts)[: self.max_chars], str(folder)
