"""The limits of a fit as its loop shows them: reading and setting them is reading and setting the Trainer's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from lightkit.run.fit import FitRun

T = TypeVar("T")


class _OfTrainer(Generic[T]):
    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, loop: Limits, owner: type) -> T:
        value: T = getattr(loop.run.controls, self.name)
        return value

    def __set__(self, loop: Limits, value: T) -> None:
        loop.run.controls.take(self.name, value)


class Limits:
    """`trainer.fit_loop.max_epochs` and the like."""

    __slots__ = ()
    run: FitRun
    max_epochs, min_epochs, min_steps = _OfTrainer[int | None](), _OfTrainer[int | None](), _OfTrainer[int | None]()
    max_steps = _OfTrainer[int]()
