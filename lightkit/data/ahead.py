"""An epoch that is opened before it begins, for workers that stay, and what decides its order meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils import data
from torch.utils.data import BatchSampler, SequentialSampler

from lightkit.data.generator_states import same, same_moment

if TYPE_CHECKING:
    from lightkit.data.order import Moment


class Ahead(NamedTuple):
    """An epoch opened early: its batches; generators before and after; `first_seed` and `epochs_opened` after.

    settings: what else decided its order, see `settings_of`.
    """

    batches: Iterator[Any]
    before: Moment
    after: Moment
    counts: tuple[int | None, int]
    settings: dict[str, object]

    def is_true(self, sampler: object, now: Moment) -> bool:
        """Whether opening the epoch now would give the same batches: nothing was drawn or set meanwhile."""
        is_same = same(settings_of(sampler), self.settings) and same_moment(now["rng"], self.before["rng"])
        return is_same and same(now["generators"], self.before["generators"])


def is_torchs(sampler: object) -> bool:
    """Whether the order is drawn by samplers of torch alone, which keep nothing but generators from epoch to epoch."""
    kinds = SequentialSampler, data.RandomSampler, data.SubsetRandomSampler, data.WeightedRandomSampler
    return type(sampler.sampler if type(sampler) is BatchSampler else sampler) in (*kinds, data.DistributedSampler)


def settings_of(sampler: Any) -> dict[str, object]:
    """What decides the order of torch's samplers beside generators, copied: weights, indices, the size of a batch."""
    inner = sampler.sampler if type(sampler) is BatchSampler else sampler
    found: dict[str, object] = {"len": len(inner)}  # type: ignore[arg-type]
    for place, part in (("", sampler), ("sampler.", inner)):
        for name, value in vars(part).items():
            if name in ("sampler", "generator", "data_source", "dataset"):
                continue
            if isinstance(value, torch.Tensor):
                value = value.clone()
            elif isinstance(value, (list, np.ndarray)):
                value = list(value)
            found[place + name] = value
    return found
