"""What a user subclasses, under the names that Lightning has for the files."""

from lightkit.datamodule import LightDataModule
from lightkit.datamodule import LightDataModule as LightningDataModule
from lightkit.module import LightModule
from lightkit.module import LightModule as LightningModule

__all__ = ["LightDataModule", "LightModule", "LightningDataModule", "LightningModule"]
