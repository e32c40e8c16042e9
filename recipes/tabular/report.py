"""A picture of a regression after its test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import lightkit as lk
from recipes.plots import new_figure, publish, should_publish


class RegressionReport(lk.Callback):
    """Draws, after a test, what was predicted over what is true: `plots/predicted_and_true.png`.

    Needs a `test_step` that returns a dict with `predicted` and `targets`, float (batch,).
    """

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def on_test_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Forget an earlier test."""
        self.pairs = []

    def on_test_batch_end(
        self,
        trainer: lk.Trainer,
        pl_module: lk.LightModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's predictions and targets."""
        self.pairs.append((outputs["predicted"].detach().float().cpu(), outputs["targets"].float().cpu()))

    def on_test_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Draw them, with the line on which a perfect prediction lies."""
        if not self.pairs or not should_publish(trainer):
            return
        predicted, true = (torch.cat(part) for part in zip(*self.pairs, strict=True))
        rmse = float((predicted - true).square().mean().sqrt())
        figure = new_figure(5.0, 4.6)
        axes = figure.add_subplot()
        ends = [float(min(predicted.min(), true.min())), float(max(predicted.max(), true.max()))]
        axes.plot(ends, ends, color="#868e96", linewidth=1, label="predicted = true")
        axes.scatter(true.numpy(), predicted.numpy(), s=22, alpha=0.7, color="#1f5fa8")
        axes.set_title(f"{len(true):,} rows, root mean squared error {rmse:.4g}")
        name = getattr(getattr(pl_module, "columns", None), "target", "target")
        axes.set_xlabel(f"true {name}")
        axes.set_ylabel(f"predicted {name}")
        axes.grid(alpha=0.3)
        axes.legend()
        publish(trainer, "predicted_and_true", figure)
