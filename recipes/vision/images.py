"""Sets of images that give whole batches at once, normalised and, to train, changed at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightkit.errors import DataError
from recipes.vision.files import mode_of, open_picture, read_square, to_tensor

Batch = tuple[Tensor, Tensor]


class StoredBatch(NamedTuple):
    """A batch whose images are normalised and changed on the device.

    Attributes:
        images: as `ImageSet.stored` gives them.
        labels: int64 (batch,).
        part: "train", "val" or "test", the set that the batch is of.
    """

    images: Tensor
    labels: Tensor
    part: str


class ImageSet(Dataset[Any]):
    """Normalise, and on request change at random, batches of stored images; base of the sets below.

    Args:
        mean: what to take off, one value a channel, where the largest stored value counts as 1.
        std: what to divide by after that, one value a channel.
        full_scale: the largest value that a stored image can have.
        augment: makes random changes to the float batch; None leaves it as it is.
        transforms: makes random changes to each stored image, uint8 (channels, height, width); None for none.
        part: where it is given, batches come as `StoredBatch` of that part, to be finished on the device.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        full_scale: int,
        augment: Callable[[Tensor], Tensor] | None = None,
        transforms: Callable[[Tensor], Tensor] | None = None,
        part: str | None = None,
    ) -> None:
        mean_, std_ = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
        self.factor = 1 / (full_scale * std_)
        self.offset = -mean_ / std_
        self.augment = augment
        self.transforms = transforms
        self.part = part

    def stored(self, indices: Sequence[int]) -> Batch:
        """Return the images as stored, uint8 (batch, channels, height, width), and labels (batch,)."""
        raise NotImplementedError

    def unfinished(self, indices: Sequence[int]) -> Batch:
        """Return what goes to the device to be finished there, and labels (batch,)."""
        return self.stored(indices)

    def __len__(self) -> int:
        """Return the number of images."""
        raise NotImplementedError

    def normalised(self, images: Tensor) -> Tensor:
        """Return stored images, uint8 (batch, channels, height, width), as float with mean 0 and deviation 1."""
        if self.factor.device != images.device:
            self.factor, self.offset = self.factor.to(images.device), self.offset.to(images.device)
        return images.float().mul_(self.factor).add_(self.offset)

    def finish(self, images: Tensor) -> Tensor:
        """Return stored images normalised and changed at random."""
        batch = self.normalised(images)
        return batch if self.augment is None else self.augment(batch)

    def __getitems__(self, indices: Sequence[int]) -> Batch | StoredBatch:
        """Return the batch of these positions; torch's loader calls it once a batch."""
        if self.part is not None:
            return StoredBatch(*self.unfinished(indices), self.part)
        images, labels = self.stored(indices)
        return self.finish(images), labels

    def __getitem__(self, index: int) -> Batch:
        """Return one image (channels, height, width) and its label, a 0-dim tensor."""
        images, labels = self.stored([index])
        return self.finish(images)[0], labels[0]

    def _changed(self, image: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Return the image after `transforms`, brought to its size where they leave another."""
        assert self.transforms is not None
        changed = self.transforms(image)
        if changed.dtype != torch.uint8:
            raise DataError(
                f"{type(self).__name__}: the transforms turn uint8 images into {changed.dtype}; leave out ToDtype "
                "and Normalize, the images are normalised afterwards"
            )
        if tuple(changed.shape[-2:]) != image_size:
            from torchvision.transforms import v2

            shorter = v2.functional.resize(changed, list(image_size[:1]), antialias=True)
            changed = v2.functional.center_crop(shorter, list(image_size))
        return changed


class TensorImages(ImageSet):
    """Serve images that are in memory: uint8 (images, channels, height, width), labels int64 (images,).

    Finished on the device, the images are kept there, and a batch is moved as its positions alone.
    """

    def __init__(self, images: Tensor, labels: Tensor, **settings: Any) -> None:
        super().__init__(**settings)
        self.images = images
        self.labels = labels
        self._on_device: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # worker processes have no use for the copy on the device
        return {**self.__dict__, "_on_device": None}

    def stored(self, indices: Sequence[int]) -> Batch:
        """Return the images as stored, uint8 (batch, channels, height, width), and labels (batch,)."""
        where = torch.as_tensor(indices)
        images = self.images[where]
        if self.transforms is not None:
            size = (images.shape[2], images.shape[3])
            images = torch.stack([self._changed(image, size) for image in images])
        return images, self.labels[where]

    def unfinished(self, indices: Sequence[int]) -> Batch:
        """Return positions (batch,) and labels (batch,); transforms of single images are made before, on the CPU."""
        if self.transforms is not None:
            return self.stored(indices)
        where = torch.as_tensor(indices)
        return where, self.labels[where]

    def finish(self, images: Tensor) -> Tensor:
        """Return images, or those at the positions given, normalised and changed at random."""
        if images.ndim == 1:
            if self._on_device is None or self._on_device.device != images.device:
                self._on_device = self.images.to(images.device)
            images = self._on_device[images]
        return super().finish(images)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


class FileImages(ImageSet):
    """Serve image files, read when asked for, each brought to a square of `image_size` pixels.

    The shorter side is scaled to `image_size`, what stands over on the longer side is cut off evenly.
    With `transforms` these see the image as the file holds it.

    Raises:
        DataError: a file cannot be read as an image; names the file.
    """

    def __init__(
        self, files: Sequence[tuple[str, int]], image_size: int, channels: int, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.files = list(files)
        self.image_size = image_size
        self.channels = channels

    def _read(self, path: str) -> Tensor:
        if self.transforms is None:
            return read_square(path, self.image_size, self.channels)
        whole = to_tensor(open_picture(path, mode_of(self.channels)))
        return self._changed(whole, (self.image_size, self.image_size))

    def stored(self, indices: Sequence[int]) -> Batch:
        """Return the images, uint8 (batch, channels, image_size, image_size), and labels (batch,)."""
        chosen = [self.files[index] for index in indices]
        images = torch.stack([self._read(path) for path, _ in chosen])
        return images, torch.tensor([label for _, label in chosen])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)
