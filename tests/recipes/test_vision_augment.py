"""Random changes of images: what they do, on which part, where, and that a resumed run repeats them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lightkit as lk
from lightkit.errors import ConfigError, DataError
from recipes.vision.augment import Mix, RandomAffine, RandomCrop
from recipes.vision.classification import ImageClassifier
from recipes.vision.data import DigitsData, ImageFolderData
from recipes.vision.detection_data import DetectionData
from recipes.vision.images import StoredBatch, TensorImages
from recipes.vision.segmentation_data import SegmentationData
from recipes.vision.transforms import build_transforms

Write = Callable[..., None]
MakeTrainer = Callable[..., lk.Trainer]


def test_crop_shifts_by_whole_pixels_and_mirrors() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 8, 8)
    changed = RandomCrop(pad=2, flip=True)(images)
    assert changed.shape == images.shape and changed.is_contiguous(memory_format=torch.channels_last)
    padded = nn.functional.pad(images, [2] * 4, mode="reflect")
    found = set()
    for i in range(64):
        for down in range(5):
            for right in range(5):
                window = padded[i, :, down : down + 8, right : right + 8]
                for mirrored in (False, True):
                    if torch.equal(changed[i], window.flip(-1) if mirrored else window):
                        found.add((i, down, right, mirrored))
    assert {i for i, *_ in found} == set(range(64))
    assert len({(down, right) for _, down, right, _ in found}) > 15
    assert len({mirrored for *_, mirrored in found}) == 2


def test_crop_without_amounts_changes_nothing_and_cutout_blanks_one_square() -> None:
    images = torch.rand(32, 3, 8, 8) + 1
    assert torch.equal(RandomCrop(pad=0, flip=False)(images), images)
    blanked = RandomCrop(pad=0, flip=False, cutout=4)(images) == 0
    assert torch.equal(blanked[:, 0], blanked[:, 1])
    sizes = blanked[:, 0].flatten(1).sum(dim=1)
    assert 4 <= int(sizes.min()) and int(sizes.max()) == 16  # a quarter of it may be all that is inside


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixed_labels_are_the_shares_of_the_images(way: str) -> None:
    torch.manual_seed(1)
    labels = torch.tensor([0, 1, 2, 3])
    images = labels.float().view(4, 1, 1, 1).expand(4, 1, 10, 10)
    mixed, shares = Mix(**{way: 1.0})(images, labels, num_classes=4)
    assert shares.shape == (4, 4)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
    # each image's mean is the mean of its two numbers by their shares
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), shares @ torch.arange(4.0))
    assert int((shares > 0).sum()) == 8


def test_a_batch_that_is_not_mixed_has_whole_labels() -> None:
    images, labels = torch.rand(2, 1, 4, 4), torch.tensor([2, 0])
    same, shares = Mix(mixup=0.2, probability=0.0)(images, labels, num_classes=3)
    assert torch.equal(same, images) and shares.tolist() == [[0, 0, 1], [1, 0, 0]]


def data_to_mix(**arguments: Any) -> DigitsData:
    return DigitsData(batch_size=32, mix=Mix(mixup=0.4, cutmix=1.0), **arguments)


class Seen(lk.Callback):
    """Notes the labels' shape of training and validation."""

    def __init__(self) -> None:
        self.train: set[int] = set()
        self.val: set[int] = set()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.train.add(batch[1].ndim)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.val.add(batch[1].ndim)


def test_only_training_batches_are_mixed(make_trainer: MakeTrainer) -> None:
    seen = Seen()
    trainer = make_trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=2, callbacks=[seen])
    trainer.fit(ImageClassifier(image_size=8, width=4, label_smoothing=0.1), datamodule=data_to_mix())
    assert (seen.train, seen.val) == ({2}, {1})


def test_on_the_device_batches_are_what_they_are_from_the_loader() -> None:
    plain, on_device = DigitsData(batch_size=50), DigitsData(batch_size=50, on_device=True)
    for data in (plain, on_device):
        data.setup("fit")
    for expected, stored in zip(plain.val_dataloader(), on_device.val_dataloader(), strict=True):
        assert isinstance(stored, StoredBatch)
        assert stored.images.shape == stored.labels.shape and stored.images.dtype == torch.int64  # positions
        images, labels = on_device.on_after_batch_transfer(stored, 0)
        assert torch.equal(images, expected[0]) and torch.equal(labels, expected[1])


def test_transforms_change_each_image_by_itself_and_leave_validation_alone() -> None:
    data = DigitsData(transforms=["RandomHorizontalFlip", {"RandomRotation": {"degrees": 5}}])
    data.setup("fit")
    assert isinstance(data.sets["train"], TensorImages) and isinstance(data.sets["val"], TensorImages)
    assert data.sets["val"].transforms is None
    flipped = TensorImages(
        data.sets["train"].images,
        data.sets["train"].labels,
        mean=[0.0],
        std=[1.0],
        full_scale=1,
        transforms=build_transforms(["RandomHorizontalFlip"], "Test"),
    )
    changed, _ = flipped.__getitems__(range(64))
    images = data.sets["train"].images[:64].float()
    mirrored = [torch.equal(one, image.flip(-1)) for one, image in zip(changed, images, strict=True)]
    assert 10 < sum(mirrored) < 54


