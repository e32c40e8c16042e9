"""Callbacks: one file each on top of `base.py`; rich is imported only when it is used."""

from lightkit.callbacks.base import Callback, Checkpoint

__all__ = ["Callback", "Checkpoint"]
