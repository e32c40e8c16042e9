"""Pictures beside their truth and what the network made of them, after a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import lightkit as lk
from recipes.plots import new_figure, publish, should_publish

# of classes 1, 2, ...; the background stays as it is; from Okabe and Ito's palette for all kinds of sight
_SIDE = 256  # pixels, about, of what is drawn
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def color_of(number: int) -> str:
    """Return the colour of class `number`, from 1; after the last it begins again."""
    return COLORS[(number - 1) % len(COLORS)]


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of each class; the names are of the classes 1, 2, ..."""
    return {name: color_of(number) for number, name in enumerate(names, start=1)}


def to_bytes(image: Tensor) -> Tensor:
    """Return a float image (3, height, width) as uint8 on the CPU, its range stretched to 0 to 255.

    Small images are enlarged, so that what is drawn over them stays thin.
    """
    image = image.detach().float().cpu()
    low, high = image.min(), image.max()
    pixels = ((image - low) / (high - low).clamp(min=1e-8) * 255).round().to(torch.uint8)
    return enlarged(pixels)


def enlargement(image: Tensor) -> int:
    """Return how many times larger, height and width, an image (..., height, width) is drawn."""
    return max(1, round(_SIDE / max(image.shape[-2:])))


def enlarged(image: Tensor) -> Tensor:
    """Return an image or mask (..., height, width) with each pixel repeated, so that it is about 256 pixels large."""
    times = enlargement(image)
    return image.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2)


class Panels(lk.Callback):
    """Draws, after a test, `plots/predictions.png`: rows of pictures side by side, of the first images tested.

    Needs a `test_step` that returns a dict with `panels`: rows of one uint8 picture (3, height, width) per title,
    and `colors`: name of each class to its colour.

    Args:
        titles: what is in the columns.
        rows: how many images to draw.
    """

    def __init__(self, titles: Sequence[str], rows: int = 4) -> None:
        self.titles = tuple(titles)
        self.rows = rows
        self.found: list[Sequence[Tensor]] = []
        self.colors: dict[str, str] = {}

    def on_test_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Forget an earlier test."""
        self.found = []

    def on_test_batch_end(
        self,
        trainer: lk.Trainer,
        pl_module: lk.LightModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first rows."""
        self.colors = outputs["colors"]
        self.found += outputs["panels"][: self.rows - len(self.found)]

    def on_test_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Draw them."""
        if not self.found or not should_publish(trainer):
            return
        from matplotlib.patches import Patch

        columns = len(self.titles)
        figure = new_figure(2.3 * columns, 2.3 * len(self.found) + 0.7)
        grid = figure.subplots(len(self.found), columns, squeeze=False)
        for place, row in enumerate(self.found):
            for axes, picture, title in zip(grid[place], row, self.titles, strict=True):
                axes.imshow(picture.permute(1, 2, 0).numpy())
                axes.set_axis_off()
                if place == 0:
                    axes.set_title(title, fontsize=10)
        patches = [Patch(color=color, label=name) for name, color in self.colors.items()]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(4, len(patches)), fontsize=8)
        publish(trainer, "predictions", figure)
