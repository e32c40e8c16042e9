"""What `self.log` shows, where and when; "Lightning's" values were read off Lightning 2.6.6 with the same script."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.errors import ConfigError
from lightkit.loggers import CSVLogger
from lightkit.results import WINDOW, Results

STEPS = 3  # ten samples in batches of four: the last one is short


def data(samples: int = 10) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(2.0 * samples).reshape(samples, 2) / 10), batch_size=4)


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def logging_in(hook: str, base: type[Net] = Net, name: str = "x", value: Any = 1.0, **options: Any) -> type[Net]:
    """A module that logs one value in one hook."""

    def log(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.log(name, value, **options)
        parent = getattr(base, hook, None)
        return parent(self, *args, **kwargs) if parent is not None else None

    hooks: dict[str, Any] = {"validation_step": lambda self, batch, batch_idx: None}
    return type("Logging", (base,), {**hooks, hook: log})


def trainer(root: Path, **arguments: Any) -> Any:
    defaults: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "logger": False,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def fit(root: Path, module: Any, val: Any = None, samples: int = 10, **arguments: Any) -> Any:
    t = trainer(root, **arguments)
    t.fit(module, data(samples), val)
    return t


def plain(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def message_of(run: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        run()
    assert type(caught.value) is ConfigError
    return str(caught.value)


# ------------------------------------------------------------------ what is where, and when


class Everything(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("plain", float(batch_idx))
        self.log("fork", float(batch_idx), on_step=True, on_epoch=True, prog_bar=True)
        self.log("mean", float(batch_idx), on_step=False, on_epoch=True)
        self.log("bar", float(batch_idx), prog_bar=True, logger=False)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", float(batch_idx))
        self.log("val_fork", float(batch_idx), on_step=True, on_epoch=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test", float(batch_idx))
        self.log("test_fork", float(batch_idx), on_step=True, on_epoch=True)

    def on_train_epoch_start(self) -> None:
        self.log("at_start", 9.0)

    def on_train_epoch_end(self) -> None:
        self.log("at_end", 7.0)

    def on_validation_epoch_end(self) -> None:
        self.log("at_val_end", 8.0)


THIRD = 1 / 3  # values 0 and 1 of batches of 4 and 2
TRAIN_EPOCH = {"mean": 0.8, "fork_epoch": 0.8}  # (0*4 + 1*4 + 2*2) / 10


def csv_rows(root: Path) -> list[dict[str, float]]:
    with open(root / "metrics.csv", encoding="utf-8", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def test_rows_steps_and_epochs_are_lightning_s(tmp_path: Path) -> None:
    logger = CSVLogger()
    t = trainer(tmp_path, logger=logger, log_every_n_steps=2, max_epochs=2, run_dir=tmp_path / "run")
    module = Everything()
    t.fit(module, data(), data(6))
    validated = t.validate(module, data(6), verbose=False)
    tested = t.test(module, data(6), verbose=False)
    val_rows = [{"val_fork_step": 0.0}, {"val_fork_step": 1.0}]
    epoch = {"val": THIRD, "val_fork_epoch": THIRD, "at_val_end": 8.0}
    train = {**TRAIN_EPOCH, "at_start": 9.0, "at_end": 7.0}
    rows = [
        {"plain": 1.0, "fork_step": 1.0, "epoch": 0, "step": 1},
        *({**row, "step": i} for i, row in enumerate(val_rows)),
        {**epoch, **train, "epoch": 0, "step": 2},
        {"plain": 0.0, "fork_step": 0.0, "epoch": 1, "step": 3},
        {"plain": 2.0, "fork_step": 2.0, "epoch": 1, "step": 5},
        *({**row, "step": 2 + i} for i, row in enumerate(val_rows)),
        {**epoch, **train, "epoch": 1, "step": 5},
        *({**row, "step": i} for i, row in enumerate(val_rows)),
        {**epoch, "epoch": 2, "step": 6},
        {"test_fork_step": 0.0, "step": 0},
        {"test_fork_step": 1.0, "step": 1},
        {"test": THIRD, "test_fork_epoch": THIRD, "epoch": 2, "step": 6},
    ]
    # Lightning's, but that what is logged at one step after the other shares a row
    assert csv_rows(tmp_path / "run") == [pytest.approx(row) for row in rows]
    assert validated == [pytest.approx(epoch)]
    assert tested == [pytest.approx({"test": THIRD, "test_fork_epoch": THIRD})]


class Snapshots(lk.Callback):
    """What callbacks see in each hook."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[dict[str, float], dict[str, float], dict[str, float]]]] = {}

    def _look(self, hook: str, trainer: Any) -> None:
        logged = plain(trainer.logged_metrics)  # first: none of the three needs another to be read before
        bar = plain(trainer.progress_bar_metrics)
        self.seen.setdefault(hook, []).append((plain(trainer.callback_metrics), logged, bar))

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self._look("batch", trainer)

    def on_validation_epoch_end(self, trainer: Any, *args: Any) -> None:
        if not trainer.sanity_checking:
            self._look("val_epoch", trainer)

    def on_validation_end(self, trainer: Any, *args: Any) -> None:
        if not trainer.sanity_checking:
            self._look("val", trainer)

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        self._look("epoch", trainer)


