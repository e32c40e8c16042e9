"""Modules made where, and in the format in which, they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch.overrides import TorchFunctionMode

from lightkit.devices.precision import Precision


class _Undrawn(TorchFunctionMode):
    """Leaves out what torch.nn.init would do."""

    def __torch_function__(
        self, func: Callable[..., object], types: Sequence[type], args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:  # fmt: skip
        given = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


@contextmanager
def made_on(device: torch.device, precision: Precision, *, is_empty: bool) -> Iterator[None]:
    """Inside, tensors are made on the device, numbers in the precision; is_empty: weights of modules are not drawn."""
    before = torch.get_default_dtype()
    found: object = getattr(precision, "dtype", None)
    dtype = found if precision.converts_batch and isinstance(found, torch.dtype) else None
    try:
        if dtype is not None:
            torch.set_default_dtype(dtype)
        with torch.device(device), _Undrawn() if is_empty else nullcontext():
            yield
    finally:
        torch.set_default_dtype(before)
