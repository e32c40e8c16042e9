"""How much a training gets through in a second: batches, samples, items, floating point operations."""

from __future__ import annotations

import re
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightkit.errors import ConfigError

__all__ = ["Throughput", "get_available_flops", "measure_flops"]


class Throughput:
    """Computes rates over the newest updates, from totals that only grow.

    `compute` gives `time`, `batches`, `samples` (`lengths`) as they stand; once there are `window_size` updates also
    `device/batches_per_sec`, `device/samples_per_sec`, `device/items_per_sec` (where lengths are given),
    `device/flops_per_sec` (where flops are) and `device/mfu`, the share of `available_flops`. With several devices the
    same names without `device/` are those of all.

    Args:
        available_flops: what one device can do in a second at best; None where that is not known.
        world_size: how many devices there are.
        window_size: updates that a rate is taken over, at least 2.
        separator: stands between the parts of a name.

    Raises:
        ConfigError: world_size or window_size is too small.
    """

    def __init__(
        self, available_flops: float | None = None, world_size: int = 1, window_size: int = 100, separator: str = "/"
    ) -> None:
        for name, value, least in (("world_size", world_size, 1), ("window_size", window_size, 2)):
            if value < least:
                raise ConfigError(f"Throughput({name}={value!r}): expected a whole number of at least {least}")
        self.available_flops, self.world_size, self.separator = available_flops, world_size, separator
        self.window_size = window_size
        self._time: deque[float] = deque(maxlen=window_size)
        self._batches: deque[int] = deque(maxlen=window_size)
        self._samples: deque[int] = deque(maxlen=window_size)
        self._lengths: deque[int] = deque(maxlen=window_size)
        self._flops: deque[int] = deque(maxlen=window_size)

    def update(
        self, *, time: float, batches: int, samples: int, lengths: int | None = None, flops: int | None = None
    ) -> None:
        """Take the totals of one device so far. flops: those since the last update.

        Args:
            time: seconds.
            batches: batches.
            samples: samples in them.
            lengths: items in the samples, such as tokens; with every update or with none.
            flops: floating point operations since the last update.

        Raises:
            ConfigError: a total did not grow, there are fewer samples than batches, fewer items than samples, or
                lengths were given before and are not now.
        """
        self._check("time", self._time, time)
        self._check("batches", self._batches, batches)
        self._check("samples", self._samples, samples, ("batches", batches))
        if lengths is not None:
            self._check("lengths", self._lengths, lengths, ("samples", samples))
        if self._time and (lengths is not None) != bool(self._lengths):
            raise ConfigError("Throughput.update(lengths=...): give it with every update, or with none")
        self._time.append(time)
        self._batches.append(batches)
        self._samples.append(samples)
        if lengths is not None:
            self._lengths.append(lengths)
        if flops is not None:
            self._flops.append(flops)

    def _check(self, name: str, seen: deque[Any], value: float, least: tuple[str, int] | None = None) -> None:
        if seen and seen[-1] >= value:
            raise ConfigError(f"Throughput.update({name}={value!r}): expected more than the last total, {seen[-1]!r}")
        if least is not None and value < least[1]:
            at_least = f"expected at least as many as {least[0]}, {least[1]}"
            raise ConfigError(f"Throughput.update({name}={value!r}): {at_least}")

    def compute(self) -> dict[str, int | float]:
        """Return totals, and rates where the window is full.

        Raises:
            ConfigError: nothing was given to `update` yet.
        """
        if not self._time:
            raise ConfigError("Throughput.compute(): nothing was measured yet; call update() first")
        found: dict[str, int | float] = {"time": self._time[-1], "batches": self._batches[-1]}
        found["samples"] = self._samples[-1]
        if self._lengths:
            found["lengths"] = self._lengths[-1]
        if len(self._time) < self.window_size:
            return found
        elapsed_s = self._time[-1] - self._time[0]
        rates: dict[str, float] = {
            "batches_per_sec": (self._batches[-1] - self._batches[0]) / elapsed_s,
            "samples_per_sec": (self._samples[-1] - self._samples[0]) / elapsed_s,
        }
        if self._lengths:
            rates["items_per_sec"] = (self._lengths[-1] - self._lengths[0]) / elapsed_s
        if len(self._flops) == self.window_size:  # those of the first update lie before its time
            rates["flops_per_sec"] = (sum(self._flops) - self._flops[0]) / elapsed_s
        for name, rate in rates.items():
            found[f"device{self.separator}{name}"] = rate
            if self.world_size > 1:
                found[name] = rate * self.world_size
        if "flops_per_sec" in rates and self.available_flops:
            found[f"device{self.separator}mfu"] = rates["flops_per_sec"] / self.available_flops
        return found

    def reset(self) -> None:
        """Forget all updates."""
        for seen in (self._time, self._batches, self._samples, self._lengths, self._flops):
            seen.clear()


