"""What the text modules share: the network is built once the vocabulary is known, which travels in the checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import lightkit as lk
from lightkit.errors import CheckpointError, DataError
from recipes.schedules import Schedule, adamw
from recipes.text.fields import TextCodec
from recipes.text.networks import Architecture, TokenEncoder


class TextModule(lk.LightModule):
    """Base of the modules on numbered tokens: an encoder and a linear layer, AdamW under a one-cycle learning rate.

    The sizes of the first and last layer are the data's, so the network is built in `setup`, or from the checkpoint,
    which holds vocabulary and class names. For the arguments see `TextClassifier`.

    Attributes:
        codec: tokenization, vocabulary and class names; None until they are known.
        encoder: the network below the last layer; None until then.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        token_dropout: float,
        freeze_embedding: bool,
        lr: float,
        weight_decay: float,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        architecture.check(type(self).__name__)
        self.architecture = architecture
        self.token_dropout = token_dropout
        self.freeze_embedding = freeze_embedding
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.codec: TextCodec | None = None
        self.encoder: TokenEncoder | None = None
        self.head = nn.Sequential()

    # ---------------------------------------------------------------- vocabulary and network

    def setup(self, stage: str) -> None:
        """Build the network for the data's vocabulary and classes, or hand the data the vocabulary of the weights."""
        data = self.trainer.datamodule
        codec: TextCodec | None = getattr(data, "codec", None)
        if codec is None and self.codec is None:
            raise DataError(
                f"{type(self).__name__}: no vocabulary; fit it with a data module of recipes.text (its `codec`), "
                "or load it with load_from_checkpoint"
            )
        if self.codec is None:
            assert codec is not None
            self._build(codec)
            self._take_vectors(getattr(data, "vectors", None))
        elif codec is not None and codec != self.codec:
            _number_by(self.codec, data)

    def _build(self, codec: TextCodec) -> None:
        self.codec = codec
        self.encoder = self.architecture.build(len(codec.tokens), codec.pad_index)
        linear = nn.Linear(self.encoder.features, len(codec.class_names))
        self.head = nn.Sequential(nn.Dropout(self.architecture.dropout), linear)
        # two texts, one of which is padded
        self.example_input_array = torch.arange(16).view(2, 8) % len(codec.tokens)
        self.example_input_array[1, 5:] = codec.pad_index
        self.encoder.embedding.weight.requires_grad_(not self.freeze_embedding)

    def _take_vectors(self, vectors: Tensor | None) -> None:
        if vectors is None:
            return
        assert self.encoder is not None
        dimensions = vectors.shape[1]
        if dimensions != self.architecture.embedding_dim:
            raise DataError(
                f"{type(self).__name__}(embedding_dim={self.architecture.embedding_dim}): the data's vectors have "
                f"{dimensions} values; set model.embedding_dim to {dimensions}"
            )
        with torch.no_grad():
            self.encoder.embedding.weight.copy_(vectors)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the vocabulary and the class names."""
        assert self.codec is not None
        checkpoint[TextCodec.key] = self.codec.to_plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the vocabulary and the class names; the data in hand, if any, goes by them from now on."""
        if TextCodec.key not in checkpoint:
            raise CheckpointError(
                f"{type(self).__name__}: the checkpoint holds no vocabulary ({TextCodec.key!r}); it is not one of "
                "this recipe's"
            )
        codec = TextCodec.from_plain(checkpoint[TextCodec.key])
        if codec == self.codec:
            return
        self._build(codec)
        if self._trainer is not None:
            _number_by(codec, self._trainer.datamodule)

    # ---------------------------------------------------------------- training

    def configure_optimizers(self) -> Any:
        """Return AdamW and, unless the rate is constant, its one-cycle schedule, stepped every batch."""
        return adamw(self, self.lr, self.weight_decay, self.schedule)

    def tokens_of(self, batch: Any) -> Tensor:
        """Return `batch.text` as (batch, tokens); in training with some tokens replaced by the unknown one."""
        assert self.codec is not None
        text = batch.text
        tokens: Tensor = text[0] if isinstance(text, tuple) else text  # a field with lengths gives a pair
        if not self.codec.settings.batch_first:
            tokens = tokens.t()
        if self.training and self.token_dropout:
            is_dropped = torch.rand(tokens.shape, device=tokens.device) < self.token_dropout
            tokens = tokens.masked_fill(is_dropped & (tokens != self.codec.pad_index), 0)
        return tokens


def _number_by(codec: TextCodec, data: lk.LightDataModule | None) -> None:
    """Have a data module of recipes.text number its texts as `codec` does; any other is left as it is."""
    use_codec = getattr(data, "use_codec", None)
    if use_codec is not None:
        use_codec(codec)
