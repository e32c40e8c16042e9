"""Generated sounds, so that the audio recipe runs without any file: eight kinds of tone under noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recipes.audio.clips import ClipSet, Sounds
from recipes.audio.data import AudioData

KINDS = ("sine", "square", "sawtooth", "rising", "falling", "vibrato", "pulsing", "noise")
_SAMPLE_RATE = 8000


def make_tone(kind: str, samples: int, generator: torch.Generator) -> Tensor:
    """Return one sound of a kind, float32 (samples,), at 8 kHz, of random pitch, phase, length and loudness.

    The pitch is 150 to 900 Hz; what glides does so over half an octave to an octave and a half; vibrato
    and pulses come 5 to 10 times a second. The tone fills 60 to 100 % of the clip and lies 0 to 20 dB above
    white noise.
    """

    def draw(low: float, high: float) -> float:
        return float(torch.empty(()).uniform_(low, high, generator=generator))

    length = int(samples * draw(0.6, 1.0))
    time = torch.arange(length) / _SAMPLE_RATE
    pitch = torch.full((length,), 150 * 6 ** draw(0, 1))
    rate = draw(5, 10)
    glide = draw(0.5, 1.5) * torch.linspace(-0.5, 0.5, length)  # octaves
    if kind == "rising":
        pitch = pitch * 2**glide
    elif kind == "falling":
        pitch = pitch * 2**-glide
    elif kind == "vibrato":
        pitch = pitch * 2 ** (0.15 * torch.sin(2 * math.pi * rate * time))
    cycles = torch.cumsum(pitch / _SAMPLE_RATE, dim=0) + draw(0, 1)
    sound = torch.sin(2 * math.pi * cycles)
    if kind == "square":
        sound = sound.sign()
    elif kind == "sawtooth":
        sound = 2 * (cycles % 1) - 1
    elif kind == "pulsing":
        sound = sound * (torch.sin(2 * math.pi * rate * time) > 0)
    elif kind == "noise":
        sound = torch.randn(length, generator=generator)
    level = 10 ** (draw(-30, -6) / 20)
    signal = torch.zeros(samples)
    start = int(draw(0, samples - length))
    signal[start : start + length] = sound / sound.square().mean().sqrt().clamp(min=1e-6)
    background = torch.randn(samples, generator=generator) * 10 ** (-draw(0, 20) / 20)
    return (0.3 * level * (signal + background)).clamp(-1, 1)


class TonesData(AudioData):
    """Synthetic sounds of eight kinds, made when they are needed: no recordings, nothing to download.

    Sine, square and sawtooth waves, rising and falling glides, vibrato, pulses, and noise, each of random
    pitch, length and loudness, half a second at 8 kHz, under white noise (see `make_tone`). They show that the
    recipe works, not how good it is on recordings.

    Args:
        clips_per_class: how many of each kind there are in all: 70 % train, 10 % validate, 20 % test.
        seed: what all of them depend on, alone.
        batch_size: clips a batch.
        num_workers: processes that prepare batches; 0 is the fastest here.
    """

    def __init__(
        self, clips_per_class: int = 200, seed: int = 42, batch_size: int = 64, num_workers: int = 0
    ) -> None:
        super().__init__(_SAMPLE_RATE, batch_size, num_workers)
        self.clips_per_class = clips_per_class
        self.seed = seed
        self.class_names = list(KINDS)
        self.clip_seconds: float = 0.5
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str) -> None:
        """Make the sounds; the same for every stage."""
        if self.sets:
            return
        generator = torch.Generator().manual_seed(self.seed)
        samples = round(self.clip_seconds * self.sample_rate)
        # kind after kind, so that each part below holds as many of each
        sounds = [make_tone(kind, samples, generator) for _ in range(self.clips_per_class) for kind in KINDS]
        labels = torch.arange(len(KINDS)).repeat(self.clips_per_class)
        ends = [len(KINDS) * round(share * self.clips_per_class) for share in (0, 0.7, 0.8, 1)]

        for part, first, last in zip(("train", "val", "test"), ends, ends[1:], strict=False):
            names = [f"generated sound {i}" for i in range(first, last)]
            self.sets[part] = ClipSet(Sounds(self.sample_rate, names, sounds[first:last]), labels[first:last], samples)
