"""What of logged values is saved, so that a run resumed inside an epoch has the same mean to the last bit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lightkit.results import Results, ResultsState, Slot, State


def state_of(results: Results, places: Mapping[int, str], warns: bool) -> ResultsState:
    """See `Results.state_dict`."""
    state: ResultsState = {hook: [] for hook in results.slots}
    for hook, index, slot in results.each():
        place = None if slot.metric is None else places.get(id(slot.metric), "")
        if warns and place == "" and slot.used:
            warnings.warn(
                f"self.log({slot.name!r}, ...) in {hook}: this {type(slot.metric).__name__} is not in the module, "
                "so checkpoints leave out what it holds; assign it to an attribute in __init__",
                stacklevel=3,
            )
        state[hook].append([slot.name, index, _state_of(slot), place])
    return state


def _state_of(slot: Slot) -> State:
    latest = slot.latest.clone() if isinstance(slot.latest, Tensor) else slot.latest
    rows = None if slot.buffer is None else slot.buffer[: slot.count].clone()
    return {
        "options": [*slot.options[:4], slot.reduce, slot.options[5]], "used": slot.used, "latest": latest,
        "rows": rows, "weights": list(slot.weights), "total": slot.total, "host_total": slot.host_total,
        "weight": slot.weight, "on_step": slot.on_step, "on_epoch": slot.on_epoch, "reduce": slot.reduce,
        "has_suffix": slot.has_suffix,
    }  # fmt: skip
