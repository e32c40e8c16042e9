"""What the data modules of every field share: the data sets of the parts, and the loaders over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.errors import ConfigError


def as_fetched(batch: Any) -> Any:
    """Return the batch: the data set's `__getitems__` has collated it already."""
    return batch


class RecipeData(lk.LightDataModule):
    """Base of the data modules: `setup` of a subclass fills `sets`, the loaders here serve them.

    A subclass whose loaders are built in another way overrides `loading`.

    Args:
        batch_size: examples a batch.
        num_workers: processes that prepare batches; 0 prepares them between the steps.

    Attributes:
        sets: the data set of each part, "train", "val" and "test", that a stage has needed so far.

    Raises:
        ConfigError: a batch size below 1.
    """

    sets: Mapping[str, Any]

    def __init__(self, batch_size: int, num_workers: int = 0) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"{type(self).__name__}(batch_size={batch_size}): expected at least 1")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.sets = {}

    def loading(self, part: str) -> dict[str, Any]:
        """Return the arguments of the `DataLoader` over a part: "train" is shuffled, whole batches are fetched."""
        return {
            "batch_size": self.batch_size,
            "shuffle": part == "train",
            "num_workers": self.num_workers,
            "collate_fn": as_fetched,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.num_workers > 0,
        }

    def loader(self, part: str) -> DataLoader[Any]:
        """Return the batches of a part."""
        assert part in self.sets, "setup() comes before the loaders"
        return DataLoader(self.sets[part], **self.loading(part))

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training part, in random order."""
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation part, in order."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test part, in order."""
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test part, in order."""
        return self.test_dataloader()
