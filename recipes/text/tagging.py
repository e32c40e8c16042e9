"""Sequence tagging: which tag has each token of the text?

Data: batches with `batch.text` and `batch.tags`, both int64 (batch, tokens), padded alike; padding is left out of the
loss (`ignore_index`) and of the accuracy. Metrics: cross-entropy a token and the share of tokens with the right tag,
logged as `train_loss`, `train_acc`, `val_loss`, `val_acc`, `test_loss`, `test_acc`. After the fit `plots/curves.png`,
after the test `plots/confusion_matrix.png` are in the run directory, and in TensorBoard.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lightkit as lk
from lightkit.errors import ConfigError
from recipes.plots import ClassificationReport, Curves
from recipes.text.networks import Architecture
from recipes.text.text_module import Schedule, TextModule


class SequenceTagger(TextModule):
    """Train a network to tag every token, with AdamW under a one-cycle learning rate.

    Args:
        net: "lstm", "gru", "rnn" or "transformer".
        embedding_dim: size of the tokens' vectors.
        width: units of a recurrent layer and direction, or size of the Transformer.
        layers: number of recurrent or Transformer layers.
        heads: attention heads of the Transformer.
        bidirectional: read the text from both ends; recurrent networks only.
        packed: leave padding out of the recurrence.
        dropout: share of features dropped after the embedding, between layers and before the last one.
        token_dropout: share of tokens replaced by the unknown one in training, so that it learns to tag unknown words.
        freeze_embedding: leave the embedding as it is, for pre-trained vectors.
        lr: peak of the learning rate.
        weight_decay: AdamW's decoupled weight decay.
        schedule: "one_cycle" or "constant".

    Raises:
        ConfigError: an unknown `net`, or "bag", which has no vector a token.
        DataError: no vocabulary, or pre-trained vectors of another size than `embedding_dim`.
    """

    def __init__(
        self,
        net: str = "lstm",
        embedding_dim: int = 64,
        width: int = 64,
        layers: int = 1,
        heads: int = 4,
        bidirectional: bool = True,
        packed: bool = True,
        dropout: float = 0.3,
        token_dropout: float = 0.1,
        freeze_embedding: bool = False,
        lr: float = 0.005,
        weight_decay: float = 0.01,
        schedule: Schedule = "one_cycle",
    ) -> None:
        if net == "bag":
            raise ConfigError(
                "SequenceTagger(net='bag'): a bag has no vector for each token; expected lstm, gru, rnn or transformer"
            )
        super().__init__(
            Architecture(net, embedding_dim, width, layers, heads, bidirectional, packed, "last", dropout),
            token_dropout=token_dropout,
            freeze_embedding=freeze_embedding,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
        )
        self.save_hyperparameters()

    @property
    def ignore_index(self) -> int:
        """The number that stands for no tag, at padding: the one after the last tag."""
        assert self.codec is not None
        return len(self.codec.class_names)

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and the confusion matrix of the test."""
        return [Curves(), ClassificationReport()]

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens int64 (batch, tokens) to logits (batch, tokens, tags)."""
        assert self.encoder is not None
        logits: Tensor = self.head(self.encoder.states(tokens))
        return logits

    def _compare(self, batch: Any, stage: str) -> tuple[Tensor, Tensor, Tensor]:
        """Log loss and accuracy over the tokens that are no padding; return the loss, logits and tags."""
        assert self.codec is not None
        tags = batch.tags if self.codec.settings.batch_first else batch.tags.t()
        logits = self(self.tokens_of(batch))
        loss = F.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=self.ignore_index)
        right = (logits.argmax(dim=2) == tags).sum()  # padding is never right: no logit has its number
        is_training = stage == "train"
        # epoch means over texts, not tokens, would weigh a token of a short text more
        size = int(batch.token_count)
        self.log(f"{stage}_loss", loss, on_step=is_training, on_epoch=True, prog_bar=True, batch_size=size)
        self.log(f"{stage}_acc", right / size, on_step=False, on_epoch=True, prog_bar=not is_training, batch_size=size)
        if stage == "val":
            self.log("hp_metric", right / size, batch_size=size)
        return loss, logits, tags

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the cross-entropy a token, a 0-dim tensor."""
        return self._compare(batch, "train")[0]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log loss and accuracy of the validation texts."""
        self._compare(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Log loss and accuracy of the test texts; return what `ClassificationReport` draws from."""
        _, logits, tags = self._compare(batch, "test")
        is_token = tags != self.ignore_index
        return {"logits": logits[is_token], "labels": tags[is_token]}

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the number of the likeliest tag of each token, int64 (batch, tokens)."""
        return self(self.tokens_of(batch)).argmax(dim=2)

    @torch.inference_mode()
    def tag(self, tokens: list[str]) -> list[tuple[str, str, float]]:
        """Return each of `tokens` with its likeliest tag and that tag's probability."""
        assert self.codec is not None, "load the module from a checkpoint, or fit it"
        self.eval()
        numbers = self.codec.field.numericalize([tokens])
        numbers = numbers if self.codec.settings.batch_first else numbers.t()
        probability, tag = self(numbers.to(self.device)).softmax(dim=2)[0].max(dim=1)
        names = self.codec.class_names
        return [
            (token, names[number], share)
            for token, number, share in zip(tokens, tag.tolist(), probability.tolist(), strict=True)
        ]