def test_metrics_that_callbacks_see_in_each_hook_are_lightning_s(tmp_path: Path) -> None:
    look = Snapshots()
    t = fit(tmp_path, Everything(), data(6), callbacks=[look], max_epochs=2, log_every_n_steps=1)
    val = {"val": THIRD, "val_fork": THIRD, "val_fork_epoch": THIRD}
    for i, (callback, _, bar) in enumerate(look.seen["batch"][:STEPS]):
        assert callback == {"plain": i, "fork": i, "fork_step": i, "bar": i}
        assert bar == {"bar": i, "fork_step": i}
    step = {"plain": 2.0, "fork": 2.0, "fork_step": 2.0, "bar": 2.0}
    assert look.seen["val_epoch"][0][0] == pytest.approx({**step, **val})
    assert look.seen["val"][0][0] == pytest.approx({**step, **val, "at_val_end": 8.0})
    ended = {**step, **val, "at_val_end": 8.0, "at_start": 9.0, "fork": 0.8, "fork_epoch": 0.8, "mean": 0.8}
    assert look.seen["epoch"][0][0] == pytest.approx(ended)
    assert look.seen["epoch"][0][2] == pytest.approx({"bar": 2.0, "fork_step": 2.0, "fork_epoch": 0.8})
    after = {**ended, "at_end": 7.0}
    assert look.seen["batch"][STEPS][0] == pytest.approx(
        {**after, "plain": 0.0, "fork": 0.0, "fork_step": 0.0, "bar": 0.0}
    )
    assert plain(t.callback_metrics) == pytest.approx(after)
    assert all(type(v) is torch.Tensor and v.dim() == 0 for v in t.callback_metrics.values())


def test_logged_metrics_hold_the_newest_value_of_all_that_loggers_may_get(tmp_path: Path) -> None:
    look = Snapshots()
    fit(tmp_path, Everything(), data(6), callbacks=[look], log_every_n_steps=2, num_sanity_val_steps=0)
    assert [logged for _, logged, _ in look.seen["batch"]] == [{"plain": i, "fork_step": i} for i in range(STEPS)]
    at_end = look.seen["epoch"][0][1]
    expected = {"plain": 2.0, "fork_step": 2.0, "val": THIRD, "val_fork_epoch": THIRD, "at_val_end": 8.0}
    expected["val_fork_step"] = 1.0
    assert at_end == pytest.approx({**expected, **TRAIN_EPOCH, "at_start": 9.0})


def test_the_step_s_value_is_there_inside_a_validation_though_nobody_read_it_before(tmp_path: Path) -> None:
    seen = []

    class Reading(logging_in("training_step")):  # type: ignore[misc]
        def on_validation_epoch_end(self) -> None:
            if not self.trainer.sanity_checking:
                seen.append(plain(self.trainer.callback_metrics))

    fit(tmp_path, Reading(), data(6))
    assert seen == [{"x": 1.0}]


def test_each_run_begins_with_no_metrics_and_leaves_those_that_somebody_holds(tmp_path: Path) -> None:
    module = Everything()
    t = fit(tmp_path, module, data(6))
    held = t.callback_metrics
    t.test(module, data(6), verbose=False)
    assert plain(t.callback_metrics) == pytest.approx({"test": THIRD, "test_fork": THIRD, "test_fork_epoch": THIRD})
    assert "val" in held and "test" not in held
    t.validate(module, data(6), verbose=False)
    assert set(t.callback_metrics) == {"val", "val_fork", "val_fork_epoch", "at_val_end"}
    quiet = Net()
    t.fit(quiet, data())
    assert plain(t.callback_metrics) == plain(t.logged_metrics) == plain(t.progress_bar_metrics) == {}


