"""The machine: its cores, its disks, the work of a step."""

from __future__ import annotations

import os
from pathlib import Path

from lightkit.devices.strategies import Strategy
from lightkit.errors import ConfigError


def suggested_max_num_workers(local_world_size: int) -> int:
    """Worker processes for one loader: what is left of the cores for each training process, at least 1."""
    if local_world_size < 1:
        raise ConfigError(f"suggested_max_num_workers({local_world_size!r}): expected a count of at least 1")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // local_world_size - 1)


def is_shared_filesystem(strategy: Strategy, path: str | Path | None = None, timeout: int = 3) -> bool:
    """Whether all processes see the same files below the path; with one process they do."""
    where = Path.cwd() if path is None else Path(path)
    if not where.exists():
        raise ConfigError(f"is_shared_filesystem(path={str(path)!r}): there is no such path")
    return True
