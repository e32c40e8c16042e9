"""Optimizers and schedulers: every form, every torch scheduler, clipping, accumulation, overridden hooks."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lightkit as lk
from lightkit.callbacks import LearningRateMonitor
from lightkit.errors import ConfigError, HookError, LightkitError
from lightkit.optimizer_forms import FORMS
from lightkit.optimizers import parse
from lightkit.stepped_optimizer import SteppedOptimizer

EPOCHS, BATCH = 2, 4


def samples(count: int = 22) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def data(count: int = 22, batch: int = BATCH) -> DataLoader[Any]:
    return DataLoader(TensorDataset(samples(count)), batch_size=batch)


class Net(lk.LightModule):
    """A module whose optimizer and schedulers are given from outside."""

    def __init__(self, configure: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.configure = configure or (lambda module: SGD(module.parameters(), lr=0.1))
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x = batch[0] if isinstance(batch, (list, tuple)) else batch
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        self.log("train", float(batch_idx), on_step=True, on_epoch=True)
        return self.layer(x).square().mean()

    def configure_optimizers(self) -> Any:
        return self.configure(self)


def trainer(root: Path, **arguments: Any) -> Any:
    defaults: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "logger": False,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def fit(root: Path, module: Any, loader: Any = None, val: Any = None, **arguments: Any) -> Any:
    t = trainer(root, **arguments)
    t.fit(module, loader if loader is not None else data(), val)
    return t


def message_of(kind: type[Exception], run: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        run()
    assert type(caught.value) is kind
    return str(caught.value)


def sgd(lr: float = 0.1) -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=lr)


# ------------------------------------------------------------------ what configure_optimizers may return

STEP = lr_scheduler.StepLR
PLATEAU = lr_scheduler.ReduceLROnPlateau
A, B = ("StepLR", "epoch", 1, None), ("StepLR", "step", 2, None)
P = ("ReduceLROnPlateau", "epoch", 1, "train")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (lambda o: o, []),
        (lambda o: [o], []),
        (lambda o: (o,), []),
        (lambda o: ([o], []), []),
        (lambda o: ([o], [STEP(o, 1)]), [A]),
        (lambda o: [[o], [STEP(o, 1)]], [A]),
        (lambda o: ((o,), (STEP(o, 1),)), [A]),
        (lambda o: ([o], STEP(o, 1)), [A]),
        (lambda o: ([o], {"scheduler": STEP(o, 1), "interval": "step", "frequency": 2}), [B]),
        (lambda o: ([o], [{"scheduler": STEP(o, 1), "interval": "step", "frequency": 2}, STEP(o, 1)]), [B, A]),
        (lambda o: ([o], [{"scheduler": PLATEAU(o), "monitor": "train"}]), [P]),
        (lambda o: {"optimizer": o}, []),
        (lambda o: {"optimizer": o, "lr_scheduler": None}, []),
        (lambda o: {"optimizer": o, "lr_scheduler": STEP(o, 1)}, [A]),
        (lambda o: {"optimizer": o, "lr_scheduler": dict(scheduler=STEP(o, 1), interval="step", frequency=2)}, [B]),
        (lambda o: {"optimizer": o, "lr_scheduler": PLATEAU(o), "monitor": "train"}, [P]),
        (lambda o: {"optimizer": o, "lr_scheduler": {"scheduler": PLATEAU(o)}, "monitor": "train"}, [P]),
        (lambda o: {"optimizer": o, "lr_scheduler": {"scheduler": PLATEAU(o), "monitor": "train"}}, [P]),
        (lambda o: [{"optimizer": o, "lr_scheduler": STEP(o, 1)}], [A]),
        (lambda o: ({"optimizer": o, "lr_scheduler": STEP(o, 1), "frequency": 1},), [A]),
    ],
)  # fmt: skip
def test_every_form_trains(tmp_path: Path, form: Any, expected: list[Any]) -> None:
    module = Net(lambda m: form(SGD(m.parameters(), lr=0.1)))
    before = module.layer.weight.detach().clone()
    t = fit(tmp_path, module)
    assert [type(o) for o in t.optimizers] == [SGD]
    found = [(type(c.scheduler).__name__, c.interval, c.frequency, c.monitor) for c in t.lr_scheduler_configs]
    assert found == expected
    assert not torch.equal(before, module.layer.weight)


WHERE = "Net.configure_optimizers"


@pytest.mark.parametrize(
    ("form", "kind", "message"),
    [
        (lambda o: "adam", HookError, f"{WHERE} returned a str where an optimizer belongs; expected {FORMS}"),
        (lambda o: 1, HookError, f"{WHERE} returned a int; expected {FORMS}"),
        (lambda o: [], HookError, f"{WHERE} returned no optimizer; expected {FORMS}"),
        (lambda o: (o, PLATEAU), HookError, f"{WHERE} returned a type where an optimizer belongs; expected {FORMS}"),
        (lambda o: {}, HookError, f"{WHERE} returned a dict without 'optimizer'; expected {FORMS}"),
        (
            lambda o: {"optimizer": o, "scheduler": STEP(o, 1)}, HookError,
            f"{WHERE} returned a dict with key 'scheduler'; expected optimizer, lr_scheduler, frequency, monitor; "
            "did you mean 'lr_scheduler'?",
        ),
        (
            lambda o: ([o], [{"scheduler": STEP(o, 1), "intervall": "step"}]), ConfigError,
            "lr_scheduler['intervall']: expected one of scheduler, name, interval, frequency, reduce_on_plateau, "
            "monitor, strict; did you mean 'interval'?",
        ),
        (lambda o: ([o], [{"interval": "step"}]), ConfigError, "lr_scheduler: the dict has no 'scheduler'"),
        (
            lambda o: ([o], [{"scheduler": STEP(o, 1), "interval": "steps"}]), ConfigError,
            "lr_scheduler['interval']='steps': expected 'epoch' or 'step'; did you mean 'step'?",
        ),
        (
            lambda o: ([o], [{"scheduler": STEP(o, 1), "frequency": 0}]), ConfigError,
            "lr_scheduler['frequency']=0: expected a count of at least 1",
        ),
        (
            lambda o: ([o], [PLATEAU(o)]), ConfigError,
            "configure_optimizers: ReduceLROnPlateau needs the metric it waits for; return "
            "{'optimizer': ..., 'lr_scheduler': {'scheduler': ..., 'monitor': 'val_loss'}}",
        ),
        (lambda o: ([o], ["x"]), HookError, "configure_optimizers: str is not a scheduler: it has no step()"),
        (
            lambda o: ([o], [STEP(sgd(), 1)]), HookError,
            f"{WHERE}: StepLR moves an optimizer that was not returned; return both, or neither",
        ),
    ],
)  # fmt: skip
def test_wrong_forms(form: Any, kind: type[LightkitError], message: str) -> None:
    assert message_of(kind, lambda: parse(form(sgd()), WHERE)) == message


def test_without_an_optimizer_steps_run_and_no_weight_changes(tmp_path: Path) -> None:
    module = Net(lambda m: None)
    module.training_step = lambda batch, batch_idx: module.layer(batch[0]).mean()  # type: ignore[method-assign]
    before = module.layer.weight.detach().clone()
    with pytest.warns(UserWarning) as caught:
        t = fit(tmp_path, module)
    assert [str(w.message) for w in caught] == [
        "Net.configure_optimizers returned None: the training steps run, no weight changes"
    ]
    assert t.global_step == 6 and t.optimizers == []
    assert torch.equal(before, module.layer.weight) and module.layer.weight.grad is None


# ------------------------------------------------------------------ every scheduler of torch

SCHEDULERS: dict[str, Callable[[Any, int], Any]] = {
    "LambdaLR": lambda o, n: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda o, n: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9 + 0.01 * step),
    "StepLR": lambda o, n: lr_scheduler.StepLR(o, 2, gamma=0.5),
    "MultiStepLR": lambda o, n: lr_scheduler.MultiStepLR(o, [1, 3, 7], gamma=0.5),
    "ConstantLR": lambda o, n: lr_scheduler.ConstantLR(o, factor=0.2, total_iters=5),
    "LinearLR": lambda o, n: lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=8),
    "ExponentialLR": lambda o, n: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o, n: lr_scheduler.PolynomialLR(o, total_iters=n, power=2.0),
    "CosineAnnealingLR": lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=n),
    "CosineAnnealingWarmRestarts": lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2),
    "CyclicLR": lambda o, n: lr_scheduler.CyclicLR(o, base_lr=0.01, max_lr=0.1, step_size_up=3, mode="exp_range"),
    "OneCycleLR": lambda o, n: lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=n),
    "SequentialLR": lambda o, n: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[4]
    ),
    "ChainedScheduler": lambda o, n: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, total_iters=3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o, n: lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.5, cooldown=1),
}


def test_every_scheduler_of_torch_is_tried() -> None:
    found = {
        name for name, kind in vars(lr_scheduler).items()
        if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler) and not name.startswith("_")
    } - {"LRScheduler"}  # fmt: skip
    assert found == set(SCHEDULERS)
    assert len(found) == 15


def by_hand(name: str, interval: str, frequency: int) -> list[float]:
    """The learning rate of every step of a hand-written loop."""
    module = Net()
    optimizer = SGD(module.parameters(), lr=0.1, momentum=0.9)
    total = EPOCHS * 6 if interval == "step" else EPOCHS
    scheduler = SCHEDULERS[name](optimizer, total)
    rates, steps = [], 0

    def move(metric: float) -> None:
        scheduler.step(metric) if isinstance(scheduler, PLATEAU) else scheduler.step()

    for epoch in range(EPOCHS):
        for index, (x,) in enumerate(data()):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            module.layer(x).square().mean().backward()
            optimizer.step()
            steps += 1
            if interval == "step" and steps % frequency == 0:
                move(float(index))
        if interval == "epoch" and (epoch + 1) % frequency == 0:
            move(sum(i * (4 if i < 5 else 2) for i in range(6)) / 22)
    return rates


class Stop(lk.Callback):
    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.parametrize(("interval", "frequency"), [("step", 1), ("step", 3), ("epoch", 1)])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_scheduler_moves_as_in_a_hand_written_loop_also_when_resumed(
    tmp_path: Path, name: str, interval: str, frequency: int
) -> None:
    total = EPOCHS * 6 if interval == "step" else EPOCHS

    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=0.1, momentum=0.9)
        entry = {"scheduler": SCHEDULERS[name](optimizer, total), "interval": interval, "frequency": frequency}
        return [optimizer], [{**entry, "monitor": "train"}]

    expected = by_hand(name, interval, frequency)
    whole = Net(configure)
    fit(tmp_path, whole, max_epochs=EPOCHS)
    assert whole.rates == expected
    if (interval, frequency) == ("step", 1):
        assert len(set(expected)) > 1
    first, second, path = Net(configure), Net(configure), tmp_path / "stop.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, first, max_epochs=EPOCHS, callbacks=[Stop(7, path)])
    assert "lr_schedulers" in torch.load(path, weights_only=True)
    t = trainer(tmp_path, max_epochs=EPOCHS)
    t.fit(second, data(), ckpt_path=path)
    assert first.rates + second.rates == expected
    assert torch.equal(second.layer.weight, whole.layer.weight)


def test_one_cycle_takes_the_trainer_s_estimate(tmp_path: Path) -> None:
    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=0.1)
        total = module.trainer.estimated_stepping_batches
        return [optimizer], [{"scheduler": lr_scheduler.OneCycleLR(optimizer, 0.2, total), "interval": "step"}]

    asked = []

    class Asking(Net):
        def train_dataloader(self) -> Any:
            asked.append("train")
            return data()

    module = Asking(configure)
    t = trainer(tmp_path, max_epochs=2, accumulate_grad_batches=4)
    t.fit(module)
    scheduler = t.lr_scheduler_configs[0].scheduler
    assert (scheduler.total_steps, scheduler.last_epoch, t.global_step) == (4, 4, 4)
    assert asked == ["train"], "asked once, though the estimate needs its length"


class Unsized(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(samples())


@pytest.mark.parametrize(
    ("arguments", "total"),
    [
        ({"max_epochs": 2}, 12),
        ({"max_epochs": 2, "accumulate_grad_batches": 4}, 4),
        ({"max_epochs": -1, "max_steps": 7}, 7),
        ({"max_epochs": 9, "max_steps": 3, "accumulate_grad_batches": 4}, 3),
        ({"max_epochs": 2, "limit_train_batches": 0.5, "accumulate_grad_batches": 2}, 4),
        ({"max_epochs": 2, "overfit_batches": 2}, 4),
        ({"fast_dev_run": 3}, 3),
    ],
)
def test_one_cycle_ends_with_the_run(tmp_path: Path, arguments: dict[str, Any], total: int) -> None:
    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=0.1)
        steps = module.trainer.estimated_stepping_batches
        return [optimizer], [{"scheduler": lr_scheduler.OneCycleLR(optimizer, 0.2, steps), "interval": "step"}]

    module = Net(configure)
    t = fit(tmp_path, module, **arguments)
    optimizer = sgd()
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.2, total)
    expected = []
    for step in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    found = [rate for i, rate in enumerate(module.rates) if i == 0 or rate != module.rates[i - 1]]
    assert t.global_step == total
    assert found == expected, "each rate once; all batches of a window have the same"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_epochs": 3}, 18),
        ({"max_epochs": 3, "accumulate_grad_batches": 4}, 6),
        ({"max_epochs": -1, "max_steps": 7}, 7),
        ({"max_epochs": 3, "max_steps": 5}, 5),
        ({"max_epochs": 2, "limit_train_batches": 4}, 8),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 6),
    ],
)
def test_estimated_stepping_batches(tmp_path: Path, arguments: dict[str, Any], expected: float) -> None:
    found = []

    def configure(module: Net) -> Any:
        found.append(module.trainer.estimated_stepping_batches)
        return SGD(module.parameters(), lr=0.1)

    t = fit(tmp_path, Net(configure), **arguments)
    assert found == [expected] and t.global_step == expected


def test_without_a_length_the_estimate_is_the_limit_of_steps(tmp_path: Path) -> None:
    found = []

    def configure(module: Net) -> Any:
        found.append(module.trainer.estimated_stepping_batches)
        return SGD(module.parameters(), lr=0.1)

    loader = DataLoader(Unsized(), batch_size=BATCH)
    fit(tmp_path, Net(configure), loader, max_epochs=2)
    fit(tmp_path, Net(configure), loader, max_epochs=2, max_steps=9)
    assert found == [math.inf, 9]


# ------------------------------------------------------------------ when schedulers move, and by what


class Recording(lr_scheduler.ReduceLROnPlateau):
    """Writes down the values it is moved with."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.seen: list[float] = []

    def step(self, metrics: Any, epoch: Any = None) -> None:
        self.seen.append(float(metrics))
        super().step(metrics)


