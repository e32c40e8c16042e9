"""The board of metrics that a run shows: what was logged, read once, for callbacks, loggers and the progress bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightkit.results import Results, Taken

Number = float | int  # an int only where a float would not be the same number


def to_host(values: Sequence[Any]) -> list[Number]:
    """Read numbers and one-element tensors as python numbers, with one device read for all of them.

    Whole numbers stay exact: those of tensors up to 2^53, python's own without end.
    """
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not tensors:
        return [_exact(v) for v in values]
    device = tensors[0].device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    same = [t.detach().reshape(()).to(device=device, dtype=dtype) for t in tensors]
    read = iter(torch.stack(same).tolist())
    return [next(read) if isinstance(v, Tensor) else _exact(v) for v in values]


def _exact(value: Any) -> Number:
    if isinstance(value, int) and abs(value) > 2**53:
        return value
    return float(value)


def as_metric(number: Number) -> Tensor:
    """The number as callbacks see it: float32, and where that would round a whole number float64, beyond 2^53 int64."""
    if isinstance(number, int):
        return torch.tensor(number) if -(2**63) <= number < 2**63 else torch.tensor(number, dtype=torch.float64)
    metric = torch.tensor(number, dtype=torch.float32)
    is_rounded = abs(number) > 2**24 and number.is_integer() and float(metric) != number
    return torch.tensor(number, dtype=torch.float64) if is_rounded else metric


class MetricBoard:
    """The metrics a run shows: to callbacks, to loggers, in the progress bar."""

    def __init__(self) -> None:
        self.callback: dict[str, Tensor] = {}
        self.logged: dict[str, float] = {}
        self.progress_bar: dict[str, float] = {}
        self.posted: Taken | None = None  # the newest of what is shown

    def take(self, results: Results, *, of_step: bool) -> Taken:
        """Read the values, once however often they are asked for; post them for callbacks and bar; return them."""
        taken = results.read.get(of_step)
        if taken is None:
            entries = results.values(of_step=of_step)
            taken = list(zip(entries, to_host([entry.value for entry in entries]), strict=True))
            if all(entry.slot.metric is None for entry in entries):  # a torchmetrics object changes without a log
                results.read[of_step] = taken
        elif taken is self.posted:
            return taken
        if taken:
            with torch.inference_mode(False):  # read in a validation, it may still be worked with in training
                self._post(taken, is_seen=results.is_training or not of_step)
            self.posted = taken
        return taken

    def _post(self, taken: Taken, *, is_seen: bool) -> None:
        for entry, number in taken:
            if is_seen:
                self.callback[entry.name] = self.callback[entry.forked] = as_metric(number)
            if entry.slot.logger:
                self.logged[entry.forked] = number
            if entry.slot.prog_bar:
                self.progress_bar[entry.forked] = number

    def clear(self) -> None:
        """Forget everything shown so far; what somebody still holds stays as it is."""
        self.callback, self.logged, self.progress_bar, self.posted = {}, {}, {}, None

    def copy(self) -> MetricBoard:
        """The same metrics, for another run to go on from."""
        other = MetricBoard()
        other.load_state_dict(self.state_dict())
        return other

    def note_logged(self, metrics: Mapping[str, float]) -> None:
        """These went to the loggers."""
        self.logged.update(metrics)

    def state_dict(self) -> dict[str, Any]:
        """What is shown now."""
        return {"callback": dict(self.callback), "logged": dict(self.logged), "progress_bar": dict(self.progress_bar)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Show again what was shown."""
        self.callback, self.logged = dict(state["callback"]), dict(state["logged"])
        self.progress_bar = dict(state["progress_bar"])
