"""How long a fit runs, when it validates, on which batches.

The sequences are Lightning 2.6.6's (written down by hand from the same module) where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint
from lightkit.errors import ConfigError, DataError, LightkitError
from lightkit.loggers.base import Logger


def data(batches: int = 4, **options: Any) -> DataLoader[Any]:
    x = torch.arange(8.0 * batches).reshape(4 * batches, 2) / 100
    return DataLoader(TensorDataset(x), batch_size=4, **options)


class Net(lk.LightModule):
    """Writes down its steps: t0 t1 ... for training, V for a validation, E for the end of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.events: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.events.append(f"t{batch_idx}")
        x = batch[0] if isinstance(batch, (list, tuple)) else batch
        return self.layer(x).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.log("val", 1.0)
            if batch_idx == 0:
                self.events.append("V")

    def on_train_epoch_end(self) -> None:
        self.events.append("E")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def said(self) -> str:
        return " ".join(self.events)


def trainer(root: Path, **arguments: Any) -> Any:
    defaults: dict[str, Any] = {
        "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "logger": False,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def said(root: Path, module: Net | None = None, loader: Any = None, val: Any = None, **arguments: Any) -> str:
    module = module or Net()
    t = trainer(root, **{"max_epochs": 1, **arguments})
    t.fit(module, loader if loader is not None else data(), val if val is not None else data(1))
    return module.said()


def message_of(kind: type[LightkitError], run: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        run()
    assert type(caught.value) is kind
    return str(caught.value)


EPOCH = "t0 t1 t2 t3 V E"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_epochs": 0}, ""),
        ({"max_epochs": 2}, f"{EPOCH} {EPOCH}"),
        ({"max_epochs": None, "max_steps": 6}, f"{EPOCH} t0 t1 E"),
        ({"max_epochs": -1, "max_steps": 4}, EPOCH),
        ({"max_epochs": 1, "max_steps": 6}, EPOCH),
        ({"max_epochs": None, "max_steps": 0}, ""),
        ({"max_epochs": None, "max_steps": 3, "val_check_interval": 2}, "t0 t1 V t2 E"),
        ({"max_epochs": 2, "accumulate_grad_batches": 3}, f"{EPOCH} {EPOCH}"),
        ({"max_epochs": None, "max_steps": 3, "accumulate_grad_batches": 3}, f"{EPOCH} t0 t1 t2 E"),
        ({"max_epochs": 2, "min_epochs": 4}, f"{EPOCH} {EPOCH}"),
        ({"max_epochs": 1, "min_steps": 12}, EPOCH),
        # limits
        ({"limit_train_batches": 2}, "t0 t1 V E"),
        ({"limit_train_batches": 0.5}, "t0 t1 V E"),
        ({"limit_train_batches": 0.74}, "t0 t1 V E"),
        ({"limit_train_batches": 1}, "t0 V E"),
        ({"limit_train_batches": 1.0}, EPOCH),
        ({"limit_train_batches": 99}, EPOCH),
        ({"limit_train_batches": 0}, ""),
        ({"limit_train_batches": 0.0}, ""),
        ({"limit_train_batches": 0, "val_check_interval": 9}, ""),
        ({"limit_val_batches": 0, "val_check_interval": 9}, "t0 t1 t2 t3 E"),
        ({"limit_val_batches": 0}, "t0 t1 t2 t3 E"),
        ({"limit_val_batches": 0.0}, "t0 t1 t2 t3 E"),
        # when to validate
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, f"t0 t1 t2 t3 E {EPOCH} t0 t1 t2 t3 E"),
        ({"val_check_interval": 1.0}, EPOCH),
        ({"val_check_interval": 0.5}, "t0 t1 V t2 t3 V E"),
        ({"val_check_interval": 0.25}, "t0 V t1 V t2 V t3 V E"),
        ({"val_check_interval": 3}, "t0 t1 t2 V t3 E"),
        ({"max_epochs": 2, "val_check_interval": 3}, "t0 t1 t2 V t3 E t0 t1 t2 V t3 E"),
        (
            {"max_epochs": 3, "val_check_interval": 3, "check_val_every_n_epoch": None},
            "t0 t1 t2 V t3 E t0 t1 V t2 t3 E t0 V t1 t2 t3 V E",
        ),
        (
            {"max_epochs": 3, "val_check_interval": 6, "check_val_every_n_epoch": None},
            "t0 t1 t2 t3 E t0 t1 V t2 t3 E t0 t1 t2 t3 V E",
        ),
        # lightkit's own: units; Lightning would validate inside the accumulation window
        ({"val_check_interval": 2, "accumulate_grad_batches": 3}, "t0 t1 t2 V t3 V E"),
        ({"val_check_interval": "3step"}, "t0 t1 t2 V t3 E"),
        ({"val_check_interval": "1step", "accumulate_grad_batches": 2}, "t0 t1 V t2 t3 V E"),
        # the short window at an epoch's end is a step
        ({"val_check_interval": "1step", "accumulate_grad_batches": 3}, "t0 t1 t2 V t3 V E"),
        ({"max_epochs": 2, "val_check_interval": "2step", "accumulate_grad_batches": 3}, f"{EPOCH} {EPOCH}"),
        (
            {"max_epochs": 3, "val_check_interval": "3step", "check_val_every_n_epoch": None,
             "accumulate_grad_batches": 3},
            f"t0 t1 t2 t3 E t0 t1 t2 V t3 E {EPOCH}",
        ),
        (
            {"max_epochs": 3, "val_check_interval": "4step", "check_val_every_n_epoch": None,
             "accumulate_grad_batches": 2},
            f"t0 t1 t2 t3 E {EPOCH} t0 t1 t2 t3 E",
        ),
        ({"max_epochs": 3, "val_check_interval": "2epoch"}, f"t0 t1 t2 t3 E {EPOCH} t0 t1 t2 t3 E"),
        ({"max_epochs": 2, "val_check_interval": "2epoch", "check_val_every_n_epoch": None}, f"t0 t1 t2 t3 E {EPOCH}"),
        ({"val_check_interval": "1h"}, "t0 t1 t2 t3 E"),
        ({"max_epochs": 2, "check_val_every_n_epoch": None}, f"{EPOCH} {EPOCH}"),
        ({"val_check_interval": timedelta(microseconds=1)}, "t0 V t1 V t2 V t3 V E"),
    ],
)  # fmt: skip
def test_which_batches_are_trained_and_when_it_validates(
    tmp_path: Path, arguments: dict[str, Any], expected: str
) -> None:
    assert said(tmp_path, **arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"limit_train_batches": 0.1},
            "Trainer(limit_train_batches=0.1): that is less than one of the 4 batches of train_dataloaders; use at "
            "least 0.25 or a count",
        ),
        (
            {"limit_val_batches": 0.5},
            "Trainer(limit_val_batches=0.5): that is less than one of the 1 batches of val_dataloader(); use at least "
            "1 or a count",
        ),
        (
            {"val_check_interval": "5step"},
            "Trainer(val_check_interval='5step'): an epoch has only 4 steps; use at most that, or "
            "check_val_every_n_epoch=None to count over epochs",
        ),
        (
            {"val_check_interval": "3step", "accumulate_grad_batches": 3},
            "Trainer(val_check_interval='3step'): an epoch has only 2 steps; use at most that, or "
            "check_val_every_n_epoch=None to count over epochs",
        ),
    ],
)
def test_limits_that_leave_nothing(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    assert message_of(ConfigError, lambda: said(tmp_path, **arguments)) == message


class StopAt(lk.Callback):
    """Saves after a batch, before the validation that may be due, and ends the run there."""

    def __init__(self, batches: int, path: Path):
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches -= 1
        if self.batches == 0:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.parametrize("check_every", [1, None])
@pytest.mark.parametrize("interval", ["1step", "2step", "2epoch", 2, 3, 0.5])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_stopped_after_a_step_it_validates_where_the_uninterrupted_run_does(
    tmp_path: Path, accumulate: int, interval: Any, check_every: int | None
) -> None:
    arguments: dict[str, Any] = {"val_check_interval": interval, "check_val_every_n_epoch": check_every}
    arguments |= {"accumulate_grad_batches": accumulate, "max_epochs": 3}
    whole, path = said(tmp_path, **arguments), tmp_path / "stop.ckpt"
    assert "V" in whole
    steps = [n for n in range(1, 13) if n % 4 == 0 or n % 4 % accumulate == 0]
    for stop in steps:
        first, second = Net(), Net()
        with pytest.raises(KeyboardInterrupt):
            said(tmp_path, first, callbacks=[StopAt(stop, path)], **arguments)
        trainer(tmp_path, **arguments).fit(second, data(), data(1), ckpt_path=path)
        assert " ".join(first.events + second.events) == whole


# ------------------------------------------------------------------ stopping


def stopping(hook: str, at: int = 0) -> Net:
    """A module that asks to stop in a hook; in hooks of a batch at that batch."""

    def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        parent = getattr(Net, hook)(self, *args, **kwargs)
        index = next((a for a in args if isinstance(a, int)), at)
        if index == at and not self.trainer.sanity_checking:
            self.trainer.should_stop = True
        return parent

    return type("Stopping", (Net,), {hook: ask})()


@pytest.mark.parametrize(
    ("hook", "at", "arguments", "expected"),
    [
        ("on_train_batch_end", 1, {}, "t0 t1 V E"),
        ("training_step", 1, {}, "t0 t1 V E"),
        ("on_train_batch_start", 1, {}, "t0 t1 V E"),
        ("on_train_epoch_start", 0, {}, "E"),
        ("on_train_epoch_end", 0, {}, EPOCH),
        ("on_train_start", 0, {}, ""),
        ("on_validation_epoch_end", 0, {"val_check_interval": 2}, "t0 t1 V E"),
        ("on_train_batch_end", 1, {"min_epochs": 2}, f"{EPOCH} {EPOCH}"),
        ("on_train_batch_end", 1, {"min_steps": 6}, f"{EPOCH} t0 t1 V E"),
        ("on_train_epoch_end", 0, {"min_epochs": 2}, f"{EPOCH} {EPOCH}"),
        ("on_train_epoch_end", 0, {"min_steps": 6}, f"{EPOCH} t0 t1 V E"),
        ("on_train_batch_end", 1, {"min_steps": 3}, "t0 t1 t2 V E"),  # Lightning goes on to the end of the epoch
        # the window is finished first, so that no gradient is thrown away; Lightning leaves it open: "t0 V E"
        ("on_train_batch_end", 0, {"accumulate_grad_batches": 3}, "t0 t1 t2 V E"),
        ("on_train_batch_end", 0, {"check_val_every_n_epoch": 2}, "t0 E"),
    ],
)
def test_should_stop(tmp_path: Path, hook: str, at: int, arguments: dict[str, Any], expected: str) -> None:
    assert said(tmp_path, stopping(hook, at), **{"max_epochs": 3, **arguments}) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"patience": 2}, " ".join([EPOCH] * 3)),
        ({"patience": 0}, " ".join([EPOCH] * 2)),
        ({"patience": 1, "val_check_interval": 0.5}, "t0 t1 V t2 t3 V E"),
        ({"patience": 1, "min_epochs": 5}, " ".join([EPOCH] * 5)),
        ({"patience": 1, "min_steps": 10}, f"{EPOCH} {EPOCH} t0 t1 V E"),
    ],
)
def test_early_stopping(tmp_path: Path, arguments: dict[str, Any], expected: str) -> None:
    callback = EarlyStopping("val", patience=arguments.pop("patience"))
    assert said(tmp_path, callbacks=[callback], max_epochs=10, **arguments) == expected


