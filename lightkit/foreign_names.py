"""Names and files that Lightning has, or had, and lightkit has not: one table a room, with what to write instead."""

from __future__ import annotations

from collections.abc import Callable

from lightkit.errors import ForeignNameError

ONE_DEVICE = "this version trains in one process on one device; leave strategy out, or write strategy='auto'"
NO_TPU = "lightkit runs on CPU, CUDA and MPS; write accelerator='auto'"
NO_VENDOR = "lightkit has no plugin of this vendor; write precision='bf16-mixed', '16-mixed', 'bf16-true' or '16-true'"
INSIDE = "it is a part of Lightning's loops; lightkit's are read in lightkit/loops"
CLUSTER = "this version trains in one process and needs no cluster; leave it out"
OWN_LOGGER = (
    "write a class with log_metrics(metrics, step) and log_hyperparams(params) that calls {package}, and give it to "
    "Trainer(logger=...)"
)

# by room, "" for lightkit itself
NAMES: dict[str, dict[str, str]] = {
    "": {
        "Fabric": "write a plain loop, or a LightModule with automatic_optimization = False",
        "LightningApp": "it is no part of training; install lightning-app",
        "LightningFlow": "it is no part of training; install lightning-app",
        "LightningWork": "it is no part of training; install lightning-app",
        "metrics": "write `import torchmetrics`",
        "EvalResult": "call self.log(...) in validation_step",
        "TrainResult": "return the loss from training_step, and call self.log(...)",
    },
    "accelerators": {
        "XLAAccelerator": NO_TPU, "TPUAccelerator": NO_TPU, "HPUAccelerator": NO_TPU, "IPUAccelerator": NO_TPU,
        "GPUAccelerator": "write CUDAAccelerator",
    },
    "callbacks": {
        "GPUStatsMonitor": "write DeviceStatsMonitor", "XLAStatsMonitor": NO_TPU,
        "ProgressBarBase": "write ProgressBar",
        "QuantizationAwareTraining": "write torch.ao.quantization in configure_model and on_fit_end",
    },
    "cli": {
        "instantiate_module": "write import_module and the call; LightkitCLI builds classes by itself",
        "LIGHTNING_LOGGER_TYPES": "write a class_path of lightkit.loggers",
    },
    "core.hooks": {
        "ModelHooks": "subclass lightkit.LightModule: its hooks are there",
        "DataHooks": "subclass lightkit.LightDataModule: its hooks are there",
        "CheckpointHooks": "subclass lightkit.LightModule: its hooks are there",
    },
    "loggers": {
        "CometLogger": OWN_LOGGER.format(package="comet_ml"),
        "NeptuneLogger": OWN_LOGGER.format(package="neptune"),
        "LitLogger": OWN_LOGGER.format(package="litlogger"),
        "TestTubeLogger": "test_tube is no longer kept: write TensorBoardLogger",
        "LoggerCollection": "write a list: Trainer(logger=[...]); trainer.loggers is it",
        "LightningLoggerBase": "write Logger",
    },
    "plugins": {
        "DDPPlugin": ONE_DEVICE, "DDP2Plugin": ONE_DEVICE, "DDPSpawnPlugin": ONE_DEVICE,
        "NativeMixedPrecisionPlugin": "write Trainer(precision='16-mixed')", "PrecisionPlugin": "write Precision",
        "MixedPrecisionPlugin": "write MixedPrecision", "DoublePrecisionPlugin": "write DoublePrecision",
        "ApexMixedPrecisionPlugin": "write Trainer(precision='16-mixed')",
        "LayerSync": "write Trainer(sync_batchnorm=True)", "TorchSyncBatchNorm": "write Trainer(sync_batchnorm=True)",
        "XLACheckpointIO": NO_TPU, "XLAPrecision": NO_TPU, "DeepSpeedPrecision": ONE_DEVICE,
        "FSDPPrecision": ONE_DEVICE,
        "BitsandbytesPrecision": NO_VENDOR, "TransformerEnginePrecision": NO_VENDOR,
    },
    "plugins.precision.double": {
        "LightningDoublePrecisionModule": "write DoublePrecision, which converts the module itself",
    },
    "profilers.pytorch": {
        "RegisterRecordFunction": "write PyTorchProfiler(record_module_names=True)",
        "ScheduleWrapper": "write PyTorchProfiler(schedule=torch.profiler.schedule(...))",
    },
    "profilers": {"XLAProfiler": "lightkit runs on CPU, CUDA and MPS; write PyTorchProfiler"},
    "strategies": {
        name: ONE_DEVICE
        for name in (
            "DDPStrategy", "DDPSpawnStrategy", "DDPFullyShardedNativeStrategy", "DeepSpeedStrategy", "FSDPStrategy",
            "ModelParallelStrategy", "ParallelStrategy", "XLAStrategy", "SingleDeviceXLAStrategy",
            "DataParallelStrategy",
        )
    },
    "utilities": {
        "AMPType": "write precision='16-mixed'",
        "rank_zero_module": "write lightkit.utilities.rank_zero",
        "AllGatherGrad": "write self.all_gather(tensor, sync_grads=True)",
        "argparse": "write lightkit.cli.LightkitCLI",
    },
    "utilities.model_summary": {"DeepSpeedSummary": ONE_DEVICE},
    "utilities.types": {
        "DistributedDataParallel": "write torch.nn.parallel.DistributedDataParallel",
        "EPOCH_OUTPUT": "write list[Any]",
    },
}  # fmt: skip
NAMES["plugins.precision"] = NAMES["plugins.io"] = NAMES["plugins"]

