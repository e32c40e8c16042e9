"""Seed every random generator of this process with one number, and tell child processes."""

from __future__ import annotations

import logging
import os
import random
import warnings

import numpy as np
import torch

from lightkit.errors import ConfigError
from lightkit.seeding import SEED_WORKERS

GLOBAL_SEED = "LIGHTKIT_GLOBAL_SEED"
MAX_SEED = 2**32 - 1  # numpy's global generator takes no larger one

_log = logging.getLogger(__name__)


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seed torch (all devices), numpy and `random`; return the seed.

    Without a seed the one in the environment, LIGHTKIT_GLOBAL_SEED, is used, else 0 with a warning. Both the
    seed and `workers` are left in the environment (LIGHTKIT_SEED_WORKERS), so that child processes find them.
    `workers=True` keys the random numbers of each batch by its position, whichever process fetches it.
    Raises ConfigError where the seed is not an integer from 0 to 2**32 - 1. As `lightning.seed_everything`.
    """
    if seed is None:
        if (found := os.environ.get(GLOBAL_SEED)) is None:
            warnings.warn("seed_everything(): no seed given and none in the environment; using 0", stacklevel=2)
            found = "0"
        checked = _checked_seed(found, where=f"the environment variable {GLOBAL_SEED}={{!r}}")
    else:
        checked = _checked_seed(seed, where="seed_everything(seed={!r})")
    os.environ[GLOBAL_SEED] = str(checked)
    os.environ[SEED_WORKERS] = str(int(workers))
    random.seed(checked)
    np.random.seed(checked)
    torch.manual_seed(checked)
    if verbose:
        _log.info("Seed set to %d", checked)
    return checked


def _checked_seed(seed: object, where: str) -> int:
    try:
        number = int(seed)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number <= MAX_SEED:
        raise ConfigError(f"{where.format(seed)}: expected an integer from 0 to {MAX_SEED}")
    return number