def measure_flops(
    model: nn.Module, forward_fn: Callable[[], Tensor], loss_fn: Callable[[Tensor], Tensor] | None = None
) -> int:
    """Return the floating point operations of one call; a multiply-add counts as two.

    On the meta device it costs nothing: `with torch.device("meta"): model, x = Net(), torch.randn(2, 32)`.

    Args:
        model: the module; its gradients are as before.
        forward_fn: runs it.
        loss_fn: makes a loss of what that returns; with it, the backward pass counts too.
    """
    from torch.utils.flop_counter import FlopCounterMode

    before = [parameter.grad for parameter in model.parameters()]
    for parameter in model.parameters():  # a backward pass adds to what is there, in place
        parameter.grad = None
    try:
        with FlopCounterMode(display=False) as counter:
            output = forward_fn()
            if loss_fn is not None:
                loss_fn(output).backward()
    finally:
        for parameter, grad in zip(model.parameters(), before, strict=True):
            parameter.grad = grad
    return int(counter.get_total_flops())


# Operations a second of dense matrix products, in units of 10^12, as the makers' data sheets say them.
_KINDS = (torch.float64, torch.float32, "tf32", torch.bfloat16, torch.float16, torch.int8)
_CHIPS: tuple[tuple[str, tuple[float | None, ...]], ...] = (  # the first that is in the device's name
    ("h200", (33.5, 66.9, 494.7, 989.4, 989.4, 1978.9)),
    ("h100 pcie", (25.6, 51.2, 378, 756, 756, 1513)),
    ("h100", (33.5, 66.9, 494.7, 989.4, 989.4, 1978.9)),
    ("a100", (9.7, 19.5, 156, 312, 312, 624)),
    ("a6000", (None, 38.7, 77.4, 154.8, 154.8, 309.7)),
    ("a40", (None, 37.4, 74.8, 149.7, 149.7, 299.3)),
    ("a30", (5.2, 10.3, 82, 165, 165, 330)),
    ("l40s", (None, 91.6, 183, 362, 362, 733)),
    ("l40", (None, 90.5, 90.5, 181, 181, 362)),
    ("l4", (None, 30.3, 60, 121, 121, 242)),
    ("v100-pcie", (7, 14, None, None, 112, None)),
    ("v100", (7.8, 15.7, None, None, 125, None)),
    ("t4", (None, 8.1, None, None, 65, 130)),
)


def get_available_flops(device: torch.device, dtype: torch.dtype | str) -> int | None:
    """Return how many operations a second the device can do at best in this dtype; None where that is not known.

    Known are data centre GPUs of NVIDIA's; of another GPU a warning says that it is not. float32 means TF32 where
    torch may use that.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return flops_of(name, dtype, may_use_tf32=torch.get_float32_matmul_precision() != "highest")


def flops_of(name: str, dtype: torch.dtype | str, *, may_use_tf32: bool = False) -> int | None:
    """As `get_available_flops`, of a device with this name."""
    words = name.lower()
    # an A4000 is no A40
    figures = next((figures for chip, figures in _CHIPS if re.search(rf"{chip}(?!\d)", words)), None)
    kind: torch.dtype | str = "tf32" if dtype == "tfloat32" else dtype
    if figures is None or kind not in _KINDS:
        warnings.warn(f"get_available_flops: not known for {name!r} in {dtype}; give available_flops", stacklevel=3)
        return None
    found = figures[_KINDS.index(kind)]
    if kind is torch.float32 and may_use_tf32 and figures[_KINDS.index("tf32")] is not None:
        found = figures[_KINDS.index("tf32")]
    if found is None:
        warnings.warn(f"get_available_flops: {name!r} has no fast {dtype}; give available_flops", stacklevel=3)
        return None
    return int(found * 1e12)