@pytest.mark.parametrize(
    ("at", "accumulate", "expected", "steps"),
    [(2, 1, "t0 t1 E t0 t1 E", 4), (0, 1, "E E", 0), (1, 2, "t0 E t0 E", 2)],
)
def test_minus_one_skips_the_rest_of_the_epoch(
    tmp_path: Path, at: int, accumulate: int, expected: str, steps: int
) -> None:
    class Skipping(Net):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == at else None

    t, module = trainer(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate), Skipping()
    t.fit(module, data(), data(1))
    assert (module.said(), t.current_epoch) == (expected, 2)
    assert t.global_step == steps, "an open window is stepped with what it holds; Lightning throws it away"


def test_max_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path, max_epochs=-1, max_time=timedelta(0)) == ""
    assert said(tmp_path, max_epochs=2, max_time="1h") == f"{EPOCH} {EPOCH}"
    assert said(tmp_path, max_epochs=-1, max_time={"microseconds": 1}, min_epochs=2) == f"{EPOCH} {EPOCH}"


@pytest.mark.parametrize(
    ("arguments", "max_epochs"), [({"max_steps": 5}, None), ({"max_time": "00:00:01:00"}, None), ({"max_epochs": 3}, 3)]
)
def test_what_limits_a_run(tmp_path: Path, arguments: dict[str, Any], max_epochs: int | None) -> None:
    assert trainer(tmp_path, **arguments).max_epochs == max_epochs


