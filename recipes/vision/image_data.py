"""What the data modules for `ImageClassifier` share: arguments, loaders, and the work on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.errors import ConfigError, DataError
from recipes.vision.augment import Mix, RandomAffine, RandomCrop
from recipes.vision.images import Batch, ImageSet, StoredBatch
from recipes.vision.raw import PictureInput
from recipes.vision.transforms import build_transforms


def as_fetched(batch: Any) -> Any:
    """Return the batch: `__getitems__` has collated it already."""
    return batch


def check_fraction(owner: str, name: str, value: float) -> None:
    """Raise ConfigError unless `value` is a share between 0 and 1."""
    if not 0 < value < 1:
        raise ConfigError(f"{owner}({name}={value}): expected a share between 0 and 1, such as 0.1")


class ImageData(lk.LightDataModule):
    """Base of the data modules: the loaders over the three sets, which `setup` of a subclass makes.

    Subclasses take these arguments too, and pass them on.

    Args:
        batch_size: images a batch.
        num_workers: processes that prepare batches; 0 is the fastest for images in memory.
        augment: random changes to whole batches of training images; None for none.
        transforms: transforms of `torchvision.transforms.v2` for each training image, before `augment`;
            see `transforms.py`.
        mix: MixUp and CutMix of training batches, on the device; labels become shares of the classes.
        on_device: normalise and augment on the device; images in memory are kept there. Implied by `mix`.
        drop_last: leave out the last training batch where it is short, for kernels tuned to one shape.
        split_seed: seed of the split into parts, where there is one.

    Attributes:
        class_names: the names of the classes, by number; known after `setup`.
        image_shape: (channels, height, width) of every image; known after `setup`.
        mean: of each channel, where the largest stored value counts as 1; known after `setup`.
        std: the standard deviation to the same scale.
    """

    class_names: list[str]
    image_shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: RandomAffine | RandomCrop | None = None,
        transforms: list[Any] | None = None,
        mix: Mix | None = None,
        on_device: bool = False,
        drop_last: bool = False,
        split_seed: int = 42,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if batch_size < 1:
            raise ConfigError(f"{owner}(batch_size={batch_size}): expected at least 1")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augment = augment
        self.transforms = build_transforms(transforms, owner) if transforms else None
        self.mix = mix
        self.on_device = on_device or mix is not None
        self.drop_last = drop_last
        self.split_seed = split_seed
        self.train_set: ImageSet | None = None
        self.val_set: ImageSet | None = None
        self.test_set: ImageSet | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """What a training set does to its images, as arguments of `ImageSet`."""
        return {"augment": self.augment, "transforms": self.transforms}

    @property
    def picture_input(self) -> PictureInput:
        """How an image file becomes an input like those of this data; known after `setup`."""
        channels, image_size, _ = self.image_shape
        return PictureInput(list(self.class_names), list(self.mean), list(self.std), image_size, channels)

    def _loader(self, part: str) -> DataLoader[Any]:
        images: ImageSet | None = getattr(self, f"{part}_set")
        assert images is not None, "setup() comes before the loaders"
        images.part = part if self.on_device else None
        is_training = part == "train"
        return DataLoader(
            images,
            batch_size=self.batch_size,
            shuffle=is_training,
            drop_last=is_training and self.drop_last,
            num_workers=self.num_workers,
            collate_fn=as_fetched,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training images, shuffled and changed at random."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation images, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test images, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test images, in order."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise, augment and mix on the device what comes as `StoredBatch`; pass on all else."""
        if not isinstance(batch, StoredBatch):
            return batch
        images: ImageSet = getattr(self, f"{batch.part}_set")
        finished: Batch = (images.finish(batch.images), batch.labels)
        if self.mix is None or batch.part != "train":
            return finished
        return self.mix(*finished, num_classes=len(self.class_names))


def check_labels(labels: Tensor, class_names: Sequence[str], where: str) -> None:
    """Raise DataError that names the first row whose label is no number of a class.

    Args:
        labels: int64 (images,).
        class_names: the names of the classes, by number.
        where: the file that holds the labels.
    """
    wrong = ((labels < 0) | (labels >= len(class_names))).nonzero().flatten()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}, row {row}: label {int(labels[row])}, but the classes are numbered 0 to "
            f"{len(class_names) - 1} ({len(wrong):,} of {len(labels):,} labels are wrong)"
        )
