"""Classification of sounds: which of `num_classes` is heard in the clip?

Data: batches of waveforms (batch, samples), lengths (batch,) and class numbers (batch,), as the data modules
in `data.py`, `tones.py` and `speech_commands.py` give them. Metrics: cross-entropy and accuracy, logged as
`train_loss`, `train_acc`, `val_loss`, `val_acc`, `test_loss`, `test_acc`; the losses of validation and test are
without smoothing. After the fit `plots/curves.png`, after the test `plots/confusion_matrix.png` and
`plots/worst_clips.png` are in the run directory, the clips themselves in `clips/`, and all in TensorBoard.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lightkit as lk
from lightkit.errors import ConfigError
from recipes.audio.base import AudioModule
from recipes.audio.clips import ClipBatch
from recipes.audio.networks import M5, FrameEncoder, SequenceClassifier, SpectrogramCNN
from recipes.audio.report import SoundReport
from recipes.classes import accuracy, check_classes
from recipes.plots import Curves


class AudioClassifier(AudioModule):
    """Train a network to tell classes of sounds apart, with AdamW under a one-cycle learning rate.

    Args:
        net: "cnn" on spectral features, "m5" on "waveform" or "mu_law", "lstm" or "conformer" on spectral ones.
        num_classes: number of classes; it must be the data's.
        width: channels of the first stage of "cnn" and "m5", numbers a frame in "lstm" and "conformer".
        layers: of "lstm" and "conformer".
        dropout: share of features that are dropped before the last layer, and between layers.
        label_smoothing: share of the target that is spread over all classes, in training only.
        **sound: the arguments of `AudioModule`: `features`, `sample_rate`, ..., `augment`, `lr`, ...

    Raises:
        ConfigError: a network on features that it cannot read, a one-cycle schedule for a fit without an end.
        DataError: the data's classes or sample rate do not fit `num_classes` and `sample_rate`.
    """

    def __init__(
        self,
        net: Literal["cnn", "m5", "lstm", "conformer"] = "cnn",
        num_classes: int = 10,
        width: int = 16,
        layers: int = 2,
        dropout: float = 0.2,
        label_smoothing: float = 0.0,
        **sound: Any,
    ) -> None:
        super().__init__(**sound)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        kind, bins = self.front_end.kind, self.front_end.bins
        if (net == "m5") == self.front_end.is_spectral:
            expected = "'waveform' or 'mu_law'" if net == "m5" else "'mel', 'spectrogram' or 'mfcc'"
            raise ConfigError(f"AudioClassifier(net={net!r}, features={kind!r}): expected features {expected}")
        self.net: nn.Module
        if net == "cnn":
            self.net = SpectrogramCNN(num_classes, width, dropout)
        elif net == "m5":
            self.net = M5(num_classes, bins, self.sample_rate, width, dropout)
        else:
            encoder = FrameEncoder(net, bins, width, layers, dropout, stride=2)
            self.net = SequenceClassifier(encoder, num_classes, width, dropout)

    def setup(self, stage: str) -> None:
        """Compare the data's classes and sample rate with the network's, before the first batch."""
        names: list[str] | None = getattr(self.trainer.datamodule, "class_names", None)
        if names is not None:
            check_classes("AudioClassifier", self.num_classes, names)
            self.take_from_data(names)

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and the report on the test."""
        return [Curves(), SoundReport(self.sample_rate)]

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Map waveforms (batch, samples), of which `lengths` (batch,) are sound, to logits (batch, classes)."""
        logits: Tensor = self.net(*self.features(waveforms, lengths))
        return logits

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Return the smoothed cross-entropy of the batch, a 0-dim tensor; log it and the accuracy."""
        waveforms, lengths, labels = batch
        logits = self(waveforms, lengths)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_acc", accuracy(logits, labels), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Log loss and accuracy of the validation clips."""
        self._evaluate(batch, "val")

    def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        """Log loss and accuracy of the test clips; return what `SoundReport` draws from."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the probabilities of the classes, (batch, classes)."""
        return self(batch[0], batch[1]).softmax(dim=1)

    @torch.no_grad()
    def predict_raw(self, raw: str) -> list[tuple[str, float]]:
        """Return (class, probability) of all classes, most likely first, for one sound file.

        Raises:
            DataError: the file cannot be read or is empty.
            ConfigError: the module was neither fitted nor loaded from a checkpoint.
        """
        waveforms, lengths = self.read_raw(raw)
        was_training = self.training
        self.eval()
        probabilities = self(waveforms, lengths)[0].softmax(dim=0).tolist()
        self.train(was_training)
        return sorted(zip(self.names, probabilities, strict=True), key=lambda pair: -pair[1])

    def _evaluate(self, batch: ClipBatch, stage: str) -> dict[str, Tensor]:
        waveforms, lengths, labels = batch
        features, frames = self.features(waveforms, lengths)
        logits = self.net(features, frames)
        self.log(f"{stage}_loss", F.cross_entropy(logits, labels), prog_bar=True, sync_dist=True)
        right = accuracy(logits, labels)
        self.log(f"{stage}_acc", right, prog_bar=True, sync_dist=True)
        if stage == "val":
            self.log("hp_metric", right, sync_dist=True)
        return {
            "waveforms": waveforms, "lengths": lengths, "features": features, "logits": logits, "labels": labels
        }  # fmt: skip
