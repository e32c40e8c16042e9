"""Pictures with boxes around their objects, for `Detector`.

Every batch is `(images, targets)`: a list of float32 (3, height, width) from 0 to 1, of any sizes, and a list of
dicts with `boxes`, float32 (objects, 4): left, top, right, bottom in pixels, and `labels`, int64 (objects,),
numbers of the classes from 1, as torchvision's detection models take them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lightkit as lk
from lightkit.errors import DataError, MissingDataError
from recipes.splits import part_of
from recipes.vision.coco import LabelledImage, read_coco
from recipes.vision.files import OnBadFile, keep_usable
from recipes.vision.picture_data import LoadedPictures, PictureData
from recipes.vision.shapes import PARTS, SHAPES, Drawing, draw, numbers_of, write_detection

Target = dict[str, Tensor]
Batch = tuple[list[Tensor], list[Target]]
Labelled = tuple[Tensor, Tensor, Tensor]  # image, boxes, labels


class BoxedImages(LoadedPictures[tuple[Tensor, Target]]):
    """Serve pictures and boxes; `load` makes an image, uint8 (3, height, width), boxes and labels of an item."""

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Return one picture, from 0 to 1, and its target."""
        image, boxes, labels = self.load(self.items[index])
        target = {"boxes": boxes, "labels": labels}
        if self.transforms is not None:
            image, target = self._changed(image, target)
        return image / 255, target

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return the batch of these positions."""
        images, targets = zip(*(self[index] for index in indices), strict=True)
        return list(images), list(targets)

    def _changed(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        assert self.transforms is not None
        size = (image.shape[-2], image.shape[-1])
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
        picture, changed = self.transforms(tv_tensors.Image(image), {**target, "boxes": boxes})
        # a crop may have left nothing of an object
        picture, changed = v2.SanitizeBoundingBoxes(min_size=1)(picture, changed)
        if picture.dtype != torch.uint8:
            raise DataError(
                f"DetectionData(transforms=...): gave {picture.dtype}; leave out ToDtype and Normalize, the model "
                "normalises"
            )
        return picture.as_subclass(Tensor), {name: value.as_subclass(Tensor) for name, value in changed.items()}


class DetectionData(PictureData):
    """Pictures with boxes in COCO's form, or synthetic ones.

    Layouts, seen from `root`:

        train/images/*.jpg  train/annotations.json  val/...  test/...      val and test may be missing

    For the layout that COCO comes in, give files and folders by name: `train_annotations`, `train_images`, ...
    Without val, `val_fraction` of train validates; without test, asking for one is an error.

    Args:
        root: folder of the parts; None draws discs, squares and triangles on noise (`shapes.py`): synthetic.
        train_images: another folder than `root/train/images`; the same for val and test.
        train_annotations: another file than `root/train/annotations.json`; the same for val and test.
        val_images: folder of the pictures that validate.
        val_annotations: their annotations.
        test_images: folder of the pictures to test.
        test_annotations: their annotations.
        image_size: height and width of the synthetic pictures, pixels; files keep their size.
        generated: pictures of train, val and test to draw where there are no files.
        val_fraction: share of train that validates where there is no val.
        batch_size: pictures a batch.
        num_workers: processes that read pictures.
        transforms: transforms of `torchvision.transforms.v2` for pictures and boxes of the training set; see
            `transforms.py`.
        on_bad_file: "error" ends the run at the first row or file that cannot be used; "skip" reads all once at
            the start, leaves those out and warns with their number.
        split_seed: seed of the choice of pictures to validate.

    Attributes:
        class_names: the names of the classes 1, 2, ...; known after `setup`.

    Raises:
        ConfigError: an argument that cannot work.
        DataError: a file or folder is not there, a row or an image cannot be used; names file and row.
    """

    class_names: list[str]

    def __init__(
        self,
        root: str | None = None,
        train_images: str | None = None,
        train_annotations: str | None = None,
        val_images: str | None = None,
        val_annotations: str | None = None,
        test_images: str | None = None,
        test_annotations: str | None = None,
        image_size: int = 64,
        generated: tuple[int, int, int] = (400, 50, 100),
        val_fraction: float = 0.1,
        batch_size: int = 8,
        num_workers: int = 0,
        transforms: list[Any] | None = None,
        on_bad_file: OnBadFile = "error",
        split_seed: int = 42,
    ) -> None:
        fractions = {"val_fraction": val_fraction}
        super().__init__(
            image_size, generated, fractions, batch_size, num_workers, transforms, on_bad_file, split_seed
        )
        folder = Path(root or "")
        named = {
            "train": (train_annotations, train_images),
            "val": (val_annotations, val_images),
            "test": (test_annotations, test_images),
        }
        self.files = {
            part: (
                Path(annotations or folder / part / "annotations.json"),
                Path(images or folder / part / "images"),
            )
            for part, (annotations, images) in named.items()
        }
        self.is_generated = root is None and train_annotations is None and test_annotations is None
        # a file that was named must be there; the usual one may be missing
        self.has_val = val_annotations is not None or (root is not None and self.files["val"][0].is_file())
        self.val_fraction = val_fraction
        self.save_hyperparameters(logger=False)

    def make_set(self, part: str, transforms: Callable[..., Any] | None) -> BoxedImages:
        """Return the pictures and boxes of a part."""
        if self.is_generated:
            self.class_names = list(SHAPES)
            drawn = [draw(number, self.image_size) for number in numbers_of(part, self.generated[part])]
            return BoxedImages(drawn, _of_drawing, transforms)
        images = keep_usable(
            self._images(part), LabelledImage.read, owner="DetectionData", on_bad_file=self.on_bad_file
        )
        return BoxedImages(images, _of_file, transforms)

    def _images(self, part: str) -> list[LabelledImage]:
        is_split = part != "test" and not self.has_val
        annotations, folder = self.files["train" if is_split else part]
        if not folder.is_dir():
            raise MissingDataError(
                f"DetectionData: no folder {folder}; expected the images that {annotations} lists there"
            )
        images, names = read_coco(annotations, folder, owner="DetectionData", on_bad_file=self.on_bad_file)
        known = getattr(self, "class_names", names)
        if names != known:
            raise DataError(
                f"{annotations}: the categories are {', '.join(names)}, but another part has {', '.join(known)}"
            )
        self.class_names = names
        if is_split:
            fractions = {"val": self.val_fraction, "test": 0.0}
            images = [images[i] for i in part_of(part, len(images), fractions, self.split_seed)]
        return images

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write drawings with as many categories as the model has classes, and read those; for `lightkit check`."""
        write_detection(root, (8, 4, 4), size=self.image_size, classes=int(getattr(model, "num_classes", 3)))
        self.files = {part: (root / part / "annotations.json", root / part / "images") for part in PARTS}
        self.has_val, self.is_generated = True, False


def _of_drawing(drawing: Drawing) -> Labelled:
    return drawing.image, drawing.boxes, drawing.labels


def _of_file(image: LabelledImage) -> Labelled:
    return image.read(), image.boxes, image.labels
