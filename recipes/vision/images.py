"""Sets of images that give whole batches at once, normalised and, to train, changed at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightkit.errors import DataError
from recipes.vision.augment import RandomAffine

Batch = tuple[Tensor, Tensor]


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions into a rest and a part in which every class has its share, up to one image.

    Args:
        labels: int64 (images,).
        fraction: share of the part, between 0 and 1; it gets that many positions, rounded up.
        seed: the only thing, beside `labels`, that the split depends on.

    Returns:
        The sorted positions of the rest and of the part, int64.
    """
    count = len(labels)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    part_size = math.ceil(fraction * count - 1e-9)  # 0.07 * 100 is a little more than 7
    # evenly spaced places in an order by class take from each class its share
    places = ((torch.arange(part_size) + 0.5) * count / max(part_size, 1)).long()
    in_part = torch.zeros(count, dtype=torch.bool)
    in_part[by_class[places]] = True
    return (~in_part).nonzero().flatten(), in_part.nonzero().flatten()


class ImageSet(Dataset[Batch]):
    """Normalise, and on request change at random, batches of stored images; base of the sets below.

    Args:
        mean: what to take off, one value a channel, where the largest stored value counts as 1.
        std: what to divide by after that, one value a channel.
        full_scale: the largest value that a stored image can have.
        augment: makes random changes to the float batch; None leaves it as it is.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], full_scale: int, augment: RandomAffine | None
    ) -> None:
        mean_, std_ = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
        self.factor = 1 / (full_scale * std_)
        self.offset = -mean_ / std_
        self.augment = augment

    def stored(self, indices: Sequence[int]) -> Batch:
        """Return the images as stored, uint8 (batch, channels, height, width), and labels (batch,)."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Return the number of images."""
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return the batch of these positions; torch's loader calls it once a batch."""
        images, labels = self.stored(indices)
        batch = images.float().mul_(self.factor).add_(self.offset)
        return (batch if self.augment is None else self.augment(batch)), labels

    def __getitem__(self, index: int) -> Batch:
        """Return one image (channels, height, width) and its label, a 0-dim tensor."""
        images, labels = self.__getitems__([index])
        return images[0], labels[0]


class TensorImages(ImageSet):
    """Serve images that are in memory: uint8 (images, channels, height, width), labels int64 (images,)."""

    def __init__(self, images: Tensor, labels: Tensor, **normalisation: Any) -> None:
        super().__init__(**normalisation)
        self.images = images
        self.labels = labels

    def stored(self, indices: Sequence[int]) -> Batch:
        """Return the images as stored, uint8 (batch, channels, height, width), and labels (batch,)."""
        where = torch.as_tensor(indices)
        return self.images[where], self.labels[where]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


class FileImages(ImageSet):
    """Serve image files, read when asked for, each brought to a square of `image_size` pixels.

    The shorter side is scaled to `image_size`, what stands over on the longer side is cut off evenly.

    Raises:
        DataError: a file cannot be read as an image; names the file.
    """

    def __init__(
        self, files: Sequence[tuple[str, int]], image_size: int, channels: int, **normalisation: Any
    ) -> None:
        super().__init__(**normalisation)
        self.files = list(files)
        self.image_size = image_size
        self.mode = "RGB" if channels == 3 else "L"

    def _read(self, path: str) -> Tensor:
        import numpy as np
        from PIL import Image, ImageOps

        size = (self.image_size, self.image_size)
        try:
            with Image.open(path) as file:
                # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is still large enough
                file.draft(self.mode, size)
                image = ImageOps.fit(file.convert(self.mode), size, Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: cannot be read as an image; replace or remove it ({error})") from None
        return torch.from_numpy(np.array(image)).view(*size, -1).permute(2, 0, 1)

    def stored(self, indices: Sequence[int]) -> Batch:
        """Return the images, uint8 (batch, channels, image_size, image_size), and labels (batch,)."""
        chosen = [self.files[index] for index in indices]
        images = torch.stack([self._read(path) for path, _ in chosen])
        return images, torch.tensor([label for _, label in chosen])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)
