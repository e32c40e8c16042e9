import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightkit.callbacks import (
    Callback,
    LineProgress,
    ModelCheckpoint,
    ProgressBar,
    RichProgressBar,
    default_progress_bar,
)
from lightkit.callbacks.progress.progress_bar import PassProgress, format_metrics, format_rate, format_seconds
from lightkit.errors import ConfigError


def without_times(text: str) -> list[str]:
    """The lines without what the clock says."""
    text = re.sub(r"[\d.]+ (it/s|s/it)", "RATE", text)
    return re.sub(r"\d:\d\d:\d\d", "TIME", text).splitlines()


class Recorder(ProgressBar):
    """Notes what it is asked to draw, at every batch."""

    def __init__(self) -> None:
        super().__init__(every_s=0)
        self.seen: list[str] = []

    def open_bar(self, bar: PassProgress) -> None:
        self.seen.append(f"open {bar.label} {bar.count}")

    def draw_bar(self, bar: PassProgress, metrics: Any) -> None:
        self.seen.append(f"draw {bar.count} {format_metrics(metrics)}".strip())

    def close_bar(self, bar: PassProgress, metrics: Any) -> None:
        self.seen.append(f"close {bar.label} {bar.count}")

    def stop(self) -> None:
        self.seen.append("stop")


def test_a_fit_is_shown_from_the_sanity_check_to_the_end(fit: Callable[..., Any]) -> None:
    bar = Recorder()
    fit([bar], max_epochs=2, num_batches=2, enable_progress_bar=True)
    assert [line for line in bar.seen if not line.startswith("draw")] == [
        "open Sanity Checking 0/1",
        "close Sanity Checking 1/1",
        "open Epoch 0/1 0/2",
        "open Validation 0/1",
        "close Validation 1/1",
        "close Epoch 0/1 2/2",
        "open Epoch 1/1 0/2",
        "open Validation 0/1",
        "close Validation 1/1",
        "close Epoch 1/1 2/2",
        "stop",
        "stop",
    ]
    assert [line.split()[1] for line in bar.seen if line.startswith("draw")] == [
        "1/1", "1/2", "2/2", "1/1", "1/2", "2/2", "1/1",
    ]  # fmt: skip


class Fails(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            raise RuntimeError("stop here")


def test_an_error_closes_the_bar(fit: Callable[..., Any]) -> None:
    bar = Recorder()
    with pytest.raises(RuntimeError, match="^stop here$"):
        fit([bar, Fails()], enable_progress_bar=True)
    assert bar.seen[-1] == "stop"
    assert bar._bars == []


def test_a_resumed_epoch_is_shown_from_where_it_goes_on(tmp_path: Any, fit: Callable[..., Any]) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=3, save_top_k=-1)
    with pytest.raises(RuntimeError, match="^stop here$"):
        fit([checkpoint, Fails()])
    bar, path = Recorder(), tmp_path / "kept" / "epoch=0-step=3.ckpt"
    fit([bar, checkpoint], max_epochs=1, ckpt_path=path, enable_progress_bar=True)
    opened = [line for line in bar.seen if line.startswith("open Epoch")]
    assert opened == ["open Epoch 0/0 3/4"]
    assert "close Epoch 0/0 4/4" in bar.seen


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.ones(3, 1))


def test_a_loader_without_length_is_counted_without_a_total(trainer: Callable[..., Any], scripted: type) -> None:
    bar = Recorder()
    made = trainer([bar], max_epochs=1, enable_progress_bar=True)
    made.fit(scripted(), DataLoader(Stream()))
    assert [line for line in bar.seen if "Epoch" in line] == ["open Epoch 0/0 0/?", "close Epoch 0/0 3/?"]


def test_validate_test_and_predict_are_shown(trainer: Callable[..., Any], scripted: type) -> None:
    bar = Recorder()
    made = trainer([bar], enable_progress_bar=True)
    loaders = [DataLoader(torch.ones(2, 1)), DataLoader(torch.ones(1, 1))]
    made.validate(scripted(), loaders[0], verbose=False)
    made.test(scripted(), loaders, verbose=False)
    made.predict(scripted(), loaders[1])
    assert [line for line in bar.seen if "draw" not in line and line != "stop"] == [
        "open Validation 0/2",
        "close Validation 2/2",
        "open Testing 0/3",
        "close Testing 3/3",
        "open Predicting 0/1",
        "close Predicting 1/1",
    ]


