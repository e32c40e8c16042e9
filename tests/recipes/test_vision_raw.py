"""A checkpoint alone predicts from an image file: names, size and normalisation travel in it; views are averaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.errors import CheckpointError, DataError
from recipes.vision.augment import RandomCrop
from recipes.vision.classification import ImageClassifier
from recipes.vision.data import DigitsData, ImageFolderData, TorchvisionData
from recipes.vision.fast import FastClassifier

Write = Callable[..., None]
MakeTrainer = Callable[..., lk.Trainer]


@pytest.fixture
def trained(tmp_path: Path, image_folders: Write, make_trainer: MakeTrainer) -> tuple[Path, ImageFolderData]:
    """A checkpoint of a classifier of three classes, and its data."""
    image_folders(tmp_path / "pictures", {"train": 6, "test": 2})
    data = ImageFolderData(root=str(tmp_path / "pictures"), image_size=16, val_fraction=0.3, batch_size=4)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(ImageClassifier(num_classes=3, in_channels=3, width=4), datamodule=data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt", data


def test_a_file_is_predicted_as_the_data_module_would_have_it(trained: tuple[Path, ImageFolderData]) -> None:
    path, data = trained
    data.setup("test")
    model = ImageClassifier.load_from_checkpoint(path).eval()
    assert model.raw_input == "image"
    images, _ = next(iter(data.test_dataloader()))
    with torch.no_grad():
        expected = model(images).softmax(dim=1)[0]
    ranked = model.predict_raw(data.sets["test"].files[0][0])
    assert [name for name, _ in ranked] == [["ant", "bee", "cat"][i] for i in expected.argsort(descending=True)]
    probabilities = dict(ranked)
    assert [probabilities[name] for name in ("ant", "bee", "cat")] == pytest.approx(expected.tolist(), abs=1e-6)
    assert sum(probabilities.values()) == pytest.approx(1.0)


def test_a_fresh_process_needs_the_checkpoint_and_the_picture_alone(
    trained: tuple[Path, ImageFolderData], tmp_path: Path, repository: Path
) -> None:
    path, _ = trained
    Image.fromarray(np.zeros((30, 20, 3), dtype=np.uint8)).save(tmp_path / "black.png")
    code = (
        "from recipes.vision.classification import ImageClassifier\n"
        f"ranked = ImageClassifier.load_from_checkpoint({str(path)!r}).predict_raw({str(tmp_path / 'black.png')!r})\n"
        "print(sorted(name for name, _ in ranked), ranked[0][1] >= ranked[1][1] >= ranked[2][1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.stdout == "['ant', 'bee', 'cat'] True\n", done.stderr


def test_a_file_that_is_no_picture_is_named(trained: tuple[Path, ImageFolderData], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(DataError) as caught:
        ImageClassifier.load_from_checkpoint(trained[0]).predict_raw(str(tmp_path / "text.jpg"))
    assert str(caught.value) == (
        f"{tmp_path}/text.jpg: cannot be read as an image; replace or remove it (cannot identify image file "
        f"'{tmp_path}/text.jpg')"
    )


def test_a_model_trained_on_loaders_alone_says_what_it_lacks(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)), batch_size=2)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(ImageClassifier(image_size=8, width=4), loader)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError) as caught:
        ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt").predict_raw("any.png")
    assert str(caught.value) == (
        "ImageClassifier.predict_raw(...): the model does not know the size, mean and class names of its images; "
        "train it with a data module of recipes.vision, or set model.picture_input"
    )


def test_views_are_averaged() -> None:
    model = ImageClassifier(image_size=8, width=4, test_time_augmentation="mirror").eval()
    images = torch.rand(3, 1, 8, 8)

    def both(images: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = (model(images) + model(images.flip(-1))) / 2
        return mean

    with torch.no_grad():
        torch.testing.assert_close(model.predict_step(images, 0), both(images).softmax(dim=1))
        model.test_time_augmentation = "mirror_shift"
        wide = torch.nn.functional.pad(images, [1, 1, 1, 1], mode="reflect")
        corners = (both(wide[..., :8, :8]) + both(wide[..., 2:, 2:])) / 2
        torch.testing.assert_close(model.predict_step(images, 0), ((both(images) + corners) / 2).softmax(dim=1))


def test_the_fast_network_starts_with_whitened_patches(tmp_path: Path, cifar10_files: Write) -> None:
    cifar10_files(tmp_path)
    data = TorchvisionData(name="CIFAR10", root=str(tmp_path), download=False, batch_size=10, on_device=True)
    data.setup("fit")
    model = FastClassifier(width=4)
    images = data.sets["train"].normalised(data.sets["train"].images)
    model.net.whiten_from(images)  # type: ignore[operator]
    responses = torch.nn.functional.conv2d(images, model.net.whiten.weight)  # type: ignore[union-attr, arg-type]
    flat = responses.transpose(0, 1).flatten(1)
    half = flat[:12]
    torch.testing.assert_close(torch.cov(half), torch.eye(12), atol=0.02, rtol=0.02)
    torch.testing.assert_close(flat[12:], -half)


class LargeDigits(DigitsData):
    """Digits of 16x16 pixels."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.image_shape = (1, 16, 16)
        for images in self.sets.values():
            images.images = images.images.repeat_interleave(2, -1).repeat_interleave(2, -2)  # type: ignore[union-attr, attr-defined]


def test_images_too_small_for_the_fast_network_are_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(DataError) as caught:
        make_trainer().fit(FastClassifier(in_channels=1, width=4), datamodule=DigitsData())
    assert str(caught.value) == "FastClassifier: the data is 8x8 pixels; the network needs at least 16x16"


def test_the_fast_recipe_learns_digits_on_the_cpu(make_trainer: MakeTrainer) -> None:
    lk.seed_everything(0, verbose=False)
    data = LargeDigits(batch_size=64, on_device=True, drop_last=True, augment=RandomCrop(pad=1, flip=False))
    model = FastClassifier(in_channels=1, width=8, lr=0.3, test_time_augmentation="none")
    trainer = make_trainer(max_epochs=4, limit_val_batches=0, logger=False)
    trainer.fit(model, datamodule=data)
    [metrics] = trainer.test(model, datamodule=data, verbose=False)
    assert metrics["test_acc"] > 0.9


def test_batch_norm_s_biases_alone_learn_at_their_own_rate(make_trainer: MakeTrainer) -> None:
    model = FastClassifier(in_channels=1, width=4, lr=0.1, bias_lr_factor=10.0)
    trainer = make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, logger=False)
    trainer.fit(model, datamodule=LargeDigits(batch_size=8))
    rest, biases = trainer.optimizers[0].param_groups
    assert [len(group["params"]) for group in (rest, biases)] == [8, 6]  # 6 convolutions, a bias and the head
    assert (rest["max_lr"], biases["max_lr"]) == (0.1, 1.0)
    assert rest["weight_decay"] * rest["max_lr"] == pytest.approx(biases["weight_decay"] * biases["max_lr"])
    assert not model.net.whiten.weight.requires_grad  # type: ignore[union-attr]


def test_the_fast_recipe_needs_images_in_memory(
    tmp_path: Path, image_folders: Write, make_trainer: MakeTrainer
) -> None:
    image_folders(tmp_path, {"train": 4})
    with pytest.raises(DataError) as caught:
        make_trainer().fit(FastClassifier(num_classes=3), datamodule=ImageFolderData(root=str(tmp_path)))
    assert str(caught.value) == (
        "FastClassifier: the training images must be in memory; use recipes.vision.data.TorchvisionData or DigitsData"
    )
