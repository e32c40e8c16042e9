"""Checkpoints taken inside an accumulation window, or after an error in the middle of a batch, resume exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint

# the resume has no ModelCheckpoint, so that nothing but the file decides
pytestmark = pytest.mark.filterwarnings("ignore:the checkpoint has states of callbacks")


class BoomError(Exception):
    """What the user's code raises."""


def data(rows: int = 30) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 4, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=3, shuffle=True)


class Net(lk.LightModule):
    """Random in every step, with buffers that it moves and a mean over the epoch; raises where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.4), nn.Linear(6, 1))
        self.raises: tuple[str, int] = ("", -1)

    def _boom(self, hook: str) -> None:
        if self.raises[0] == hook and self.trainer.fit_loop.batches_done == self.raises[1]:
            raise BoomError(hook)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = (self.layers(x) - y).square().mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        self._boom("training_step")
        return loss

    def on_before_backward(self, loss: Tensor) -> None:
        self._boom("on_before_backward")

    def on_after_backward(self) -> None:
        self._boom("on_after_backward")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self._boom("on_before_optimizer_step")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.raises == ("on_train_batch_end", batch_idx):
            raise BoomError

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Weighted(Net):
    """Micro-batches that weigh unequally."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return {"loss": loss, "num_items": torch.tensor(1.0 + batch_idx % 3)}


class OwnStep(Net):
    """Steps through its own optimizer_step, with a closure."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


class Manual(Net):
    """Accumulates three batches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss / 3)
        if batch_idx % 3 == 2:
            optimizer = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()


class Skips(Net):
    """Some batches do not count."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 4 == 1 else loss


def trainer(tmp_path: Path, kind: type[Net], *callbacks: Any, accumulate: int = 3, **more: Any) -> lk.Trainer:
    if kind is not Manual:
        more["accumulate_grad_batches"] = accumulate
    return lk.Trainer(
        max_epochs=2, default_root_dir=tmp_path, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks), callbacks=list(callbacks), **more,
    )  # fmt: skip


def fitted(
    tmp_path: Path, kind: type[Net], *callbacks: Any, raises: tuple[str, int] = ("", -1), ckpt_path: Path | None = None,
    **more: Any,
) -> tuple[list[Tensor], dict[str, float]]:  # fmt: skip
    """Everything that a fit leaves: weights and buffers, the generator, the step, the epoch's mean."""
    lk.seed_everything(3 if ckpt_path is None else 4)
    net = kind()
    net.raises = raises
    found = trainer(tmp_path, kind, *callbacks, **more)
    try:
        found.fit(net, data(), ckpt_path=ckpt_path)
    except BoomError:
        assert raises[0]
    else:
        assert not raises[0]
    metrics = {name: float(value) for name, value in found.callback_metrics.items()}
    return [*net.state_dict().values(), torch.get_rng_state()], {**metrics, "step": found.global_step}


