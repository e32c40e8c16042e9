"""torchmetrics objects that are logged: each place gets its own value, or an object that has two is refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from lightkit.errors import ConfigError
from lightkit.metric_objects import States, found_in, restore, snapshot

if TYPE_CHECKING:
    from lightkit.results import Results, Slot

    Used = Sequence[tuple[str, int | None, Slot]]  # hook, loader, slot of a metric


class Parked(NamedTuple):
    """A metric whose loader is done: what it held, and how often its parts were updated once it was empty."""

    metric: Any
    states: States
    updates: list[int]


def computed(name: str, metric: Any) -> object:
    """What the metric logged under this name computes; None where it was never updated and cannot say anything."""
    try:
        return metric.compute()
    except Exception as error:  # whatever a metric makes of having nothing
        if any(getattr(part, "_update_count", 0) for part in metric.modules()):
            raise
        warnings.warn(
            f"self.log({name!r}, ...): this {type(metric).__name__} was never updated and has no value: {error}",
            stacklevel=3,
        )
        return None


def park(ended: Iterable[Slot]) -> dict[int, Parked]:
    """Keep the value of each slot, and empty its metric for the loader that comes next; by the metric's id."""
    metrics = {}
    for slot in ended:
        slot.freeze()
        metrics[id(slot.metric)] = slot.metric
    parked = {}
    for key, metric in metrics.items():
        states = snapshot(metric)
        metric.reset()
        parked[key] = Parked(metric, states, _updates(metric))
    return parked


def unpark(parked: Iterable[Parked]) -> None:
    """Give back to each metric what it held, where nothing has been added since."""
    for metric, states, updates in parked:
        if _updates(metric) == updates:
            restore(metric, states)


def check_pooled(used: Used) -> None:
    """Raise ConfigError where a metric's value over all loaders would hold less, or more, than the loaders named."""
    for metric in {id(slot.metric): slot.metric for _, index, slot in used if index is None}.values():
        places = [(hook, s, s.loaders - {None} if i is None else {i}) for hook, i, s in used if s.metric is metric]
        loaders = set().union(*(claimed for _, _, claimed in places))
        odd = [(hook, slot) for hook, slot, claimed in places if claimed != loaders]
        if len(loaders) > 1 and odd:
            (hook, slot), *_ = odd
            (other_hook, other), *_ = [(h, s) for h, s, _ in places if s is not slot] or odd
            raise ConfigError(
                f"self.log({slot.name!r}, ...) in {hook}: the same {type(metric).__name__} is logged as {other.name!r} "
                f"in {other_hook} for other dataloaders, and holds the values of all of them; give each dataloader a "
                "metric of its own"
            )


def check_unshared(results: Results, slot: Slot, metric: object) -> None:
    """Raise ConfigError where a metric that is logged holds values of another pass, or of several loaders, too."""
    where = f"self.log({slot.name!r}, ...) in {results.hook}"
    found = [(hook, name) for known, hook, name in results.elsewhere if known is metric]
    outer = results.outer
    while outer is not None:
        used = [(hook, s.name) for hook, _, s in outer.each() if s.metric is metric and (s.used or outer.is_training)]
        found += used
        outer = outer.outer
    if found:
        hook, name = found[0]
        raise ConfigError(
            f"{where}: the same {type(metric).__name__} is logged as {name!r} in {hook}, and each would hold the "
            "other's values; give each place a metric of its own, e.g. metric.clone()"
        )
    if results.dataloader_idx is not None or id(metric) not in results.parked:
        return
    of_metric = [(hook, index, s) for hook, index, s in results.each() if s.metric is metric and s.used]
    if len({index for _, index, _ in of_metric}) > 1:
        hook, _, other = of_metric[0]
        raise ConfigError(
            f"{where}: the same {type(metric).__name__} is logged as {other.name!r} in {hook} for each dataloader, and "
            "holds the last one's values alone; give the value over all a metric of its own"
        )


def check_single(slot: Slot, value: object) -> None:
    """Raise ConfigError where a metric computes something else than one number."""
    if isinstance(value, Tensor):
        if value.numel() == 1:
            return
        what = f"shape {tuple(value.shape)}"
    else:
        what = f"a {type(value).__name__}"
    how = "call its compute() and reset() in an *_epoch_end hook and log the numbers wanted"
    if isinstance(value, dict):
        how = "in an *_epoch_end hook, hand its compute() to self.log_dict and reset() it"
    raise ConfigError(
        f"self.log({slot.name!r}, ...): {type(slot.metric).__name__} computes {what}, not one number; {how}"
    )


def _updates(metric: Any) -> list[int]:
    return [getattr(part, "_update_count", 0) for part in found_in(metric).values()]
