"""`Trainer(plugins=...)`: a format of checkpoints of the user's own, and precisions as objects."""

from __future__ import annotations

import copy
import pickle
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.accelerators import CPUAccelerator, CUDAAccelerator
from lightkit.checkpoint.async_write import AsyncWriter
from lightkit.checkpoint.writer import Writer
from lightkit.errors import CheckpointError, ConfigError
from lightkit.plugins import AsyncCheckpointIO, CheckpointIO, DoublePrecision, HalfPrecision, MixedPrecision
from lightkit.plugins.io import TorchCheckpointIO


class Module(lk.LightModule):
    """Learns with momentum and dropout, so that a resume needs everything."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.dtypes: set[torch.dtype] = set()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        out = self.net(batch[0])
        self.dtypes.add(out.dtype)
        loss = out.square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def module() -> Module:
    torch.manual_seed(1)
    return Module()


def data() -> DataLoader[Any]:
    torch.manual_seed(2)
    return DataLoader(TensorDataset(torch.randn(24, 4)), batch_size=4, shuffle=True)


def trainer(folder: Path, **arguments: Any) -> lk.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lk.Trainer(default_root_dir=folder, **{"max_epochs": 2, **quiet, **arguments})


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Pickled(CheckpointIO):
    """Checkpoints as pickles; notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        self.calls.append(f"save {Path(path).name}")
        Path(path).write_bytes(pickle.dumps(checkpoint))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        self.calls.append(f"load {Path(path).name}")
        found: dict[str, Any] = pickle.loads(Path(path).read_bytes())
        return found

    def remove_checkpoint(self, path: str | Path) -> None:
        self.calls.append(f"remove {Path(path).name}")
        Path(path).unlink()

    def teardown(self) -> None:
        self.calls.append("teardown")


def test_a_user_s_format_saves_and_removes_what_model_checkpoint_keeps(tmp_path: Path) -> None:
    io = Pickled()
    saving = lk.callbacks.ModelCheckpoint(tmp_path / "own", filename="{epoch}")
    trainer(tmp_path, plugins=[io], callbacks=[saving]).fit(module(), data())
    assert io.calls == ["save epoch=0.ckpt", "save epoch=1.ckpt", "remove epoch=0.ckpt", "teardown"]
    (file,) = (tmp_path / "own").iterdir()
    content = pickle.loads(file.read_bytes())
    assert content["epoch"] == 1 and content["global_step"] == 12


def test_a_run_resumed_from_a_user_s_format_reaches_the_same_weights(tmp_path: Path) -> None:
    whole, half = module(), module()
    trainer(tmp_path / "a", enable_checkpointing=False).fit(whole, data())
    io = Pickled()
    first = trainer(tmp_path / "b", max_steps=8, plugins=io, enable_checkpointing=False)
    first.fit(half, data())
    first.save_checkpoint(tmp_path / "half.bin")
    resumed = module()
    with torch.no_grad():
        resumed.net[0].weight.zero_()
    third = trainer(tmp_path / "c", plugins=io, enable_checkpointing=False)
    third.fit(resumed, data(), ckpt_path=tmp_path / "half.bin")
    assert "load half.bin" in io.calls
    assert same_weights(resumed, whole)
    assert not same_weights(half, whole)


def test_an_evaluation_reads_through_the_user_s_format(tmp_path: Path) -> None:
    class Tested(Module):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("test_loss", self.net(batch[0]).square().mean())

    torch.manual_seed(1)
    trained, io = Tested(), Pickled()
    runs = trainer(tmp_path, plugins=[io], enable_checkpointing=False)
    runs.fit(trained, data())
    runs.save_checkpoint(tmp_path / "end.bin")
    (wanted,) = runs.test(trained, data(), verbose=False)
    (found,) = runs.test(Tested(), data(), ckpt_path=tmp_path / "end.bin", verbose=False)
    assert found == wanted
    assert io.calls.count("load end.bin") == 1


def test_what_a_format_returns_must_be_the_dict(tmp_path: Path) -> None:
    class Wrong(Pickled):
        def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
            return [path]

    message = f"Wrong.load_checkpoint('{tmp_path}/a.bin') returned a list; expected the dict that was saved"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        trainer(tmp_path, plugins=[Wrong()]).fit(module(), data(), ckpt_path=tmp_path / "a.bin")


