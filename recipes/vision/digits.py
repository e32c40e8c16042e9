"""Handwritten digits that come with scikit-learn: the data of `vision/digits`, which needs no download."""

from __future__ import annotations

from typing import Any

import torch

from lightkit.errors import require
from recipes.splits import stratified_split
from recipes.vision.image_data import ImageData
from recipes.vision.images import TensorImages


class DigitsData(ImageData):
    """Real handwritten digits, 8x8 grey, 10 classes: the 1,797 that scikit-learn brings along.

    Nothing is downloaded. Split by class: 70 % to train (1,257), 10 % to validate (180), 20 % to test (360).
    The images are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin 1998).

    Args:
        **settings: the arguments of `ImageData`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.save_hyperparameters(ignore=["augment", "mix"])

    def setup(self, stage: str) -> None:
        """Read the images and split them; the same for every stage."""
        load_digits = require("sklearn.datasets", "vision", needed_by="DigitsData").load_digits
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.uint8).unsqueeze(1)  # (1797, 1, 8, 8), 0 to 16
        labels = torch.tensor(digits.target)
        rest, test = stratified_split(labels, 0.2, self.split_seed)
        # an eighth of the remaining 80 % is 10 % of the whole
        train, val = (rest[part] for part in stratified_split(labels[rest], 0.125, self.split_seed))
        self.class_names = [str(name) for name in digits.target_names]
        self.image_shape = (1, 8, 8)
        self.mean, self.std = [0.305], [0.376]
        self.sets = {
            part: TensorImages(images[where], labels[where], **self.treatment(part, full_scale=16))
            for part, where in (("train", train), ("val", val), ("test", test))
        }
