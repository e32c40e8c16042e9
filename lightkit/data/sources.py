"""Where loaders come from, and how many of their batches are used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightkit.data.order import Source, make_source
from lightkit.datamodule import LightDataModule
from lightkit.devices.compute import Compute
from lightkit.devices.precision import Precision
from lightkit.errors import ConfigError, DataError
from lightkit.hooks import overrides
from lightkit.module import LightModule
from lightkit.seeding import workers_are_keyed


def find_loaders(name: str, given: object, datamodule: LightDataModule | None, module: LightModule) -> object:
    """The loaders given, else the data module's `<name>_dataloader()`, else the module's; None where nobody has one."""
    if given is not None:
        return given
    method = _own(f"{name}_dataloader", datamodule, module)
    return None if method is None else method()


def _own(name: str, datamodule: LightDataModule | None, module: LightModule) -> Callable[..., Any] | None:
    """The data module's hook where it overrides it, else the module's; None where neither does."""
    if datamodule is not None and overrides(datamodule, LightDataModule, name):
        return getattr(datamodule, name)
    return getattr(module, name) if overrides(module, LightModule, name) else None


def as_list(loaders: object) -> list[object]:
    """One loader or several, as a list; a list of batches is one loader."""
    if loaders is None:
        return []
    if isinstance(loaders, Mapping):
        return list(loaders.values())
    data = Tensor, list, tuple, Mapping, str, bytes
    if isinstance(loaders, (list, tuple)) and all(hasattr(x, "__iter__") and not isinstance(x, data) for x in loaders):
        return list(loaders)
    return [loaders]


def data_of(
    loaders: object, datamodule: LightDataModule | None, name: str, val: object = None
) -> tuple[object, LightDataModule | None]:
    """A data module may stand where loaders stand; both at once is an error."""
    if isinstance(loaders, LightDataModule):
        loaders, datamodule = None, loaders
    if datamodule is not None and (loaders is not None or val is not None):
        raise ConfigError(f"{name} and datamodule are given both; pass one of them")
    return loaders, datamodule


def length_of(loader: object) -> float:
    """Batches in the loader; inf where it cannot say."""
    try:
        return len(loader) if isinstance(loader, Sized) else math.inf
    except (TypeError, NotImplementedError):
        return math.inf


def limited(total: float, limit: int | float, argument: str, name: str) -> float:
    """How many of `total` batches are used: at most `limit` where it is a count, that share where it is a fraction.

    Raises ConfigError for a fraction of a loader without length, or one that leaves no batch.
    """
    if isinstance(limit, int) or limit == 0.0:
        return min(limit, total) if limit != 0 else 0
    if limit == 1.0:
        return total
    from lightkit.data.shares import share_of

    return share_of(total, limit, argument, name)


def check_loader(loader: object, name: str) -> None:
    """Raise DataError where a loader is not iterable or has no batches."""
    if not hasattr(type(loader), "__iter__") and not hasattr(type(loader), "__getitem__"):
        raise DataError(
            f"{name} returned {'None' if loader is None else f'a {type(loader).__name__}'}, which is not iterable; "
            "return a DataLoader or any iterable of batches"
        )
    if length_of(loader) == 0:
        why = ""
        if isinstance(loader, DataLoader):
            size = length_of(loader.dataset)
            why = f" (its data set has {size:g} samples, batch_size={loader.batch_size}, drop_last={loader.drop_last})"
        raise DataError(f"{name} has no batches{why}; check the data set's length, batch_size and drop_last")


def sources_of(
    loaders: Sequence[object], names: str, *, is_sequential: bool = False, is_training: bool = False
) -> list[Source]:
    """Check the loaders and make them readable."""
    each = [names] if len(loaders) == 1 else [f"{names}[{index}]" for index in range(len(loaders))]
    for loader, name in zip(loaders, each, strict=True):
        check_loader(loader, name)
    how = {"is_keyed": workers_are_keyed(), "is_sequential": is_sequential, "is_training": is_training}
    return [make_source(loader, name, **how) for loader, name in zip(loaders, each, strict=True)]


def batch_preparer(
    module: LightModule, datamodule: LightDataModule | None, device: torch.device, precision: Precision,
    compute: Compute,
) -> Callable[[Any, int], Any] | None:  # fmt: skip
    """What happens to a batch between loader and step, `(batch, dataloader_idx) -> batch`; None where nothing does.

    The three transfer hooks are the data module's where it overrides them, else the module's.
    """
    before = _own("on_before_batch_transfer", datamodule, module)
    move = _own("transfer_batch_to_device", datamodule, module)
    after = _own("on_after_batch_transfer", datamodule, module)
    convert = precision.convert_batch if precision.converts_batch else None
    is_moved = move is not None or device.type != "cpu"  # on the CPU a batch is where it should be
    move_plainly, layout = compute.move, compute.layout
    if before is None and after is None and not is_moved and convert is None and layout is None:
        return None

    def prepare(batch: Any, dataloader_idx: int) -> Any:
        if before is not None:
            batch = before(batch, dataloader_idx)
        if move is not None:
            batch = move(batch, device, dataloader_idx)
        elif is_moved:
            batch = move_plainly(batch, device)
        if convert is not None:
            batch = convert(batch)
        if after is not None:
            batch = after(batch, dataloader_idx)
        return batch if layout is None else layout(batch)

    return prepare
