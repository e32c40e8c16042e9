"""Several loaders read as one source, whose position can be saved: each with its own order, and how far it is.

A loader that ends before the others may begin anew inside the epoch (a round), with what the generators hold then. So
a round is known by the batch of the epoch with which it began, and the generators of that moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightkit.data import generators
from lightkit.data.combined_loader import Mode, check_mode, in_turn, number_of, together
from lightkit.data.lengths import check_loader
from lightkit.data.nested import Nested, apart, is_container, of_loaders
from lightkit.data.order import Moment, Source, SourceState, make_source
from lightkit.errors import CheckpointError, DataError
from lightkit.seeding import Snapshot

_NO_SEED: SourceState = {"first_seed": None, "epochs_opened": 0}


@dataclass
class _Round:
    """One pass over a loader.

    place: of the loader. began_at: batches of the epoch before it. given: its own. first: the generators when its first
    batch was asked for, where other loaders were opened in between. state: of a loader that has begun anew since, as it
    was in this round.
    """

    place: int
    began_at: int
    given: int = 0
    first: Moment | None = None
    state: SourceState | None = None


class CombinedSource(Source):
    """Several sources as one.

    steps_hold: how many batches an optimizer step may take now; a resume may go back to the first of them.
    """

    def __init__(
        self, loader: object, nested: Nested, children: list[Source], mode: Mode, name: str,
        steps_hold: Callable[[], int],
    ):  # fmt: skip
        super().__init__(loader, name)
        self.nested, self.children, self.mode, self.steps_hold = nested, children, mode, steps_hold
        self.limits: list[float] = [math.inf] * len(children)
        self.rounds: list[_Round] = []
        self.count = 0  # batches that were given in the running epoch
        self.remembers = True

    # ------------------------------------------------------------ as many parts

    def parts(self) -> list[Source]:
        """As Source.parts."""
        return self.children

    def lengths(self) -> list[float]:
        """As Source.lengths."""
        return [length for child in self.children for length in child.lengths()]

    def limited(self, limit: int | float, argument: str) -> float:
        """As Source.limited; each loader has the limit, a fraction is one of each."""
        self.limits = [child.limited(limit, argument) for child in self.children]
        return number_of(self.mode, self.limits)

    def check(self) -> None:
        """As Source.check."""
        for child in self.children:
            child.check()

    def own_generators(self) -> generators.States:
        """As Source.own_generators, of all loaders."""
        return {
            f"{place}:{name}": state
            for place, child in enumerate(self.children)
            for name, state in child.own_generators().items()
        }

    def restore_own_generators(self, states: generators.States | None) -> None:
        """As Source.restore_own_generators."""
        by_place: list[dict[str, object]] = [{} for _ in self.children]
        for key, state in (states or {}).items():
            place, _, name = key.partition(":")
            if place.isdecimal() and int(place) < len(by_place):
                by_place[int(place)][name] = state
        for child, own in zip(self.children, by_place, strict=True):
            child.restore_own_generators(own)

    def set_epoch(self, epoch: int) -> None:
        """As Source.set_epoch, for the samplers of each loader."""
        for child in self.children:
            child.set_epoch(epoch)

    def close(self) -> None:
        """As Source.close."""
        super().close()
        for child in self.children:
            child.close()
        self.rounds = []

    def release(self, *, has_failed: bool = False) -> None:
        """As Source.release."""
        for child in self.children:
            child.release(has_failed=has_failed)

    # ------------------------------------------------------------ an epoch

    def open(self, *, remember: bool = True) -> Iterator[Any]:
        """As Source.open; the loaders are opened in their order, those of "sequential" when it is their turn."""
        self.remembers = remember
        self.before = self._capture() if remember else None
        self.rounds, self.count = [], 0
        if self.mode == "sequential":
            return self._in_turn(0, self._open(0), 0)
        return self._together([self._open(place) for place in range(len(self.children))], [False] * len(self.children))

    def open_ahead(self, epoch: int) -> None:
        """As Source.open_ahead; each after the one before it, as far as all can be."""
        start = self._capture()
        for child in self.children if self.mode != "sequential" else self.children[:1]:
            child.open_ahead(epoch)
            ahead = getattr(child, "ahead", None)
            if ahead is None:
                break
            ahead.after["rng"].restore()
            child.restore_own_generators(ahead.after["generators"])
        start["rng"].restore()
        self.restore_own_generators(start["generators"])

    def _together(self, batches: list[Iterator[Any]], ended: list[bool]) -> Iterator[Any]:
        for found in together(self.mode, batches, ended, self._open):
            self.count += 1
            yield self.nested.build(found)

    def _in_turn(self, place: int, batches: Iterator[Any], done: int) -> Iterator[Any]:
        for batch, _, _ in in_turn(place, batches, done, self.limits, self._open):
            self.count += 1
            yield batch

    def _open(self, place: int) -> Iterator[Any]:
        child = self.children[place]
        if self.remembers:
            self._forget_rounds(child, place)
        batches = child.open(remember=self.remembers)
        begun = _Round(place, self.count)
        self.rounds.append(begun)
        return self._counted(child, begun, batches)

    def _counted(self, child: Source, begun: _Round, batches: Iterator[Any]) -> Iterator[Any]:
        # workers were given the first batches when they were opened; of one loader, and in later rounds, nothing is
        # drawn between the two
        if self.remembers and begun.first is None and begun.began_at == begun.given == 0 and not child.runs_ahead:
            begun.first = child._capture() if len(self.children) > 1 else None
        for batch in batches:
            begun.given += 1
            yield batch
        if begun.given == 0 and self.mode in ("min_size", "max_size_cycle"):
            again = ", begun anew after it was at its end," if begun.began_at > 0 else ""
            raise DataError(
                f"{child.name}{again} gave no batch; give a loader that can be iterated over each time, or "
                'CombinedLoader(..., mode="max_size")'
            )

    def _forget_rounds(self, child: Source, place: int) -> None:
        """A loader is to be opened: keep of its last round what going back to it takes, and forget older ones."""
        oldest = self.count + 1 - self.steps_hold()
        last = next((each for each in reversed(self.rounds) if each.place == place), None)
        if last is not None and oldest < self.count:
            last.state = {**child.state_dict(), "generators": None, "loader": None}
        kept: list[_Round] = []
        following = {place: self.count}
        for each in reversed(self.rounds):
            # one without successor is the newest of its loader
            if each.place not in following or following[each.place] > oldest:
                kept.insert(0, each)
            following[each.place] = each.began_at
        self.rounds = kept

    # ------------------------------------------------------------ its position

    def state_dict(self) -> SourceState:
        """As Source.state_dict; with the state of each loader and the rounds of the epoch."""
        rounds = [] if self.before is None else self.rounds
        for each in rounds:
            each.first = _plain(each.first)
        return {
            **super().state_dict(), **_NO_SEED, "mode": self.mode, "rounds": [{**vars(each)} for each in rounds],
            "children": [{**child.state_dict(), "generators": None} for child in self.children],
        }  # fmt: skip

    def moving_state(self) -> SourceState:
        """As Source.moving_state: a batch may begin a round."""
        return self.state_dict()

    def load_between_epochs(self, state: SourceState) -> None:
        """As Source.load_between_epochs; also after an epoch of other loaders, of which what fits is taken."""
        for child, own in zip(self.children, state.get("children", ()), strict=False):
            child.load_between_epochs({**_NO_SEED, **own})
        self.restore_own_generators(state["generators"])

    def reopen(self, state: SourceState, skip: int) -> Iterator[Any]:
        """As Source.reopen. Raises CheckpointError where the epoch was one of other loaders."""
        states = self._states_in(state)
        self.remembers, self.before, self.count = True, state["before"], skip
        self.rounds = [_Round(**each) for each in state["rounds"] if each["began_at"] <= skip]
        newest: dict[int, _Round] = {each.place: each for each in self.rounds}
        goes_back = any(each.state is not None for each in newest.values())
        if len(newest) < (1 if self.mode == "sequential" else len(self.children)):
            raise CheckpointError(f"resuming: the checkpoint does not say where {self.name} was after {skip} batches")
        last = self.rounds[-1].place if self.mode == "sequential" else -1
        batches: list[Iterator[Any]] = []
        ended: list[bool] = []
        for place, child in enumerate(self.children):
            current = newest.get(place)
            done = 0 if current is None else skip - current.began_at
            if current is None or current.given < done or last not in (-1, place):
                child.load_between_epochs({**_NO_SEED, **states[place]})
                batches.append(iter(()))
                ended.append(True)
                continue
            own = {**(current.state or states[place]), "first": current.first}
            current.given, current.state = done, None
            batches.append(self._counted(child, current, child.reopen(own, done)))
            ended.append(current.began_at > 0)
        if not goes_back:
            self.restore_own_generators(state["generators"])
        if last >= 0:
            return self._in_turn(last, batches[last], skip - newest[last].began_at)
        return self._together(batches, ended)

    def _states_in(self, state: SourceState) -> list[SourceState]:
        found: list[SourceState] | None = state.get("children")
        if found is None or len(found) != len(self.children) or state["mode"] != self.mode:
            raise other_loaders(self.name, f"{len(self.children)} in the mode {self.mode!r}", state)
        return found


def other_loaders(name: str, what: str, state: SourceState) -> CheckpointError:
    """What is raised where a checkpoint is to be gone on from in the middle of an epoch with other loaders."""
    found = f"{len(state['children'])} in the mode {state['mode']!r}" if "children" in state else "one loader"
    return CheckpointError(
        f"resuming: {name} is {what}, the checkpoint was taken in the middle of an epoch of {found}; give the loaders "
        "that it was taken with, or a checkpoint of an epoch's end"
    )


def _plain(moment: Moment | None) -> Moment | None:
    if moment is None or not isinstance(moment["rng"], Snapshot):
        return moment
    return {"rng": moment["rng"].plain(), "generators": moment["generators"]}


def read(
    given: Any, names: str, how: Mapping[str, bool], steps_hold: Callable[[], int], *, may_be_empty: bool = False
) -> list[Source]:
    """Check the loaders of a collection and make them readable: see `sources.sources_of`."""
    is_training = how["is_training"]
    mode: Mode = "max_size_cycle" if is_training else "sequential"
    if is_combined := hasattr(type(given), "flattened"):
        mode = given._mode
        check_mode(mode)
    nested = apart(given.iterables, is_container) if is_combined else of_loaders(given)
    if len(nested.loaders) == 0 and is_training:
        check_loader(given, names)
    each = [f"{names}{place}" for place in nested.places]
    for loader, name in zip(nested.loaders, each, strict=True):
        check_loader(loader, name, may_be_empty=may_be_empty)
    children = [make_source(loader, name, **how) for loader, name in zip(nested.loaders, each, strict=True)]
    is_one = len(nested.places) == 1 and nested.places[0] == ""
    if is_one or (mode == "sequential" and not is_training):
        return children
    return [CombinedSource(given, nested, children, mode, names, steps_hold)]
