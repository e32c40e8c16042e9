"""A recurrent language model on WikiText-2, whose state goes on from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Sampler

from lightkit.demos.transformer import WikiText2
from lightkit.module import LightModule

Hidden = tuple[Tensor, Tensor]


class SimpleLSTM(nn.Module):
    """Word numbers (batch, tokens), a state -> log probabilities (batch * tokens, vocab_size), the next state."""

    def __init__(
        self, vocab_size: int = 33278, ninp: int = 512, nhid: int = 512, nlayers: int = 4, dropout: float = 0.2
    ):
        super().__init__()
        self.vocab_size, self.nlayers, self.nhid = vocab_size, nlayers, nhid
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=dropout, batch_first=True)
        self.decoder = nn.Linear(nhid, vocab_size)
        self.init_weights()

    def init_weights(self) -> None:
        """Small numbers for words and outputs, zero for what is added to these."""
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        words = self.drop(self.encoder(input))
        out, hidden = self.rnn(words, hidden)
        decoded = self.decoder(self.drop(out)).view(-1, self.vocab_size)
        return functional.log_softmax(decoded, dim=1), hidden

    def init_hidden(self, batch_size: int) -> Hidden:
        """The state before the first word: zeros, (layers, batch, nhid) twice."""
        zeros = self.decoder.weight.new_zeros(self.nlayers, batch_size, self.nhid)
        return zeros, zeros.clone()


class SequenceSampler(Sampler[list[int]]):
    """Batches in which row i goes on where row i of the batch before ended; what is left over is dropped."""

    def __init__(self, dataset: Sized, batch_size: int) -> None:
        self.dataset, self.batch_size = dataset, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        count = len(self)
        for first in range(count):
            yield [first + row * count for row in range(self.batch_size)]

    def __len__(self) -> int:
        return len(self.dataset) // self.batch_size


class LightningLSTM(LightModule):
    """Trains a SimpleLSTM on WikiText-2."""

    def __init__(self, vocab_size: int = 33278):
        super().__init__()
        self.model = SimpleLSTM(vocab_size)
        self.hidden: Hidden | None = None

    def on_train_epoch_end(self) -> None:
        self.hidden = None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, target = batch
        if self.hidden is None:
            self.hidden = self.model.init_hidden(inputs.size(0))
        # cut from the batch before: gradients go back to the beginning of this one
        hidden = (self.hidden[0].detach(), self.hidden[1].detach())
        output, self.hidden = self.model(inputs, hidden)
        loss = functional.nll_loss(output, target.reshape(-1))
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def prepare_data(self) -> None:
        WikiText2(download=True)

    def train_dataloader(self) -> DataLoader[Any]:
        dataset = WikiText2()
        return DataLoader(dataset, batch_sampler=SequenceSampler(dataset, batch_size=20))

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.SGD(self.parameters(), lr=20.0)
