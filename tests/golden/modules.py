"""The modules and data of the golden jobs: tiny, and each written as a user would."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint
from tests.golden.tape import DATA_HOOKS, ENGINE_HOOKS, MODULE_HOOKS, current, told

SAMPLES, BATCH = 19, 4  # 5 batches, the last one of 3


def rows(samples: int = SAMPLES) -> TensorDataset:
    """Inputs (3,), a target, the sample's number."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(samples, 3, generator=generator)
    return TensorDataset(x, torch.tanh(x.sum(1)) + 0.1 * x[:, 0], torch.arange(samples))


class Noisy(Dataset[Any]):
    """Rows with noise from all three generators, as augmentation draws it."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.rows = rows(samples)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        x, y, number = self.rows[index]
        return x + 0.1 * torch.randn(3) + 0.1 * random.random() + 0.1 * float(np.random.rand()), y, number


class Stream(IterableDataset[Any]):
    """As many rows as it likes: without a length."""

    def __iter__(self) -> Iterator[Any]:
        yield from rows()


def loader(data: Any = None, **arguments: Any) -> DataLoader[Any]:
    """A loader over the rows, or over `data`."""
    return DataLoader(rows() if data is None else data, batch_size=BATCH, **arguments)


class Net(lk.LightModule):
    """A regression; no hook is told, so that the step takes its shortest way."""

    def __init__(self, width: int = 4, dropout: float = 0.0, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(-1)

    def error(self, batch: Any) -> Tensor:
        return (self(batch[0]) - batch[1]).square().mean()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.error(batch)
        current().step(batch, batch_idx, loss)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.error(batch)
        self.log("val_loss", loss + 0.01 * torch.rand(()))  # the generators are put back afterwards
        return loss

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.error(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


@told("M", MODULE_HOOKS)
class ToldNet(Net):
    """Tells all its hooks but those of the engine."""


@told("M", (*MODULE_HOOKS, *ENGINE_HOOKS))
class EngineNet(Net):
    """Tells the engine's hooks too; a scheduler moves after every second step, another at the end of an epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        by_step = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.9)
        by_epoch = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
        return [optimizer], [{"scheduler": by_step, "interval": "step", "frequency": 2}, by_epoch]


@told("M", (*MODULE_HOOKS, "lr_scheduler_step"))
class PlateauNet(Net):
    """Lowers its learning rate where the validation gets no better."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["own"] = {"step": self.global_step}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        current().floats.append(["own", float(checkpoint["own"]["step"])])


@told("M", MODULE_HOOKS)
class OwnStepNet(Net):
    """Warms up inside its own `optimizer_step`, and leaves every fifth batch's update out."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        current().tell("M", f"optimizer_step({epoch},{batch_idx})", self.trainer)
        for group in optimizer.param_groups:
            group["lr"] = self.hparams.lr * min(1.0, (self.global_step + 1) / 4)
        if batch_idx != 4:
            optimizer.step(closure=optimizer_closure)
        else:
            optimizer_closure()


@told("M", MODULE_HOOKS)
class LBFGSNet(Net):
    """Each step evaluates its batch several times."""

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.3, max_iter=2, history_size=1)


