"""LightDataModule: data that can be handed to any module."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.data import Dataset

from lightkit import hparams as hyper
from lightkit.errors import HookError

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

T = TypeVar("T", bound="LightDataModule")
DataSets = Dataset[Any] | Iterable[Dataset[Any]] | Mapping[str, Dataset[Any]]  # of one stage


class LightDataModule:
    """Data sets, loaders and their preparation in one object; as Lightning 2.6's LightningDataModule.

    Order: `prepare_data` (once, writes to disk), `setup(stage)`, then the `*_dataloader` that the stage needs.
    """

    CHECKPOINT_HYPER_PARAMS_KEY = "datamodule_hyper_parameters"  # of a checkpoint, as Lightning has them
    CHECKPOINT_HYPER_PARAMS_NAME = "datamodule_hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "datamodule_hparams_type"
    name: str | None = None

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        vars(self).setdefault("_hyperparameters", hyper.Hyperparameters())  # some save theirs before they call this

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle (worker processes make one) is the data alone, not the run that it is in
        return {**self.__dict__, "trainer": None}

    def _attach_trainer(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def _take_hook(self, name: str, hook: object) -> None:
        """Let something be the hook of that name, on this data module alone."""
        vars(self)[name] = hook

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
        from lightkit.devices.transfer import move_data_to_device

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

    def save_hyperparameters(
        self, *args: object, ignore: Sequence[str] | str | None = None, frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:  # fmt: skip
        """Keep the constructor's arguments in `hparams` and in every checkpoint; call it in `__init__`."""
        self._hyperparameters = hyper.collect(self, args, ignore, frame or sys._getframe(1), logger)

    @property
    def hparams(self) -> hyper.AttributeDict:
        """What `save_hyperparameters` kept; attributes and items."""
        return hyper.of(self).values

    @hparams.setter
    def hparams(self, value: object) -> None:
        """A dict, a Namespace or a dataclass, as `save_hyperparameters(value)` keeps it."""
        self._hyperparameters = hyper.collect(self, (value,), frame=sys._getframe(1))

    @property
    def hparams_initial(self) -> hyper.AttributeDict:
        """What `save_hyperparameters` kept, as it was then."""
        return hyper.of(self).initial

    @classmethod
    def load_from_checkpoint(
        cls: type[T], checkpoint_path: str | Path, map_location: Any = None, hparams_file: str | Path | None = None,
        weights_only: bool | None = None, **kwargs: Any,
    ) -> T:  # fmt: skip
        """Build the data module from the hyperparameters in a checkpoint; keyword arguments override.

        hparams_file: a .yaml or .csv file of hyperparameters to use instead of the saved ones. Raises what
        `LightModule.load_from_checkpoint` raises.
        """
        from lightkit.datamodule_sources import loaded

        return loaded(cls, checkpoint_path, map_location, hparams_file, weights_only, kwargs)

    @classmethod
    def from_datasets(
        cls: type[T], train_dataset: DataSets | None = None, val_dataset: DataSets | None = None,
        test_dataset: DataSets | None = None, predict_dataset: DataSets | None = None, batch_size: int = 1,
        num_workers: int = 0, **kwargs: Any,
    ) -> T:  # fmt: skip
        """Make a data module of data sets, one or several a stage; only training data is shuffled.

        kwargs: the constructor's, which gets `batch_size` and `num_workers` too where it takes them.
        """
        from lightkit.datamodule_sources import loaders, taken_by

        data = cls(**kwargs, **taken_by(cls, {"batch_size": batch_size, "num_workers": num_workers}))
        given = {"train": train_dataset, "val": val_dataset, "test": test_dataset, "predict": predict_dataset}
        for stage, datasets in given.items():
            if datasets is not None:
                make = partial(loaders, datasets, stage == "train", batch_size, num_workers)
                data._take_hook(f"{stage}_dataloader", make)
        return data
