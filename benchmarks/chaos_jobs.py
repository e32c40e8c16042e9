"""The jobs of benchmarks/chaos.py: small ones, of as many kinds as there are ways to lose something.

Each is made anew by every process that runs it, in its working directory, and is the same each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

import lightkit as lk
from lightkit.callbacks import EarlyStopping, EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint
from lightkit.loggers import CSVLogger, TensorBoardLogger


@dataclass
class Chaos:
    """A job: a module, its data, the arguments of its Trainer."""

    module: lk.LightModule
    train: Any = None
    val: Any = None
    datamodule: lk.LightDataModule | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------ data


def tensors(samples: int = 36) -> TensorDataset:
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, (x.sum(1) > 0).long())


class Rows(Dataset[Any]):
    """Rows one by one, with noise as an augmentation draws it."""

    def __init__(self, noise: float = 0.1):
        self.rows, self.noise = tensors(), noise

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        x, y = self.rows[index]
        return x + self.noise * torch.randn(4) + self.noise * float(np.random.rand()), y


class Own(Rows):
    """Noise of a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(5)

    def __getitem__(self, index: int) -> Any:
        x, y = self.rows[index]
        return x + 0.1 * torch.tensor(self.generator.normal(size=4), dtype=torch.float32), y


class Stream(IterableDataset[Any]):
    """Rows in order, without a length."""

    def __iter__(self) -> Iterator[Any]:
        yield from (tensors()[i] for i in range(34))


def loader(data: Any = None, size: int = 4, **arguments: Any) -> DataLoader[Any]:
    is_stream = isinstance(data, IterableDataset)
    return DataLoader(
        tensors() if data is None else data, size, **({} if is_stream else {"shuffle": True}), **arguments
    )


def held_out(size: int = 18) -> DataLoader[Any]:
    return DataLoader(tensors(), size)


class Reloaded(lk.LightDataModule):
    """Another loader every two epochs, and a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def train_dataloader(self) -> Any:
        self.asked += 1
        return loader(size=6 - self.trainer.current_epoch // 2, drop_last=True)  # type: ignore[union-attr]

    def val_dataloader(self) -> Any:
        return held_out()


# ------------------------------------------------------------ modules


class Net(lk.LightModule):
    """A classifier with dropout and batch norm, which logs by step and by epoch."""

    def __init__(self, optimizer: str = "AdamW", lr: float = 0.02, schedule: str = ""):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))

    def loss(self, batch: Any) -> torch.Tensor:
        return F.cross_entropy(self.layers(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("val_loss", self.loss(batch), on_step=True, on_epoch=True, add_dataloader_idx=False)

    def configure_optimizers(self) -> Any:
        kind, schedule = getattr(torch.optim, self.hparams["optimizer"]), self.hparams["schedule"]
        optimizer = kind(self.parameters(), lr=self.hparams["lr"])
        if schedule == "step":
            steps = int(self.trainer.estimated_stepping_batches)  # type: ignore[union-attr]
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
        if schedule == "epoch":
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]
        if schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        return optimizer


class Measured(Net):
    """With torchmetrics objects, one of each use."""

    def __init__(self) -> None:
        super().__init__()
        from torchmetrics import MeanMetric, MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

        self.train_accuracy, self.mean = MulticlassAccuracy(2), MeanMetric()
        self.found = MetricCollection([MulticlassAccuracy(2), MulticlassF1Score(2)], prefix="val_")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.train_accuracy(self.layers(batch[0]), batch[1])
        self.log("train_accuracy", self.train_accuracy, on_step=True, on_epoch=True)
        self.mean.update(batch[0].mean())
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        self.log("mean", self.mean)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.found.update(self.layers(batch[0]), batch[1])
        self.log_dict(self.found, on_step=False, on_epoch=True)
        super().validation_step(batch, batch_idx)


class Earlier(Net):
    """The style of 0.7: dicts, and what the epoch's steps returned."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        return {"loss": loss, "log": {"train_loss": loss}, "size": len(batch[0])}

    def training_epoch_end(self, outputs: Any) -> Any:
        return {"log": {"epoch_loss": torch.stack([each["loss"] for each in outputs]).mean()}}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"val_loss": self.loss(batch)}

    def validation_epoch_end(self, outputs: Any) -> Any:
        return {"log": {"val_loss": torch.stack([each["val_loss"] for each in outputs]).mean()}}


class Gan(lk.LightModule):
    """Two optimizers, stepped by hand; the second every other batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.maker, self.judge = nn.Linear(2, 4), nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()  # type: ignore[misc]
        made = self.maker(torch.randn(len(batch[0]), 2))
        for optimizer, loss in ((first, F.softplus(-self.judge(made)).mean()), (second, None)):
            if optimizer is second:
                if batch_idx % 2:
                    continue
                loss = (F.softplus(self.judge(made.detach())) + F.softplus(-self.judge(batch[0]))).mean()
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.untoggle_optimizer(optimizer)
            self.log("judge" if optimizer is second else "maker", loss, on_step=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), lr=0.05) for part in (self.maker, self.judge)]


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
