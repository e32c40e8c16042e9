"""A checkpoint written while the training goes on is the one that waiting for it would have written."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.checkpoint import files
from lightkit.checkpoint.async_write import AsyncWriter
from lightkit.checkpoint.plain import to_plain
from lightkit.checkpoint.writer import Writer
from lightkit.errors import CheckpointError, RunDirError


class HeldWriter(AsyncWriter):
    """Begins to write a file only when the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def _start(self, write: Callable[[], None]) -> None:
        def held() -> None:
            self.gate.wait()
            write()

        super()._start(held)


class OpenGate(lk.Callback):
    """Lets the file of the last step be written when the next step has changed the weights."""

    def __init__(self, writer: HeldWriter):
        self.writer, self.held = writer, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.held += bool(files.unfinished)
        self.writer.gate.set()
        self.writer.wait()
        self.writer.gate.clear()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.writer.gate.set()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.writer.gate.set()


class Net(lk.LightModule):
    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
        self.fails_at = fails_at

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.fails_at:
            raise ZeroDivisionError("a step that fails")
        loss = nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


def data() -> DataLoader[Any]:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), 8, shuffle=True)


def trainer_in(folder: Path, *callbacks: Any, is_async: bool = True, **arguments: Any) -> lk.Trainer:
    given = {"max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False, "logger": False, **arguments}
    return lk.Trainer(
        accelerator="cpu", run_dir=folder, callbacks=list(callbacks), async_checkpoint=is_async, **given
    )  # fmt: skip


def fit(folder: Path, *, is_async: bool, **arguments: Any) -> lk.Trainer:
    torch.manual_seed(5)
    writer = HeldWriter()
    trainer = trainer_in(folder, OpenGate(writer), ModelCheckpoint(**arguments), is_async=is_async)
    if is_async:
        trainer.checkpoint_writer = writer
    trainer.fit(Net(), data())
    return trainer


def contents(folder: Path) -> dict[str, Any]:
    """What each checkpoint of a run holds."""
    found = {}
    for path in sorted((folder / "checkpoints").iterdir()):
        loaded = torch.load(path, weights_only=True)
        (state,) = [s for key, s in loaded["callbacks"].items() if key.startswith("ModelCheckpoint")]
        del state["newest_file"]  # last.ckpt is a copy of the file beside it, which calls itself the newest
        found[path.name] = loaded
    return found


def assert_same(a: Any, b: Any, where: str, folders: tuple[Path, Path]) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride(), where
    elif isinstance(a, dict):
        keys = [key.replace(str(folders[0]), str(folders[1])) if isinstance(key, str) else key for key in a]
        assert keys == list(b), where
        for one, other in zip(a, b, strict=True):
            assert_same(a[one], b[other], f"{where}.{one}", folders)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}[{index}]", folders)
    else:
        assert (a.replace(str(folders[0]), str(folders[1])) if isinstance(a, str) else a) == b, where


@pytest.mark.parametrize("arguments", [
    {"every_n_train_steps": 1, "save_top_k": -1, "save_last": True},
    {"every_n_train_steps": 2, "save_last": True},
    {"every_n_train_steps": 1, "monitor": "loss", "save_top_k": 2, "save_last": "link"},
    {"every_n_train_steps": 1, "filename": "same", "save_top_k": -1},
    {"monitor": "loss", "filename": "best", "mode": "max"},
])  # fmt: skip
def test_a_run_leaves_the_files_that_it_leaves_without(tmp_path: Path, arguments: dict[str, Any]) -> None:
    plain, held = tmp_path / "plain", tmp_path / "held"
    waiting, going_on = fit(plain, is_async=False, **arguments), fit(held, is_async=True, **arguments)
    assert going_on.callbacks[0].held > 0, "a step changed the weights while a file waited to be written"
    first, second = contents(plain), contents(held)
    assert list(first) == list(second) and len(first) >= 1
    for name in first:
        assert_same(first[name], second[name], name, (plain, held))
    for attribute in ("best_model_path", "last_model_path", "kth_best_model_path"):
        one, other = (getattr(t.checkpoint_callback, attribute) for t in (waiting, going_on))
        assert other == one.replace(str(plain), str(held))
    assert all(files.is_whole(path) for path in (held / "checkpoints").iterdir())


