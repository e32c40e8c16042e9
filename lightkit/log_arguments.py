"""Arguments of `self.log` that are not the usual ones: numbers of other kinds, reductions said by a function."""

from __future__ import annotations

import builtins
import math
from contextlib import suppress
from operator import index
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex

import numpy as np
import torch

from lightkit.contracts import REDUCTIONS
from lightkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lightkit.results import Options, Slot

_WORDS = {word: word for word in REDUCTIONS} | {
    "avg": "mean", "average": "mean", "fsum": "sum", "amin": "min", "minimum": "min", "amax": "max", "maximum": "max",
}  # fmt: skip
_HOMES = (builtins, torch, torch.Tensor, np, math)  # whose functions of these names mean them


def number_of(name: str, value: object) -> float:
    """A numpy scalar or the like as a number; ConfigError for what is none."""
    if isinstance(value, SupportsIndex):
        with suppress(TypeError):
            return index(value)  # a whole number stays one
    if isinstance(value, (str, SupportsFloat)):
        with suppress(TypeError, ValueError):
            return float(value)
    hint = ""
    if hasattr(value, "items"):
        hint = "; use self.log_dict for several"
    elif hasattr(value, "compute"):
        hint = "; log the number that its compute() gives"
    raise ConfigError(
        f"self.log({name!r}, ...): expected a number, a tensor with one element or a torchmetrics Metric, "
        f"got {type(value).__name__}{hint}"
    )


def reduction_of(name: str, reduce_fx: object) -> str:
    """The word for a reduction, which may also be said by a function: `max`, `torch.amax`, `np.mean`.

    Raises ConfigError, with the logged name, for any other.
    """
    is_word = isinstance(reduce_fx, str)
    said = reduce_fx.lower() if isinstance(reduce_fx, str) else getattr(reduce_fx, "__name__", "")
    if said in _WORDS and (is_word or any(getattr(home, said, None) is reduce_fx for home in _HOMES)):
        return _WORDS[said]
    raise ConfigError(
        f"self.log({name!r}, reduce_fx={reduce_fx!r}): expected one of {', '.join(REDUCTIONS)}; "
        f"for anything else log a torchmetrics Metric{did_you_mean(said, REDUCTIONS) if is_word else ''}"
    )


def check_same(slot: Slot, options: Options, hook: str) -> None:
    """Raise ConfigError where a name is logged with other arguments than before; `max` for "max" is no other."""
    before = slot.options
    if (*before[:4], slot.reduce, before[5]) != (*options[:4], reduction_of(slot.name, options[4]), options[5]):
        raise ConfigError(
            f"self.log({slot.name!r}, ...) in {hook}: called before with {_said(before)}, "
            f"now with {_said(options)}; a name keeps its arguments"
        )


def _said(options: Options) -> str:
    names = ("prog_bar", "logger", "on_step", "on_epoch", "reduce_fx", "add_dataloader_idx")
    return ", ".join(f"{n}={v!r}" for n, v in zip(names, options, strict=True))
