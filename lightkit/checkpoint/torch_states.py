"""The form of the states of torch's optimizers and schedulers, which take whatever comes and fail in a later step."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightkit.devices.kernels import FLAGS
from lightkit.schema import (
    ANYTHING,
    NOTHING,
    NUMBER,
    SCALAR,
    TENSOR,
    TRUTH,
    WHOLE,
    Choice,
    DictOf,
    Either,
    Form,
    ListOf,
    Record,
    StateError,
    check_like,
    optional,
    shown,
)

_OF_OPTIMIZER = Record({"state": DictOf(ANYTHING, int), "param_groups": ListOf(Record({"params": ListOf(WHOLE)}))})
_VALUE = Either((TENSOR, NUMBER))
# what torch's optimizers keep of a parameter is a tensor, but for these
_KEPT: dict[str, Form] = {"step": SCALAR, "momentum_buffer": Either((TENSOR, NOTHING))}
_LBFGS = Record({}, {
    "func_evals": WHOLE, "n_iter": WHOLE, "d": optional(TENSOR), "t": optional(_VALUE), "H_diag": optional(_VALUE),
    "old_dirs": optional(ListOf(TENSOR)), "old_stps": optional(ListOf(TENSOR)), "ro": optional(ListOf(_VALUE)),
    "prev_flat_grad": optional(TENSOR), "prev_loss": optional(_VALUE), "al": optional(ListOf(optional(_VALUE))),
})  # fmt: skip
# what schedulers count, which no other number can stand for
_COUNTS: dict[str, Form] = dict.fromkeys(("last_epoch", "_step_count", "num_bad_epochs", "cooldown_counter"), WHOLE)
_OPTIONS: dict[str, Form] = {"line_search_fn": Choice((None, "strong_wolfe"))}


def is_torchs(part: object) -> bool:
    """Whether torch itself says how this optimizer or scheduler takes its state."""
    if isinstance(part, Optimizer):
        return type(part).load_state_dict is Optimizer.load_state_dict
    return type(part).__module__.startswith("torch.")


def check_optimizer(optimizer: Optimizer, state: object) -> None:
    """Raise StateError where the state of an optimizer, of torch's form, holds what it could not step with."""
    if not is_torchs(optimizer):
        return
    _OF_OPTIMIZER.check(state)
    assert isinstance(state, Mapping)
    groups: list[dict[str, Any]] = state["param_groups"]
    kept: Mapping[int, object] = state["state"]
    for index, (group, own) in enumerate(zip(groups, optimizer.param_groups, strict=False)):
        for key in group.keys() & own.keys() - {"params", *FLAGS}:
            if group[key] is not None or not _may_be_none(optimizer, key):
                check_like(group[key], own[key], "param_groups", index, key)
            _OPTIONS.get(key, ANYTHING).check(group[key], "param_groups", index, key)
        for key in group.keys() & set(FLAGS):  # of kernels: those of this machine are taken, whatever they were
            optional(TRUTH).check(group[key], "param_groups", index, key)
    if not type(optimizer).__module__.startswith("torch.optim"):
        return
    saved: list[int] = [number for group in groups for number in group["params"]]
    parameters: list[Tensor] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in zip(saved, parameters, strict=False):
        if number in kept:
            _check_kept(type(optimizer).__name__, kept[number], parameter, number)


def _may_be_none(optimizer: Optimizer, option: str) -> bool:
    parameter = inspect.signature(type(optimizer).__init__).parameters.get(option)
    return parameter is None or parameter.default is None


def _check_kept(kind: str, kept: object, parameter: Tensor, number: int) -> None:
    if kind == "LBFGS":
        _LBFGS.check(kept, "state", number)
        return
    DictOf(ANYTHING).check(kept, "state", number)
    assert isinstance(kept, Mapping)
    for key, value in kept.items():
        _KEPT.get(key, TENSOR).check(value, "state", number, key)
        if isinstance(value, Tensor) and value.is_complex() and not parameter.is_complex():
            raise StateError("expected a tensor of real numbers, found one of complex ones", "state", number, key)
        # Adafactor keeps rows and columns of sums
        if kind != "Adafactor" and isinstance(value, Tensor) and value.numel() != 1 and value.shape != parameter.shape:
            expected = f"expected a tensor of the parameter's shape {tuple(parameter.shape)}"
            raise StateError(f"{expected}, found {shown(value)}", "state", number, key)


def check_scheduler(scheduler: LRScheduler, state: object) -> None:
    """Raise StateError where the state of one of torch's schedulers is of another form than the one it has now."""
    if is_torchs(scheduler):
        example: Mapping[str, object] = scheduler.state_dict()
        check_like(state, example)
        _check_counts(state)


def _check_counts(state: object, *place: str | int) -> None:
    """Also those of schedulers inside a scheduler."""
    Record({}, _COUNTS).check(state, *place)
    assert isinstance(state, Mapping)
    for index, inner in enumerate(state.get("_schedulers", ())):
        if isinstance(inner, Mapping):
            _check_counts(inner, *place, "_schedulers", index)