def test_the_file_holds_the_state_at_the_moment_of_the_save_to_the_byte(tmp_path: Path) -> None:
    layer = nn.Linear(3, 3)
    tied = nn.Sequential(layer, layer, nn.BatchNorm1d(3))
    frozen = torch.arange(12.0).reshape(3, 4)
    state = {
        "state_dict": tied.state_dict(), "views": [frozen[1:], frozen.t(), frozen[:, 1]], "empty": torch.empty(0),
        "half": torch.ones(2, dtype=torch.bfloat16), "flags": torch.tensor([True, False]), "scalar": torch.tensor(3),
        "parameter": nn.Parameter(torch.ones(2)), "sparse": torch.eye(3).to_sparse(), "set": {1, 2},
        "size": torch.Size([2]), "pair": (1, torch.zeros(1)), "conjugate": torch.ones(2, dtype=torch.cfloat).conj(),
        "bytes": bytearray(b"ab"),
    }  # fmt: skip
    files.save(state, tmp_path / "waited.ckpt")
    writer = HeldWriter()
    writer.save(state, tmp_path / "held.ckpt")
    with torch.no_grad():
        for parameter in (*tied.parameters(), state["parameter"]):
            parameter.fill_(-1.0)
        frozen.zero_()
    state["bytes"][0] = 0
    state["views"].clear()
    assert not (tmp_path / "held.ckpt").exists()
    writer.gate.set()
    writer.settle()
    assert (tmp_path / "held.ckpt").read_bytes() == (tmp_path / "waited.ckpt").read_bytes()


def test_memory_is_kept_from_one_save_to_the_next(tmp_path: Path) -> None:
    writer = AsyncWriter()
    state = {"a": torch.ones(100), "b": torch.ones(100), "c": torch.ones(7)}

    def addresses() -> set[int]:
        return {t.data_ptr() for buffers in writer._buffers.kept.values() for t in buffers}

    writer.save(state, tmp_path / "0.ckpt")
    first = addresses()
    assert (len(first), writer._buffers.num_bytes) == (3, 828)
    for number in range(1, 5):
        writer.save(state, tmp_path / f"{number}.ckpt")
        assert addresses() == first
    writer.save({"a": torch.ones(5)}, tmp_path / "small.ckpt")
    assert writer._buffers.num_bytes == 20, "what the last checkpoint did not need is freed"
    writer.settle()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_file_that_cannot_be_written_ends_the_fit_with_the_same_error(tmp_path: Path, is_async: bool) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    trainer = trainer_in(tmp_path, ModelCheckpoint(tmp_path / "taken" / "here", filename="a"), is_async=is_async)
    with pytest.raises(RunDirError) as caught:
        trainer.fit(Net(), data())
    assert str(caught.value) == (
        f"cannot write the checkpoint {tmp_path}/taken/here/a.ckpt: Not a directory; choose a folder that can be "
        "written, with Trainer(default_root_dir=...) or dirpath=..."
    )
    assert trainer.state.status == "failed"
    assert not files.unfinished


def test_where_a_write_fails_the_file_that_it_replaces_stays(tmp_path: Path) -> None:
    writer, old, taken = HeldWriter(), tmp_path / "old.ckpt", tmp_path / "taken"
    files.save({"x": 1}, old)
    taken.write_text("")
    writer.save({"x": 2}, taken / "new.ckpt")
    writer.then(old.unlink)
    writer.afterwards(lambda: pytest.fail("what the write was for is not announced"))
    writer.gate.set()
    with pytest.raises(RunDirError, match=r"cannot write the checkpoint .*new\.ckpt: File exists;"):
        writer.save({"x": 3}, tmp_path / "next.ckpt")
    assert files.load(old) == {"x": 1}
    writer.save({"x": 3}, tmp_path / "next.ckpt")
    writer.then(old.unlink)
    writer.settle()
    assert files.load(tmp_path / "next.ckpt") == {"x": 3} and not old.exists()


def test_what_cannot_be_saved_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^checkpoint\['fn'\]: a builtin_function_or_method"):
        AsyncWriter().save({"fn": len}, tmp_path / "a.ckpt")


