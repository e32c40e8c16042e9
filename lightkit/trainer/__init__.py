"""The Trainer (`trainer.py`), and the words for where it is (`states.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach
from lightkit.trainer.trainer import Trainer

if TYPE_CHECKING:
    from lightkit.global_seed import seed_everything

__all__ = ["Trainer", "seed_everything"]

attach(__name__, {"seed_everything": "lightkit.global_seed"}, ("states",))
