"""Prediction writers: what they are given, what is kept, what a failure leaves."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import lightkit as lk
from lightkit.callbacks import BasePredictionWriter, PredictionWriter
from lightkit.callbacks.prediction_writer import WriteInterval
from lightkit.errors import CheckpointError, ConfigError


class Numbers(Dataset[Any]):
    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index)])


class Twice(lk.LightModule):
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
        return 2 * batch


class Notes(BasePredictionWriter):
    """Keeps what it is given."""

    def __init__(self, write_interval: Any = "batch_and_epoch") -> None:
        super().__init__(write_interval)
        self.batches: list[Any] = []
        self.ends: list[Any] = []

    def write_on_batch_end(
        self, trainer: Any, pl_module: Any, prediction: Any, batch_indices: Any, batch: Any, batch_idx: int,
        dataloader_idx: int,
    ) -> None:  # fmt: skip
        self.batches.append((dataloader_idx, batch_idx, batch_indices, prediction.flatten().tolist()))
        assert torch.equal(prediction, 2 * batch)

    def write_on_epoch_end(
        self, trainer: Any, pl_module: Any, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        self.ends.append((predictions, batch_indices))


def quiet_trainer(**arguments: Any) -> lk.Trainer:
    return lk.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, **arguments)


class Pids(Numbers):
    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(os.getpid())], dtype=torch.float64)


@pytest.mark.parametrize("stays", [False, True])
def test_workers_go_on_fetching_beside_a_writer(stays: bool) -> None:
    notes = Notes("batch")
    trainer = quiet_trainer(callbacks=[notes])
    loader = DataLoader(Pids(5), 2, num_workers=1, persistent_workers=stays)
    found = trainer.predict(Twice(), loader)
    assert found is not None
    assert {float(batch[0]) / 2 for batch in found}.isdisjoint({float(os.getpid())})  # type: ignore[index]
    assert [indices for _, _, indices, _ in notes.batches] == [[0, 1], [2, 3], [4]]
    assert multiprocessing.active_children() == []


def predict(writer: Any, loaders: Any, **arguments: Any) -> Any:
    limits = {name: arguments.pop(name) for name in [*arguments] if name.startswith("limit_")}
    trainer = quiet_trainer(callbacks=writer, **limits)
    return trainer.predict(Twice(), loaders, **arguments)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_writer_is_told_which_samples_each_batch_holds(num_workers: int, shuffle: bool) -> None:
    loader = DataLoader(Numbers(), batch_size=4, shuffle=shuffle, num_workers=num_workers)
    writer = Notes()
    returned = predict(writer, loader)
    assert [(loader, index) for loader, index, _, _ in writer.batches] == [(0, 0), (0, 1), (0, 2)]
    for _, _, indices, values in writer.batches:
        assert values == [2.0 * index for index in indices]
    assert sorted(sum((indices for _, _, indices, _ in writer.batches), [])) == list(range(10))
    [(predictions, batch_indices)] = writer.ends
    assert [p.tolist() for p in predictions] == [p.tolist() for p in returned]
    assert batch_indices == [[indices for _, _, indices, _ in writer.batches]]  # by loader, as in Lightning


def test_a_writer_draws_the_order_that_there_is_without_one() -> None:
    def values(writer: Any) -> list[float]:
        torch.manual_seed(3)
        loader = DataLoader(Numbers(), batch_size=3, shuffle=True)
        return [value for batch in predict(writer, loader) for value in batch.flatten().tolist()]

    assert values(Notes("batch")) == values([]) != sorted(values([]))


def test_several_loaders_limits_and_a_second_prediction() -> None:
    writer = Notes()
    loaders = [DataLoader(Numbers(4), batch_size=2), DataLoader(Numbers(9), batch_size=3)]
    for _ in range(2):
        writer.batches, writer.ends = [], []
        assert predict(writer, loaders, limit_predict_batches=2, return_predictions=False) is None
        assert [batch[:3] for batch in writer.batches] == [
            (0, 0, [0, 1]), (0, 1, [2, 3]), (1, 0, [0, 1, 2]), (1, 1, [3, 4, 5])
        ]  # fmt: skip
        [(predictions, batch_indices)] = writer.ends
        assert [[p.flatten().tolist() for p in one] for one in predictions] == [
            [[0.0, 2.0], [4.0, 6.0]], [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]
        ]  # fmt: skip
        assert batch_indices == [[[0, 1], [2, 3]], [[0, 1, 2], [3, 4, 5]]]


def test_a_loader_that_does_not_batch_has_one_index_each() -> None:
    writer = Notes("batch")
    predict(writer, DataLoader(Numbers(3), batch_size=None))
    assert [batch[2:] for batch in writer.batches] == [([0], [0.0]), ([1], [2.0]), ([2], [4.0])]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(torch.ones(4, 1))


def test_a_loader_that_cannot_tell_is_named_once() -> None:
    writer = Notes()
    warning = (
        r"^predict_dataloader\(\) \(DataLoader\): its batches do not tell which samples they hold, so batch_indices "
        r"are empty; use a DataLoader over a data set with __getitem__$"
    )
    with pytest.warns(UserWarning, match=warning) as caught:
        predict(writer, DataLoader(Stream(), batch_size=2))
    assert len(caught) == 1
    assert [batch[2] for batch in writer.batches] == [[], []]
    assert writer.ends[0][1] == [[]]


@pytest.mark.parametrize(("interval", "batches", "ends"), [("batch", 3, 0), ("epoch", 0, 1), ("batch_and_epoch", 3, 1)])
def test_it_writes_when_its_interval_says(interval: str, batches: int, ends: int) -> None:
    writer = Notes(interval)
    predict(writer, DataLoader(Numbers(), batch_size=4))
    assert (len(writer.batches), len(writer.ends)) == (batches, ends)
    assert writer.interval == interval and writer.interval is WriteInterval(interval)
    assert (writer.interval.on_batch, writer.interval.on_epoch) == (batches > 0, ends > 0)


def test_nothing_is_kept_of_a_batch_that_is_written() -> None:
    class Looks(Notes):
        def write_on_batch_end(self, trainer: Any, *args: Any) -> None:
            self.batches.append((trainer.predict_loop.predictions, trainer.predict_loop.epoch_batch_indices))

    writer = Looks("batch")
    predict(writer, DataLoader(Numbers(), batch_size=4), return_predictions=False)
    assert writer.batches == [([], [[]])] * 3


def test_an_interval_that_does_not_exist_and_a_method_that_is_not_defined() -> None:
    with pytest.raises(ConfigError) as caught:
        BasePredictionWriter("batches")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "BasePredictionWriter(write_interval='batches'): expected 'batch', 'epoch' or 'batch_and_epoch'; did you mean "
        "'batch'?"
    )
    for interval, name in (("batch", "write_on_batch_end"), ("epoch", "write_on_epoch_end")):
        with pytest.raises(NotImplementedError, match=f"^BasePredictionWriter.{name} is not defined$"):
            predict(BasePredictionWriter(interval), DataLoader(Numbers()))  # type: ignore[arg-type]


def test_an_error_in_a_writer_says_how_many_batches_were_written() -> None:
    class Fails(Notes):
        def write_on_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if args[3] == 2:
                raise OSError("no more")

    with pytest.raises(OSError, match="^no more\n") as caught:
        predict(Fails(), DataLoader(Numbers(), batch_size=4))
    assert caught.value.__notes__ == ["Fails: batch 2 of loader 0 was not written, 2 batches before it are whole"]


def test_the_loop_of_a_prediction_is_asked_for_in_one() -> None:
    trainer = quiet_trainer()
    with pytest.raises(ConfigError) as caught:
        trainer.predict_loop
    assert str(caught.value) == (
        "trainer.predict_loop: no prediction has begun; read it in a hook of trainer.predict(model), or after it"
    )
    trainer.predict(Twice(), DataLoader(Numbers(3)))
    assert trainer.predict_loop.predictions == []  # they are the caller's now


# ---------------------------------------------------------------- the ready-made one


def test_files_hold_predictions_and_indices(tmp_path: Path) -> None:
    predict(PredictionWriter(tmp_path / "out", "batch_and_epoch"), DataLoader(Numbers(), batch_size=4))
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.pt"))
    assert names == [*(f"loader_0/batch_00000{index}.pt" for index in range(3)), "predictions.pt"]
    last = torch.load(tmp_path / "out" / names[2], weights_only=True)
    assert last["predictions"].tolist() == [[16.0], [18.0]] and last["batch_indices"] == [8, 9]
    whole = torch.load(tmp_path / "out" / "predictions.pt", weights_only=True)
    assert torch.cat(whole["predictions"]).flatten().tolist() == [2.0 * index for index in range(10)]
    assert whole["batch_indices"] == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]]


def test_a_file_of_a_view_holds_no_more_than_the_view(tmp_path: Path) -> None:
    class Views(Twice):
        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
            return torch.zeros(100_000)[:2]

    trainer = quiet_trainer(callbacks=PredictionWriter(tmp_path))
    trainer.predict(Views(), DataLoader(Numbers(1)), return_predictions=False)
    assert (tmp_path / "loader_0" / "batch_000000.pt").stat().st_size < 5000


def test_what_a_file_cannot_hold_is_said(tmp_path: Path) -> None:
    class Odd(Twice):
        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"what": object()}

    trainer = quiet_trainer(callbacks=PredictionWriter(tmp_path))
    with pytest.raises(CheckpointError, match="predictions.*what"):
        trainer.predict(Odd(), DataLoader(Numbers(1)))


FULL = """
import resource, signal, sys
import torch
import lightkit as lk
from lightkit.callbacks import PredictionWriter
from torch.utils.data import DataLoader

class Grows(lk.LightModule):
    def predict_step(self, batch, batch_idx):
        return torch.zeros(10_000 if batch_idx == 2 else 10)

writer = PredictionWriter(sys.argv[1])
trainer = lk.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=writer)
loader = DataLoader(torch.ones(5, 1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the system then refuses to write more
try:
    trainer.predict(Grows(), loader, return_predictions=False)
except lk.errors.RunDirError as error:
    print(error)
"""


def test_a_folder_that_takes_no_more_is_said_and_what_is_whole_stays(tmp_path: Path, repository: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-W", "error", "-c", FULL, str(out)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"PredictionWriter: cannot write {out}/loader_0/batch_000002.pt: File too large; 2 batches before it are "
        f"whole, in {out}; make room there or give another output_dir"
    ]
    assert sorted(path.name for path in (out / "loader_0").iterdir()) == ["batch_000000.pt", "batch_000001.pt"]
    for path in (out / "loader_0").iterdir():
        assert torch.load(path, weights_only=True)["predictions"].shape == (10,)
