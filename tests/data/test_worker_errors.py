"""What is raised in a loader's worker processes reaches the user as it was; a process that died is named."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import lightkit as lk

Act = Callable[[], object]


class Odd(Exception):
    """Cannot be made of one text, as PyTorch would."""

    def __init__(self, place: str, number: int) -> None:
        super().__init__(f"{place} {number}")
        self.number = number


def bad_row() -> None:
    try:
        int("x")
    except ValueError as error:
        raise lk.errors.DataError("rows.csv, line 10: 'x' is no number") from error


def odd() -> None:
    raise Odd("row", 9)


def missing() -> None:
    with open("/nowhere/row", encoding="utf-8"):
        pass


def local() -> None:
    class OfAFunction(LookupError):
        pass

    raise OfAFunction("row 9")


def ends() -> None:
    raise StopIteration


def out_of_memory() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Rows(Dataset[Tensor]):
    """Twelve rows; the tenth one acts."""

    def __init__(self, act: Act | None = None) -> None:
        self.act = act

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        if index == 9 and self.act is not None and get_worker_info() is not None:
            self.act()
        return torch.ones(1)


class Stream(Rows, IterableDataset[Tensor]):
    """The last rows, in each worker."""

    def __iter__(self) -> Iterator[Tensor]:
        for index in range(8, 12):
            yield self[index]


class Module(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.steps = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.steps += 1
        return self.layer(batch).sum()

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Told(lk.Callback):
    """Writes down what on_exception gets."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.error = exception


def raised_by(train: Any, val: Any = None) -> Exception:
    told = Told()
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[told],
    )  # fmt: skip
    with pytest.raises(Exception) as caught:  # what it is is what the tests look at
        trainer.fit(Module(), train, val)
    assert told.error is caught.value
    return caught.value


def loader(data: Any, **options: Any) -> DataLoader[Tensor]:
    return DataLoader(data, 4, num_workers=2, **options)


@pytest.mark.parametrize("kind", [Rows, Stream])
def test_an_error_of_ours_is_raised_as_it_was(kind: Any) -> None:
    error = raised_by(loader(kind(bad_row)))
    assert type(error) is lk.errors.DataError
    assert str(error) == "rows.csv, line 10: 'x' is no number"
    assert type(error.__cause__) is ValueError
    assert str(error.__cause__) == "invalid literal for int() with base 10: 'x'"
    place = "Rows, batch 2 of the epoch, samples [8, 9, 10, 11]" if kind is Rows else "Stream"
    assert error.__notes__ == [f"raised in worker process 0 of train_dataloaders: {place}"]


@pytest.mark.parametrize("kind", [Rows, Stream])
def test_any_other_error_keeps_its_type_and_attributes_and_says_where_it_comes_from(kind: Any) -> None:
    error = raised_by(loader(Rows()), [loader(Rows()), loader(kind(odd), persistent_workers=True)])
    assert type(error) is Odd and str(error) == "row 9" and error.number == 9
    (note,) = error.__notes__
    place = "Rows, batch 2 of the epoch, samples [8, 9, 10, 11]" if kind is Rows else "Stream"
    first, *rest = note.splitlines()
    assert first == f"raised in worker process 0 of val_dataloader()[1]: {place}"
    assert rest[0] == "Traceback (most recent call last):"
    assert re.fullmatch(r'  File ".*test_worker_errors.py", line \d+, in (__getitem__|__iter__)', rest[1])
    assert rest[-1].endswith("Odd: row 9")
    assert "torch" not in note


def test_errors_of_python_keep_what_they_hold() -> None:
    error = raised_by(loader(Rows(missing)))
    assert type(error) is FileNotFoundError
    assert error.filename == "/nowhere/row" and error.errno == 2


def test_an_error_whose_class_cannot_travel_arrives_as_the_nearest_that_can() -> None:
    error = raised_by(loader(Rows(local)))
    assert type(error) is LookupError
    assert str(error) == "local.<locals>.OfAFunction: row 9"


def collate(items: list[Tensor]) -> Tensor:
    raise lk.errors.DataError(f"{len(items)} rows of different lengths")


@pytest.mark.parametrize("kind", [Rows, Stream])
def test_an_error_in_collate_fn_is_raised_as_it_was(kind: Any) -> None:
    error = raised_by(loader(kind(), collate_fn=collate))
    assert type(error) is lk.errors.DataError and str(error) == "4 rows of different lengths"


def init(worker_id: int) -> None:
    raise lk.errors.DataError(f"worker {worker_id} has no licence")


@pytest.mark.parametrize("kind", [Rows, Stream])
def test_an_error_in_worker_init_fn_is_raised_as_it_was(kind: Any) -> None:
    error = raised_by(loader(kind(), worker_init_fn=init))
    assert type(error) is lk.errors.DataError and str(error) == "worker 0 has no licence"
    assert error.__notes__ == ["raised in worker process 0 of train_dataloaders: worker_init_fn"]