class Validating(Net):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", float(self.global_step))


def plateau_values(root: Path, trainer_arguments: dict[str, Any] | None = None, **entry: Any) -> list[float]:
    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=1e-3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": Recording(optimizer), **entry}}

    t = fit(root, Validating(configure), val=data(4), **{"max_epochs": 3, **(trainer_arguments or {})})
    return t.lr_scheduler_configs[0].scheduler.seen


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize(
    ("entry", "arguments", "expected"),
    [
        ({"monitor": "val"}, {}, [6, 12, 18]),
        ({"monitor": "val", "frequency": 2}, {}, [12]),
        ({"monitor": "val"}, {"val_check_interval": 0.5}, [6, 12, 18]),
        ({"monitor": "val", "interval": "step", "frequency": 6}, {}, [6, 12, 18]),  # after the validation, not before
        ({"monitor": "val", "interval": "step", "frequency": 3}, {"val_check_interval": 3}, [3, 6, 9, 12, 15, 18]),
        ({"monitor": "val", "interval": "step"}, {"max_epochs": 2}, [6] * 6 + [12]),  # waits for the first validation
        ({"monitor": "val"}, {"check_val_every_n_epoch": 2}, [12, 12]),  # the same
        ({"monitor": "train"}, {}, [50 / 22] * 3),
        ({"monitor": "train_epoch"}, {}, [50 / 22] * 3),
        ({"monitor": "train_step"}, {}, [5, 5, 5]),
        ({"monitor": "train", "interval": "step"}, {"max_epochs": 1}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_a_plateau_scheduler_gets_the_newest_value(
    tmp_path: Path, entry: dict[str, Any], arguments: dict[str, Any], expected: list[float], sanity: int
) -> None:
    found = plateau_values(tmp_path, {**arguments, "num_sanity_val_steps": sanity}, **entry)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("stop", [3, 5, 6])
def test_a_scheduler_that_waits_for_the_validation_is_moved_once_also_when_resumed(tmp_path: Path, stop: int) -> None:
    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=1e-3)
        entry = {"scheduler": Recording(optimizer), "monitor": "val", "interval": "step", "frequency": 3}
        return {"optimizer": optimizer, "lr_scheduler": entry}

    path = tmp_path / "stop.ckpt"
    arguments: dict[str, Any] = {"val_check_interval": 3, "max_epochs": 2}
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, Validating(configure), val=data(4), callbacks=[Stop(stop, path)], **arguments)
    t = trainer(tmp_path, **arguments)
    t.fit(Validating(configure), data(), data(4), ckpt_path=path)
    assert t.lr_scheduler_configs[0].scheduler.seen[-3:] == [6, 9, 12]
    assert t.lr_scheduler_configs[0].scheduler.last_epoch == 4, "moved after each of four validations, once"


def test_a_missing_monitored_metric(tmp_path: Path) -> None:
    expected = (
        "configure_optimizers: Recording(monitor='vall'): no metric 'vall' was logged; logged so far: 'train', "
        "'train_epoch', 'train_step', 'val'; did you mean 'val'? Write self.log('vall', value) in the module, or "
        "monitor a name that is logged."
    )
    assert message_of(ConfigError, lambda: plateau_values(tmp_path, monitor="vall")) == expected
    with pytest.warns(UserWarning) as caught:
        assert plateau_values(tmp_path, {"max_epochs": 1}, monitor="vall", strict=False) == []
    assert [str(w.message) for w in caught] == [expected]


@pytest.mark.parametrize(
    ("interval", "frequency", "accumulate", "expected"),
    [
        ("step", 1, 1, [*range(12)]),
        ("step", 4, 1, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]),  # steps are counted over epochs
        ("step", 1, 4, [0] * 4 + [1] * 2 + [2] * 4 + [3] * 2),  # optimizer steps; the short window is one
        ("epoch", 1, 1, [0] * 6 + [1] * 6),
        ("epoch", 2, 1, [0] * 12),
    ],
)
def test_interval_and_frequency(
    tmp_path: Path, interval: str, frequency: int, accumulate: int, expected: list[int]
) -> None:
    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=1.0)
        scheduler = lr_scheduler.LambdaLR(optimizer, lambda count: 1e-6 * count)
        return [optimizer], [{"scheduler": scheduler, "interval": interval, "frequency": frequency}]

    module = Net(configure)
    t = fit(tmp_path, module, max_epochs=2, accumulate_grad_batches=accumulate)
    assert [round(rate * 1e6) for rate in module.rates] == expected
    if (interval, frequency) == ("epoch", 2):
        assert t.lr_scheduler_configs[0].scheduler.last_epoch == 1


