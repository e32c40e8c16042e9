from lightkit.callbacks.base import Callback as Callback
from lightkit.callbacks.base import Checkpoint as Checkpoint
from lightkit.callbacks.default_bar import default_progress_bar as default_progress_bar
from lightkit.callbacks.device_stats_monitor import DeviceStatsMonitor as DeviceStatsMonitor
from lightkit.callbacks.early_stopping import EarlyStopping as EarlyStopping
from lightkit.callbacks.finetuning import BackboneFinetuning as BackboneFinetuning
from lightkit.callbacks.finetuning import BaseFinetuning as BaseFinetuning
from lightkit.callbacks.gradient_accumulation import GradientAccumulationScheduler as GradientAccumulationScheduler
from lightkit.callbacks.lambda_callback import LambdaCallback as LambdaCallback
from lightkit.callbacks.lr_monitor import LearningRateMonitor as LearningRateMonitor
from lightkit.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from lightkit.callbacks.model_summary import ModelSummary as ModelSummary
from lightkit.callbacks.on_exception_checkpoint import OnExceptionCheckpoint as OnExceptionCheckpoint
from lightkit.callbacks.prediction_writer import BasePredictionWriter as BasePredictionWriter
from lightkit.callbacks.prediction_writer import PredictionWriter as PredictionWriter
from lightkit.callbacks.progress import LineProgress as LineProgress
from lightkit.callbacks.progress import ProgressBar as ProgressBar
from lightkit.callbacks.progress import RichProgressBar as RichProgressBar
from lightkit.callbacks.progress import RichProgressBarTheme as RichProgressBarTheme
from lightkit.callbacks.progress import TQDMProgressBar as TQDMProgressBar
from lightkit.callbacks.pruning import ModelPruning as ModelPruning
from lightkit.callbacks.rich_model_summary import RichModelSummary as RichModelSummary
from lightkit.callbacks.spike import SpikeDetection as SpikeDetection
from lightkit.callbacks.stochastic_weight_avg import StochasticWeightAveraging as StochasticWeightAveraging
from lightkit.callbacks.throughput_monitor import ThroughputMonitor as ThroughputMonitor
from lightkit.callbacks.timer import Timer as Timer
from lightkit.callbacks.weight_averaging import EMAWeightAveraging as EMAWeightAveraging
from lightkit.callbacks.weight_averaging import WeightAveraging as WeightAveraging
from lightkit.tuner.finders import BatchSizeFinder as BatchSizeFinder
from lightkit.tuner.finders import LearningRateFinder as LearningRateFinder

_FILES: dict[str, str]
__all__: list[str]
