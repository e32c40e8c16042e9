"""Data and modules of the jobs in benchmarks/chaos_jobs.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lightkit as lk

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


class Several(Net):
    """Of the batches of two loaders."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        joined = [torch.cat(parts) for parts in zip(batch["short"], batch["long"], strict=True)]
        return super().training_step(joined, batch_idx)


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
