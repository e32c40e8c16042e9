"""Clips and their classes for `AudioClassifier`: files in one folder a class, or labelled by their names.

Every batch is `(waveforms, lengths, labels)`, see `clips.py`: mono at `sample_rate` Hz, `clip_seconds` long, on
the CPU. Features and random changes are made of whole batches on the device, by the module. Files of any
sample rate and number of channels may be mixed. The order of the clips and random cuts come from torch's
default generator; the splits depend on `split_seed` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import RandomSampler

import lightkit as lk
from lightkit.errors import ConfigError, DataError, MissingDataError, NonFiniteError
from recipes.audio.clips import ClipSet, Sounds, SoundSet
from recipes.audio.files import EXTENSIONS, OnBadFile, sounds_in, write_tone
from recipes.audio.names import NamePattern, Rule
from recipes.datamodule import RecipeData
from recipes.listing import entries
from recipes.splits import check_fraction, stratified_split


class AudioData(RecipeData):
    """Base of the data modules: sounds at one sample rate, in sets that `setup` of a subclass makes.

    Args:
        sample_rate: Hz of every waveform that is given out.
        batch_size: sounds a batch.
        num_workers: processes that prepare batches; 0 is the fastest for sounds in memory.

    Attributes:
        sample_rate: as given.
        clip_seconds: length of every clip; None where a batch is as long as its longest sound.
    """

    sets: dict[str, SoundSet]
    clip_seconds: float | None = None

    def __init__(self, sample_rate: int, batch_size: int, num_workers: int) -> None:
        super().__init__(batch_size, num_workers)
        if sample_rate < 1:
            raise ConfigError(f"{type(self).__name__}(sample_rate={sample_rate}): expected Hz, such as 16000")
        self.sample_rate = sample_rate
        self._order: _RememberedOrder | None = None

    def loading(self, part: str) -> dict[str, Any]:
        """Return the arguments of the `DataLoader` over a part; the order of the training sounds is remembered."""
        loading = super().loading(part)
        if part != "train":
            return loading
        self._order = _RememberedOrder(self.sets[part])
        return {**loading, "shuffle": False, "sampler": self._order}

    def on_exception(self, exception: BaseException) -> None:
        """Add the files of the batch to the error of a training that became NaN or infinite."""
        if not isinstance(exception, NonFiniteError) or exception.batch_idx is None or "train" not in self.sets:
            return
        paths, order = self.sets["train"].sounds.paths, self._order
        places = range(len(paths)) if order is None or order.drawn is None else order.drawn.tolist()
        first = exception.batch_idx * self.batch_size
        files = ", ".join(paths[place] for place in places[first : first + self.batch_size])
        advice = "" if exception.is_first else "; Trainer(nan_check='step') names the first batch that goes wrong"
        exception.args = (f"{exception}; the files of batch {exception.batch_idx}: {files}{advice}",)


class _RememberedOrder(RandomSampler):
    """Draws as RandomSampler does, in the process that trains, and keeps what was drawn last; None before."""

    drawn: torch.Tensor | None = None

    def __iter__(self) -> Iterator[int]:
        order = list(super().__iter__())
        self.drawn = torch.tensor(order)
        return iter(order)


class ClipFilesData(AudioData):
    """Base of the data modules whose clips are files.

    Args:
        sample_rate: Hz that files are resampled to.
        clip_seconds: length of a clip; what is shorter is padded, what is longer is cut: to train at a random
            place, else in the middle.
        cache: decode and resample every file once, in `setup`, and hold all in memory (four bytes a sample);
            false reads them again for each batch.
        on_bad_file: "error" stops at a file that cannot be read or is empty, "skip" leaves it out and says
            how many were.
        val_fraction: share of the training clips that validates.
        split_seed: seed of that choice.
        batch_size: clips a batch.
        num_workers: processes that prepare batches; 0 is the fastest with `cache`.

    Attributes:
        class_names: the names of the classes, by number; known after `setup`.
    """

    class_names: list[str]

    def __init__(
        self,
        sample_rate: int,
        clip_seconds: float,
        cache: bool,
        on_bad_file: OnBadFile,
        val_fraction: float,
        split_seed: int,
        batch_size: int,
        num_workers: int,
    ) -> None:
        super().__init__(sample_rate, batch_size, num_workers)
        who = type(self).__name__
        if clip_seconds * sample_rate < 1:
            raise ConfigError(f"{who}(clip_seconds={clip_seconds}): expected seconds, such as 1.0")
        check_fraction(who, "val_fraction", val_fraction)
        self.clip_seconds: float = clip_seconds
        self.cache = cache
        self.on_bad_file: OnBadFile = on_bad_file
        self.val_fraction = val_fraction
        self.split_seed = split_seed

    def clips(self, files: Sequence[tuple[str, int]], *, training: bool = False) -> ClipSet:
        """Return the set of files given as (path, class number)."""
        paths = [path for path, _ in files]
        how: dict[str, Any] = {"cache": self.cache, "on_bad_file": self.on_bad_file, "owner": type(self).__name__}
        sounds, kept = Sounds.from_files(paths, self.sample_rate, **how)
        labels = torch.tensor([files[position][1] for position in kept])
        samples = round(self.clip_seconds * self.sample_rate)
        return ClipSet(sounds, labels, samples, random_crop=training, on_bad_file=self.on_bad_file)

    def split_off(
        self, files: list[tuple[str, int]], fraction: float
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Split files into a rest and a part in which every class has its share."""
        kept, part = stratified_split(torch.tensor([label for _, label in files]), fraction, self.split_seed)
        return [files[i] for i in kept.tolist()], [files[i] for i in part.tolist()]


