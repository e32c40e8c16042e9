"""Parameter groups by the names of their parameters: those added during training are made again on a resume."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

Groups = list[list[str]]  # of one optimizer: for each group the names of its parameters


def names_of_groups(optimizers: Sequence[Optimizer], module: nn.Module) -> list[Groups]:
    """Return the groups of each optimizer; "" stands for a parameter that is not the module's."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [[[names.get(id(p), "") for p in group["params"]] for group in o.param_groups] for o in optimizers]


def add_missing_groups(optimizer: Optimizer, groups: Groups, module: nn.Module) -> None:
    """Add the groups that the optimizer had when it was saved and has not yet; their numbers come with its state.

    Does nothing where a parameter is not the module's, or is in the optimizer already.
    """
    missing = groups[len(optimizer.param_groups) :]
    if not missing:
        return
    parameters = dict(module.named_parameters())
    present = {id(p) for group in optimizer.param_groups for p in group["params"]}
    found = [[parameters.get(name) for name in group] for group in missing]
    if all(p is not None and id(p) not in present for group in found for p in group):
        for group in found:
            optimizer.add_param_group({"params": group})
