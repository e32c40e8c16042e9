"""Pixels of a data set's images, and grids of small pictures: what recipes that make images share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import lightkit as lk
from lightkit.errors import DataError, require
from recipes.plots import should_publish
from recipes.vision.images import ImageSet

_SHOWN_PIXELS = 56  # at least; smaller images are enlarged by a whole factor


class PixelRange(nn.Module):
    """Converts normalised images of a data module to pixels, black 0 and white 1, and back.

    The range is measured once and travels in the checkpoint.
    """

    low: Tensor
    high: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(1, channels, 1, 1))
        self.register_buffer("high", torch.ones(1, channels, 1, 1))

    def measure(self, images: ImageSet) -> None:
        """Take the range from the first stored images."""
        stored, _ = images.stored(range(min(256, len(images))))
        factor, offset = images.factor.to(self.low), images.offset.to(self.low)
        self.low.copy_(offset.expand_as(self.low))
        self.high.copy_((stored.max() * factor + offset).expand_as(self.high))

    def to_pixels(self, images: Tensor) -> Tensor:
        """Return normalised images (batch, channels, height, width) as pixels from 0 to 1."""
        return ((images - self.low) / (self.high - self.low)).clamp(0, 1)


def check_shape(owner: str, trainer: lk.Trainer, in_channels: int, image_size: int) -> None:
    """Raise DataError where the data module's images have other channels or another size than the network."""
    shape: tuple[int, int, int] | None = getattr(trainer.datamodule, "image_shape", None)
    if shape is not None and shape != (in_channels, image_size, image_size):
        raise DataError(
            f"{owner}(in_channels={in_channels}, image_size={image_size}): the data has {shape[0]} channels of "
            f"{shape[1]}x{shape[2]} pixels; set model.in_channels to {shape[0]} and model.image_size to {shape[1]}"
        )


def grid(pictures: Tensor, columns: int) -> Tensor:
    """Return pictures (count, channels, height, width) from 0 to 1 in rows, uint8 (1 or 3, height, width)."""
    make_grid: Callable[..., Tensor] = require(
        "torchvision.utils", "vision", needed_by="the pictures of a recipe"
    ).make_grid
    factor = max(1, -(-_SHOWN_PIXELS // pictures.shape[-1]))
    large = pictures.detach().float().cpu().repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    return (make_grid(large, nrow=columns, padding=4, pad_value=0.5) * 255).round().to(torch.uint8)


class PictureGrid(lk.Callback):
    """Draws the pictures that `validation_step` and `test_step` return, as a grid, for the first batch of a pass.

    Needs steps that return a dict with `pictures`, float (count, 1 or 3, height, width) from 0 to 1. The newest
    grid is `plots/NAME.png`; loggers that take images (TensorBoard) get each as NAME.

    Args:
        name: of the files, and in the loggers.
        columns: pictures a row.
        keeps_all: leave the grid of every validation too, in `RUN_DIR/NAME/epoch_001.png`, ...
    """

    def __init__(self, name: str, columns: int = 8, *, keeps_all: bool = False) -> None:
        self.name = name
        self.columns = columns
        self.keeps_all = keeps_all

    def on_validation_batch_end(
        self,
        trainer: lk.Trainer,
        pl_module: lk.LightModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the pictures of the first batch of a validation inside a fit."""
        if batch_idx == 0 and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._draw(trainer, outputs["pictures"])

    def on_test_batch_end(
        self,
        trainer: lk.Trainer,
        pl_module: lk.LightModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the pictures of the first batch of a test."""
        if batch_idx == 0:
            self._draw(trainer, outputs["pictures"])

    def _draw(self, trainer: lk.Trainer, pictures: Tensor) -> None:
        if not should_publish(trainer):
            return
        encode_png = require("torchvision.io", "vision", needed_by="the pictures of a recipe").encode_png
        image = grid(pictures, self.columns)
        png = encode_png(image).numpy().tobytes()
        paths = [trainer.run_dir / "plots" / f"{self.name}.png"]
        if self.keeps_all and trainer.state.fn == "fit":
            paths.append(trainer.run_dir / self.name / f"epoch_{trainer.current_epoch + 1:03d}.png")
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        for logger in trainer.loggers:
            if isinstance(logger, lk.loggers.Logger):
                logger.log_image(self.name, [image], step=trainer.global_step)
