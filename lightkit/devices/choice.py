"""Which devices `Trainer(accelerator=..., devices=...)` means, where it says more than the CPU."""

from __future__ import annotations

from contextlib import suppress

from lightkit.devices.accelerators import CPU, CUDA, MPS, Accelerator, Devices
from lightkit.errors import ConfigError, did_you_mean

_NAMES = ("auto", "cpu", "gpu", "cuda", "mps")


def choose_kind(accelerator: str | Accelerator) -> Accelerator:
    """The kind of device of this name; raises ConfigError where there is none such, or the machine has none."""
    if isinstance(accelerator, Accelerator):
        accelerator = accelerator.name
    where = f"Trainer(accelerator={accelerator!r})"
    by_name = {"cpu": CPU, "cuda": CUDA, "mps": MPS}
    if accelerator in ("auto", "gpu"):
        gpu = next((kind for kind in (CUDA, MPS) if kind.is_available()), None)
        if gpu is None and accelerator == "gpu":
            raise ConfigError(f"{where}: {CUDA.why_not()}, {MPS.why_not()}; use accelerator='auto' or 'cpu'")
        return gpu or CPU
    if not isinstance(accelerator, str) or accelerator not in by_name:
        expected = ", ".join(map(repr, _NAMES))
        raise ConfigError(f"{where}: expected one of {expected}{did_you_mean(str(accelerator), _NAMES)}")
    kind = by_name[accelerator]
    if not kind.is_available():
        raise ConfigError(f"{where}: {kind.why_not()}; use accelerator='auto' or 'cpu'")
    return kind


def choose_indices(kind: Accelerator, devices: Devices) -> list[int]:
    """The indices of the devices that are asked for, by count, index or "auto"; raises ConfigError as `choose` does."""
    if devices == "auto":
        return [0]  # Lightning takes all of them; this version trains on one
    where = f"Trainer(devices={devices!r})"
    count = kind.device_count()
    indices = _asked_indices(devices, count, where)
    if not indices:
        raise ConfigError(f"{where}: no device is asked for; expected 1, [0] or 'auto'")
    if len(indices) > 1:
        raise ConfigError(
            f"{where}: {len(indices)} devices are asked for and this version trains on one; "
            "write devices=1, or for example devices=[1] to choose which"
        )
    if not 0 <= indices[0] < count:
        there = "only device 0" if count == 1 else f"devices 0 to {count - 1}"
        raise ConfigError(f"{where}: {kind.name} has {there}")
    return indices


def _asked_indices(devices: Devices, count: int, where: str) -> list[int]:
    with suppress(TypeError, ValueError):
        if isinstance(devices, str) and "," in devices:
            return [int(part) for part in devices.split(",") if part.strip()]
        if isinstance(devices, (list, tuple)) and not any(isinstance(index, bool) for index in devices):
            return [int(index) for index in devices]
        if isinstance(devices, (int, str)) and not isinstance(devices, bool) and (number := int(devices)) >= -1:
            return list(range(count if number == -1 else number))
    raise ConfigError(f"{where}: expected a number of devices, a list of indices, -1 (all) or 'auto'")
