"""Hyperparameters for any object."""

from lightkit.core.mixins.hparams_mixin import HyperparametersMixin

__all__ = ["HyperparametersMixin"]
