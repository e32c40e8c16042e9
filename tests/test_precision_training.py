"""Training in each precision on the CPU: dtypes, the gradient scaler, clipping, checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk

F16, B16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64


def data(count: int = 16) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    return DataLoader(TensorDataset(torch.randn(count, 3, generator=generator), torch.arange(count)), batch_size=4)


class Net(lk.LightModule):
    """Writes down the dtypes that it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.seen: dict[str, Any] = {}
        self.before_step: list[torch.Tensor] = []

    def look(self, where: str, batch: Any) -> torch.Tensor:
        x, labels = batch
        assert labels.dtype == torch.long and self.count.dtype == torch.long, "whole numbers stay whole"
        out = self.layer(x)
        self.seen[where] = (x.dtype, out.dtype, torch.zeros(1).dtype)
        return out

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.look("train", batch).float().square().mean() * 0.1  # small: no overflow at the first scale
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.look("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test", self.look("test", batch).sum())

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.look("predict", batch)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.seen["grad"] = self.layer.weight.grad.dtype  # type: ignore[union-attr]
        self.before_step.append(self.layer.weight.grad.clone())  # type: ignore[union-attr]

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1, momentum=0.9)


def trainer(root: Path, precision: Any, **arguments: Any) -> Any:
    defaults: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "logger": False,
    }  # fmt: skip
    return lk.Trainer(precision=precision, **{**defaults, **arguments})


@pytest.mark.parametrize(
    ("precision", "name", "weights", "batch", "out", "new"),
    [
        (None, "32-true", F32, F32, F32, F32),
        (32, "32-true", F32, F32, F32, F32),
        ("16-mixed", "16-mixed", F32, F32, F16, F32),  # Lightning 2.6 falls back to bf16-mixed on the CPU
        (16, "16-mixed", F32, F32, F16, F32),
        ("bf16-mixed", "bf16-mixed", F32, F32, B16, F32),
        ("bf16", "bf16-mixed", F32, F32, B16, F32),
        ("bf16-true", "bf16-true", B16, B16, B16, B16),
        ("16-true", "16-true", F16, F16, F16, F16),
        ("64-true", "64-true", F64, F64, F64, F64),
        (64, "64-true", F64, F64, F64, F64),
    ],
)
def test_dtypes_of_weights_batches_outputs_and_gradients(
    tmp_path: Path, precision: Any, name: str, weights: Any, batch: Any, out: Any, new: Any
) -> None:
    net = Net()
    t = trainer(tmp_path, precision)
    t.fit(net, data(), data(4))
    (tested,) = t.test(net, data(4), verbose=False)
    (predicted,) = t.predict(net, data(4))
    assert t.precision.name == name
    step = (batch, out, new)
    assert net.seen == {"train": step, "val": step, "test": step, "predict": step, "grad": weights}
    assert predicted.dtype == out and net.layer.weight.dtype == weights
    assert torch.get_default_dtype() == F32, "as it was"
    assert math.isfinite(tested["test"])


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "bf16-true", "64-true"])
def test_training_comes_near_to_full_precision(tmp_path: Path, precision: str) -> None:
    def losses(precision: str) -> float:
        t = trainer(tmp_path, precision, max_epochs=3)
        t.fit(Net(), data())
        return float(t.callback_metrics["loss_epoch"])

    full = losses("32-true")
    assert losses(precision) == pytest.approx(full, rel=0.02)


# ------------------------------------------------------------------ the gradient scaler