# by file: it, and what lies below it
FILES: dict[str, str] = {
    "accelerators.xla": NO_TPU,
    "callbacks.xla_stats_monitor": NO_TPU, "callbacks.gpu_stats_monitor": "write DeviceStatsMonitor",
    "callbacks.quantization": "write torch.ao.quantization in configure_model and on_fit_end",
    "demos.mnist_datamodule": "it is a demonstration; see configs/vision/digits.yaml",
    "fabric": NAMES[""]["Fabric"],
    "lite": NAMES[""]["Fabric"],
    "loggers.comet": NAMES["loggers"]["CometLogger"],
    "loggers.litlogger": NAMES["loggers"]["LitLogger"],
    "loggers.neptune": NAMES["loggers"]["NeptuneLogger"],
    "loggers.test_tube": "write lightkit.loggers.TensorBoardLogger",
    "loops.evaluation_loop": INSIDE, "loops.fit_loop": INSIDE, "loops.optimization": INSIDE,
    "loops.training_epoch_loop": INSIDE, "loops.prediction_loop": INSIDE, "loops.fetchers": INSIDE,
    "loops.loop": INSIDE, "loops.progress": INSIDE,
    "loops.utilities": "a loss that is not finite is found by Trainer(nan_check=...)",
    "metrics": NAMES[""]["metrics"],
    "overrides": ONE_DEVICE,
    "plugins.environments": CLUSTER, "plugins.layer_sync": "write Trainer(sync_batchnorm=True)",
    "plugins.io.xla_plugin": NO_TPU, "plugins.precision.xla": NO_TPU,
    "plugins.precision.deepspeed": ONE_DEVICE, "plugins.precision.fsdp": ONE_DEVICE,
    "plugins.precision.bitsandbytes": NO_VENDOR, "plugins.precision.transformer_engine": NO_VENDOR,
    "plugins.training_type": ONE_DEVICE,
    "profiler": "write lightkit.profilers", "profilers.xla": NAMES["profilers"]["XLAProfiler"],
    "serve": "export the module, `lightkit export`, and serve that file",
    "strategies.ddp": ONE_DEVICE, "strategies.ddp_spawn": ONE_DEVICE, "strategies.deepspeed": ONE_DEVICE,
    "strategies.fsdp": ONE_DEVICE, "strategies.model_parallel": ONE_DEVICE, "strategies.parallel": ONE_DEVICE,
    "strategies.single_xla": NO_TPU, "strategies.xla": NO_TPU, "strategies.launchers": ONE_DEVICE,
    "trainer.connectors": "it is a part of Lightning's Trainer; lightkit's runs are read in lightkit/run",
    "trainer.supporters": "write lightkit.utilities.combined_loader",
    "trainer.call": "it is a part of Lightning's Trainer; lightkit's runs are read in lightkit/run",
    "trainer.setup": "it is a part of Lightning's Trainer; lightkit's runs are read in lightkit/run",
    "trainer.configuration_validator": "lightkit checks arguments in lightkit/settings.py",
    "utilities.apply_func": "write lightkit.utilities.move_data_to_device",
    "utilities.argparse": "write lightkit.cli.LightkitCLI",
    "utilities.cloud_io": "paths may be URLs; write torch.load, or LightModule.load_from_checkpoint",
    "utilities.compile": "write Trainer(compile=True): the module itself stays as it is",
    "utilities.consolidate_checkpoint": "a checkpoint of lightkit is one file",
    "utilities.deepspeed": ONE_DEVICE,
    "utilities.distributed": "write lightkit.utilities.rank_zero",
    "utilities.device_parser": "write Trainer(devices=...)",
    "utilities.finite_checks": "write Trainer(nan_check='step')",
    "utilities.imports": "write importlib.util.find_spec",
    "utilities.metrics": NAMES[""]["metrics"],
    "utilities.migration": "lightkit reads the checkpoints that Lightning wrote as they are",
    "utilities.model_registry": "write the path or URL of a checkpoint",
    "utilities.model_summary.model_summary_deepspeed": ONE_DEVICE,
    "utilities.testing": "write pytest.mark.skipif",
    "utilities.upgrade_checkpoint": "lightkit reads the checkpoints that Lightning wrote as they are",
}  # fmt: skip


def answering(module: str) -> Callable[[str], object]:
    """A `__getattr__` for a file in which nothing is found when it is asked for: only answers."""

    def find(name: str) -> object:
        refuse_name(module, name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find


def refuse_name(package: str, name: str) -> None:
    """Raise ForeignNameError where the package's room has an answer for this name."""
    room = package.removeprefix("lightkit").lstrip(".")
    if (answer := NAMES.get(room, {}).get(name)) is not None:
        raise ForeignNameError(f"{package}.{name}: {answer}", name=package)
    if (answer := FILES.get(f"{room}.{name}".lstrip("."))) is not None:
        raise ForeignNameError(f"{package}.{name}: {answer}", name=package)


def refuse_module(module: str) -> None:
    """Raise ForeignNameError where there is an answer for this file, or for one that it lies below."""
    parts = module.split(".")[1:]
    for end in range(len(parts), 0, -1):
        if (answer := FILES.get(".".join(parts[:end]))) is not None:
            raise ForeignNameError(f"{module}: {answer}", name=module)