class AudioFolderData(ClipFilesData):
    """Sound files in one folder per class, any depth below it; wav, flac, ogg, mp3 and what else libsndfile reads.

    Layouts, seen from `root`:

        train/CLASS/*.wav  val/CLASS/*.wav  test/CLASS/*.wav
        train/CLASS/*.wav  test/CLASS/*.wav     `val_fraction` of each class of train validates
        CLASS/*.wav                             `test_fraction` of each class tests, `val_fraction` validates

    Classes are numbered in the alphabetical order of the folders.

    Args:
        root: folder of the parts, or of the classes.
        test_fraction: share of all clips that tests where there are no parts.
        sample_rate: Hz that files are resampled to.
        clip_seconds: length of a clip; see `ClipFilesData`, also for what follows.
        cache: hold all decoded clips in memory.
        on_bad_file: "error" or "skip".
        val_fraction: share of the training clips that validates where there is no val folder.
        split_seed: seed of the choices.
        batch_size: clips a batch.
        num_workers: processes that prepare batches.

    Raises:
        DataError: no such folder, a class without files, a class that only val or test has, or a file that
            cannot be read; names the folder or file.
    """

    def __init__(
        self,
        root: str = "data/sounds",
        test_fraction: float = 0.2,
        sample_rate: int = 16000,
        clip_seconds: float = 1.0,
        cache: bool = True,
        on_bad_file: OnBadFile = "error",
        val_fraction: float = 0.1,
        split_seed: int = 42,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            sample_rate, clip_seconds, cache, on_bad_file, val_fraction, split_seed, batch_size, num_workers
        )
        check_fraction(type(self).__name__, "test_fraction", test_fraction)
        self.root = Path(root)
        self.test_fraction = test_fraction
        # not to the loggers: the module has a sample_rate too
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str) -> None:
        """List the files, split them where they are not, and read what the stage needs."""
        has_parts = (self.root / "train").is_dir()
        self.class_names = self._classes(self.root / "train" if has_parts else self.root)
        testing = stage in ("test", "predict")
        if ("test" if testing else "train") in self.sets:
            return
        if has_parts:
            if testing:
                self.sets["test"] = self.clips(self._files(self.root / "test"))
                return
            train = self._files(self.root / "train")
            if (self.root / "val").is_dir():
                val = self._files(self.root / "val")
            else:
                train, val = self.split_off(train, self.val_fraction)
        else:
            train, test = self.split_off(self._files(self.root), self.test_fraction)
            if testing:
                self.sets["test"] = self.clips(test)
                return
            train, val = self.split_off(train, self.val_fraction)
        self.sets |= {"train": self.clips(train, training=True), "val": self.clips(val)}

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write a few tones below `root` for each of the model's classes, and read those; for `lightkit check`."""
        self.root, self.sets = root, {}
        for number in range(int(getattr(model, "num_classes", 2))):
            for take in range(8):
                path = root / f"class{number:03d}" / f"{take}.wav"
                write_tone(path, self.clip_seconds, self.sample_rate, 200 + 10 * number + take)

    def _classes(self, folder: Path) -> list[str]:
        names = []
        if folder.is_dir():
            names = [e.name for e in entries(folder) if e.is_dir() and not e.name.startswith("_")]
        if not names:
            raise MissingDataError(
                f"AudioFolderData: no class folders in {folder}; expected {self.root}/CLASS/*.wav, or "
                f"{self.root}/train/CLASS/*.wav and {self.root}/test/CLASS/*.wav (set data.root)"
            )
        return names

    def _files(self, folder: Path) -> list[tuple[str, int]]:
        """Return path and class number of every sound file of a part."""
        if not folder.is_dir():
            raise MissingDataError(
                f"AudioFolderData: no folder {folder}; this stage needs the sounds {folder}/CLASS/*.wav"
            )
        unknown = [
            e.name
            for e in entries(folder)
            if e.is_dir() and not e.name.startswith("_") and e.name not in self.class_names
        ]
        if unknown:
            raise DataError(
                f"AudioFolderData: {folder} has classes that {self.root / 'train'} has not: {', '.join(unknown)}"
            )
        files: list[tuple[str, int]] = []
        for number, name in enumerate(self.class_names):
            found = sorted(map(str, sounds_in(folder / name)))
            if not found:
                raise DataError(f"AudioFolderData: no sounds in {folder / name}; read are {', '.join(EXTENSIONS)}")
            files += [(path, number) for path in found]
        return files


