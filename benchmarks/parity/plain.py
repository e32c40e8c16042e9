"""A hand-written loop for the programs: what somebody without a framework writes, and no line of lightkit.

The one thing beside: every generator is saved before an evaluation and restored after it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from benchmarks.parity.programs import EPOCHS, Program


class Module(nn.Module):
    """As much of a module as the programs use."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = True
        self.trainer: Any = None
        self.found: dict[str, list[tuple[float, int]]] = {}  # what validation steps logged
        self.batch_size = 0

    def log(self, name: str, value: Any, **options: Any) -> None:
        """Kept in a validation, for who monitors it."""
        if not self.training:
            self.found.setdefault(name, []).append((float(value), self.batch_size))

    def log_dict(self, values: dict[str, Any], **options: Any) -> None:
        """Each of them."""
        for name, value in values.items():
            self.log(name, value)

    def optimizers(self) -> Any:
        """All of them."""
        return self.trainer.optimizers

    def manual_backward(self, loss: Any) -> None:
        """Backward."""
        loss.backward()


class EarlyStopping:
    """Patience, written out."""

    def __init__(self, monitor: str, *, patience: int, min_delta: float):
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.best, self.waited = math.inf, 0

    def is_over(self, values: dict[str, float]) -> bool:
        """Whether it has waited long enough."""
        if values[self.monitor] < self.best - self.min_delta:
            self.best, self.waited = values[self.monitor], 0
            return False
        self.waited += 1
        return self.waited >= self.patience


NAMES = SimpleNamespace(LightningModule=Module, callbacks=SimpleNamespace(EarlyStopping=EarlyStopping))


@contextlib.contextmanager
def _bracketed() -> Iterator[None]:
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def run(program: Program, form: str) -> dict[str, Any]:
    """Train; returns weights and losses."""
    options = {"max_epochs": EPOCHS, "max_steps": -1, "accumulate_grad_batches": 1, **program.trainer}
    module: Any = program.module()
    train, val = program.data(form)
    steps = len(train) // options["accumulate_grad_batches"] * options["max_epochs"]
    module.trainer = SimpleNamespace(estimated_stepping_batches=steps, global_step=0, optimizers=[])
    is_double, is_mixed = (options.get("precision") == name for name in ("64-true", "bf16-mixed"))
    if is_double:
        module.double()
    optimizers, schedules = _parse(module.configure_optimizers())
    module.trainer.optimizers = optimizers
    autocast = torch.autocast("cpu", torch.bfloat16) if is_mixed else contextlib.nullcontext()
    stoppers = program.callbacks()
    loop = _Loop(module, optimizers, schedules, options, autocast, is_double=is_double)
    each = int(len(train) * options.get("val_check_interval", 1.0))
    epoch, is_over = 0, False
    while not is_over and (options["max_epochs"] == -1 or epoch < options["max_epochs"]):
        module.train()
        for index, batch in enumerate(train):
            loop.step(batch, index, epoch)
            is_over = module.trainer.global_step == options["max_steps"]
            if (index + 1) % each == 0:
                values = loop.validate(val)
            if is_over:
                break
        for schedule in schedules:
            if schedule["interval"] == "epoch":
                monitor = schedule.get("monitor")
                schedule["scheduler"].step(*([values[monitor]] if monitor else []))
        is_over = is_over or any([stopper.is_over(values) for stopper in stoppers])
        epoch += 1
    return {"weights": module.state_dict(), "losses": module.losses}


class _Loop:
    def __init__(self, module: Any, optimizers: list[Any], schedules: list[Any], options: dict[str, Any],
                 autocast: Any, *, is_double: bool):  # fmt: skip
        self.module, self.optimizers, self.schedules = module, optimizers, schedules
        self.options, self.autocast, self.is_double = options, autocast, is_double
        self.owns_step = hasattr(type(module), "optimizer_step")

    def step(self, batch: Any, index: int, epoch: int) -> None:
        """One batch of training."""
        module = self.module
        batch = self.prepared(batch)
        if not module.automatic_optimization:
            module.training_step(batch, index)
            module.trainer.global_step += len(self.optimizers)
            return
        optimizer, accumulate = self.optimizers[0], self.options["accumulate_grad_batches"]
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(lambda: self.learn(batch, index, accumulate, optimizer))
            module.trainer.global_step += 1
            return
        if self.learn(batch, index, accumulate, optimizer) is None or (index + 1) % accumulate:
            return
        if (most := self.options.get("gradient_clip_val")) is not None:
            by_value = self.options.get("gradient_clip_algorithm") == "value"
            clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
            clip(module.parameters(), most)
        if self.owns_step:
            module.optimizer_step(epoch, index, optimizer, None)
        else:
            optimizer.step()
        module.trainer.global_step += 1
        for schedule in self.schedules:
            if schedule["interval"] == "step":
                schedule["scheduler"].step()

    def learn(self, batch: Any, index: int, accumulate: int, optimizer: Any) -> Any:
        """Forward and backward; the loss, None where there is none."""
        with self.autocast:
            loss = self.module.training_step(batch, index)
        if loss is None:
            return None
        loss = loss["loss"] if isinstance(loss, dict) else loss
        if index % accumulate == 0:
            optimizer.zero_grad()
        (loss / accumulate).backward()
        return loss

    def prepared(self, batch: Any) -> Any:
        """The batch in double precision, and as the module's hook makes it."""
        if self.is_double:
            batch = [part.double() if part.is_floating_point() else part for part in batch]
        hook = getattr(self.module, "on_after_batch_transfer", None)
        return batch if hook is None else hook(batch, 0)

    def validate(self, val: Any) -> dict[str, float]:
        """Means over samples of what the validation steps log."""
        module = self.module
        module.found = {}
        module.eval()
        with _bracketed(), torch.no_grad():
            for loader in val if isinstance(val, list) else [val]:
                for index, batch in enumerate(loader):
                    batch = self.prepared(batch)
                    first = batch["x"] if isinstance(batch, dict) else batch[0]
                    module.batch_size = len(first)
                    with self.autocast:
                        module.validation_step(batch, index)
        module.train()
        return {
            name: sum(value * count for value, count in kept) / sum(count for _, count in kept)
            for name, kept in module.found.items()
        }


def _parse(found: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    if isinstance(found, dict):
        return [found["optimizer"]], [{"interval": "epoch", **found["lr_scheduler"]}]
    if isinstance(found, tuple):
        schedules = [one if isinstance(one, dict) else {"scheduler": one} for one in found[1]]
        return found[0], [{"interval": "epoch", **one} for one in schedules]
    return (found if isinstance(found, list) else [found]), []
