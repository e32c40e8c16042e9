"""What the hot loop may cost: stack frames, device reads, calls of hooks nobody overrides."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import LineProgress, RichProgressBar, TQDMProgressBar

MOST_FRAMES = 8


def data(samples: int = 24) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 4, generator=generator)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4)


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.layer(x), y)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log("accuracy", (self.layer(x).argmax(-1) == y).float().mean(), prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.layer(batch[0]), batch[1]), prog_bar=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
@pytest.mark.parametrize("with_callbacks", [False, True])
def test_from_fit_to_training_step_are_few_stack_frames(tmp_path: Path, precision: str, with_callbacks: bool) -> None:
    frames: list[str] = []

    class Deep(Net):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            frame = sys._getframe()
            names = []
            while frame is not None and frame.f_code.co_name != "test_from_fit_to_training_step_are_few_stack_frames":
                names.append(frame.f_code.co_name)
                frame = frame.f_back  # type: ignore[assignment]
            frames[:] = names
            return super().training_step(batch, batch_idx)

    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", precision=precision, default_root_dir=tmp_path,
        enable_progress_bar=with_callbacks, logger=with_callbacks, enable_checkpointing=with_callbacks,
    )  # fmt: skip
    trainer.fit(Deep(), data(), data())
    between = frames[1:]  # without training_step itself
    assert frames[0] == "training_step" and frames[-1] == "fit"
    assert len(between) <= MOST_FRAMES, between


class CountReads(TorchDispatchMode):
    """Counts what brings a tensor's value to the host."""

    reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.reads += 1
        return func(*args, **(kwargs or {}))


class ReadsAStep(lk.Callback):
    """Device reads between the beginning of one batch and the beginning of the next."""

    def __init__(self, mode: CountReads):
        self.mode, self.counts, self.before = mode, list[int](), 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx > 0:
            self.counts.append(self.mode.reads - self.before)
        self.before = self.mode.reads


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("bar", [LineProgress, RichProgressBar, TQDMProgressBar])
def test_a_step_reads_nothing_from_the_device(tmp_path: Path, bar: Any, accumulate: int) -> None:
    mode = CountReads()
    counter = ReadsAStep(mode)
    shown = bar()
    shown.every_s = 3600.0
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, log_every_n_steps=10,
        callbacks=[counter, shown], accumulate_grad_batches=accumulate, enable_model_summary=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    with mode:
        trainer.fit(Net(), data(400), data())
    assert len(counter.counts) == 99
    # a refresh of the bar reads as well, at most ten times a second; here its next one is an hour away
    reading = [i for i, reads in enumerate(counter.counts) if reads > 0]
    assert reading == [i for i in range(99) if (i + 1) % (10 * accumulate) == 0]


def test_a_step_reads_nothing_at_all_without_a_bar(tmp_path: Path) -> None:
    mode = CountReads()
    counter = ReadsAStep(mode)
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, log_every_n_steps=1000, callbacks=[counter],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with mode:
        trainer.fit(Net(), data(400), data())
    assert counter.counts == [0] * 99


def test_hooks_nobody_overrides_are_not_called(tmp_path: Path) -> None:
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    found: list[Any] = []

    class Looks(lk.Callback):
        def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            found.append(trainer.fit_loop.parts)

    trainer.callbacks.append(Looks())
    trainer.fit(Net(), data())
    [parts] = found
    bound = (parts.on_batch_start, parts.on_batch_end, parts.save_on_batch_end, parts.on_before_zero_grad)
    assert bound == ([], [], [], [])
    assert (parts.on_before_backward, parts.on_after_backward, parts.on_before_step) == ([], [], [])
    assert parts.prepare is None and parts.training_step.__func__ is Net.training_step


class Counting(torch.optim.SGD):
    """Counts its updates, as a user's own optimizer may."""

    updates = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self.updates += 1
        return super().step(closure)


def fit_with(optimizer_of: Any, **arguments: Any) -> tuple[Net, Any]:
    torch.manual_seed(0)
    model = Net()
    optimizer = optimizer_of(model)
    model.configure_optimizers = lambda: optimizer  # type: ignore[method-assign]
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **arguments,
    )  # fmt: skip
    trainer.fit(model, data())
    return model, optimizer


def test_step_hooks_of_torch_are_called_also_those_that_come_while_it_trains(tmp_path: Path) -> None:
    calls: list[str] = []

    class Hooks(lk.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                trainer.optimizers[0].register_step_post_hook(lambda *args: calls.append("own post"))
            if batch_idx == 4:
                handles.append(register_optimizer_step_pre_hook(lambda *args: calls.append("global pre")))

    handles: list[Any] = []
    try:
        fit_with(lambda model: torch.optim.SGD(model.parameters(), lr=0.1), callbacks=[Hooks()])
    finally:
        handles[0].remove()
    assert calls == ["own post"] * 2 + ["global pre", "own post"] * 2


def test_a_profiler_sees_the_optimizer_step() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as found:
        fit_with(lambda model: torch.optim.SGD(model.parameters(), lr=0.1))
    steps = [event for event in found.key_averages() if event.key == "Optimizer.step#SGD.step"]
    assert [event.count for event in steps] == [6]


def test_an_optimizer_of_one_s_own_is_stepped_through_its_own_step() -> None:
    model, optimizer = fit_with(lambda model: Counting(model.parameters(), lr=0.1))
    plain, _ = fit_with(lambda model: torch.optim.SGD(model.parameters(), lr=0.1))
    assert optimizer.updates == 6
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_set_on_the_optimizer_is_the_one_that_is_called() -> None:
    calls: list[int] = []

    def patched(model: Net) -> Any:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.step = lambda closure=None: calls.append(1)  # type: ignore[method-assign]
        return optimizer

    fit_with(patched)
    assert len(calls) == 6
