"""What the data modules for `ImageClassifier` share: arguments, and the work on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

import lightkit as lk
from lightkit.errors import DataError
from recipes.datamodule import RecipeData
from recipes.vision.augment import Mix, RandomAffine, RandomCrop
from recipes.vision.images import Batch, ImageSet, StoredBatch
from recipes.vision.raw import PictureInput
from recipes.vision.transforms import build_transforms


class ImageData(RecipeData):
    """Base of the data modules: what is done to the images of the sets, which `setup` of a subclass makes.

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

    sets: dict[str, ImageSet]
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
        super().__init__(batch_size, num_workers)
        self.augment = augment
        self.transforms = build_transforms(transforms, type(self).__name__) if transforms else None
        self.mix = mix
        self.on_device = on_device or mix is not None
        self.drop_last = drop_last
        self.split_seed = split_seed

    def treatment(self, part: str, full_scale: int = 255) -> dict[str, Any]:
        """Return what is done to the stored images of a part, as arguments of `ImageSet`."""
        changes = {"augment": self.augment, "transforms": self.transforms} if part == "train" else {}
        where = part if self.on_device else None
        return {"mean": self.mean, "std": self.std, "full_scale": full_scale, "part": where, **changes}

    def loading(self, part: str) -> dict[str, Any]:
        """Return the arguments of the `DataLoader` over a part."""
        return {**super().loading(part), "drop_last": part == "train" and self.drop_last}

    @property
    def picture_input(self) -> PictureInput:
        """How an image file becomes an input like those of this data; known after `setup`."""
        channels, image_size, _ = self.image_shape
        return PictureInput(list(self.class_names), list(self.mean), list(self.std), image_size, channels)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise, augment and mix on the device what comes as `StoredBatch`; pass on all else."""
        if not isinstance(batch, StoredBatch):
            return batch
        images = self.sets[batch.part]
        finished: Batch = (images.finish(batch.images), batch.labels)
        if self.mix is None or batch.part != "train":
            return finished
        return self.mix(*finished, num_classes=len(self.class_names))


def training_images(trainer: lk.Trainer) -> ImageSet | None:
    """Return the images that the data module of a run trains with; None where it is no `ImageData`."""
    data = trainer.datamodule
    return data.sets.get("train") if isinstance(data, ImageData) else None


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
