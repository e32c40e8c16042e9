"""What users read of a progress bar, and override, by Lightning's names: on every bar."""

import importlib
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import lightkit as lk
from lightkit.callbacks import (
    Callback,
    LambdaCallback,
    LineProgress,
    ProgressBar,
    RichProgressBar,
    RichProgressBarTheme,
    TQDMProgressBar,
    default_progress_bar,
)
from lightkit.callbacks.progress.progress_bar import format_metrics, get_standard_metrics
from lightkit.errors import HookError
from lightkit.loggers import CSVLogger

BARS = [ProgressBar, LineProgress, RichProgressBar, TQDMProgressBar]


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).pow(2).sum()
        self.log("loss", loss * 0 + 0.00125, prog_bar=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("v", 1.0)

    test_step = validation_step

    def predict_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def data(count: int) -> DataLoader[torch.Tensor]:
    return DataLoader(torch.ones(count, 1))  # type: ignore[arg-type]


def trainer_with(*callbacks: Callback, **kwargs: Any) -> lk.Trainer:
    given = {"logger": False, "enable_checkpointing": False, "max_epochs": 1, "accelerator": "cpu", **kwargs}
    return lk.Trainer(callbacks=list(callbacks), enable_model_summary=False, **given)


def noting(kind: type[ProgressBar]) -> Any:
    """A bar of that kind which notes what it could show at each batch."""

    class Notes(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Any] = []

        def on_train_batch_end(self, *args: Any) -> None:
            super().on_train_batch_end(*args)
            self.seen.append(("train", self.total_train_batches, self.total_val_batches))

        def on_validation_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, i: int, j: int = 0) -> None:
            super().on_validation_batch_end(trainer, module, out, batch, i, j)
            if kind in (ProgressBar, LineProgress):  # as in Lightning, whoever needs it notes it
                self.has_dataloader_changed(j)
            self.seen.append(("val", self.total_val_batches_current_dataloader))

        def on_test_batch_end(self, *args: Any) -> None:
            super().on_test_batch_end(*args)
            self.seen.append(("test", self.total_test_batches_current_dataloader))

        def on_predict_batch_end(self, *args: Any) -> None:
            super().on_predict_batch_end(*args)
            self.seen.append(("predict", self.total_predict_batches_current_dataloader))

    return Notes()


@pytest.mark.parametrize("kind", BARS)
def test_every_bar_says_how_many_batches_there_are(kind: type[ProgressBar]) -> None:
    bar = noting(kind)
    trainer = trainer_with(bar, max_epochs=2, check_val_every_n_epoch=2, num_sanity_val_steps=1)
    trainer.fit(Net(), data(2), [data(3), data(1)])
    sanity = [("val", 1)] * 2
    validation = [("val", 3)] * 3 + [("val", 1)]
    assert bar.seen == [*sanity, *[("train", 2, 0)] * 2, *[("train", 2, 4)] * 2, *validation]
    bar.seen.clear()
    trainer.validate(dataloaders=[data(2), data(1)], verbose=False)
    trainer.test(dataloaders=data(2), verbose=False)
    trainer.predict(dataloaders=data(1))
    assert bar.seen == [("val", 2), ("val", 2), ("val", 1), ("test", 2), ("test", 2), ("predict", 1)]


@pytest.mark.parametrize("kind", BARS)
def test_a_training_that_max_steps_ends_counts_the_batches_up_to_there(kind: type[ProgressBar]) -> None:
    bar = noting(kind)
    trainer_with(bar, max_epochs=-1, max_steps=4, accumulate_grad_batches=2).fit(Net(), data(5))
    # three steps of two batches (the last of one) are an epoch, the fourth is two batches of the next
    assert [total for _, total, _ in bar.seen] == [5] * 5 + [2] * 2


