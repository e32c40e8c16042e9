"""Signals that ask a run to end, and runs that are started again: saved, torn down, gone on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint
from lightkit.errors import ConfigError, StoppedBySignal
from lightkit.utilities.exceptions import SIGTERMException

STOPPED = "stopped_by_signal.ckpt"
SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]


def batches(samples: int = 24) -> DataLoader[Any]:
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4, shuffle=True)


class Net(lk.LightModule):
    """Sends itself signals: `at` says in which hook, and at which of its calls, counted over the process."""

    def __init__(self, at: str = "", call: int = 0, number: int = signal.SIGTERM, times: int = 1):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        self.at, self.call, self.number, self.times = at, call, number, times
        self.calls: list[str] = []

    def note(self, hook: str) -> None:
        self.calls.append(hook)
        if hook == self.at and self.calls.count(hook) == self.call + 1:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def prepare_data(self) -> None:
        self.note("prepare_data")

    def on_train_epoch_end(self) -> None:
        self.note("on_train_epoch_end")

    def on_train_end(self) -> None:
        self.note("on_train_end")

    def teardown(self, stage: str) -> None:
        self.note("teardown")

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.note("training_step")
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.note("validation_step")
        self.log("val_loss", self.loss(batch), on_step=True, on_epoch=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.note("test_step")
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.note("predict_step")
        return self.layers(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


def trainer(folder: Path, callbacks: list[Any] | None = None, **arguments: Any) -> lk.Trainer:
    given: dict[str, Any] = {
        "max_epochs": 3, "accelerator": "cpu", "run_dir": folder / "run", "log_every_n_steps": 1,
        "enable_progress_bar": False, "enable_model_summary": False, "resume": "auto",
        "callbacks": [ModelCheckpoint(save_last=True)] if callbacks is None else callbacks,
    }  # fmt: skip
    return lk.Trainer(**{**given, **arguments})


def fit(folder: Path, net: Net, callbacks: list[Any] | None = None, **arguments: Any) -> tuple[lk.Trainer, Net]:
    """Fit as a process of its own would: seeded, with everything made anew."""
    lk.seed_everything(3, workers=True, verbose=False)
    net.load_state_dict(Net().state_dict())
    made = trainer(folder, callbacks, **arguments)
    made.fit(net, batches(), batches(8))
    return made, net


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ckpt"))


def rows(folder: Path) -> str:
    return (folder / "run" / "metrics.csv").read_text()


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert a == b, where


def assert_ended_alike(whole: Path, parts: Path, first: lk.Trainer, second: lk.Trainer) -> None:
    assert files(whole) == files(parts)
    assert rows(whole) == rows(parts)
    for made, folder in ((first, whole), (second, parts)):
        made.save_checkpoint(folder / "end.pt")
    one, other = (torch.load(folder / "end.pt", weights_only=True) for folder in (whole, parts))
    for key in ("state_dict", "optimizer_states", "rng", "global_step", "epoch"):
        assert_same(one[key], other[key], key)


# ------------------------------------------------------------ a fit that is stopped


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_fit_before_its_next_step_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Net("training_step", 7, number)
    with pytest.raises(StoppedBySignal) as end:
        fit(tmp_path, net)
    assert end.value.code == 128 + number and isinstance(end.value, SystemExit)
    assert net.calls.count("training_step") == 8 and net.calls[-1] == "teardown"
    saved = tmp_path / "run" / "checkpoints" / STOPPED
    assert torch.load(saved, weights_only=True)["global_step"] == 8
    assert capsys.readouterr().out.strip() == (
        f"{number.name}: the fit ends in epoch 1, after step 8; saved {saved}. "
        "Go on with ckpt_path='last' or Trainer(resume='auto')"
    )
    assert [signal.getsignal(one) for one in SIGNALS] == [signal.SIG_DFL] * 3, "as before the fit"


@pytest.mark.parametrize(("at", "call"), [
    ("training_step", 0), ("training_step", 3), ("training_step", 5), ("training_step", 6), ("training_step", 17),
    ("validation_step", 0), ("validation_step", 2), ("validation_step", 3), ("validation_step", 6),
    ("on_train_epoch_end", 0), ("on_train_epoch_end", 2), ("on_train_end", 0), ("prepare_data", 0), ("teardown", 0),
])  # fmt: skip
def test_a_stopped_fit_that_goes_on_ends_as_the_whole_one(tmp_path: Path, at: str, call: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first, _ = fit(whole, Net())
    net = Net(at, call)
    with pytest.raises(StoppedBySignal):
        fit(parts, net)
    second, again = fit(parts, Net())
    assert_ended_alike(whole, parts, first, second)
    took = [n.calls.count("training_step") for n in (net, again)]
    assert sum(took) == 18, "no step was taken twice"


def test_a_fit_that_is_stopped_again_and_again_ends_as_the_whole_one(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"accumulate_grad_batches": 2, "async_checkpoint": True}
    first, _ = fit(whole, Net(), **options)
    stops, net = 0, Net("training_step", 1)
    while True:
        try:
            second, _ = fit(parts, net, **options)
            break
        except StoppedBySignal:
            stops, net = stops + 1, Net("training_step", 1)
    assert stops == 9
    assert_ended_alike(whole, parts, first, second)


def test_an_open_accumulation_window_is_finished_first(tmp_path: Path) -> None:
    net = Net("training_step", 1)
    with pytest.raises(StoppedBySignal):
        fit(tmp_path, net, accumulate_grad_batches=3)
    assert net.calls.count("training_step") == 3
    assert torch.load(tmp_path / "run" / "checkpoints" / STOPPED, weights_only=True)["global_step"] == 1


def test_a_signal_while_a_metric_says_stop_loses_no_validation(tmp_path: Path) -> None:
    """EarlyStopping stops inside of an epoch, where the validation is due every two batches."""

    def stopping() -> list[Any]:
        return [EarlyStopping("val_loss", patience=0, min_delta=9.0), ModelCheckpoint(every_n_train_steps=2)]

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first, _ = fit(whole, Net(), stopping(), val_check_interval=2)
    with pytest.raises(StoppedBySignal):
        fit(parts, Net("validation_step", 5), stopping(), val_check_interval=2)
    second, _ = fit(parts, Net(), stopping(), val_check_interval=2)
    assert_ended_alike(whole, parts, first, second)


def test_save_on_exception_saves_for_a_signal_too(tmp_path: Path) -> None:
    keeping = ModelCheckpoint(save_on_exception=True, filename="{step}")
    with pytest.raises(StoppedBySignal):
        fit(tmp_path, Net("training_step", 3), [keeping])
    assert files(tmp_path / "run" / "checkpoints") == ["step=4.ckpt", STOPPED]


def test_without_checkpoints_nothing_is_saved_and_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoppedBySignal):
        fit(tmp_path, Net("training_step", 3), [], enable_checkpointing=False)
    assert files(tmp_path) == []
    told = capsys.readouterr().out.strip()
    assert told == "SIGTERM: the fit ends in epoch 0, after step 4; nothing is saved, as checkpoints are off"


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    net = Net("training_step", 3, times=2)
    with pytest.raises(StoppedBySignal):
        fit(tmp_path, net)
    assert net.calls[-2:] == ["training_step", "teardown"]
    assert files(tmp_path) == [], "in the middle of a step"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("call", [0, 1])
def test_a_signal_in_the_sanity_check_ends_it_at_once(tmp_path: Path, call: int) -> None:
    net = Net("validation_step", call)
    with pytest.raises(StoppedBySignal):
        fit(tmp_path, net)
    assert "training_step" not in net.calls and net.calls[-1] == "teardown"
    assert files(tmp_path) == []


@pytest.mark.parametrize("fn", ["validate", "test", "predict"])
def test_an_evaluation_ends_before_its_next_batch_and_leaves_the_module_as_it_was(tmp_path: Path, fn: str) -> None:
    step = {"validate": "validation_step"}.get(fn, f"{fn}_step")
    net, made = Net(step, 1), trainer(tmp_path)
    state = torch.get_rng_state()
    with pytest.raises(StoppedBySignal):
        getattr(made, fn)(net, batches())
    assert net.calls == ["prepare_data", step, step, "teardown"]
    assert net.training and torch.equal(torch.get_rng_state(), state)
    assert made.state.status == "interrupted" and made.interrupted
    assert len(getattr(made, fn)(net, batches())) > 0, "the next call knows nothing of it"


def test_an_evaluation_inside_of_a_hook_is_finished_and_the_fit_ends(tmp_path: Path) -> None:
    class Looking(Net):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                self.trainer.test(self, batches(), verbose=False)

    net = Looking("test_step", 1)
    with pytest.raises(StoppedBySignal):
        fit(tmp_path, net)
    assert (net.calls.count("test_step"), net.calls.count("training_step")) == (6, 3)


# ------------------------------------------------------------ whose handlers


def test_a_handler_of_the_user_s_is_left_alone(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        fit(tmp_path, Net("training_step", 3))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_handler_set_during_the_fit_stays(tmp_path: Path) -> None:
    class Setting(Net):
        def on_train_end(self) -> None:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    try:
        fit(tmp_path, Setting())
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_faulthandler_s_signal_is_left_alone(tmp_path: Path) -> None:
    import faulthandler

    with open(tmp_path / "stacks", "w") as stacks:
        faulthandler.register(signal.SIGUSR1, stacks)
        try:
            fit(tmp_path, Net("training_step", 3, signal.SIGUSR1))
        finally:
            faulthandler.unregister(signal.SIGUSR1)
    assert "most recent call first" in (tmp_path / "stacks").read_text()


def test_a_fit_in_a_thread_takes_no_handler(tmp_path: Path) -> None:
    found: list[Any] = []

    class Looking(Net):
        def on_train_end(self) -> None:
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=fit, args=(tmp_path, Looking()))
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def test_a_process_forked_in_a_hook_ends_by_the_signal(tmp_path: Path) -> None:
    ends: list[int] = []

    class Forking(Net):
        def on_train_end(self) -> None:
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(writer, b"!")  # Python forgets what comes before it has seen to the fork
                time.sleep(30)
                os._exit(0)
            os.read(reader, 1)
            os.kill(child, signal.SIGTERM)
            ends.append(os.waitpid(child, 0)[1])

    fit(tmp_path, Forking())
    assert [os.WTERMSIG(end) for end in ends] == [signal.SIGTERM]


def test_the_end_is_known_by_lightning_s_name() -> None:
    assert SIGTERMException is StoppedBySignal


# ------------------------------------------------------------ resume="auto"


def test_a_first_start_begins_anew_and_a_finished_run_takes_no_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, net = fit(tmp_path, Net())
    assert net.calls.count("training_step") == 18
    assert capsys.readouterr().out == ""
    before = files(tmp_path), rows(tmp_path)
    second, again = fit(tmp_path, Net())
    assert "training_step" not in again.calls and second.global_step == 18
    assert (files(tmp_path), rows(tmp_path)) == before
    assert_same(net.state_dict(), again.state_dict())
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert capsys.readouterr().out.strip() == (
        f"fit: nothing is left to train, the run is finished: the checkpoint {last} is at epoch 3, step 18. Raise the "
        "limit to go on, or make another Trainer and fit without ckpt_path to train from the start"
    )


def test_a_finished_run_takes_no_step_where_its_newest_checkpoint_is_older(tmp_path: Path) -> None:
    def every_five() -> list[Any]:
        return [ModelCheckpoint(every_n_train_steps=5)]

    fit(tmp_path, Net(), every_five())
    before = files(tmp_path), rows(tmp_path)
    made, net = fit(tmp_path, Net(), every_five())
    assert "training_step" not in net.calls and made.global_step == 15
    assert (files(tmp_path), rows(tmp_path)) == before
    made, net = fit(tmp_path, Net(), every_five(), max_epochs=4)
    assert net.calls.count("training_step") == 9 and made.global_step == 24, "more is asked for: it goes on"


def test_a_run_that_stopped_early_is_finished_too(tmp_path: Path) -> None:
    def stopping() -> list[Any]:
        return [EarlyStopping("val_loss", patience=0, min_delta=9.0), ModelCheckpoint(every_n_epochs=5)]

    _, net = fit(tmp_path, Net(), [*stopping(), ModelCheckpoint(every_n_train_steps=4)], max_epochs=9)
    assert net.calls.count("training_step") == 12
    made, net = fit(tmp_path, Net(), [*stopping(), ModelCheckpoint(every_n_train_steps=4)], max_epochs=9)
    assert "training_step" not in net.calls


def test_a_run_begun_anew_is_not_finished(tmp_path: Path) -> None:
    fit(tmp_path, Net())
    with pytest.raises(StoppedBySignal):
        fit(tmp_path, Net("training_step", 7), resume=None)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"] is None
    made, net = fit(tmp_path, Net())
    assert net.calls.count("training_step") == 10 and made.global_step == 18


def test_the_newest_fit_of_the_name_goes_on_and_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    options: dict[str, Any] = {"run_dir": None, "default_root_dir": tmp_path, "run_name": "mine"}
    for _ in range(2):
        fit(tmp_path, Net(), resume=None, max_epochs=1, **options)
    trainer(tmp_path, resume=None, **options).test(Net(), batches(), verbose=False)
    runs = tmp_path / "runs" / "mine"
    assert sorted(path.name for path in runs.iterdir()) == ["version_0", "version_1", "version_2"]
    (runs / "version_1" / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 cut off")
    made, net = fit(tmp_path, Net(), max_epochs=2, **options)
    assert made.run_dir == runs / "version_1"
    assert net.calls.count("training_step") == 6 and made.global_step == 12


def test_a_second_fit_of_the_trainer_goes_on_from_memory(tmp_path: Path) -> None:
    made, net = fit(tmp_path, Net(), max_epochs=1)
    made.max_epochs = 2
    made.fit(net, batches(), batches(8))
    assert made.global_step == 12 and made.ckpt_path is None


def test_another_value_of_resume_is_an_error() -> None:
    with pytest.raises(ConfigError) as error:
        lk.Trainer(resume="Auto", max_epochs=1)  # type: ignore[arg-type]
    assert str(error.value) == "Trainer(resume='Auto'): expected one of 'auto', None; did you mean 'auto'?"


# ------------------------------------------------------------ processes


SCRIPT = """
import sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
import lightkit as lk


