"""Text classification: which of the classes does the text belong to?

Data: batches with `batch.text`, int64 (batch, tokens), and `batch.label`, int64 (batch,), as the data modules in
`data.py` and `stdlib.py` give them. Metrics: cross-entropy, accuracy, and macro accuracy (the mean over the classes of
the share that is found, which a large class cannot carry alone), logged as `train_loss`, `train_acc`, `val_loss`,
`val_acc`, `val_macro_acc`, and the same for `test`. After the fit `plots/curves.png`, after the test
`plots/confusion_matrix.png` and `plots/worst_mistakes.txt` are in the run directory, and in TensorBoard.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lightkit as lk
from recipes.classes import accuracy
from recipes.plots import ClassificationReport, Curves
from recipes.text.mistakes import WorstTexts
from recipes.text.networks import Architecture
from recipes.text.text_module import Schedule, TextModule


class TextClassifier(TextModule):
    """Train a network to tell classes of texts apart, with AdamW under a one-cycle learning rate.

    Args:
        net: "lstm", "gru" or "rnn"; "transformer", a small encoder; "bag", the mean of the embeddings, which is fast
            and hard to beat on topics, with `data.field.ngrams` of 2.
        embedding_dim: size of the tokens' vectors; that of pre-trained ones, where the data has some.
        width: units of a recurrent layer and direction, or size of the Transformer.
        layers: number of recurrent or Transformer layers.
        heads: attention heads of the Transformer.
        bidirectional: read the text from both ends; recurrent networks only.
        packed: leave padding out of the recurrence.
        pool: what stands for the text: the "last" state of each direction, or the "mean" or "max" over the tokens.
        dropout: share of features dropped after the embedding, between layers and before the last one.
        token_dropout: share of tokens replaced by the unknown one in training.
        freeze_embedding: leave the embedding as it is, for pre-trained vectors.
        lr: peak of the learning rate.
        weight_decay: AdamW's decoupled weight decay (Loshchilov, Hutter 2019).
        schedule: "one_cycle" rises to `lr` and falls to nearly 0 over the whole fit (Smith, Topin 2018);
            "constant" stays at `lr`.
        label_smoothing: share of the target that is spread over all classes, in training only.

    Raises:
        ConfigError: an unknown `net` or `pool`, a one-cycle schedule for a fit without an end.
        DataError: no vocabulary, or pre-trained vectors of another size than `embedding_dim`.
    """

    raw_input = "text"

    def __init__(
        self,
        net: str = "lstm",
        embedding_dim: int = 64,
        width: int = 128,
        layers: int = 1,
        heads: int = 4,
        bidirectional: bool = True,
        packed: bool = True,
        pool: str = "last",
        dropout: float = 0.3,
        token_dropout: float = 0.0,
        freeze_embedding: bool = False,
        lr: float = 0.005,
        weight_decay: float = 0.01,
        schedule: Schedule = "one_cycle",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            Architecture(net, embedding_dim, width, layers, heads, bidirectional, packed, pool, dropout),
            token_dropout=token_dropout,
            freeze_embedding=freeze_embedding,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
        )
        self.save_hyperparameters()
        self.label_smoothing = label_smoothing
        self.counts: Tensor | None = None  # per class of an evaluation: examples found, examples

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and the report on the test."""
        accuracies = ("train_acc", "val_acc", "val_macro_acc")
        charts = {"loss": ("train_loss", "val_loss"), "accuracy": accuracies}
        return [Curves(charts), ClassificationReport(), WorstTexts()]

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens int64 (batch, tokens) to logits (batch, classes)."""
        assert self.encoder is not None
        logits: Tensor = self.head(self.encoder(tokens))
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the smoothed cross-entropy of the batch, a 0-dim tensor; log it and the accuracy."""
        logits = self(self.tokens_of(batch))
        loss = F.cross_entropy(logits, batch.label, label_smoothing=self.label_smoothing)
        size = len(logits)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        self.log("train_acc", accuracy(logits, batch.label), on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log loss and accuracy of the validation texts."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Log loss and accuracy of the test texts; return what `ClassificationReport` and `WorstTexts` need."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the probabilities of the classes, (batch, classes)."""
        return self(self.tokens_of(batch)).softmax(dim=1)

    def _evaluate(self, batch: Any, stage: str) -> dict[str, Tensor]:
        labels = batch.label
        logits = self(self.tokens_of(batch))
        is_right = logits.argmax(dim=1) == labels
        self.log(f"{stage}_loss", F.cross_entropy(logits, labels), prog_bar=True, batch_size=len(labels))
        self.log(f"{stage}_acc", is_right.float().mean(), prog_bar=True, batch_size=len(labels))
        if stage == "val":
            self.log("hp_metric", is_right.float().mean(), batch_size=len(labels))
        found = torch.stack([is_right.float(), torch.ones_like(labels, dtype=torch.float)])
        if self.counts is None:
            self.counts = found.new_zeros(2, logits.shape[1])
        self.counts.index_add_(1, labels, found)
        return {"logits": logits, "labels": labels}

    def on_validation_epoch_start(self) -> None:
        """Count anew."""
        self.counts = None

    def on_validation_epoch_end(self) -> None:
        """Log the mean accuracy over the classes."""
        self._log_macro_accuracy("val")

    def on_test_epoch_start(self) -> None:
        """Count anew."""
        self.counts = None

    def on_test_epoch_end(self) -> None:
        """Log the mean accuracy over the classes."""
        self._log_macro_accuracy("test")

    def _log_macro_accuracy(self, stage: str) -> None:
        if self.counts is None:
            return
        right, total = self.counts
        # classes without an example have no accuracy: 0 / 0, left out of the mean
        self.log(f"{stage}_macro_acc", (right / total).nanmean())

    @torch.inference_mode()
    def predict_raw(self, raw: str) -> list[tuple[str, float]]:
        """Return (class, probability) of all classes, most likely first, for one text.

        Raises:
            DataError: the text has no token.
        """
        assert self.codec is not None, "load the module from a checkpoint, or fit it"
        self.eval()
        tokens = self.codec.encode([raw]).to(self.device)
        logits = self(tokens if self.codec.settings.batch_first else tokens.t())
        probabilities = logits.softmax(dim=1)[0].tolist()
        return sorted(zip(self.codec.class_names, probabilities, strict=True), key=lambda pair: -pair[1])
