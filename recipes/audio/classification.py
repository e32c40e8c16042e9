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
from lightkit.errors import ConfigError, DataError
from recipes.audio.augment import SpecAugment, WaveAugment
from recipes.audio.base import AudioModule, Schedule
from recipes.audio.clips import ClipBatch
from recipes.audio.features import Cmn, FrontEnd, Kind
from recipes.audio.networks import M5, FrameEncoder, SequenceClassifier, SpectrogramCNN
from recipes.audio.report import SoundReport
from recipes.classes import accuracy
from recipes.plots import Curves


class AudioClassifier(AudioModule):
    """Train a network to tell classes of sounds apart, with AdamW under a one-cycle learning rate.

    Args:
        net: "cnn" on spectral features, "m5" on "waveform" or "mu_law", "lstm" or "conformer" on spectral ones.
        num_classes: number of classes; it must be the data's.
        features: "mel", "spectrogram", "mfcc", "waveform" or "mu_law"; see `FrontEnd`, also for the next five.
        sample_rate: Hz; it must be the data's.
        window_ms: length of the analysis window.
        hop_ms: from one frame to the next.
        bins: numbers a frame.
        cmn: what is taken off every bin: "none", "utterance" or "sliding".
        width: channels of the first stage of "cnn" and "m5", numbers a frame in "lstm" and "conformer".
        layers: of "lstm" and "conformer".
        dropout: share of features that are dropped before the last layer, and between layers.
        augment: random changes to the training waveforms; None for none.
        masks: random changes to the training features; None for none.
        lr: peak of the learning rate.
        weight_decay: AdamW's decoupled weight decay.
        schedule: "one_cycle" or "constant".
        label_smoothing: share of the target that is spread over all classes, in training only.

    Raises:
        ConfigError: a network on features that it cannot read, a one-cycle schedule for a fit without an end.
        DataError: the data's classes or sample rate do not fit `num_classes` and `sample_rate`.
    """

    def __init__(
        self,
        net: Literal["cnn", "m5", "lstm", "conformer"] = "cnn",
        num_classes: int = 10,
        features: Kind = "mel",
        sample_rate: int = 16000,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
        bins: int = 32,
        cmn: Cmn = "utterance",
        width: int = 16,
        layers: int = 2,
        dropout: float = 0.2,
        augment: WaveAugment | None = None,
        masks: SpecAugment | None = None,
        lr: float = 0.01,
        weight_decay: float = 0.05,
        schedule: Schedule = "one_cycle",
        label_smoothing: float = 0.0,
    ) -> None:
        front_end = FrontEnd(features, sample_rate, window_ms, hop_ms, bins, cmn)
        super().__init__(front_end, sample_rate, augment, masks, lr, weight_decay, schedule)
        self.save_hyperparameters(ignore=["augment", "masks"])
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        if (net == "m5") == front_end.is_spectral:
            expected = "'waveform' or 'mu_law'" if net == "m5" else "'mel', 'spectrogram' or 'mfcc'"
            raise ConfigError(f"AudioClassifier(net={net!r}, features={features!r}): expected features {expected}")
        self.net: nn.Module
        if net == "cnn":
            self.net = SpectrogramCNN(num_classes, width, dropout)
        elif net == "m5":
            self.net = M5(num_classes, front_end.bins, sample_rate, width, dropout)
        else:
            encoder = FrameEncoder(net, front_end.bins, width, layers, dropout, stride=2)
            self.net = SequenceClassifier(encoder, num_classes, width, dropout)

    def setup(self, stage: str) -> None:
        """Compare the data's classes and sample rate with the network's, before the first batch."""
        names: list[str] | None = getattr(getattr(self.trainer, "datamodule", None), "class_names", None)
        if names is None:
            return
        if len(names) != self.num_classes:
            raise DataError(
                f"AudioClassifier(num_classes={self.num_classes}): the data has {len(names)} classes "
                f"({', '.join(names[:10])}{', ...' if len(names) > 10 else ''}); "
                f"set model.num_classes to {len(names)}"
            )
        self.take_from_data(names)

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and the report on the test."""
        charts = {"loss": ("train_loss", "val_loss"), "accuracy": ("train_acc", "val_acc")}
        return [Curves(charts), SoundReport(self.sample_rate)]

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
        self.log(f"{stage}_acc", accuracy(logits, labels), prog_bar=True, sync_dist=True)
        return {
            "waveforms": waveforms, "lengths": lengths, "features": features, "logits": logits, "labels": labels
        }  # fmt: skip