def test_transforms_see_the_whole_picture_and_give_the_networks_size(tmp_path: Path, image_folders: Write) -> None:
    image_folders(tmp_path, {"train": 2})
    crop: list[Any] = [{"RandomResizedCrop": {"size": 16, "scale": [0.2, 0.4]}}]
    for transforms in (crop, ["RandomVerticalFlip"]):
        data = ImageFolderData(root=str(tmp_path), image_size=16, val_fraction=0.5, transforms=transforms)
        data.setup("fit")
        images, _ = next(iter(data.train_dataloader()))
        assert images.shape == (3, 3, 16, 16)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ["RandomHorizontalFlop"],
            "DigitsData(transforms=...)[0]: torchvision.transforms.v2 has no 'RandomHorizontalFlop'; "
            "did you mean 'RandomHorizontalFlip'?",
        ),
        (
            ["RandomHorizontalFlip", {"RandomRotation": {"angle": 5}}],
            "DigitsData(transforms=...)[1]: RandomRotation({'angle': 5}) cannot be built: "
            "RandomRotation.__init__() got an unexpected keyword argument 'angle'",
        ),
        (
            [{"MixUp": {"num_classes": 10}}],
            "DigitsData(transforms=...)[0]: MixUp needs whole batches; set data.mix.mixup instead",
        ),
        (
            [{"RandomRotation": 5}],
            "DigitsData(transforms=...)[0]: the arguments of RandomRotation must be given by name, got 5",
        ),
        ([3], "DigitsData(transforms=...)[0]: expected a name, or one name with its arguments, got 3"),
    ],
)
def test_wrong_transform(spec: list[Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DigitsData(transforms=spec)
    assert str(caught.value) == message


def test_transforms_that_normalise_are_refused() -> None:
    data = DigitsData(transforms=[{"ToDtype": {"dtype": torch.float32, "scale": True}}])
    data.setup("fit")
    with pytest.raises(DataError) as caught:
        next(iter(data.train_dataloader()))
    assert str(caught.value) == (
        "TensorImages: the transforms turn uint8 images into torch.float32; leave out ToDtype and Normalize, the "
        "images are normalised afterwards"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixup": -1.0}, "Mix(mixup=-1.0): expected 0 for none, or an alpha above 0"),
        ({"probability": 2.0}, "Mix(probability=2.0): expected a share between 0 and 1"),
    ],
)
def test_wrong_mix(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Mix(**arguments)
    assert str(caught.value) == message


def test_mix_and_transforms_are_set_in_yaml(small_job: Callable[..., Any]) -> None:
    job = small_job(
        "vision/digits", "--data.mix.mixup=0.2", "--data.transforms=[{RandomRotation: {degrees: 3}}]", "--model.width=4"
    )
    job.trainer.fit(job.model, datamodule=job.data)
    assert job.data.mix == Mix(mixup=0.2) and job.data.on_device
    crop = small_job("vision/cifar10_fast").data.augment
    assert crop == RandomCrop(pad=2, flip=True, cutout=0)
    assert small_job("vision/digits").data.augment == RandomAffine(rotate=10, shift=0.08, scale=0.1)


class Linear(lk.LightModule):
    """A linear map of the pixels' means, so that every pixel and label matters."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, targets = batch
        images = torch.stack(images) if isinstance(images, list) else images
        if isinstance(targets, list):  # boxes
            target = torch.stack([each["boxes"].mean(dim=0).sum() for each in targets])
        else:
            target = targets.float().flatten(1).max(dim=1).values if targets.ndim > 1 else targets.float()
        pooled = nn.functional.adaptive_avg_pool2d(images.mean(dim=1), 4).flatten(1)
        return (self.layer(pooled)[:, 0] - target).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


class Stop(lk.Callback):
    """Saves in the middle of the second epoch, and ends the run there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


FLIP_AND_CROP: list[Any] = ["RandomHorizontalFlip", {"RandomRotation": {"degrees": 20}}]
BUILD: dict[str, Callable[[int], Any]] = {
    "images": lambda workers: data_to_mix(
        num_workers=workers, transforms=FLIP_AND_CROP, augment=RandomAffine(rotate=9, flip=True)
    ),
    "resident": lambda workers: data_to_mix(num_workers=workers, augment=RandomCrop(pad=1, cutout=2)),
    "masks": lambda workers: SegmentationData(
        image_size=16, generated=(12, 2, 2), batch_size=4, num_workers=workers, transforms=FLIP_AND_CROP
    ),
    "boxes": lambda workers: DetectionData(
        image_size=16, generated=(12, 2, 2), batch_size=4, num_workers=workers, transforms=["RandomHorizontalFlip"]
    ),
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", list(BUILD))
def test_an_interrupted_and_resumed_run_ends_with_the_same_weights(
    kind: str, workers: int, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    def fit(*callbacks: lk.Callback, ckpt_path: Path | None = None) -> Tensor:
        lk.seed_everything(3, verbose=False)
        model, data = Linear(), BUILD[kind](workers)
        loops = {"limit_train_batches": 3, "limit_val_batches": 0, "logger": False, "enable_checkpointing": False}
        trainer = make_trainer(max_epochs=3, callbacks=list(callbacks), **loops)
        try:
            trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
        except KeyboardInterrupt:
            assert callbacks
        return model.layer.weight.detach().clone()

    whole = fit()
    stopped = fit(Stop(tmp_path / "stop.ckpt"))
    resumed = fit(ckpt_path=tmp_path / "stop.ckpt")
    assert torch.equal(whole, resumed) and not torch.equal(whole, stopped)
