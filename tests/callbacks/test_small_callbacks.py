"""Base, LambdaCallback and Timer."""

import inspect
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from lightkit.callbacks import Callback, LambdaCallback, ModelCheckpoint, Timer
from lightkit.callbacks.timer import parse_duration
from lightkit.errors import ConfigError
from lightkit.hooks import HOOK_NAMES


def test_every_hook_of_a_callback_is_in_the_table_of_hooks() -> None:
    hooks = [name for name in vars(Callback) if name.startswith("on_")]
    assert len(hooks) == 35
    assert set(hooks) - HOOK_NAMES == set()


def test_callbacks_have_the_hooks_and_arguments_of_lightning() -> None:
    arguments = {
        name: list(inspect.signature(function).parameters)[3:]
        for name, function in vars(Callback).items()
        if name.startswith("on_") or name in ("setup", "teardown")
    }
    batch = ["batch", "batch_idx"]
    expected = {
        "setup": ["stage"],
        "teardown": ["stage"],
        "on_train_batch_start": batch,
        "on_train_batch_end": ["outputs", *batch],
        "on_before_zero_grad": ["optimizer"],
        "on_before_backward": ["loss"],
        "on_before_optimizer_step": ["optimizer"],
        "on_exception": ["exception"],
        "on_save_checkpoint": ["checkpoint"],
        "on_load_checkpoint": ["checkpoint"],
    }
    for stage in ("validation", "test", "predict"):
        expected[f"on_{stage}_batch_start"] = [*batch, "dataloader_idx"]
        expected[f"on_{stage}_batch_end"] = ["outputs", *batch, "dataloader_idx"]
    assert {name: names for name, names in arguments.items() if names} == expected
    assert len(arguments) == 37


def test_lambda_callback_calls_what_it_was_given(fit: Callable[..., Any]) -> None:
    seen: list[Any] = []
    callback = LambdaCallback(
        setup=lambda trainer, module, stage: seen.append(stage),
        on_train_batch_end=lambda trainer, module, outputs, batch, index: seen.append(index),
        on_fit_end=None,
    )
    fit([callback], max_epochs=1)
    assert seen == ["fit", 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (
            {"on_train_batch_ends": print},
            "LambdaCallback(on_train_batch_ends=...): there is no such hook; did you mean 'on_train_batch_end'?",
        ),
        ({"on_fit_end": 3}, "LambdaCallback(on_fit_end=3): expected a function."),
    ],
)
def test_lambda_callback_refuses_what_is_no_hook(hooks: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LambdaCallback(**hooks)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("01:02:03:04", 93784),
        ("10min", 600),
        ("1.5 h", 5400),
        ("90s", 90),
        ("2 days", 172800),
        ({"hours": 1, "minutes": 30}, 5400),
        (timedelta(seconds=5), 5),
    ],
)
def test_durations_are_understood(given: Any, seconds: float) -> None:
    assert parse_duration(given).total_seconds() == seconds


@pytest.mark.parametrize("given", ["1:2:3", "ten minutes", "5 fortnights", {"hour": 1}, 30])
def test_other_durations_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Timer(duration=given)
    assert str(caught.value) == (
        f"Timer(duration={given!r}): expected 'DD:HH:MM:SS', a number with a unit ('10min', '1.5h'), "
        "a timedelta or a dict for one."
    )


@pytest.mark.parametrize(("interval", "num_steps"), [("step", 1), ("epoch", 4)])
def test_training_stops_when_the_time_is_up(
    fit: Callable[..., Any], capsys: pytest.CaptureFixture[str], interval: str, num_steps: int
) -> None:
    after_the_start = LambdaCallback(on_train_start=lambda trainer, module: timer.load_state_dict(used_up))
    used_up = {"time_elapsed": {"train": 60.0}}
    timer = Timer("1min", interval)
    trainer = fit([timer, after_the_start])
    assert trainer.global_step == num_steps
    assert capsys.readouterr().out == "Timer: the time is up after 0:01:00; stopping.\n"


def test_a_resumed_run_has_the_time_that_is_left(tmp_path: Path, fit: Callable[..., Any]) -> None:
    first = Timer()
    fit([first, ModelCheckpoint(tmp_path / "kept")], max_epochs=1)
    spent_s = first.time_elapsed()
    assert first.start_time() + spent_s == pytest.approx(first.end_time())
    resumed = Timer(timedelta(hours=1))
    fit([resumed], max_epochs=2, ckpt_path=tmp_path / "kept" / "epoch=0-step=4.ckpt")
    of_itself_s = resumed.end_time() - resumed.start_time()
    assert 0 < resumed.time_elapsed() - of_itself_s <= spent_s
    assert resumed.time_remaining() == pytest.approx(3600 - resumed.time_elapsed())
    assert resumed.time_elapsed("validate") > 0 and resumed.time_elapsed("test") == 0


def test_a_timer_of_a_second_trainer_starts_anew(tmp_path: Path, fit: Callable[..., Any]) -> None:
    timer = Timer("1min")
    fit([timer, ModelCheckpoint(tmp_path / "kept")], max_epochs=1)
    content = torch.load(tmp_path / "kept" / "epoch=0-step=4.ckpt", weights_only=True)
    content["callbacks"] = {"Timer": {"time_elapsed": {"train": 60.0}}}
    torch.save(content, tmp_path / "used_up.ckpt")
    assert fit([timer], ckpt_path=tmp_path / "used_up.ckpt", enable_checkpointing=False).global_step == 4
    assert fit([timer], max_epochs=2, enable_checkpointing=False).global_step == 8
    assert timer.time_elapsed() < 60


def test_an_unknown_stage_or_interval_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Timer().time_elapsed("tests")
    assert str(caught.value) == (
        "Timer: unknown stage 'tests'; expected one of train, validate, test, predict; did you mean 'test'?"
    )
    with pytest.raises(ConfigError) as caught:
        Timer(interval="batch")
    assert str(caught.value) == "Timer(interval='batch'): expected 'step' or 'epoch'."


def test_a_lambda_callback_takes_its_functions_by_position_as_lightning_does() -> None:
    parameters = inspect.signature(LambdaCallback).parameters
    hooks = [name for name in vars(Callback) if name.startswith("on_")]
    assert set(parameters) == {"setup", "teardown", *hooks, "more"}
    seen: list[str] = []
    LambdaCallback(None, lambda *_: seen.append("down")).teardown(None, None, "fit")  # type: ignore[arg-type]
    assert seen == ["down"]


def test_model_checkpoint_tells_whether_a_file_is_there(tmp_path: Path, trainer: Callable[..., Any]) -> None:
    callback = ModelCheckpoint(tmp_path)
    made = trainer([callback])
    assert not callback.file_exists(tmp_path / "a.ckpt", made)
    (tmp_path / "a.ckpt").touch()
    assert callback.file_exists(tmp_path / "a.ckpt", made) and callback.file_exists(str(tmp_path / "a.ckpt"), made)
