"""A real, tiny fit whose validation logs the values that a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightkit.callbacks import Callback
from lightkit.module import LightModule
from lightkit.trainer import Trainer


class Scripted(LightModule):
    """Logs `v`, one of `values` for each epoch, in validation, and `loss` in training."""

    def __init__(self, values: Sequence[float] = (0.5, 0.3, 0.4, 0.2, 0.6)) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.values = values

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).sum()
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("v", self.values[self.current_epoch], prog_bar=True)

    def test_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("t", 1.0)

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.001)


@pytest.fixture
def trainer() -> Callable[..., Trainer]:
    """Make a quiet trainer on the CPU with these callbacks."""

    def make(callbacks: Sequence[Callback] = (), **kwargs: Any) -> Trainer:
        quiet = {
            "accelerator": "cpu",
            "max_epochs": 5,
            "logger": False,
            "enable_checkpointing": None,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        return Trainer(**{**quiet, "callbacks": list(callbacks), **kwargs})

    return make


@pytest.fixture
def fit(trainer: Callable[..., Trainer]) -> Callable[..., Trainer]:
    """Fit a `Scripted` module, four batches an epoch; keyword arguments go to the trainer."""

    def run(
        callbacks: Sequence[Callback] = (),
        values: Sequence[float] = (0.5, 0.3, 0.4, 0.2, 0.6),
        module: LightModule | None = None,
        ckpt_path: Any = None,
        num_batches: int = 4,
        **kwargs: Any,
    ) -> Trainer:
        made = trainer(callbacks, **kwargs)
        made.fit(
            Scripted(values) if module is None else module,
            DataLoader(torch.ones(num_batches, 1)),
            DataLoader(torch.ones(1, 1)),
            ckpt_path=ckpt_path,
        )
        return made

    return run


@pytest.fixture
def scripted() -> type[Scripted]:
    """The class of the module that `fit` fits."""
    return Scripted
