"""Questions about what a module defines."""

from __future__ import annotations

from typing import Any

from torch import nn

from lightkit.callbacks.base import Callback
from lightkit.datamodule import LightDataModule
from lightkit.errors import ConfigError, require
from lightkit.hooks import overrides
from lightkit.module import LightModule


def is_overridden(method_name: str, instance: object | None = None, parent: type[object] | None = None) -> bool:
    """Whether the instance has this method from a class of its own; parent: whose method does not count.

    Raises ConfigError where the parent is not given and is neither a module, data module nor callback, or lacks it.
    """
    if instance is None:
        return False
    if parent is None:
        parent = next((kind for kind in (LightModule, LightDataModule, Callback) if isinstance(instance, kind)), None)
    if parent is None:
        raise ConfigError(
            f"is_overridden({method_name!r}, ...): expected a LightModule, LightDataModule or Callback, got a "
            f"{type(instance).__name__}; give the class that has the default as parent"
        )
    if not hasattr(parent, method_name):
        raise ConfigError(f"is_overridden({method_name!r}, ...): {parent.__name__} has no such method")
    return getattr(instance, method_name, None) is not None and overrides(instance, parent, method_name)


def get_torchvision_model(model_name: str, **kwargs: Any) -> nn.Module:
    """A model of torchvision by its name; keyword arguments are its own (`weights=None`)."""
    models = require("torchvision", "vision", needed_by="get_torchvision_model").models
    model: nn.Module = models.get_model(model_name, **kwargs)
    return model