def assert_same(one: tuple[list[Tensor], dict[str, float]], other: tuple[list[Tensor], dict[str, float]]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    assert one[1] == other[1] and math.isfinite(one[1]["loss"])


class SaveAt(lk.Callback):
    """Saves in on_train_batch_end, in the second epoch."""

    def __init__(self, path: Path, batch: int):
        self.path, self.batch = path, batch

    def on_train_batch_end(
        self, trainer: lk.Trainer, pl_module: lk.LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (1, self.batch):
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("kind", [Net, Weighted, OwnStep, Manual, Skips])
@pytest.mark.parametrize("batch", [3, 4, 9])
def test_a_checkpoint_inside_a_window_resumes_exactly(tmp_path: Path, kind: type[Net], batch: int) -> None:
    whole = fitted(tmp_path, kind, SaveAt(tmp_path / "a.ckpt", batch))
    assert_same(fitted(tmp_path, kind, ckpt_path=tmp_path / "a.ckpt"), whole)


def test_the_gradients_of_a_scaled_loss_are_taken_up(tmp_path: Path) -> None:
    whole = fitted(tmp_path, Net, SaveAt(tmp_path / "a.ckpt", 4), precision="16-mixed")
    assert_same(fitted(tmp_path, Net, ckpt_path=tmp_path / "a.ckpt", precision="16-mixed"), whole)


def test_a_closed_window_leaves_no_gradients_in_the_file(tmp_path: Path) -> None:
    fitted(tmp_path, Net, SaveAt(tmp_path / "closed.ckpt", 5))
    fitted(tmp_path, Net, SaveAt(tmp_path / "open.ckpt", 4))
    windows = [
        torch.load(tmp_path / f"{name}.ckpt", weights_only=True)["loop"].get("window") for name in ("closed", "open")
    ]
    assert windows[0] is None
    assert (windows[1]["micro"], windows[1]["size"], windows[1]["first"]) == (2, 3, 3)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_window_of_another_size_begins_anew(tmp_path: Path, accumulate: int) -> None:
    fitted(tmp_path, Net, SaveAt(tmp_path / "a.ckpt", 4))
    seen: list[int] = []

    class Looks(lk.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch_idx)

    fitted(tmp_path, Net, Looks(), ckpt_path=tmp_path / "a.ckpt", accumulate=accumulate)
    assert seen == [3, 4, 5, 6, 7, 8, 9]


def test_a_window_that_fits_no_optimizer_is_an_error(tmp_path: Path) -> None:
    fitted(tmp_path, Net, SaveAt(tmp_path / "a.ckpt", 4))
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    content["loop"]["window"]["gradients"][0].pop()
    torch.save(content, tmp_path / "b.ckpt")
    with pytest.raises(lk.errors.CheckpointError, match="inside an accumulation window, whose gradients do not fit"):
        fitted(tmp_path, Net, ckpt_path=tmp_path / "b.ckpt")


# ------------------------------------------------------------ errors in the middle of a batch

HOOKS = ["training_step", "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end"]


def saves_on_exception(tmp_path: Path) -> ModelCheckpoint:
    return ModelCheckpoint(tmp_path, filename="broken", save_on_exception=True, every_n_epochs=5)


@pytest.mark.parametrize("kind, accumulate", [(Net, 1), (Net, 3), (Weighted, 3), (OwnStep, 3), (Manual, 3)])
@pytest.mark.parametrize("hook", HOOKS)
def test_what_an_error_broke_off_is_done_again(tmp_path: Path, kind: type[Net], accumulate: int, hook: str) -> None:
    whole = fitted(tmp_path, kind, accumulate=accumulate)
    for batch in (4, 5):
        if hook == "on_before_optimizer_step" and batch == 4 and accumulate == 3:
            continue  # no step there
        fitted(tmp_path, kind, saves_on_exception(tmp_path), raises=(hook, batch), accumulate=accumulate)
        assert_same(fitted(tmp_path, kind, ckpt_path=tmp_path / "broken.ckpt", accumulate=accumulate), whole)
        (tmp_path / "broken.ckpt").unlink()


def test_a_file_saved_after_the_fit_that_failed_is_the_same(tmp_path: Path) -> None:
    whole = fitted(tmp_path, Net)
    lk.seed_everything(3)
    net = Net()
    net.raises = ("on_after_backward", 4)
    found = trainer(tmp_path, Net, saves_on_exception(tmp_path))
    with pytest.raises(BoomError):
        found.fit(net, data())
    found.save_checkpoint(tmp_path / "after.ckpt")
    assert_same(fitted(tmp_path, Net, ckpt_path=tmp_path / "after.ckpt"), whole)


def test_an_error_after_the_weights_have_moved_says_so(tmp_path: Path) -> None:
    class Breaks(torch.optim.SGD):
        def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
            super().step(closure)
            raise BoomError

    class Broken(Net):
        def configure_optimizers(self) -> Any:
            return Breaks(self.parameters(), lr=0.1)

    with pytest.warns(UserWarning, match="the error came after the weights had moved, and before the batch was done"):
        fitted(tmp_path, Broken, saves_on_exception(tmp_path), raises=("step", 0))


def test_a_checkpoint_in_the_middle_of_a_step_goes_back_to_its_window(tmp_path: Path) -> None:
    class Saves(Net):
        def on_after_backward(self) -> None:
            if self.trainer.fit_loop.batches_done == 4 and self.trainer.current_epoch == 1:
                self.trainer.save_checkpoint(tmp_path / "middle.ckpt")

    with pytest.warns(UserWarning, match="goes back to the first micro-batch of its accumulation window"):
        fitted(tmp_path, Saves)
    seen: list[int] = []

    class Looks(lk.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch_idx)

    _, metrics = fitted(tmp_path, Net, Looks(), ckpt_path=tmp_path / "middle.ckpt")
    assert seen == [3, 4, 5, 6, 7, 8, 9] and metrics["step"] == 8


def test_runs_that_save_on_no_exception_keep_nothing(tmp_path: Path) -> None:
    guards: list[object] = []

    class Looks(lk.Callback):
        def on_train_batch_end(self, trainer: lk.Trainer, *rest: Any) -> None:  # type: ignore[override]
            guards.append(trainer.fit_loop.guard)

    fitted(tmp_path, Net, Looks())
    assert guards == [None] * 20
    fitted(tmp_path, Net, Looks(), saves_on_exception(tmp_path))
    assert None not in guards[20:]
