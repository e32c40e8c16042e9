"""What a checkpoint holds, and which one is taken: "last" of several, two callbacks of one key, crafted numpy data."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.checkpoint import contents, files

STEPS = 4


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).pow(2).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", float(self.current_epoch))  # the first is the best

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(root: Path, callbacks: list[Any], **arguments: Any) -> Any:
    trainer = lk.Trainer(
        accelerator="cpu", default_root_dir=root, logger=False, callbacks=callbacks, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=3,
    )  # fmt: skip
    trainer.fit(Net(), DataLoader(torch.ones(8, 3), 2), DataLoader(torch.ones(2, 3)), **arguments)
    return trainer


def test_last_is_the_newest_of_all_folders_of_the_callbacks(tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        best = ModelCheckpoint(dirpath=tmp_path / "best", monitor="val_loss")
        return [best, ModelCheckpoint(dirpath=tmp_path / "each", every_n_train_steps=1)]

    fit(tmp_path, callbacks())
    assert [p.name for p in (tmp_path / "best").iterdir()] == [f"epoch=0-step={STEPS}.ckpt"]
    resumed = fit(tmp_path, callbacks(), ckpt_path="last")
    assert resumed.ckpt_path == str(tmp_path / "each" / f"epoch=2-step={3 * STEPS}.ckpt")


def test_last_is_looked_for_in_the_run_directory_too_where_one_callback_saves_there(tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        best = ModelCheckpoint(dirpath=tmp_path / "best", monitor="val_loss")
        return [best, ModelCheckpoint(every_n_train_steps=1)]

    first = fit(tmp_path, callbacks())
    resumed = fit(tmp_path, callbacks(), ckpt_path="last")
    assert resumed.ckpt_path == str(first.run_dir / "checkpoints" / f"epoch=2-step={3 * STEPS}.ckpt")
    assert resumed.run_dir == first.run_dir


def test_last_passes_over_weights_alone_where_training_goes_on(tmp_path: Path) -> None:
    first = fit(tmp_path, [ModelCheckpoint()])
    folder = first.run_dir / "checkpoints"
    whole = next(folder.iterdir())
    first.save_checkpoint(folder / "weights.ckpt", weights_only=True)
    torch.save(first.lightning_module.state_dict(), folder / "state.pt")
    later = whole.stat().st_mtime_ns + 10**9
    for name in ("weights.ckpt", "state.pt"):
        os.utime(folder / name, ns=(later, later))
    assert fit(tmp_path, [ModelCheckpoint()], ckpt_path="last").ckpt_path == str(whole)
    evaluated = lk.Trainer(
        accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_progress_bar=False, max_epochs=1
    )
    evaluated.validate(Net(), DataLoader(torch.ones(2, 3)), ckpt_path="last", verbose=False)
    assert evaluated.ckpt_path == str(folder / "weights.ckpt")


def test_callbacks_of_one_key_keep_their_own_files_after_a_resume(tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        return [ModelCheckpoint(filename=f"{name}-{{step}}", every_n_train_steps=2) for name in "ab"]

    assert callbacks()[0].state_key == callbacks()[1].state_key
    first = fit(tmp_path, callbacks())
    path = first.run_dir / "checkpoints" / "b-step=12.ckpt"
    assert path.exists()
    resumed = callbacks()
    fit(tmp_path, resumed, ckpt_path=path)
    assert [Path(c.best_model_path).name for c in resumed] == ["a-step=12.ckpt", "b-step=12.ckpt"]


def test_what_can_be_trained_from_holds_a_loop_and_optimizers(tmp_path: Path) -> None:
    trainer = fit(tmp_path, [])
    for name, weights_only in (("whole.ckpt", False), ("weights.ckpt", True)):
        trainer.save_checkpoint(tmp_path / name, weights_only)
        assert contents.can_train(files.load(tmp_path / name)) is not weights_only


class _Kind:
    """Pickles as a float64 dtype that says of itself to have fields of objects, or a size, that it has not."""

    def __init__(self, fields: Any, size: int):
        self.fields, self.size = fields, size

    def __reduce__(self) -> Any:
        names = None if self.fields is None else tuple(self.fields)
        return np.dtype, ("f8", False, True), (3, "|", names, self.fields, self.size, 1, 0)


class _Crafted:
    """Pickles as an array whose eight bytes would be taken for the address of an object."""

    def __init__(self, kind: Any):
        self.kind = kind

    def __reduce__(self) -> Any:
        return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (1,), self.kind, False, b"A" * 8)


@pytest.mark.parametrize("kind", [_Kind({"a": (0, 0)}, 8), _Kind(None, 1_000_000)])
def test_fields_and_sizes_that_a_dtype_claims_are_not_believed(tmp_path: Path, kind: Any) -> None:
    torch.save({"x": _Crafted(kind)}, tmp_path / "crafted.ckpt")
    read = files.load(tmp_path / "crafted.ckpt")["x"]
    assert (read.dtype, read.dtype.fields, read.nbytes, read.tobytes()) == (np.dtype("f8"), None, 8, b"A" * 8)


def test_a_dtype_of_objects_is_refused(tmp_path: Path) -> None:
    class Objects:
        def __reduce__(self) -> Any:
            return np.dtype, ("O",)

    torch.save({"x": _Crafted(Objects())}, tmp_path / "crafted.ckpt")
    with pytest.raises(lk.errors.CheckpointError, match="ValueError: the numpy dtype 'O' is not one of numbers"):
        files.load(tmp_path / "crafted.ckpt")


def test_numpy_values_of_every_kind_are_read_as_they_were_written(tmp_path: Path) -> None:
    values = {
        "whole": np.arange(3), "swapped": np.ones((2, 3), dtype=">f4"), "truth": np.array([True, False]),
        "complex": np.array([1 + 2j]),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)), "zero-dim": np.array(3.5),
        "empty": np.zeros((0, 4)), "scalar": np.float64(2.5), "swapped scalar": np.array([7], dtype=">i4")[0],
    }  # fmt: skip
    torch.save(values, tmp_path / "numpy.ckpt")
    read = files.load(tmp_path / "numpy.ckpt")
    for name, value in pickle.loads(pickle.dumps(values, protocol=2)).items():  # numpy may swap bytes when it reads
        assert np.array_equal(read[name], value) and np.asarray(read[name]).dtype == np.asarray(value).dtype, name


def test_what_a_killed_process_left_of_a_file_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    names = {
        "killed": f".a.ckpt.{dead.stdout.strip()}.0123abcd.tmp", "at work": f".a.ckpt.{os.getppid()}.0123abcd.tmp",
        "of another file": f".b.ckpt.{dead.stdout.strip()}.0123abcd.tmp", "a user's": ".a.ckpt.mine.tmp",
    }  # fmt: skip
    for name in names.values():
        (tmp_path / name).write_bytes(b"half")
    files.save({"x": 1}, tmp_path / "a.ckpt")
    assert {p.name for p in tmp_path.iterdir()} == {"a.ckpt", *names.values()} - {names["killed"]}


def test_ctrl_c_while_a_file_is_written_stays_a_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        """A file in whose third write the signal arrives."""

        def __init__(self, file: Any):
            self.file, self.count = file, 0

        def write(self, data: Any) -> int:
            self.count += 1
            if self.count == 3:
                raise KeyboardInterrupt
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    files.save({"x": 1}, tmp_path / "a.ckpt")
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, Interrupted(file)))
    with pytest.raises(KeyboardInterrupt):
        files.save({"x": torch.zeros(100_000)}, tmp_path / "a.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
    assert files.load(tmp_path / "a.ckpt") == {"x": 1}
