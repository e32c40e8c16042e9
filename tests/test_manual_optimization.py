"""Manual optimization: the module's training_step calls backward and its optimizers itself, as in Lightning 2.6."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer, lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.errors import ConfigError, HookError

SAMPLES, BATCH, EPOCHS = 20, 4, 3
BATCHES = 5  # an epoch


def data() -> DataLoader[Any]:
    x = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=BATCH, shuffle=True)


def quiet(root: Path, **arguments: Any) -> lk.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": EPOCHS, "accelerator": "cpu", "run_dir": root, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


class Manual(lk.LightModule):
    """One optimizer, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        optimizer.step()
        self.log("train_loss", loss, on_step=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1, momentum=0.9)


class Automatic(Manual):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = True

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss


class Adversaries(lk.LightModule):
    """A generator and a discriminator, one optimizer each, in the manner of Lightning's GAN example."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        self.discriminator = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(), nn.Linear(8, 1))
        self.learned: list[tuple[bool, bool]] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        opt_g, opt_d = self.optimizers()
        real = batch[0]
        noise = torch.randn(len(real), 2)

        self.toggle_optimizer(opt_g)
        fooled = self.discriminator(self.generator(noise))
        loss_g = nn.functional.softplus(-fooled).mean()
        opt_g.zero_grad()
        self.manual_backward(loss_g)
        self._note()
        opt_g.step()
        self.untoggle_optimizer(opt_g)

        with self.toggled_optimizer(opt_d):
            of_real, of_fake = self.discriminator(real), self.discriminator(self.generator(noise).detach())
            loss_d = (nn.functional.softplus(-of_real) + nn.functional.softplus(of_fake)).mean()
            opt_d.zero_grad()
            self.manual_backward(loss_d)
            self._note()
            opt_d.step()
        self.log_dict({"g_loss": loss_g, "d_loss": loss_d}, prog_bar=True)

        if self.trainer.is_last_batch:
            for scheduler in self.lr_schedulers():
                scheduler.step()

    def _note(self) -> None:
        parts = (self.generator, self.discriminator)
        self.learned.append(tuple(all(p.requires_grad for p in part.parameters()) for part in parts))  # type: ignore[arg-type]

    def configure_optimizers(self) -> Any:
        opt_g = Adam(self.generator.parameters(), lr=0.01, betas=(0.5, 0.999))
        opt_d = Adam(self.discriminator.parameters(), lr=0.02, betas=(0.5, 0.999))
        return [opt_g, opt_d], [lr_scheduler.ExponentialLR(opt_g, 0.9), lr_scheduler.StepLR(opt_d, 1)]


class StopAfter(lk.Callback):
    """Saves after a batch, with what comes after it still to be done, and ends the run there."""

    def __init__(self, batches: int, path: Path):
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.progress.total_batches == self.batches:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


class Steps(lk.Callback):
    """Notes what `on_before_optimizer_step` gets, with the norm of the gradients."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.seen.append((type(optimizer).__name__, float(torch.cat([g.flatten() for g in grads]).norm())))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def rows(root: Path) -> list[dict[str, str]]:
    with open(root / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------ one optimizer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "64-true"])
def test_by_hand_and_automatic_give_the_same_weights_and_steps(tmp_path: Path, precision: Any) -> None:
    results = []
    for kind in (Automatic, Manual):
        lk.seed_everything(1, verbose=False)
        module, trainer = kind(), quiet(tmp_path, precision=precision)
        trainer.fit(module, data())
        results.append(module.state_dict())
        assert trainer.global_step == EPOCHS * BATCHES
    assert same(*results)


