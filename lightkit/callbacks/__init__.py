"""Callbacks: one file each on top of `base.py`; rich is imported only when it is used."""

from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.callbacks.early_stopping import EarlyStopping
from lightkit.callbacks.finetuning import BackboneFinetuning, BaseFinetuning
from lightkit.callbacks.lambda_callback import LambdaCallback
from lightkit.callbacks.lr_monitor import LearningRateMonitor
from lightkit.callbacks.model_checkpoint import ModelCheckpoint
from lightkit.callbacks.model_summary import ModelSummary
from lightkit.callbacks.progress import LineProgress, ProgressBar, default_progress_bar
from lightkit.callbacks.rich_progress import RichProgressBar
from lightkit.callbacks.timer import Timer
from lightkit.callbacks.weight_averaging import EMAWeightAveraging, WeightAveraging

__all__ = [
    "BackboneFinetuning",
    "BaseFinetuning",
    "Callback",
    "Checkpoint",
    "EMAWeightAveraging",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateMonitor",
    "LineProgress",
    "ModelCheckpoint",
    "ModelSummary",
    "ProgressBar",
    "RichProgressBar",
    "Timer",
    "WeightAveraging",
    "default_progress_bar",
]