def test_readers_in_the_process_wait_for_the_file(tmp_path: Path) -> None:
    writer = AsyncWriter()
    for number in range(5):
        writer.save({"x": torch.full((200_000,), number)}, tmp_path / f"{number}.ckpt")
        assert files.load(tmp_path / f"{number}.ckpt")["x"][0] == number
        writer.save({"x": torch.full((200_000,), -number)}, tmp_path / f"{number}.ckpt")
        assert files.newest_whole(tmp_path) == tmp_path / f"{number}.ckpt"
        assert files.is_whole(tmp_path / f"{number}.ckpt") and not files.unfinished


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_run_that_an_error_ends_waits_for_the_file(tmp_path: Path, error: type[BaseException]) -> None:
    class Failing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if self.global_step == 3:
                raise error
            return super().training_step(batch, batch_idx)

    trainer = trainer_in(tmp_path, ModelCheckpoint(every_n_train_steps=1))
    trainer.checkpoint_writer = HeldWriter()
    trainer.callbacks.insert(0, OpenGate(trainer.checkpoint_writer))
    with pytest.raises(error):
        trainer.fit(Failing(), data())
    (path,) = (tmp_path / "checkpoints").iterdir()
    assert files.load(path)["global_step"] == 3 and not files.unfinished


def test_an_error_of_the_run_is_not_hidden_by_one_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    trainer = trainer_in(tmp_path, ModelCheckpoint(tmp_path / "taken", every_n_train_steps=3))
    with pytest.warns(UserWarning, match=r"^the last checkpoint was not written: cannot write the checkpoint "):
        with pytest.raises(ZeroDivisionError, match="a step that fails"):
            trainer.fit(Net(fails_at=3), data())


def test_the_best_is_tested_and_a_run_goes_on_from_the_last(tmp_path: Path) -> None:
    class Tested(Net):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("weight", self.layers[0].weight.sum())

    def run(folder: Path, epochs: int, ckpt_path: Any = None) -> lk.Trainer:
        torch.manual_seed(1)
        trainer = trainer_in(folder, ModelCheckpoint(monitor="loss", save_last=True), max_epochs=epochs)
        trainer.fit(Tested(), data(), ckpt_path=ckpt_path)
        return trainer

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 4, "last")
    for name, weights in whole.lightning_module.state_dict().items():
        assert torch.equal(weights, resumed.lightning_module.state_dict()[name]), name
    best = files.load(whole.checkpoint_callback.best_model_path)["state_dict"]["layers.0.weight"].sum()
    assert whole.test(dataloaders=data(), ckpt_path="best", verbose=False)[0]["weight"] == pytest.approx(float(best))


def test_a_checkpoint_saved_by_hand_after_a_run_is_there_at_once(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, enable_checkpointing=False)
    trainer.fit(Net(), data())
    trainer.save_checkpoint(tmp_path / "final.ckpt")
    assert torch.load(tmp_path / "final.ckpt", weights_only=True)["global_step"] == 8


def test_loggers_hear_of_a_checkpoint_when_it_is_there(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []

    class Uploads(lk.loggers.Logger):
        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            assert threading.current_thread() is threading.main_thread()
            path = Path(checkpoint_callback.best_model_path)
            seen.append((path.name, files.is_whole(path)))

    trainer = trainer_in(tmp_path, ModelCheckpoint(every_n_epochs=1), logger=Uploads())
    trainer.fit(Net(), data())
    assert seen == [("epoch=0-step=4.ckpt", True), ("epoch=1-step=8.ckpt", True)]


@pytest.mark.gpu
def test_a_state_on_the_gpu_is_copied_before_the_next_kernel_changes_it(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    weights = torch.randn(1 << 22, device="cuda")
    wanted, writer = weights.clone(), AsyncWriter()
    for number in range(3):
        writer.save({"weights": weights, "half": weights[: 1 << 21]}, tmp_path / f"{number}.ckpt")
        weights.add_(1.0)
        writer.settle()
        found = files.load(tmp_path / f"{number}.ckpt")
        assert torch.equal(found["weights"], wanted.cpu()) and torch.equal(found["half"], wanted[: 1 << 21].cpu())
        assert to_plain(found)["half"].data_ptr() == found["weights"].data_ptr()
        wanted.add_(1.0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda writer: pickle.loads(pickle.dumps(writer))])
@pytest.mark.parametrize("kind", [Writer, AsyncWriter])
def test_a_copy_of_a_writer_writes_and_knows_nothing_of_what_is_under_way(
    tmp_path: Path, kind: type[Writer], copied: Any
) -> None:
    writer = kind()
    writer.save({"a": torch.ones(3)}, tmp_path / "a.ckpt")
    writer.afterwards(lambda: None)  # a lambda cannot be pickled
    other = copied(writer)
    assert type(other) is kind
    other.save({"b": torch.ones(3)}, tmp_path / "b.ckpt")
    for each in (writer, other):
        each.settle()
    assert list(files.load(tmp_path / "a.ckpt")) == ["a"]
    assert list(files.load(tmp_path / "b.ckpt")) == ["b"]
