"""A small language model on WikiText-2: text, a transformer, a module around it; (batch, tokens) of word numbers."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from lightkit.checkpoint import atomic
from lightkit.errors import MissingDataError
from lightkit.module import LightModule

_URL = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/train.txt"
END = "<eos>"


class Dictionary:
    """Words and their numbers, in the order in which they came."""

    def __init__(self) -> None:
        self.word2idx: dict[str, int] = {}
        self.idx2word: list[str] = []

    def add_word(self, word: str) -> int:
        """The number of a word, which it gets here if it is new."""
        if word not in self.word2idx:
            self.word2idx[word] = len(self.idx2word)
            self.idx2word.append(word)
        return self.word2idx[word]

    def __len__(self) -> int:
        return len(self.idx2word)


def tokenize(path: Path) -> tuple[Tensor, Dictionary]:
    """The words of a text file as numbers, `<eos>` after each line; and what they are."""
    dictionary = Dictionary()
    numbers = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        numbers += [dictionary.add_word(word) for word in (*line.split(), END)]
    return torch.tensor(numbers, dtype=torch.int64), dictionary


class WikiText2(Dataset[tuple[Tensor, Tensor]]):
    """Pieces of `block_size` words of `<data_dir>/wikitext-2.txt`, and the same one word later.

    Raises MissingDataError where the file is not there and `download` is False.
    """

    def __init__(self, data_dir: Path = Path("data"), block_size: int = 35, download: bool = True) -> None:
        path = Path(data_dir) / "wikitext-2.txt"
        if not path.is_file():
            if not download:
                raise MissingDataError(f"WikiText2: {path} is not there; put the text there, or write download=True")
            path.parent.mkdir(parents=True, exist_ok=True)
            with urlopen(_URL) as response:
                atomic.replace(path, lambda file: shutil.copyfileobj(response, file))
        self.path, self.block_size = path, block_size
        self.data, self.dictionary = tokenize(path)

    @property
    def vocab_size(self) -> int:
        """How many words there are."""
        return len(self.dictionary)

    def __len__(self) -> int:
        return max(0, (len(self.data) - 1) // self.block_size)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.block_size
        end = start + self.block_size
        return self.data[start:end], self.data[start + 1 : end + 1]


class PositionalEncoding(nn.Module):
    """Adds sines and cosines of the position, (batch, tokens, dim) -> the same (Vaswani et al. 2017, 3.5)."""

    table: Tensor

    def __init__(self, dim: int, dropout: float = 0.1, max_len: int = 5000) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        position = torch.arange(max_len, dtype=torch.float32).unsqueeze(1)
        rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10000.0) / dim))
        table = torch.zeros(max_len, dim)
        table[:, 0::2] = torch.sin(position * rate)
        table[:, 1::2] = torch.cos(position * rate)[:, : dim // 2]
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(x + self.table[: x.size(1)])
        return out


class Transformer(nn.Module):
    """Word numbers (batch, tokens), twice -> log probabilities (batch * tokens, vocab_size) of the next word."""

    def __init__(
        self, vocab_size: int = 33278, ninp: int = 200, nhead: int = 2, nhid: int = 200, nlayers: int = 2,
        dropout: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pos_encoder = PositionalEncoding(ninp, dropout)
        self.embedding = nn.Embedding(vocab_size, ninp)
        self.transformer = nn.Transformer(ninp, nhead, nlayers, nlayers, nhid, dropout, batch_first=True)
        self.decoder = nn.Linear(ninp, vocab_size)
        self.ninp, self.vocab_size = ninp, vocab_size

    def generate_square_subsequent_mask(self, size: int) -> Tensor:
        """(size, size): each position sees itself and those before it."""
        return torch.triu(torch.full((size, size), -math.inf), diagonal=1)

    def forward(self, inputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        size = inputs.size(1)
        if mask is None:
            mask = self.generate_square_subsequent_mask(size).to(inputs.device)
        source = self.pos_encoder(self.embedding(inputs) * math.sqrt(self.ninp))
        wanted = self.pos_encoder(self.embedding(target) * math.sqrt(self.ninp))
        out = self.decoder(self.transformer(source, wanted, tgt_mask=mask))  # (batch, tokens, vocab_size)
        return functional.log_softmax(out, dim=-1).view(-1, self.vocab_size)


class LightningTransformer(LightModule):
    """Trains a Transformer on WikiText-2."""

    def __init__(self, vocab_size: int = 33278) -> None:
        super().__init__()
        self.model = Transformer(vocab_size)

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        out: Tensor = self.model(inputs, target)
        return out

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, target = batch
        return functional.nll_loss(self(inputs, target), target.reshape(-1))

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=0.1)

    def prepare_data(self) -> None:
        WikiText2(download=True)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(WikiText2())
