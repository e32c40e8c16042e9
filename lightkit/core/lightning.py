"""LightModule, under the name that Lightning had for its file until 1.7."""

from lightkit.module import LightModule as LightningModule

__all__ = ["LightningModule"]
