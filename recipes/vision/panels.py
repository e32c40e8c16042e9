"""Pictures beside their truth and what the network made of them, after a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import lightkit as lk
from recipes.plots import new_figure, publish

# of classes 1, 2, ...; the background stays as it is; from Okabe and Ito's palette for all kinds of sight
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def color_of(number: int) -> str:
    """Return the colour of class `number`, from 1; after the last it begins again."""
    return COLORS[(number - 1) % len(COLORS)]


def to_bytes(image: Tensor) -> Tensor:
    """Return a float image (3, height, width), of any range, as uint8 on the CPU, its range stretched to 0 to 255."""
    image = image.detach().float().cpu()
    low, high = image.min(), image.max()
    return ((image - low) / (high - low).clamp(min=1e-8) * 255).round().to(torch.uint8)


class Panels(lk.Callback):
    """Draws, after a test, `plots/predictions.png`: rows of pictures side by side, of the first images tested.

    Needs a `test_step` that returns a dict with `panels`: rows of one uint8 picture (3, height, width) per title.

    Args:
        titles: what is in the columns.
        rows: how many images to draw.
    """

    def __init__(self, titles: Sequence[str], rows: int = 6) -> None:
        self.titles = tuple(titles)
        self.rows = rows
        self.found: list[Sequence[Tensor]] = []

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget an earlier test."""
        self.found = []

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first rows."""
        self.found += outputs["panels"][: self.rows - len(self.found)]

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Draw them."""
        if not self.found or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        columns = len(self.titles)
        figure = new_figure(2.6 * columns, 2.6 * len(self.found) + 0.3)
        grid = figure.subplots(len(self.found), columns, squeeze=False)
        for place, row in enumerate(self.found):
            for axes, picture, title in zip(grid[place], row, self.titles, strict=True):
                axes.imshow(picture.permute(1, 2, 0).numpy())
                axes.set_axis_off()
                if place == 0:
                    axes.set_title(title, fontsize=10)
        publish(trainer, "predictions", figure)
