"""Networks that read numbered tokens: recurrent, Transformer, or a bag that takes no notice of order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightkit.errors import ConfigError, ExportError, did_you_mean

NETS = ("lstm", "gru", "rnn", "transformer", "bag")
POOLS = ("last", "mean", "max")


class TokenEncoder(nn.Module):
    """Base: tokens int64 (batch, tokens) to a vector a token, and to one vector a text.

    Attributes:
        embedding: the vectors of the vocabulary, `embedding.weight` (vocabulary, dimensions).
        features: size of both kinds of vectors that come out.
        pad_index: the token that fills short texts up.
    """

    embedding: nn.Embedding | nn.EmbeddingBag
    features: int
    pad_index: int

    def states(self, tokens: Tensor) -> Tensor:
        """Map tokens to float (batch, tokens, features); what comes out at padding means nothing."""
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens to float (batch, features)."""
        raise NotImplementedError


class RecurrentEncoder(TokenEncoder):
    """An LSTM (Hochreiter, Schmidhuber 1997), GRU (Cho et al. 2014) or plain recurrent network over embeddings.

    Packed, padding is neither computed nor seen, also by the direction that begins at a text's end; lengths are read
    on the host for that, which a GPU waits for. Not packed, that direction sees the padding first.
    """

    def __init__(self, architecture: Architecture, embedding: nn.Embedding) -> None:
        super().__init__()
        assert embedding.padding_idx is not None
        self.embedding = embedding
        self.pad_index = embedding.padding_idx
        self.packed = architecture.packed
        self.pool = architecture.pool
        self.dropout = nn.Dropout(architecture.dropout)
        recurrent: dict[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        self.recurrent = recurrent[architecture.net](
            embedding.embedding_dim,
            architecture.width,
            num_layers=architecture.layers,
            batch_first=True,
            bidirectional=architecture.bidirectional,
            dropout=architecture.dropout if architecture.layers > 1 else 0.0,
        )
        self.features = architecture.width * (2 if architecture.bidirectional else 1)

    def _run(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (batch, tokens, features) and the last state of each direction (batch, features)."""
        embedded: Any = self.dropout(self.embedding(tokens))
        if self.packed:
            if torch.compiler.is_exporting():
                raise ExportError(
                    f"{type(self.recurrent).__name__}(packed=True): a packed recurrence runs as long as each text, "
                    "which torch.export and ONNX cannot hold; train with model.packed=false, or export as torchscript"
                )
            lengths = (tokens != self.pad_index).sum(dim=1).clamp(min=1).cpu()
            embedded = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, last = self.recurrent(embedded)
        if self.packed:
            states, _ = pad_packed_sequence(states, batch_first=True, total_length=tokens.shape[1])
        hidden = last[0] if isinstance(last, tuple) else last  # an LSTM's cells are left out
        directions = 2 if self.recurrent.bidirectional else 1
        return states, hidden[-directions:].transpose(0, 1).flatten(1)

    def states(self, tokens: Tensor) -> Tensor:
        """As TokenEncoder.states."""
        return self._run(tokens)[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the last state of each direction, or the mean or maximum over the tokens."""
        states, last = self._run(tokens)
        return last if self.pool == "last" else pooled(states, tokens != self.pad_index, self.pool)


class TransformerEncoder(TokenEncoder):
    """A small Transformer encoder (Vaswani et al. 2017), normalised before each half, with fixed sine positions."""

    def __init__(self, architecture: Architecture, embedding: nn.Embedding) -> None:
        super().__init__()
        assert embedding.padding_idx is not None
        self.embedding = embedding
        self.pad_index = embedding.padding_idx
        # it has no last state
        self.pool = "mean" if architecture.pool == "last" else architecture.pool
        self.features = width = architecture.width
        self.dropout = nn.Dropout(architecture.dropout)
        self.project = nn.Linear(embedding.embedding_dim, width)
        layer = nn.TransformerEncoderLayer(
            width, architecture.heads, 4 * width, architecture.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, architecture.layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def states(self, tokens: Tensor) -> Tensor:
        """As TokenEncoder.states."""
        x = self.project(self.embedding(tokens))
        x = self.dropout(x + sine_positions(tokens.shape[1], self.features, x.device).to(x.dtype))
        states: Tensor = self.blocks(x, src_key_padding_mask=tokens == self.pad_index)
        return states

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean or maximum over the tokens."""
        return pooled(self.states(tokens), tokens != self.pad_index, self.pool)


class BagEncoder(TokenEncoder):
    """The mean of the embeddings of a text's tokens, as fastText's classifier has it (Joulin et al. 2016)."""

    def __init__(self, embedding: nn.EmbeddingBag) -> None:
        super().__init__()
        assert embedding.padding_idx is not None
        self.embedding = embedding
        self.pad_index = embedding.padding_idx
        self.features = embedding.embedding_dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean of the embeddings, without padding."""
        mean: Tensor = self.embedding(tokens)
        return mean


def pooled(states: Tensor, is_token: Tensor, pool: str) -> Tensor:
    """Reduce (batch, tokens, features) over the tokens that `is_token`, bool (batch, tokens): mean or maximum."""
    mask = is_token.unsqueeze(2)
    if pool == "max":
        return states.masked_fill(~mask, torch.finfo(states.dtype).min).amax(dim=1)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def sine_positions(length: int, width: int, device: torch.device) -> Tensor:
    """Return float32 (length, width): sines and cosines of the position at wavelengths from 2 pi to 20,000 pi."""
    position = torch.arange(length, device=device).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    angles = position * rate  # (length, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


@dataclass(frozen=True)
class Architecture:
    """What a network is made of; see `TextClassifier` for the arguments."""

    net: str
    embedding_dim: int
    width: int
    layers: int
    heads: int
    bidirectional: bool
    packed: bool
    pool: str
    dropout: float

    def check(self, owner: str) -> None:
        """Raise ConfigError for what cannot be built, before any data is read."""
        for name, options in (("net", NETS), ("pool", POOLS)):
            value = getattr(self, name)
            if value not in options:
                raise ConfigError(
                    f"{owner}({name}={value!r}): expected one of {', '.join(options)}{did_you_mean(value, options)}"
                )
        if self.net == "transformer" and self.width % self.heads:
            raise ConfigError(f"{owner}(width={self.width}, heads={self.heads}): width must be a multiple of heads")

    def build(self, vocabulary: int, pad_index: int) -> TokenEncoder:
        """Return the network with an embedding for so many tokens."""
        if self.net == "bag":
            bag = nn.EmbeddingBag(vocabulary, self.embedding_dim, mode="mean", padding_idx=pad_index)
            _start_small(bag.weight, pad_index)
            return BagEncoder(bag)
        embedding = nn.Embedding(vocabulary, self.embedding_dim, padding_idx=pad_index)
        if self.net == "transformer":
            return TransformerEncoder(self, embedding)
        return RecurrentEncoder(self, embedding)


def _start_small(weight: Tensor, pad_index: int) -> None:
    # the mean over a text of vectors of size 1 would be lost among those of the words that matter
    with torch.no_grad():
        weight.normal_(0, 0.1)
        weight[pad_index] = 0