def test_gradients_accumulate_as_the_step_says_and_only_steps_count(tmp_path: Path) -> None:
    class Accumulating(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            self.manual_backward(self.loss(batch) / 2)
            if (batch_idx + 1) % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()

    trainer = quiet(tmp_path, max_epochs=2)
    trainer.fit(Accumulating(), data())
    assert trainer.global_step == 2 * 2


def test_a_closure_runs_before_the_hooks_and_its_loss_is_returned(tmp_path: Path) -> None:
    class Closing(Manual):
        losses: list[tuple[float, float]] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()

            def closure() -> torch.Tensor:
                loss = self.loss(batch)
                optimizer.zero_grad()
                self.manual_backward(loss)
                self.computed = float(loss.detach())
                return loss.detach()

            returned = optimizer.step(closure=closure)
            self.losses.append((self.computed, float(returned)))

    lk.seed_everything(1, verbose=False)
    closing, steps = Closing(), Steps()
    quiet(tmp_path, callbacks=[steps]).fit(closing, data())
    lk.seed_everything(1, verbose=False)
    plain = Manual()
    quiet(tmp_path).fit(plain, data())
    assert same(closing.state_dict(), plain.state_dict())
    assert all(computed == returned for computed, returned in closing.losses)
    assert len(steps.seen) == len(closing.losses) == EPOCHS * BATCHES
    assert all(norm > 0 for _, norm in steps.seen)


def test_lbfgs_takes_its_closure_by_hand(tmp_path: Path) -> None:
    class WithLBFGS(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = self.loss(batch)
                self.manual_backward(loss)
                return loss.detach()

            return optimizer.step(closure)

        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=0.5, max_iter=4)

    module = WithLBFGS()
    quiet(tmp_path).fit(module, data())
    assert module.loss(next(iter(data()))) < 1e-6


def test_the_optimizer_behaves_like_the_one_it_wraps(tmp_path: Path) -> None:
    class Asking(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            wrapped, bare = self.optimizers(), self.optimizers(use_pl_optimizer=False)
            assert isinstance(wrapped, SGD) and isinstance(wrapped, Optimizer)
            assert wrapped.optimizer is bare is self.trainer.optimizers[0]
            assert wrapped.param_groups is bare.param_groups and repr(wrapped) == repr(bare)
            state = wrapped.state_dict()
            wrapped.load_state_dict(state)
            wrapped.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
            assert len(bare.param_groups) == 2
            lr_scheduler.StepLR(wrapped, 1)
            with wrapped.toggle_model():
                self.manual_backward(self.loss(batch))
            wrapped.step()

    trainer = quiet(tmp_path, max_epochs=1, limit_train_batches=1)
    trainer.fit(Asking(), data())
    assert trainer.global_step == 1


def test_what_the_step_returns_reaches_on_train_batch_end(tmp_path: Path) -> None:
    class Returning(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            super().training_step(batch, batch_idx)
            loss = self.loss(batch)
            return [None, loss, {"loss": loss, "extra": 3}][batch_idx]

    class Outputs(lk.Callback):
        seen: list[Any] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(outputs)

    outputs = Outputs()
    quiet(tmp_path, max_epochs=1, limit_train_batches=3, callbacks=[outputs]).fit(Returning(), data())
    nothing, tensor, mapping = outputs.seen
    assert nothing == {} and tensor.keys() == {"loss"} and mapping.keys() == {"loss", "extra"}
    assert not tensor["loss"].requires_grad and not mapping["loss"].requires_grad


def test_backward_hooks_run_in_order(tmp_path: Path) -> None:
    order: list[str] = []

    class Noting(Manual):
        def on_before_backward(self, loss: torch.Tensor) -> None:
            order.append("before backward")

        def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            order.append(f"backward {kwargs}")
            super().backward(loss, *args, **kwargs)

        def on_after_backward(self) -> None:
            order.append("after backward")

        def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
            order.append("before step")

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.manual_backward(self.loss(batch), retain_graph=True)
            self.optimizers().step()
            order.append("stepped")

    quiet(tmp_path, max_epochs=1, limit_train_batches=1).fit(Noting(), data())
    backward = "backward {'retain_graph': True}"
    assert order == ["before backward", backward, "after backward", "before step", "stepped"]


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_gradients_are_clipped_at_their_true_size(tmp_path: Path, precision: Any) -> None:
    class Clipping(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch) / 100)
            self.clip_gradients(optimizer, gradient_clip_val=0.001, gradient_clip_algorithm="norm")
            optimizer.step()

    steps = Steps()
    quiet(tmp_path, precision=precision, callbacks=[steps], max_epochs=1).fit(Clipping(), data())
    assert [norm for _, norm in steps.seen] == pytest.approx([0.001] * BATCHES, rel=1e-3)


# ------------------------------------------------------------------ several optimizers


def test_two_optimizers_step_and_count_each(tmp_path: Path) -> None:
    lk.seed_everything(1, verbose=False)
    module, steps = Adversaries(), Steps()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = quiet(tmp_path, callbacks=[steps])
    trainer.fit(module, data())
    assert trainer.global_step == 2 * EPOCHS * BATCHES == len(steps.seen)
    assert all(not torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module.learned == [(True, False), (False, True)] * (EPOCHS * BATCHES)
    assert all(p.requires_grad for p in module.parameters())
    # the module moved its schedulers once an epoch, nobody else did
    assert [o.param_groups[0]["lr"] for o in trainer.optimizers] == pytest.approx([0.01 * 0.9**3, 0.02 * 0.1**3])


def test_two_optimizers_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    lk.seed_everything(1, verbose=False)
    plain = Adversaries()
    (opt_g, opt_d), schedulers = plain.configure_optimizers()
    for _ in range(EPOCHS):
        for real, _ in data():
            noise = torch.randn(len(real), 2)
            opt_g.zero_grad()
            nn.functional.softplus(-plain.discriminator(plain.generator(noise))).mean().backward()
            opt_g.step()
            opt_d.zero_grad()
            of_real, of_fake = plain.discriminator(real), plain.discriminator(plain.generator(noise).detach())
            (nn.functional.softplus(-of_real) + nn.functional.softplus(of_fake)).mean().backward()
            opt_d.step()
        for scheduler in schedulers:
            scheduler.step()
    lk.seed_everything(1, verbose=False)
    module = Adversaries()
    quiet(tmp_path).fit(module, data())
    assert same(module.state_dict(), plain.state_dict())


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize("stop", [2, 5, 8])
def test_a_run_killed_in_mid_epoch_and_resumed_ends_bit_for_bit_the_same(
    tmp_path: Path, stop: int, precision: Any
) -> None:
    def run(root: Path, seed: int, *callbacks: lk.Callback, ckpt_path: Path | None = None) -> tuple[Any, lk.Trainer]:
        lk.seed_everything(seed, verbose=False)
        module = Adversaries()
        trainer = quiet(root, callbacks=list(callbacks), logger=True, log_every_n_steps=3, precision=precision)
        trainer.fit(module, data(), ckpt_path=ckpt_path)
        return module, trainer

    whole, first = run(tmp_path / "whole", 7)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", 7, StopAfter(stop, tmp_path / "stop.ckpt"))
    parts, second = run(tmp_path / "parts", 999, ckpt_path=tmp_path / "stop.ckpt")
    assert same(whole.state_dict(), parts.state_dict())
    assert same([o.state_dict() for o in first.optimizers], [o.state_dict() for o in second.optimizers])
    assert same(first.precision.state_dict(), second.precision.state_dict())
    assert first.global_step == second.global_step == 2 * EPOCHS * BATCHES
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_metrics_are_written_by_batches_however_often_the_optimizers_step(tmp_path: Path) -> None:
    class ThreeSteps(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            for _ in range(1 if batch_idx == 0 else 3):
                super().training_step(batch, batch_idx)

    trainer = quiet(tmp_path, max_epochs=1, logger=True, log_every_n_steps=2)
    trainer.fit(ThreeSteps(), data())
    assert trainer.global_step == 13  # after the batches: 1, 4, 7, 10, 13
    steps = [int(row["step"]) for row in rows(tmp_path) if row["train_loss_step"]]
    assert steps == [2 - 1, 4 - 1]


def test_checkpoints_and_max_steps_count_optimizer_steps(tmp_path: Path) -> None:
    saving = ModelCheckpoint(dirpath=tmp_path / "saved", every_n_train_steps=4, save_top_k=-1, filename="{step}")
    trainer = quiet(tmp_path, callbacks=[saving], enable_checkpointing=True, max_steps=12, max_epochs=None)
    trainer.fit(Adversaries(), data())
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["step=12.ckpt", "step=4.ckpt", "step=8.ckpt"]
    assert trainer.fit_loop.progress.total_batches == 6


def test_the_scaler_s_change_between_two_optimizers_loses_no_gradient(tmp_path: Path) -> None:
    class BackwardFirst(lk.LightModule):
        """Both backward passes come first, and the discriminator's gradients are clipped before the first step."""

        def __init__(self, clips: bool) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.clips = clips
            self.a, self.b = (nn.Parameter(torch.ones(1)) for _ in range(2))

        def training_step(self, batch: Any, batch_idx: int) -> None:
            first, second = self.optimizers()
            self.manual_backward(self.a.sum() * 0.5)
            self.manual_backward(self.b.sum() * 0.25)
            if self.clips:
                self.clip_gradients(second, gradient_clip_val=10.0)
            first.step()  # the scale grows here
            second.step()

        def configure_optimizers(self) -> Any:
            return [SGD([self.a], lr=1.0), SGD([self.b], lr=1.0)]

    for clips in (False, True):
        module, steps = BackwardFirst(clips), Steps()
        trainer = quiet(tmp_path, precision="16-mixed", callbacks=[steps], max_epochs=1, limit_train_batches=1)
        trainer.precision.scaler.set_growth_interval(1)
        trainer.fit(module, data())
        assert steps.seen == [("SGD", 0.5), ("SGD", 0.25)]
        assert (module.a.item(), module.b.item()) == (0.5, 0.75)
        assert trainer.precision.scaler.get_scale() == 65536.0 * 4


def test_a_plateau_scheduler_is_the_module_s_own_and_needs_no_monitor(tmp_path: Path) -> None:
    class Plateau(Manual):
        def on_train_epoch_end(self) -> None:
            scheduler = self.lr_schedulers()
            assert isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(1.0)

        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=0.1)
            return {
                "optimizer": optimizer,
                "lr_scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5),
            }

    trainer = quiet(tmp_path)
    trainer.fit(Plateau(), data())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**2)


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize("arguments, message", [
    ({"gradient_clip_val": 0.5},
     "Trainer(gradient_clip_val=0.5): Manual optimizes by itself (automatic_optimization=False); leave it out and call "
     "self.clip_gradients(optimizer, gradient_clip_val=0.5) before optimizer.step()"),
    ({"accumulate_grad_batches": 2},
     "Trainer(accumulate_grad_batches=2): Manual optimizes by itself (automatic_optimization=False); leave it out and "
     "call optimizer.step() in every 2th training_step"),
])  # fmt: skip
def test_what_the_trainer_cannot_do_for_it(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        quiet(tmp_path, **arguments).fit(Manual(), data())
    assert str(caught.value) == message


def test_manual_backward_in_automatic_optimization(tmp_path: Path) -> None:
    class Mixed(Automatic):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.manual_backward(self.loss(batch))

    with pytest.raises(ConfigError) as caught:
        quiet(tmp_path).fit(Mixed(), data())
    assert str(caught.value) == (
        "Mixed.manual_backward: automatic optimization calls backward itself; set self.automatic_optimization = False "
        "in __init__, or return the loss from training_step"
    )


def test_a_step_that_returns_a_number(tmp_path: Path) -> None:
    class Number(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return 0.5

    with pytest.raises(HookError) as caught:
        quiet(tmp_path).fit(Number(), data())
    assert str(caught.value) == (
        "Number.training_step returned a float; with manual optimization expected a tensor, a dict or None"
    )


def test_a_loss_that_is_nan_stops_the_run(tmp_path: Path) -> None:
    class Broken(Manual):
        def loss(self, batch: Any) -> torch.Tensor:
            return super().loss(batch) * (float("nan") if self.global_step == 2 else 1.0)

    with pytest.raises(lk.errors.NonFiniteError, match=r"the loss is nan in epoch 0, batch 2 \(step 3\)"):
        quiet(tmp_path, nan_check="step").fit(Broken(), data())


def test_a_profiler_sees_the_steps(tmp_path: Path) -> None:
    trainer = quiet(tmp_path, profiler="simple")
    trainer.fit(Adversaries(), data())
    assert trainer.global_step == 2 * EPOCHS * BATCHES
    sections = trainer.profiler.sections
    assert [sections[name].calls for name in ("forward", "backward", "optimizer")] == [15, 30, 30]
