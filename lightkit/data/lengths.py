"""How many batches a loader has, and how many of them are used."""

from __future__ import annotations

import math
from collections.abc import Sized

from torch.utils.data import DataLoader

from lightkit.errors import DataError


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


def check_loader(loader: object, name: str, *, may_be_empty: bool = False) -> None:
    """Raise DataError where a loader is not iterable or has no batches."""
    if not hasattr(type(loader), "__iter__") and not hasattr(type(loader), "__getitem__"):
        raise DataError(
            f"{name} returned {'None' if loader is None else f'a {type(loader).__name__}'}, which is not iterable; "
            "return a DataLoader or any iterable of batches"
        )
    if not may_be_empty and (why := why_empty(loader, name)):
        raise DataError(f"{why}; check the data set's length, batch_size and drop_last")


def why_empty(loader: object, name: str) -> str:
    """Of a loader that has no batches, that it has none; "" of others."""
    if length_of(loader) != 0:
        return ""
    if not isinstance(loader, DataLoader):
        return f"{name} has no batches"
    size, of = length_of(loader.dataset), f"batch_size={loader.batch_size}, drop_last={loader.drop_last}"
    return f"{name} has no batches (its data set has {size:g} samples, {of})"
