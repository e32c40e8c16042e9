"""The jobs done with lightkit."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

import lightkit as lk
import lightkit.seeding
from benchmarks.jobs import LEARNING_RATE, LOG_EVERY, MAX_LEARNING_RATE, Job, Run, weights
from benchmarks.raw import ACCUMULATE, CLIP


class Module(lk.LightModule):
    """The job's network."""

    def __init__(self, job: Job):
        super().__init__()
        self.net = job.model()
        self.names = [f"metric_{i}" for i in range(job.logged)]

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=LEARNING_RATE)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return cross_entropy(self.net(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", cross_entropy(self.net(x), y))


class Logging(Module):
    """With the loss logged, in the bar too."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = cross_entropy(self.net(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss


class LoggingMany(Module):
    """With many values logged, and their means over the epoch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = cross_entropy(self.net(x), y)
        for name in self.names:
            self.log(name, loss, on_step=True, on_epoch=True)
        return loss


class Scheduled(Module):
    """With a learning rate that moves every step."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=LEARNING_RATE)
        steps = self.trainer.estimated_stepping_batches
        scheduler = OneCycleLR(optimizer, MAX_LEARNING_RATE, total_steps=steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class OneHook(lk.Callback):
    """A callback that does next to nothing."""

    def __init__(self, index: int):
        self.index, self.calls = index, 0

    @property
    def state_key(self) -> str:
        return f"OneHook{self.index}"

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.calls += 1


def options(job: Job, folder: str) -> dict[str, Any]:
    """What the Trainer is given."""
    given: dict[str, Any] = {
        "max_epochs": job.epochs, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        "log_every_n_steps": LOG_EVERY, "default_root_dir": folder,
    }  # fmt: skip
    if job.kind == "everything":
        from rich.console import Console

        bar = lk.callbacks.RichProgressBar(console=Console(file=sys.stdout, force_terminal=True, width=100))
        given.update(logger=lk.loggers.TensorBoardLogger(), enable_checkpointing=True)
        given.update(enable_progress_bar=True, callbacks=[bar])
    if job.kind == "accumulate":
        given.update(accumulate_grad_batches=ACCUMULATE, gradient_clip_val=CLIP)
    if job.callbacks:
        given.update(callbacks=[OneHook(i) for i in range(job.callbacks)])
    return given


def lightkit(job: Job, folder: str) -> Run:
    """The job with a Trainer."""
    kind = {"everything": Logging, "accumulate": Scheduled}.get(job.kind, LoggingMany if job.logged else Module)
    module, trainer = kind(job), lk.Trainer(**options(job, folder))
    train = job.data.train()
    val = job.data.val() if job.data.val_batches else None

    def run() -> list[Tensor]:
        if job.keyed:
            os.environ[lk.seeding.SEED_WORKERS] = "1"  # as seed_everything(..., workers=True) leaves it
        try:
            trainer.fit(module, train, val)
        finally:
            os.environ.pop(lk.seeding.SEED_WORKERS, None)
        last = [trainer.callback_metrics["val_loss"]] if val is not None else []
        return [*weights(module.net), *last]

    def validate() -> list[Tensor]:
        return [torch.tensor(trainer.validate(module, val, verbose=False)[0]["val_loss"])]

    return validate if job.kind == "validation" else run