def test_a_run_that_nothing_limits_has_1000_epochs_and_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning) as caught:
        assert trainer(tmp_path).max_epochs == 1000
    assert [str(w.message) for w in caught] == [
        "Trainer(): nothing limits the training; max_epochs=1000 is used, -1 means no limit"
    ]


def test_fit_goes_on_where_the_last_fit_ended(tmp_path: Path) -> None:
    module, t = Net(), trainer(tmp_path, max_epochs=1)
    t.fit(module, data(2))
    t.fit(module, data(2))
    assert (module.said(), t.global_step, t.current_epoch) == ("t0 t1 E", 2, 1)
    t.max_epochs = 2
    t.fit(module, data(2))
    assert (module.said(), t.global_step, t.current_epoch) == ("t0 t1 E t0 t1 E", 4, 2)


def test_after_a_stop_inside_an_epoch_the_next_fit_begins_the_next_epoch(tmp_path: Path) -> None:
    seen: list[float] = []

    class Seeing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(float(batch[0][0, 0]))
            return super().training_step(batch, batch_idx)

    module, t = Seeing(), trainer(tmp_path, max_epochs=2, max_steps=2)
    t.fit(module, data())
    t.max_steps = -1
    t.fit(module, data())
    assert (module.said(), t.global_step, t.current_epoch) == ("t0 t1 E t0 t1 t2 t3 E", 6, 2)
    assert seen == pytest.approx([0.0, 0.08, 0.0, 0.08, 0.16, 0.24])