@pytest.mark.parametrize("every", [0, 1, 2, 4])
def test_log_every_n_steps_counts_optimizer_steps(tmp_path: Path, every: int) -> None:
    t = trainer(
        tmp_path, logger=CSVLogger(), log_every_n_steps=every, max_epochs=2, run_dir=tmp_path / "run",
        accumulate_grad_batches=2,
    )  # fmt: skip
    t.fit(logging_in("training_step", on_step=True, on_epoch=False)(), data(22))
    steps = [s for s in range(6) if every and (s + 1) % every == 0]
    path = tmp_path / "run" / "metrics.csv"
    assert [row["step"] for row in csv_rows(tmp_path / "run")] == steps if steps else not path.exists()


# ------------------------------------------------------------------ means and other reductions


def test_epoch_means_weigh_batches_by_their_size_exactly(tmp_path: Path) -> None:
    values = torch.rand(300, dtype=torch.float32, generator=torch.Generator().manual_seed(3))
    sizes = [4] * 249 + [2]  # more batches than the buffer holds

    class Means(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("tensor", values[batch_idx], on_epoch=True)
            self.log("number", float(values[batch_idx]), on_epoch=True)
            self.log("given", values[batch_idx], on_epoch=True, batch_size=batch_idx + 1)
            return self.layer(torch.ones(1, 2)).square().mean()

    t = fit(tmp_path, Means(), samples=998)
    used = values[:250].double()
    weights = torch.tensor(sizes, dtype=torch.float64)
    given = torch.arange(1.0, 251.0, dtype=torch.float64)
    by_hand = {name: float((used * w).sum() / w.sum()) for name, w in (("tensor", weights), ("given", given))}
    assert t.logged_metrics["tensor_epoch"] == pytest.approx(by_hand["tensor"], rel=1e-14)
    assert t.logged_metrics["number_epoch"] == pytest.approx(by_hand["tensor"], rel=1e-14)
    assert t.logged_metrics["given_epoch"] == pytest.approx(by_hand["given"], rel=1e-14)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(
    ("reduce", "expected"),
    [
        ("mean", 1.8), ("sum", 6.0), ("min", 1.0), ("max", 3.0), (torch.mean, 1.8), (torch.sum, 6.0), (sum, 6.0),
        (min, 1.0), (max, 3.0), (torch.min, 1.0), (torch.max, 3.0), (torch.amin, 1.0), (torch.amax, 3.0),
        ("avg", 1.8), ("average", 1.8), ("Mean", 1.8), ("maximum", 3.0), ("minimum", 1.0), (torch.maximum, 3.0),
        (torch.Tensor.max, 3.0), (np.mean, 1.8), (np.sum, 6.0), (np.max, 3.0), (np.amin, 1.0), (math.fsum, 6.0),
    ],
)  # fmt: skip
def test_reductions(tmp_path: Path, reduce: Any, expected: float, as_tensor: bool) -> None:
    class Reducing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            value = torch.tensor(batch_idx + 1.0) if as_tensor else batch_idx + 1.0
            self.log("x", value, on_step=False, on_epoch=True, reduce_fx=reduce)
            return super().training_step(batch, batch_idx)

    t = fit(tmp_path, Reducing(), max_epochs=2)
    assert plain(t.callback_metrics) == pytest.approx({"x": expected}), "the second epoch begins anew"


@pytest.mark.parametrize("reduce", [max, torch.max, np.max, "maximum", "MAX"])
def test_a_reduction_said_by_a_function_is_saved_and_taken_up_as_its_word(tmp_path: Path, reduce: Any) -> None:
    class Reducing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", float(-batch_idx), on_step=False, on_epoch=True, reduce_fx=reduce)
            return super().training_step(batch, batch_idx)

    saves = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    fit(tmp_path, Reducing(), callbacks=[saves], enable_checkpointing=True)
    again = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    t = trainer(tmp_path, callbacks=[again], enable_checkpointing=True)
    t.fit(Reducing(), data(), ckpt_path=tmp_path / "step=2.ckpt")
    assert plain(t.callback_metrics) == {"x": 0.0}


def trimmed(values: Any) -> Any:
    return values


trimmed.__name__ = "mean"


OTHERS = [trimmed, lambda values: values, torch.median, partial(torch.sum, dim=0), len, 3, None]


@pytest.mark.parametrize("reduce", OTHERS)
def test_another_reduction_is_refused_where_it_is_logged(tmp_path: Path, reduce: Any) -> None:
    module = logging_in("training_step", reduce_fx=reduce, on_epoch=True)()
    assert message_of(lambda: fit(tmp_path, module)) == (
        f"self.log('x', reduce_fx={reduce!r}): expected one of mean, sum, min, max; for anything else log a "
        "torchmetrics Metric"
    )


BIG = 2**24 + 1  # the first whole number that float32 rounds


@pytest.mark.parametrize("kind", [int, torch.tensor, np.int64, lambda n: torch.tensor(n, dtype=torch.int32)])
@pytest.mark.parametrize(
    ("reduce", "expected"), [("sum", 3 * BIG + 3), ("min", BIG), ("max", BIG + 2), ("mean", BIG + 1)]
)
def test_whole_numbers_stay_exact(tmp_path: Path, kind: Any, reduce: str, expected: int) -> None:
    class Counts(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("n", kind(BIG + batch_idx), on_step=True, on_epoch=True, reduce_fx=reduce, batch_size=1)
            return super().training_step(batch, batch_idx)

    logger = CSVLogger()
    t = fit(tmp_path, Counts(), logger=logger, log_every_n_steps=1, run_dir=tmp_path / "run")
    found = {name: value.item() for name, value in t.callback_metrics.items()}
    assert found == {"n": expected, "n_step": BIG + 2, "n_epoch": expected}
    rows = csv_rows(tmp_path / "run")
    assert [row["n_step"] for row in rows if "n_step" in row] == [BIG, BIG + 1, BIG + 2]
    assert rows[-1]["n_epoch"] == t.logged_metrics["n_epoch"] == expected


@pytest.mark.parametrize("reduce", ["sum", "min", "max"])
def test_whole_numbers_beyond_what_float64_holds_stay_exact(tmp_path: Path, reduce: str) -> None:
    class Counts(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            value = 2**60 + 1 if batch_idx == 1 else 0 if reduce == "sum" else 2**60 + 1
            self.log("n", value, on_step=False, on_epoch=True, reduce_fx=reduce)
            return super().training_step(batch, batch_idx)

    assert fit(tmp_path, Counts()).callback_metrics["n"].item() == 2**60 + 1


def test_metrics_that_float32_holds_are_float32(tmp_path: Path) -> None:
    class Several(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log_dict({"count": 3, "loss": 0.1, "big": BIG, "infinite": math.inf, "huge": 2**70})
            return super().training_step(batch, batch_idx)

    found = fit(tmp_path, Several()).callback_metrics
    float32, float64 = torch.float32, torch.float64
    assert {name: value.dtype for name, value in found.items()} == {
        "count": float32, "loss": float32, "big": float64, "infinite": float32, "huge": float64,
    }  # fmt: skip


def test_tensors_and_numbers_under_one_name_are_one_mean(tmp_path: Path) -> None:
    class Mixed(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", torch.tensor(1.0) if batch_idx % 2 else 4, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    assert plain(fit(tmp_path, Mixed()).callback_metrics) == pytest.approx({"x": (4 * 4 + 1 * 4 + 4 * 2) / 10})


def test_the_buffer_stays_at_its_window() -> None:
    results = Results(is_training=True, size_of=len)
    results.batch = [0]
    results.enter("training_step")
    options = (False, None, True, True, "mean", True)
    for i in range(5 * WINDOW):
        results.log("x", torch.tensor(float(i)), options, None)
        (slot,) = results.current.values()
        assert len(slot.weights) <= WINDOW and slot.buffer is not None and len(slot.buffer) == WINDOW
    (entry,) = results.values(of_step=False)
    assert float(entry.value) == (5 * WINDOW - 1) / 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, 2.0), (True, 1.0), (np.float32(2.5), 2.5), (np.int64(2), 2.0), (np.array(2.0), 2.0), (torch.tensor(3), 3.0),
        (torch.tensor(True), 1.0), (torch.ones(1), 1.0), (torch.ones(1, 1), 1.0), (np.float64(0.1), 0.1),
        (torch.ones((), requires_grad=True), 1.0), (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    ],
)  # fmt: skip
def test_what_counts_as_one_value(tmp_path: Path, value: Any, expected: float) -> None:
    t = fit(tmp_path, logging_in("training_step", value=value, on_epoch=True)())
    assert plain(t.callback_metrics) == pytest.approx({"x": expected, "x_step": expected, "x_epoch": expected})


def test_a_tensor_changed_in_place_afterwards_keeps_its_logged_value(tmp_path: Path) -> None:
    class Changing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            value = torch.tensor(float(batch_idx))
            self.log("x", value, on_step=True, on_epoch=True)
            value.add_(100)
            return super().training_step(batch, batch_idx)

    assert plain(fit(tmp_path, Changing()).callback_metrics) == pytest.approx({"x": 0.8, "x_step": 2.0, "x_epoch": 0.8})


# ------------------------------------------------------------------ hooks, callbacks, names

STEP_DEFAULT = "training_step on_train_batch_start on_train_batch_end on_before_zero_grad on_before_backward"
STEP_DEFAULT += " on_after_backward on_before_optimizer_step optimizer_step backward optimizer_zero_grad"
STEP_DEFAULT += " configure_gradient_clipping"
EPOCH_DEFAULT = "on_train_start on_train_epoch_start on_train_epoch_end on_validation_start on_validation_epoch_start"
EPOCH_DEFAULT += " validation_step on_validation_batch_start on_validation_batch_end on_validation_epoch_end"
IN_EVALUATION_STEP = ("validation_step", "on_validation_batch_start", "on_validation_batch_end")


@pytest.mark.parametrize("hook", STEP_DEFAULT.split())
def test_hooks_of_a_step_log_each_step_by_default(tmp_path: Path, hook: str) -> None:
    look = Snapshots()
    t = fit(tmp_path, logging_in(hook)(), callbacks=[look], gradient_clip_val=1.0)
    assert look.seen["batch"][-1][0] == {"x": 1.0}
    assert look.seen["epoch"][0][2] == {}
    assert plain(t.callback_metrics) == {"x": 1.0}
    both = fit(tmp_path, logging_in(hook, on_step=True, on_epoch=True)(), gradient_clip_val=1.0)
    assert plain(both.callback_metrics) == {"x": 1.0, "x_step": 1.0, "x_epoch": 1.0}


@pytest.mark.parametrize("hook", EPOCH_DEFAULT.split())
def test_other_hooks_log_each_epoch_and_have_no_step(tmp_path: Path, hook: str) -> None:
    look = Snapshots()
    t = fit(tmp_path, logging_in(hook)(), data(6), callbacks=[look], num_sanity_val_steps=0)
    assert look.seen["batch"][-1][0] == {}
    assert plain(t.callback_metrics) == {"x": 1.0}
    on_step = logging_in(hook, on_step=True, on_epoch=True)()
    if hook in IN_EVALUATION_STEP:
        assert plain(fit(tmp_path, on_step, data(6)).callback_metrics) == {"x": 1.0, "x_epoch": 1.0}
    else:
        assert message_of(lambda: fit(tmp_path, on_step, data(6))) == (
            f"self.log('x', on_step=True) in {hook}: no step is here; leave on_step out"
        )


OUTSIDE = (
    "self.log('x', ...): not possible here; log in a hook between on_train_start and on_train_end or in an "
    "evaluation hook"
)
NOWHERE = {
    **dict.fromkeys(("on_fit_start", "setup", "prepare_data", "configure_optimizers", "on_fit_end"), OUTSIDE),
    **dict.fromkeys(("teardown", "configure_callbacks", "on_sanity_check_start"), OUTSIDE),
    "on_train_end": "self.log('x', ...) in on_train_end: not possible here; log in on_train_epoch_end",
    "on_validation_end": "self.log('x', ...) in on_validation_end: not possible here; log in on_validation_epoch_end",
    "on_after_batch_transfer": "self.log('x', ...) in on_after_batch_transfer: not possible here; log in the step",
}


@pytest.mark.parametrize("hook", NOWHERE)
def test_where_logging_makes_no_sense_it_is_an_error(tmp_path: Path, hook: str) -> None:
    class OnSanity(lk.Callback):
        def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
            if hook == "on_sanity_check_start":
                pl_module.log("x", 1.0)

    run = lambda: fit(tmp_path, logging_in(hook)(), data(6), callbacks=[OnSanity()])  # noqa: E731
    assert message_of(run) == NOWHERE[hook]


def test_a_prediction_logs_nothing(tmp_path: Path) -> None:
    module = logging_in("predict_step")()
    assert message_of(lambda: trainer(tmp_path).predict(module, data())) == (
        "self.log('x', ...) in predict_step: not possible here; a prediction collects no metrics"
    )


def test_without_a_trainer_logging_warns_and_after_a_run_it_is_an_error(tmp_path: Path) -> None:
    module = Net()
    with pytest.warns(UserWarning) as caught:
        module.log("x", 1.0)
    assert [str(w.message) for w in caught] == ["self.log('x', ...): no Trainer runs this module, nothing is logged"]
    fit(tmp_path, module)
    assert message_of(lambda: module.log("x", 1.0)) == OUTSIDE


def test_callbacks_log_by_themselves(tmp_path: Path) -> None:
    class Logs(lk.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("batch", float(batch_idx))

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.log("epoch", 4.0, prog_bar=True)

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.log_dict({"a": 1.0, "b": 2.0})

    t = fit(tmp_path, logging_in("validation_step", name="v")(), data(6), callbacks=[Logs()])
    assert plain(t.callback_metrics) == {"batch": 2.0, "epoch": 4.0, "a": 1.0, "b": 2.0, "v": 1.0}
    assert plain(t.progress_bar_metrics) == {"epoch": 4.0}


def test_the_same_name_in_two_hooks_shows_the_later_hook_s(tmp_path: Path) -> None:
    class Twice(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self) -> None:
            self.log("x", 5.0)

    assert plain(fit(tmp_path, Twice()).callback_metrics) == {"x": 5.0}


def test_the_same_name_twice_in_a_step_is_the_mean_of_both(tmp_path: Path) -> None:
    class Twice(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0, on_step=True, on_epoch=True)
            self.log("x", 3.0, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    assert plain(fit(tmp_path, Twice()).callback_metrics) == {"x": 2.0, "x_step": 3.0, "x_epoch": 2.0}


def test_log_dict_takes_log_s_arguments(tmp_path: Path) -> None:
    class Dict(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log_dict({"a": 1.0, "b": torch.tensor(2.0)}, prog_bar=True, on_epoch=True, on_step=False)
            return super().training_step(batch, batch_idx)

    t = fit(tmp_path, Dict())
    assert plain(t.callback_metrics) == plain(t.progress_bar_metrics) == {"a": 1.0, "b": 2.0}


class TwoLoaders(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("v", float(batch_idx + 10 * dataloader_idx))
        self.log(f"own{dataloader_idx}", 1.0, add_dataloader_idx=False)
        self.log("over_all", float(dataloader_idx), add_dataloader_idx=False)
        if dataloader_idx == 1:
            self.log("only", 5.0, on_step=True, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        self.log("end", 3.0)


def test_two_loaders_have_names_of_their_own(tmp_path: Path) -> None:
    module = TwoLoaders()
    loaders = [data(6), data(4)]
    t = fit(tmp_path, module, loaders)
    both = {"own0": 1.0, "own1": 1.0, "over_all": 0.4, "end": 3.0}
    callback = {"v/dataloader_idx_0": THIRD, "v/dataloader_idx_1": 10.0, **both}
    assert plain(t.callback_metrics) == pytest.approx(
        {**callback, "only/dataloader_idx_1": 5.0, "only_epoch/dataloader_idx_1": 5.0}
    )
    first, second = t.validate(module, loaders, verbose=False)
    assert first == pytest.approx({"v/dataloader_idx_0": THIRD, "own0": 1.0, "over_all": 0.4, "end": 3.0})
    assert second == pytest.approx(
        {"v/dataloader_idx_1": 10.0, "own1": 1.0, "over_all": 0.4, "end": 3.0, "only_epoch/dataloader_idx_1": 5.0}
    )


# ------------------------------------------------------------------ torchmetrics


class WithMetrics(Net):
    def __init__(self) -> None:
        import torchmetrics

        super().__init__()
        self.mean, self.val_mean = torchmetrics.MeanMetric(), torchmetrics.MeanMetric()
        kinds = {"max": torchmetrics.MaxMetric(), "min": torchmetrics.MinMetric()}
        self.collection = torchmetrics.MetricCollection(kinds, prefix="c_")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.mean(float(batch_idx))
        self.log("mean", self.mean, on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.val_mean.update(float(batch_idx + self.current_epoch + 10 * dataloader_idx))
        self.log("val_mean", self.val_mean)
        self.collection.update(float(batch_idx))
        self.log_dict(self.collection)


def test_torchmetrics_objects_are_computed_once_an_epoch_and_reset(tmp_path: Path) -> None:
    look = Snapshots()
    module = WithMetrics()
    fit(tmp_path, module, data(6), callbacks=[look], max_epochs=2)
    assert [seen[0]["mean_step"] for seen in look.seen["batch"]] == [0.0, 1.0, 2.0] * 2
    ends = [seen[0] for seen in look.seen["epoch"]]
    shared = {"mean": 1.0, "mean_epoch": 1.0, "mean_step": 2.0, "c_max": 1.0, "c_min": 0.0}
    assert ends == [{**shared, "val_mean": 0.5}, {**shared, "val_mean": 1.5}]
    counts = [m._update_count for m in (module.mean, module.val_mean, module.collection["max"])]
    assert counts == [0, 0, 0], "reset when its epoch was over"


def test_a_metric_s_value_is_logged_like_any_tensor(tmp_path: Path) -> None:
    class ByValue(WithMetrics):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("mean", self.mean(float(batch_idx)), on_step=True, on_epoch=True)
            return Net.training_step(self, batch, batch_idx)

    module = ByValue()
    t = fit(tmp_path, module)
    assert plain(t.callback_metrics) == pytest.approx({"mean": 0.8, "mean_step": 2.0, "mean_epoch": 0.8})
    assert module.mean._update_count == STEPS, "the user's own to reset"


def test_one_metric_over_two_loaders_has_each_loader_s_own_value(tmp_path: Path) -> None:
    t = fit(tmp_path, WithMetrics(), [data(6), data(4)], num_sanity_val_steps=0)
    found = plain(t.callback_metrics)
    assert (found["val_mean/dataloader_idx_0"], found["val_mean/dataloader_idx_1"]) == (0.5, 10.0)


def test_metrics_updated_without_a_value_have_no_step_value(tmp_path: Path) -> None:
    class Updated(WithMetrics):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.mean.update(float(batch_idx))
            self.log("mean", self.mean, on_step=True, on_epoch=True)
            return Net.training_step(self, batch, batch_idx)

    assert plain(fit(tmp_path, Updated()).callback_metrics) == {"mean": 1.0, "mean_epoch": 1.0}


@pytest.mark.parametrize("by_step", [False, True])
def test_a_collection_of_metrics(tmp_path: Path, by_step: bool) -> None:
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MulticlassPrecision, MulticlassRecall

    guesses, truth = torch.tensor([0, 0, 1, 1, 0, 0]), torch.tensor([0, 1, 1, 1, 1, 0])

    class Collects(Net):
        def __init__(self) -> None:
            super().__init__()
            options: dict[str, Any] = {"num_classes": 2, "average": "macro"}
            self.both = MetricCollection({"p": MulticlassPrecision(**options), "r": MulticlassRecall(**options)})

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            part = slice(2 * batch_idx, 2 * batch_idx + 2)
            (self.both if by_step else self.both.update)(guesses[part], truth[part])
            self.log_dict(self.both, on_step=by_step, on_epoch=True)
            return super().training_step(batch, batch_idx)

    module = Collects()
    t = fit(tmp_path, module, max_epochs=2)
    assert len(module.both.compute_groups) == (2 if by_step else 1), "with update alone they share one state"
    p, r = (2 / 4 + 2 / 2) / 2, (2 / 2 + 2 / 4) / 2
    last_p, last_r = (1 / 2 + 0) / 2, (1 / 1 + 0) / 2
    steps = {"p_epoch": p, "p_step": last_p, "r_epoch": r, "r_step": last_r}
    assert plain(t.callback_metrics) == pytest.approx({"p": p, "r": r, **(steps if by_step else {})})


def test_a_metric_made_anew_each_epoch_is_the_one_that_counts(tmp_path: Path) -> None:
    import torchmetrics

    class Anew(WithMetrics):
        def on_train_epoch_start(self) -> None:
            self.mean = torchmetrics.MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.mean.update(float(self.current_epoch))
            self.log("mean", self.mean, on_step=False, on_epoch=True)
            return Net.training_step(self, batch, batch_idx)

    assert plain(fit(tmp_path, Anew(), max_epochs=3).callback_metrics) == {"mean": 2.0}


@pytest.mark.parametrize("second", ["metric", "number"])
def test_two_metrics_under_one_name(tmp_path: Path, second: str) -> None:
    class Two(WithMetrics):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.mean.update(1.0)
            self.log("mean", self.mean)
            self.log("mean", self.val_mean if second == "metric" else 1.0)
            return Net.training_step(self, batch, batch_idx)

    assert message_of(lambda: fit(tmp_path, Two())) == (
        "self.log('mean', ...) in training_step: another Metric has this name; rename one"
    )


def test_a_second_module_logs_as_if_it_were_the_first(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    first, second = WithMetrics(), WithMetrics()
    t.fit(first, data())
    t.fit_loop.progress.epoch = 0
    t.fit(second, data())
    assert plain(t.callback_metrics) == {"mean": 1.0, "mean_epoch": 1.0, "mean_step": 2.0}
    t.fit_loop.progress.epoch = 0
    t.fit(logging_in("training_step", name="mean", prog_bar=True)(), data())
    assert plain(t.callback_metrics) == plain(t.progress_bar_metrics) == {"mean": 1.0}


def test_a_metric_that_is_not_one_number(tmp_path: Path) -> None:
    from torchmetrics.classification import MulticlassConfusionMatrix

    class Matrix(Net):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = MulticlassConfusionMatrix(2)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.matrix.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
            self.log("matrix", self.matrix)

    assert message_of(lambda: fit(tmp_path, Matrix(), data(6))) == (
        "self.log('matrix', ...): MulticlassConfusionMatrix computes shape (2, 2), not one number; call its compute() "
        "and reset() in an *_epoch_end hook and log the numbers wanted"
    )


# ------------------------------------------------------------------ errors

KINDS = "expected a number, a tensor with one element or a torchmetrics Metric"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"value": torch.ones(3)},
            "self.log('x', ...): expected a tensor with one element, got shape (3,); reduce it first, e.g. with "
            ".mean()",
        ),
        ({"value": None}, f"self.log('x', ...): {KINDS}, got NoneType"),
        ({"value": "a"}, f"self.log('x', ...): {KINDS}, got str"),
        ({"value": [1.0]}, f"self.log('x', ...): {KINDS}, got list"),
        ({"value": {"a": 1}}, f"self.log('x', ...): {KINDS}, got dict; use self.log_dict for several"),
        ({"value": np.ones(2)}, f"self.log('x', ...): {KINDS}, got ndarray"),
        ({"name": 1}, "self.log(1, ...): the name must be a string"),
        ({"name": ""}, "self.log('', ...): the name must be a string"),
        (
            {"reduce_fx": "maxx"},
            "self.log('x', reduce_fx='maxx'): expected one of mean, sum, min, max; for anything else log a "
            "torchmetrics Metric; did you mean 'max'?",
        ),
        (
            {"on_step": False, "on_epoch": False},
            "self.log('x', on_step=False, on_epoch=False): that logs nothing; set one of them",
        ),
    ],
)
def test_what_cannot_be_logged(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    assert message_of(lambda: fit(tmp_path, logging_in("training_step", **arguments)())) == message


def test_a_name_keeps_its_arguments(tmp_path: Path) -> None:
    class Changing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0, prog_bar=batch_idx > 0)
            return super().training_step(batch, batch_idx)

    rest = "logger=None, on_step=None, on_epoch=None, reduce_fx='mean', add_dataloader_idx=True"
    assert message_of(lambda: fit(tmp_path, Changing())) == (
        f"self.log('x', ...) in training_step: called before with prog_bar=False, {rest}, now with prog_bar=True, "
        f"{rest}; a name keeps its arguments"
    )


def test_a_batch_that_tells_no_size(tmp_path: Path) -> None:
    class Texts(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0, on_epoch=True)
            return self.layer(torch.ones(1, 2)).mean()

    t = trainer(tmp_path)
    assert message_of(lambda: t.fit(Texts(), [["a", "b"], ["c"]])) == (
        "self.log(...): the batch (a list) holds no tensor that would tell its size; pass it: "
        "self.log(..., batch_size=...)"
    )