class NamedAudioData(ClipFilesData):
    """Sound files that are labelled by their names, such as `7_theo_12.wav`: class 7, speaker theo, recording 12.

    Args:
        root: folder of the files, at any depth.
        pattern: how the path below `root` reads: `{label}_{speaker}_{index}.wav`, where {label} names the
            class and the other fields can be used to split; or a regular expression with such groups,
            `(?P<label>.+)-(?P<take>\\d+)\\.flac`. Must match the whole path.
        test_where: which files test, such as `index=0-4` or `speaker=theo,george`. The others train.
        val_where: which of the others validate; None takes `val_fraction` of each class.
        sample_rate: Hz that files are resampled to.
        clip_seconds: length of a clip; see `ClipFilesData`, also for what follows.
        cache: hold all decoded clips in memory.
        on_bad_file: "error" or "skip"; a name that `pattern` does not match counts as bad as well.
        val_fraction: share of the training clips that validates without `val_where`.
        split_seed: seed of that choice.
        batch_size: clips a batch.
        num_workers: processes that prepare batches.

    Raises:
        ConfigError: `pattern` has no {label}, or a rule names a field that the pattern has not.
        DataError: no such folder, no or only files of one part, a name that does not match, a test or
            validation label that no training file has, or a file that cannot be read; names the file.
    """

    def __init__(
        self,
        root: str = "data/fsdd/recordings",
        pattern: str = "{label}_{speaker}_{index}.wav",
        test_where: str = "index=0-4",
        val_where: str | None = None,
        sample_rate: int = 8000,
        clip_seconds: float = 1.0,
        cache: bool = True,
        on_bad_file: OnBadFile = "error",
        val_fraction: float = 0.1,
        split_seed: int = 42,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            sample_rate, clip_seconds, cache, on_bad_file, val_fraction, split_seed, batch_size, num_workers
        )
        self.root = Path(root)
        self.pattern = NamePattern(pattern)
        self.test_rule = Rule("test_where", test_where, self.pattern)
        self.val_rule = None if val_where is None else Rule("val_where", val_where, self.pattern)
        # not to the loggers: the module has a sample_rate too
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str) -> None:
        """Read labels and split from the names, and the files that the stage needs."""
        named = self.pattern.find(self.root, self.on_bad_file)
        test = [entry for entry in named if self.test_rule.matches(entry.fields)]
        rest = [entry for entry in named if not self.test_rule.matches(entry.fields)]
        val = [entry for entry in rest if self.val_rule is not None and self.val_rule.matches(entry.fields)]
        train = [entry for entry in rest if self.val_rule is None or not self.val_rule.matches(entry.fields)]
        for name, rule, part in (("test", self.test_rule, test), ("validation", self.val_rule, val)):
            if rule is not None and not 0 < len(part) < len(named):
                raise DataError(
                    f"NamedAudioData({rule}): {len(part)} of {len(named)} files in {self.root} are for {name}; "
                    f"the values of {rule.field} are {rule.values_in(named)}"
                )
        self.class_names = self.pattern.class_names(train)
        testing = stage in ("test", "predict")
        if testing and "test" not in self.sets:
            self.sets["test"] = self.clips(self.pattern.numbered(test, self.class_names, "test"))
        elif not testing and "train" not in self.sets:
            files = self.pattern.numbered(train, self.class_names, "training")
            if self.val_rule is None:
                files, held_out = self.split_off(files, self.val_fraction)
            else:
                held_out = self.pattern.numbered(val, self.class_names, "validation")
            self.sets |= {"train": self.clips(files, training=True), "val": self.clips(held_out)}

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write a few tones below `root` for each of the model's classes, and read those; for `lightkit check`."""
        self.root, self.sets = root, {}
        others = [field for field in self.pattern.fields if field != "label"]
        self.pattern = NamePattern("_".join(f"{{{field}}}" for field in ("label", *others, "take")) + ".wav")
        for number in range(int(getattr(model, "num_classes", 2))):
            for take in range(8):
                values = dict.fromkeys(others, "any")
                if take < 2:
                    values[self.test_rule.field] = self.test_rule.example
                elif take < 4 and self.val_rule is not None:
                    values[self.val_rule.field] = self.val_rule.example
                path = root / f"{'_'.join([str(number), *values.values(), str(take)])}.wav"
                write_tone(path, self.clip_seconds, self.sample_rate, 200 + 10 * number + take)
