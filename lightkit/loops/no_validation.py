"""The validation plan of a fit that has no validation: nothing is ever due."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightkit.loops.position import Counters


class NoValidation:
    """What a ValidationPlan answers, for never."""

    every = math.inf
    check_every: int | None = None
    seconds: float | None = None

    def validates_in(self, epoch: int) -> bool:
        return False

    def next(self, p: Counters) -> float:
        return math.inf

    def is_due(self, p: Counters) -> bool:
        return False
