"""Why a name of lightkit's takes other arguments, or has other bases, than Lightning's."""

# Base classes of hooks and hyperparameters alone: lightkit's classes have these built in.
MIXINS = ("HyperparametersMixin", "ModelHooks", "DataHooks", "CheckpointHooks", "StrEnum")

DIFFERENCES = {
    "Trainer": "there is no registry of models; checkpoints are given by path or URL",
    "CSVLogger": "without `save_dir` it writes to the run directory",
    "TensorBoardLogger": "without `save_dir` it writes to the run directory",
    "LightningDataModule": "its constructor is yours",
    "LightningOptimizer": "lightkit makes it, you get it",
    "LightningArgumentParser": "lightkit's words for itself",
    "ExperimentWriter": "CSVLogger makes it, you get it",
    "MLFlowLogger": "without `save_dir` it writes to the run directory",
    "WandbLogger": "without `save_dir` it writes to the run directory",
    "ProgressBar": "how often it is drawn",
    "ThroughputMonitor": "without it a batch has the size that it says",
    "Precision": "the Trainer's device, where one is given",
    "Strategy": "one process: the Trainer gives it its device",
    "SingleDeviceStrategy": "one process: the Trainer gives it its device",
}
