"""Sets that torchaudio downloads: Speech Commands (words) and YesNo (utterances of two words).

torchaudio fetches, checks and lists the files; they are read with soundfile, as its own reading needs torchcodec.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

import lightkit as lk
from lightkit.errors import ConfigError, DataError, MissingDataError, require
from recipes.audio.clips import Sounds, UtteranceSet
from recipes.audio.data import AudioData, ClipFilesData
from recipes.audio.files import OnBadFile, write_tone
from recipes.listing import is_left_behind


def _open(owner: str, name: str, root: Path, download: bool, folder: Path, **arguments: Any) -> Any:
    """Return torchaudio's data set, fetched where that is asked for.

    Raises:
        DataError: it is not there and was not or could not be downloaded; says what belongs where.
    """
    datasets = require("torchaudio.datasets", "audio", needed_by=owner)
    message = f"{owner}(root={str(root)!r}, download={download}): "
    try:
        if download:
            root.mkdir(parents=True, exist_ok=True)
        return getattr(datasets, name)(str(root), download=download, **arguments)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())
        if folder.is_dir():
            raise DataError(message + f"the files in {folder} are not whole; get them again ({reason})") from None
        failed = f" and the download failed ({reason})" if download else ""
        advice = "" if download else ", or set data.download to true"
        raise MissingDataError(
            message + f"no folder {folder}{failed}; unpack the set's archive there{advice}"
        ) from None


def _clips_of(part: Any) -> list[tuple[str, str]]:
    """Return path and word of each clip of a part of Speech Commands; what programs left there is passed over."""
    entries = [part.get_metadata(i) for i in range(len(part))]
    return [(path, word) for path, _, word, _, _ in entries if not any(map(is_left_behind, Path(path).parts))]


class SpeechCommandsData(ClipFilesData):
    """Speech Commands (Warden 2018): one-second recordings of single words, 16 kHz, by many speakers.

    Version 0.02 has 105,829 clips of 35 words, 0.01 64,727 of 30. The set's own lists say which validate and test.

    Args:
        root: folder that holds, or gets, `SpeechCommands/speech_commands_v0.02/WORD/*.wav`.
        version: "v0.02" or "v0.01".
        download: fetch the archive (2.3 GB, 1.4 GB) where the folder is missing.
        words: only these words, in this order; None takes all, in alphabetical order.
        sample_rate: Hz that files are resampled to; 8000 halves the work for little loss.
        clip_seconds: length of a clip; see `ClipFilesData`, also for what follows.
        cache: hold all decoded clips in memory (6.8 GB at 16 kHz).
        on_bad_file: "error" or "skip".
        batch_size: clips a batch.
        num_workers: processes that read the files.

    Raises:
        DataError: the set is not there and cannot be downloaded, or it has no such word.
    """

    def __init__(
        self,
        root: str = "data",
        version: Literal["v0.02", "v0.01"] = "v0.02",
        download: bool = True,
        words: list[str] | None = None,
        sample_rate: int = 16000,
        clip_seconds: float = 1.0,
        cache: bool = False,
        on_bad_file: OnBadFile = "error",
        batch_size: int = 128,
        num_workers: int = 2,
    ) -> None:
        super().__init__(sample_rate, clip_seconds, cache, on_bad_file, 0.1, 0, batch_size, num_workers)
        self.root = Path(root)
        self.url = f"speech_commands_{version}"
        self.download = download
        self.words = words
        # not to the loggers: the module has a sample_rate too
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Download the archive and unpack it where it is missing; needs the network for that alone."""
        if self.download:
            self._open(download=True)

    def setup(self, stage: str) -> None:
        """List the clips of the parts that the stage needs, and with `cache` read them."""
        folder = self.root / "SpeechCommands" / self.url
        everything = self._open()
        found = sorted({word for _, word in _clips_of(everything)})
        self.class_names = found if self.words is None else list(self.words)
        missing = [word for word in self.class_names if word not in found]
        if missing or not found:
            raise DataError(
                f"SpeechCommandsData: {folder} has no recordings of {', '.join(missing) or 'any word'}; "
                f"there are {', '.join(found) or 'none'}"
            )
        if stage in ("test", "predict"):
            if "test" not in self.sets:
                self.sets["test"] = self.clips(self._files("testing"))
        elif "train" not in self.sets:
            self.sets["train"] = self.clips(self._files("training"), training=True)
            self.sets["val"] = self.clips(self._files("validation"))

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write a few tones below `root` for each of the model's classes, and read those; for `lightkit check`."""
        self.root, self.download, self.sets = root, False, {}
        folder = root / "SpeechCommands" / self.url
        words = self.words or [f"word{number:03d}" for number in range(int(getattr(model, "num_classes", 2)))]
        for number, word in enumerate(words):
            for take in range(6):
                path = folder / word / f"speaker{take}_nohash_0.wav"
                write_tone(path, self.clip_seconds, self.sample_rate, 200 + 10 * number + take)
        for name, take in (("validation", 4), ("testing", 5)):
            lines = [f"{word}/speaker{take}_nohash_0.wav\n" for word in words]
            (folder / f"{name}_list.txt").write_text("".join(lines), encoding="utf-8")

    def _open(self, subset: str | None = None, download: bool = False) -> Any:
        folder = self.root / "SpeechCommands" / self.url
        return _open(
            "SpeechCommandsData", "SPEECHCOMMANDS", self.root, download, folder, url=self.url, subset=subset
        )

    def _files(self, subset: str) -> list[tuple[str, int]]:
        """Return path and class number of every clip of a part."""
        part = self._open(subset)
        numbers = {word: number for number, word in enumerate(self.class_names)}
        archive = self.root / "SpeechCommands"
        files = [(str(archive / path), numbers[word]) for path, word in _clips_of(part) if word in numbers]
        if not files:
            raise DataError(f"SpeechCommandsData: the {subset} part in {archive / self.url} has none of the words")
        return files


