"""Loaders that keep their own position (`state_dict`, `load_state_dict`), and whether they find it again.

torchdata's StatefulDataLoader is one. What it reads has to seek as well: an iterable data set with a `load_state_dict`
that does not move it begins anew, or is at its end, and nothing says so. So the first batch after a resume is looked
at, and how many there are; where something is wrong the batches are drawn again and dropped, as with other iterables.
"""

from __future__ import annotations

import itertools
import math
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lightkit.data.lengths import length_of
from lightkit.data.order import Source, SourceState, ended_early
from lightkit.devices.transfer import map_tensors
from lightkit.errors import DataError
from lightkit.seeding import Snapshot, restore_rng

_END = object()
_MOST_ELEMENTS = 4096  # of each tensor, to know a batch by


class StatefulSource(Source):
    """A loader that is asked for its position."""

    def __init__(self, loader: Any, name: str):
        super().__init__(loader, name)
        self.known: list[list[int]] = []  # the first and the last batch of the running epoch, see `digest`
        self.newest: object = _END  # the last one itself
        self.is_at_end = False  # the loader was given a position at the end of an epoch
        self.length: int | None = None  # batches of the last epoch that was read to its end

    def state_dict(self) -> SourceState:
        """As Source.state_dict; with the loader's own, and what a resume is checked by."""
        if self.newest is not _END:
            self.known = [*self.known[:1], digest(self.newest)]
        return {**super().state_dict(), "loader": self.loader.state_dict(), "known": self.known, "length": self.length}

    def moving_state(self) -> SourceState:
        """As Source.moving_state: every batch moves it."""
        return self.state_dict()

    def load_between_epochs(self, state: SourceState) -> None:
        """As Source.load_between_epochs; the loader begins its epoch by itself."""
        super().load_between_epochs(state)
        self.length = state.get("length")

    def _iterate(self, skip: int, state: SourceState | None = None) -> Iterator[Any]:
        if state is None:
            return self._watched(self._begin())
        if state["loader"] is None:  # the checkpoint is of another kind of loader
            return super()._iterate(skip)
        self.known, self.length = state.get("known", []), state.get("length")
        self.loader.load_state_dict(state["loader"])
        self.is_at_end = skip >= self._total()
        return self._checked(self._begin(), skip)

    def _watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """A whole epoch; its first batch and its length are remembered."""
        count, self.is_at_end, was_at_end = 0, False, self.is_at_end
        for batch in batches:
            if count == 0:
                self.known = [digest(batch)]
            count += 1
            self.newest = batch
            yield batch
        if count == 0 and was_at_end:  # only now the loader looked at the position that it was given
            yield from self._watched(self._begin())
            return
        self.length, self.newest = count, _END

    def close(self) -> None:
        """As Source.close."""
        super().close()
        self.newest = _END

    def release(self, *, has_failed: bool = False) -> None:
        """As Source.release."""
        super().release(has_failed=has_failed)
        self.newest = _END

    def _checked(self, batches: Iterator[Any], skip: int) -> Iterator[Any]:
        """What comes after `skip` batches, also where the loader has not found its position."""
        now, batch = Snapshot(), next(batches, _END)
        first, parts = self.known[0] if len(self.known) > 0 else [], digest(batch)
        if skip > 0 and (batch is _END or any(a == b for a, b in zip(parts, first, strict=False))):
            now.restore()
            replay = _Replay(self, skip)
            expected = next(replay.batches, _END)
            is_lost = expected is not _END if batch is _END else replay.began_anew(parts, digest(expected))
            if is_lost:
                self._warn("gave no batch" if batch is _END else "began the epoch anew", skip)
            if is_lost or batch is _END:
                yield from () if expected is _END else itertools.chain([expected], replay.batches)
                return
        given: list[list[int]] = []
        while batch is not _END:
            given.append(digest(batch))
            self.newest = batch
            yield batch
            batch = next(batches, _END)
        missing = self._total() - skip - len(given)
        if 0 < missing < math.inf:
            for number, lost in enumerate(_Replay(self, skip).without(given, int(missing))):
                if number == 0:
                    self._warn(f"gave {len(given)} batches, {int(missing)} too few,", skip)
                yield lost

    def begin_again(self) -> Iterator[Any]:
        """The loader's epoch, from its beginning."""
        return self._begin()

    def _total(self) -> float:
        """Batches of a whole epoch, inf where nobody knows."""
        if self.length is not None:
            return self.length
        return length_of(self.loader)

    def _warn(self, what: str, skip: int) -> None:
        kind = type(self.loader).__name__
        warnings.warn(
            f"{self.name}: after {kind}.load_state_dict() the loader {what} instead of going on after {skip} batches; "
            "they are drawn again and skipped. Let load_state_dict() of the data set move it to where it was, or give "
            "both methods up",
            stacklevel=2,
        )


class _Replay:
    """The epoch once more, without its first `skip` batches; drawn with the generators that they were drawn with."""

    def __init__(self, source: StatefulSource, skip: int):
        before = source.before
        assert before is not None
        now, own = Snapshot(), source.own_generators()
        restore_rng(before["rng"])
        source.restore_own_generators(before["generators"])
        self.batches = source.begin_again()
        ends: list[list[int]] = []
        for done in range(skip):
            batch = next(self.batches, _END)
            if batch is _END:
                raise DataError(ended_early(done, skip))
            if done in (0, skip - 1):
                ends.append(digest(batch))
        now.restore()
        source.restore_own_generators(own)
        # the parts of a batch that are the same every time, as what is changed at random is not
        self.first = ends[0]
        pairs = [list(zip(a, b, strict=False)) for a, b in zip(ends, source.known, strict=False)]
        self.stable = [i for i in range(len(self.first)) if all(i < len(p) and p[i][0] == p[i][1] for p in pairs)]

    def began_anew(self, found: list[int], expected: list[int]) -> bool:
        """Whether a batch is the epoch's first, and not the one that is expected."""
        parts = [self.first, found, expected]
        return any(
            a == b != c
            for a, b, c in (tuple(part[i] for part in parts) for i in self.stable if i < min(map(len, parts)))
        )

    def without(self, given: list[list[int]], count: int) -> Iterator[Any]:
        """The batches that are not among those given, at most `count`; the last ones where nothing tells them apart."""
        seen = Counter(map(self._key, given))
        if len(self.stable) == 0:
            seen = Counter({(): len(given)})
        for batch in self.batches:
            key = self._key(digest(batch))
            if seen[key] > 0:
                seen[key] -= 1
            elif count > 0:
                count -= 1
                yield batch

    def _key(self, parts: list[int]) -> tuple[int, ...]:
        return tuple(parts[i] for i in self.stable if i < len(parts))


def digest(batch: object) -> list[int]:
    """Numbers to know a batch by: one of the beginning of each tensor, or of what is printed where it has none."""
    found: list[int] = []

    def take(tensor: Tensor) -> Tensor:
        number = zlib.crc32(repr((tensor.shape, tensor.dtype)).encode())
        if tensor.layout is torch.strided:
            begin = tensor.detach().reshape(-1)[:_MOST_ELEMENTS].cpu().contiguous()
            number = zlib.crc32(begin.view(torch.uint8).numpy().tobytes(), number)
        found.append(number)
        return tensor

    map_tensors(batch, take)
    return found or [zlib.crc32(repr(batch).encode())]
