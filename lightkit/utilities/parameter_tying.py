"""Parameters that have several names in a module: found, and tied again after a move to a device that copies them."""

from __future__ import annotations

from torch import Tensor, nn


def find_shared_parameters(module: nn.Module) -> list[list[str]]:
    """The names of each parameter that has more than one."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [found for found in names.values() if len(found) > 1]


def set_shared_parameters(module: nn.Module, shared_params: list[list[str]]) -> nn.Module:
    """Let all names of a group mean the parameter of its first name; returns the module."""
    for first, *others in shared_params:
        parameter = module.get_parameter(first)
        for name in others:
            _set(module, name, parameter)
    return module


def _set(module: nn.Module, name: str, parameter: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(path), attribute, parameter)
