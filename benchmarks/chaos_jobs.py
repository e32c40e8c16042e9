"""The jobs of benchmarks/chaos.py: small ones, of as many kinds as there are ways to lose something.

Each is made anew by every process that runs it, in its working directory, and is the same each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

import lightkit as lk
from benchmarks.chaos_modules import Earlier, Gan, Measured, Net, Own, Reloaded, Rows, Several, Stream, held_out, loader
from lightkit.callbacks import EarlyStopping, EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint
from lightkit.loggers import CSVLogger, TensorBoardLogger
from lightkit.utilities import CombinedLoader


@dataclass
class Chaos:
    """A job: a module, its data, the arguments of its Trainer."""

    module: lk.LightModule
    train: Any = None
    val: Any = None
    datamodule: lk.LightDataModule | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------ jobs

JOBS: dict[str, Callable[[], Chaos]] = {}


def job(**arguments: Any) -> Callable[[Callable[[], Chaos]], Callable[[], Chaos]]:
    """A job of the function's name; arguments: of its Trainer."""

    def add(make: Callable[[], Chaos]) -> Callable[[], Chaos]:
        def made() -> Chaos:
            chaos = make()
            return Chaos(chaos.module, chaos.train, chaos.val, chaos.datamodule, {**arguments, **chaos.arguments})

        JOBS[make.__name__] = made
        return make

    return add


def fitted(module: lk.LightModule | None = None, train: Any = None, val: Any = None, **arguments: Any) -> Chaos:
    return Chaos(
        module or Net(), loader() if train is None else train, held_out() if val is None else val, None, arguments
    )


def every(steps: int, **arguments: Any) -> ModelCheckpoint:
    return ModelCheckpoint(every_n_train_steps=steps, **arguments)


@job()
def plain() -> Chaos:
    return fitted(train=loader(Rows()))


@job(log_every_n_steps=1)
def fast_path() -> Chaos:
    return fitted(callbacks=[every(1)])


@job(accumulate_grad_batches=4)
def accumulation() -> Chaos:
    return fitted(callbacks=[every(1, save_last=True)])


@job(precision="bf16-mixed")
def bf16() -> Chaos:
    return fitted(callbacks=[every(2)])


@job(precision="16-mixed", accumulate_grad_batches=2)
def fp16() -> Chaos:
    return fitted(callbacks=[every(2)])


@job()
def schedule_by_step() -> Chaos:
    return fitted(Net(schedule="step"), callbacks=[every(3), LearningRateMonitor()])


@job(max_epochs=4)
def schedule_by_epoch() -> Chaos:
    return fitted(Net("SGD", schedule="epoch"), callbacks=[ModelCheckpoint(), LearningRateMonitor()])


@job(max_epochs=4)
def schedule_by_metric() -> Chaos:
    return fitted(Net(schedule="plateau"), callbacks=[ModelCheckpoint(monitor="val_loss", save_last=True)])


@job()
def averaged_weights() -> Chaos:
    return fitted(callbacks=[EMAWeightAveraging(decay=0.9), every(2)])


@job(max_epochs=9, val_check_interval=3)
def early_stopping() -> Chaos:
    stopping = EarlyStopping("val_loss", patience=1, min_delta=0.05)
    return fitted(Net(lr=0.1), callbacks=[stopping, every(2, save_last=True)])


@job(val_check_interval=4)
def several_checkpoints() -> Chaos:
    first = every(1, save_top_k=2, monitor="train_loss", save_last=True)
    best = ModelCheckpoint("run/best", "best-{val_loss:.3f}", monitor="val_loss")
    return fitted(callbacks=[first, best, ModelCheckpoint("run/all", "{epoch}", save_top_k=-1)])


@job(max_epochs=5)
def top_three() -> Chaos:
    return fitted(callbacks=[ModelCheckpoint(monitor="val_loss", save_top_k=3, mode="max")])


@job()
def last_is_a_link() -> Chaos:
    return fitted(callbacks=[every(2, monitor="train_loss", save_top_k=2, save_last="link")])


@job(async_checkpoint=True)
def by_a_thread() -> Chaos:
    return fitted(callbacks=[every(1, save_top_k=2, monitor="train_loss", save_last=True)])