def test_a_scheduler_s_name_is_what_the_monitor_logs(tmp_path: Path) -> None:
    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=0.5)
        return [optimizer], [{"scheduler": STEP(optimizer, 1, 0.5), "name": "rate"}]

    monitor = LearningRateMonitor("epoch")
    fit(tmp_path, Net(configure), callbacks=[monitor], logger=lk.loggers.CSVLogger(), max_epochs=2)
    assert monitor.lrs == {"rate": [0.5, 0.25]}


# ------------------------------------------------------------------ hooks of the update


def test_lbfgs_trains_as_by_hand(tmp_path: Path) -> None:
    module, plain = Net(lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=5)), Net()
    t = fit(tmp_path, module, max_epochs=2)
    optimizer = torch.optim.LBFGS(plain.layer.parameters(), lr=0.1, max_iter=5)
    for _ in range(2):
        for (x,) in data():

            def closure(x: Any = x) -> Any:
                optimizer.zero_grad()
                loss = plain.layer(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
    assert t.global_step == 12
    assert torch.equal(module.layer.weight, plain.layer.weight)


def test_lbfgs_with_what_it_cannot_work_with(tmp_path: Path) -> None:
    make = lambda: Net(lambda m: torch.optim.LBFGS(m.parameters()))  # noqa: E731
    assert message_of(ConfigError, lambda: fit(tmp_path, make(), accumulate_grad_batches=2)) == (
        "Trainer(accumulate_grad_batches=2): LBFGS evaluates its batch several times a step; use 1"
    )
    assert message_of(ConfigError, lambda: fit(tmp_path, make(), precision="16-mixed")) == (
        "Trainer(precision='16-mixed'): LBFGS does not work with a gradient scaler; use '32-true'"
    )


def weights_after(root: Path, module: Net, **arguments: Any) -> torch.Tensor:
    fit(root, module, **arguments)
    return module.layer.weight.detach().clone()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_overridden_optimizer_step_that_calls_step_changes_nothing(tmp_path: Path, accumulate: int) -> None:
    calls: list[tuple[int, int, float]] = []

    class Overriding(Net):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            loss = optimizer.step(closure=optimizer_closure)
            calls.append((epoch, batch_idx, float(loss)))
            assert optimizer.param_groups[0]["lr"] == 0.1, "all else is the optimizer's own"

    arguments = {"accumulate_grad_batches": accumulate, "gradient_clip_val": 0.05, "max_epochs": 2}
    plain = weights_after(tmp_path, Net(), **arguments)
    assert torch.equal(weights_after(tmp_path, Overriding(), **arguments), plain)
    last_of_windows = [i for i in range(6) if (i + 1) % accumulate == 0 or i == 5]
    assert [call[:2] for call in calls] == [(e, i) for e in range(2) for i in last_of_windows]
    assert all(call[2] > 0 for call in calls)


def test_an_optimizer_step_of_one_s_own_warms_up_and_leaves_out_updates(tmp_path: Path) -> None:
    class Skipping(Net):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx % 2 == 0:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    skipping, plain = Skipping(), Net()
    t = fit(tmp_path, skipping)
    for index, (x,) in enumerate(data()):
        if index % 2 == 0:
            plain.layer.zero_grad()
            plain.layer(x).square().mean().backward()
            with torch.no_grad():
                for p in plain.layer.parameters():
                    p -= 0.1 * p.grad
    assert t.global_step == 3, "steps that were taken; Lightning counts 6"
    assert torch.allclose(skipping.layer.weight, plain.layer.weight, atol=1e-7)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_global_step_counts_an_update_when_optimizer_step_is_over(tmp_path: Path, accumulate: int) -> None:
    """A warm-up after `optimizer.step` divides by it, as in Lightning."""
    seen: list[tuple[int, int]] = []

    class Warm(Net):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            before = self.trainer.global_step
            optimizer.step(closure=optimizer_closure)
            seen.append((before, self.trainer.global_step))
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * min(1.0, (self.trainer.global_step + 1) / 4)

    module = Warm()
    t = fit(tmp_path, module, accumulate_grad_batches=accumulate)
    updates = 6 // accumulate
    assert seen == [(count, count) for count in range(updates)] and t.global_step == updates
    each = [0.1, *(0.1 * min(1.0, (count + 1) / 4) for count in range(updates - 1))]
    assert module.rates == [rate for rate in each for _ in range(accumulate)]


def test_overridden_backward_and_zero_grad_are_used(tmp_path: Path) -> None:
    class Overriding(Net):
        def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            (loss * 2).backward()

        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
            zeroed.append((epoch, batch_idx))
            optimizer.zero_grad(set_to_none=False)

    zeroed: list[tuple[int, int]] = []
    doubled = weights_after(tmp_path, Net(lambda m: SGD(m.parameters(), lr=0.2)))
    assert torch.allclose(weights_after(tmp_path, Overriding()), doubled, atol=1e-7)
    assert zeroed == [(0, i) for i in range(6)]


def test_an_overridden_lr_scheduler_step_moves_schedulers_of_any_kind(tmp_path: Path) -> None:
    class Own:
        """No torch scheduler, with a signature of its own."""

        def __init__(self, optimizer: Any) -> None:
            self.optimizer, self.moves = optimizer, []

        def step(self, epoch: int) -> None:
            self.moves.append(epoch)

        def state_dict(self) -> dict[str, Any]:
            return {"moves": self.moves}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.moves = state["moves"]

    class Overriding(Net):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            assert metric is None
            scheduler.step(epoch=self.current_epoch)

    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=0.1)
        return [optimizer], [Own(optimizer)]

    t = fit(tmp_path, Overriding(configure), max_epochs=3)
    assert t.lr_scheduler_configs[0].scheduler.moves == [0, 1, 2]


