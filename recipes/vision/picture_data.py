"""What the data modules for `Segmenter` and `Detector` share: pictures with more to learn than a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch.utils.data import Dataset

from recipes.datamodule import RecipeData
from recipes.splits import check_fraction
from recipes.vision.files import OnBadFile, check_on_bad_file
from recipes.vision.shapes import PARTS
from recipes.vision.transforms import build_transforms

Sample = TypeVar("Sample")


class LoadedPictures(Dataset[Sample]):
    """Base of the data sets: `load` makes a picture and what belongs to it of an item."""

    def __init__(
        self, items: Sequence[Any], load: Callable[[Any], tuple[Any, ...]], transforms: Callable[..., Any] | None
    ) -> None:
        self.items = items
        self.load = load
        self.transforms = transforms

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.items)


class PictureData(RecipeData):
    """Base of the data modules: makes the set of a part, by `make_set` of a subclass, when a stage needs it.

    Args:
        image_size: height and width, pixels.
        generated: pictures of train, val and test to draw where there are no files.
        fractions: shares that are split off, by the name of their argument.
        batch_size: pictures a batch.
        num_workers: processes that read pictures.
        transforms: transforms of `torchvision.transforms.v2` for the training set; see `transforms.py`.
        on_bad_file: "error" or "skip".
        split_seed: seed of the split.
    """

    sets: dict[str, LoadedPictures[Any]]

    def __init__(
        self,
        image_size: int,
        generated: tuple[int, int, int],
        fractions: dict[str, float],
        batch_size: int,
        num_workers: int,
        transforms: list[Any] | None,
        on_bad_file: OnBadFile,
        split_seed: int,
    ) -> None:
        owner = type(self).__name__
        for name, value in fractions.items():
            check_fraction(owner, name, value)
        check_on_bad_file(owner, on_bad_file)
        super().__init__(batch_size, num_workers)
        self.image_size = image_size
        self.generated = dict(zip(PARTS, generated, strict=True))
        self.transforms = build_transforms(transforms, owner) if transforms else None
        self.on_bad_file: OnBadFile = on_bad_file
        self.split_seed = split_seed

    def setup(self, stage: str) -> None:
        """Make the sets of the parts that the stage needs; pictures are read batch by batch."""
        for part in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
            if part not in self.sets:
                self.sets[part] = self.make_set(part, self.transforms if part == "train" else None)

    def make_set(self, part: str, transforms: Callable[..., Any] | None) -> LoadedPictures[Any]:
        """Return the pictures of a part."""
        raise NotImplementedError
