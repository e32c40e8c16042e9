"""Random changes of whole batches of images, drawn from torch's default generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RandomAffine:
    """Rotate, shift, zoom and mirror every image of a batch by its own random amounts.

    Float images (batch, channels, height, width) come out in the same shape; what is moved in from
    outside repeats the border. Drawn from torch's default generator, so that seeding and resuming
    cover it; with `num_workers > 0` from the worker's.

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
        noise = torch.rand(len(images), 5).mul_(2).sub_(1)  # each in [-1, 1)
        angle = noise[:, 0] * math.radians(self.rotate)
        zoom = 1 + noise[:, 1] * self.scale
        mirror = torch.where(noise[:, 2] < 0, -1.0, 1.0) if self.flip else torch.ones(len(images))
        # grid_sample's coordinates span 2 from border to border
        shift_x, shift_y = noise[:, 3] * 2 * self.shift, noise[:, 4] * 2 * self.shift
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = torch.stack([cos * mirror, -sin, shift_x, sin * mirror, cos, shift_y], dim=1)
        grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
