"""The form of what a checkpoint says of the loop and of the generators, checked before a fit is resumed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lightkit.contracts import REDUCTIONS
from lightkit.loops.position import Counters
from lightkit.schema import (
    ANYTHING,
    NUMBER,
    TENSOR,
    TEXT,
    TRUTH,
    WHOLE,
    Choice,
    DictOf,
    Either,
    Form,
    ListOf,
    Record,
    StateError,
    optional,
)
from lightkit.seeding import isolate_rng, restore_rng

_VALUE = Either((NUMBER, TENSOR))
_COUNTS: dict[str, Form] = {
    field.name: TRUTH if isinstance(field.default, bool) else WHOLE for field in fields(Counters)
}
_ENDED_AT = {"ended_at": _COUNTS.pop("ended_at")}  # where an epoch was ended before its last batch
_COUNTERS = Record(_COUNTS, _ENDED_AT)
_SLOT = Record({
    "options": ListOf(ANYTHING, (TRUTH, *(optional(TRUTH),) * 3, TEXT, TRUTH)), "used": TRUTH,
    "latest": optional(_VALUE), "rows": optional(TENSOR), "weights": ListOf(NUMBER), "total": optional(_VALUE),
    "host_total": optional(NUMBER), "weight": NUMBER, "on_step": TRUTH, "on_epoch": TRUTH,
    "reduce": Choice(REDUCTIONS), "has_suffix": TRUTH,
})  # fmt: skip
_RESULTS = DictOf(ListOf(ListOf(ANYTHING, (TEXT, optional(WHOLE), _SLOT, optional(TEXT)))))
_METRICS = DictOf(Record({}, {
    "state": DictOf(Either((TENSOR, ListOf(ANYTHING)))), "updates": WHOLE, "attributes": DictOf(ANYTHING),
    "steps": WHOLE,
}))  # fmt: skip
_BOARD = Record({"callback": DictOf(TENSOR), "logged": DictOf(NUMBER), "progress_bar": DictOf(NUMBER)})
_GENERATORS = optional(DictOf(ANYTHING))
_BEFORE = Record({"rng": DictOf(ANYTHING), "generators": _GENERATORS})
_ONE = {"before": optional(_BEFORE), "generators": _GENERATORS, "loader": ANYTHING}
_OF_ONE: dict[str, Form] = {
    "first_seed": optional(WHOLE), "epochs_opened": WHOLE, "known": ListOf(ListOf(WHOLE)), "length": optional(WHOLE),
}  # fmt: skip
_LOADER = Record(_ONE, _OF_ONE)
_ROUND = Record({
    "place": WHOLE, "began_at": WHOLE, "given": WHOLE, "first": optional(_BEFORE), "state": optional(_LOADER),
})  # fmt: skip
# of several loaders, too
_DATA = Record(_ONE, {**_OF_ONE, "mode": TEXT, "children": ListOf(_LOADER), "rounds": ListOf(_ROUND)})
_WINDOW = Record({
    "micro": WHOLE, "size": WHOLE, "first": WHOLE, "reference": optional(_VALUE),
    "weights": ListOf(_VALUE), "gradients": optional(ListOf(ListOf(optional(TENSOR)))),
})  # fmt: skip
_LOOP = Record(
    {"progress": _COUNTERS, "results": _RESULTS, "metrics": _METRICS, "board": _BOARD, "data": optional(_DATA),
     "outputs": ListOf(ListOf(ANYTHING))},
    {"window": optional(_WINDOW)},
)  # fmt: skip


def check_loop(state: object) -> None:
    """Raise StateError where the state of a Position could not be gone on with."""
    _LOOP.check(state)
    assert isinstance(state, Mapping)
    for place, metric in state["metrics"].items():
        if not 0 <= (steps := metric.get("steps", 0)) < max(len(state["metrics"]), 1):
            raise StateError(f"expected as many steps as there are metrics of them, found {steps}", "metrics", place)
    data, is_inside = state["data"], state["progress"]["is_epoch_started"] and not state["progress"]["is_epoch_done"]
    before = None if data is None else data["before"]
    if before is not None:
        check_generators(before["rng"], "data", "before", "rng")
        _check_moments_of_several(data)
    elif is_inside:
        place = ("data",) if data is None else ("data", "before")
        raise StateError("expected the generators from before the epoch that is under way, found None", *place)


def _check_moments_of_several(data: Mapping[str, Any]) -> None:
    """The generators that loaders and rounds begin with, where several loaders are read."""
    count = len(data.get("children", ()))
    held = [("children", index, "before", child["before"]) for index, child in enumerate(data.get("children", ()))]
    for index, each in enumerate(data.get("rounds", ())):
        if not 0 <= (place := each["place"]) < count:
            raise StateError(f"expected one of {count} loaders, found {place}", "data", "rounds", index, "place")
        held.append(("rounds", index, "first", each["first"]))
        if each["state"] is not None:
            held.append(("rounds", index, "state", each["state"]["before"]))
    for key, index, name, moment in held:
        if moment is not None:
            check_generators(moment["rng"], "data", key, index, name, "rng")


_RNG = Record({
    "torch": TENSOR, "numpy": ListOf(ANYTHING, (TENSOR, WHOLE, WHOLE, NUMBER)),
    "python": ListOf(ANYTHING, (WHOLE, TENSOR, optional(NUMBER))),
}, {"cuda": ListOf(TENSOR), "mps": TENSOR})  # fmt: skip


def check_generators(state: object, *place: object) -> None:
    """Raise StateError where the state of the process's generators cannot be gone back to."""
    _RNG.check(state, *place)
    assert isinstance(state, dict)
    try:
        with isolate_rng():
            restore_rng(state)
    except Exception as error:  # each library has its own for a state of the wrong size
        raise StateError(f"no state of the random generators: {error}", *place) from error
