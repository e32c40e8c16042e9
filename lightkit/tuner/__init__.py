"""Looks ahead before a training: which learning rate, how large a batch. Whatever is tried leaves no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.tuner.tuning import Tuner

__all__ = ["Tuner"]

attach(__name__, {"Tuner": "tuning"}, ("batch_size_scaling", "finders", "lr_finder", "tuning"))
