"""Pictures with a mask of the same size, one class number a pixel, for `Segmenter`.

Every batch is `(images, masks)`: float32 (batch, 3, size, size), normalised, and int64 (batch, size, size).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lightkit as lk
from lightkit.errors import ConfigError, DataError, MissingDataError, require
from recipes.listing import entries
from recipes.splits import part_of
from recipes.vision.files import OnBadFile, fit_square, is_turned, keep_usable, open_picture, to_tensor
from recipes.vision.picture_data import LoadedPictures, PictureData
from recipes.vision.raw import PictureInput
from recipes.vision.shapes import SHAPES, Drawing, draw, numbers_of, write_segmentation

Batch = tuple[Tensor, Tensor]
Pair = tuple[str, str]  # an image file and its mask
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, as torchvision's weights expect
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # without loss; a JPEG would invent classes


class MaskedImages(LoadedPictures[Batch]):
    """Serve pictures and masks; `load` makes uint8 (3, size, size) and (size, size) of an item."""

    def __init__(
        self,
        items: Sequence[Any],
        load: Callable[[Any], Batch],
        image_size: int,
        transforms: Callable[..., Any] | None,
    ) -> None:
        super().__init__(items, load, transforms)
        self.image_size = image_size

    def __getitem__(self, index: int) -> Batch:
        """Return one picture, normalised, and its mask, int64."""
        image, mask = self.load(self.items[index])
        if self.transforms is not None:
            from torchvision import tv_tensors

            image, mask = self.transforms(tv_tensors.Image(image), tv_tensors.Mask(mask))
            if image.shape[-2:] != (self.image_size, self.image_size) or image.dtype != torch.uint8:
                raise DataError(
                    f"SegmentationData(transforms=...): gave {image.dtype} of {tuple(image.shape)}; expected uint8 "
                    f"of {self.image_size}x{self.image_size} pixels, so use transforms that keep or restore these"
                )
            image, mask = image.as_subclass(Tensor), mask.as_subclass(Tensor)
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        return (image / 255 - mean) / std, mask.long()

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return the batch of these positions."""
        images, masks = zip(*(self[index] for index in indices), strict=True)
        return torch.stack(images), torch.stack(masks)


class SegmentationData(PictureData):
    """Pictures and masks in two folders, or synthetic ones, each brought to a square of `image_size` pixels.

    Layouts, seen from `root`; a mask has the name of its picture, its pixels hold class numbers (a grey or
    palette PNG):

        images/NAME.jpg  masks/NAME.png              parts are split off at random
        train/images/*.jpg  train/masks/*.png  val/...  test/...

    Args:
        root: folder of the pictures; None draws discs, squares and triangles on noise (`shapes.py`): synthetic.
        class_names: names of the classes, by number; 0 is usually the background. None for the synthetic ones'.
        image_size: height and width of what the network sees, pixels.
        ignore_index: mask value that counts for nothing, such as a border.
        generated: pictures of train, val and test to draw where `root` is None.
        val_fraction: share that validates where there are no parts, or no val.
        test_fraction: share that tests where there are no parts.
        batch_size: pictures a batch.
        num_workers: processes that read pictures.
        transforms: transforms of `torchvision.transforms.v2` for pictures and masks of the training set; see
            `transforms.py`.
        on_bad_file: "error" ends the run at the first picture or mask that cannot be used; "skip" reads all once
            at the start, leaves those out and warns with their number.
        split_seed: seed of the split.

    Raises:
        ConfigError: an argument that cannot work.
        DataError: no such folder, a picture without mask, a mask of another size or with an unknown class, a
            file that is no image; names the file.
    """

    def __init__(
        self,
        root: str | None = None,
        class_names: list[str] | None = None,
        image_size: int = 64,
        ignore_index: int = 255,
        generated: tuple[int, int, int] = (800, 100, 200),
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 16,
        num_workers: int = 0,
        transforms: list[Any] | None = None,
        on_bad_file: OnBadFile = "error",
        split_seed: int = 42,
    ) -> None:
        fractions = {"val_fraction": val_fraction, "test_fraction": test_fraction}
        super().__init__(
            image_size, generated, fractions, batch_size, num_workers, transforms, on_bad_file, split_seed
        )
        if root is not None and not class_names:
            raise ConfigError(
                f"SegmentationData(root={root!r}): set class_names, the names of the masks' classes 0, 1, ..."
            )
        self.root = None if root is None else Path(root)
        self.class_names = list(class_names or ["background", *SHAPES])
        self.ignore_index = ignore_index
        self.fractions = {"val": val_fraction, "test": test_fraction}
        # not to the loggers: class_names and ignore_index are the module's too
        self.save_hyperparameters(logger=False)

    @property
    def picture_input(self) -> PictureInput:
        """How an image file becomes an input like those of this data."""
        return PictureInput(self.class_names, MEAN, STD, self.image_size, 3)

    def make_set(self, part: str, transforms: Callable[..., Any] | None) -> MaskedImages:
        """Return the pictures and masks of a part."""
        if self.root is None:
            drawn = [draw(number, self.image_size) for number in numbers_of(part, self.generated[part])]
            return MaskedImages(drawn, _image_and_mask, self.image_size, transforms)
        pairs = keep_usable(
            self._pairs(self.root, part), self.load_pair, owner="SegmentationData", on_bad_file=self.on_bad_file
        )
        return MaskedImages(pairs, self.load_pair, self.image_size, transforms)

    def _pairs(self, root: Path, part: str) -> list[Pair]:
        """Return picture and mask file of a part, in the order of their names."""
        has_parts = (root / "train").is_dir()
        if has_parts and part == "test" and not (root / "test").is_dir():
            raise MissingDataError(
                f"SegmentationData: no folder {root / 'test'}; this stage needs {root / 'test'}/images and masks"
            )
        if has_parts and (part == "test" or (root / "val").is_dir()):
            return _pairs_in(root / part)
        everything = _pairs_in(root / "train" if has_parts else root)
        fractions = {**self.fractions, "test": 0.0} if has_parts else self.fractions
        return [everything[i] for i in part_of(part, len(everything), fractions, self.split_seed)]

    def load_pair(self, pair: Pair) -> Batch:
        """Return picture and mask as squares, uint8 (3, size, size) and (size, size).

        Raises:
            DataError: one of them cannot be used; names the file.
        """
        image_file, mask_file = pair
        picture, mask = open_picture(image_file, "RGB"), open_picture(mask_file, None)
        if picture.size != mask.size:
            shown = " as it is shown, by its EXIF orientation" if is_turned(image_file) else ""
            raise DataError(
                f"{mask_file}: {mask.width}x{mask.height} pixels, but {image_file} has {picture.width}x"
                f"{picture.height}{shown}; a mask must have the size of its picture"
            )
        if mask.mode not in ("P", "L", "I"):
            raise DataError(
                f"{mask_file}: a mask of mode {mask.mode}; expected one class number a pixel, a grey or palette image"
            )
        square = to_tensor(fit_square(mask, self.image_size, smooth=False))[0].long()
        return to_tensor(fit_square(picture, self.image_size)), self._checked(square, mask_file)

    def _checked(self, mask: Tensor, mask_file: str) -> Tensor:
        known = (mask >= 0) & (mask < len(self.class_names)) | (mask == self.ignore_index)
        if not bool(known.all()):
            value = int(mask[~known][0])
            raise DataError(
                f"{mask_file}: class {value}, but the classes are numbered 0 to {len(self.class_names) - 1} "
                f"({', '.join(self.class_names[:10])}), and {self.ignore_index} is ignored; "
                "add its name to data.class_names, or correct the mask"
            )
        return mask

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write drawings with masks of the classes asked for, and read those; for `lightkit check`."""
        write_segmentation(root, (8, 4, 4), size=self.image_size, classes=len(self.class_names))
        self.root = root


def _image_and_mask(drawing: Drawing) -> Batch:
    return drawing.image, drawing.mask


def _pairs_in(folder: Path) -> list[Pair]:
    """Return every picture of `folder/images` with its mask of `folder/masks`."""
    suffixes = require("torchvision.datasets.folder", "vision", needed_by="SegmentationData").IMG_EXTENSIONS
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise MissingDataError(
                f"SegmentationData: no folder {folder / kind}; expected {folder}/images/NAME.jpg and "
                f"{folder}/masks/NAME.png (set data.root)"
            )
    masks = {path.stem: path for path in entries(folder / "masks") if path.suffix.lower() in _MASK_SUFFIXES}
    pictures = [path for path in entries(folder / "images") if path.suffix.lower() in suffixes]
    if not pictures:
        raise DataError(f"SegmentationData: no images in {folder / 'images'}; read are {', '.join(suffixes)}")
    for path in pictures:
        if path.stem not in masks:
            raise DataError(f"{path}: no mask; expected {folder / 'masks' / path.stem}.png")
    return [(str(path), str(masks[path.stem])) for path in pictures]