def test_an_error_in_the_last_batch_that_would_be_dropped_is_raised_too() -> None:
    class Short(Stream):
        def __iter__(self) -> Iterator[Tensor]:
            yield torch.ones(1)
            bad_row()

    error = raised_by(DataLoader(Short(), 4, num_workers=1, drop_last=True))
    assert str(error) == "rows.csv, line 10: 'x' is no number"


class OwnIterator(DataLoader[Tensor]):
    """Read as it is: PyTorch brings its errors, with the traceback in the message."""

    def _get_iterator(self) -> Any:
        return super()._get_iterator()


def test_an_error_of_ours_that_pytorch_has_brought_is_told_without_its_traceback() -> None:
    error = raised_by(OwnIterator(Rows(bad_row), 4, num_workers=1))
    assert type(error) is lk.errors.DataError
    assert str(error) == "rows.csv, line 10: 'x' is no number"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("is_keyed", [False, True])
def test_a_data_set_that_raises_stop_iteration_does_not_end_the_epoch(workers: int, is_keyed: bool) -> None:
    class Ends(Rows):
        def __getitem__(self, index: int) -> Tensor:
            if index == 9:
                ends()
            return torch.ones(1)

    lk.seed_everything(0, workers=is_keyed, verbose=False)
    error = raised_by(DataLoader(Ends(), 4, num_workers=workers))
    assert type(error) is lk.errors.DataError
    assert str(error) == (
        "Ends raised StopIteration for the samples [8, 9, 10, 11], which would end the epoch here; check its length, "
        "and what it calls `next` on"
    )


ADVICE = (
    "Use fewer workers or smaller batches; make shared memory larger (/dev/shm, docker run --shm-size=8g) or call "
    "torch.multiprocessing.set_sharing_strategy('file_system'); num_workers=0 shows an error of the data set itself"
)


def without_pid(error: Exception) -> str:
    return re.sub(r"process \d+,", "process PID,", str(error))


@pytest.mark.parametrize("is_persistent", [False, True])
@pytest.mark.parametrize("kind", [Rows, Stream])
def test_a_killed_worker_names_its_loader(kind: Any, is_persistent: bool) -> None:
    killed, whole = loader(kind(out_of_memory), persistent_workers=is_persistent), loader(Rows())
    for name, data in {"train_dataloaders": (killed,), "val_dataloader()[1]": (whole, [whole, killed])}.items():
        error = raised_by(*data)
        assert type(error) is lk.errors.DataError
        assert without_pid(error) == (
            f"{name}: worker process PID, one of num_workers=2, was killed by SIGKILL: memory ran out, most likely. "
            f"{ADVICE}"
        )
        assert error.__cause__ is None and error.__suppress_context__, "nothing of PyTorch's is shown with it"


def test_a_worker_that_shared_memory_killed_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    error = raised_by(loader(Rows(lambda: os.kill(os.getpid(), signal.SIGBUS))))
    assert without_pid(error) == (
        "train_dataloaders: worker process PID, one of num_workers=2, was killed by SIGBUS: shared memory is full. "
        f"{ADVICE}"
    )
    assert "bus error" in capfd.readouterr().err, "PyTorch's own line, of the worker"


def test_a_worker_that_leaves_says_with_which_code() -> None:
    error = raised_by(loader(Rows(lambda: os._exit(3))))
    assert without_pid(error) == (
        "train_dataloaders: worker process PID, one of num_workers=2, ended with exit code 3, its own output may say "
        f"why. {ADVICE}"
    )


def test_a_worker_killed_while_a_step_runs_names_its_loader(tmp_path: Path) -> None:
    class Kills(Module):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            import multiprocessing

            child = multiprocessing.active_children()[0]
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join(5)
            return super().training_step(batch, batch_idx)

    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with pytest.raises(
        lk.errors.DataError, match=r"^train_dataloaders: worker process \d+, one of num_workers=2, was "
    ):
        trainer.fit(Kills(), loader(Rows()))


def test_a_loader_whose_time_ran_out_is_named() -> None:
    error = raised_by(loader(Rows(lambda: time.sleep(3)), timeout=1))
    assert type(error) is lk.errors.DataError
    assert str(error) == (
        "train_dataloaders: no batch came within timeout=1 seconds; give more, 0 waits for ever, or run once with "
        "num_workers=0 to see what takes long"
    )


def test_an_error_without_workers_is_as_it_was() -> None:
    class Bad(Rows):
        def __getitem__(self, index: int) -> Tensor:
            raise Odd("row", index)

    error = raised_by(DataLoader(Bad(), 4))
    assert type(error) is Odd and not hasattr(error, "__notes__")


@pytest.mark.slow
def test_spawned_workers_read_and_fail_as_forked_ones() -> None:
    spawned = {"multiprocessing_context": "spawn", "num_workers": 1}
    module = Module()
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Stream(), 4, **spawned))
    assert module.steps == 1
    error = raised_by(DataLoader(Rows(bad_row), 4, **spawned))
    assert type(error) is lk.errors.DataError and str(error) == "rows.csv, line 10: 'x' is no number"
