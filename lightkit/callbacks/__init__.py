"""Callbacks: one file each on top of `base.py`, imported when asked for; rich only when its bar is.

What the names are to a type checker stands in `__init__.pyi`.
"""

from lightkit.lazy import attach

_FILES = {
    "BackboneFinetuning": "finetuning", "BaseFinetuning": "finetuning", "BasePredictionWriter": "prediction_writer",
    "Callback": "base", "Checkpoint": "base", "EMAWeightAveraging": "weight_averaging",
    "EarlyStopping": "early_stopping", "GradientAccumulationScheduler": "gradient_accumulation",
    "LambdaCallback": "lambda_callback", "LearningRateMonitor": "lr_monitor", "LineProgress": "progress",
    "ModelCheckpoint": "model_checkpoint", "ModelPruning": "pruning", "ModelSummary": "model_summary",
    "OnExceptionCheckpoint": "on_exception_checkpoint", "PredictionWriter": "prediction_writer",
    "ProgressBar": "progress", "RichModelSummary": "rich_model_summary", "RichProgressBar": "progress",
    "RichProgressBarTheme": "progress", "StochasticWeightAveraging": "stochastic_weight_avg",
    "TQDMProgressBar": "progress", "Timer": "timer", "WeightAveraging": "weight_averaging",
    "SpikeDetection": "spike", "DeviceStatsMonitor": "device_stats_monitor", "ThroughputMonitor": "throughput_monitor",
    "default_progress_bar": "default_bar",
    "BatchSizeFinder": "lightkit.tuner.finders", "LearningRateFinder": "lightkit.tuner.finders",
}  # fmt: skip
__all__ = list(_FILES)

attach(__name__, _FILES, _FILES.values())
