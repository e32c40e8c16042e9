"""Several dicts of metrics made one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def merge_dicts(
    dicts: Sequence[Mapping[str, float]], agg_key_funcs: Mapping[str, Callable[[Sequence[float]], float]] | None = None,
    default_func: Callable[[Sequence[float]], Any] = np.mean,
) -> dict[str, float]:  # fmt: skip
    """One dict of several with the mean of each key's values, or what `agg_key_funcs` has for that key."""
    chosen = agg_key_funcs or {}
    keys = sorted({key for one in dicts for key in one})
    return {key: float(chosen.get(key, default_func)([one[key] for one in dicts if key in one])) for key in keys}
