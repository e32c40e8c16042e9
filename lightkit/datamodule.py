"""LightDataModule: data that can be handed to any module."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightkit import hparams as hyper
from lightkit.checkpoint import files
from lightkit.devices.transfer import move_data_to_device
from lightkit.errors import HookError

T = TypeVar("T", bound="LightDataModule")


class LightDataModule:
    """Data sets, loaders and their preparation in one object; as Lightning 2.6's LightningDataModule.

    Order: `prepare_data` (once, writes to disk), `setup(stage)`, then the `*_dataloader` that the stage needs.
    """

    name: str | None = None

    def __init__(self) -> None:
        self.trainer: Any = None
        self._hparams = hyper.AttributeDict()

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle (worker processes make one) is the data alone, not the run that it is in
        return {**self.__dict__, "trainer": None}

    def prepare_data(self) -> None:
        """Download and write to disk; assign nothing."""

    def setup(self, stage: str) -> None:
        """Build data sets; stage is 'fit', 'validate', 'test' or 'predict'."""

    def teardown(self, stage: str) -> None:
        """Clean up after fit, validate, test or predict."""

    def train_dataloader(self) -> Any:
        """-> the training loader."""
        raise HookError(f"{type(self).__name__}.train_dataloader is not defined")

    def val_dataloader(self) -> Any:
        """-> one validation loader or a list of them."""
        raise HookError(f"{type(self).__name__}.val_dataloader is not defined")

    def test_dataloader(self) -> Any:
        """-> one test loader or a list of them."""
        raise HookError(f"{type(self).__name__}.test_dataloader is not defined")

    def predict_dataloader(self) -> Any:
        """-> one loader or a list of them."""
        raise HookError(f"{type(self).__name__}.predict_dataloader is not defined")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change the batch before it is moved."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move every tensor in the batch to the device."""
        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change the batch after it was moved."""
        return batch

    def on_exception(self, exception: BaseException) -> None:
        """Called when the run is ended by an exception."""

    def state_dict(self) -> dict[str, Any]:
        """-> what to keep in a checkpoint: plain values and tensors."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    def save_hyperparameters(self, *args: Any, ignore: Any = None, frame: Any = None, logger: bool = True) -> None:
        """Keep the constructor's arguments in `hparams` and in every checkpoint; call it in `__init__`."""
        frame = frame or inspect.currentframe().f_back  # type: ignore[union-attr]
        hyper.save_hyperparameters(self, *args, ignore=ignore, frame=frame, logger=logger)

    @property
    def hparams(self) -> hyper.AttributeDict:
        """What `save_hyperparameters` kept; attributes and items."""
        return self.__dict__.get("_hparams", hyper.AttributeDict())

    @property
    def hparams_initial(self) -> hyper.AttributeDict:
        """What `save_hyperparameters` kept, as it was then."""
        return self.__dict__.get("_hparams_initial", hyper.AttributeDict())

    @classmethod
    def load_from_checkpoint(cls: type[T], checkpoint_path: str | Path, **kwargs: Any) -> T:
        """Build the data module from the hyperparameters in a checkpoint; keyword arguments override."""
        checkpoint = files.load(checkpoint_path)
        saved = {"hyper_parameters": checkpoint.get("datamodule_hyper_parameters", {})}
        data = cls(**hyper.load_kwargs(cls, saved, kwargs))
        state = checkpoint.get(cls.__qualname__)
        if state:
            data.load_state_dict(state)
        return data

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **kwargs: Any,
    ) -> LightDataModule:
        """Make a data module of data sets, one or a list of them a stage; only training data is shuffled."""

        def loader(dataset: Dataset[Any], shuffle: bool) -> DataLoader[Any]:
            shuffle = shuffle and not isinstance(dataset, IterableDataset)
            return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers)

        def loaders(dataset: Any, shuffle: bool = False) -> Any:
            if isinstance(dataset, Sequence) and not isinstance(dataset, Dataset):
                return [loader(d, shuffle) for d in dataset]
            return loader(dataset, shuffle)

        data = cls(**kwargs)
        if train_dataset is not None:
            data.train_dataloader = lambda: loaders(train_dataset, shuffle=True)  # type: ignore[method-assign]
        if val_dataset is not None:
            data.val_dataloader = lambda: loaders(val_dataset)  # type: ignore[method-assign]
        if test_dataset is not None:
            data.test_dataloader = lambda: loaders(test_dataset)  # type: ignore[method-assign]
        if predict_dataset is not None:
            data.predict_dataloader = lambda: loaders(predict_dataset)  # type: ignore[method-assign]
        return data