# ------------------------------------------------------------------ runs for trying out


@pytest.mark.parametrize(("value", "expected"), [(True, "t0 V E"), (1, "t0 V E"), (3, "t0 t1 t2 V E")])
def test_fast_dev_run_runs_everything_once_and_writes_nothing(tmp_path: Path, value: Any, expected: str) -> None:
    class Logging(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0)
            self.logger.experiment.add_histogram("weights", self.layer.weight, 0)
            self.logger.experiment.anything["at all"].works()
            self.logger.log_metrics({"a": 1.0}, 0)
            self.logger.log_hyperparams({"a": 1})
            return super().training_step(batch, batch_idx)

        test_step = Net.validation_step

    module = Logging()
    t = lk.Trainer(fast_dev_run=value, accelerator="cpu", max_epochs=9, enable_progress_bar=False)
    t.fit(module, data(), data())
    assert module.said() == expected
    assert (t.max_epochs, t.max_steps, t.num_sanity_val_steps) == (1, int(value), 0)
    t.test(module, data(), verbose=False)
    assert t.num_test_batches == t.num_val_batches == [int(value)]
    assert list(tmp_path.iterdir()) == [], "the working directory of a test"


def test_overfit_batches_takes_the_first_batches_in_order_every_epoch(tmp_path: Path) -> None:
    seen: list[tuple[str, list[float]]] = []

    class Seeing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(("t", batch[0][:, 0].tolist()))
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen.append(("v", batch[0][:, 0].tolist()))

    def loader(start: float) -> DataLoader[Any]:
        return DataLoader(TensorDataset(start + torch.arange(16.0).reshape(8, 2)), batch_size=2, shuffle=True)

    t = trainer(tmp_path, max_epochs=2, overfit_batches=2)
    t.fit(Seeing(), loader(0.0), loader(100.0))
    epoch = [("t", [0.0, 2.0]), ("t", [4.0, 6.0]), ("v", [100.0, 102.0]), ("v", [104.0, 106.0])]
    assert seen == epoch * 2
    assert (t.num_training_batches, t.num_val_batches) == (2, [2])


