"""Random changes of whole batches of sound, on the device that holds them, from its default generator.

Each clip of a batch gets amounts of its own; only the cut-off frequency of a filter is one a batch. Seeding
and resuming cover all of it, as the generators are part of a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightkit.errors import ConfigError, DataError, require
from recipes.audio.files import read_mono, sounds_in


def _functional() -> Any:
    return require("torchaudio.functional", "audio", needed_by="the augmentation of sound")


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    """Draw one number from `low` to `high` for each row of `like`; returns (batch, 1)."""
    return torch.rand(len(like), 1, device=like.device).mul_(high - low).add_(low)


def _half(like: Tensor) -> Tensor:
    """Choose each row of `like` with probability one half; bool (batch, 1)."""
    return torch.rand(len(like), 1, device=like.device) < 0.5


def interpolate(rows: Tensor, places: Tensor) -> Tensor:
    """Read rows between their samples, with Catmull and Rom's cubic; 0 outside.

    Args:
        rows: float (batch, ..., samples).
        places: where to read each row, in samples from its first, float (batch, places).

    Returns:
        float (batch, ..., places).
    """
    floor = places.floor()
    t = places - floor
    weights = (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    # two samples of silence on either side stand for all that lies outside
    padded = torch.nn.functional.pad(rows, (2, 2))
    first = floor.long() + 1
    shape = [len(rows), *[1] * (rows.ndim - 2), places.shape[1]]
    result = torch.zeros(1, device=rows.device)
    for offset, weight in enumerate(weights):
        index = (first + offset).clamp(0, padded.shape[-1] - 1).view(shape)
        result = result + padded.gather(-1, index.expand(*rows.shape[:-1], -1)) * weight.view(shape)
    return result


@dataclass(frozen=True)
class WaveAugment:
    """Change waveforms; every amount of 0, and None, leaves its change out. In the order of the arguments.

    Args:
        speed: largest change of speed, as a share: 0.2 is 1/1.2 to 1.2 times. Pitch and formants move along,
            as from a smaller or larger speaker (Ko et al. 2015).
        shift_seconds: largest shift, later into the padding or earlier off the clip's beginning.
        fade: largest share of a clip that is faded in, and out, linearly.
        low_pass_hz: lowest and highest cut-off of a low-pass filter that half of the clips go through.
        high_pass_hz: the same of a high-pass filter.
        noise_snr_db: lowest and highest signal-to-noise ratio of the noise that half of the clips get.
        noise_dir: folder of sound files to cut the noise from; None takes white noise.
        gain_db: largest change of loudness, either way.
        dither_bits: number of bits whose last one is dithered, with triangular noise, as before quantising.
    """

    speed: float = 0.0
    shift_seconds: float = 0.0
    fade: float = 0.0
    low_pass_hz: tuple[float, float] | None = None
    high_pass_hz: tuple[float, float] | None = None
    noise_snr_db: tuple[float, float] | None = None
    noise_dir: str | None = None
    gain_db: float = 0.0
    dither_bits: int | None = None

    def __post_init__(self) -> None:
        """Check the amounts."""
        for name, limit in (("speed", 1.0), ("fade", 0.5)):
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise ConfigError(f"WaveAugment({name}={value}): expected a share from 0 to {limit}")
        for name in ("low_pass_hz", "high_pass_hz", "noise_snr_db"):
            span = getattr(self, name)
            if span is not None and not span[0] <= span[1]:
                raise ConfigError(f"WaveAugment({name}={list(span)}): expected the lower end first")

    def __call__(
        self, waveforms: Tensor, lengths: Tensor, sample_rate: int, *, keep_all: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return changed copies.

        Args:
            waveforms: float (batch, samples), padded at the end.
            lengths: samples of each row that are sound, int64 (batch,).
            sample_rate: Hz.
            keep_all: make room for what becomes longer, instead of cutting it off.

        Returns:
            Waveforms and lengths; as wide as before unless `keep_all`.
        """
        waveforms, lengths = self._move(waveforms, lengths, sample_rate, keep_all)
        if self.fade:
            waveforms = self._faded(waveforms, lengths)
        for name, span in (("lowpass_biquad", self.low_pass_hz), ("highpass_biquad", self.high_pass_hz)):
            if span is not None:
                cutoff = float(torch.empty(()).uniform_(*span))  # of the CPU's generator: nothing is read back
                filtered = getattr(_functional(), name)(waveforms, sample_rate, min(cutoff, 0.49 * sample_rate))
                waveforms = torch.where(_half(waveforms), filtered, waveforms)
        if self.noise_snr_db is not None:
            noise = self._noise(waveforms, sample_rate)
            snr = _uniform(waveforms, *self.noise_snr_db).squeeze(1)
            noisy = _functional().add_noise(waveforms, noise, snr, lengths)
            waveforms = torch.where(_half(waveforms), noisy, waveforms)
        if self.gain_db:
            waveforms = waveforms * 10 ** (_uniform(waveforms, -self.gain_db, self.gain_db) / 20)
        if self.dither_bits:
            # torchaudio's dither adds the same ramp to every clip; two uniform draws make the triangle
            triangle = torch.rand_like(waveforms) - torch.rand_like(waveforms)
            waveforms = waveforms + triangle / 2 ** (self.dither_bits - 1)
        return waveforms, lengths

    def _move(
        self, waveforms: Tensor, lengths: Tensor, sample_rate: int, keep_all: bool
    ) -> tuple[Tensor, Tensor]:
        if not self.speed and not self.shift_seconds:
            return waveforms, lengths
        width = waveforms.shape[1]
        if keep_all:
            width = math.ceil(width * (1 + self.speed)) + round(self.shift_seconds * sample_rate)
        most = math.log1p(self.speed)
        speed = torch.exp(_uniform(waveforms, -most, most))
        lengths = (lengths[:, None] / speed).clamp(max=width)
        start = _uniform(waveforms, -1, 1) * self.shift_seconds * sample_rate
        # no later than the padding has room for
        start = torch.minimum(start, width - lengths)
        places = (torch.arange(width, device=waveforms.device) - start) * speed
        lengths = (lengths + start).clamp(min=1).round().long().squeeze(1)
        return interpolate(waveforms, places), lengths

    def _faded(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        place = torch.arange(waveforms.shape[1], device=waveforms.device) / lengths[:, None]  # 0 to 1 is sound
        rise = place / _uniform(waveforms, 1e-6, self.fade).clamp(min=1e-6)
        fall = (1 - place) / _uniform(waveforms, 1e-6, self.fade).clamp(min=1e-6)
        return waveforms * rise.clamp(0, 1) * fall.clamp(0, 1)

    def _noise(self, waveforms: Tensor, sample_rate: int) -> Tensor:
        """Return noise for every row, float (batch, samples)."""
        white = torch.randn_like(waveforms)
        if self.noise_dir is None:
            return white
        noises = _read_noises(self.noise_dir, sample_rate)
        rows, width = waveforms.shape
        which = torch.randint(len(noises), (rows,)).tolist()
        places = torch.rand(rows).tolist()
        cut = torch.stack([_cut_round(noises[i], place, width) for i, place in zip(which, places, strict=True)])
        # a silent passage has no level that could be set
        return cut.to(waveforms.device) + 1e-5 * white


def _cut_round(noise: Tensor, place: float, width: int) -> Tensor:
    """Cut `width` samples from `noise` (samples,) at a share of its length; it begins again at its end."""
    start = int(place * len(noise))
    repeats = -(-(start + width) // len(noise))
    return noise.repeat(repeats)[start : start + width]


@lru_cache(maxsize=4)
def _read_noises(folder: str, sample_rate: int) -> Sequence[Tensor]:
    paths = sounds_in(Path(folder)) if Path(folder).is_dir() else []
    if not paths:
        raise DataError(f"WaveAugment(noise_dir={folder!r}): no sound files there")
    return [read_mono(path, sample_rate) for path in paths]


@dataclass(frozen=True)
class SpecAugment:
    """Change features (Park et al. 2019): stretch their time, cut bands and moments out.

    Args:
        time_stretch: largest change of duration, as a share: 0.2 is 1/1.2 to 1.2 times; the pitch stays.
        frequency_mask: most bins in a row that are set to 0.
        time_mask: most frames in a row that are set to 0.
        masks: how many of each kind.
    """

    time_stretch: float = 0.0
    frequency_mask: int = 0
    time_mask: int = 0
    masks: int = 2

    def __call__(self, features: Tensor, lengths: Tensor, *, keep_all: bool = False) -> tuple[Tensor, Tensor]:
        """Return changed copies of features, float (batch, bins, frames), and of the frames that are sound.

        `keep_all` makes room for what becomes longer, instead of cutting it off.
        """
        if self.time_stretch:
            width = features.shape[2]
            if keep_all:
                width = math.ceil(width * (1 + self.time_stretch))
            most = math.log1p(self.time_stretch)
            pace = torch.exp(_uniform(features, -most, most))
            features = interpolate(features, torch.arange(width, device=features.device) * pace)
            lengths = (lengths / pace.squeeze(1)).round().long().clamp(1, width)
        mask = _functional().mask_along_axis_iid
        for _ in range(self.masks):
            for axis, most_masked in ((1, self.frequency_mask), (2, self.time_mask)):
                if most_masked:
                    # (batch, bins, frames) without a channel: every clip is masked elsewhere
                    features = mask(features, most_masked + 1, 0.0, axis)
        return features, lengths
