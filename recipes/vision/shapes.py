"""Synthetic pictures: discs, squares and triangles on noise, with their masks and boxes, drawn from a number.

They make `vision/segmentation` and `vision/detection` run where there is no data, and can be written in the
layouts that these recipes read, as an example of one's own:

    python -m recipes.vision.shapes segmentation FOLDER
    python -m recipes.vision.shapes detection FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SHAPES = ("disc", "square", "triangle")
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Drawing:
    """One synthetic picture.

    Attributes:
        image: uint8 (3, size, size).
        mask: uint8 (size, size); 0 is the background, 1 to 3 the number of the shape in `SHAPES`, from 1.
        boxes: float (objects, 4); left, top, right, bottom of what can be seen of each shape, pixels.
        labels: int64 (objects,); the number of the shape, from 1.
    """

    image: Tensor
    mask: Tensor
    boxes: Tensor
    labels: Tensor


def draw(number: int, size: int = 64, most: int = 3) -> Drawing:
    """Draw picture `number`: the same for the same number and size, whatever else was drawn.

    Args:
        number: which picture.
        size: height and width, pixels.
        most: largest number of shapes; a shape that is nearly hidden by later ones is left out.
    """
    generator = torch.Generator().manual_seed(number)

    def between(low: float, high: float, count: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    axis = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    image = between(0.2, 0.8, 3).view(3, 1, 1).expand(3, size, size).clone()
    owner = torch.zeros(size, size, dtype=torch.int64)  # number of the shape on top, from 1; 0 for none
    kinds = torch.randint(len(SHAPES), (int(between(1, most + 1)),), generator=generator)
    areas = []
    for place, kind in enumerate(kinds.tolist(), start=1):
        half = float(between(0.10, 0.2)) * size
        middle_x, middle_y = between(half, size - half, 2).tolist()
        dx, dy = x - middle_x, y - middle_y
        if kind == 0:
            inside = dx**2 + dy**2 <= half**2
        elif kind == 1:
            inside = torch.maximum(dx.abs(), dy.abs()) <= half * 0.9
        else:  # a triangle that stands on its base
            inside = (dy.abs() <= half) & (dx.abs() <= (dy + half) / 2)
        # a colour far from the background's, whichever that is
        image[:, inside] = ((image[:, :1, 0] + between(0.3, 0.7, 3).view(3, 1)) % 1.0).expand(3, int(inside.sum()))
        owner[inside] = place
        areas.append(int(inside.sum()))
    image = (image + 0.08 * torch.randn(3, size, size, generator=generator)).clamp(0, 1)
    mask = torch.zeros(size, size, dtype=torch.uint8)
    boxes, labels = [], []
    for place, (kind, area) in enumerate(zip(kinds.tolist(), areas, strict=True), start=1):
        seen = owner == place
        mask[seen] = kind + 1
        if int(seen.sum()) >= 0.4 * area:
            rows, columns = seen.nonzero().unbind(dim=1)
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            boxes.append([float(corner) for corner in corners])
            labels.append(kind + 1)
    return Drawing(
        (image * 255).round().to(torch.uint8), mask, torch.tensor(boxes).view(-1, 4), torch.tensor(labels).long()
    )


def numbers_of(part: str, count: int) -> range:
    """Return the numbers of the pictures of a part; no two parts share one."""
    first = PARTS.index(part) * 1_000_000
    return range(first, first + count)


def write_segmentation(
    folder: Path, counts: Sequence[int] = (40, 10, 10), size: int = 64, classes: int = 1 + len(SHAPES)
) -> None:
    """Write `PART/images/NUMBER.jpg` and `PART/masks/NUMBER.png` for train, val and test.

    Args:
        folder: where to.
        counts: pictures of the three parts.
        size: height and width, pixels.
        classes: number of classes, the background included; shapes beyond are taken for earlier classes.
    """
    from PIL import Image

    for part, count in zip(PARTS, counts, strict=True):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for number in numbers_of(part, count):
            drawing = draw(number, size)
            name = f"{number:07d}"
            Image.fromarray(drawing.image.permute(1, 2, 0).numpy()).save(folder / part / "images" / f"{name}.jpg")
            Image.fromarray((drawing.mask % classes).numpy()).save(folder / part / "masks" / f"{name}.png")


def write_detection(
    folder: Path, counts: Sequence[int] = (40, 10, 10), size: int = 64, classes: int = len(SHAPES)
) -> None:
    """Write `PART/images/NUMBER.jpg` and `PART/annotations.json`, in COCO's form, for train, val and test.

    Args:
        folder: where to.
        counts: pictures of the three parts.
        size: height and width, pixels.
        classes: number of categories; shapes beyond are taken for earlier ones.
    """
    from PIL import Image

    names = [*SHAPES, *(f"class{number}" for number in range(len(SHAPES), classes))][:classes]
    for part, count in zip(PARTS, counts, strict=True):
        (folder / part / "images").mkdir(parents=True, exist_ok=True)
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for number in numbers_of(part, count):
            drawing, name = draw(number, size), f"{number:07d}.jpg"
            Image.fromarray(drawing.image.permute(1, 2, 0).numpy()).save(folder / part / "images" / name)
            images.append({"id": number, "file_name": name, "width": size, "height": size})
            for (left, top, right, bottom), label in zip(
                drawing.boxes.tolist(), drawing.labels.tolist(), strict=True
            ):
                box = [left, top, right - left, bottom - top]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": (label - 1) % classes + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
        coco = {"images": images, "annotations": annotations, "categories": categories}
        (folder / part / "annotations.json").write_text(json.dumps(coco), encoding="utf-8")


if __name__ == "__main__":
    writers = {"segmentation": write_segmentation, "detection": write_detection}
    if len(sys.argv) != 3 or sys.argv[1] not in writers:
        raise SystemExit("usage: python -m recipes.vision.shapes segmentation|detection FOLDER")
    writers[sys.argv[1]](Path(sys.argv[2]))
    print(f"wrote {sys.argv[2]}")
