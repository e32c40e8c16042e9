"""What the modules on sound share: features, random changes, the optimizer, and what a checkpoint carries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import lightkit as lk
from lightkit.errors import ConfigError, DataError
from recipes.audio.augment import SpecAugment, WaveAugment
from recipes.audio.clips import cut_or_pad
from recipes.audio.features import Cmn, FrontEnd, Kind
from recipes.audio.files import read_mono
from recipes.schedules import Schedule, adamw


class AudioModule(lk.LightModule):
    """Base of the modules on sound: they take these arguments too, and pass them on.

    Args:
        features: "mel", "spectrogram", "mfcc", "waveform" or "mu_law"; see `FrontEnd`, also for the next five.
        sample_rate: Hz; it must be the data's.
        window_ms: length of the analysis window.
        hop_ms: from one frame to the next.
        bins: numbers a frame.
        cmn: what is taken off every bin: "none", "utterance" or "sliding".
        augment: random changes to the training waveforms, made after they were moved to the device; None for none.
        masks: random changes to the training features; None for none.
        lr: peak of the learning rate.
        weight_decay: AdamW's decoupled weight decay (Loshchilov, Hutter 2019).
        schedule: "one_cycle" rises to `lr` and falls to nearly 0 over the whole fit (Smith, Topin 2018);
            "constant" stays at `lr`.

    Attributes:
        front_end: makes the features.
        names: the classes, or the tokens without CTC's blank, by number; of the data, or of the checkpoint.
        clip_seconds: length that a sound is brought to; None keeps it. Likewise.
    """

    raw_input = "audio"
    # a longer sound keeps its end, where the end means something
    keep_all = False

    def __init__(
        self,
        features: Kind = "mel",
        sample_rate: int = 16000,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
        bins: int = 32,
        cmn: Cmn = "utterance",
        augment: WaveAugment | None = None,
        masks: SpecAugment | None = None,
        lr: float = 0.01,
        weight_decay: float = 0.05,
        schedule: Schedule = "one_cycle",
    ) -> None:
        super().__init__()
        # with those of the subclass, whose __init__ is running
        self.save_hyperparameters(ignore=["augment", "masks"])
        self.front_end = FrontEnd(features, sample_rate, window_ms, hop_ms, bins, cmn)
        self.sample_rate = sample_rate
        self.augment = augment
        self.masks = masks
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule: Schedule = schedule
        # two sounds of a second and of three quarters of one
        waves = torch.linspace(0, 2000, 2 * sample_rate).sin().view(2, sample_rate)
        self.example_input_array = (waves, torch.tensor([sample_rate, sample_rate * 3 // 4]))
        self.names: list[str] = []
        self.clip_seconds: float | None = None

    def take_from_data(self, names: list[str]) -> None:
        """Keep what `predict_raw` needs of the data; DataError where its sample rate is not the module's."""
        data = self.trainer.datamodule
        sample_rate = getattr(data, "sample_rate", None)
        if sample_rate != self.sample_rate:
            raise DataError(
                f"{type(self).__name__}(sample_rate={self.sample_rate}): the data is at {sample_rate} Hz; "
                f"set model.sample_rate to {sample_rate}"
            )
        self.names = list(names)
        self.clip_seconds = getattr(data, "clip_seconds", None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the names and the clips' length into the checkpoint."""
        checkpoint["sound"] = {"names": self.names, "clip_seconds": self.clip_seconds}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them out again."""
        saved = checkpoint.get("sound", {})
        self.names = list(saved.get("names", []))
        self.clip_seconds = saved.get("clip_seconds")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change the waveforms of a training batch at random, on the device."""
        if not self.training or self.augment is None:
            return batch
        waveforms, lengths, *rest = batch
        waveforms, lengths = self.augment(waveforms, lengths, self.sample_rate, keep_all=self.keep_all)
        return (waveforms, lengths, *rest)

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map waveforms (batch, samples) and lengths (batch,) to features (batch, bins, frames) and theirs.

        In training mode the features are changed at random where `masks` says so.
        """
        features, frames = self.front_end(waveforms, lengths)
        if self.training and self.masks is not None:
            features, frames = self.masks(features, frames, keep_all=self.keep_all)
        return features, frames

    def read_raw(self, raw: str) -> tuple[Tensor, Tensor]:
        """Read a file as the data module does; returns waveforms (1, samples) and lengths (1,) on the device."""
        if not self.names:
            raise ConfigError(
                f"{type(self).__name__}.predict_raw: the module has no names yet; fit it, or load a checkpoint"
            )
        samples = None if self.clip_seconds is None else round(self.clip_seconds * self.sample_rate)
        waveforms, lengths = cut_or_pad([read_mono(raw, self.sample_rate)], samples)
        return waveforms.to(self.device), lengths.to(self.device)

    def configure_optimizers(self) -> Any:
        """Return AdamW and, unless the rate is constant, its one-cycle schedule, stepped every batch."""
        return adamw(self, self.lr, self.weight_decay, self.schedule)
