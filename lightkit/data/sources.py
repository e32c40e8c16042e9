"""Where loaders come from, and what happens to their batches before a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from lightkit.data.lengths import check_loader
from lightkit.data.order import Source, make_source
from lightkit.datamodule import LightDataModule
from lightkit.devices.compute import Compute
from lightkit.devices.precision import Precision
from lightkit.errors import ConfigError
from lightkit.hooks import overrides
from lightkit.module import LightModule
from lightkit.seeding import workers_are_keyed


def find_loaders(name: str, given: object, datamodule: LightDataModule | None, module: LightModule) -> object:
    """The loaders given, else the data module's `<name>_dataloader()`, else the module's; None where nobody has one."""
    if given is not None:
        return given
    method = _own(f"{name}_dataloader", datamodule, module)
    return None if method is None else method()


def has_loaders(name: str, given: object, datamodule: LightDataModule | None, module: LightModule) -> bool:
    """Whether `find_loaders` finds somebody to ask."""
    return given is not None or _own(f"{name}_dataloader", datamodule, module) is not None


def _own(name: str, datamodule: LightDataModule | None, module: LightModule) -> Callable[..., Any] | None:
    """The data module's hook where it overrides it, else the module's; None where neither does."""
    if datamodule is not None and overrides(datamodule, LightDataModule, name):
        return getattr(datamodule, name)
    return getattr(module, name) if overrides(module, LightModule, name) else None


def data_of(
    loaders: object, datamodule: LightDataModule | None, name: str, val: object = None
) -> tuple[object, LightDataModule | None]:
    """A data module may stand where loaders stand; both at once is an error."""
    if isinstance(loaders, LightDataModule):
        loaders, datamodule = None, loaders
    if datamodule is not None and (loaders is not None or val is not None):
        raise ConfigError(f"{name} and datamodule are given both; pass one of them")
    return loaders, datamodule


def sources_of(
    given: object, names: str, *, is_sequential: bool = False, is_training: bool = False,
    steps_hold: Callable[[], int] = int, may_be_empty: bool = False,
) -> list[Source]:  # fmt: skip
    """Check the loaders and make them readable: those of an evaluation one by one, those of a training as one source.

    A list of batches is one loader. steps_hold: how many batches an optimizer step takes.
    """
    how = {"is_keyed": workers_are_keyed(), "is_sequential": is_sequential, "is_training": is_training}
    if isinstance(given, (Mapping, list, tuple)) or hasattr(type(given), "flattened"):
        from lightkit.data.combined import read

        return read(given, names, how, steps_hold, may_be_empty=may_be_empty)
    check_loader(given, names, may_be_empty=may_be_empty)
    return [make_source(given, names, **how)]


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
    move_plainly, layout = (compute.move if is_moved else None), compute.layout
    if is_moved and move_plainly is None:
        from lightkit.devices.transfer import move_data_to_device

        move_plainly = move_data_to_device
    if before is None and after is None and not is_moved and convert is None and layout is None:
        return None

    def prepare(batch: Any, dataloader_idx: int) -> Any:
        if before is not None:
            batch = before(batch, dataloader_idx)
        if move is not None:
            batch = move(batch, device, dataloader_idx)
        elif move_plainly is not None:
            batch = move_plainly(batch, device)
        if convert is not None:
            batch = convert(batch)
        if after is not None:
            batch = after(batch, dataloader_idx)
        return batch if layout is None else layout(batch)

    return prepare