def test_barebones_does_nothing_but_train_and_validate(tmp_path: Path) -> None:
    module = Net()
    t = lk.Trainer(barebones=True, max_epochs=1, accelerator="cpu")
    t.fit(module, data(), data(1))
    assert module.said() == EPOCH
    assert (t.callbacks, t.loggers, t.log_every_n_steps, t.num_sanity_val_steps) == ([], [], 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_detect_anomaly_finds_the_operation_and_is_off_afterwards(tmp_path: Path) -> None:
    class Broken(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert torch.is_anomaly_enabled()
            return (self.layer(batch[0]) * 0).sqrt().mean()

    with pytest.warns(UserWarning, match="Error detected in MulBackward0"), pytest.raises(
        RuntimeError, match="^Function 'MulBackward0' returned nan values in its 0th output.$"
    ):  # fmt: skip
        said(tmp_path, Broken(), detect_anomaly=True)
    assert not torch.is_anomaly_enabled()


# ------------------------------------------------------------------ the sanity check


@pytest.mark.parametrize(("steps", "expected"), [(None, 2), (0, 0), (1, 1), (5, 3), (-1, 3)])
def test_the_sanity_check(tmp_path: Path, steps: int | None, expected: int) -> None:
    seen: list[tuple[bool, int, int]] = []

    class Seeing(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen.append((self.trainer.sanity_checking, batch_idx, self.global_step))
            self.log("val", 1.0)

        def on_train_start(self) -> None:
            assert self.trainer.callback_metrics == self.trainer.logged_metrics == {}

    said(tmp_path, Seeing(), data(1), data(3), num_sanity_val_steps=steps)
    assert seen == [(True, i, 0) for i in range(expected)] + [(False, i, 1) for i in range(3)]


# ------------------------------------------------------------------ loaders


class Unsized(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(torch.arange(32.0).reshape(16, 2) / 100)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_epochs": 2}, f"{EPOCH} {EPOCH}"),
        ({"max_epochs": 2, "limit_train_batches": 2}, "t0 t1 V E t0 t1 V E"),
        ({"limit_train_batches": 10}, EPOCH),  # Lightning waits for the tenth batch and never validates
        ({"val_check_interval": 2}, "t0 t1 V t2 t3 V E"),
        ({"val_check_interval": 3}, "t0 t1 t2 V t3 E"),
        ({"accumulate_grad_batches": 3}, EPOCH),
        ({"max_epochs": -1, "max_steps": 6}, f"{EPOCH} t0 t1 E"),
        ({"max_epochs": 2, "check_val_every_n_epoch": None}, f"{EPOCH} {EPOCH}"),
        ({"max_epochs": 3, "val_check_interval": "2epoch"}, f"t0 t1 t2 t3 E {EPOCH} t0 t1 t2 t3 E"),
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, f"t0 t1 t2 t3 E {EPOCH} t0 t1 t2 t3 E"),
    ],
)
def test_loaders_without_length(tmp_path: Path, arguments: dict[str, Any], expected: str) -> None:
    assert said(tmp_path, loader=DataLoader(Unsized(), batch_size=4), **arguments) == expected


def test_a_share_of_a_loader_without_length(tmp_path: Path) -> None:
    loader = DataLoader(Unsized(), batch_size=4)
    assert message_of(ConfigError, lambda: said(tmp_path, loader=loader, limit_train_batches=0.5)) == (
        "Trainer(limit_train_batches=0.5): train_dataloaders has no length, so no fraction of it; give a count of "
        "batches"
    )
    assert message_of(ConfigError, lambda: said(tmp_path, loader=loader, val_check_interval=0.5)) == (
        "Trainer(val_check_interval=0.5): the training loader has no length, so no share of it; give a count of batches"
    )


def test_a_list_of_batches_is_a_loader(tmp_path: Path) -> None:
    # Lightning takes a list of tensors for several loaders
    assert said(tmp_path, loader=[torch.ones(2, 2), torch.ones(3, 2)], max_epochs=2) == "t0 t1 V E t0 t1 V E"


def test_a_generator_lasts_one_epoch(tmp_path: Path) -> None:
    def batches() -> Any:
        yield from torch.ones(3, 2, 2)

    assert said(tmp_path, loader=batches()) == "t0 t1 t2 V E"
    assert message_of(DataError, lambda: said(tmp_path, loader=batches(), max_epochs=2)) == (
        "the training loader gave no batch in epoch 1; check the data set, or give limit_train_batches=0 to train "
        "nothing"
    )


class Several(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        if not self.trainer.sanity_checking:
            self.events.append(f"v{dataloader_idx}.{batch_idx}")


@pytest.mark.parametrize(
    ("arguments", "expected", "counts", "sanity"),
    [
        ({}, "t0 v0.0 v0.1 v0.2 v1.0 E", [3, 1], [2, 1]),
        ({"limit_val_batches": 1}, "t0 v0.0 v1.0 E", [1, 1], [1, 1]),
        ({"limit_val_batches": 2}, "t0 v0.0 v0.1 v1.0 E", [2, 1], [2, 1]),
        ({"num_sanity_val_steps": -1}, "t0 v0.0 v0.1 v0.2 v1.0 E", [3, 1], [3, 1]),
        ({"num_sanity_val_steps": 1}, "t0 v0.0 v0.1 v0.2 v1.0 E", [3, 1], [1, 1]),
    ],
)
def test_several_validation_loaders(
    tmp_path: Path, arguments: dict[str, Any], expected: str, counts: list[int], sanity: list[int]
) -> None:
    for loaders in ([data(3), data(1)], (data(3), data(1)), {"a": data(3), "b": data(1)}):
        t, module = trainer(tmp_path, max_epochs=1, **arguments), Several()
        t.fit(module, data(1), loaders)
        assert (module.said(), t.num_val_batches, t.num_sanity_val_batches) == (expected, counts, sanity)


@pytest.mark.parametrize("nothing", [None, []])
def test_no_validation_loader_is_no_validation(tmp_path: Path, nothing: Any) -> None:
    class Without(Net):
        def train_dataloader(self) -> Any:
            return data()

        def val_dataloader(self) -> Any:
            return nothing

    module = Without()
    trainer(tmp_path, max_epochs=1).fit(module)
    assert module.said() == "t0 t1 t2 t3 E"


@pytest.mark.parametrize(
    ("every", "expected"), [(0, "T0 V0"), (1, "T0 V0 T1 V1 T2 V2 T3 V3"), (2, "T0 V0 T2 V2"), (3, "T0 V0 T3 V3")]
)
def test_reload_dataloaders_every_n_epochs(tmp_path: Path, every: int, expected: str) -> None:
    asked: list[str] = []

    class Asking(Net):
        def train_dataloader(self) -> Any:
            asked.append(f"T{self.current_epoch}")
            return data(1 + self.current_epoch)

        def val_dataloader(self) -> Any:
            asked.append(f"V{self.current_epoch}")
            return data(1)

    module = Asking()
    trainer(tmp_path, max_epochs=4, reload_dataloaders_every_n_epochs=every).fit(module)
    assert " ".join(asked) == expected
    if every == 1:
        assert module.said() == "t0 V E t0 t1 V E t0 t1 t2 V E t0 t1 t2 t3 V E"


def test_state_in_every_stage(tmp_path: Path) -> None:
    seen: dict[str, tuple[Any, ...]] = {}

    class Watching(Net):
        def _look(self, batch: Any, batch_idx: int) -> None:
            t = self.trainer
            flags = {n for n in ("training", "validating", "testing", "predicting", "sanity_checking") if getattr(t, n)}
            seen[f"{t.state.fn} {t.state.stage}"] = (flags, torch.is_grad_enabled())
            if not t.predicting:
                self.log("x", 1.0)

        validation_step = test_step = predict_step = _look

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self._look(batch, batch_idx)
            return super().training_step(batch, batch_idx)

    module, t = Watching(), trainer(tmp_path, max_epochs=1)
    t.fit(module, data(1), data(1))
    t.validate(module, data(1), verbose=False)
    t.test(module, data(1), verbose=False)
    t.predict(module, data(1))
    assert seen == {
        "fit sanity_check": ({"sanity_checking"}, False),
        "fit train": ({"training"}, True),
        "fit validate": ({"validating"}, False),
        "validate validate": ({"validating"}, False),
        "test test": ({"testing"}, False),
        "predict predict": ({"predicting"}, False),
    }


# ------------------------------------------------------------------ data modules, and errors of the user's


class Data(lk.LightDataModule):
    """Writes down what is called, as everything in the run below does."""

    def __init__(self, calls: list[str] | None = None) -> None:
        super().__init__()
        self.calls = [] if calls is None else calls

    def setup(self, stage: str) -> None:
        self.calls.append(f"data setup {stage}")

    def train_dataloader(self) -> Any:
        return data(2)

    def val_dataloader(self) -> Any:
        return data(1)

    def on_exception(self, exception: BaseException) -> None:
        self.calls.append(f"data on_exception {exception!r}")

    def teardown(self, stage: str) -> None:
        self.calls.append(f"data teardown {stage}")


def test_a_data_module_may_stand_where_the_training_loader_stands(tmp_path: Path) -> None:
    for arguments in ((Data(),), (None, None, Data())):
        module, t = Net(), trainer(tmp_path, max_epochs=1)
        t.fit(module, *arguments)
        assert module.said() == "t0 t1 V E"
        assert t.datamodule is arguments[-1] and t.datamodule.trainer is t
        assert t.datamodule.calls == ["data setup fit", "data teardown fit"]


class Seeing(lk.Callback):
    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.calls.append(f"callback on_exception {exception!r}")
        assert trainer.state.fn == "fit"

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.calls.append(f"callback teardown {stage}")


class Finalized(Logger):
    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert "finalize" not in " ".join(self.calls)

    def finalize(self, status: str) -> None:
        self.calls.append(f"finalize {status}")


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("mine"), "failed"), (KeyboardInterrupt(), "interrupted"), (None, "success")]
)
@pytest.mark.parametrize(
    "hook",
    ["setup", "configure_optimizers", "on_fit_start", "on_train_start", "training_step", "validation_step",
     "on_before_zero_grad", "on_train_epoch_end", "on_train_end", "on_fit_end"],
)  # fmt: skip
def test_an_error_of_the_user_s_ends_the_run_in_order(
    tmp_path: Path, hook: str, error: BaseException | None, status: str
) -> None:
    calls: list[str] = []

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        if error is not None:
            raise error
        return getattr(Net, hook)(self, *args, **kwargs)

    def teardown(self: Any, stage: str) -> None:
        calls.append(f"module teardown {stage}")

    module = type("Failing", (Net,), {hook: fail, "teardown": teardown})()
    loggers = [Finalized(calls), Finalized(calls)]
    t = trainer(tmp_path, max_epochs=1, callbacks=[Seeing(calls)], logger=loggers, num_sanity_val_steps=0)
    if error is None:
        t.fit(module, Data(calls))
    else:
        with pytest.raises(type(error)) as caught:
            t.fit(module, Data(calls))
        assert caught.value is error, "as it was raised"
    told = [] if error is None else [f"data on_exception {error!r}", f"callback on_exception {error!r}"]
    torn_down = ["data teardown fit", "callback teardown fit", "module teardown fit"]
    assert calls == ["data setup fit", *told, *torn_down, *[f"finalize {status}"] * 2]
    assert (t.state.fn, t.state.status) == ("fit", {"success": "finished"}.get(status, status))
    assert t.interrupted == (status == "interrupted")
    assert module.training and torch.is_grad_enabled()


