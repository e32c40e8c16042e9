"""The Trainer (`trainer.py`), and the words for where it is (`states.py`)."""

from lightkit.trainer.trainer import Trainer

__all__ = ["Trainer"]
