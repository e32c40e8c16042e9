"""What a recorded step needs beside the recording: its logged values, learning rates, the layout of its batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightkit.devices.rare_batches import fields_of
from lightkit.errors import ConfigError
from lightkit.results import Options, Results

_PLAIN = (str, int, float, bool, bytes, type(None))


class Notes(Results):
    """Calls of `self.log` in a recorded step, to be made again with the same tensors after each launch."""

    def __init__(self, results: Results, where: str):
        super().__init__(is_training=True, size_of=results.size_of)
        self.batch, self.where = results.batch, where
        self.calls: list[tuple[str, Tensor, Options, int | None]] = []

    def enter(self, hook: str) -> None:
        """As Results.enter; all of the step is one hook."""

    def log(self, name: str, value: object, options: Options, batch_size: int | None) -> None:
        """As Results.log; only what the device computes anew in each step."""
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise ConfigError(
                f"{self.where} logs {name!r} as a {kind}, which a captured step would log unchanged for ever; log a "
                "tensor, log it in on_train_batch_end, or leave cuda_graph out"
            )
        self.calls.append((name, value.detach(), options, batch_size))

    def play(self, results: Results) -> None:
        """Log what was noted."""
        for name, value, options, batch_size in self.calls:
            results.log(name, value, options, batch_size)


class BatchIndex:
    """Stands for `batch_idx` in a recorded step, where the number would be that of one batch for ever."""

    def _refuse(self, *args: object) -> NoReturn:
        raise ConfigError(
            "Trainer(cuda_graph=True): training_step uses batch_idx, which a captured step would keep from one batch; "
            "use it in on_train_batch_start or on_train_batch_end, or leave cuda_graph out"
        )

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __pow__ = __rpow__ = __neg__ = _refuse
    __int__ = __float__ = __index__ = __bool__ = __str__ = __format__ = _refuse


class LearningRates:
    """Learning rates as tensors on the device, where the kernels of a recording read them.

    Between steps the groups hold the numbers: schedulers, callbacks and checkpoints see no difference.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device):
        self.groups = optimizer.param_groups
        self.device = device
        self.values: list[float | None] = []
        self.tensors: list[Tensor] = []

    def refresh(self) -> None:
        """Bring the device's learning rates up to date."""
        for _ in self.groups[len(self.tensors) :]:
            self.values.append(None)
            self.tensors.append(torch.zeros((), dtype=torch.float32, device=self.device))
        for number, group in enumerate(self.groups):
            rate = group["lr"]
            if isinstance(rate, Tensor):
                self.tensors[number].copy_(rate, non_blocking=True)
            elif rate != self.values[number]:
                self.tensors[number].fill_(rate)
                self.values[number] = rate

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the optimizer read the tensors."""
        rates = [group["lr"] for group in self.groups]
        for group, tensor in zip(self.groups, self.tensors, strict=True):
            group["lr"] = tensor
        try:
            yield
        finally:
            for group, rate in zip(self.groups, rates, strict=True):
                group["lr"] = rate


def layout_of(batch: object, tensors: list[Tensor]) -> object:
    """What must be equal in two batches for the one to be copied into the other; collects the tensors, in order.

    Raises:
        ConfigError: the batch holds something that cannot be looked into.
    """
    if isinstance(batch, Tensor):
        tensors.append(batch)
        return batch.shape, batch.dtype, batch.device
    kind = type(batch)
    if isinstance(batch, (list, tuple)):
        return kind, [layout_of(item, tensors) for item in batch]
    if isinstance(batch, Mapping):
        return kind, [(key, layout_of(batch[key], tensors)) for key in batch]
    if kind in _PLAIN:
        return kind, batch
    names = fields_of(batch)
    if not names:
        raise ConfigError(
            f"Trainer(cuda_graph=True): the batch holds a {kind.__name__}, into which a captured step's data cannot be "
            "copied; give tensors in lists, tuples, dicts or dataclasses, or leave cuda_graph out"
        )
    return kind, [(name, layout_of(getattr(batch, name), tensors)) for name in names]


def options_of(optimizer: Optimizer) -> list[dict[str, object]]:
    """What a recording keeps of the groups: all but learning rates, and how many parameters there are."""
    return [
        {name: len(value) if name == "params" else value for name, value in group.items() if name != "lr"}
        for group in optimizer.param_groups
    ]