@job()
def workers() -> Chaos:
    return fitted(train=loader(Rows(), num_workers=2), callbacks=[every(2)])


@job()
def workers_that_stay() -> Chaos:
    train = loader(Rows(), num_workers=1, persistent_workers=True)
    return fitted(train=train, callbacks=[every(3)], async_checkpoint=True)


@job()
def stream() -> Chaos:
    return fitted(train=loader(Stream()), callbacks=[every(2)])


@job()
def own_generators() -> Chaos:
    return fitted(train=loader(Own(), generator=torch.Generator().manual_seed(9)), callbacks=[every(2)])


@job()
def weighted_sampler() -> Chaos:
    sampler = WeightedRandomSampler(torch.arange(36.0).tolist(), 24)
    return fitted(train=DataLoader(Rows(), 4, sampler=sampler), callbacks=[every(2)])


@job()
def several_loaders() -> Chaos:
    short = loader(torch.utils.data.Subset(Rows(), range(10)), generator=torch.Generator().manual_seed(9))
    return fitted(Several(), train={"short": short, "long": loader(Rows(), num_workers=1)}, callbacks=[every(2)])


@job(accumulate_grad_batches=3)
def several_loaders_in_turn() -> Chaos:
    return fitted(train=CombinedLoader([loader(Rows()), loader(Stream())], "sequential"), callbacks=[every(1)])


@job()
def two_optimizers() -> Chaos:
    return fitted(Gan(), val=[], callbacks=[every(2)])


@job(log_every_n_steps=2)
def loggers() -> Chaos:
    return fitted(logger=[CSVLogger(), TensorBoardLogger(), CSVLogger("other", version=0)], callbacks=[every(4)])


@job(val_check_interval="5step")
def validated_by_steps() -> Chaos:
    return fitted(callbacks=[ModelCheckpoint(monitor="val_loss", save_top_k=2), every(5, filename="s-{step}")])


@job(limit_train_batches=5, limit_val_batches=0.5, check_val_every_n_epoch=2, max_epochs=4)
def limits() -> Chaos:
    return fitted(callbacks=[every(2, save_top_k=-1)])


@job(reload_dataloaders_every_n_epochs=2, max_epochs=5)
def reloaded() -> Chaos:
    return Chaos(Net(), datamodule=Reloaded(), arguments={"callbacks": [every(3)]})


@job()
def torchmetrics() -> Chaos:
    return fitted(Measured(), callbacks=[every(2), ModelCheckpoint(monitor="mean", filename="{mean:.2f}")])


@job()
def earlier_style() -> Chaos:
    return fitted(Earlier(), callbacks=[every(2)])


@job(max_epochs=2, limit_train_batches=4, limit_val_batches=1)
def digits() -> Chaos:
    from recipes.vision.augment import RandomAffine
    from recipes.vision.classification import ImageClassifier
    from recipes.vision.data import DigitsData

    module = ImageClassifier(net="small_cnn", num_classes=10, in_channels=1, image_size=8, width=4, lr=0.01)
    data = DigitsData(batch_size=16, augment=RandomAffine(10, 0.08))
    return Chaos(module, datamodule=data, arguments={"callbacks": [every(1, save_last=True)]})


@job(profiler="simple")
def profiled() -> Chaos:
    return fitted(callbacks=[every(4)])


@job(gradient_clip_val=0.1, accumulate_grad_batches=2)
def clipped() -> Chaos:
    return fitted(callbacks=[every(2)])


@job()
def lbfgs() -> Chaos:
    return fitted(Net("LBFGS", lr=0.1), callbacks=[every(3)])


@job(max_epochs=-1, max_steps=14)
def ends_inside_an_epoch() -> Chaos:
    return fitted(callbacks=[every(2, save_last=True)])


@job()
def two_validation_loaders() -> Chaos:
    return fitted(val=[held_out(), held_out(9)], callbacks=[ModelCheckpoint(monitor="val_loss", save_top_k=2)])


@job()
def folders_in_names() -> Chaos:
    named = ModelCheckpoint(filename="e/{epoch}-{val_loss:.2f}", monitor="val_loss", save_top_k=2)
    return fitted(callbacks=[named, every(4, filename="constant", save_top_k=-1)])
