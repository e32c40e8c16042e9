"""A share of a loader's batches, `limit_train_batches=0.1` and the like; imported where one is asked for."""

from __future__ import annotations

import math

from lightkit.errors import ConfigError


def share_of(total: float, limit: float, argument: str, name: str) -> int:
    """How many batches of `total` that is; raises ConfigError for no length, or less than one batch."""
    if total == math.inf:
        raise ConfigError(
            f"Trainer({argument}={limit}): {name} has no length, so no fraction of it; give a count of batches"
        )
    count = int(total * limit)
    if count == 0 and total > 0:
        raise ConfigError(
            f"Trainer({argument}={limit}): that is less than one of the {int(total)} batches of {name}; "
            f"use at least {1 / total:.3g} or a count"
        )
    return count
