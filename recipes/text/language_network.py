"""A GPT-style network: a stack of Transformer blocks in which every place sees only the places before it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightkit.errors import ConfigError


class Rotary(nn.Module):
    """Turn queries and keys by angles that grow with the place, so that their products see distances alone.

    RoFormer (Su et al. 2021); the first half of a head's numbers are paired with the second, as in GPT-NeoX.

    Args:
        head_width: size of a head's vector, an even number.
        context: largest number of places.
        base: the slowest pair turns once in about `2 pi base` places.
    """

    def __init__(self, head_width: int, context: int, base: float = 10_000.0) -> None:
        super().__init__()
        speeds = base ** -(torch.arange(0, head_width, 2) / head_width)
        angles = torch.outer(torch.arange(context), speeds)  # (context, head_width / 2)
        self.register_buffer("cos", torch.cat([angles.cos(), angles.cos()], 1), persistent=False)
        self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn float (..., length, head_width); the shape stays."""
        length = x.shape[-2]
        cos: Tensor = self.cos[:length].to(x.dtype)  # type: ignore[index]
        sin: Tensor = self.sin[:length].to(x.dtype)  # type: ignore[index]
        return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


class Block(nn.Module):
    """Causal self-attention, then a two-layer network; each is normalised before and added to its input.

    Args:
        width: size of a place's vector.
        heads: number of attention heads; `width` is divided among them.
        dropout: share of each output, and of the attention weights, dropped in training.
        rotary: where queries and keys get their places from, or None where the input has them already.
    """

    def __init__(self, width: int, heads: int, dropout: float, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.rotary = rotary
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float (batch, length, width) to the same shape."""
        x = x + self._drop(self._attend(self.attention_norm(x)))
        return x + self._drop(self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)))))

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        stacked = self.queries_keys_values(x).view(batch, length, 3, self.heads, width // self.heads)
        stacked = stacked.permute(2, 0, 3, 1, 4)  # (3, batch, heads, length, width / heads)
        if self.rotary is None:
            queries, keys, values = stacked.unbind()
        else:
            (queries, keys), values = self.rotary(stacked[:2]).unbind(), stacked[2]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, is_causal=True)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        return out

    def _drop(self, x: Tensor) -> Tensor:
        # F.dropout copies its input even where it drops nothing
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class GPT(nn.Module):
    """Token ids in, logits of the next token out: GPT-2's layout (Radford et al. 2019), without biases.

    Normalisation stands before each half of a block and before the last layer; positions are learned.

    Args:
        vocab_size: number of tokens.
        context: largest number of places.
        layers: number of blocks.
        heads: attention heads in each.
        width: size of a place's vector.
        dropout: share dropped of embeddings, attention weights and outputs, in training.
        tie_weights: the last layer uses the token embedding's weights (Press, Wolf 2017).
        positions: "rotary" turns queries and keys (Su et al. 2021), "learned" adds a vector for each place.

    Raises:
        ConfigError: `width` is not a multiple of `heads`, or of twice the heads with "rotary"; unknown `positions`.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        context: int,
        layers: int,
        heads: int,
        width: int,
        dropout: float = 0.0,
        tie_weights: bool = True,
        positions: str = "rotary",
    ) -> None:
        super().__init__()
        if positions not in ("rotary", "learned"):
            raise ConfigError(f"GPT(positions={positions!r}): expected 'rotary' or 'learned'")
        if heads < 1 or width % heads:
            raise ConfigError(f"GPT(width={width}, heads={heads}): the width must be a multiple of the heads")
        self.context = context
        self.token_embedding = nn.Embedding(vocab_size, width)
        rotary = None
        if positions == "rotary":
            if width // heads % 2:
                raise ConfigError(
                    f"GPT(width={width}, heads={heads}): rotary positions turn pairs of a head's {width // heads} "
                    "numbers; give an even number, or positions='learned'"
                )
            rotary = Rotary(width // heads, context)
        else:
            self.position_embedding = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, rotary) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self._initialise(layers)
        if tie_weights:
            self.head.weight = self.token_embedding.weight

    def _initialise(self, layers: int) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("attention_out.weight", "mlp_out.weight")):
                # every block adds two such outputs to the sum that runs through: keep its variance at the start
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 ids (batch, length) to logits (batch, length, vocab_size); length is at most `context`."""
        x = self.token_embedding(tokens)
        if hasattr(self, "position_embedding"):
            x = x + self.position_embedding(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits
