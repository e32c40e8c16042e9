"""Boxes of objects from a file in COCO's form, checked row by row before an image is read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightkit.errors import DataError, MissingDataError
from recipes.vision.files import OnBadFile, is_turned, open_picture, to_tensor, warn_of_skipped

_EDGE = 1.0  # pixels that a box may lie outside: rounding, which is cut off
_FORM = (
    '{"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}], '
    '"annotations": [{"image_id", "category_id", "bbox": [left, top, width, height]}]}'
)


@dataclass(frozen=True)
class LabelledImage:
    """One image file and the objects in it.

    Attributes:
        path: the file.
        size: (width, height) as the annotations say, pixels.
        boxes: float (objects, 4); left, top, right, bottom, pixels.
        labels: int64 (objects,); numbers of the classes, from 1.
        source: the file of the annotations, for errors.
    """

    path: str
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    source: str

    def read(self) -> Tensor:
        """Return the image, uint8 (3, height, width), as it is shown: boxes and size are in those coordinates.

        Raises:
            DataError: it cannot be read, or has another size than the annotations say; names the file.
        """
        picture = open_picture(self.path, "RGB")
        if picture.size != self.size:
            shown = "as it is shown, by its EXIF orientation, " if is_turned(self.path) else ""
            raise DataError(
                f"{self.path}: {picture.width}x{picture.height} pixels, {shown}but {self.source} says "
                f"{self.size[0]}x{self.size[1]}; the boxes would not fit"
            )
        return to_tensor(picture)


@dataclass(frozen=True)
class _Image:
    file_name: str
    width: int
    height: int


def read_coco(
    path: Path, folder: Path, *, owner: str, on_bad_file: OnBadFile
) -> tuple[list[LabelledImage], list[str]]:
    """Read a file of annotations; crowds (`iscrowd`) are left out, boxes cut off at the image's border.

    Args:
        path: the JSON file.
        folder: where the images are.
        owner: whose data this is, for errors.
        on_bad_file: "error", or "skip" to leave out rows that cannot be used and warn with their number.

    Returns:
        The images in the order of the file, and the names of the classes 1, 2, ..., in the order of their ids.

    Raises:
        MissingDataError: the file is not there.
        DataError: it is not in COCO's form; a row names no image or class, or its box is
            empty or outside the image. Says which row.
    """
    content = _parse(path, owner)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    numbers = {category["id"]: number for number, category in enumerate(categories, start=1)}
    images = {image["id"]: _Image(image["file_name"], image["width"], image["height"]) for image in content["images"]}
    boxes: dict[Any, list[tuple[list[float], int]]] = {key: [] for key in images}
    problems = []
    for row, annotation in enumerate(content["annotations"]):
        problem = _problem(annotation, images, numbers)
        if problem is None:
            if not annotation.get("iscrowd", 0):
                image = images[annotation["image_id"]]
                boxes[annotation["image_id"]].append((_corners(annotation, image), numbers[annotation["category_id"]]))
            continue
        where = f"{path}: annotations[{row}] (id {annotation.get('id')}): {problem}"
        if on_bad_file == "error":
            raise DataError(f"{where}; correct the row, or set data.on_bad_file to skip")
        problems.append(where)
    warn_of_skipped(problems, len(content["annotations"]), owner=owner, what="annotations")
    found = [_labelled(folder / image.file_name, image, boxes[key], path) for key, image in images.items()]
    return found, [str(category["name"]) for category in categories]


def _labelled(file: Path, image: _Image, boxes: list[tuple[list[float], int]], source: Path) -> LabelledImage:
    corners = torch.tensor([box for box, _ in boxes], dtype=torch.float32).view(-1, 4)
    labels = torch.tensor([label for _, label in boxes], dtype=torch.int64)
    return LabelledImage(str(file), (image.width, image.height), corners, labels, str(source))


def _parse(path: Path, owner: str) -> dict[str, Any]:
    if not path.is_file():
        raise MissingDataError(f"{owner}: no file {path}; expected COCO's form, {_FORM}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # JSONDecodeError says line and column; UnicodeDecodeError the byte
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    needed: dict[str, tuple[str, ...]] = {
        "images": ("id", "file_name", "width", "height"),
        "categories": ("id", "name"),
        "annotations": (),
    }
    for name, keys in needed.items():
        rows = content.get(name) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DataError(f"{path}: no list {name!r}; expected COCO's form, {_FORM}")
        for row, entry in enumerate(rows):
            missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
            if missing:
                raise DataError(f"{path}: {name}[{row}] has no {', '.join(map(repr, missing))}")
    for row, image in enumerate(content["images"]):
        size = (image["width"], image["height"])
        if not all(_is_number(side) and side > 0 for side in size):
            raise DataError(f"{path}: images[{row}]: width and height {size}; expected numbers of pixels above 0")
    for name in ("images", "categories"):
        if not content[name]:
            raise DataError(f"{path}: the list {name!r} is empty")
    return dict(content)


def _problem(annotation: Any, images: dict[Any, _Image], numbers: dict[Any, int]) -> str | None:
    """Say what is wrong with a row, or return None."""
    if not isinstance(annotation, dict):
        return f"expected an object, got {annotation!r}"
    image = images.get(annotation.get("image_id"))
    if image is None:
        return f"no image has the id {annotation.get('image_id')!r} (image_id)"
    if annotation.get("category_id") not in numbers:
        known = ", ".join(map(str, list(numbers)[:10]))
        return f"no category has the id {annotation.get('category_id')!r} (category_id; there are {known})"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"bbox {box}; expected four numbers: left, top, width, height"
    left, top, width, height = box
    if width <= 0 or height <= 0:
        return f"bbox {box} is empty; width and height must be above 0"
    inside = left >= -_EDGE and top >= -_EDGE
    if not inside or left + width > image.width + _EDGE or top + height > image.height + _EDGE:
        return f"bbox {box} lies outside the image {image.file_name} of {image.width}x{image.height} pixels"
    if min(_sides(_corners(annotation, image))) <= 0:
        return f"bbox {box} is empty inside the image {image.file_name} of {image.width}x{image.height} pixels"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _corners(annotation: dict[str, Any], image: _Image) -> list[float]:
    left, top, width, height = annotation["bbox"]
    return [
        max(left, 0.0),
        max(top, 0.0),
        min(left + width, float(image.width)),
        min(top + height, float(image.height)),
    ]


def _sides(corners: list[float]) -> tuple[float, float]:
    return corners[2] - corners[0], corners[3] - corners[1]
