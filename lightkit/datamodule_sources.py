"""A data module made of a checkpoint, or of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightkit.checkpoint import files
from lightkit.checkpoint.places import place
from lightkit.hparams.loading import load_kwargs, parameters_of, refuse_code

if TYPE_CHECKING:
    from lightkit.datamodule import DataSets, LightDataModule

T = TypeVar("T", bound="LightDataModule")


def loaded(
    cls: type[T], checkpoint_path: str | Path, map_location: Any, hparams_file: str | Path | None,
    weights_only: bool | None, overrides: dict[str, Any],
) -> T:  # fmt: skip
    """See `LightDataModule.load_from_checkpoint`."""
    refuse_code(weights_only)
    checkpoint = files.load(checkpoint_path, map_location=map_location or "cpu")
    beside = None if hparams_file is None else place(hparams_file)
    data = cls(**load_kwargs(cls, checkpoint, overrides, cls.CHECKPOINT_HYPER_PARAMS_KEY, beside))
    if state := checkpoint.get(cls.__qualname__):
        data.load_state_dict(state)
    return data


def taken_by(cls: type, offered: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that the constructor of the class takes."""
    named, takes_any = parameters_of(cls)
    return {name: value for name, value in offered.items() if takes_any or name in named}


def loaders(datasets: DataSets, shuffle: bool, batch_size: int, num_workers: int) -> object:
    """A loader of each data set, in a list or a dict where there is one of them; a stream is not shuffled."""
    if isinstance(datasets, Mapping):
        return {name: loaders(dataset, shuffle, batch_size, num_workers) for name, dataset in datasets.items()}
    if isinstance(datasets, Iterable) and not isinstance(datasets, Dataset):
        return [loaders(dataset, shuffle, batch_size, num_workers) for dataset in datasets]
    shuffle = shuffle and not isinstance(datasets, IterableDataset)
    return DataLoader(datasets, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers)
