"""Small sets of images in the layouts that the vision recipes read, and a quiet trainer."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lightkit as lk
from lightkit.cli.job import Job, prepare_job

CLASSES = 10


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write uint8 values in the format of MNIST's files (idx: magic number, sizes, bytes)."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.tobytes())


def write_mnist(root: Path, name: str, train: int = 60, test: int = 20) -> None:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        write_idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % CLASSES)


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch, images_a_file: int = 20) -> None:
    """Write CIFAR-10's files, and take the checksums of the real ones out of torchvision's list."""
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list):
        data = rng.integers(0, 256, (images_a_file, 3 * 32 * 32), dtype=np.uint8)
        labels = [i % CLASSES for i in range(images_a_file)]
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    names = [f"class{i}" for i in range(CLASSES)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    for attribute in ("train_list", "test_list"):
        unchecked = [[name, None] for name, _ in getattr(CIFAR10, attribute)]
        monkeypatch.setattr(CIFAR10, attribute, unchecked)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": None})


def write_folders(
    root: Path, parts: dict[str, int], classes: tuple[str, ...] = ("ant", "bee", "cat")
) -> None:
    """Write so many JPEG files per class of each part, of different sizes."""
    rng = np.random.default_rng(0)
    for part, count in parts.items():
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                size = (20 + i, 30, 3)
                image = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
                image.save(root / part / name / f"{i}.jpg")


def write_sound(
    path: Path, seconds: float = 0.2, rate: int = 8000, channels: int = 1, pitch: float = 440.0
) -> None:
    """Write a tone of this pitch (Hz), in the format that the name's end says."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate)


@pytest.fixture
def sound() -> Callable[..., None]:
    """`sound(path, seconds, rate, channels, pitch)` writes a tone."""
    return write_sound


@pytest.fixture
def mnist_files() -> Callable[..., None]:
    """`mnist_files(root, name)` writes MNIST-like files of noise."""
    return write_mnist


@pytest.fixture
def cifar10_files(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """`cifar10_files(root)` writes CIFAR-10's files, with noise in them."""
    return lambda root: write_cifar10(root, monkeypatch)


@pytest.fixture
def image_folders() -> Callable[..., None]:
    """`image_folders(root, {"train": 3}, classes)` writes so many pictures per class of each part."""
    return write_folders


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., lk.Trainer]:
    """`make_trainer(**arguments)` builds a quiet trainer of two epochs that writes below tmp_path."""

    def make(**arguments: Any) -> lk.Trainer:
        quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
        defaults = {"max_epochs": 2, "default_root_dir": tmp_path, "accelerator": "cpu", **quiet}
        return lk.Trainer(**{**defaults, **arguments})

    return make


@pytest.fixture
def small_job(tmp_path: Path) -> Callable[..., Job]:
    """`small_job(config, *options)` builds a config's job: one epoch of two steps, written below tmp_path."""

    def make(config: str, *options: str) -> Job:
        small = [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
        quiet = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
        where = f"--trainer.default_root_dir={tmp_path}"
        return prepare_job("fit", [config, *small, *quiet, where, *options])

    return make
