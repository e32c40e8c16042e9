"""torchmetrics objects of a module: where they are, what they hold, how they get it back.

Their own `state_dict` leaves the running state out, and what a metric keeps outside of `add_state` (the extremes of
MinMaxMetric, the steps of MetricTracker, the window of Running) is in none. torchmetrics is not imported for any of it.
"""

from __future__ import annotations

import collections
import copy
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightkit.contracts import is_metric
from lightkit.devices.transfer import move_data_to_device

State = dict[str, Any]  # of one object
States = dict[str, State]  # by place in the module

MOST_ITEMS = 1000  # looked at in a plain list: one of metrics is short, one of numbers may be long

# what a metric has to work with, and every part of a module; the rest is its settings and its history
_OWN = frozenset(vars(nn.Module())) | frozenset(
    "_defaults _persistent _reductions _computed _forward_cache _cache _update_count _device _dtype _to_sync "
    "_should_unsync _enable_grad _is_synced _dtype_convert _update_signature update compute".split()
)
_PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None), Tensor))
_CONTAINERS = (list, tuple, dict, set, collections.OrderedDict)
_COPIED = (*_CONTAINERS, collections.deque, collections.Counter, collections.defaultdict, bytearray, np.ndarray)


def found_in(root: nn.Module) -> dict[str, Any]:
    """The torchmetrics objects of a module by place, wrappers before what they wrap.

    They may be parts of the module, or stand in its plain attributes: in lists, tuples, dicts, dataclasses.
    """
    found: dict[str, Any] = {place: part for place, part in root.named_modules() if _is_of_torchmetrics(part)}
    known = {id(part) for part in found.values()}
    for place, part in root.named_modules():
        for name, value in vars(part).items():
            if name in _OWN:
                continue
            for inner, metric in _in_plain(value, f"{place}.{name}" if place else name):
                if id(metric) not in known:
                    known.add(id(metric))
                    found[inner] = metric
    return found


def _in_plain(value: object, place: str) -> Iterator[tuple[str, nn.Module]]:
    pairs: Iterable[tuple[object, object]] = ()
    if isinstance(value, nn.Module):
        yield from ((name, part) for name, part in value.named_modules(prefix=place) if _is_of_torchmetrics(part))
    elif isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    elif is_dataclass(value) and not isinstance(value, type):
        pairs = vars(value).items() if hasattr(value, "__dict__") else ()
    for key, item in islice(pairs, MOST_ITEMS):
        yield from _in_plain(item, f"{place}.{key}")


def _is_of_torchmetrics(part: nn.Module) -> bool:
    return is_metric(part) or (
        # MetricTracker and MetricCollection are no Metrics
        isinstance(part, (nn.ModuleList, nn.ModuleDict)) and type(part).__module__.startswith("torchmetrics.")
    ) or _is_tracker(part)  # fmt: skip


def _is_tracker(part: nn.Module) -> bool:
    return isinstance(part, nn.ModuleList) and all(hasattr(part, name) for name in ("increment", "n_steps"))


class MetricKeeper:
    """Knows what the metrics of a module were when they were first seen, and so what has become of them since."""

    def __init__(self) -> None:
        self.first: dict[str, tuple[Any, State]] = {}  # by place: the object, its attributes
        self.spoken_of: set[tuple[str, str]] = set()  # attributes that cannot be kept

    def see(self, root: nn.Module) -> None:
        """Remember the metrics that are new."""
        for place, part in found_in(root).items():
            if place not in self.first or self.first[place][0] is not part:
                self.first[place] = part, {name: _frozen(value) for name, value in _attributes(part)}

    def places(self, root: nn.Module) -> dict[int, str]:
        """The places of the metrics of a module, by their id."""
        return {id(part): place for place, part in found_in(root).items()}

    def states(self, root: nn.Module, *, is_whole: bool = False) -> States:
        """What the metrics of a module hold: running state, and attributes that changed since they were first seen.

        Warns, with the metric's name, of a changed attribute that no checkpoint can hold. is_whole: all attributes, to
        put them back in this process.
        """
        if is_whole:
            return snapshot(root)
        states: States = {}
        for place, part in found_in(root).items():
            known, before = self.first.get(place, (None, {}))
            if known is not part:
                # made since: what its constructor was given is not its history
                before = {name: value for name, value in _attributes(part) if name.lstrip("_") in _arguments(part)}
            changed = {n: v for n, v in _attributes(part) if n not in before or not _is_same(before[n], v)}
            if state := _state_of(part, self._that_can_be_kept(place, part, changed)):
                states[place] = state
        return states

    def _that_can_be_kept(self, place: str, part: object, changed: State) -> State:
        kept = {name: value for name, value in changed.items() if _is_plain(value)}
        for name, value in changed.items():
            is_told = (place, name) in self.spoken_of
            if name in kept or is_told or isinstance(value, nn.Module) or callable(value):
                continue
            self.spoken_of.add((place, name))
            warnings.warn(
                f"{place} ({type(part).__name__}): its attribute {name}, a {type(value).__name__}, has changed and is "
                "left out of checkpoints; a resumed run goes on without it. Use add_state, numbers, tensors, lists or "
                "dicts",
                stacklevel=2,
            )
        return kept


