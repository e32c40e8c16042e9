"""Several loaders as one, in Lightning's four modes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

from lightkit.data.lengths import length_of
from lightkit.data.nested import apart, is_container
from lightkit.errors import ConfigError, did_you_mean

Mode = Literal["min_size", "max_size_cycle", "max_size", "sequential"]
MODES: tuple[str, ...] = get_args(Mode)
_END = object()


def check_mode(mode: str) -> None:
    """Raise ConfigError where there is no such mode."""
    if mode not in MODES:
        known = ", ".join(map(repr, MODES))
        raise ConfigError(f"CombinedLoader(mode={mode!r}): expected one of {known}{did_you_mean(str(mode), MODES)}")


def number_of(mode: str, lengths: Sequence[float]) -> float:
    """How many batches loaders with so many give together."""
    if mode == "sequential":
        return sum(lengths)
    return min(lengths) if mode == "min_size" else max(lengths)


def together(
    mode: str, batches: list[Iterator[object]], ended: list[bool], open_again: Callable[[int], Iterator[object]]
) -> Iterator[list[object]]:
    """A batch of each at a time, until the shortest is at its end, or all are.

    ended: which have been at their end. open_again: begins a loader anew, for those that are cycled round.
    """
    while True:
        found: list[object] = []
        for place, own in enumerate(batches):
            batch = next(own, _END)
            if batch is _END:
                ended[place] = True
                if mode == "min_size" or all(ended):
                    return
                batch = None
                batches[place] = iter(())  # before the next one is opened: its workers end here
                if mode == "max_size_cycle":
                    batches[place] = open_again(place)
                    batch = next(batches[place], _END)
                    if batch is _END:
                        return
            found.append(batch)
        yield found


def in_turn(
    first: int, batches: Iterator[object], done: int, limits: Sequence[float],
    open_next: Callable[[int], Iterator[object]],
) -> Iterator[tuple[object, int, int]]:  # fmt: skip
    """The batches of one loader after the other, each with its number and the loader's.

    first, batches, done: the loader to begin with, and how many of its batches were taken before.
    """
    for place in range(first, len(limits)):
        if place > first:
            batches, done = open_next(place), 0
        while done < limits[place]:
            batch = next(batches, _END)
            if batch is _END:
                break
            yield batch, done, place
            done += 1


class CombinedLoader(Iterable[tuple[Any, int, int]]):
    """Several loaders as one; iterating gives `(batch, batch_idx, dataloader_idx)`.

    - "min_size": a batch of each at a time, in a collection of the form of `iterables`; ends with the shortest.
    - "max_size_cycle": ends with the longest; the others begin anew.
    - "max_size": ends with the longest; the others give None when they are at their end.
    - "sequential": one after the other, each batch as it is.

    Args:
        iterables: a loader or other iterable, or dicts, lists and tuples of them, nested. A list of numbers, strings
            or tensors is an iterable.
        mode: how they are combined.

    Raises:
        ConfigError: there is no such mode.
    """

    def __init__(self, iterables: Any, mode: Mode = "min_size"):
        check_mode(mode)
        self._nested = apart(iterables, is_container)
        self._iterables, self._flattened, self._mode = iterables, self._nested.loaders, mode
        self._limits: list[int | float] | None = None
        self._iterator: Iterator[tuple[Any, int, int]] | None = None

    @property
    def mode(self) -> Mode:
        """How the iterables are combined."""
        return self._mode

    @property
    def iterables(self) -> Any:
        """The collection as it was given."""
        return self._iterables

    @property
    def sampler(self) -> Any:
        """The sampler of each iterable, None where it has none, in a collection of the same form."""
        return self._nested.build(getattr(iterable, "sampler", None) for iterable in self.flattened)

    @property
    def batch_sampler(self) -> Any:
        """The same of the batch samplers."""
        return self._nested.build(getattr(iterable, "batch_sampler", None) for iterable in self.flattened)

    @property
    def flattened(self) -> list[Any]:
        """The iterables, in one list; one of the same length may be set."""
        return self._flattened

    @flattened.setter
    def flattened(self, flattened: list[Any]) -> None:
        if len(flattened) != len(self._flattened):
            raise ConfigError(
                f"CombinedLoader.flattened: {len(flattened)} iterables in the place of {len(self._flattened)}"
            )
        self._iterables, self._flattened = self._nested.build(flattened), flattened

    @property
    def limits(self) -> list[int | float] | None:
        """How many batches of each iterable are used at most; None: all. One number may be set for all of them.

        Iterating minds them in the mode "sequential" alone, the length in every one.
        """
        return self._limits

    @limits.setter
    def limits(self, limits: int | float | list[int | float] | None) -> None:
        if isinstance(limits, (int, float)):
            limits = [limits] * len(self.flattened)
        elif limits is not None and len(limits) != len(self.flattened):
            raise ConfigError(f"CombinedLoader.limits: {len(limits)} limits for {len(self.flattened)} iterables")
        self._limits = limits

    def __iter__(self) -> CombinedLoader:
        self._iterator = self._in_turn() if self._mode == "sequential" else self._together()
        return self

    def __next__(self) -> tuple[Any, int, int]:
        assert self._iterator is not None
        return next(self._iterator)

    def _together(self) -> Iterator[tuple[Any, int, int]]:
        iterators = [iter(iterable) for iterable in self.flattened]  # now, as a `for` loop would
        batches = together(self._mode, iterators, [False] * len(iterators), lambda place: iter(self.flattened[place]))
        return ((self._nested.build(found), index, 0) for index, found in enumerate(batches))

    def _in_turn(self) -> Iterator[tuple[Any, int, int]]:
        limits = self._limits or [math.inf] * len(self.flattened)
        return in_turn(0, iter(self.flattened[0]), 0, limits, lambda place: iter(self.flattened[place]))

    def __len__(self) -> int:
        """How many batches there are.

        Raises RuntimeError before `iter()` was called, TypeError where an iterable without a length decides.
        """
        if self._iterator is None:
            raise RuntimeError("len(CombinedLoader): call iter() of it first, the iterables may change until then")
        lengths = [length_of(iterable) for iterable in self.flattened]
        if self._limits is not None:
            lengths = [min(pair) for pair in zip(lengths, self._limits, strict=True)]
        number = number_of(self._mode, lengths)
        return number  # type: ignore[return-value]  # inf is Python's own error

    def reset(self) -> None:
        """End the iteration, and the worker processes of the iterables."""
        self._iterator = None
        for iterable in self.flattened:
            if hasattr(iterable, "_iterator"):
                if (end := getattr(iterable._iterator, "_shutdown_workers", None)) is not None:
                    end()
                iterable._iterator = None

    def __getstate__(self) -> dict[str, Any]:
        return {"iterables": self._iterables, "mode": self._mode, "limits": self._limits}  # no iteration can be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["iterables"], state["mode"])  # type: ignore[misc]
        self._limits = state["limits"]