def by_hand(clip: float | None, algorithm: str = "norm") -> nn.Linear:
    """Four steps of float16 with torch's own scaler."""
    net = Net()
    optimizer = net.configure_optimizers()
    scaler = torch.amp.GradScaler("cpu")
    for batch in data():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=F16, cache_enabled=False):
            loss = net.layer(batch[0]).float().square().mean() * 0.1
        scaler.scale(loss).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            if algorithm == "norm":
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            else:
                torch.nn.utils.clip_grad_value_(net.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
    return net.layer


@pytest.mark.parametrize("overrides_step", [False, True])
@pytest.mark.parametrize(("clip", "algorithm"), [(None, "norm"), (0.05, "norm"), (0.02, "value")])
def test_16_mixed_is_torch_s_own_recipe(
    tmp_path: Path, clip: float | None, algorithm: Any, overrides_step: bool
) -> None:
    class Overriding(Net):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            optimizer.step(closure=optimizer_closure)

    net = Overriding() if overrides_step else Net()
    trainer(tmp_path, "16-mixed", gradient_clip_val=clip, gradient_clip_algorithm=algorithm).fit(net, data())
    expected = by_hand(clip, algorithm)
    assert torch.equal(net.layer.weight, expected.weight) and torch.equal(net.layer.bias, expected.bias)


def test_gradients_are_unscaled_before_hooks_and_clipping(tmp_path: Path) -> None:
    full, half = Net(), Net()
    trainer(tmp_path, "32-true", max_steps=1).fit(full, data())
    t = trainer(tmp_path, "16-mixed", max_steps=1, gradient_clip_val=1e-4)
    t.fit(half, data())
    assert t.precision.scaler.get_scale() == 65536.0
    torch.testing.assert_close(half.before_step[0], full.before_step[0], rtol=5e-3, atol=1e-4)
    moved = torch.cat([(a - b).flatten() for a, b in zip(half.parameters(), Net().parameters(), strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(0.1 * 1e-4, rel=1e-2), "lr times the clipped norm"


def test_a_backward_of_one_s_own_gets_the_scaled_loss(tmp_path: Path) -> None:
    given: list[float] = []

    class Backward(Net):
        def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            given.append(float(loss.detach()))
            loss.backward()

    plain, own = Net(), Backward()
    trainer(tmp_path, "16-mixed", max_steps=1).fit(plain, data())
    t = trainer(tmp_path, "16-mixed", max_steps=1)
    t.fit(own, data())
    assert torch.equal(plain.layer.weight, own.layer.weight)
    assert given == [pytest.approx(65536.0 * float(t.callback_metrics["loss_step"]), rel=1e-6)]


class Overflowing(Net):
    """The gradients of the given steps overflow float16."""

    overflows: tuple[int, ...] = (0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.weights: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch[0]).float().square().mean()
        return loss * (1e36 if batch_idx in self.overflows else 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=1.0)
        scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 0.01 / (1 + step))
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.weights.append(self.layer.weight.detach().clone())


def test_a_step_that_overflows_changes_neither_weights_nor_learning_rate(tmp_path: Path) -> None:
    """torch warns where a scheduler moves before the first update; warnings are errors here. Lightning lets it warn."""
    net = Overflowing()
    t = trainer(tmp_path, "16-mixed", nan_check="off")
    start = net.layer.weight.detach().clone()
    t.fit(net, data())
    assert net.rates == [0.01, 0.01 / 2, 0.01 / 2, 0.01 / 3]
    before = [start, *net.weights[:-1]]
    assert [torch.equal(a, b) for a, b in zip(before, net.weights, strict=True)] == [True, False, True, False]
    assert t.precision.scaler.get_scale() == 65536.0 / 4
    assert t.global_step == 4, "steps that were tried, as in Lightning"
    assert all(w.isfinite().all() for w in net.weights)


class Stepping(Overflowing):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


@pytest.mark.parametrize("kind", [Overflowing, Stepping])
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize(
    ("accumulate", "overflows", "rates", "scale"),
    [
        (1, (0, 1, 2, 3), [0.01] * 4, 65536.0 / 16),
        (2, (1,), [0.01] * 3 + [0.01 / 2], 65536.0 / 2),  # one batch of a window is enough
        (2, (0, 3), [0.01] * 4, 65536.0 / 4),
        (3, (3,), [0.01] * 2 + [0.01 / 2] * 2, 65536.0 / 2),  # the short window at the end
    ],
)
def test_windows_that_overflow_move_no_scheduler(
    tmp_path: Path, kind: Any, sized: bool, accumulate: int, overflows: tuple[int, ...], rates: Any, scale: float
) -> None:
    net = kind()
    net.overflows = overflows
    batches = list(data())
    t = trainer(tmp_path, "16-mixed", nan_check="off", accumulate_grad_batches=accumulate, gradient_clip_val=1.0)
    t.fit(net, batches if sized else iter(batches))
    assert net.rates == pytest.approx(rates)
    assert t.precision.scaler.get_scale() == scale
    assert net.layer.weight.isfinite().all()
    assert t.lr_scheduler_configs[0].scheduler.last_epoch == math.ceil(4 / accumulate) - math.log2(65536.0 / scale)


def test_an_epoch_s_scheduler_moves_where_a_step_of_the_epoch_was_taken(tmp_path: Path) -> None:
    class ByEpoch(Overflowing):
        def configure_optimizers(self) -> Any:
            (optimizer,), (entry,) = super().configure_optimizers()
            return [optimizer], [{**entry, "interval": "epoch"}]

    net = ByEpoch()
    trainer(tmp_path, "16-mixed", nan_check="off", max_epochs=2).fit(net, data())
    assert net.rates == [0.01] * 3 + [0.01 / 2] * 4 + [0.01 / 3]


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, precision: str, stop: int) -> None:
    class Stop(lk.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == stop:
                trainer.save_checkpoint(tmp_path / "stop.ckpt")
                raise KeyboardInterrupt

    def make() -> Net:
        return Overflowing() if precision == "16-mixed" else Net()

    arguments: dict[str, Any] = {"max_epochs": 2, "nan_check": "off"}
    whole, parts = make(), make()
    t = trainer(tmp_path, precision, **arguments)
    t.fit(whole, data())
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, precision, callbacks=[Stop()], **arguments).fit(make(), data())
    resumed = trainer(tmp_path, precision, **arguments)
    resumed.fit(parts, data(), ckpt_path=tmp_path / "stop.ckpt")
    assert torch.equal(whole.layer.weight, parts.layer.weight)
    assert t.precision.state_dict() == resumed.precision.state_dict()
    saved = torch.load(tmp_path / "stop.ckpt", weights_only=True)["precision"]
    if precision == "16-mixed":
        overflows = sum(step % 4 in Overflowing.overflows for step in range(stop))
        assert saved["scale"] == 65536.0 / 2**overflows
        assert t.precision.scaler.get_scale() == 65536.0 / 16
    else:
        assert saved == {}


def test_a_checkpoint_of_another_precision_can_be_resumed(tmp_path: Path) -> None:
    t = trainer(tmp_path, "16-mixed")
    t.fit(Net(), data())
    t.save_checkpoint(tmp_path / "half.ckpt")
    net = Net()
    other = trainer(tmp_path, "32-true", max_epochs=2)
    other.fit(net, data(), ckpt_path=tmp_path / "half.ckpt")
    assert other.global_step == 8 and net.layer.weight.isfinite().all()
    other.save_checkpoint(tmp_path / "full.ckpt")
    back = trainer(tmp_path, "16-mixed", max_epochs=3)
    back.fit(Net(), data(), ckpt_path=tmp_path / "full.ckpt")
    assert back.global_step == 12 and back.precision.scaler.get_scale() == 65536.0


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed", "64-true"])
def test_accumulated_steps_in_each_precision(tmp_path: Path, precision: str) -> None:
    accumulated, whole = Net(), Net()
    trainer(tmp_path, precision, accumulate_grad_batches=4, gradient_clip_val=0.1).fit(accumulated, data())
    big = DataLoader(data().dataset, batch_size=16)
    trainer(tmp_path, precision, gradient_clip_val=0.1).fit(whole, big)
    torch.testing.assert_close(accumulated.layer.weight, whole.layer.weight, rtol=2e-3, atol=2e-3)
    assert len(accumulated.before_step) == 1
