"""Sets of sounds that give whole padded batches: clips with a class, utterances with a transcript.

A clip batch is `(waveforms, lengths, labels)`: float32 (batch, samples), zero after each clip's end;
int64 (batch,), the samples that are sound; int64 (batch,). An utterance batch is `(waveforms, lengths,
targets, target_lengths)` with int64 targets (batch, tokens), zero after each transcript's end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightkit.errors import DataError
from lightkit.utilities import rank_zero_warn
from recipes.audio.files import OnBadFile, check_header, read_mono, without_bad_files

ClipBatch = tuple[Tensor, Tensor, Tensor]
UtteranceBatch = tuple[Tensor, Tensor, Tensor, Tensor]


class Sounds:
    """Mono waveforms at one sample rate, by number: held in memory, or read from their file when asked for.

    Args:
        sample_rate: Hz of what is given out; files of other rates are resampled.
        paths: the files.
        waveforms: what is held in memory, each float32 (samples,); None reads the files every time.
    """

    def __init__(self, sample_rate: int, paths: Sequence[str], waveforms: Sequence[Tensor] | None = None) -> None:
        self.sample_rate = sample_rate
        self.paths = list(paths)
        self.waveforms = None if waveforms is None else list(waveforms)

    @classmethod
    def from_files(
        cls, paths: Sequence[str], sample_rate: int, *, cache: bool, on_bad_file: OnBadFile, owner: str
    ) -> tuple[Sounds, list[int]]:
        """Check the files, and with `cache` decode them; returns the sounds and the positions of the good files.

        Without `cache` only headers are read here, so a file that breaks off in its middle is found later.

        Raises:
            DataError: a file cannot be used and `on_bad_file` is "error"; names the file.
        """
        if cache:
            read = without_bad_files(paths, lambda path: read_mono(path, sample_rate), on_bad_file, owner)
            kept = [position for position, _ in read]
            return cls(sample_rate, [paths[p] for p in kept], [waveform for _, waveform in read]), kept
        kept = [position for position, _ in without_bad_files(paths, check_header, on_bad_file, owner)]
        return cls(sample_rate, [paths[p] for p in kept]), kept

    def __len__(self) -> int:
        """Return the number of sounds."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Return one sound, float32 (samples,)."""
        if self.waveforms is not None:
            return self.waveforms[index]
        return read_mono(self.paths[index], self.sample_rate)


def cut_or_pad(waveforms: Sequence[Tensor], clip_samples: int | None, *, random: bool = False) -> tuple[Tensor, Tensor]:
    """Bring sounds to one length.

    Args:
        waveforms: each float32 (samples,).
        clip_samples: the length; what is longer is cut, in the middle or, with `random`, at a place drawn
            from torch's default generator. None takes the longest one's length.
        random: see `clip_samples`.

    Returns:
        The batch, float32 (batch, length), padded with zeros at the end, and the samples of each that are sound.
    """
    length = clip_samples or max(len(waveform) for waveform in waveforms)
    places = torch.rand(len(waveforms)).tolist() if random else [0.5] * len(waveforms)
    batch = torch.zeros(len(waveforms), length)
    for row, waveform, place in zip(batch, waveforms, places, strict=True):
        start = int(max(0, len(waveform) - length) * place)
        sound = waveform[start : start + length]
        row[: len(sound)] = sound
    return batch, torch.tensor([min(len(waveform), length) for waveform in waveforms])


class SoundSet(Dataset[tuple[Tensor, ...]]):
    """Base of the sets below: reads the sounds of a batch and brings them to one length.

    Args:
        sounds: where the waveforms are.
        clip_samples: length of every sound that is given out; None pads a batch to its longest.
        random_crop: cut what is longer at random places instead of the middle.
        on_bad_file: "skip" leaves a file out of its batch that breaks off in the middle, with a warning.
    """

    def __init__(
        self, sounds: Sounds, clip_samples: int | None, *, random_crop: bool = False, on_bad_file: OnBadFile = "error"
    ) -> None:
        self.sounds = sounds
        self.clip_samples = clip_samples
        self.random_crop = random_crop
        self.on_bad_file = on_bad_file

    def __len__(self) -> int:
        """Return the number of sounds."""
        return len(self.sounds)

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
        """Return waveforms (batch, samples), lengths (batch,) and the indices of those that could be read."""
        good, waveforms = [], []
        for index in indices:
            try:
                waveforms.append(self.sounds[index])
            except DataError as error:
                if self.on_bad_file == "error":
                    raise
                rank_zero_warn(f"left out: {str(error).partition(';')[0]}")
                continue
            good.append(index)
        if not good:
            raise DataError(f"none of the {len(indices)} files of a batch can be read; see the warnings before this")
        return *cut_or_pad(waveforms, self.clip_samples, random=self.random_crop), good


class ClipSet(SoundSet):
    """Sounds with a class each; `labels` int64 (sounds,)."""

    def __init__(self, sounds: Sounds, labels: Tensor, clip_samples: int, **options: bool | OnBadFile) -> None:
        super().__init__(sounds, clip_samples, **options)  # type: ignore[arg-type]
        self.labels = labels

    def __getitems__(self, indices: Sequence[int]) -> ClipBatch:
        """Return the batch of these positions; torch's loader calls it once a batch."""
        waveforms, lengths, good = self.read(indices)
        return waveforms, lengths, self.labels[good]

    def __getitem__(self, index: int) -> ClipBatch:
        """Return one clip (samples,), its length and its label."""
        waveforms, lengths, labels = self.__getitems__([index])
        return waveforms[0], lengths[0], labels[0]


class UtteranceSet(SoundSet):
    """Sounds with a transcript each: token numbers from 1, as 0 is CTC's blank."""

    def __init__(self, sounds: Sounds, transcripts: Sequence[Sequence[int]], **options: bool | OnBadFile) -> None:
        super().__init__(sounds, None, **options)  # type: ignore[arg-type]
        self.transcripts = [torch.tensor(transcript, dtype=torch.long) for transcript in transcripts]

    def __getitems__(self, indices: Sequence[int]) -> UtteranceBatch:
        """Return the batch of these positions; torch's loader calls it once a batch."""
        waveforms, lengths, good = self.read(indices)
        transcripts = [self.transcripts[index] for index in good]
        targets = torch.nn.utils.rnn.pad_sequence(transcripts, batch_first=True)
        return waveforms, lengths, targets, torch.tensor([len(transcript) for transcript in transcripts])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return one utterance (samples,), its length, its transcript and that one's length."""
        return tuple(part[0] for part in self.__getitems__([index]))