class Slow(Pickled):
    """Waits until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on, self.threads = threading.Event(), set[str]()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        self.go_on.wait(60)
        self.threads.add(threading.current_thread().name)
        super().save_checkpoint(checkpoint, path)


def test_an_asynchronous_format_holds_the_state_of_when_it_was_saved(tmp_path: Path) -> None:
    inner = Slow()
    io = AsyncCheckpointIO(inner)
    checkpoint = {"weights": torch.zeros(3)}
    io.save_checkpoint(checkpoint, tmp_path / "a.bin")
    checkpoint["weights"].fill_(1.0)
    inner.go_on.set()
    assert torch.equal(io.load_checkpoint(tmp_path / "a.bin")["weights"], torch.zeros(3))
    assert inner.threads == {"checkpoint"}


def test_an_error_of_the_thread_is_raised_at_the_end_of_the_run(tmp_path: Path) -> None:
    class Full(Pickled):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match=r"^the disk is full$"):
        trainer(tmp_path, max_epochs=1, plugins=[AsyncCheckpointIO(Full())]).fit(module(), data())


def test_lightkit_s_own_format_keeps_its_writers(tmp_path: Path) -> None:
    assert type(trainer(tmp_path, plugins=[TorchCheckpointIO()]).checkpoint_writer) is Writer
    assert type(trainer(tmp_path, plugins=[AsyncCheckpointIO()]).checkpoint_writer) is AsyncWriter
    io = TorchCheckpointIO()
    io.save_checkpoint({"a": torch.ones(2)}, tmp_path / "a.ckpt")
    assert torch.equal(io.load_checkpoint(tmp_path / "a.ckpt")["a"], torch.ones(2))
    io.remove_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "a.ckpt").exists()
    message = (
        "save_checkpoint(storage_options=1): this format has none; write a CheckpointIO that takes them, and give it "
        "to Trainer(plugins=[...])"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        io.save_checkpoint({}, tmp_path / "a.ckpt", storage_options=1)


@pytest.mark.parametrize("plugin, word, dtype", [
    (lambda: DoublePrecision(), "64-true", torch.float64),
    (lambda: HalfPrecision("bf16-true"), "bf16-true", torch.bfloat16),
    (lambda: MixedPrecision("bf16-mixed", "cpu"), "bf16-mixed", torch.bfloat16),
    (lambda: MixedPrecision("16-mixed", "cpu"), "16-mixed", torch.float16),
])  # fmt: skip
def test_a_precision_as_an_object_trains_as_its_word_does(tmp_path: Path, plugin: Any, word: str, dtype: Any) -> None:
    by_object, by_word = module(), module()
    made = trainer(tmp_path / "a", plugins=[plugin()], enable_checkpointing=False)
    made.fit(by_object, data())
    trainer(tmp_path / "b", precision=word, enable_checkpointing=False).fit(by_word, data())
    assert same_weights(by_object, by_word)
    assert by_object.dtypes == {dtype}
    assert made.precision.name == word


def test_a_scaler_of_the_user_s_scales_the_loss(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    runs = trainer(tmp_path, plugins=MixedPrecision("16-mixed", "cpu", scaler), enable_checkpointing=False)
    runs.fit(module(), data())
    assert runs.precision.scaler is scaler
    assert scaler.get_scale() == 8.0


@pytest.mark.parametrize("arguments, message", [
    ({"plugins": [Pickled]}, f"Trainer(plugins=[{Pickled!r}]): expected objects of lightkit.plugins, a CheckpointIO or "
     f"a Precision, got {Pickled!r}"),
    ({"plugins": "ddp"}, "Trainer(plugins='ddp'): expected objects of lightkit.plugins, a CheckpointIO or a Precision, "
     "got 'ddp'"),
])  # fmt: skip
def test_a_plugin_of_no_kind_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        lk.Trainer(max_epochs=1, **arguments)


def test_plugins_that_contradict_something_are_refused() -> None:
    for arguments, end in (
        ({"plugins": [Pickled(), Pickled()]}, "2 of the kind CheckpointIO; give one"),
        ({"plugins": [DoublePrecision()], "precision": "32"}, "both say the precision; give one of them"),
        ({"plugins": [Pickled()], "async_checkpoint": True},
         "both say who writes checkpoints; write plugins=[AsyncCheckpointIO(Pickled(...))]"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"^Trainer\\(.*: {re.escape(end)}$"):
            lk.Trainer(max_epochs=1, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^MixedPrecision\('32', \.\.\.\): expected '16-mixed' or 'bf16-mixed'$"):
        MixedPrecision("32", "cpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^HalfPrecision\('16'\): expected '16-true' or 'bf16-true'$"):
        HalfPrecision("16")  # type: ignore[arg-type]


def test_an_accelerator_may_be_an_object(tmp_path: Path) -> None:
    assert trainer(tmp_path, accelerator=CPUAccelerator()).devices == [torch.device("cpu")]
    assert CPUAccelerator.is_available() and CPUAccelerator.auto_device_count() == 1
    assert CUDAAccelerator.is_available() == torch.cuda.is_available()


def test_after_an_error_of_the_user_s_one_of_the_thread_is_a_warning(tmp_path: Path) -> None:
    class Full(Pickled):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
            raise OSError("the disk is full")

    class Breaks(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.current_epoch == 1:
                raise ValueError("the user's own")
            return super().training_step(batch, batch_idx)

    inner = Full()
    torn_down: list[str] = []

    class Told(lk.Callback):
        def teardown(self, trainer: lk.Trainer, pl_module: Any, stage: str) -> None:
            torn_down.append(stage)

    with pytest.raises(ValueError, match=r"^the user's own$"), pytest.warns(UserWarning, match="disk is full"):
        trainer(tmp_path, max_epochs=2, plugins=[AsyncCheckpointIO(inner)], callbacks=[Told()]).fit(Breaks(), data())
    assert inner.calls == ["teardown"] and torn_down == ["fit"]


def test_a_format_that_writes_can_be_copied(tmp_path: Path) -> None:
    event = threading.Event()

    class Held(Pickled):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
            event.wait(60)

    io = AsyncCheckpointIO(Held())
    io.save_checkpoint({"weights": torch.zeros(3)}, tmp_path / "a.bin")
    copied = copy.deepcopy(io)
    event.set()
    assert isinstance(copied.checkpoint_io, Held) and copied.checkpoint_io is not io.checkpoint_io
    io.wait()