def test_lines_say_epoch_batches_speed_time_and_metrics(
    fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    fit([LineProgress()], max_epochs=2, values=(0.5, 0.25), enable_progress_bar=True)
    lines = without_times(capsys.readouterr().out)
    assert [re.sub(r"loss=\S+", "loss=X", line) for line in lines] == [
        "Epoch 0/1  4/4  RATE  TIME  v=0.5 loss=X",
        "Epoch 1/1  4/4  RATE  TIME  v=0.25 loss=X",
    ]


def test_lines_in_between_say_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    bar = PassProgress("Epoch 0", total=10, done=4, initial=2)
    LineProgress().draw_bar(bar, {"loss": 0.123456, "n": 3})
    assert without_times(capsys.readouterr().out) == ["Epoch 0  4/10  RATE  TIME, TIME left  loss=0.1235 n=3"]


def test_metrics_are_read_only_when_something_is_drawn(fit: Callable[..., Any]) -> None:
    class Counts(LineProgress):
        num_reads = 0

        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            self.num_reads += 1
            return super().get_metrics(trainer, pl_module)

    bar = Counts(every_s=3600)
    fit([bar], max_epochs=2, num_batches=50, enable_progress_bar=True)
    assert bar.num_reads == 2


def terminal() -> Any:
    from rich.console import Console

    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def test_the_rich_bar_shows_all_and_gives_the_cursor_back(fit: Callable[..., Any]) -> None:
    console = terminal()
    bar = RichProgressBar(console=console)
    bar.every_s = 0
    fit([bar], max_epochs=2, values=(0.5, 0.25), enable_progress_bar=True)
    written = console.file.getvalue()
    for part in ("Sanity Checking", "Epoch 0/1", "Epoch 1/1", "Validation", "4/4", "it/s", "v=0.25"):
        assert part in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    assert "Epoch 1/1" in written.rstrip().splitlines()[-2]


def test_the_rich_bar_is_closed_by_an_error(fit: Callable[..., Any]) -> None:
    console = terminal()
    with pytest.raises(RuntimeError, match="^stop here$"):
        fit([RichProgressBar(console=console), Fails()], enable_progress_bar=True)
    written = console.file.getvalue()
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1


def test_what_is_printed_appears_above_the_rich_bar(fit: Callable[..., Any], scripted: type) -> None:
    class Prints(scripted):  # type: ignore[misc, valid-type]
        def on_train_batch_end(self, *args: Any) -> None:
            print("from user code")

    console = terminal()
    fit([RichProgressBar(console=console)], module=Prints(), max_epochs=1, enable_progress_bar=True)
    lines = [line for line in console.file.getvalue().splitlines() if "from user code" in line]
    assert len(lines) == 4
    assert not any("Epoch" in line for line in lines)


def test_the_time_of_a_validation_is_not_counted_as_the_epochs() -> None:
    bar = ProgressBar()
    bar._begin("Epoch 0", 10, "train")
    started_s = bar._bars[0].started_s
    bar._begin("Validation", 1)
    bar._bars[1].started_s -= 1000
    bar.on_validation_end(None, None)
    assert bar._bars[0].started_s - started_s >= 1000


def test_a_disabled_bar_shows_nothing(fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    bar = LineProgress()
    bar.disable()
    fit([bar], enable_progress_bar=True)
    assert (bar.is_enabled, bar.is_disabled) == (False, True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("wish", "kind"),
    [("", LineProgress), ("lines", LineProgress), ("bar", RichProgressBar), ("OFF", type(None))],
)
def test_the_environment_chooses_the_bar(monkeypatch: pytest.MonkeyPatch, wish: str, kind: type) -> None:
    monkeypatch.setenv("LIGHTKIT_PROGRESS", wish)
    assert type(default_progress_bar()) is kind


def test_a_misspelt_wish_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTKIT_PROGRESS", "line")
    with pytest.raises(ConfigError) as caught:
        default_progress_bar()
    assert str(caught.value) == ("LIGHTKIT_PROGRESS='line': expected 'bar', 'lines' or 'off'; did you mean 'lines'?")


def test_formats() -> None:
    assert [format_seconds(s) for s in (None, 0, 59.9, 3723)] == ["-:--:--", "0:00:00", "0:00:59", "1:02:03"]
    assert [format_rate(r) for r in (0, 0.5, 12.34, 1234.5)] == ["- it/s", "2 s/it", "12.3 it/s", "1234 it/s"]
