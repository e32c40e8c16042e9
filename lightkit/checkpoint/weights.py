"""Weights of a file for a module: names of compiled parts, lazy parameters, and what does not fit, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightkit.errors import CheckpointError

MAX_LISTED = 10
_COMPILED = "_orig_mod."  # what torch.compile puts into the names of a part that it wraps


def load(module: nn.Module, weights: Mapping[str, Any], where: object, *, strict: bool = True) -> None:
    """Load weights into a module; lazy parameters take the shapes of the file.

    A part that is compiled here and was not there, or the other way round, takes its weights all the same.
    where: the file, for the message.

    Raises:
        CheckpointError: sizes differ; with `strict` also where names are missing or unexpected.
    """
    named = as_named(weights, module.state_dict())
    if (problem := explain_state_dict_mismatch(module, named, where, strict=strict)) is not None:
        raise CheckpointError(problem)
    module.load_state_dict(named, strict=strict)


def plain_name(name: str) -> str:
    """A name as it is where nothing is compiled."""
    return name.replace(_COMPILED, "")


def named_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by their names as they are where nothing is compiled or pruned.

    torch.nn.utils.prune makes of `weight` the parameter `weight_orig` and the buffer `weight_mask`.
    """
    masks = {name.removesuffix("_mask") for name, _ in module.named_buffers() if name.endswith("_mask")}
    found: dict[str, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        before = name.removesuffix("_orig")
        found[plain_name(before if before in masks else name)] = parameter
    return found


def as_named(weights: Mapping[str, Any], wanted: Iterable[str]) -> Mapping[str, Any]:
    """Weights under the wanted names, where those differ by compiled parts alone."""
    names = set(wanted)
    if weights.keys() <= names or not any(_COMPILED in name for name in (*weights, *names)):
        return weights
    by_plain = {plain_name(name): name for name in names}
    return {name if name in names else by_plain.get(plain_name(name), name): value for name, value in weights.items()}


def explain_state_dict_mismatch(
    module: nn.Module, state_dict: Mapping[str, Any], path: object, *, strict: bool = True
) -> str | None:
    """Return what keeps `state_dict` from loading into `module`, in words, or None where it fits.

    Without `strict` that is sizes alone. Lists at most 10 missing keys, 10 unexpected keys and 10 sizes that differ,
    each with its shape.
    """
    wanted = module.state_dict()
    missing = [f"{key} {_shape(wanted[key])}" for key in wanted if strict and key not in state_dict]
    unexpected = [f"{key} {_shape(state_dict[key])}" for key in state_dict if strict and key not in wanted]
    differing = [
        f"{key}: {_shape(state_dict[key])} in the file, {_shape(wanted[key])} in the model"
        for key in wanted
        if key in state_dict and not _fits(state_dict[key], wanted[key])
    ]
    lines = [f"the checkpoint {path} does not fit {type(module).__name__}:"]
    titles = "missing in the file", "in the file but not in the model", "of another size"
    for title, entries in zip(titles, (missing, unexpected, differing), strict=True):
        if entries:
            lines += [f"  {title} ({len(entries)}):", *(f"    {entry}" for entry in entries[:MAX_LISTED])]
        if len(entries) > MAX_LISTED:
            lines.append(f"    ... and {len(entries) - MAX_LISTED} more")
    return "\n".join(lines) if len(lines) > 1 else None


def _fits(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Tensor):
        return True  # an extra state, of which its owner alone knows
    return isinstance(value, Tensor) and (torch.nn.parameter.is_lazy(wanted) or value.shape == wanted.shape)


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"({type(value).__name__})"
    return "(shape not known yet)" if torch.nn.parameter.is_lazy(value) else str(tuple(value.shape))