def snapshot(root: nn.Module) -> States:
    """All that the metrics of a module, or one metric with those inside of it, hold now; to put it back."""
    return {place: _state_of(part, dict(_attributes(part))) for place, part in found_in(root).items()}


def restore(root: nn.Module, states: Mapping[str, State], device: torch.device | None = None) -> None:
    """Take back what `states` or `snapshot` gave. device: where elements of lists go that were read from a file.

    Warns where a metric that had seen something is no longer there. Raises StateError for a state of another form.
    """
    from lightkit.schema import StateError

    for place, part in found_in(root).items():
        if _is_tracker(part) and place in states:
            _take_steps(part, states[place].get("steps", 0))
    parts = found_in(root)
    for place, saved in states.items():
        part = parts.get(place)
        if part is not None:
            try:
                _give(part, saved, device)
            except StateError as error:
                raise error.inside("metrics", place) from None
    lost = [place for place in states if place not in parts and states[place].get("updates")]
    if lost:
        warnings.warn(
            f"the checkpoint has values of metrics that {type(root).__name__} lacks: {', '.join(lost)}; they are lost",
            stacklevel=2,
        )


def _state_of(part: Any, attributes: State) -> State:
    state: State = {}
    if attributes:
        state["attributes"] = {name: _frozen(value) for name, value in attributes.items()}
    if is_metric(part):
        # a metric adds to its tensors in place and to its lists, not to the tensors in these
        held = {name: _frozen(v) if isinstance(v, Tensor) else [*v] for name, v in part.metric_state.items()}
        state.update(state=held, updates=part._update_count)
    if _is_tracker(part):
        state["steps"] = part.n_steps
    return state


def _give(part: Any, saved: State, device: torch.device | None) -> None:
    from lightkit.schema import TENSOR, optional

    for name, value in saved.get("attributes", {}).items():
        if name in _OWN or hasattr(type(part), name) or name in vars(part).get("_defaults", {}):
            continue  # no attribute that a metric of this class has outside of its state
        now = getattr(part, name, None)
        value = _frozen(value)
        if isinstance(now, Tensor):
            optional(TENSOR).check(value, "attributes", name)
        setattr(part, name, value.to(now.device) if isinstance(value, Tensor) and isinstance(now, Tensor) else value)
    if not is_metric(part):
        return
    for name, value in saved.get("state", {}).items():
        if name not in part._defaults:
            continue
        if isinstance(part._defaults[name], Tensor):
            TENSOR.check(value, "state", name)
        if isinstance(value, list):
            where = "cpu" if getattr(part, "compute_on_cpu", False) else device
            setattr(part, name, [*value] if where is None else move_data_to_device([*value], where))
        else:
            # its own tensor: metrics of a collection that share one were saved as one, and each adds to it
            now = getattr(part, name, None)
            setattr(part, name, value.to(now.device if isinstance(now, Tensor) else part.device, copy=True))
    part._update_count, part._computed = saved.get("updates", 0), None


def _take_steps(tracker: Any, count: int) -> None:
    while tracker.n_steps < count:
        tracker.increment()
    while tracker.n_steps > count:
        delattr(tracker, str(tracker.n_steps))  # the list's own `del` would rename the base metric in it


# ---------------------------------------------------------------- attributes outside of `add_state`


def _attributes(part: nn.Module) -> Iterator[tuple[str, object]]:
    states: Mapping[str, object] = vars(part).get("_defaults", {})
    return ((name, value) for name, value in vars(part).items() if name not in _OWN and name not in states)


def _arguments(part: object) -> set[str]:
    """Names of constructor arguments of the class and its bases."""
    made_by = [vars(kind)["__init__"] for kind in type(part).__mro__[:-1] if "__init__" in vars(kind)]
    return {name for init in made_by for name in inspect.signature(init).parameters}


def _is_plain(value: object) -> bool:
    """Whether a checkpoint gives it back as it was."""
    if type(value) in _PLAIN:
        return True
    if type(value) not in _CONTAINERS:
        return False
    if isinstance(value, dict):
        return all(_is_plain(key) and not isinstance(key, Tensor) and _is_plain(v) for key, v in value.items())
    assert isinstance(value, (list, tuple, set))
    return all(_is_plain(item) for item in value)


def _frozen(value: Any) -> Any:
    """The value as it is now, whatever happens to it afterwards."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if not isinstance(value, _COPIED):
        return value
    if type(value) is dict:
        return {key: _frozen(item) for key, item in value.items()}
    if type(value) is list:
        return [_frozen(item) for item in value]
    if type(value) is tuple:
        return tuple(_frozen(item) for item in value)
    return copy.copy(value)


def _is_same(before: Any, now: Any) -> bool:
    if before is now:
        return True
    if type(before) is not type(now):
        return False
    if isinstance(now, Tensor):
        return before.device == now.device and before.dtype == now.dtype and torch.equal(before, now)
    if isinstance(now, np.ndarray):
        return bool(np.array_equal(before, now))
    if isinstance(now, (list, tuple, collections.deque)):
        return len(before) == len(now) and all(map(_is_same, before, now))
    if isinstance(now, dict):
        return before.keys() == now.keys() and all(_is_same(before[key], now[key]) for key in now)
    return bool(before == now) if type(now) in _PLAIN or isinstance(now, _COPIED) else False