class Slow(Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, index):
        time.sleep(0.002)
        return torch.randn(4)


class Net(lk.LightModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        print("step", self.global_step, flush=True)
        return self.layer(batch).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    stays, context = "stay" in sys.argv, sys.argv[1]
    loader = DataLoader(Slow(), 4, num_workers=2, persistent_workers=stays, multiprocessing_context=context)
    trainer = lk.Trainer(max_epochs=9, accelerator="cpu", run_dir="run", enable_progress_bar=False, resume="auto",
                         enable_model_summary=False, logger=False)
    trainer.fit(Net(), loader)
    print("after the fit", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("context", "number"), [
    ("fork", signal.SIGTERM), ("fork", signal.SIGUSR1), ("spawn", signal.SIGTERM),
])  # fmt: skip
def test_a_job_whose_workers_get_the_signal_too_is_saved_and_leaves_no_process(
    tmp_path: Path, context: str, number: signal.Signals
) -> None:
    """As Slurm, systemd and `timeout` do: every process of the job gets it."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "script.py", context, "stay"], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.split() == ["step", "7"]:
            os.killpg(process.pid, number)
            break
    told, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    # multiprocessing's own helper, which got the signal too, may say what it found
    ours = [line for line in errors.splitlines() if "resource_tracker" not in line and "warnings.warn" not in line]
    assert ours == [] and "after the fit" not in told
    assert (tmp_path / "run" / "checkpoints" / STOPPED).is_file()
    for _ in range(100):  # multiprocessing's own helper takes its time
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail(subprocess.run(["ps", "-eo", "pid,pgid,args"], check=False, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_a_worker_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """It lets the first signal pass, and would not notice a second one."""
    text = SCRIPT.replace("time.sleep(0.002)", "time.sleep(600 if index == 40 else 0.002)")
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "script.py", "fork"], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    for _ in range(2):
        time.sleep(1)  # two at once are one for the system
        os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
