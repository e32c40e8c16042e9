"""What a vision model needs to predict from an image file alone; it travels in the checkpoint as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lightkit.errors import CheckpointError
from recipes.vision.files import read_square

_KEY = "picture_input"


@dataclass(frozen=True)
class PictureInput:
    """How a file becomes the network's input, and what its outputs are called.

    Attributes:
        class_names: the names of the classes, by number.
        mean: what was taken off each channel, of 0 to 1.
        std: what each channel was divided by after that.
        image_size: height and width of the input, pixels.
        channels: 1 for grey images, 3 for colour.
    """

    class_names: list[str]
    mean: list[float]
    std: list[float]
    image_size: int
    channels: int

    def read(self, path: str, device: torch.device | str = "cpu") -> Tensor:
        """Return the file as the network's input, float (1, channels, image_size, image_size).

        Raises:
            DataError: the file cannot be read as an image; names the file.
        """
        pixels = read_square(path, self.image_size, self.channels).to(device).unsqueeze(0)
        mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pixels / 255 - mean) / std

    def name(self, number: int) -> str:
        """Return the name of a class, or its number where it has no name."""
        return self.class_names[number] if number < len(self.class_names) else str(number)


def put(picture_input: PictureInput | None, checkpoint: dict[str, Any]) -> None:
    """Write the settings into a checkpoint, where there are any."""
    if picture_input is not None:
        checkpoint[_KEY] = asdict(picture_input)


def example(channels: int, image_size: int = 32) -> Tensor:
    """Return two images of this size, float (2, channels, image_size, image_size): what an export is made with."""
    return torch.linspace(-2, 2, 2 * channels * image_size**2).sin().view(2, channels, image_size, image_size)


def take(checkpoint: dict[str, Any]) -> PictureInput | None:
    """Return the settings that a checkpoint holds, or None."""
    found = checkpoint.get(_KEY)
    return None if found is None else PictureInput(**found)


def needed(picture_input: PictureInput | None, owner: str) -> PictureInput:
    """Return the settings.

    Raises:
        CheckpointError: there are none, as after training on loaders without a data module.
    """
    if picture_input is None:
        raise CheckpointError(
            f"{owner}.predict_raw(...): the model does not know the size, mean and class names of its images; "
            "train it with a data module of recipes.vision, or set model.picture_input"
        )
    return picture_input
