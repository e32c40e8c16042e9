"""Read sound files of any rate and number of channels, with soundfile, as torchaudio would give them.

`torchaudio.load` needs torchcodec, and that needs FFmpeg; soundfile brings its own library along and reads
wav, flac, ogg (Vorbis, Opus) and mp3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightkit.errors import DataError, require
from lightkit.utilities import rank_zero_warn
from recipes.listing import is_data

EXTENSIONS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au")

OnBadFile = Literal["error", "skip"]


def sounds_in(folder: Path) -> list[Path]:
    """Return the sound files below a folder, in the order of their paths; what programs leave behind is passed over."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and is_data(path, folder))


def _soundfile() -> Any:
    return require("soundfile", "audio", needed_by="reading sound files")


def _refuse(path: str | Path, reason: str) -> DataError:
    return DataError(f"{path}: {reason}; replace or remove it, or set data.on_bad_file to skip")


def read_audio(path: str | Path) -> tuple[Tensor, int]:
    """Return the waveform, float32 (channels, samples) from -1 to 1, and its sample rate in Hz.

    Raises:
        DataError: there is no such file, it cannot be decoded, or it holds no samples; names the file.
    """
    soundfile = _soundfile()
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        # TypeError: soundfile takes a file that ends in .raw for one without a header
        raise _refuse(path, f"cannot be read as sound ({_reason(error)})") from None
    if len(samples) == 0:
        raise _refuse(path, "holds no samples")
    return torch.from_numpy(samples.T.copy()), int(rate)


def check_header(path: str | Path) -> None:
    """Raise the DataError of `read_audio` where the header alone shows that the file cannot be used."""
    soundfile = _soundfile()
    try:
        frames = soundfile.info(str(path)).frames
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        raise _refuse(path, f"cannot be read as sound ({_reason(error)})") from None
    if frames == 0:
        raise _refuse(path, "holds no samples")


def _reason(error: Exception) -> str:
    """Return libsndfile's own words, without the path that the message names already."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


@lru_cache(maxsize=8)
def _resampler(rate: int, new_rate: int) -> Any:
    transforms = require("torchaudio.transforms", "audio", needed_by="resampling")
    # the filter is computed once for all files of this rate
    return transforms.Resample(rate, new_rate)


def to_mono(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Mix (channels, samples) to one channel and resample it; returns (samples at `new_rate`,)."""
    mono = waveform.mean(dim=0)
    if rate == new_rate:
        return mono
    resampled: Tensor = _resampler(rate, new_rate)(mono)
    return resampled


def read_mono(path: str | Path, sample_rate: int) -> Tensor:
    """Return the file as one channel at `sample_rate` Hz, float32 (samples,)."""
    waveform, rate = read_audio(path)
    return to_mono(waveform, rate, sample_rate)


def without_bad_files(
    paths: Sequence[str], use: Callable[[str], Any], on_bad_file: OnBadFile, owner: str
) -> list[tuple[int, Any]]:
    """Call `use` on every path and return (position, result) of those that can be read.

    Where `on_bad_file` is "skip", the files that cannot are left out and counted in one warning.

    Raises:
        DataError: a file cannot be read and `on_bad_file` is "error", or none can be read.
    """
    kept, refused = [], []
    for position, path in enumerate(paths):
        try:
            kept.append((position, use(path)))
        except DataError as error:
            if on_bad_file == "error":
                raise
            refused.append(str(error).partition(";")[0])
    if paths and not kept:
        raise DataError(f"{owner}: none of {len(paths)} files can be read; the first: {refused[0]}")
    if refused:
        rank_zero_warn(
            f"{owner}(on_bad_file='skip'): left out {len(refused)} of {len(paths)} files: "
            f"{'; '.join(refused[:3])}{'; ...' if len(refused) > 3 else ''}"
        )
    return kept


def write_tone(path: Path, seconds: float, sample_rate: int, pitch_hz: float) -> None:
    """Write a quiet sine wave: made-up sounds, for `generate` of the data modules."""
    path.parent.mkdir(parents=True, exist_ok=True)
    phase = 2 * torch.pi * pitch_hz * torch.arange(round(seconds * sample_rate)) / sample_rate
    _soundfile().write(str(path), (0.3 * torch.sin(phase)).numpy(), sample_rate)
