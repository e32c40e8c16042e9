"""Hyperparameters: what `save_hyperparameters` keeps of an object's arguments, and how it is built from them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.hparams.values import AttributeDict, Hyperparameters, of
from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.hparams.keeping import collect, stored
    from lightkit.hparams.kinds import differ

__all__ = ["AttributeDict", "Hyperparameters", "collect", "differ", "of", "stored"]

attach(__name__, {"collect": "keeping", "differ": "kinds", "stored": "keeping"})
