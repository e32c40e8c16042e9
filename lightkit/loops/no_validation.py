"""The validation plan of a fit that has no validation: nothing is ever due."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightkit.loops.position import Counters


class NoValidation:
    """As ValidationPlan, for never."""

    every = math.inf
    seconds: float | None = None

    def validates_in(self, epoch: int) -> bool:
        """As ValidationPlan.validates_in."""
        return False

    def next(self, p: Counters) -> float:
        """As ValidationPlan.next."""
        return math.inf

    def is_due(self, p: Counters) -> bool:
        """As ValidationPlan.is_due."""
        return False