def test_a_trainer_works_again_after_an_error(tmp_path: Path) -> None:
    class FailsOnce(Net):
        has_failed = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2 and not self.has_failed:
                self.has_failed = True
                raise ValueError("once")
            return super().training_step(batch, batch_idx)

    module, t = FailsOnce(), trainer(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match="^once$"):
        t.fit(module, data(), data(1))
    assert module.said() == "t0 t1"
    t.fit(module, data(), data(1))
    assert module.said() == f"t0 t1 {EPOCH}", "the epoch is repeated"
    assert t.state.status == "finished"


# ------------------------------------------------------------------ fits that do nothing, what is set on the loop


def test_a_fit_with_nothing_left_to_train_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t = trainer(tmp_path, max_epochs=2)
    t.fit(Net(), data())
    assert capsys.readouterr().out == ""
    t.fit(Net(), data())
    assert capsys.readouterr().out == (
        "fit: nothing is left to train, max_epochs=2 is reached: this Trainer is at epoch 2, step 8. Raise the limit "
        "to go on, or make another Trainer and fit without ckpt_path to train from the start\n"
    )
    t.save_checkpoint(tmp_path / "a.ckpt")
    trainer(tmp_path, max_epochs=-1, max_steps=8).fit(Net(), data(), ckpt_path=tmp_path / "a.ckpt")
    assert capsys.readouterr().out == (
        f"fit: nothing is left to train, max_steps=8 is reached: the checkpoint {tmp_path}/a.ckpt is at epoch 2, "
        "step 8. Raise the limit to go on, or make another Trainer and fit without ckpt_path to train from the start\n"
    )


