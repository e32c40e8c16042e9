"""Do something in one process only."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("lightkit")


def _rank() -> int:
    return next((int(os.environ[key]) for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if key in os.environ), 0)


def rank_zero_only(fn: Callable[..., T], default: Any = None) -> Callable[..., T | Any]:
    """Decorate a function so that it runs in the first process only; elsewhere it returns `default`."""

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> T | Any:
        return fn(*args, **kwargs) if _rank() == 0 else default

    return wrapped


@rank_zero_only
def rank_zero_info(*args: Any, **kwargs: Any) -> None:
    """Log at level info, once."""
    log.info(*args, **kwargs)


@rank_zero_only
def rank_zero_warn(message: str | Warning, stacklevel: int = 4, **kwargs: Any) -> None:
    """Warn once, not in every process."""
    warnings.warn(message, stacklevel=stacklevel, **kwargs)


@rank_zero_only
def rank_zero_deprecation(message: str, stacklevel: int = 5, **kwargs: Any) -> None:
    """Warn of something that goes away, once."""
    warnings.warn(message, category=DeprecationWarning, stacklevel=stacklevel, **kwargs)
