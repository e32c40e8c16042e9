"""Read sound files of any rate and number of channels, with soundfile, as torchaudio would give them.

`torchaudio.load` needs torchcodec, and that needs FFmpeg; soundfile brings its own library along and reads
wav, flac, ogg (Vorbis, Opus) and mp3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
# libsndfile's words for sounds in wav, aiff, au, caf and w64 whose file is shorter than it says
_SIZES = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size) +: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN = 0x7FFFFFFF - 1024  # programs that write into a pipe say as much, or twice as much
# and for ogg
_NO_LAST_PAGE = re.compile(r"lacks an end-of-stream bit|without an End-Of-Stream flag")
_MP3_SLACK = 2 * 1152  # samples; the length of an mp3 without a header for it is reckoned from its bytes


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
        DataError: there is no such file, it cannot be decoded, breaks off, holds no samples, or some that are NaN or
            infinite; names the file.
    """
    with _opened(path) as file:
        samples = file.read(dtype="float32", always_2d=True)
        if len(samples) < file.frames - (_MP3_SLACK if file.format == "MP3" else 0):
            raise _refuse(path, f"breaks off: {len(samples):,} of {file.frames:,} samples are there")
        waveform = torch.from_numpy(samples.T.copy())
        if not torch.isfinite(waveform).all():
            wrong = int((~torch.isfinite(waveform)).any(dim=0).sum())
            raise _refuse(path, f"{wrong:,} of {len(samples):,} samples are NaN or infinite")
        return waveform, int(file.samplerate)


def check_header(path: str | Path) -> None:
    """Raise the DataError of `read_audio` where header and length alone show that the file cannot be used."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """Open a file that has samples, and as many bytes as its header says; also what is raised inside names the file."""
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(str(path)) as file:
            problem = _what_is_cut(file.extra_info)
            if problem is not None:
                raise _refuse(path, problem)
            if file.frames == 0:
                raise _refuse(path, "holds no samples")
            yield file
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        # TypeError: soundfile takes a file that ends in .raw for one without a header
        raise _refuse(path, f"cannot be read as sound ({_reason(error)})") from None


def _what_is_cut(log: str) -> str | None:
    """Say what is missing, from what libsndfile wrote down when it opened a file: it reads what is left of one."""
    for said, there in _SIZES.findall(log):
        if int(there) < int(said) < _UNKNOWN:
            return f"breaks off: its header says {int(said):,} bytes, {int(there):,} are there"
    return "breaks off: its last page is missing" if _NO_LAST_PAGE.search(log) else None


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