@told("M", MODULE_HOOKS)
class Gan(lk.LightModule):
    """Two optimizers, stepped by hand; one scheduler each."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real = batch[0]
        first, second = self.optimizers()
        self.toggle_optimizer(first)
        fake = self.generator(torch.randn(len(real), 2))
        fooled = nn.functional.softplus(-self.critic(fake)).mean()
        first.zero_grad()
        self.manual_backward(fooled)
        self.clip_gradients(first, 0.1, "norm")
        first.step()
        self.untoggle_optimizer(first)
        with self.toggled_optimizer(second):
            told_apart = nn.functional.softplus(self.critic(fake.detach())) + nn.functional.softplus(-self.critic(real))
            second.zero_grad()
            self.manual_backward(told_apart.mean())
            second.step()
        if batch_idx % 2:
            for scheduler in self.lr_schedulers():
                scheduler.step()
        current().step(batch, batch_idx, fooled)
        self.log_dict({"fooled": fooled, "told_apart": told_apart.mean()}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizers = [torch.optim.Adam(part.parameters(), lr=0.02) for part in (self.generator, self.critic)]
        return optimizers, [torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.7) for optimizer in optimizers]


@told("M", MODULE_HOOKS)
class EarlierNet(Net):
    """The earlier style: dicts from steps, `*_step_end`, `*_epoch_end(outputs)`, earlier names of the test hooks."""

    test_step = lk.LightModule.test_step  # test_loop_step is

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.error(batch)
        current().step(batch, batch_idx, loss)
        return {"loss": loss, "size": len(batch[0]), "log": {"a": loss * 2}, "progress_bar": {"b": loss + batch_idx}}

    def training_step_end(self, output: Any) -> Any:
        return {**output, "loss": output["loss"] * 1.5}

    def training_epoch_end(self, outputs: Any) -> Any:
        current().floats.extend(["kept", float(output["loss"])] for output in outputs)
        total = sum(output["size"] for output in outputs)
        return {"train_total": float(total), "log": {"kept": float(len(outputs))}}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"val": self.error(batch)}

    def validation_step_end(self, output: Any) -> Any:
        return {"val": output["val"] + 1}

    def validation_epoch_end(self, outputs: Any) -> Any:
        mean = torch.stack([output["val"] for output in outputs]).mean()
        return {"val_loss": mean, "log": {"val_mean": mean}, "progress_bar": {"val_bar": mean * 2}}

    def test_loop_step(self, batch: Any, batch_idx: int) -> Any:
        return self.error(batch)

    def test_loop_step_end(self, output: Any) -> Any:
        return output + 1

    def test_loop_epoch_end(self, outputs: Any) -> Any:
        return {"log": {"test_mean": torch.stack(outputs).mean()}}


@told("M", MODULE_HOOKS)
class TwoLoaderNet(Net):
    """Metrics of torchmetrics over two validation loaders, with and without the loader's number in the name."""

    def __init__(self) -> None:
        super().__init__()
        self.train_mean, self.total = torchmetrics.MeanMetric(), torchmetrics.MeanSquaredError()
        self.each = nn.ModuleList([torchmetrics.MeanMetric(), torchmetrics.MeanMetric()])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.train_mean.update(loss.detach(), len(batch[0]))
        self.log("train_mean", self.train_mean, on_step=False, on_epoch=True)
        self.log("highest", loss.detach(), on_step=False, on_epoch=True, reduce_fx="max")
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.total.update(self(batch[0]), batch[1])
        self.each[dataloader_idx].update(self.error(batch))
        self.log("each", self.each[dataloader_idx])
        self.log(f"alone_{dataloader_idx}", self.error(batch), add_dataloader_idx=False)
        self.log("step", self.error(batch), on_step=True, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        self.log("total", self.total.compute())
        self.total.reset()

    def on_validation_model_eval(self) -> None:
        current().tell("M", "on_validation_model_eval", self.trainer)
        self.eval()

    def on_validation_model_train(self) -> None:
        current().tell("M", "on_validation_model_train", self.trainer)
        self.train()

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch[0]) * (dataloader_idx + 1)


@told("M", MODULE_HOOKS)
class OwnCallbacksNet(Net):
    """Brings its own callbacks, which replace the trainer's of their class."""

    def configure_callbacks(self) -> Any:
        return [ToldStopping("val_loss", patience=9), ToldSaving(filename="own-{step}", save_last="link")]


@told("D", DATA_HOOKS)
class Data(lk.LightDataModule):
    """The rows as a data module with a state; its transfer hooks change the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.num_setups = 0

    def setup(self, stage: str) -> None:
        self.num_setups += 1

    def train_dataloader(self) -> Any:
        return loader(shuffle=True)

    def val_dataloader(self) -> Any:
        return loader(rows(6))

    def test_dataloader(self) -> Any:
        return loader(rows(9))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * 1.5, *batch[1:]]

    def state_dict(self) -> dict[str, Any]:
        return {"num_setups": self.num_setups}


# ---------------------------------------------------------------------- callbacks that tell

_SAVING_HOOKS = ("setup", "on_train_batch_end", "on_train_epoch_end", "on_validation_end", "on_train_end")


@told("S", _SAVING_HOOKS)
class ToldSaving(ModelCheckpoint):
    """Saves, and tells when it is asked to."""


@told("E", ("on_train_epoch_end", "on_validation_end"))
class ToldStopping(EarlyStopping):
    """Stops early, and tells when it is asked to."""


class Stop(lk.Callback):
    """Saves in the hook after an update, and ends the run there as Ctrl-C would."""

    def __init__(self, step: int, path: str) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt
