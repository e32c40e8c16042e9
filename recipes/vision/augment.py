"""Random changes of whole batches of images, on whichever device they are.

All random numbers come from torch's default generators, so that seeding and resuming cover them; with
`num_workers > 0` and not `on_device` from the worker's, which lightkit keys by batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightkit.errors import ConfigError, require


@dataclass(frozen=True)
class RandomAffine:
    """Rotate, shift, zoom and mirror every image of a batch by its own random amounts.

    Float images (batch, channels, height, width) come out in the same shape; what is moved in from
    outside repeats the border.

    Args:
        rotate: largest angle, degrees, either way.
        shift: largest shift, as a fraction of the image's size, in each direction.
        scale: largest zoom, as a fraction, in or out; 0.1 is 0.9 to 1.1 times.
        flip: mirror half of the images left to right (not for digits or letters).
    """

    rotate: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    flip: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Return changed copies of float `images` (batch, channels, height, width)."""
        noise = torch.rand(len(images), 5, device=images.device).mul_(2).sub_(1)  # each in [-1, 1)
        angle = noise[:, 0] * math.radians(self.rotate)
        zoom = 1 + noise[:, 1] * self.scale
        mirror = torch.where(noise[:, 2] < 0, -1.0, 1.0) if self.flip else torch.ones_like(zoom)
        # grid_sample's coordinates span 2 from border to border
        shift_x, shift_y = noise[:, 3] * 2 * self.shift, noise[:, 4] * 2 * self.shift
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = torch.stack([cos * mirror, -sin, shift_x, sin * mirror, cos, shift_y], dim=1)
        grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class RandomCrop:
    """Shift every image of a batch by whole pixels, mirror half of them, and blank a square in each.

    The usual augmentation of CIFAR-10, without interpolation: one gather for the whole batch. What is
    shifted in from outside mirrors the image at its border. The result is laid out channels last.

    Args:
        pad: largest shift, pixels, in each direction.
        flip: mirror half of the images left to right.
        cutout: side of the square that is set to 0, the mean, pixels (DeVries, Taylor 2017); 0 for none.
            Its centre lies anywhere in the image, so that part of it may lie outside.
    """

    pad: int = 4
    flip: bool = True
    cutout: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Return changed copies of float `images` (batch, channels, height, width)."""
        count, _, height, width = images.shape
        device = images.device
        down, right = torch.randint(0, 2 * self.pad + 1, (2, count, 1), device=device)
        rows = torch.arange(height, device=device) + down  # (batch, height), in the padded image
        columns = torch.arange(width, device=device).expand(count, -1)
        if self.flip:
            mirrored = torch.rand(count, 1, device=device) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        padded = F.pad(images, [self.pad] * 4, mode="reflect") if self.pad else images
        batch = torch.arange(count, device=device).view(-1, 1, 1)
        # the indexed dimensions come first: (batch, height, width, channels)
        changed = padded[batch, :, rows[:, :, None], (columns + right)[:, None, :]]
        if self.cutout:
            changed = changed.masked_fill(self._squares(count, height, width, device), 0.0)
        return changed.permute(0, 3, 1, 2)

    def _squares(self, count: int, height: int, width: int, device: torch.device) -> Tensor:
        """Return where the squares lie, bool (batch, height, width, 1)."""
        top = torch.randint(0, height, (count, 1, 1, 1), device=device) - self.cutout // 2
        left = torch.randint(0, width, (count, 1, 1, 1), device=device) - self.cutout // 2
        y = torch.arange(height, device=device).view(1, -1, 1, 1)
        x = torch.arange(width, device=device).view(1, 1, -1, 1)
        return (y >= top) & (y < top + self.cutout) & (x >= left) & (x < left + self.cutout)


@dataclass(frozen=True)
class Mix:
    """Mix pairs of training images and their labels: MixUp or CutMix of `torchvision.transforms.v2`.

    Where both are on, each batch gets one of them, at even odds. Labels become shares of the classes.

    Args:
        mixup: alpha of the Beta distribution of MixUp's share (Zhang et al. 2018), such as 0.2; 0 for none.
        cutmix: the same for CutMix (Yun et al. 2019), such as 1.0; 0 for none.
        probability: share of the batches that are mixed.

    Raises:
        ConfigError: a negative alpha, or a probability outside 0 to 1.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ConfigError(f"Mix({name}={getattr(self, name)}): expected 0 for none, or an alpha above 0")
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"Mix(probability={self.probability}): expected a share between 0 and 1")

    def __call__(self, images: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Return mixed images and the shares of the classes, float (batch, num_classes).

        Args:
            images: float (batch, channels, height, width).
            labels: int64 (batch,).
            num_classes: number of classes.
        """
        v2 = require("torchvision.transforms.v2", "vision", needed_by="Mix")
        ways = [(v2.MixUp, self.mixup), (v2.CutMix, self.cutmix)]
        ways = [(way, alpha) for way, alpha in ways if alpha > 0]
        # always drawn, and on the CPU: what comes after does not depend on it, and no device is waited for
        chance, choice = torch.rand(2).tolist()
        if not ways or chance >= self.probability:
            return images, F.one_hot(labels, num_classes).to(images.dtype)
        way, alpha = ways[int(choice * len(ways))]
        mixed: tuple[Tensor, Tensor] = way(alpha=alpha, num_classes=num_classes)(images, labels)
        return mixed
