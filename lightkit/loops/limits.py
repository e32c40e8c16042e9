"""The limits of a fit as its loop shows them: reading and setting them is reading and setting the Trainer's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightkit.run.fit import FitRun


class Limits:
    """`trainer.fit_loop.max_epochs` and the like."""

    __slots__ = ()
    run: FitRun

    @property
    def max_epochs(self) -> int | None:
        """As `trainer.max_epochs`."""
        return self.run.controls.max_epochs

    @max_epochs.setter
    def max_epochs(self, value: int | None) -> None:
        self.run.controls.max_epochs = value

    @property
    def min_epochs(self) -> int | None:
        """As `trainer.min_epochs`."""
        return self.run.controls.min_epochs

    @min_epochs.setter
    def min_epochs(self, value: int | None) -> None:
        self.run.controls.min_epochs = value

    @property
    def max_steps(self) -> int:
        """As `trainer.max_steps`."""
        return self.run.controls.max_steps

    @max_steps.setter
    def max_steps(self, value: int) -> None:
        self.run.controls.max_steps = value

    @property
    def min_steps(self) -> int | None:
        """As `trainer.min_steps`."""
        return self.run.controls.min_steps

    @min_steps.setter
    def min_steps(self, value: int | None) -> None:
        self.run.controls.min_steps = value
