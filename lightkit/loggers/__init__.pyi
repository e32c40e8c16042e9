from lightkit.loggers.base import Logger as Logger
from lightkit.loggers.csv import CSVLogger as CSVLogger
from lightkit.loggers.directory import DirectoryLogger as DirectoryLogger
from lightkit.loggers.mlflow import MLFlowLogger as MLFlowLogger
from lightkit.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger
from lightkit.loggers.wandb import WandbLogger as WandbLogger

_FILES: dict[str, str]
__all__: list[str]
