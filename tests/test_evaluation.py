"""validate, test and predict: what they return and print, and that a validation leaves the training as it found it."""

from __future__ import annotations

import csv
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.errors import ConfigError, DataError, HookError, LightkitError
from lightkit.loggers import CSVLogger


def data(samples: int = 10, **options: Any) -> DataLoader[Any]:
    """Batches of 4, the last one short; sample i is [i, i]."""
    x = torch.arange(float(samples))
    return DataLoader(TensorDataset(torch.stack([x, x], 1)), batch_size=4, **options)


class Net(lk.LightModule):
    """Its metric is the mean of the samples, times the weight, which no training step changes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return 0.0 * self.scale

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_mean", self.scale * batch[0].mean())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict({"test_mean": self.scale * batch[0].mean(), "test_max": batch[0].max()}, reduce_fx="mean")

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.scale * batch[0].sum(1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Several(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("v", batch[0].mean() + 100 * dataloader_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return batch[0][:, 0] + 100 * dataloader_idx


def trainer(root: Path, **arguments: Any) -> Any:
    defaults: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "logger": False,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def error_of(run: Callable[[], Any], kind: type[LightkitError]) -> str:
    with pytest.raises(kind) as caught:
        run()
    assert type(caught.value) is kind
    return str(caught.value)


# ------------------------------------------------------------------ what comes back, what is printed


def test_validate_before_any_fit_returns_and_prints_its_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t = trainer(tmp_path)
    assert t.validate(Net(), data()) == [{"val_mean": 4.5}]
    assert capsys.readouterr().out == "validate metric  value\n---------------  -----\nval_mean         4.5\n"
    assert {name: float(v) for name, v in t.callback_metrics.items()} == {"val_mean": 4.5}
    assert t.global_step == 0


def test_the_table_has_a_row_for_each_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trainer(tmp_path).test(Net(), data()) == [{"test_mean": 4.5, "test_max": (3 * 4 + 7 * 4 + 9 * 2) / 10}]
    assert capsys.readouterr().out == (
        "test metric  value\n-----------  -----\ntest_mean    4.5\ntest_max     5.8\n"
    )  # fmt: skip


def test_several_loaders_have_a_dict_and_a_column_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = trainer(tmp_path).validate(Several(), [data(), data(4)])
    assert found == [{"v/dataloader_idx_0": 4.5}, {"v/dataloader_idx_1": 101.5}]
    assert capsys.readouterr().out == (
        "validate metric     loader 0  loader 1\n"
        "------------------  --------  --------\n"
        "v/dataloader_idx_0  4.5\n"
        "v/dataloader_idx_1            101.5\n"
    )


def test_verbose_false_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t = trainer(tmp_path)
    t.validate(Net(), data(), verbose=False)
    t.test(Net(), data(), verbose=False)
    t.predict(Net(), data())
    assert capsys.readouterr().out == ""


def test_a_test_that_logs_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Silent(Net):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            pass

    with pytest.warns(UserWarning) as caught:
        assert trainer(tmp_path).test(Silent(), data()) == [{}]
    assert [str(w.message) for w in caught] == ["test_step logged nothing: there are no metrics to return"]
    assert capsys.readouterr().out == "test: nothing was logged\n"


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, 1.5), (2, 3.5), (2.0 / 3, 3.5), (0.4, 1.5), (1.0, 4.5), (99, 4.5), (None, 4.5)]
)
def test_limits(tmp_path: Path, limit: Any, expected: float) -> None:
    t = trainer(tmp_path, limit_val_batches=limit, limit_test_batches=limit, limit_predict_batches=limit)
    assert t.validate(Net(), data(), verbose=False) == [{"val_mean": expected}]
    assert t.test(Net(), data(), verbose=False)[0]["test_mean"] == expected
    batches = {1.5: 1, 3.5: 2, 4.5: 3}[expected]
    assert len(t.predict(Net(), data())) == batches
    assert t.num_val_batches == t.num_test_batches == t.num_predict_batches == [batches]


def test_steps_of_a_validation_are_logged_one_by_one(tmp_path: Path) -> None:
    class EachStep(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("v", batch[0].mean(), on_step=True)

    t = trainer(tmp_path, logger=CSVLogger(), run_dir=tmp_path / "run")
    assert t.validate(EachStep(), data(), verbose=False) == [{"v_epoch": 4.5}]
    with open(tmp_path / "run" / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # as Lightning 2.6.6 writes them
    steps = [{"step": str(i), "epoch": "", "v_step": v, "v_epoch": ""} for i, v in enumerate(("1.5", "5.5", "8.5"))]
    assert rows == [*steps, {"step": "0", "epoch": "0", "v_step": "", "v_epoch": "4.5"}]


# ------------------------------------------------------------------ prediction


def test_predictions_are_a_list_of_batches(tmp_path: Path) -> None:
    found = trainer(tmp_path).predict(Net(), data(6))
    assert [p.tolist() for p in found] == [[0.0, 2.0, 4.0, 6.0], [8.0, 10.0]]


def test_predictions_of_several_loaders_are_a_list_of_lists(tmp_path: Path) -> None:
    found = trainer(tmp_path).predict(Several(), [data(6), data(2)])
    assert [[p.tolist() for p in of_loader] for of_loader in found] == [
        [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0]],
        [[100.0, 101.0]],
    ]


def test_predictions_may_be_left_to_a_callback(tmp_path: Path) -> None:
    class Writer(lk.Callback):
        def __init__(self) -> None:
            self.written: list[Any] = []

        def on_predict_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            self.written.append((dataloader_idx, batch_idx, outputs.tolist()))

    writer = Writer()
    t = trainer(tmp_path, callbacks=[writer])
    assert t.predict(Several(), [data(2), data(2)], return_predictions=False) is None
    assert writer.written == [(0, 0, [0.0, 1.0]), (1, 0, [100.0, 101.0])]


def test_predictions_of_any_structure_are_copies_without_graph(tmp_path: Path) -> None:
    class Structured(Net):
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return {"x": batch[0], "more": [self.scale, "name"], "index": batch_idx}

    net = Structured()
    (found,) = trainer(tmp_path, inference_mode=False).predict(net, data(2))
    assert found["index"] == 0 and found["more"][1] == "name" and not found["more"][0].requires_grad
    with torch.no_grad():
        net.scale.fill_(7.0)
    assert float(found["more"][0]) == 1.0


def test_the_default_prediction_is_the_forward_pass_of_the_batch(tmp_path: Path) -> None:
    class Forward(lk.LightModule):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x

    loader = DataLoader([torch.tensor(1.0), torch.tensor(2.0)], batch_size=2)  # type: ignore[arg-type]
    assert [p.tolist() for p in trainer(tmp_path).predict(Forward(), loader)] == [[3.0, 6.0]]


# ------------------------------------------------------------------ what is missing or wrong


class OnlyTrains(lk.LightModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None

    def configure_optimizers(self) -> Any:
        return None


@pytest.mark.parametrize(("fn", "step"), [("validate", "validation_step"), ("test", "test_step")])
def test_a_step_that_is_not_defined(tmp_path: Path, fn: str, step: str) -> None:
    run = getattr(trainer(tmp_path), fn)
    assert error_of(lambda: run(OnlyTrains(), data()), HookError) == f"OnlyTrains.{step} is not defined; {fn} needs it"


@pytest.mark.parametrize(("fn", "method"), [("validate", "val"), ("test", "test"), ("predict", "predict")])
def test_no_data(tmp_path: Path, fn: str, method: str) -> None:
    run = getattr(trainer(tmp_path), fn)
    assert error_of(lambda: run(Net()), DataError) == (
        f"{fn}: no data; pass dataloaders=..., datamodule=..., or define Net.{method}_dataloader"
    )


@pytest.mark.parametrize("fn", ["validate", "test", "predict"])
def test_no_model(tmp_path: Path, fn: str) -> None:
    run = getattr(trainer(tmp_path), fn)
    message = f"trainer.{fn}(): no model; pass one, or fit one first"
    assert error_of(lambda: run(dataloaders=data()), ConfigError) == message
    assert error_of(lambda: run(nn.Linear(1, 1), data()), ConfigError) == (
        f"trainer.{fn}(model): expected a LightModule, got Linear; subclass lightkit.LightModule"
    )


@pytest.mark.parametrize(
    ("fn", "step"), [("validate", "validation_step"), ("test", "test_step"), ("predict", "predict_step")]
)
def test_several_loaders_need_a_step_that_takes_their_index(tmp_path: Path, fn: str, step: str) -> None:
    run = getattr(trainer(tmp_path), fn)
    assert error_of(lambda: run(Net(), [data(), data()]), HookError) == (
        f"Net.{step} has no dataloader_idx argument, and there are 2 loaders; "
        f"write {step}(self, batch, batch_idx, dataloader_idx=0)"
    )


def test_several_loaders_need_batch_hooks_that_take_their_index(tmp_path: Path) -> None:
    class Starts(Several):
        def on_validation_batch_start(self, batch: Any, index: int) -> None:  # type: ignore[override]
            pass

    class Ends(lk.Callback):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, i: int) -> None:
            pass  # type: ignore[override]

    loaders = [data(), data()]
    assert trainer(tmp_path, callbacks=[Ends()]).validate(Starts(), data(), verbose=False) == [{"v": 4.5}]
    assert error_of(lambda: trainer(tmp_path).validate(Starts(), loaders), HookError) == (
        "Starts.on_validation_batch_start has no dataloader_idx argument, and there are 2 loaders; "
        "write on_validation_batch_start(self, batch, index, dataloader_idx=0)"
    )
    assert error_of(lambda: trainer(tmp_path, callbacks=[Ends()]).validate(Several(), loaders), HookError) == (
        "Ends.on_validation_batch_end has no dataloader_idx argument, and there are 2 loaders; "
        "write on_validation_batch_end(self, trainer, pl_module, outputs, batch, i, dataloader_idx=0)"
    )


def test_with_one_loader_its_index_is_given_only_where_it_is_named(tmp_path: Path) -> None:
    class Named(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            self.log("x", dataloader_idx)

    class Other(Net):
        def validation_step(self, batch: Any, batch_idx: int, weight: float = 2.0) -> None:
            self.log("x", weight)

    class Starred(Net):
        def validation_step(self, *args: Any) -> None:
            self.log("x", len(args))

    found = [trainer(tmp_path).validate(net, data(4), verbose=False) for net in (Named(), Other(), Starred())]
    assert found == [[{"x": 0.0}], [{"x": 2.0}], [{"x": 2.0}]]


def test_a_step_may_take_the_batch_alone(tmp_path: Path) -> None:
    class Short(Net):
        def validation_step(self, batch: Any) -> None:
            self.log("v", batch[0].mean())

    assert trainer(tmp_path).validate(Short(), data(), verbose=False) == [{"v": 4.5}]


# ------------------------------------------------------------------ gradients, modes, generators


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("fn", ["validate", "test", "predict"])
def test_no_gradients_are_recorded(tmp_path: Path, fn: str, inference_mode: bool) -> None:
    seen = []

    class Looks(Net):
        def _look(self, batch: Any, batch_idx: int) -> None:
            seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
            self.log("x", 1.0) if fn != "predict" else None

        validation_step = test_step = predict_step = _look

    getattr(trainer(tmp_path, inference_mode=inference_mode), fn)(Looks(), data(4))
    assert seen == [(False, inference_mode)]
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


class Keeps(lk.LightModule):
    """Makes a cache, a buffer and a lazy layer's weights in the first step that it sees, which is an evaluation's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(1)
        self.cache: torch.Tensor | None = None

    def loss(self, batch: Any) -> torch.Tensor:
        if self.cache is None:
            self.cache = torch.arange(2.0)
            self.register_buffer("scale", torch.full((2,), 0.5))
        self.scale.mul_(1.0)
        loss: torch.Tensor = (self.layer(batch[0]) + (self.layer.weight * self.cache * self.scale).sum()).mean()
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("v", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_what_the_sanity_check_makes_is_the_trainings_to_use(tmp_path: Path) -> None:
    found = trainer(tmp_path, num_sanity_val_steps=1)
    found.fit(Keeps(), data(), data(4))
    assert found.global_step == 3


def test_what_an_evaluation_in_a_hook_makes_is_the_trainings_to_use(tmp_path: Path) -> None:
    class Evaluates(lk.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.validate(pl_module, data(4), verbose=False)

    found = trainer(tmp_path, callbacks=[Evaluates()])
    found.fit(Keeps(), data())
    assert found.global_step == 3


def test_what_an_evaluation_before_a_fit_made_is_explained(tmp_path: Path) -> None:
    class Caches(Net):
        cache: torch.Tensor | None = None

        def loss(self) -> torch.Tensor:
            self.cache = torch.ones(()) if self.cache is None else self.cache
            return self.cache * self.scale

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("v", self.loss())

    net = Caches()
    trainer(tmp_path).validate(net, data(4), verbose=False)
    with pytest.raises(RuntimeError, match="nference tensor") as caught:
        trainer(tmp_path).fit(net, data())
    assert caught.value.__notes__ == [
        "A tensor made in trainer.validate, test or predict, such as a cache, is used where gradients are wanted; "
        "make it outside, or write Trainer(inference_mode=False)"
    ]


def test_a_validation_in_a_fit_may_ask_for_gradients(tmp_path: Path) -> None:
    seen = []

    class Gradient(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
            with torch.enable_grad():
                x = batch[0].clone().requires_grad_()
                (gradient,) = torch.autograd.grad((x**2).sum(), x)
            self.log("gradient", gradient.max())

    found = trainer(tmp_path)
    found.fit(Gradient(), data(), data(4))
    assert float(found.callback_metrics["gradient"]) == 6.0
    assert set(seen) == {(False, False)}


def test_without_inference_mode_a_step_may_ask_for_gradients(tmp_path: Path) -> None:
    class Gradient(Net):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            with torch.enable_grad():
                x = batch[0].requires_grad_()
                (gradient,) = torch.autograd.grad((x**2).sum(), x)
            self.log("gradient", gradient.max())

    found = trainer(tmp_path, inference_mode=False).test(Gradient(), data(4), verbose=False)
    assert found == [{"gradient": 6.0}]


def test_metrics_of_a_validation_can_be_worked_with_in_training(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.fit(Net(), data(), data())
    value = t.callback_metrics["val_mean"]
    assert not value.is_inference()
    value.add_(1.0)
    assert float(value) == 5.5


class Modes(Net):
    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()).eval()
        self.mixed = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
        self.mixed[0].eval()
        self.inside: list[bool] = []

    def modes(self) -> dict[str, bool]:
        return {name: part.training for name, part in self.named_modules()}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.inside += [part.training for part in self.modules()]


def test_each_submodule_gets_its_own_mode_back(tmp_path: Path) -> None:
    seen = []

    class Watch(lk.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.append(pl_module.modes())

    net = Modes()
    before = net.modes()
    trainer(tmp_path, callbacks=[Watch()], val_check_interval=1).fit(net, data(), data())
    assert before == {
        "": True, "frozen": False, "frozen.0": False, "frozen.1": False, "mixed": True, "mixed.0": False,
        "mixed.1": True,
    }  # fmt: skip
    assert seen == [before] * 3 and net.modes() == before
    assert len(net.inside) == 7 * (2 + 3 * 3) and not any(net.inside)  # two sanity batches, three validations of three


def test_modes_come_back_after_an_error(tmp_path: Path) -> None:
    class Breaks(Modes):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise RuntimeError("in the step")

    net = Breaks()
    before = net.modes()
    with pytest.raises(RuntimeError, match="^in the step$"):
        trainer(tmp_path).validate(net, data())
    assert net.modes() == before and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_module_may_switch_modes_itself(tmp_path: Path) -> None:
    calls = []

    class Own(Modes):
        def on_validation_model_eval(self) -> None:
            calls.append("eval")

        def on_validation_model_train(self) -> None:
            calls.append("train")

    net = Own()
    before = [part.training for part in net.modules()]
    trainer(tmp_path, num_sanity_val_steps=0).fit(net, data(), data(4))
    assert calls == ["eval", "train"] and net.inside == before


@pytest.mark.parametrize("stage", ["validation", "test", "predict"])
def test_an_override_of_a_mode_hook_may_call_super(tmp_path: Path, stage: str) -> None:
    class Own(Modes):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            self.log("seen", 1.0)

        def predict_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)

        test_step = validation_step

    calls = []

    def override(name: str) -> Any:
        def hook(self: Any) -> None:
            calls.append(name)
            getattr(super(kind, self), name)()

        return hook

    names = [f"on_{stage}_model_eval", f"on_{stage}_model_train"]
    kind: Any = type("Own", (Own,), {name: override(name) for name in names})
    net = kind()
    run = {"validation": "validate"}.get(stage, stage)
    getattr(trainer(tmp_path), run)(net, data())
    assert calls == names and len(net.inside) == 7 * 3 and not any(net.inside)
    assert all(part.training for part in net.modules())


class Draws(Net):
    """Draws from every generator in every step."""

    def __init__(self, validates: bool = True) -> None:
        super().__init__()
        self.drawn: list[Any] = []
        self.validates = validates

    def _draw(self) -> tuple[float, float, float]:
        return (float(torch.rand(())), float(np.random.rand()), random.random())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.drawn.append((self._draw(), batch[0].tolist()))
        return 0.0 * self.scale

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._draw()


def test_training_draws_the_same_numbers_with_and_without_validation(tmp_path: Path) -> None:
    drawn = []
    for val in (None, data(shuffle=True)):
        lk.seed_everything(3, verbose=False)
        net = Draws()
        trainer(tmp_path, max_epochs=2, val_check_interval=1).fit(net, data(shuffle=True), val)
        drawn.append(net.drawn)
    assert len(drawn[0]) == 6 and drawn[0] == drawn[1]


@pytest.mark.parametrize("fn", ["validate", "test", "predict"])
def test_evaluation_leaves_every_generator_as_it_was(tmp_path: Path, fn: str) -> None:
    class All(Draws):
        def _any(self, batch: Any, batch_idx: int) -> None:
            self._draw()
            self.log("x", 1.0) if fn != "predict" else None

        validation_step = test_step = predict_step = _any

    of_loader, of_sampler = torch.Generator().manual_seed(5), torch.Generator().manual_seed(6)
    dataset = TensorDataset(torch.zeros(10, 2))
    loader = DataLoader(
        dataset, batch_size=4, generator=of_loader, sampler=RandomSampler(dataset, generator=of_sampler)
    )
    lk.seed_everything(3, verbose=False)
    before = [g.get_state() for g in (of_loader, of_sampler, torch.default_generator)]
    expected = Draws()._draw()
    lk.seed_everything(3, verbose=False)
    getattr(trainer(tmp_path), fn)(All(), loader)
    assert all(
        torch.equal(a, g.get_state())
        for a, g in zip(before, (of_loader, of_sampler, torch.default_generator), strict=True)
    )
    assert Draws()._draw() == expected


def test_every_validation_of_a_fit_sees_the_same_shuffled_order(tmp_path: Path) -> None:
    orders: list[list[float]] = []

    class Orders(Net):
        def on_validation_epoch_start(self) -> None:
            orders.append([])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            orders[-1] += batch[0][:, 0].tolist()

    loader = data(shuffle=True, generator=torch.Generator().manual_seed(1))
    trainer(tmp_path, max_epochs=3, num_sanity_val_steps=0).fit(Orders(), data(), loader)
    assert len(orders) == 3 and orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == list(range(10)) and orders[0] != sorted(orders[0])


# ------------------------------------------------------------------ which weights


class Improves(Net):
    """The weight is 1, 2, 3 after the epochs; the monitored value is lowest after the second."""

    def on_train_epoch_start(self) -> None:
        with torch.no_grad():
            self.scale.fill_(self.current_epoch + 1.0)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", (self.scale - 2.0).abs())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("scale", self.scale)


def fitted(tmp_path: Path, monitor: str | None) -> tuple[Any, ModelCheckpoint]:
    callback = ModelCheckpoint(monitor=monitor)
    t = trainer(tmp_path, max_epochs=3, callbacks=[callback], enable_checkpointing=True)
    t.fit(Improves(), data(4), data(4))
    return t, callback


def test_without_a_model_the_best_monitored_checkpoint_is_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t, callback = fitted(tmp_path, "val_loss")
    assert capsys.readouterr().out == ""
    assert t.test(dataloaders=data(4)) == [{"scale": 2.0}]
    assert capsys.readouterr().out == (
        f"test: the best checkpoint of the fit is used, {callback.best_model_path}\n"
        "test metric  value\n-----------  -----\nscale        2\n"
    )


def test_without_a_monitor_the_fitted_weights_are_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t, _ = fitted(tmp_path, None)
    assert t.test(dataloaders=data(4)) == [{"scale": 3.0}]
    assert capsys.readouterr().out == "test metric  value\n-----------  -----\nscale        3\n"


def test_a_model_that_is_given_is_tested_as_it_is(tmp_path: Path) -> None:
    t, _ = fitted(tmp_path, "val_loss")
    assert t.test(t.lightning_module, data(4), verbose=False) == [{"scale": 3.0}]
    assert t.test(Improves(), data(4), verbose=False) == [{"scale": 1.0}]


def test_ckpt_path(tmp_path: Path) -> None:
    t, callback = fitted(tmp_path, "val_loss")
    net = Improves()
    assert t.test(net, data(4), ckpt_path="best", verbose=False) == [{"scale": 2.0}]
    assert t.ckpt_path == callback.best_model_path
    path = tmp_path / "mine.ckpt"
    with torch.no_grad():
        net.scale.fill_(9.0)
    t.save_checkpoint(path)
    assert trainer(tmp_path).test(Improves(), data(4), ckpt_path=path, verbose=False) == [{"scale": 9.0}]
    assert error_of(lambda: trainer(tmp_path).test(Improves(), data(4), ckpt_path="best"), ConfigError) == (
        "trainer.test(ckpt_path='best'): this Trainer has saved no checkpoint; fit first, or give a path"
    )


# ------------------------------------------------------------------ where the data comes from


def test_loaders_of_the_module_are_asked_for_after_prepare_data_and_setup(tmp_path: Path) -> None:
    class Own(Net):
        def prepare_data(self) -> None:
            (tmp_path / "samples").write_text("6", encoding="utf-8")

        def setup(self, stage: str) -> None:
            self.samples = int((tmp_path / "samples").read_text(encoding="utf-8"))

        def _loader(self) -> Any:
            return data(self.samples)

        train_dataloader = val_dataloader = test_dataloader = predict_dataloader = _loader

    t = trainer(tmp_path)
    assert t.validate(Own(), verbose=False) == [{"val_mean": 2.5}]
    assert t.test(Own(), verbose=False)[0]["test_mean"] == 2.5
    assert [len(p) for p in t.predict(Own())] == [4, 2]
    net = Own()
    t.fit(net)
    assert float(t.callback_metrics["val_mean"]) == 2.5
    assert t.test(verbose=False)[0]["test_mean"] == 2.5, "the module's own, also where none is named"


def transfers(calls: list[str], owner: str, add: float) -> dict[str, Any]:
    """Transfer hooks: doubles before, moves, adds after."""

    def before(self: Any, batch: Any, dataloader_idx: int) -> Any:
        calls.append(f"{owner} before {dataloader_idx}")
        return [batch[0] * 2]

    def move(self: Any, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        calls.append(f"{owner} move to {device} {dataloader_idx}")
        return [batch[0].to(device)]

    def after(self: Any, batch: Any, dataloader_idx: int) -> Any:
        calls.append(f"{owner} after {dataloader_idx}")
        return [batch[0] + add]

    return {"on_before_batch_transfer": before, "transfer_batch_to_device": move, "on_after_batch_transfer": after}


@pytest.mark.parametrize("with_data_module", [False, True])
def test_transfer_hooks_of_the_data_module_go_before_the_module_s(tmp_path: Path, with_data_module: bool) -> None:
    calls: list[str] = []
    net = type("Transfers", (Several,), transfers(calls, "module", 1.0))()
    loaders = [data(4), data(2)]
    if with_data_module:

        def val_dataloader(self: Any) -> Any:
            return loaders

        hooks = {**transfers(calls, "data", 5.0), "val_dataloader": val_dataloader}
        found = trainer(tmp_path).validate(net, datamodule=type("Data", (lk.LightDataModule,), hooks)(), verbose=False)
    else:
        found = trainer(tmp_path).validate(net, loaders, verbose=False)
    owner, add = ("data", 5.0) if with_data_module else ("module", 1.0)
    assert found == [{"v/dataloader_idx_0": 3.0 + add}, {"v/dataloader_idx_1": 101.0 + add}]
    assert calls == [f"{owner} {what} {i}" for i in (0, 1) for what in ("before", "move to cpu", "after")]


def test_a_data_module_may_stand_where_loaders_stand(tmp_path: Path) -> None:
    class Data(lk.LightDataModule):
        def setup(self, stage: str) -> None:
            self.stage = stage

        def test_dataloader(self) -> Any:
            return data(6)

    source = Data()
    t = trainer(tmp_path)
    assert t.test(Net(), source, verbose=False)[0]["test_mean"] == 2.5
    assert source.stage == "test"
    assert error_of(lambda: t.test(Net(), data(), datamodule=source), ConfigError) == (
        "dataloaders and datamodule are given both; pass one of them"
    )


class Renaming(Net):
    """Logs another name in every second validation, and counts what its epochs see."""

    passes = 0

    def on_validation_epoch_start(self) -> None:
        self.passes += 1

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("odd" if self.passes % 2 else "even", float(self.passes))


def test_each_validation_returns_what_it_logged_itself_and_nothing_of_the_one_before(tmp_path: Path) -> None:
    shown: list[dict[str, float]] = []

    class Look(lk.Callback):
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            found = trainer.validate_loop.results.values(of_step=False)
            shown.append({entry.name: float(entry.value) for entry in found})

    model = Renaming()
    trainer(tmp_path, max_epochs=4, callbacks=[Look()], num_sanity_val_steps=1).fit(model, data(), data())
    assert shown == [{"odd": 1.0}, {"even": 2.0}, {"odd": 3.0}, {"even": 4.0}, {"odd": 5.0}]


def test_a_hook_set_on_the_module_while_it_trains_is_found_in_the_next_epoch(tmp_path: Path) -> None:
    calls: list[int] = []

    class Adds(lk.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 0:
                pl_module.on_train_epoch_start = lambda: calls.append(trainer.current_epoch)

    trainer(tmp_path, max_epochs=3, callbacks=[Adds()]).fit(Net(), data())
    assert calls == [1, 2]


def test_a_hook_set_on_a_callback_in_an_epoch_is_found_at_its_end(tmp_path: Path) -> None:
    calls: list[int] = []

    class Adds(lk.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.current_epoch == 1:
                self.on_train_epoch_end = lambda *args: calls.append(trainer.current_epoch)  # type: ignore[method-assign]

    trainer(tmp_path, max_epochs=3, limit_val_batches=0, callbacks=[Adds()]).fit(Net(), data(), data())
    assert calls == [1, 2]


def test_a_name_may_be_logged_in_another_way_in_a_later_validation(tmp_path: Path) -> None:
    class Changing(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            epoch = self.current_epoch
            value = float(epoch)
            if epoch == 2:
                self.mean = torchmetrics.MeanMetric()
                self.mean.update(value)
            self.log("a", self.mean if epoch == 2 else value, prog_bar=epoch > 0, reduce_fx="max" if epoch else "mean")

    seen: list[float] = []

    class Look(lk.Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append(float(trainer.callback_metrics["a"]))

    run = trainer(tmp_path, max_epochs=4, limit_val_batches=1, num_sanity_val_steps=0, callbacks=[Look()])
    run.fit(Changing(), data(), data())
    assert seen == [0.0, 1.0, 2.0, 3.0]
    assert "a" in run.progress_bar_metrics


def test_an_eval_set_on_the_module_is_called(tmp_path: Path) -> None:
    model, calls = Net(), []

    def own() -> Any:
        calls.append(1)
        return nn.Module.eval(model)

    model.eval = own  # type: ignore[method-assign]
    trainer(tmp_path).validate(model, data(), verbose=False)
    assert len(calls) == 1


class KeepsNormOff(nn.BatchNorm1d):
    """Stays in evaluation mode whatever the rest does, as frozen backbones are written."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


def test_modes_are_those_of_eval_and_come_back_one_by_one(tmp_path: Path) -> None:
    class Mixed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop, self.frozen = KeepsNormOff(2), nn.Dropout(), nn.Dropout()
            self.scripted = torch.jit.script(nn.Sequential(nn.Dropout()))
            self.modes: list[tuple[bool, ...]] = []

        def look(self) -> None:
            parts = (self, self.norm, self.drop, self.frozen, self.scripted)
            self.modes.append(tuple(part.training for part in parts))

        def on_train_epoch_start(self) -> None:
            self.frozen.eval()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.look()
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.look()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.script
        model = Mixed()
    model.train()
    options = {"max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    trainer(tmp_path, **options).fit(model, data(), data())
    assert model.modes == [(True, False, True, False, True), (False,) * 5] * 2
