from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightkit.callbacks import EarlyStopping, ModelCheckpoint
from lightkit.errors import ConfigError

NAN = float("nan")
SLOW = (1, 0.9, 0.95, 0.92, 0.91, 0.8, 0.7, 0.6, 0.5, 0.4)


# What Lightning 2.6.6 does with the same values.
@pytest.mark.parametrize(
    ("arguments", "values", "num_epochs", "stopped_epoch", "wait_count", "best", "reason"),
    [
        ({}, SLOW, 5, 4, 3, 0.9, 3),
        ({"patience": 4}, SLOW, 10, 0, 0, 0.4, 0),
        ({"min_delta": 0.05}, (1, 0.99, 0.98, 0.97, 0.96, 0.5, 0.4, 0.3, 0.2, 0.1), 4, 3, 3, 1.0, 3),
        ({"mode": "max"}, (0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3), 6, 5, 3, 0.3, 3),
        ({}, (1, NAN, 1, 1, 1, 1, 1, 1, 1, 1), 2, 1, 0, 1.0, 4),
        ({"check_finite": False}, (1, NAN, 0.9, NAN, NAN, NAN, NAN, NAN, 0.1, 0.1), 6, 5, 3, 0.9, 3),
        ({"stopping_threshold": 0.2}, (1, 0.5, 0.1, 0.05, 0.01, 0, 0, 0, 0, 0), 3, 2, 0, 0.5, 1),
        ({"divergence_threshold": 20}, (1, 5, 50, 500, 1, 1, 1, 1, 1, 1), 3, 2, 1, 1.0, 2),
        ({"patience": 0}, (1,) * 10, 2, 1, 1, 1.0, 3),
    ],
)
def test_training_stops_where_lightning_stops_it(
    fit: Callable[..., Any],
    arguments: dict[str, Any],
    values: tuple[float, ...],
    num_epochs: int,
    stopped_epoch: int,
    wait_count: int,
    best: float,
    reason: int,
) -> None:
    callback = EarlyStopping("v", **arguments)
    trainer = fit([callback], values=values, max_epochs=10)
    assert trainer.global_step == 4 * num_epochs
    assert (callback.stopped_epoch, callback.wait_count) == (stopped_epoch, wait_count)
    assert float(callback.best_score) == pytest.approx(best)
    assert callback.stopping_reason == reason


def test_the_sanity_check_is_not_a_check(fit: Callable[..., Any]) -> None:
    callback = EarlyStopping("v", patience=1)
    fit([callback], values=(0.1, 0.4), max_epochs=2, num_sanity_val_steps=1, check_val_every_n_epoch=2)
    assert (callback.wait_count, float(callback.best_score)) == (0, pytest.approx(0.4))


def test_a_resumed_run_stops_where_the_uninterrupted_one_does(tmp_path: Path, fit: Callable[..., Any]) -> None:
    fit([EarlyStopping("v"), ModelCheckpoint(tmp_path / "kept", save_last=True)], values=SLOW, max_epochs=3)
    callback = EarlyStopping("v")
    trainer = fit([callback], values=SLOW, max_epochs=10, ckpt_path=tmp_path / "kept" / "last.ckpt")
    assert (trainer.global_step, callback.stopped_epoch, callback.wait_count) == (20, 4, 3)


def test_verbose_says_when_it_improves_and_why_it_stops(
    fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    callback = EarlyStopping("v", patience=1, verbose=True)
    fit([callback], values=(0.5, 0.25, 0.4))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "EarlyStopping: v = 0.5 is the best so far (before: inf).",
        "EarlyStopping: v = 0.25 is the best so far (before: 0.5).",
        "EarlyStopping: v did not improve on 0.25 in 1 checks; stopping.",
    ]
    assert callback.stopping_reason_message == lines[-1]


def test_a_monitor_that_was_never_logged_is_an_error(fit: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        fit([EarlyStopping("val")])
    assert str(caught.value) == (
        "EarlyStopping(monitor='val'): no metric 'val' was logged; logged so far: 'loss', 'v'. "
        "Write self.log('val', value) in the module, or monitor a name that is logged."
    )


def test_without_strict_a_missing_metric_is_no_check(fit: Callable[..., Any]) -> None:
    callback = EarlyStopping("val", strict=False, patience=1)
    assert fit([callback]).global_step == 20
    assert callback.wait_count == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "auto"}, "EarlyStopping(mode='auto'): expected 'min' or 'max'."),
        ({"patience": -1}, "EarlyStopping(patience=-1): expected 0 or a positive number."),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EarlyStopping("v", **arguments)
    assert str(caught.value) == message


def test_a_second_fit_of_another_trainer_starts_anew(fit: Callable[..., Any]) -> None:
    callback = EarlyStopping("v", patience=2)
    first = fit([callback], values=(0.1, 0.2, 0.3, 0.4), max_epochs=4)
    assert (first.global_step, callback.stopped_epoch) == (12, 2)
    second = fit([callback], values=(0.9, 0.8, 0.7, 0.6), max_epochs=4)
    assert (second.global_step, callback.stopped_epoch, callback.wait_count) == (16, 0, 0)
    assert float(callback.best_score) == pytest.approx(0.6)
    assert callback.stopping_reason == 0 and callback.stopping_reason_message is None


def test_a_fit_that_goes_on_goes_on_waiting(fit: Callable[..., Any], trainer: Callable[..., Any]) -> None:
    callback = EarlyStopping("v", patience=3)
    found = fit([callback], values=SLOW, max_epochs=3)
    assert (callback.wait_count, float(callback.best_score)) == (1, pytest.approx(0.9))
    found.max_epochs = 10
    found.fit(found.lightning_module, found.train_dataloader, found.val_dataloaders)
    assert (found.global_step, callback.stopped_epoch) == (20, 4)


def test_how_values_are_compared_can_be_asked() -> None:
    assert EarlyStopping("v").monitor_op is torch.lt and EarlyStopping("v", mode="max").monitor_op is torch.gt
    assert EarlyStopping.mode_dict == {"min": torch.lt, "max": torch.gt}
    assert EarlyStopping.order_dict == {"min": "<", "max": ">"}
