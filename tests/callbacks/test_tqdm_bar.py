"""TQDMProgressBar: bars that users make themselves, what is printed meanwhile, how often it is drawn."""

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.callbacks import Callback, LambdaCallback, ModelCheckpoint, TQDMProgressBar
from lightkit.callbacks.progress.tqdm_progress import Tqdm, convert_inf
from lightkit.errors import HookError


class Net(lk.LightModule):
    """`says`: what a step does besides, by the number of its batch."""

    def __init__(self, says: Any = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.says = says or (lambda module, batch_idx: None)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.says(self, batch_idx)
        self.log("loss", torch.tensor(0.25), prog_bar=True)
        return self.layer(batch).pow(2).sum()

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
    given = {"logger": False, "enable_checkpointing": None, "max_epochs": 1, "accelerator": "cpu", **kwargs}
    return lk.Trainer(callbacks=list(callbacks), enable_model_summary=False, **given)


def on_screen(text: str) -> list[str]:
    """The lines that a terminal shows after this text: carriage returns, and the cursor going up."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[A|\r|\n|[^\x1b\r\n]+", text):
        if token == "\x1b[A":
            row -= 1
        elif token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in lines]


def without_times(lines: list[str]) -> list[str]:
    """Bars as `label per cent count metrics`."""
    found = [re.sub(r"\|.*\| (\S+) \[[^,\]]*, [^,\]]*(, (.*))?\]", r" \1 \3", line).rstrip() for line in lines]
    return [line for line in found if line]


class Makes(TQDMProgressBar):
    """Says which bars it is asked to make, and in what state they are at each batch."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen: list[Any] = []
        self.every_s = 0

    def init_sanity_tqdm(self) -> Any:
        self.seen.append("sanity")
        return super().init_sanity_tqdm()

    def init_train_tqdm(self) -> Any:
        self.seen.append("train")
        return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Any:
        self.seen.append("validation")
        bar = super().init_validation_tqdm()
        bar.set_description("running validation ...")
        return bar

    def init_test_tqdm(self) -> Any:
        self.seen.append("test")
        return super().init_test_tqdm()

    def init_predict_tqdm(self) -> Any:
        self.seen.append("predict")
        return super().init_predict_tqdm()

    def note(self, bar: Any) -> None:
        # one that is off has not even a description
        self.seen.append((getattr(bar, "desc", None), bar.n, bar.total, getattr(bar, "postfix", None)))

    def on_train_batch_end(self, *args: Any) -> None:
        super().on_train_batch_end(*args)
        self.note(self.train_progress_bar)

    def on_validation_batch_end(self, *args: Any) -> None:
        super().on_validation_batch_end(*args)
        self.note(self.val_progress_bar)

    def on_test_batch_end(self, *args: Any) -> None:
        super().on_test_batch_end(*args)
        self.note(self.test_progress_bar)

    def on_predict_batch_end(self, *args: Any) -> None:
        super().on_predict_batch_end(*args)
        self.note(self.predict_progress_bar)


@pytest.mark.parametrize("leave", [False, True])
def test_bars_are_made_when_lightning_makes_them_and_filled_from_loader_to_loader(leave: bool) -> None:
    bar = Makes(leave=leave)
    trainer = trainer_with(bar, max_epochs=2, check_val_every_n_epoch=2, num_sanity_val_steps=1)
    trainer.fit(Net(), data(2), [data(2), data(1)])
    anew = ["train"] if leave else []
    assert bar.seen == [
        "sanity", ("Sanity Checking DataLoader 0: ", 1, 1, None), ("Sanity Checking DataLoader 1: ", 1, 1, None),
        "train", ("Epoch 0: ", 1, 2, "loss=0.250"), ("Epoch 0: ", 2, 2, "loss=0.250"),
        *anew, ("Epoch 1: ", 1, 2, "loss=0.250"), ("Epoch 1: ", 2, 2, "loss=0.250"),
        "validation", ("Validation DataLoader 0: ", 1, 2, None), ("Validation DataLoader 0: ", 2, 2, None),
        ("Validation DataLoader 1: ", 1, 1, None),
    ]  # fmt: skip
    bar.seen.clear()
    trainer.test(dataloaders=data(1), verbose=False)
    trainer.predict(dataloaders=data(1))
    assert bar.seen == [
        "test", ("Testing DataLoader 0: ", 1, 1, None), "predict", ("Predicting DataLoader 0: ", 1, 1, None),
    ]  # fmt: skip


@pytest.mark.parametrize("leave", [False, True])
def test_what_stays_on_the_screen(leave: bool, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_with(TQDMProgressBar(leave=leave), max_epochs=2)
    trainer.fit(Net(), data(2), data(1))
    trainer.validate(dataloaders=data(3), verbose=False)
    kept = ["Epoch 0: 100% 2/2 loss=0.250"] if leave else []
    assert without_times(on_screen(capsys.readouterr().out)) == [
        *kept, "Epoch 1: 100% 2/2 loss=0.250", "Validation DataLoader 0: 100% 3/3",
    ]  # fmt: skip


def test_what_is_printed_stands_above_the_bars(capsys: pytest.CaptureFixture[str]) -> None:
    def says(module: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            print("by print", 1, sep="-")
            print("un", end="")
            print("finished")
            module.print("by module.print")
            print("to stderr", file=sys.stderr)
            sys.stdout.write("without an end")

    trainer_with(TQDMProgressBar()).fit(Net(says), data(3), data(1))
    shown = capsys.readouterr()
    lines = without_times(on_screen(shown.out))
    assert lines[:3] == ["by print-1", "unfinished", "by module.print"]
    assert lines[3:] == ["Epoch 0: 100% 3/3 loss=0.250", "without an end"]
    assert "to stderr\n" in shown.err
    # the bar was taken away before, and drawn again after what went to the other stream
    assert re.search(r"\r +\r(\r|Epoch)", shown.out)


def test_another_bar_of_tqdm_works_inside_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm import tqdm

    def says(module: Any, batch_idx: int) -> None:
        for _ in tqdm(range(2), desc="inner", leave=False, mininterval=0, ascii=True):
            pass

    trainer_with(TQDMProgressBar()).fit(Net(says), data(1))
    assert "inner: 100%|##########| 2/2" in capsys.readouterr().err


@pytest.mark.parametrize("fails", [False, True])
def test_the_streams_are_given_back(fails: bool) -> None:
    before = sys.stdout, sys.stderr
    inside: list[Any] = []

    def says(module: Any, batch_idx: int) -> None:
        inside.append(sys.stdout)
        if fails:
            raise RuntimeError("stop here")

    bar = TQDMProgressBar()
    trainer = trainer_with(bar)
    if fails:
        with pytest.raises(RuntimeError, match="^stop here$"):
            trainer.fit(Net(says), data(1))
    else:
        trainer.fit(Net(says), data(1))
    assert (sys.stdout, sys.stderr) == before
    assert inside[0] is not before[0]
    assert bar.train_progress_bar.disable  # closed


def test_a_stream_that_somebody_replaced_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = io.StringIO()

    def says(module: Any, batch_idx: int) -> None:
        sys.stdout = mine

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    trainer_with(TQDMProgressBar(), max_epochs=2).fit(Net(says), data(1), data(1))
    assert sys.stdout is mine


def test_the_time_of_a_validation_is_not_the_epochs() -> None:
    bar = TQDMProgressBar()
    seen: list[float] = []

    def before(*_: Any) -> None:
        seen.append(bar.train_progress_bar.start_t)
        bar._bars[-1].started_s -= 1000  # as if it had taken so long

    look = LambdaCallback(on_validation_start=before)
    after = LambdaCallback(on_train_epoch_end=lambda *_: seen.append(bar.train_progress_bar.start_t))
    trainer_with(bar, look, after, num_sanity_val_steps=0).fit(Net(), data(2), data(1))
    assert seen[1] - seen[0] >= 1000


def test_it_is_drawn_at_most_ten_times_a_second_and_at_every_so_many_batches() -> None:
    class Counts(TQDMProgressBar):
        num_reads = 0

        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            self.num_reads += 1
            return super().get_metrics(trainer, pl_module)

    def reads(every_s: float, **kwargs: Any) -> int:
        bar = Counts(**kwargs)
        assert bar.every_s == 0.1
        bar.every_s = every_s
        trainer_with(bar, max_epochs=2).fit(Net(), data(10))
        return bar.num_reads

    assert reads(3600) == 2  # the end of each epoch
    assert reads(0) == 2 * (10 + 1)
    assert reads(0, refresh_rate=4) == 2 * (2 + 1)
    assert reads(0, refresh_rate=0) == 0


def test_the_environment_raises_the_refresh_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_MINITERS", "5")
    assert [TQDMProgressBar(rate).refresh_rate for rate in (0, 1, 7)] == [0, 5, 7]


def test_a_resumed_epoch_goes_on_where_it_was(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=3, save_top_k=-1)
    trainer_with(checkpoint, enable_progress_bar=False, max_steps=3).fit(Net(), data(4))
    bar = Makes()
    path = tmp_path / "kept" / "epoch=0-step=3.ckpt"
    trainer_with(bar, checkpoint).fit(Net(), data(4), ckpt_path=path)
    assert bar.seen == ["train", ("Epoch 0: ", 4, 4, "loss=0.250")]
    assert bar.train_progress_bar.initial == 3  # so its speed is that of this run


def test_a_test_inside_a_fit_has_a_line_of_its_own_and_does_not_stay(capsys: pytest.CaptureFixture[str]) -> None:
    bar = TQDMProgressBar()
    seen: list[Any] = []

    def run(trainer: Any, module: Any, *_: Any) -> None:
        trainer.test(module, data(2), verbose=False)
        seen.append((bar.test_progress_bar.pos, bar.test_progress_bar.leave))

    trainer_with(bar, LambdaCallback(on_train_batch_end=run)).fit(Net(), data(2))
    assert seen == [(-1, False)] * 2
    assert without_times(on_screen(capsys.readouterr().out)) == ["Epoch 0: 100% 2/2 loss=0.250"]


def test_bars_of_other_programs_have_room_above() -> None:
    bar = Makes(process_position=1)
    places: list[int] = []
    look = LambdaCallback(
        on_train_batch_end=lambda *_: places.append(bar.train_progress_bar.pos),
        on_validation_batch_end=lambda *_: places.append(bar.val_progress_bar.pos),
    )
    trainer_with(bar, look, num_sanity_val_steps=0).fit(Net(), data(1), data(1))
    assert bar.process_position == 1
    assert places == [-2, -3]


def test_a_bar_that_is_off_can_still_be_read() -> None:
    bar = Makes()
    bar.disable()
    trainer_with(bar).fit(Net(), data(1), data(1))
    assert [item for item in bar.seen if isinstance(item, str)] == ["sanity", "train", "validation"]
    assert bar.train_progress_bar.disable and bar.main_progress_bar is bar.train_progress_bar


def test_a_bar_that_was_not_made_yet_says_so() -> None:
    with pytest.raises(HookError) as caught:
        TQDMProgressBar().train_progress_bar
    assert str(caught.value) == "TQDMProgressBar: there is no bar of kind 'train' yet; it is made when that begins"


def test_a_bar_of_the_users_is_the_one_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm import tqdm

    class Own(TQDMProgressBar):
        def init_train_tqdm(self) -> Any:
            return tqdm(file=sys.stdout, bar_format="mine {desc}{n}")

    trainer_with(Own()).fit(Net(), data(2))
    assert on_screen(capsys.readouterr().out)[0] == "mine Epoch 0: 2"


def test_numbers_keep_their_width() -> None:
    numbers = (0.5, 2.0, 0.123456, 1234.5, 1e-9, float("nan"), 3, "word")
    assert [Tqdm.format_num(n) for n in numbers] == ["0.500", "2.000", "0.123", "1234.5", "1e-9", "nan", "3", "word"]
    assert [convert_inf(n) for n in (None, float("inf"), float("nan"), 3)] == [None, None, None, 3]


def test_no_thread_watches_the_bars() -> None:
    import threading

    before = set(threading.enumerate())
    during: list[Any] = []
    look = LambdaCallback(on_train_batch_end=lambda *_: during.extend(set(threading.enumerate()) - before))
    trainer_with(TQDMProgressBar(), look).fit(Net(), data(1))
    assert during == []


WITHOUT = """
import sys
sys.modules["tqdm"] = None
import lightkit as lk
try:
    lk.callbacks.TQDMProgressBar
except lk.errors.MissingExtraError as error:
    print(error)
"""


def test_without_tqdm_it_is_said_what_to_install() -> None:
    root = Path(lk.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == 'tqdm is needed by TQDMProgressBar: pip install "lightkit[tqdm]"\n'
