"""Do something in one process only."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from lightkit.ranks import rank

__all__ = [
    "LightningDeprecationWarning", "WarningCache", "rank_prefixed_message", "rank_zero_debug", "rank_zero_deprecation",
    "rank_zero_info", "rank_zero_only", "rank_zero_warn",
]  # fmt: skip

T = TypeVar("T")
log = logging.getLogger("lightkit")


class LightningDeprecationWarning(DeprecationWarning):
    """Something goes away; shown by default, which Python's own is not."""


class _RankZeroOnly:
    """Decorate a function so that it runs in the first process only; elsewhere it returns `default`.

    `rank` is the number of this process, set when lightkit is imported; who knows better may set it.
    """

    def __init__(self) -> None:
        self.rank = rank()

    def __call__(self, fn: Callable[..., T], default: Any = None) -> Callable[..., T | Any]:
        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> T | Any:
            return fn(*args, **kwargs) if self.rank == 0 else default

        return wrapped


rank_zero_only = _RankZeroOnly()


def rank_prefixed_message(message: str, rank: int | None) -> str:
    """-> `[rank: 1] message`; the message itself where there is no rank."""
    return message if rank is None else f"[rank: {rank}] {message}"


@rank_zero_only
def rank_zero_debug(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Log at level debug, once; stacklevel: whose line it is."""
    log.debug(*args, stacklevel=stacklevel, **kwargs)


@rank_zero_only
def rank_zero_info(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Log at level info, once; stacklevel: whose line it is."""
    log.info(*args, stacklevel=stacklevel, **kwargs)


@rank_zero_only
def rank_zero_warn(message: str | Warning, stacklevel: int = 4, **kwargs: Any) -> None:
    """Warn once, not in every process."""
    warnings.warn(message, stacklevel=stacklevel, **kwargs)


@rank_zero_only
def rank_zero_deprecation(message: str, stacklevel: int = 5, **kwargs: Any) -> None:
    """Warn of something that goes away, once."""
    category = kwargs.pop("category", LightningDeprecationWarning)
    warnings.warn(message, category=category, stacklevel=stacklevel, **kwargs)


warnings.simplefilter("default", category=LightningDeprecationWarning, append=True)


class WarningCache(set[str]):
    """Messages that were said, each of which is said once."""

    def warn(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        """Warn, unless this was said before."""
        if message not in self:
            self.add(message)
            rank_zero_warn(message, stacklevel=stacklevel, **kwargs)

    def deprecation(self, message: str, stacklevel: int = 6, **kwargs: Any) -> None:
        """Warn of something that goes away, unless this was said before."""
        if message not in self:
            self.add(message)
            rank_zero_deprecation(message, stacklevel=stacklevel, **kwargs)

    def info(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        """Log at level info, unless this was said before."""
        if message not in self:
            self.add(message)
            rank_zero_info(message, stacklevel=stacklevel, **kwargs)
