"""The accumulation window."""

from __future__ import annotations

from torch import Tensor

Weight = float | Tensor


class Window:
    """The accumulation window: how much each micro-batch's loss counts, so that the sum is the one big batch's.

    Windows of equal micro-batches scale each loss by 1/size before backward and need no correction. Others do the
    same relative to their first micro-batch and multiply the gradients once, before the update.
    """

    def __init__(self, size: int):
        self.size = size
        self.open()

    def open(self) -> None:
        """Begin a window."""
        self.reference: Weight | None = None
        self.weights: list[Weight] = []

    def factor(self, weight: Weight) -> Weight:
        """What to multiply the loss of the next micro-batch with; weight: its items, a number or a tensor."""
        self.weights.append(weight)
        if self.reference is None:
            self.reference = weight
            return 1.0 / self.size
        if weight is self.reference or (isinstance(weight, (int, float)) and weight == self.reference):
            return 1.0 / self.size
        return weight / self.reference / self.size

    def correction(self) -> Weight | None:
        """What to multiply the gradients with before the update, or None where it is 1."""
        reference = self.reference
        if reference is None:
            return None
        if isinstance(reference, (int, float)) and all(w == reference for w in self.weights):
            count = len(self.weights)
            return None if count == self.size else self.size / count
        return self.size * reference / sum(self.weights)
