"""A small made-up set in the layout that each shipped config reads, and the options that point the config there.

`GENERATED` has an entry for every config. A new config needs one: a function that writes what the config
reads below a folder and returns the options; `nothing` where the config makes its own data.
"""

from __future__ import annotations

import csv
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Options = list[str]
Generate = Callable[[Path, pytest.MonkeyPatch], Options]

RNG_SEED = 0


def nothing(*options: str) -> Generate:
    """The config makes or brings its own data."""
    return lambda root, patch: list(options)


# ---------------------------------------------------------------- pictures


def noise(*shape: int) -> np.ndarray:
    values: np.ndarray = np.random.default_rng(RNG_SEED).integers(0, 256, shape, dtype=np.uint8)
    return values


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write uint8 values in the format of MNIST's files (idx: magic number, sizes, bytes)."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.tobytes())


def idx_files(name: str, *options: str) -> Generate:
    """MNIST's four files, unpacked, in ROOT/NAME/raw."""

    def generate(root: Path, patch: pytest.MonkeyPatch) -> Options:
        folder = root / name / "raw"
        folder.mkdir(parents=True)
        for part, count in (("train", 80), ("t10k", 20)):
            write_idx(folder / f"{part}-images-idx3-ubyte", noise(count, 28, 28))
            write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
        return [f"--data.root={root}", *options]

    return generate


def cifar_pickles(*options: str) -> Generate:
    """CIFAR-10's python files; their checksums are taken out of torchvision's lists."""

    def generate(root: Path, patch: pytest.MonkeyPatch) -> Options:
        from torchvision.datasets import CIFAR10

        folder = root / CIFAR10.base_folder
        folder.mkdir(parents=True)
        for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list):
            content = {"data": noise(20, 3 * 32 * 32), "labels": [i % 10 for i in range(20)]}
            (folder / name).write_bytes(pickle.dumps(content))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{i}" for i in range(10)]}))
        for attribute in ("train_list", "test_list"):
            patch.setattr(CIFAR10, attribute, [[name, None] for name, _ in getattr(CIFAR10, attribute)])
        patch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": None})
        return [f"--data.root={root}", *options]

    return generate


def picture_folders(parts: tuple[str, ...], *options: str) -> Generate:
    """ROOT/PART/CLASS/*.jpg of two classes and several sizes."""

    def generate(root: Path, patch: pytest.MonkeyPatch) -> Options:
        for part in parts:
            for name in ("ants", "bees"):
                (root / part / name).mkdir(parents=True)
                for number in range(10 if part == "train" else 3):
                    Image.fromarray(noise(40 + number, 48, 3)).save(root / part / name / f"{number}.jpg")
        return [f"--data.root={root}", "--model.num_classes=2", *options]

    return generate


def masks(*options: str) -> Generate:
    """ROOT/images/NAME.jpg and ROOT/masks/NAME.png, masks holding class numbers."""

    def generate(root: Path, patch: pytest.MonkeyPatch) -> Options:
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(noise(40, 48, 3)).save(root / "images" / f"{number:02}.jpg")
            Image.fromarray(noise(40, 48) % 2).save(root / "masks" / f"{number:02}.png")
        return [f"--data.root={root}", "--data.class_names=[road, car]", "--model.num_classes=2", *options]

    return generate


