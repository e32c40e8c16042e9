"""LightModule, under the name that Lightning has for its file."""

from lightkit.module import LightModule
from lightkit.module import LightModule as LightningModule

__all__ = ["LightModule", "LightningModule"]