class YesNoData(AudioData):
    """YesNo (openslr.org/1): 60 recordings of one speaker, eight Hebrew words each, yes ("ken") or no ("lo").

    The words are in the file's name: `0_1_1_0_1_0_0_1.wav`, 1 for yes. Any folder of files named so will do,
    with any number of words. The order of the names is split at random: `test_fraction` tests, an equal share
    validates.

    Args:
        root: folder that holds, or gets, `waves_yesno/*.wav`.
        download: fetch the archive (4.5 MB) where the folder is missing.
        test_fraction: share of the recordings that tests, and share that validates.
        split_seed: seed of the split.
        sample_rate: Hz that files are resampled to.
        cache: hold all decoded recordings in memory.
        on_bad_file: "error" or "skip".
        batch_size: recordings a batch.
        num_workers: processes that prepare batches.

    Attributes:
        tokens: the words, by token number less one.

    Raises:
        DataError: the set is not there and cannot be downloaded, is too small to be split, or a name or a
            file cannot be read; names it.
    """

    tokens = ("no", "yes")

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        test_fraction: float = 0.15,
        split_seed: int = 42,
        sample_rate: int = 8000,
        cache: bool = True,
        on_bad_file: OnBadFile = "error",
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        super().__init__(sample_rate, batch_size, num_workers)
        if not 0 < test_fraction < 0.5:
            raise ConfigError(
                f"YesNoData(test_fraction={test_fraction}): expected a share between 0 and 0.5, such as 0.15"
            )
        self.root = Path(root)
        self.download = download
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.cache = cache
        self.on_bad_file: OnBadFile = on_bad_file
        # not to the loggers: the module has a sample_rate too
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Download the archive and unpack it where it is missing; needs the network for that alone."""
        if self.download:
            _open("YesNoData", "YESNO", self.root, True, self.root / "waves_yesno")

    def setup(self, stage: str) -> None:
        """Split the names and read the recordings that the stage needs."""
        folder = self.root / "waves_yesno"
        found: list[str] = _open("YesNoData", "YESNO", self.root, False, folder)._walker
        names = [name for name in found if not is_left_behind(name)]
        held_out = round(self.test_fraction * len(names))
        if held_out < 1 or len(names) < 3:
            raise DataError(
                f"YesNoData(test_fraction={self.test_fraction}): {len(names)} recordings in {folder} "
                "are too few to be split; expected at least 3, and a share that takes one or more"
            )
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(self.split_seed)).tolist()
        files = [(str(folder / f"{names[i]}.wav"), self._transcript(folder, names[i])) for i in order]
        if stage in ("test", "predict"):
            if "test" not in self.sets:
                self.sets["test"] = self._utterances(files[:held_out])
        elif "train" not in self.sets:
            self.sets["val"] = self._utterances(files[held_out : 2 * held_out])
            self.sets["train"] = self._utterances(files[2 * held_out :])

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write a few tones below `root`, named as utterances, and read those; for `lightkit check`."""
        self.root, self.download, self.sets = root, False, {}
        for number in range(16):
            words = "_".join(f"{number:04b}")
            write_tone(root / "waves_yesno" / f"{words}.wav", 1.0, self.sample_rate, 200 + 20 * number)

    def _transcript(self, folder: Path, name: str) -> list[int]:
        words = name.split("_")
        if not set(words) <= {"0", "1"}:
            raise DataError(
                f"{folder / name}.wav: the name is no transcript; expected 0 (no) and 1 (yes) joined by _, "
                "such as 0_1_1.wav; rename or remove it"
            )
        return [int(word) + 1 for word in words]

    def _utterances(self, files: list[tuple[str, list[int]]]) -> UtteranceSet:
        paths = [path for path, _ in files]
        how: dict[str, Any] = {"cache": self.cache, "on_bad_file": self.on_bad_file, "owner": "YesNoData"}
        sounds, kept = Sounds.from_files(paths, self.sample_rate, **how)
        return UtteranceSet(sounds, [files[i][1] for i in kept], on_bad_file=self.on_bad_file)
