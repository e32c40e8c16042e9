"""A module, its optimizers and the generators as they were, in memory: whatever is tried leaves no trace.

Copies of tensors are on the CPU, so that what is looked for, how much memory a batch takes, is not changed by them.
"""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.data import generator_states, generators
from lightkit.seeding import Snapshot

if TYPE_CHECKING:
    from lightkit.datamodule import LightDataModule
    from lightkit.devices.precision import Precision
    from lightkit.module import LightModule

PutBack = Callable[[], object]


@contextmanager
def as_before(
    module: LightModule, datamodule: LightDataModule | None, optimizers: Iterable[Optimizer], precision: Precision,
    loaders: Iterable[object] = (),
) -> Iterator[None]:  # fmt: skip
    """Whatever happens inside, also an error: afterwards all of these are as they are now, to the bit.

    Of the module: weights, buffers, gradients, parts, attributes (lists and dicts with what is in them now), modes,
    hyperparameters, torchmetrics objects, where it is. Of the process: every random generator; those that the module,
    the data module and the loaders hold, too.
    """
    undo = [*_of_module(module), *(put_back for optimizer in optimizers for put_back in _of_optimizer(optimizer))]
    undo += [put_back for holder in (*module.modules(), datamodule, *loaders) for put_back in _of_generators(holder)]
    undo += [put_back for loader in loaders for put_back in _of_position(loader)]
    scaler, rng = copy.deepcopy(precision.state_dict()), Snapshot()
    try:
        yield
    finally:
        for put_back in undo:
            put_back()
        if scaler:
            precision.load_state_dict(scaler)
        rng.restore()


def leaves(loaders: object) -> list[object]:
    """The loaders themselves, of however they were given: nested in dicts, lists, a CombinedLoader; None is none."""
    parts = getattr(loaders, "flattened", loaders)
    if isinstance(parts, Mapping):
        parts = list(parts.values())
    if isinstance(parts, (list, tuple)):
        return [leaf for part in parts for leaf in leaves(part)]
    return [] if parts is None else [parts]


# ---------------------------------------------------------------- a module


def _of_module(module: LightModule) -> list[PutBack]:
    parts = list(module.modules())
    undo = [put_back for part in parts for put_back in _of_part(part)]
    undo += _of_container(module.hparams)
    seen: set[int] = set()
    for part in parts:
        tensors = [*part._parameters.values(), *part._buffers.values(), *vars(part).values()]
        for tensor in tensors:
            if isinstance(tensor, Tensor) and id(tensor) not in seen:
                seen.add(id(tensor))
                undo += _of_tensor(tensor)
    if "torchmetrics" in sys.modules:
        from lightkit import metric_objects

        states = metric_objects.snapshot(module)  # also of those that no part of the module is registered for
        if states:
            undo.append(lambda: metric_objects.restore(module, states))
    return undo


def _of_part(part: nn.Module) -> list[PutBack]:
    """Attributes of one part, as `vars` has them; a lazy layer that was given its sizes is lazy again."""
    if isinstance(part, torch.jit.ScriptModule):
        return []  # its attributes are not Python's; its tensors are seen to
    kind, attributes = type(part), dict(vars(part))

    def put_back() -> None:
        if type(part) is not kind:
            part.__class__ = kind
        vars(part).clear()
        vars(part).update(attributes)

    return [put_back, *(undo for value in attributes.values() for undo in _of_container(value))]


def _of_container(value: object) -> list[PutBack]:
    """A list, dict or set holds what it holds now; what is in it is the same object."""
    if isinstance(value, (dict, OrderedDict, set)):
        held = copy.copy(value)

        def fill(container: Any = value) -> None:
            container.clear()
            container.update(held)

        inner = value.values() if isinstance(value, dict) else ()
        return [fill, *(undo for item in inner for undo in _of_container(item) if isinstance(item, (list, dict)))]
    if isinstance(value, (list, deque)):
        items = [*value]

        def refill(container: Any = value) -> None:
            container.clear()
            container.extend(items)

        return [refill]
    return []


def _of_tensor(tensor: Tensor) -> list[PutBack]:
    kind, device, needs_grad = type(tensor), tensor.device, tensor.requires_grad
    gradient = tensor.grad if tensor.is_leaf else None
    lazy = nn.parameter.is_lazy(tensor)
    saved = None if lazy else tensor.detach().to("cpu", copy=True)
    saved_gradient = None if gradient is None else gradient.detach().to("cpu", copy=True)

    def put_back() -> None:
        with torch.inference_mode() if tensor.is_inference() else torch.no_grad():
            if saved is None:
                if type(tensor) is not kind:
                    tensor.data, tensor.__class__ = torch.empty(0, device=device), kind
                return
            if tensor.device == device and tensor.dtype == saved.dtype and tensor.shape == saved.shape:
                tensor.data.copy_(saved)
            else:
                tensor.data = saved.to(device)
            if tensor.is_leaf and not tensor.is_inference():
                tensor.requires_grad_(needs_grad)
                tensor.grad = gradient
                if gradient is not None and saved_gradient is not None:
                    gradient.data.copy_(saved_gradient)

    return [put_back]


# ---------------------------------------------------------------- an optimizer, generators


def _of_optimizer(optimizer: Optimizer) -> list[PutBack]:
    """Its state, its groups, and its attributes: a scheduler puts one over `step`."""
    attributes, groups = dict(vars(optimizer)), [dict(group) for group in optimizer.param_groups]
    live = list(optimizer.param_groups)
    state = {key: _held(value) for key, value in optimizer.state.items()}
    in_groups = [
        put_back for group in groups for value in group.values() if isinstance(value, Tensor)
        for put_back in _of_tensor(value)
    ]  # fmt: skip

    def put_back() -> None:
        vars(optimizer).clear()
        vars(optimizer).update(attributes)
        optimizer.param_groups[:] = live
        for group, values in zip(live, groups, strict=True):
            group.clear()
            group.update(values)
        optimizer.state.clear()
        optimizer.state.update({key: give() for key, give in state.items()})

    return [put_back, *in_groups]


def _held(value: Any) -> Callable[[], Any]:
    """-> what gives the value as it is now: the same tensors with the same numbers."""
    if isinstance(value, Tensor):
        (put_back,) = _of_tensor(value)

        def give() -> Tensor:
            put_back()
            return value

        return give
    if isinstance(value, dict):
        parts = {key: _held(item) for key, item in value.items()}
        return lambda: {key: part() for key, part in parts.items()}
    if isinstance(value, (list, tuple)):
        items, kind = [_held(item) for item in value], type(value)
        return lambda: kind([item() for item in items])
    kept = copy.copy(value)
    return lambda: kept


def _of_generators(holder: object) -> list[PutBack]:
    saved = {} if holder is None else generators.capture(holder)
    return [lambda: generator_states.restore(holder, saved)] if saved else []


def _of_position(loader: Any) -> list[PutBack]:
    """Of a loader that knows where it is."""
    if not all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict")):
        return []
    position = copy.deepcopy(loader.state_dict())
    return [lambda: loader.load_state_dict(position)]
