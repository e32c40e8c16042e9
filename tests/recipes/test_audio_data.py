"""Sounds of the audio recipes: reading, batches, splits, and data that cannot be used."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.errors import ConfigError, DataError, MissingDataError, NonFiniteError
from recipes.audio.clips import Sounds, cut_or_pad
from recipes.audio.data import AudioData, AudioFolderData, NamedAudioData
from recipes.audio.files import check_header, read_audio, read_mono
from recipes.audio.tones import KINDS, TonesData
from recipes.audio.torchaudio_sets import SpeechCommandsData, YesNoData
from recipes.datamodule import as_fetched

Sound = Callable[..., None]


def folders(root: Path, sound: Sound, count: int = 6, classes: tuple[str, ...] = ("high", "low")) -> None:
    for name in classes:
        for i in range(count):
            sound(root / name / f"{i}.wav", pitch={"high": 880, "low": 220}.get(name, 440))


def named(root: Path, sound: Sound) -> None:
    """Write two labels by three speakers, five times each."""
    for label, pitch in (("7", 300), ("10", 600)):
        for speaker in ("ann", "bob", "cy"):
            for index in range(5):
                sound(root / f"{label}_{speaker}_{index}.wav", pitch=pitch + index)


def all_batches(loader: Any) -> list[torch.Tensor]:
    return [tensor for batch in loader for tensor in batch]


def test_a_file_is_read_as_torchaudio_gives_it(tmp_path: Path) -> None:
    samples = np.array([[0.5, -0.25], [0.0, 0.125], [-1.0, 0.75]])  # (samples, channels)
    soundfile.write(tmp_path / "a.wav", samples, 22050, subtype="FLOAT")
    waveform, rate = read_audio(tmp_path / "a.wav")
    assert (waveform.dtype, rate) == (torch.float32, 22050)
    assert waveform.tolist() == samples.T.tolist()


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_every_format_rate_and_number_of_channels_becomes_one_channel_at_one_rate(
    extension: str, tmp_path: Path, sound: Sound
) -> None:
    path = tmp_path / f"a.{extension}"
    sound(path, seconds=0.5, rate=16000, channels=2, pitch=500)
    wave = read_mono(path, 8000)
    assert wave.ndim == 1 and abs(len(wave) - 4000) < 700  # mp3 adds up to a frame at either end
    spectrum = torch.fft.rfft(wave, n=8000).abs()
    assert abs(int(spectrum.argmax()) - 500) <= 2  # bins of 1 Hz
    assert 0.25 < float(wave.abs().max()) < 0.35


def test_what_is_short_is_padded_and_what_is_long_is_cut() -> None:
    long, short = torch.arange(1.0, 11.0), torch.ones(2)
    batch, lengths = cut_or_pad([long, short], 4)
    assert batch.tolist() == [[4, 5, 6, 7], [1, 1, 0, 0]] and lengths.tolist() == [4, 2]
    batch, lengths = cut_or_pad([long, short], None)
    assert batch.shape == (2, 10) and lengths.tolist() == [10, 2]
    torch.manual_seed(0)
    starts = {float(cut_or_pad([long], 4, random=True)[0][0, 0]) for _ in range(100)}
    assert starts == {1, 2, 3, 4, 5, 6}


def test_a_folder_of_classes_without_parts_is_split_by_class(tmp_path: Path, sound: Sound) -> None:
    folders(tmp_path, sound, count=10)
    data = AudioFolderData(root=str(tmp_path), sample_rate=8000, clip_seconds=0.1)
    data.setup("fit")
    data.setup("test")
    sets = list(data.sets.values())
    assert [len(s) for s in sets] == [14, 2, 4]
    paths = [path for s in sets for path in s.sounds.paths]
    assert len(set(paths)) == 20
    waveforms, lengths, labels = next(iter(data.test_dataloader()))
    assert waveforms.shape == (4, 800) and lengths.tolist() == [800] * 4 and labels.tolist() == [0, 0, 1, 1]
    assert data.class_names == ["high", "low"]


def test_a_folder_with_parts_keeps_them(tmp_path: Path, sound: Sound) -> None:
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        folders(tmp_path / part, sound, count)
    data = AudioFolderData(root=str(tmp_path), sample_rate=8000)
    data.setup("fit")
    data.setup("test")
    assert [len(data.sets[part]) for part in ("train", "val", "test")] == [10, 4, 6]


def test_names_give_labels_and_the_split(tmp_path: Path, sound: Sound) -> None:
    named(tmp_path, sound)
    data = NamedAudioData(root=str(tmp_path), test_where="index=0-1", val_fraction=0.25)
    data.setup("fit")
    data.setup("test")
    assert data.class_names == ["7", "10"]  # by value, not by letters
    assert [len(data.sets[part]) for part in ("train", "val", "test")] == [13, 5, 12]
    assert {Path(path).stem.rpartition("_")[2] for path in data.sets["test"].sounds.paths} == {"0", "1"}


def test_a_speaker_is_held_out_by_one_override(tmp_path: Path, sound: Sound) -> None:
    named(tmp_path, sound)
    data = NamedAudioData(root=str(tmp_path), test_where="speaker=ann", val_where="speaker=bob,cyril")
    data.setup("fit")
    data.setup("test")
    speakers = [{Path(path).stem.split("_")[1] for path in s.sounds.paths} for s in data.sets.values()]
    assert speakers == [{"cy"}, {"bob"}, {"ann"}]


def test_a_regular_expression_names_the_fields_too(tmp_path: Path, sound: Sound) -> None:
    for take in range(4):
        sound(tmp_path / "day1" / f"yes-{take}.flac")
        sound(tmp_path / "day2" / f"no-{take}.flac")
    pattern = r"day\d/(?P<label>\w+)-(?P<take>\d+)\.flac"
    data = NamedAudioData(root=str(tmp_path), pattern=pattern, test_where="take=0,3", val_fraction=0.5)
    data.setup("test")
    assert data.class_names == ["no", "yes"] and len(data.sets["test"]) == 4


@pytest.mark.parametrize("num_workers", [0, 1])
def test_cached_sounds_and_files_read_each_time_give_the_same_batches(
    num_workers: int, tmp_path: Path, sound: Sound
) -> None:
    folders(tmp_path, sound)
    batches = []
    for cache in (True, False):
        data = AudioFolderData(
            root=str(tmp_path), sample_rate=6000, cache=cache, num_workers=num_workers, batch_size=3
        )
        data.setup("fit")
        data.setup("test")
        torch.manual_seed(1)
        batches.append(all_batches(data.train_dataloader()) + all_batches(data.test_dataloader()))
    assert len(batches[0]) >= 9
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


def test_tones_depend_on_the_seed_alone_and_every_part_has_all_kinds() -> None:
    first, again, other = TonesData(20), TonesData(20), TonesData(20, seed=1)
    for data in (first, again, other):
        torch.rand(1)
        data.setup("fit")
    assert [len(first.sets[part]) for part in ("train", "val", "test")] == [112, 16, 32]
    one, two, three = (next(iter(data.test_dataloader())) for data in (first, again, other))
    assert torch.equal(one[0], two[0]) and not torch.equal(one[0], three[0])
    assert torch.bincount(one[2]).tolist() == [4] * len(KINDS)
    assert float(one[0].abs().max()) <= 1


# ---------------------------------------------------------------- torchaudio's sets, on local files


def speech_commands(root: Path, sound: Sound) -> Path:
    folder = root / "SpeechCommands" / "speech_commands_v0.02"
    for word in ("down", "no", "up"):
        for speaker in ("aa", "bb", "cc", "dd"):
            sound(folder / word / f"{speaker}_nohash_0.wav", seconds=0.1, rate=16000)
    sound(folder / "_background_noise_" / "tap.wav")
    for name, speaker in (("validation", "bb"), ("testing", "cc")):
        lines = [f"{word}/{speaker}_nohash_0.wav\n" for word in ("down", "no", "up")]
        (folder / f"{name}_list.txt").write_text("".join(lines))
    return folder


def test_speech_commands_are_split_by_the_set_s_own_lists(tmp_path: Path, sound: Sound) -> None:
    speech_commands(tmp_path, sound)
    data = SpeechCommandsData(root=str(tmp_path), num_workers=0)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert data.class_names == ["down", "no", "up"]
    assert [len(data.sets[part]) for part in ("train", "val", "test")] == [6, 3, 3]
    assert next(iter(data.test_dataloader()))[0].shape == (3, 16000)


def test_speech_commands_of_a_few_words_keep_their_order(tmp_path: Path, sound: Sound) -> None:
    speech_commands(tmp_path, sound)
    data = SpeechCommandsData(root=str(tmp_path), words=["up", "down"], num_workers=0)
    data.setup("test")
    assert next(iter(data.test_dataloader()))[2].tolist() == [1, 0]
    with pytest.raises(DataError) as caught:
        SpeechCommandsData(root=str(tmp_path), words=["up", "sideways"]).setup("fit")
    assert str(caught.value) == (
        f"SpeechCommandsData: {tmp_path}/SpeechCommands/speech_commands_v0.02 has no recordings of sideways; "
        "there are down, no, up"
    )


# urllib takes this address for the way to every other: nothing listens there
DEAD_PROXY = "http://127.0.0.1:9"


def test_speech_commands_without_files_and_network_say_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", DEAD_PROXY)
    monkeypatch.setenv("no_proxy", "")
    folder = f"{tmp_path}/SpeechCommands/speech_commands_v0.02"
    with pytest.raises(DataError) as caught:
        SpeechCommandsData(root=str(tmp_path)).prepare_data()
    assert str(caught.value) == (
        f"SpeechCommandsData(root='{tmp_path}', download=True): no folder {folder} and the download failed "
        "(<urlopen error [Errno 111] Connection refused>); unpack the set's archive there"
    )
    with pytest.raises(DataError) as caught:
        SpeechCommandsData(root=str(tmp_path), download=False).setup("fit")
    assert str(caught.value) == (
        f"SpeechCommandsData(root='{tmp_path}', download=False): no folder {folder}; unpack the set's archive "
        "there, or set data.download to true"
    )


def test_speech_commands_without_its_lists_are_not_whole(tmp_path: Path, sound: Sound) -> None:
    folder = speech_commands(tmp_path, sound)
    (folder / "testing_list.txt").unlink()
    with pytest.raises(DataError) as caught:
        SpeechCommandsData(root=str(tmp_path)).setup("test")
    assert str(caught.value) == (
        f"SpeechCommandsData(root='{tmp_path}', download=False): the files in {folder} are not whole; get them "
        f"again ([Errno 2] No such file or directory: '{folder}/testing_list.txt')"
    )


def yes_no(root: Path, sound: Sound, count: int = 10) -> Path:
    for i in range(count):
        words = [(i >> bit) & 1 for bit in range(4)]
        sound(root / "waves_yesno" / ("_".join(map(str, words)) + ".wav"), seconds=0.5 + 0.02 * i)
    return root / "waves_yesno"


def test_yesno_is_unpacked_from_the_archive_that_lies_there(tmp_path: Path, sound: Sound) -> None:
    yes_no(tmp_path / "made", sound)
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "waves_yesno.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "waves_yesno", "waves_yesno")
    data = YesNoData(root=str(tmp_path / "data"), test_fraction=0.2, batch_size=3)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert [len(data.sets[part]) for part in ("train", "val", "test")] == [6, 2, 2]
    waveforms, lengths, targets, counts = next(iter(data.val_dataloader()))
    assert waveforms.shape == (2, int(lengths.max())) and counts.tolist() == [4, 4]
    assert set(targets.flatten().tolist()) <= {1, 2}
    stem = Path(data.sets["val"].sounds.paths[0]).stem
    assert targets[0].tolist() == [int(word) + 1 for word in stem.split("_")]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder, sound: None, "YesNoData(root='{root}', download=False): no folder {root}/waves_yesno; unpack "
         "the set's archive there, or set data.download to true"),
        (lambda folder, sound: sound(folder / "0_1.wav"), "YesNoData(test_fraction=0.15): 1 recordings in "
         "{root}/waves_yesno are too few to be split; expected at least 3, and a share that takes one or more"),
        (lambda folder, sound: (yes_no(folder.parent, sound), sound(folder / "0_maybe.wav")),
         "{root}/waves_yesno/0_maybe.wav: the name is no transcript; expected 0 (no) and 1 (yes) joined by _, such "
         "as 0_1_1.wav; rename or remove it"),
    ],
)  # fmt: skip
def test_yesno_that_cannot_be_used(prepare: Callable[..., Any], message: str, tmp_path: Path, sound: Sound) -> None:
    prepare(tmp_path / "waves_yesno", sound)
    with pytest.raises(DataError) as caught:
        YesNoData(root=str(tmp_path), download=False).setup("fit")
    assert str(caught.value) == message.format(root=tmp_path)


# ---------------------------------------------------------------- files that cannot be used

UNREADABLE = "cannot be read as sound (Format not recognised)"
ADVICE = "; replace or remove it, or set data.on_bad_file to skip"


def spoil(root: Path, sound: Sound) -> tuple[Path, Path]:
    """Write good sounds, one that is none and one without samples."""
    folders(root, sound, count=10)
    text, empty = root / "high" / "text.wav", root / "low" / "empty.wav"
    text.write_bytes(b"this is no sound, however long it may be")
    sound(empty, seconds=0)
    return text, empty


@pytest.mark.parametrize("cache", [True, False])
def test_a_bad_file_is_named(cache: bool, tmp_path: Path, sound: Sound) -> None:
    text, empty = spoil(tmp_path, sound)
    data = AudioFolderData(root=str(tmp_path), cache=cache, sample_rate=8000)
    with pytest.raises(DataError) as caught:
        for stage in ("test", "fit"):
            data.setup(stage)
    assert str(caught.value) == f"{text}: {UNREADABLE}{ADVICE}"
    text.unlink()
    with pytest.raises(DataError) as caught:
        data = AudioFolderData(root=str(tmp_path), cache=cache, sample_rate=8000)
        for stage in ("test", "fit"):
            data.setup(stage)
    assert str(caught.value) == f"{empty}: holds no samples{ADVICE}"


@pytest.mark.parametrize("cache", [True, False])
def test_bad_files_are_left_out_and_counted(cache: bool, tmp_path: Path, sound: Sound) -> None:
    for part in ("train", "val"):
        spoil(tmp_path / part, sound)
    data = AudioFolderData(root=str(tmp_path), cache=cache, sample_rate=8000, on_bad_file="skip")
    with pytest.warns(UserWarning) as caught:
        data.setup("fit")
    assert [str(w.message) for w in caught] == [
        f"AudioFolderData(on_bad_file='skip'): left out 2 of 22 files: {tmp_path}/{part}/high/text.wav: "
        f"{UNREADABLE}; {tmp_path}/{part}/low/empty.wav: holds no samples"
        for part in ("train", "val")
    ]
    assert [len(data.sets[part]) for part in ("train", "val")] == [20, 20]
    assert torch.bincount(data.sets["train"].labels).tolist() == [10, 10]


@pytest.mark.parametrize("on_bad_file", ["error", "skip"])
def test_a_file_that_breaks_off_is_found_when_it_is_read(on_bad_file: Any, tmp_path: Path, sound: Sound) -> None:
    for part in ("train", "test"):
        folders(tmp_path / part, sound, count=4)
    broken = tmp_path / "test" / "low" / "0.flac"
    sound(broken, seconds=2)
    broken.write_bytes(broken.read_bytes()[:200])
    data = AudioFolderData(root=str(tmp_path), cache=False, sample_rate=8000, on_bad_file=on_bad_file)
    data.setup("test")
    if on_bad_file == "skip":
        with pytest.warns(UserWarning, match=rf"^left out: {broken}: cannot be read as sound"):
            assert next(iter(data.test_dataloader()))[2].tolist() == [0] * 4 + [1] * 4
        return
    with pytest.raises(DataError) as caught:
        list(data.test_dataloader())
    assert str(caught.value).startswith(f"{broken}: cannot be read as sound (")


HEARD = np.sin(np.arange(40000) / 9).astype(np.float32) * 0.3
SAID = {
    "wav": "breaks off: its header says 80,000 bytes, 39,978 are there",
    "aiff": "breaks off: its header says 80,008 bytes, 39,981 are there",
    "au": "breaks off: its header says 80,000 bytes, 39,988 are there",
    "caf": "cannot be read as sound (Supported file format but file is malformed)",
    "w64": "breaks off: its header says 80,104 bytes, 40,052 are there",
    "ogg": "breaks off: its last page is missing",
}


@pytest.mark.parametrize("end", SAID)
def test_a_file_that_was_cut_is_named_by_its_header_and_skipped(end: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{end}"
    soundfile.write(path, HEARD, 8000)
    assert read_audio(path)[0].shape == (1, 40000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for use in (read_audio, check_header):
        with pytest.raises(DataError) as caught:
            use(path)
        assert str(caught.value) == f"{path}: {SAID[end]}{ADVICE}"
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, HEARD, 8000)
    for cache in (True, False):
        with pytest.warns(UserWarning) as warned:
            sounds, kept = Sounds.from_files(
                [str(path), str(whole)], 8000, cache=cache, on_bad_file="skip", owner="X"
            )
        assert kept == [1] and len(sounds[0]) == 40000
        assert [str(w.message) for w in warned] == [
            f"X(on_bad_file='skip'): left out 1 of 2 files: {path}: {SAID[end]}"
        ]


def test_an_mp3_that_was_cut_is_found_when_it_is_read(tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "cut.mp3"
    soundfile.write(path, HEARD, 8000)
    assert read_audio(path)[0].shape == (1, 40000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.mp3: breaks off: [\d,]+ of 40,000 samples are there; replace or remove"):
        read_audio(path)


def test_what_was_written_into_a_pipe_does_not_know_its_length_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, HEARD, 8000)
    bytes_ = path.read_bytes()
    unknown = b"\xff\xff\xff\xff"
    path.write_bytes(bytes_[:4] + unknown + bytes_[8:40] + unknown + bytes_[44:])
    assert read_audio(path)[0].shape == (1, 40000)
    path.write_bytes(bytes_ + b"LIST\x00\x01\x00\x00cut")  # what follows the sound is none of it
    assert read_audio(path)[0].shape == (1, 40000)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("cache", [True, False])
def test_a_file_with_samples_that_are_no_numbers_is_named_or_skipped(
    value: float, cache: bool, tmp_path: Path, sound: Sound
) -> None:
    folders(tmp_path / "train", sound, count=4)
    folders(tmp_path / "test", sound, count=4)
    bad = tmp_path / "test" / "low" / "0.wav"
    heard = HEARD[:2000].copy()
    heard[7:10] = value
    soundfile.write(bad, heard, 8000, subtype="FLOAT")
    told = f"{bad}: 3 of 2,000 samples are NaN or infinite"

    def batches(on_bad_file: Any) -> list[Any]:
        data = AudioFolderData(root=str(tmp_path), cache=cache, sample_rate=8000, on_bad_file=on_bad_file)
        data.setup("test")
        return list(data.test_dataloader())

    with pytest.raises(DataError) as caught:
        batches("error")
    assert str(caught.value) == told + ADVICE
    with pytest.warns(UserWarning) as warned:
        [(waveforms, _, labels)] = batches("skip")
    assert told in str(warned[0].message) and torch.isfinite(waveforms).all()
    assert len(labels) == sum(1 for _ in (tmp_path / "test").rglob("*.*")) - 1


def test_only_bad_files_are_an_error_even_when_skipped(tmp_path: Path) -> None:
    for name in ("high", "low"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "a.wav").write_bytes(b"no sound")
    with pytest.raises(DataError) as caught:
        AudioFolderData(root=str(tmp_path), on_bad_file="skip").setup("test")
    assert str(caught.value) == (
        f"AudioFolderData: none of 2 files can be read; the first: {tmp_path}/test/high/a.wav: {UNREADABLE}"
    )


FORMATS = ".wav, .flac, .ogg, .opus, .mp3, .aif, .aiff, .au"


def folder_message(root: Path, make: Callable[[Path], None], stage: str = "fit") -> str:
    make(root)
    with pytest.raises(DataError) as caught:
        AudioFolderData(root=str(root), sample_rate=8000).setup(stage)
    return str(caught.value).replace(str(root), "ROOT")


def test_folders_that_cannot_be_used(tmp_path: Path, sound: Sound) -> None:
    assert folder_message(tmp_path / "a", lambda root: None) == (
        "AudioFolderData: no class folders in ROOT; expected ROOT/CLASS/*.wav, or ROOT/train/CLASS/*.wav and "
        "ROOT/test/CLASS/*.wav (set data.root)"
    )

    def empty_class(root: Path) -> None:
        folders(root, sound)
        (root / "none").mkdir()

    assert folder_message(tmp_path / "b", empty_class) == f"AudioFolderData: no sounds in ROOT/none; read are {FORMATS}"

    def no_test(root: Path) -> None:
        folders(root / "train", sound)

    assert folder_message(tmp_path / "c", no_test, "test") == (
        "AudioFolderData: no folder ROOT/test; this stage needs the sounds ROOT/test/CLASS/*.wav"
    )

    def unknown_class(root: Path) -> None:
        folders(root / "train", sound)
        folders(root / "test", sound, classes=("high", "shrill"))

    assert folder_message(tmp_path / "d", unknown_class, "test") == (
        "AudioFolderData: ROOT/test has classes that ROOT/train has not: shrill"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_where": "index=9"}, "NamedAudioData(test_where='index=9'): 0 of 30 files in ROOT are for test; "
         "the values of index are 0, 1, 2, 3, 4"),
        ({"val_where": "speaker=dan", "test_where": "index=0"}, "NamedAudioData(val_where='speaker=dan'): 0 of 30 "
         "files in ROOT are for validation; the values of speaker are ann, bob, cy"),
        ({"test_where": "label=10"}, "ROOT/10_ann_0.wav: the test label '10' is none of the training files' (7); "
         "remove the file, or move some with this label to the training part"),
        ({"pattern": "{speaker}_{label}.flac", "test_where": "speaker=x"}, "NamedAudioData(pattern="
         "'{speaker}_{label}.flac'): 30 of 30 names do not match; the first is ROOT/10_ann_0.wav (correct "
         "data.pattern, move the file, or set data.on_bad_file to skip)"),
        ({"root": "/nowhere"}, "NamedAudioData: no sound files in /nowhere; put the files "
         "/nowhere/{label}_{speaker}_{index}.wav there, or set data.root"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_used(options: dict[str, str], message: str, tmp_path: Path, sound: Sound) -> None:
    named(tmp_path, sound)
    with pytest.raises(DataError) as caught:
        NamedAudioData(**{"root": str(tmp_path), **options}).setup("test")
    assert str(caught.value) == message.replace("ROOT", str(tmp_path))


def test_names_that_do_not_match_are_left_out_and_counted(tmp_path: Path, sound: Sound) -> None:
    named(tmp_path, sound)
    sound(tmp_path / "notes.wav")
    data = NamedAudioData(root=str(tmp_path), test_where="index=0", on_bad_file="skip")
    with pytest.warns(UserWarning) as caught:
        data.setup("test")
    assert [str(w.message) for w in caught] == [
        "NamedAudioData(on_bad_file='skip'): 1 of 31 names do not match '{label}_{speaker}_{index}.wav' and are "
        f"left out; the first is {tmp_path}/notes.wav"
    ]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NamedAudioData(pattern="{speaker}.wav"), "NamedAudioData(pattern='{speaker}.wav'): expected a field "
         "{label}, such as '{label}_{speaker}_{index}.wav'"),
        (lambda: NamedAudioData(pattern="(?P<label>[)"), "NamedAudioData(pattern='(?P<label>[)'): no valid pattern "
         "(unterminated character set at position 10)"),
        (lambda: NamedAudioData(test_where="theo"), "NamedAudioData(test_where='theo'): expected FIELD=VALUES, such "
         "as 'index=0-4' or 'speaker=theo'"),
        (lambda: NamedAudioData(test_where="speker=theo"), "NamedAudioData(test_where='speker=theo'): the pattern "
         "'{label}_{speaker}_{index}.wav' has the fields label, speaker, index; did you mean 'speaker'?"),
        (lambda: AudioFolderData(val_fraction=1.0), "AudioFolderData(val_fraction=1.0): expected a share between 0 "
         "and 1, such as 0.1"),
        (lambda: AudioFolderData(clip_seconds=0), "AudioFolderData(clip_seconds=0): expected seconds, such as 1.0"),
        (lambda: AudioFolderData(sample_rate=0), "AudioFolderData(sample_rate=0): expected Hz, such as 16000"),
        (lambda: TonesData(batch_size=0), "TonesData(batch_size=0): expected at least 1"),
        (lambda: YesNoData(test_fraction=0.5), "YesNoData(test_fraction=0.5): expected a share between 0 and 0.5, "
         "such as 0.15"),
    ],
)  # fmt: skip
def test_wrong_argument(build: Callable[[], AudioData], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


# ---------------------------------------------------------------- made-up data, for `lightkit check`


class Sizes:
    """Stands where `generate` asks a module for its number of classes."""

    num_classes = 3


@pytest.mark.parametrize(
    "data",
    [
        AudioFolderData(root="nowhere", sample_rate=8000, clip_seconds=0.1),
        NamedAudioData(root="nowhere", clip_seconds=0.1, val_where="speaker=theo"),
        NamedAudioData(root="nowhere", pattern=r"(?P<label>\d)/(?P<who>\w+)\.wav", test_where="who=a"),
        SpeechCommandsData(root="nowhere", download=False, clip_seconds=0.1, num_workers=0),
        YesNoData(root="nowhere", download=False),
    ],
    ids=lambda data: type(data).__name__,
)
def test_made_up_data_stands_in_for_what_is_missing(data: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        data.setup("fit")
    data.generate(tmp_path / "made", Sizes())
    data.setup("fit")
    data.setup("test")
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    assert all(float(batch[0].abs().max()) > 0.2 for loader in loaders for batch in loader)
    assert len(getattr(data, "class_names", [1, 2, 3])) == 3


class Loud(lk.LightModule):
    """Its loss is infinite where a sound of the batch is silent."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return -(self.weight * batch[0].abs().amax(dim=1)).log().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_error_of_a_loss_that_is_no_number_names_the_files_of_its_batch(
    num_workers: int, tmp_path: Path, sound: Sound, make_trainer: Callable[..., lk.Trainer]
) -> None:
    for part in ("train", "val"):
        folders(tmp_path / part, sound, count=10)
    silent = tmp_path / "train" / "low" / "3.wav"
    soundfile.write(silent, np.zeros(800), 8000)
    how: dict[str, Any] = {"sample_rate": 8000, "clip_seconds": 0.1, "batch_size": 4, "num_workers": num_workers}
    trainer = make_trainer(nan_check="step", limit_val_batches=0, max_epochs=3, logger=False)
    data = AudioFolderData(root=str(tmp_path), **how)
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(Loud(), datamodule=data)
    error = caught.value
    assert error.batch_idx is not None and error.is_first
    message, _, files = str(error).partition(f"; the files of batch {error.batch_idx}: ")
    assert message.startswith(f"the loss is inf in epoch 0, batch {error.batch_idx} (step {error.batch_idx}); ")
    named = files.split(", ")
    assert len(named) == 4 and str(silent) in named and all(Path(name).is_file() for name in named)
    # as the last batch that was looked at, with the advice to look at each
    trainer = make_trainer(limit_val_batches=0, max_epochs=1, logger=False)
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(Loud(), datamodule=AudioFolderData(root=str(tmp_path), **{**how, "batch_size": 20}))
    assert str(silent) in str(caught.value)
    assert str(caught.value).endswith("; Trainer(nan_check='step') names the first batch that goes wrong")


def test_remembering_the_order_changes_nothing(tmp_path: Path, sound: Sound) -> None:
    for part in ("train", "val"):
        folders(tmp_path / part, sound, count=6)
    data = AudioFolderData(root=str(tmp_path), sample_rate=8000, batch_size=5)
    data.setup("fit")
    torch.manual_seed(7)
    ours = [batch[2] for batch in data.train_dataloader()]
    torch.manual_seed(7)
    plain = [batch[2] for batch in DataLoader(data.sets["train"], 5, shuffle=True, collate_fn=as_fetched)]
    assert len(ours) == 3 and all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))
