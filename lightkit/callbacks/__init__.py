"""Callbacks: one file each on top of `base.py`, imported when asked for; rich only when its bar is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.callbacks.base import Callback, Checkpoint
    from lightkit.callbacks.default_bar import default_progress_bar
    from lightkit.callbacks.early_stopping import EarlyStopping
    from lightkit.callbacks.finetuning import BackboneFinetuning, BaseFinetuning
    from lightkit.callbacks.lambda_callback import LambdaCallback
    from lightkit.callbacks.lr_monitor import LearningRateMonitor
    from lightkit.callbacks.model_checkpoint import ModelCheckpoint
    from lightkit.callbacks.model_summary import ModelSummary
    from lightkit.callbacks.progress import LineProgress, ProgressBar
    from lightkit.callbacks.rich_progress import RichProgressBar
    from lightkit.callbacks.timer import Timer
    from lightkit.callbacks.weight_averaging import EMAWeightAveraging, WeightAveraging

__all__ = [
    "BackboneFinetuning", "BaseFinetuning", "Callback", "Checkpoint", "EMAWeightAveraging", "EarlyStopping",
    "LambdaCallback", "LearningRateMonitor", "LineProgress", "ModelCheckpoint", "ModelSummary", "ProgressBar",
    "RichProgressBar", "Timer", "WeightAveraging", "default_progress_bar",
]  # fmt: skip

_FILES = {
    "BackboneFinetuning": "finetuning", "BaseFinetuning": "finetuning", "Callback": "base", "Checkpoint": "base",
    "EMAWeightAveraging": "weight_averaging", "EarlyStopping": "early_stopping", "LambdaCallback": "lambda_callback",
    "LearningRateMonitor": "lr_monitor", "LineProgress": "progress", "ModelCheckpoint": "model_checkpoint",
    "ModelSummary": "model_summary", "ProgressBar": "progress", "RichProgressBar": "rich_progress", "Timer": "timer",
    "WeightAveraging": "weight_averaging", "default_progress_bar": "default_bar",
}  # fmt: skip

attach(__name__, _FILES, _FILES.values())
