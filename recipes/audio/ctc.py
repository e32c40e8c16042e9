"""Recognition of short utterances: which words are said, in order, without knowing when.

Data: batches of waveforms (batch, samples), lengths (batch,), token numbers (batch, tokens) from 1, and their
counts (batch,), as `YesNoData` gives them. Trained with connectionist temporal classification (Graves et al.
2006), decoded greedily: the most probable token of each frame, repetitions and blanks removed. Metrics: CTC's
loss and the token error rate, which is the insertions, deletions and substitutions that make the decoded
tokens the true ones, over the number of true ones; logged as `train_loss`, `val_loss`, `val_error_rate`,
`test_loss`, `test_error_rate`. After the fit `plots/curves.png` is in the run directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lightkit as lk
from lightkit.errors import ConfigError, DataError, require
from recipes.audio.base import AudioModule
from recipes.audio.clips import UtteranceBatch
from recipes.audio.networks import EncoderKind, FrameEncoder
from recipes.plots import Curves

BLANK = 0


def greedy_tokens(log_probabilities: Tensor, lengths: Tensor) -> list[list[int]]:
    """Decode frames, (batch, frames, 1 + tokens), of which `lengths` (batch,) count, to token numbers."""
    best = log_probabilities.argmax(dim=2).cpu()
    decoded = []
    for row, length in zip(best, lengths.tolist(), strict=True):
        collapsed = torch.unique_consecutive(row[:length])
        decoded.append(collapsed[collapsed != BLANK].tolist())
    return decoded


def count_errors(decoded: Sequence[Sequence[int]], true: Sequence[Sequence[int]]) -> int:
    """Return the insertions, deletions and substitutions between two lists of token lists, in all."""
    functional = require("torchaudio.functional", "audio", needed_by="the error rate")
    return sum(functional.edit_distance(list(a), list(b)) for a, b in zip(decoded, true, strict=True))


class CTCRecognizer(AudioModule):
    """Train an LSTM or Conformer to write down the words of an utterance.

    Args:
        encoder: "lstm" or "conformer".
        num_tokens: number of different words, without CTC's blank; it must be the data's.
        sample_rate: Hz; it must be the data's.
        width: numbers a frame inside the encoder.
        layers: of the encoder.
        stride: frames that become one before the encoder; the tokens of an utterance must be fewer.
        dropout: share of activations that are dropped between layers.
        lr: peak of the learning rate.
        weight_decay: AdamW's decoupled weight decay.
        **sound: the other arguments of `AudioModule`: `features`, `window_ms`, ..., `augment`, `masks`, `schedule`.

    Raises:
        ConfigError: features that are no frames, a one-cycle schedule for a fit without an end.
        DataError: the data's tokens or sample rate do not fit `num_tokens` and `sample_rate`.
    """

    keep_all = True

    def __init__(
        self,
        encoder: EncoderKind = "lstm",
        num_tokens: int = 2,
        sample_rate: int = 8000,
        width: int = 64,
        layers: int = 2,
        stride: int = 2,
        dropout: float = 0.1,
        lr: float = 0.003,
        weight_decay: float = 0.01,
        **sound: Any,
    ) -> None:
        super().__init__(sample_rate=sample_rate, lr=lr, weight_decay=weight_decay, **sound)
        if not self.front_end.is_spectral:
            raise ConfigError(
                f"CTCRecognizer(features={self.front_end.kind!r}): expected 'mel', 'spectrogram' or 'mfcc'"
            )
        self.num_tokens = num_tokens
        self.encoder = FrameEncoder(encoder, self.front_end.bins, width, layers, dropout, stride)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, 1 + num_tokens))

    def setup(self, stage: str) -> None:
        """Compare the data's tokens and sample rate with the network's, before the first batch."""
        tokens: Sequence[str] | None = getattr(self.trainer.datamodule, "tokens", None)
        if tokens is None:
            return
        if len(tokens) != self.num_tokens:
            raise DataError(
                f"CTCRecognizer(num_tokens={self.num_tokens}): the data has {len(tokens)} tokens; "
                f"set model.num_tokens to {len(tokens)}"
            )
        self.take_from_data(list(tokens))

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callback that draws the curves."""
        return [Curves({"loss": ("train_loss", "val_loss"), "token error rate": ("val_error_rate",)})]

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map waveforms (batch, samples), of which `lengths` (batch,) are sound, to log-probabilities.

        Returns:
            float (batch, frames, 1 + tokens), the blank first, and the number of frames that count, (batch,).
        """
        frames, counts = self.encoder(*self.features(waveforms, lengths))
        return self.head(frames).log_softmax(dim=2), counts

    def training_step(self, batch: UtteranceBatch, batch_idx: int) -> Tensor:
        """Return the CTC loss of the batch, a 0-dim tensor; log it."""
        waveforms, lengths, targets, target_lengths = batch
        log_probabilities, counts = self(waveforms, lengths)
        loss = self._loss(log_probabilities, counts, targets, target_lengths)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(waveforms))
        return loss

    def validation_step(self, batch: UtteranceBatch, batch_idx: int) -> None:
        """Log loss and error rate of the validation utterances."""
        self._evaluate(batch, "val")

    def test_step(self, batch: UtteranceBatch, batch_idx: int) -> None:
        """Log loss and error rate of the test utterances."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> list[str]:
        """Return the words of each utterance, joined by spaces."""
        return [self.words(tokens) for tokens in greedy_tokens(*self(batch[0], batch[1]))]

    @torch.no_grad()
    def predict_raw(self, raw: str) -> list[tuple[str, float]]:
        """Return the words heard in one sound file and the probability that CTC gives them in all alignments.

        Raises:
            DataError: the file cannot be read or is empty.
            ConfigError: the module was neither fitted nor loaded from a checkpoint.
        """
        waveforms, lengths = self.read_raw(raw)
        was_training = self.training
        self.eval()
        log_probabilities, counts = self(waveforms, lengths)
        self.train(was_training)
        [tokens] = greedy_tokens(log_probabilities, counts)
        targets = torch.tensor([tokens], dtype=torch.long, device=self.device)
        count = torch.tensor([len(tokens)], device=self.device)
        loss = F.ctc_loss(log_probabilities.transpose(0, 1), targets, counts, count, BLANK, reduction="sum")
        return [(self.words(tokens), float(torch.exp(-loss)))]

    def words(self, tokens: Sequence[int]) -> str:
        """Return tokens as words, joined by spaces; as numbers where the names are not known."""
        return " ".join(self.names[token - 1] if self.names else str(token) for token in tokens)

    def _loss(self, log_probabilities: Tensor, counts: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        # an utterance with more tokens than frames has no alignment: its infinite loss counts as 0
        return F.ctc_loss(
            log_probabilities.transpose(0, 1).float(), targets, counts, target_lengths, BLANK, zero_infinity=True
        )

    def _evaluate(self, batch: UtteranceBatch, stage: str) -> None:
        waveforms, lengths, targets, target_lengths = batch
        log_probabilities, counts = self(waveforms, lengths)
        loss = self._loss(log_probabilities, counts, targets, target_lengths)
        self.log(f"{stage}_loss", loss, prog_bar=True, sync_dist=True, batch_size=len(waveforms))
        true = [row[:length].tolist() for row, length in zip(targets, target_lengths.tolist(), strict=True)]
        errors, tokens = count_errors(greedy_tokens(log_probabilities, counts), true), sum(map(len, true))
        # weighted by its tokens, the mean over batches is the rate over all tokens
        rate = errors / max(tokens, 1)
        self.log(f"{stage}_error_rate", rate, prog_bar=True, sync_dist=True, batch_size=max(tokens, 1))
        if stage == "val":
            self.log("hp_metric", rate, sync_dist=True, batch_size=max(tokens, 1))
