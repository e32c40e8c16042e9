"""Images and their classes for `ImageClassifier`: handwritten digits, torchvision's sets, image folders.

Every batch is `(images, labels)`: float32 (batch, channels, height, width), normalised by `mean` and
`std`, and int64 (batch,), or after `mix` shares of the classes, float (batch, classes). The sets fetch whole
batches at once, and random changes are made to the batch, so that the input of a small network costs little
beside its step. All randomness of the batches comes from torch's default generators; the splits depend on
`split_seed` alone.
"""

from __future__ import annotations

from recipes.vision.digits import DigitsData
from recipes.vision.image_data import ImageData
from recipes.vision.image_folder import ImageFolderData
from recipes.vision.torchvision_data import TorchvisionData

__all__ = ["DigitsData", "ImageData", "ImageFolderData", "TorchvisionData"]