def test_a_loader_without_length_has_infinitely_many_batches() -> None:
    class Stream(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[torch.Tensor]:
            return iter(torch.ones(2, 1))

    bar = noting(ProgressBar)
    trainer_with(bar).fit(Net(), DataLoader(Stream()), DataLoader(Stream()))
    assert bar.seen[-3:] == [("train", float("inf"), float("inf"))] + [("val", float("inf"))] * 2


def test_a_validation_on_its_own_counts_all_its_batches() -> None:
    bar, seen = ProgressBar(), []
    look = LambdaCallback(on_validation_end=lambda *_: seen.append(bar.total_val_batches))
    trainer_with(bar, look).validate(Net(), [data(2), data(1)], verbose=False)
    assert seen == [3]


def test_a_loader_is_another_one_once() -> None:
    bar = ProgressBar()
    assert [bar.has_dataloader_changed(i) for i in (0, 0, 1, 1)] == [True, False, True, False]
    bar.reset_dataloader_idx_tracker()
    assert bar.has_dataloader_changed(1)


def test_a_bar_of_lightnings_kind_counts_per_cent(capsys: pytest.CaptureFixture[str]) -> None:
    class PerCent(ProgressBar):
        def __init__(self) -> None:
            super().__init__()
            self.enable = True  # type: ignore[assignment, method-assign]

        def disable(self) -> None:
            self.enable = False  # type: ignore[assignment, method-assign]

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            sys.stdout.write(f"{batch_idx / self.total_train_batches * 100:.01f} percent complete\r")

    trainer_with(PerCent()).fit(Net(), data(2))
    assert capsys.readouterr().out == "0.0 percent complete\r50.0 percent complete\r"


# ---------------------------------------------------------------- on and off


@pytest.mark.parametrize("kind", [RichProgressBar, TQDMProgressBar])
def test_a_refresh_rate_of_nothing_shows_nothing(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bar = kind(refresh_rate=0)
    bar.enable()
    trainer_with(bar).fit(Net(), data(2), data(2))
    assert (bar.refresh_rate, bar.is_enabled, bar.is_disabled) == (0, False, True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", [LineProgress, RichProgressBar, TQDMProgressBar])
def test_a_bar_can_be_switched_off_and_on_in_a_fit(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bar = kind()

    def switch(trainer: Any, _: Any) -> None:
        bar.disable() if trainer.current_epoch == 1 else bar.enable()

    switches = LambdaCallback(on_train_epoch_start=switch)
    trainer_with(switches, bar, max_epochs=3).fit(Net(), data(2), data(1))
    shown = capsys.readouterr().out
    assert ["Epoch 0" in shown, "Epoch 1" in shown, "Epoch 2" in shown] == [True, False, True]


# ---------------------------------------------------------------- metrics


def test_the_version_of_the_loggers_is_a_metric_of_its_own(tmp_path: Any) -> None:
    seen: list[Any] = []
    bar = ProgressBar()
    look = LambdaCallback(on_train_epoch_end=lambda trainer, module: seen.append(bar.get_metrics(trainer, module)))
    for version, shown in ((None, 0), (7, 7), ("word_of_mine", "mine")):
        logger = CSVLogger(tmp_path, name="n", version=version)
        trainer = trainer_with(bar, look, logger=logger)
        trainer.fit(Net(), data(1))
        assert seen.pop() == {"v_num": shown, "loss": pytest.approx(0.00125)}
    trainer.loggers = [CSVLogger(tmp_path, version=1), CSVLogger(tmp_path, version=23)]
    assert get_standard_metrics(trainer) == {"v_num": "1_23"}
    assert get_standard_metrics(trainer_with()) == {}


@pytest.mark.parametrize("kind", [LineProgress, RichProgressBar, TQDMProgressBar])
def test_get_metrics_says_what_is_shown(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Chooses(kind):  # type: ignore[misc]
        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            items = super().get_metrics(trainer, pl_module)
            items.pop("loss")
            return {**items, "lr": torch.tensor(0.5), "word": "good"}

    trainer_with(Chooses()).fit(Net(), data(2))
    shown = capsys.readouterr().out
    assert "word=good" in shown
    assert "lr=0.5" in shown
    assert "loss" not in shown


def test_numbers_are_shown_in_the_format_that_is_asked_for() -> None:
    metrics = {"a": 0.123456, "n": 3, "t": torch.tensor(2.0), "w": "x"}
    assert format_metrics(metrics) == "a=0.1235 n=3 t=2 w=x"
    assert format_metrics(metrics, ".3f", ", ") == "a=0.123, n=3, t=2.000, w=x"


def test_a_pass_is_called_what_the_bar_calls_it(capsys: pytest.CaptureFixture[str]) -> None:
    class Calls(LineProgress):
        validation_description = "Looking"  # type: ignore[assignment]

    bar = Calls()
    trainer = trainer_with(bar)
    trainer.validate(Net(), data(2), verbose=False)
    assert capsys.readouterr().out.startswith("Looking  2/2  ")
    assert [bar.sanity_check_description, bar.train_description, bar.test_description, bar.predict_description] == [
        "Sanity Checking", "Training", "Testing", "Predicting",
    ]  # fmt: skip


# ---------------------------------------------------------------- rich


def screen(width: int) -> Any:
    from rich.console import Console

    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def last_screen(width: int, bar: RichProgressBar | None = None) -> list[str]:
    """The lines that stand at the end of a fit in a terminal of that width, without the speed."""
    console = screen(width)
    shown = bar or RichProgressBar(console=console)
    if bar is not None:
        bar._console = console
    trainer_with(shown, max_epochs=11).fit(Net(), data(2))
    shown = console.file.getvalue().split("\x1b[2K")[-1].removesuffix("\x1b[?25h")
    return [line.rstrip() for line in shown.splitlines()]


def test_metrics_stand_behind_the_bar_where_there_is_room_and_else_below() -> None:
    (wide,) = last_screen(100)
    assert wide.startswith("Epoch 10/10 " + "━" * 20 + " 2/2 ") and wide.endswith(" it/s loss=0.001")
    console = screen(62)
    trainer_with(RichProgressBar(console=console), max_epochs=1).fit(Net(), data(2))
    written = console.file.getvalue()
    assert "it/s loss" not in written and "\nloss=0.001" in written
    assert "…" not in written


def test_the_bar_gets_shorter_where_the_terminal_is_narrow() -> None:
    console = screen(50)
    trainer_with(RichProgressBar(console=console), max_epochs=1).fit(Net(), data(2))
    drawn = [line for line in console.file.getvalue().splitlines() if "it/s" in line]
    assert drawn
    assert all(5 <= line.count("━") < 20 and "…" not in line for line in drawn)


def test_the_theme_styles_the_parts_and_writes_the_numbers() -> None:
    theme = RichProgressBarTheme(description="bold", metrics="red", metrics_format=".1e", metrics_text_delimiter=" | ")
    bar = RichProgressBar(theme=theme, console=screen(100))
    columns = bar.configure_columns(None)  # type: ignore[arg-type]
    assert [column.style for column in columns if hasattr(column, "style") and "Text" in type(column).__name__] == [
        "bold", "", "dim", "dim underline",
    ]  # fmt: skip
    (line,) = last_screen(100, bar)
    assert line.endswith("loss=1.3e-03") or line.endswith("loss=1.2e-03")


def test_the_default_bar_has_richs_own_colours_and_reads_small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTKIT_PROGRESS", "bar")
    bar = default_progress_bar()
    assert isinstance(bar, RichProgressBar)
    (line,) = last_screen(100, bar)
    assert line.endswith("loss=0.00125")
    assert (bar.theme.progress_bar, bar.theme.processing_speed) == ("bar.complete", "")


def test_columns_of_the_users_are_shown_with_the_metrics() -> None:
    from rich.progress import ProgressColumn, TextColumn

    class Own(RichProgressBar):
        def configure_columns(self, trainer: Any) -> list[ProgressColumn]:
            return [TextColumn("<{task.description}> {task.completed:.0f}")]

    assert last_screen(100, Own()) == ["<Epoch 10/10> 2 loss=0.001"]


def test_the_tasks_of_the_rich_bar_can_be_read(tmp_path: Any) -> None:
    bar = RichProgressBar(console=screen(100))
    seen: list[Any] = []
    look = LambdaCallback(
        on_sanity_check_end=lambda *_: seen.append(bar.progress is None),
        on_train_batch_end=lambda *_: seen.append((bar.train_progress_bar.description, bar.train_progress_bar.total)),
        on_validation_batch_end=lambda trainer, *_: seen.append(
            (bar.val_sanity_check_bar if trainer.sanity_checking else bar.val_progress_bar).total
        ),
    )
    trainer_with(bar, look, num_sanity_val_steps=1).fit(Net(), data(1), data(2))
    assert seen == [1, False, ("Epoch 0/0", 1), 2, 2]
    with pytest.raises(HookError) as caught:
        bar.test_progress_bar
    assert str(caught.value) == "RichProgressBar: there is no bar of kind 'test' on the screen now"


def test_the_rich_bar_is_drawn_as_often_a_second_as_it_says() -> None:
    assert [RichProgressBar(rate).every_s for rate in (1, 4, 10, 100)] == [1, 0.25, 0.1, 0.1]


def test_the_arguments_of_a_console_are_those_of_rich_prints_too() -> None:
    from rich import get_console

    before, console = dict(vars(get_console())), get_console()
    try:
        bar = RichProgressBar(console_kwargs={"width": 77, "force_terminal": True, "file": io.StringIO()})
        trainer_with(bar).fit(Net(), data(1))
        assert get_console() is console
        assert console.width == 77
        assert "Epoch 0/0" in console.file.getvalue()  # type: ignore[attr-defined]
    finally:
        vars(console).clear()
        vars(console).update(before)


# ---------------------------------------------------------------- where they are, and how they are made

PLACES = {
    "callbacks.progress": ["ProgressBar", "RichProgressBar", "TQDMProgressBar"],
    "callbacks.progress.progress_bar": ["ProgressBar", "get_standard_metrics"],
    "callbacks.progress.rich_progress": ["RichProgressBar", "RichProgressBarTheme"],
    "callbacks.progress.tqdm_progress": ["TQDMProgressBar", "Tqdm", "convert_inf"],
}


def test_the_bars_are_found_where_lightning_has_them() -> None:
    for place, names in PLACES.items():
        module = importlib.import_module(f"lightkit.{place}")
        assert [name for name in names if not hasattr(module, name)] == []


def test_the_bars_are_made_as_lightnings_are() -> None:
    def arguments(kind: Callable[..., Any]) -> dict[str, Any]:
        found = inspect.signature(kind).parameters.values()
        return {p.name: p.default for p in found if p.kind is not p.KEYWORD_ONLY}

    assert arguments(TQDMProgressBar) == {"refresh_rate": 1, "process_position": 0, "leave": False}
    assert arguments(RichProgressBar) == {
        "refresh_rate": 100, "leave": False, "theme": RichProgressBarTheme(), "console_kwargs": None,
    }  # fmt: skip
    assert arguments(RichProgressBarTheme) == {
        "description": "", "progress_bar": "#6206E0", "progress_bar_finished": "#6206E0",
        "progress_bar_pulse": "#6206E0", "batch_progress": "", "time": "dim", "processing_speed": "dim underline",
        "metrics": "italic", "metrics_text_delimiter": " ", "metrics_format": ".3f",
    }  # fmt: skip