# ------------------------------------------------------------------ clipping


def clipped_by_hand(algorithm: str, value: float, accumulate: int = 1) -> torch.Tensor:
    module = Net()
    optimizer = SGD(module.parameters(), lr=0.1)
    batches = [x for (x,) in data()]
    for start in range(0, 6, accumulate):
        optimizer.zero_grad()
        x = torch.cat(batches[start : start + accumulate])
        module.layer(x).square().mean().backward()
        parameters = list(module.parameters())
        if algorithm == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, value)
        else:
            torch.nn.utils.clip_grad_value_(parameters, value)
        optimizer.step()
    return module.layer.weight.detach()


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_clipping_is_torch_s(tmp_path: Path, algorithm: Any, accumulate: int) -> None:
    found = weights_after(
        tmp_path, Net(), gradient_clip_val=0.05, gradient_clip_algorithm=algorithm, accumulate_grad_batches=accumulate
    )
    assert torch.allclose(found, clipped_by_hand(algorithm, 0.05, accumulate), atol=1e-7)
    assert not torch.allclose(found, weights_after(tmp_path, Net(), accumulate_grad_batches=accumulate), atol=1e-3)


def test_clipping_of_one_s_own(tmp_path: Path) -> None:
    given: list[tuple[Any, Any]] = []

    class Overriding(Net):
        def configure_gradient_clipping(
            self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
        ) -> None:
            given.append((gradient_clip_val, gradient_clip_algorithm))
            self.clip_gradients(optimizer, gradient_clip_val=0.05, gradient_clip_algorithm="value")

    assert torch.allclose(weights_after(tmp_path, Overriding()), clipped_by_hand("value", 0.05), atol=1e-7)
    assert given == [(None, "norm")] * 6


