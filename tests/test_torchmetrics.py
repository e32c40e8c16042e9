"""torchmetrics objects: each place that logs one gets its own values, and a resumed run has all that they held."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric, MetricCollection, MetricTracker, aggregation, classification, regression, wrappers

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.checkpoint import files
from lightkit.errors import CheckpointError, ConfigError

STEPS = 4  # batches of two in an epoch


def data(batches: int = STEPS, seed: int = 0) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(torch.rand(2 * batches, 2, generator=generator)), batch_size=2)


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(root: Path, **arguments: Any) -> lk.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "logger": False, "num_sanity_val_steps": 0,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def plain(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def message_of(run: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        run()
    return str(caught.value)


# ------------------------------------------------------------------ one object, one place


class Shared(Net):
    """One metric for training and validation."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.mean(float(batch_idx))
        self.log("t", self.mean, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.mean(100.0)
        self.log("v", self.mean)


def shared_message(name: str, hook: str, other: str, other_hook: str) -> str:
    return (
        f"self.log({name!r}, ...) in {hook}: the same MeanMetric is logged as {other!r} in {other_hook}, and each "
        "would hold the other's values; give each place a metric of its own, e.g. metric.clone()"
    )


def test_one_metric_for_training_and_validation_is_refused(tmp_path: Path) -> None:
    message = message_of(lambda: trainer(tmp_path).fit(Shared(), data(), data(2)))
    assert message == shared_message("v", "validation_step", "t", "training_step")


def test_after_the_sanity_check_it_is_refused_in_the_first_training_step(tmp_path: Path) -> None:
    t = trainer(tmp_path, num_sanity_val_steps=1)
    message = message_of(lambda: t.fit(Shared(), data(), data(2)))
    assert message == shared_message("t", "training_step", "v", "validation_step")
    assert t.global_step == 0


def test_a_metric_that_is_reset_before_it_is_logged_again_is_refused(tmp_path: Path) -> None:
    class Late(Shared):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return Net.training_step(self, batch, batch_idx)

        def on_train_epoch_end(self) -> None:
            self.log("best", self.mean)

    message = message_of(lambda: trainer(tmp_path).fit(Late(), data(), data(2)))
    assert message == shared_message("best", "on_train_epoch_end", "v", "validation_step")


class Validating(Net):
    """A metric of the validation's, and one of the training's."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.val = MeanMetric(), MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen(float(batch_idx))
        self.log("seen", self.seen, on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.val(float(batch_idx + 10 * self.current_epoch))
        self.log("val", self.val)


def test_a_validation_inside_a_hook_of_the_fit_leaves_each_its_values(tmp_path: Path) -> None:
    found = []

    class Asks(lk.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 1:
                found.append(trainer.validate(pl_module, data(3), verbose=False))

    t = trainer(tmp_path, max_epochs=2, callbacks=[Asks()])
    t.fit(Validating(), data(), data(2))
    assert found == [[{"val": 1.0}], [{"val": 11.0}]]
    assert plain(t.callback_metrics) == {"seen": 1.5, "seen_step": 3.0, "seen_epoch": 1.5, "val": 10.5}


def test_a_validation_inside_of_one_that_logs_the_same_metric_is_refused(tmp_path: Path) -> None:
    class Asks(lk.Callback):
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.validate(pl_module, data(3), verbose=False)

    message = message_of(lambda: trainer(tmp_path, callbacks=[Asks()]).fit(Validating(), data(), data(2)))
    assert message == shared_message("val", "validation_step", "val", "validation_step")


# ------------------------------------------------------------------ several loaders


class Loaders(Net):
    """One metric over several validation loaders; `names` are what it is logged as."""

    names: tuple[tuple[str, bool], ...] = (("m", True),)

    def __init__(self) -> None:
        super().__init__()
        self.mean = MeanMetric()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.mean.update(float(batch_idx + 10 * dataloader_idx))
        for name, add in self.names:
            self.log(name.format(dataloader_idx), self.mean, add_dataloader_idx=add)


def validated(root: Path, kind: type[Net]) -> dict[str, float]:
    t = trainer(root)
    t.validate(kind(), [data(2), data(3)], verbose=False)
    return plain(t.callback_metrics)


def test_each_loader_has_its_own_value_of_one_metric(tmp_path: Path) -> None:
    assert validated(tmp_path, Loaders) == {"m/dataloader_idx_0": 0.5, "m/dataloader_idx_1": 11.0}


def test_one_metric_under_two_names_has_the_same_value_in_each(tmp_path: Path) -> None:
    class Two(Loaders):
        names = (("m", True), ("n", True))

    found = {f"{name}/dataloader_idx_{i}": value for name in "mn" for i, value in enumerate((0.5, 11.0))}
    assert validated(tmp_path, Two) == found


def test_a_name_without_the_loader_s_number_pools_all_loaders(tmp_path: Path) -> None:
    class Pooled(Loaders):
        names = (("m", False), ("n", False))

    pooled = (0 + 1 + 10 + 11 + 12) / 5
    assert validated(tmp_path, Pooled) == pytest.approx({"m": pooled, "n": pooled})


@pytest.mark.parametrize(
    ("given", "name", "other"), [((("m{}", False),), "m0", "m1"), ((("m", True), ("n", False)), "m", "n")]
)
def test_one_metric_for_one_loader_and_for_others_is_refused(tmp_path: Path, given: Any, name: str, other: str) -> None:
    class Mixed(Loaders):
        names = given

    assert message_of(lambda: validated(tmp_path, Mixed)) == (
        f"self.log({name!r}, ...) in validation_step: the same MeanMetric is logged as {other!r} in validation_step "
        "for other dataloaders, and holds the values of all of them; give each dataloader a metric of its own"
    )


def test_a_metric_of_each_loader_logged_once_more_for_all_is_refused(tmp_path: Path) -> None:
    class AtTheEnd(Loaders):
        def on_validation_epoch_end(self) -> None:
            self.log("all", self.mean)

    assert message_of(lambda: validated(tmp_path, AtTheEnd)) == (
        "self.log('all', ...) in on_validation_epoch_end: the same MeanMetric is logged as 'm' in validation_step for "
        "each dataloader, and holds the last one's values alone; give the value over all a metric of its own"
    )


def test_a_metric_of_one_loader_alone_holds_its_values_when_all_are_done(tmp_path: Path) -> None:
    class First(Loaders):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            if dataloader_idx == 0:
                super().validation_step(batch, batch_idx, dataloader_idx)

        def on_validation_epoch_end(self) -> None:
            self.log("again", self.mean)
            self.log("computed", self.mean.compute())

    assert validated(tmp_path, First) == {"m/dataloader_idx_0": 0.5, "again": 0.5, "computed": 0.5}


# ------------------------------------------------------------------ odd metrics


class Logs(Net):
    """Logs a metric in each validation step, which may update it."""

    def __init__(self, metric: Any, update: Callable[[Any], object] = lambda metric: None) -> None:
        super().__init__()
        self.metric, self.update = metric, update

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.update(self.metric)
        self.log("m", self.metric)


def test_a_metric_that_was_never_updated_warns_as_torchmetrics_does(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    with pytest.warns(UserWarning, match="The ``compute`` method of metric SumMetric was called before the ``update``"):
        t.validate(Logs(torchmetrics.SumMetric()), data(2), verbose=False)
    assert plain(t.callback_metrics) == {"m": 0.0}


def test_one_that_computes_nothing_without_an_update_is_left_out(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t.validate(Logs(classification.BinaryAUROC()), data(2), verbose=False)
    assert plain(t.callback_metrics) == {}
    assert "self.log('m', ...): this BinaryAUROC was never updated and has no value: No samples to concatenate" in [
        str(warning.message) for warning in caught
    ]


def test_an_error_of_the_metric_s_own_is_not_hidden(tmp_path: Path) -> None:
    class Broken(MeanMetric):
        def compute(self) -> Tensor:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        trainer(tmp_path).validate(Logs(Broken(), lambda metric: metric.update(1.0)), data(2), verbose=False)


def test_a_metric_that_computes_a_dict_says_how_to_log_it(tmp_path: Path) -> None:
    module = Logs(wrappers.MinMaxMetric(MeanMetric()), lambda metric: metric.update(1.0))
    assert message_of(lambda: trainer(tmp_path).validate(module, data(2), verbose=False)) == (
        "self.log('m', ...): MinMaxMetric computes a dict, not one number; in an *_epoch_end hook, hand its compute() "
        "to self.log_dict and reset() it"
    )


@pytest.mark.parametrize(
    ("metric", "hint"),
    [
        (MetricCollection([MeanMetric()]), "MetricCollection; use self.log_dict for several"),
        (MetricTracker(MeanMetric(), maximize=True), "MetricTracker; log the number that its compute() gives"),
    ],
)
def test_what_is_no_metric_but_holds_some_says_how_to_log_it(tmp_path: Path, metric: Any, hint: str) -> None:
    assert message_of(lambda: trainer(tmp_path).validate(Logs(metric), data(2), verbose=False)) == (
        f"self.log('m', ...): expected a number, a tensor with one element or a torchmetrics Metric, got {hint}"
    )


def test_a_collection_is_logged_without_a_copy_of_what_its_metrics_share(tmp_path: Path) -> None:
    class Collects(Net):
        def __init__(self) -> None:
            super().__init__()
            kinds = {"auroc": classification.BinaryAUROC(), "ap": classification.BinaryAveragePrecision()}
            self.both = MetricCollection(kinds)
            self.shared: list[bool] = []

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.both.update(batch[0][:, 0], torch.tensor([0, 1]))
            self.log_dict(self.both)
            metrics = dict(self.both.items(copy_state=False))
            self.shared.append(metrics["auroc"].preds is metrics["ap"].preds)

    module = Collects()
    trainer(tmp_path).validate(module, data(3), verbose=False)
    assert module.shared == [True] * 3


# ------------------------------------------------------------------ resume


class Counting(torchmetrics.Metric):
    """Keeps some of what it saw outside of add_state."""

    def __init__(self, name: str = "n") -> None:
        super().__init__()
        self.name, self.values, self.by_sign, self.last = name, [], {}, None
        self.add_state("sum", torch.tensor(0.0))

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.values.append(float(preds.sum()))
        self.by_sign[bool(preds.sum() > 0.5)] = len(self.values)
        self.last = preds
        self.sum += preds.sum()

    def compute(self) -> Tensor:
        return self.sum + sum(self.values) + 100 * len(self.by_sign) + self.last.sum()


def tracked(metric: Any) -> Callable[[], Any]:
    return lambda: MetricTracker(metric(), maximize=[True, True] if metric is errors else True)


def errors() -> MetricCollection:
    """Two that share their state, to which each adds in place."""
    return MetricCollection({"mse": regression.MeanSquaredError(), "rmse": regression.MeanSquaredError(squared=False)})


KINDS: dict[str, Callable[[], Any]] = {
    "state": regression.MeanSquaredError,
    "lists": lambda: classification.BinaryAUROC(),
    "group": errors,
    "boot": lambda: wrappers.BootStrapper(regression.MeanSquaredError(), num_bootstraps=3),
    "classwise": lambda: wrappers.ClasswiseWrapper(classification.MulticlassAccuracy(2, average=None)),
    "minmax": lambda: wrappers.MinMaxMetric(regression.MeanSquaredError()),
    "outputs": lambda: wrappers.MultioutputWrapper(regression.MeanSquaredError(), 1),
    "tasks": lambda: wrappers.MultitaskWrapper({"a": regression.MeanSquaredError(), "b": errors()}),
    "running": lambda: wrappers.Running(regression.MeanSquaredError(), window=3),
    "running_mean": lambda: aggregation.RunningMean(3),
    "tracker": tracked(regression.MeanSquaredError),
    "tracker_of_several": tracked(errors),
    "transformer": lambda: wrappers.LambdaInputTransformer(regression.MeanSquaredError(), lambda preds: preds + 1),
    "sum_of_two": lambda: regression.MeanSquaredError() + regression.MeanAbsoluteError(),
    "own_attributes": Counting,
    "in_modules": lambda: nn.ModuleDict({"a": regression.MeanSquaredError(), "b": nn.ModuleList([errors()])}),
    "in_list": lambda: [1.0, regression.MeanSquaredError(), {"deep": wrappers.MinMaxMetric(MeanMetric())}],
    "in_dict": lambda: {"n": 1.0, "metric": (errors(),)},
}


def metrics_in(held: Any) -> Iterator[Any]:
    if isinstance(held, (list, tuple, nn.ModuleList)) and not isinstance(held, MetricTracker):
        for item in held:
            yield from metrics_in(item)
    elif isinstance(held, (dict, nn.ModuleDict)) and not isinstance(held, MetricCollection):
        for item in held.values():
            yield from metrics_in(item)
    elif hasattr(held, "compute"):
        yield held


def update(metric: Any, x: Tensor) -> None:
    if isinstance(metric, wrappers.MultitaskWrapper):
        metric.update(*({"a": x[:, i], "b": x[:, i]} for i in (0, 1)))
    elif isinstance(metric, wrappers.ClasswiseWrapper):
        metric.update(x, torch.tensor([0, 1]))
    elif isinstance(metric, classification.BinaryAUROC):
        metric.update(x[:, 0], torch.tensor([0, 1]))
    elif isinstance(metric, wrappers.MultioutputWrapper):
        metric.update(x[:, :1], x[:, 1:])
    elif isinstance(metric, aggregation.RunningMean) or "MeanMetric" in repr(metric):
        metric.update(x)
    else:
        metric.update(x[:, 0], x[:, 1])


class Holds(Net):
    """Updates metrics in each step, and notes what they compute; some are kept over the epochs, some reset."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.held = kind, KINDS[kind]()
        self.seen: list[str] = []

    def on_train_epoch_start(self) -> None:
        for metric in metrics_in(self.held):
            if isinstance(metric, MetricTracker):
                metric.increment()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for metric in metrics_in(self.held):
            update(metric, batch[0])
            result = metric.best_metric() if isinstance(metric, MetricTracker) else metric.compute()
            self.seen.append(f"{self.global_step} {result}")
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        for metric in metrics_in(self.held):
            metric.reset() if self.current_epoch != 1 else None


class Stops(lk.Callback):
    """Saves after a step, or after an epoch, and ends the run there."""

    def __init__(self, hook: str, step: int, path: Path) -> None:
        self.hook, self.step, self.path = hook, step, path

    def save(self, trainer: lk.Trainer) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if self.hook == "batch":
            self.save(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self.hook == "epoch":
            self.save(trainer)


@pytest.mark.filterwarnings("ignore:The ``compute`` method", "ignore:Encountered nested structure")
@pytest.mark.parametrize(("hook", "step"), [("batch", 6), ("epoch", 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_has_all_that_a_metric_held(tmp_path: Path, kind: str, hook: str, step: int) -> None:
    def fit(module: Holds, *callbacks: lk.Callback, **arguments: Any) -> list[str]:
        lk.seed_everything(3)
        trainer(tmp_path, max_epochs=3, callbacks=[*callbacks]).fit(module, data(), **arguments)
        return module.seen

    whole = fit(Holds(kind))
    path = tmp_path / "saved.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(Holds(kind), Stops(hook, step, path))
    assert whole and fit(Holds(kind), ckpt_path=path) == [line for line in whole if int(line.split()[0]) >= step]


def test_what_a_resumed_metric_is_told_anew_is_not_overwritten(tmp_path: Path) -> None:
    class Thresholds(Net):
        def __init__(self, threshold: float) -> None:
            super().__init__()
            self.accuracy = classification.BinaryAccuracy(threshold)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.accuracy.update(batch[0][:, 0], torch.tensor([0, 1]))
            return super().training_step(batch, batch_idx)

    t = trainer(tmp_path)
    t.fit(Thresholds(0.5), data())
    t.save_checkpoint(tmp_path / "a.ckpt")
    second = Thresholds(0.9)
    trainer(tmp_path, max_epochs=2).fit(second, data(), ckpt_path=tmp_path / "a.ckpt")
    assert second.accuracy.threshold == 0.9 and second.accuracy._update_count == 2 * STEPS


@pytest.mark.parametrize("steps", [-1, 2, 10**12])
def test_more_steps_of_a_tracker_than_a_checkpoint_holds_are_refused(tmp_path: Path, steps: int) -> None:
    t, path = trainer(tmp_path), tmp_path / "a.ckpt"
    t.fit(Holds("tracker"), data())
    t.save_checkpoint(path)
    checkpoint = files.load(path)
    assert checkpoint["loop"]["metrics"]["held"]["steps"] == 1
    checkpoint["loop"]["metrics"]["held"]["steps"] = steps + 1 if steps > 0 else steps
    files.save(checkpoint, path)
    with pytest.raises(CheckpointError) as caught:
        trainer(tmp_path, max_epochs=2).fit(Holds("tracker"), data(), ckpt_path=path)
    assert str(caught.value) == (
        f"{path}: checkpoint['loop']['metrics']['held']: expected as many steps as there are metrics of them, found "
        f"{steps + 1 if steps > 0 else steps}"
    )


def test_what_a_checkpoint_says_beside_a_metric_s_own_attributes_is_not_taken(tmp_path: Path) -> None:
    t, path = trainer(tmp_path), tmp_path / "a.ckpt"
    t.fit(Holds("minmax"), data())
    t.save_checkpoint(path)
    checkpoint = files.load(path)
    saved = checkpoint["loop"]["metrics"]["held"]
    assert set(saved["attributes"]) == {"min_val", "max_val"}
    saved["attributes"].update(update=1, _modules={}, __class__=1, forward=None)
    saved["state"]["other"] = torch.tensor(1.0)
    files.save(checkpoint, path)
    module = Holds("minmax")
    trainer(tmp_path, max_epochs=2).fit(module, data(), ckpt_path=path)
    assert len(module.seen) == STEPS and not hasattr(module.held, "other")


class Unsaved(MeanMetric):
    def __init__(self) -> None:
        super().__init__()
        self.recent: collections.deque[float] = collections.deque(maxlen=3)

    def update(self, value: float) -> None:  # type: ignore[override]
        self.recent.append(value)
        super().update(value)


def test_an_attribute_that_no_checkpoint_holds_is_named_in_a_warning(tmp_path: Path) -> None:
    class Updates(Net):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Unsaved()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.odd.update(float(batch_idx))
            return super().training_step(batch, batch_idx)

    saves = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=2)
    t = trainer(tmp_path, callbacks=[saves], enable_checkpointing=True)
    with pytest.warns(UserWarning) as caught:
        t.fit(Updates(), data())
    assert [str(warning.message) for warning in caught] == [
        "odd (Unsaved): its attribute recent, a deque, has changed and is left out of checkpoints; a resumed run goes "
        "on without it. Use add_state, numbers, tensors, lists or dicts"
    ]


def test_a_metric_outside_of_the_module_is_named_and_its_run_can_be_resumed(tmp_path: Path) -> None:
    class Meters(lk.Callback):
        def __init__(self) -> None:
            self.mean = MeanMetric()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.mean.update(float(batch_idx))
            pl_module.log("mean", self.mean, on_step=False, on_epoch=True)

    path = tmp_path / "a.ckpt"
    with pytest.warns(UserWarning) as caught, pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, callbacks=[Meters(), Stops("batch", 2, path)]).fit(Net(), data())
    assert [str(warning.message) for warning in caught] == [
        "self.log('mean', ...) in on_train_batch_end: this MeanMetric is not in the module, so checkpoints leave out "
        "what it holds; assign it to an attribute in __init__"
    ]
    t = trainer(tmp_path, callbacks=[Meters()])
    t.fit(Net(), data(), ckpt_path=path)
    assert plain(t.callback_metrics) == {"mean": 2.5}, "of what came after the resume"


def test_a_metric_that_is_gone_at_the_resume_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, callbacks=[Stops("batch", 2, tmp_path / "a.ckpt")]).fit(Holds("state"), data())
    with pytest.warns(UserWarning) as caught:
        trainer(tmp_path).fit(Net(), data(), ckpt_path=tmp_path / "a.ckpt")
    assert [str(w.message) for w in caught] == [
        "the checkpoint has values of metrics that Net lacks: held; they are lost"
    ]


# ------------------------------------------------------------------ around validations


class History(Net):
    """Metrics of the validation that the module itself keeps: some over all validations."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = MetricTracker(MeanMetric(), maximize=True)
        self.extremes = wrappers.MinMaxMetric(MeanMetric())
        self.all, self.each = torchmetrics.CatMetric(), MeanMetric()
        self.seen: list[Any] = []

    def on_validation_epoch_start(self) -> None:
        self.tracker.increment()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        value = float(batch[0].sum()) * (1 + self.current_epoch)
        for metric in (self.tracker, self.extremes, self.all, self.each):
            metric.update(value)

    def on_validation_epoch_end(self) -> None:
        found = [self.tracker.compute_all(), self.extremes.compute(), self.all.compute(), self.each.compute()]
        self.seen.append(str(found))
        self.each.reset()
        self.extremes.reset()


def test_the_sanity_check_leaves_nothing_in_a_metric(tmp_path: Path) -> None:
    without, checked = History(), History()
    trainer(tmp_path, max_epochs=2).fit(without, data(), data(2, seed=1))
    trainer(tmp_path, max_epochs=2, num_sanity_val_steps=2).fit(checked, data(), data(2, seed=1))
    assert len(without.seen) == 2 and checked.seen[1:] == without.seen


@pytest.mark.parametrize("hook", ["on_validation_batch_end", "on_validation_end"])
def test_a_run_saved_inside_of_a_validation_repeats_it_with_metrics_as_before(tmp_path: Path, hook: str) -> None:
    class Saves(lk.Callback):
        def save(self, trainer: lk.Trainer) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "a.ckpt")
                raise KeyboardInterrupt

        def on_validation_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            if hook == "on_validation_batch_end":
                self.save(trainer)

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if hook == "on_validation_end":
                self.save(trainer)

    whole, resumed = History(), History()
    trainer(tmp_path, max_epochs=3).fit(whole, data(), data(2, seed=1))
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, max_epochs=3, callbacks=[Saves()]).fit(History(), data(), data(2, seed=1))
    trainer(tmp_path, max_epochs=3).fit(resumed, data(), data(2, seed=1), ckpt_path=tmp_path / "a.ckpt")
    assert resumed.seen == whole.seen[1 if hook == "on_validation_batch_end" else 2 :]