def coco(*options: str) -> Generate:
    """ROOT/PART/images/*.jpg and ROOT/PART/annotations.json in COCO's form."""

    def generate(root: Path, patch: pytest.MonkeyPatch) -> Options:
        for part, count in (("train", 6), ("val", 2), ("test", 2)):
            (root / part / "images").mkdir(parents=True)
            images, boxes = [], []
            for number in range(count):
                Image.fromarray(noise(64, 64, 3)).save(root / part / "images" / f"{number}.jpg")
                images.append({"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 64})
                boxes.append({
                    "id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": [8, 8, 24, 24],
                    "area": 576, "iscrowd": 0,
                })  # fmt: skip
            content = {
                "images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
            }  # fmt: skip
            (root / part / "annotations.json").write_text(json.dumps(content))
        return [f"--data.root={root}", "--model.num_classes=2", *options]

    return generate


# ---------------------------------------------------------------- texts

WORDS = "the cat sat on a mat while rain fell over some old town and nobody went out".split()


def sentence(number: int) -> str:
    return " ".join(WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(5 + number % 6))


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)


def ag_news(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """train.csv and test.csv without a header: class from 1, title, description; classes.txt."""
    folder = root / "ag_news_csv"
    for name, count in (("train.csv", 80), ("test.csv", 16)):
        write_csv(folder / name, [[i % 4 + 1, sentence(i), sentence(i + 1)] for i in range(count)])
    (folder / "classes.txt").write_text("World\nSports\nBusiness\nSci/Tech\n")
    return [f"--data.root={root}", "--data.batch_size=16"]


def text_csv(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """train.csv with a header and two columns."""
    write_csv(root / "train.csv", [["text", "label"], *([sentence(i), "ab"[i % 2]] for i in range(100))])
    return [f"--data.root={root}", "--data.train=train.csv", "--data.text=text", "--data.label=label",
            "--data.split_ratio=[0.8, 0.2]"]  # fmt: skip


def imdb(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """torchtext's layout: ROOT/imdb/aclImdb/PART/{pos,neg}/*.txt."""
    for part, count in (("train", 30), ("test", 8)):
        for label in ("pos", "neg"):
            folder = root / "imdb" / "aclImdb" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}_7.txt").write_text(sentence(number))
    return [f"--data.root={root}", "--data.batch_size=16"]


def names(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """ROOT/LANGUAGE.txt, one name a line."""
    root.mkdir(parents=True)
    for language, ending in (("Polish", "ski"), ("Italian", "ini"), ("Greek", "opoulos")):
        lines = [f"{WORDS[i % len(WORDS)].title()}{'aeiou'[i % 5]}{ending}" for i in range(40)]
        (root / f"{language}.txt").write_text("\n".join(lines) + "\n")
    return [f"--data.root={root}", "--data.batch_size=16"]


def plain_text(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """One text file."""
    root.mkdir(parents=True)
    (root / "input.txt").write_text("\n".join(sentence(i) for i in range(400)))
    return [f"--data.path={root / 'input.txt'}", *SMALL_GPT]


SMALL_GPT = ["--model.layers=1", "--model.heads=2", "--model.width=16", "--model.sample_tokens=10"]


# ---------------------------------------------------------------- sounds


def write_wav(path: Path, hz: float, sample_rate: int, seconds: float) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(sample_rate * seconds)) / sample_rate
    tone = 0.5 * np.sin(2 * np.pi * hz * time) + 0.01 * np.random.default_rng(int(hz)).standard_normal(len(time))
    soundfile.write(path, tone, sample_rate, subtype="PCM_16")


def spoken_digits(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """ROOT/{digit}_{speaker}_{index}.wav."""
    for digit in range(10):
        for index in (0, *range(5, 12)):
            write_wav(root / f"{digit}_theo_{index}.wav", 200 + 100 * digit, 8000, 0.4 + 0.02 * index)
    return [f"--data.root={root}", "--data.batch_size=16", "--model.width=4"]


def speech_commands(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """torchaudio's layout: ROOT/SpeechCommands/speech_commands_v0.02/WORD/*.wav and two lists of files."""
    from torchaudio.datasets.speechcommands import FOLDER_IN_ARCHIVE, URL

    folder, lists = root / FOLDER_IN_ARCHIVE / URL, {"validation": [], "testing": []}  # type: ignore[var-annotated]
    for number, word in enumerate(("yes", "no", "up")):
        for speaker in range(8):
            name = f"{word}/{speaker:08x}_nohash_0.wav"
            write_wav(folder / name, 300 + 150 * number, 16000, 1.0)
            if speaker < 2:
                lists["testing" if speaker else "validation"].append(name)
    write_wav(folder / "_background_noise_" / "hum.wav", 50, 16000, 2.0)
    for part, files in lists.items():
        (folder / f"{part}_list.txt").write_text("".join(f"{name}\n" for name in files))
    return [f"--data.root={root}", "--model.num_classes=3", "--data.batch_size=8", "--model.width=4",
            "--data.num_workers=0"]  # fmt: skip


def yesno(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """torchaudio's layout: ROOT/waves_yesno/0_1_..._1.wav, eight words each."""
    for number in range(16):
        name = "_".join(f"{number:08b}")
        write_wav(root / "waves_yesno" / f"{name}.wav", 200 + 10 * number, 8000, 2.0)
    return [f"--data.root={root}", "--data.batch_size=4", "--model.width=8", "--model.layers=1"]


def sound_folders(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """ROOT/CLASS/*.wav."""
    for number, name in enumerate(("bark", "meow")):
        for index in range(16):
            write_wav(root / name / f"{index}.wav", 300 + 200 * number, 16000, 0.6)
    return [f"--data.root={root}", "--model.num_classes=2", "--data.batch_size=8", "--model.width=4"]


# ---------------------------------------------------------------- tables and graphs


def table(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """One csv with a header: numbers, words, and a target."""
    rows = [[i, i % 7, "xyz"[i % 3], 2 * i + 1] for i in range(100)]
    write_csv(root / "table.csv", [["size", "age", "kind", "price"], *rows])
    return [f"--data.path={root / 'table.csv'}", "--data.target=price", "--data.categorical=[kind]"]


def planetoid(root: Path, patch: pytest.MonkeyPatch) -> Options:
    """Planetoid's raw files; the data module can write them itself."""
    from recipes.graph.classification import NodeClassifier
    from recipes.graph.data import PlanetoidData

    PlanetoidData("Cora").generate(root, NodeClassifier())
    return [f"--data.root={root}", "--data.download=false"]


SMALL = ["--data.batch_size=16", "--model.width=4"]

GENERATED: dict[str, Generate] = {
    "audio/folder": sound_folders,
    "audio/speech_commands": speech_commands,
    "audio/spoken_digits": spoken_digits,
    "audio/tones": nothing("--data.clips_per_class=20", "--data.batch_size=16", "--model.width=4"),
    "audio/yesno_ctc": yesno,
    "graph/karate": nothing(),
    "graph/planetoid": planetoid,
    "tabular/csv": table,
    "tabular/linear": nothing(),
    "text/ag_news": ag_news,
    "text/csv": text_csv,
    "text/imdb": imdb,
    "text/names": names,
    "text/shakespeare_gpt": plain_text,
    "text/stdlib_gpt": nothing("--data.max_chars=20000", *SMALL_GPT),
    "text/stdlib_lines": nothing("--data.max_files=10", "--data.max_lines=200", "--data.batch_size=16"),
    "text/stdlib_tags": nothing("--data.max_files=10", "--data.batch_size=16"),
    "vision/autoencoder": nothing("--data.batch_size=16"),
    "vision/cifar10": cifar_pickles(*SMALL),
    "vision/cifar10_fast": cifar_pickles(*SMALL, "--trainer.precision=32-true"),
    "vision/dcgan": nothing("--data.batch_size=16"),
    "vision/detection": coco("--data.batch_size=2"),
    "vision/digits": nothing(*SMALL),
    "vision/fashion_mnist": idx_files("FashionMNIST", *SMALL),
    "vision/image_folder": picture_folders(("train", "test"), "--data.image_size=16", *SMALL),
    "vision/mnist": idx_files("MNIST", *SMALL),
    "vision/segmentation": masks("--data.batch_size=4"),
    "vision/transfer": picture_folders(("train", "val"), "--data.image_size=32", "--data.batch_size=4"),
}
