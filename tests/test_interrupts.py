"""Ctrl-C: the batch is finished first, so that what is saved afterwards is gone on from exactly; twice ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore:the checkpoint has states of callbacks")


def data() -> DataLoader[Any]:
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=True)


class Net(lk.LightModule):
    """Gets Ctrl-C in a hook of choice, in the second epoch, and again in the same place where `times` says so."""

    def __init__(self, at: str = "", times: int = 1):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.4), nn.Linear(6, 1))
        self.at, self.times, self.batches = at, times, 0

    def _press(self, hook: str) -> None:
        if hook == self.at and self.trainer.current_epoch == 1 and self.trainer.fit_loop.batches_done == 3:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)

    def loss(self, batch: Any) -> Tensor:
        loss: Tensor = (self.layers(batch[0]) - batch[1]).square().mean()
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self._press("training_step")
        self.batches += 1
        loss = self.loss(batch)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_after_backward(self) -> None:
        self._press("on_after_backward")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self._press("on_before_optimizer_step")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._press("on_train_batch_start")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("v", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05)


def trainer(tmp_path: Path, *callbacks: Any, **more: Any) -> lk.Trainer:
    return lk.Trainer(
        max_epochs=2, default_root_dir=tmp_path, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=bool(callbacks), callbacks=list(callbacks), **more,
    )  # fmt: skip


def left(net: Net, found: lk.Trainer) -> list[Any]:
    metrics = sorted((name, float(value)) for name, value in found.callback_metrics.items())
    tensors = [*net.state_dict().values(), torch.get_rng_state()]
    return [*(tensor.tolist() for tensor in tensors), metrics, found.global_step]


HOOKS = ["training_step", "on_train_batch_start", "on_after_backward", "on_before_optimizer_step"]


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_file_saved_after_ctrl_c_is_gone_on_from_exactly(tmp_path: Path, hook: str, accumulate: int) -> None:
    if hook == "on_before_optimizer_step" and accumulate == 3:
        pytest.skip("no step in that batch")
    lk.seed_everything(3)
    whole, undisturbed = Net(), trainer(tmp_path, accumulate_grad_batches=accumulate)
    undisturbed.fit(whole, data(), data())
    wanted = left(whole, undisturbed)

    lk.seed_everything(3)
    net, found = Net(hook), trainer(tmp_path, accumulate_grad_batches=accumulate)
    with pytest.raises(KeyboardInterrupt):
        found.fit(net, data(), data())
    assert found.interrupted and net.batches == 6 + 4  # the batch was finished, none after it was begun
    found.save_checkpoint(tmp_path / "a.ckpt")  # what a script does in `except KeyboardInterrupt`

    lk.seed_everything(4)
    again, resumed = Net(), trainer(tmp_path, accumulate_grad_batches=accumulate)
    resumed.fit(again, data(), data(), ckpt_path=tmp_path / "a.ckpt")
    assert left(again, resumed) == wanted


def test_ctrl_c_before_a_validation_is_followed_by_it_after_the_resume(tmp_path: Path) -> None:
    ends = []
    for at in ("", "training_step"):
        lk.seed_everything(3)
        net = Net(at)
        found = trainer(tmp_path / at, ModelCheckpoint(tmp_path / at, "x", save_on_exception=True, every_n_epochs=9),
                        val_check_interval=2)  # fmt: skip
        if at:
            with pytest.raises(KeyboardInterrupt):
                found.fit(net, data(), data())
            net = Net()
            found = trainer(tmp_path / "again", val_check_interval=2)
            found.fit(net, data(), data(), ckpt_path=tmp_path / at / "x.ckpt")
        else:
            found.fit(net, data(), data())
        ends.append(left(net, found))
    assert ends[0] == ends[1]


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    net = Net("training_step", times=2)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).fit(net, data())
    assert net.batches == 6 + 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("fn", ["setup", "validation_step"])
def test_what_is_no_training_ends_where_it_is(tmp_path: Path, fn: str) -> None:
    class Presses(Net):
        after = False

        def press(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            self.after = True

        def setup(self, stage: str) -> None:
            self.press() if fn == "setup" else None

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.press() if not self.trainer.sanity_checking else None

    net = Presses()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).fit(net, data(), data())
    assert not net.after


def test_a_handler_of_the_users_is_left_alone(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        trainer(tmp_path).fit(Net("training_step"), data())
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_threads_have_no_handler(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Looks(Net):
        def on_train_start(self) -> None:
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=lambda: trainer(tmp_path).fit(Looks(), data()))
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


class Rows(Dataset[Tensor]):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = torch.full((4,), float(index))
        return x, x[:1]

    def __len__(self) -> int:
        return 24


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]
        return iter(Rows()[index] for index in range(24))


@pytest.mark.parametrize("rows", [Rows(), Stream()])
def test_workers_that_get_it_too_raise_nothing_else(tmp_path: Path, rows: Any) -> None:
    class ToAll(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.trainer.fit_loop.batches_done == 2:
                for worker in torch.multiprocessing.active_children():
                    os.kill(worker.pid, signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return super().training_step(batch, batch_idx)

    loader = DataLoader(rows, batch_size=4, num_workers=2)
    net = ToAll()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).fit(net, loader)
    assert net.batches == 3