def test_limits_set_on_the_loop_are_the_trainers(tmp_path: Path) -> None:
    t = trainer(tmp_path, max_epochs=1)
    t.fit(Net(), data())
    t.fit_loop.max_epochs = 3
    t.fit_loop.max_steps, t.fit_loop.min_epochs, t.fit_loop.min_steps = 11, 2, 3
    assert (t.max_epochs, t.max_steps, t.min_epochs, t.min_steps) == (3, 11, 2, 3)
    t.fit(Net(), data())
    assert (t.global_step, t.fit_loop.max_epochs, t.fit_loop.max_steps) == (11, 3, 11)
    assert (t.fit_loop.min_epochs, t.fit_loop.min_steps) == (2, 3)
    with pytest.raises(ConfigError, match=r"Trainer\(max_epochs='4'\)"):
        t.fit_loop.max_epochs = "4"


def test_what_would_have_no_effect_cannot_be_set(tmp_path: Path) -> None:
    t = trainer(tmp_path, max_epochs=1)
    t.fit(Net(), data(), data(1))
    for loop in (t.fit_loop, t.validate_loop):
        with pytest.raises(AttributeError, match="'max_batches'"):
            loop.max_batches = 3
    with pytest.raises(ConfigError) as caught:
        t.enable_checkpointing = True
    assert str(caught.value) == (
        "trainer.enable_checkpointing = True: what a Trainer was made with; make another, "
        "Trainer(enable_checkpointing=...)"
    )