# ------------------------------------------------------------------ accumulation


def unequal_batches() -> list[torch.Tensor]:
    return list(samples(22).split([4, 1, 7, 3, 2, 5]))


class Gradients(Net):
    """Keeps the gradients of every update, and learns slowly."""

    def __init__(self, configure: Any = None) -> None:
        super().__init__(configure or (lambda module: SGD(module.parameters(), lr=1e-3)))
        self.kept: list[torch.Tensor] = []

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.kept.append(torch.cat([p.grad.flatten() for p in self.parameters()]).clone())  # type: ignore[union-attr]


def of_big_batches(batches: list[torch.Tensor], window: int) -> Gradients:
    """By hand: one update a window, on all its samples at once."""
    module = Gradients()
    optimizer = SGD(module.parameters(), lr=1e-3)
    for start in range(0, len(batches), window):
        optimizer.zero_grad()
        module.layer(torch.cat(batches[start : start + window])).square().mean().backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
    return module


class NoLength:
    """A loader that cannot say how many batches it has."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("window", [2, 3, 4, 5, 100])
@pytest.mark.parametrize("equal", [True, False])
def test_accumulated_gradients_are_the_big_batch_s(tmp_path: Path, window: int, equal: bool, has_length: bool) -> None:
    batches = list(samples(24).split(4)) if equal else unequal_batches()
    module, expected = Gradients(), of_big_batches(batches, window)
    t = fit(tmp_path, module, batches if has_length else NoLength(batches), accumulate_grad_batches=window)
    assert t.global_step == len(expected.kept) == math.ceil(6 / window)
    for found, wanted in zip(module.kept, expected.kept, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(module.layer.weight, expected.layer.weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_num_items_weigh_the_micro_batches(tmp_path: Path, as_tensor: bool) -> None:
    class Tokens(Gradients):
        """The loss is a mean over tokens, of which each sample has as many as its number says."""

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            count = int(batch[0].abs().sum() * 3) + 1
            loss = self.layer(batch).square().sum() / count
            return {"loss": loss, "num_items": torch.tensor(count) if as_tensor else count}

    batches = unequal_batches()
    module, by_hand = Tokens(), Gradients()
    fit(tmp_path, module, batches, accumulate_grad_batches=4)
    optimizer = SGD(by_hand.parameters(), lr=1e-3)
    for start in (0, 4):
        window = batches[start : start + 4]
        optimizer.zero_grad()
        total = sum(int(x[0].abs().sum() * 3) + 1 for x in window)
        (by_hand.layer(torch.cat(window)).square().sum() / total).backward()
        by_hand.on_before_optimizer_step(optimizer)
        optimizer.step()
    for found, wanted in zip(module.kept, by_hand.kept, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_a_window_that_a_hook_s_own_step_left_out_does_not_weigh_on_the_next(tmp_path: Path) -> None:
    class Leaving(Gradients):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx > 1:
                optimizer.step(closure=optimizer_closure)

    batches = unequal_batches()
    module = Leaving()
    fit(tmp_path, module, batches, accumulate_grad_batches=2)
    expected = of_big_batches(batches[2:], 2)
    for found, wanted in zip(module.kept, expected.kept, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_an_overridden_step_takes_the_window_that_a_loader_without_length_leaves_open(tmp_path: Path) -> None:
    calls: list[int] = []

    class Overriding(Gradients):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            calls.append(batch_idx)
            assert float(optimizer.step(closure=optimizer_closure)) > 0

    batches = unequal_batches()
    module, expected = Overriding(), of_big_batches(batches, 4)
    t = fit(tmp_path, module, NoLength(batches), accumulate_grad_batches=4)
    assert (calls, t.global_step) == ([3, 5], 2)
    for found, wanted in zip(module.kept, expected.kept, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_returns_none_is_skipped(tmp_path: Path, accumulate: int) -> None:
    outputs: list[bool] = []

    class Skipping(Gradients):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx in (1, 5) else super().training_step(batch, batch_idx)

        def on_train_batch_end(self, outputs_: Any, batch: Any, batch_idx: int) -> None:
            outputs.append(outputs_ is None)

    batches = list(samples(24).split(4))
    module = Skipping()
    t = fit(tmp_path, module, batches, accumulate_grad_batches=accumulate)
    expected = of_big_batches([b for i, b in enumerate(batches) if i not in (1, 5)], accumulate)
    assert t.global_step == 4 // accumulate
    assert outputs == [i in (1, 5) for i in range(6)]
    torch.testing.assert_close(module.layer.weight, expected.layer.weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("none", [(0,), (1,), (1, 5), (2, 3), (0, 1, 2, 3), tuple(range(6))])
def test_a_skipped_step_takes_no_gradients_of_the_last_one(
    tmp_path: Path, none: tuple[int, ...], accumulate: int, precision: str
) -> None:
    """Also through an overridden optimizer_step, whose closure finds out too late that there is nothing to do."""

    class Skipping(Gradients):
        def __init__(self) -> None:
            super().__init__(lambda module: SGD(module.parameters(), lr=0.1, momentum=0.9))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.layer(batch).float().square().mean() * 0.01  # small: no overflow at the first scale
            return None if batch_idx in none else loss

    class Overriding(Skipping):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            optimizer.step(closure=optimizer_closure)

    class Short(Skipping):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch).float().square().mean() * 0.01

    batches = list(samples(24).split(4))
    kept = [b for i, b in enumerate(batches) if i not in none]
    plain, overriding, short = Skipping(), Overriding(), Short()
    arguments: dict[str, Any] = {"accumulate_grad_batches": accumulate, "precision": precision}
    t = fit(tmp_path, plain, batches, gradient_clip_val=1.0, **arguments)
    other = fit(tmp_path, overriding, batches, gradient_clip_val=1.0, **arguments)
    if kept:
        fit(tmp_path, short, NoLength(kept), **arguments)
    # a window that is full at its last batch but one is followed by none
    steps = math.ceil(len(kept) / accumulate) if 5 not in none else len(kept) // accumulate
    assert t.global_step == other.global_step == len(plain.kept) == len(overriding.kept) == steps
    assert torch.equal(plain.layer.weight, overriding.layer.weight)
    if 5 not in none or len(kept) % accumulate == 0:
        torch.testing.assert_close(plain.layer.weight, short.layer.weight, rtol=1e-6, atol=1e-6)


def test_lbfgs_leaves_out_a_batch_without_a_loss(tmp_path: Path) -> None:
    class Skipping(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx in (0, 2) else super().training_step(batch, batch_idx)

    make = lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=5)  # noqa: E731
    batches = list(samples(24).split(4))
    module, short = Skipping(make), Net(make)
    t = fit(tmp_path, module, batches)
    fit(tmp_path, short, [batches[i] for i in (1, 3, 4, 5)])
    assert t.global_step == 4
    assert torch.equal(module.layer.weight, short.layer.weight)


def test_no_scheduler_warns_of_its_order(tmp_path: Path) -> None:
    def configure(module: Net) -> Any:
        optimizer = SGD(module.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": STEP(optimizer, 1), "interval": "step"}]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, Net(configure))


def test_a_decorated_step_of_one_s_own_is_not_passed_by(tmp_path: Path) -> None:
    SGD([nn.Parameter(torch.ones(1))], lr=0.1)  # from the first one made on, SGD.step carries torch's marks
    calls = []

    class Counted(SGD):
        @functools.wraps(SGD.step)
        def step(self, *args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            return super().step(*args, **kwargs)

    trainer(tmp_path).fit(Net(lambda module: Counted(module.parameters(), lr=0.1)), data())
    assert len(calls) == 6


def test_a_stepped_optimizer_can_be_copied_and_is_the_optimizer_in_all_else() -> None:
    optimizer = SteppedOptimizer(torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.5), print)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert type(other) is SteppedOptimizer
        assert other.optimizer is not optimizer.optimizer
        assert other.param_groups[0]["lr"] == 0.5
    with pytest.raises(AttributeError) as caught:
        optimizer.momentun
    assert str(caught.value) == "'SGD' object has no attribute 'momentun'"
