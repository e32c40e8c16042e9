"""LightDataModule, under the name that Lightning has for its file."""

from lightkit.datamodule import LightDataModule
from lightkit.datamodule import LightDataModule as LightningDataModule

__all__ = ["LightDataModule", "LightningDataModule"]