class StepsItsOwn(Net):
    """Manual optimization past `self.optimizers()`."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.own = torch.optim.SGD(self.parameters(), lr=0.01)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.own.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        self.own.step()


UNMOVED = r"an epoch without an optimizer step: no optimizer has stepped through self.optimizers\(\) in StepsItsOwn"


def test_manual_optimization_that_steps_nothing_is_said_once(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=UNMOVED) as caught:
        trainer(tmp_path, max_epochs=3).fit(StepsItsOwn(), data())
    assert len(caught) == 1


def test_checkpoints_by_epoch_are_written_where_no_step_is_counted(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    with pytest.warns(UserWarning, match=UNMOVED):
        trainer(tmp_path, max_epochs=3, enable_checkpointing=None, callbacks=[saving]).fit(StepsItsOwn(), data())
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["epoch=0.ckpt", "epoch=1.ckpt", "epoch=2.ckpt"]


class Skips(Net):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.events.append(f"t{batch_idx}")


@pytest.mark.parametrize("kind, why", [
    (StepsItsOwn, "no optimizer has stepped through self.optimizers() in StepsItsOwn.training_step, so "
     "trainer.global_step stands still; write optimizer = self.optimizers() and optimizer.step()"),
    (Skips, "Skips.training_step returned None for every batch, or the batches were skipped"),
])  # fmt: skip
def test_max_steps_that_are_never_taken_are_not_waited_for(tmp_path: Path, kind: type[Net], why: str) -> None:
    t = trainer(tmp_path, max_steps=5)
    with pytest.warns(UserWarning, match="an epoch without an optimizer step"), pytest.raises(ConfigError) as caught:
        t.fit(kind(), data(1))
    assert str(caught.value) == f"Trainer(max_steps=5): 10 epochs without an optimizer step; {why}"
    assert t.current_epoch == 10
