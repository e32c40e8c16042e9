"""Nobody asks for the truth of what users give: it may have a length of 0, or none at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler

import lightkit as lk


class NoTruth:
    """Its truth is an error."""

    def __bool__(self) -> bool:
        raise AssertionError(f"the truth of {type(self).__name__} was asked for")


class Rows(NoTruth, Dataset[Tensor]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index)])


class Stream(NoTruth, IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        yield from (torch.tensor([float(index)]) for index in range(8))


class Sampler(NoTruth, RandomSampler):
    pass


class Batches(NoTruth, BatchSampler):
    pass


class Loader(NoTruth, DataLoader[Tensor]):
    pass


class Batch(NoTruth, dict[str, Tensor]):
    pass


class Own(NoTruth):
    """A loader with a state of its own."""

    def __iter__(self) -> Iterator[Batch]:
        yield from (Batch(x=torch.tensor([[float(index)]])) for index in range(4))

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


class Optimizer(NoTruth, torch.optim.SGD):
    pass


class Scheduler(NoTruth, torch.optim.lr_scheduler.StepLR):
    pass


class Layers(NoTruth, nn.Sequential):
    pass


class Module(NoTruth, lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers(nn.Linear(1, 1))
        self.empty = nn.ModuleList()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.layers(batch["x"] if isinstance(batch, dict) else batch).sum() * 0.01
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx), batch_size=1)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", 1.0, batch_size=1)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch

    def configure_optimizers(self) -> Any:
        optimizer = Optimizer(self.parameters(), lr=0.01)
        return {"optimizer": optimizer, "lr_scheduler": Scheduler(optimizer, 1)}


class Data(NoTruth, lk.LightDataModule):
    def train_dataloader(self) -> Any:
        return Loader(Rows(), 2)

    def val_dataloader(self) -> Any:
        return Loader(Rows(), 2)

    test_dataloader = predict_dataloader = val_dataloader


class Callback(NoTruth, lk.Callback):
    def __len__(self) -> int:
        return 0


class Saves(NoTruth, lk.callbacks.ModelCheckpoint):
    pass


class Logger(NoTruth, lk.loggers.CSVLogger):
    pass


class Profiler(NoTruth, lk.profilers.SimpleProfiler):
    pass


def trainer(root: Path, **options: Any) -> lk.Trainer:
    return lk.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=root, logger=Logger(root), enable_model_summary=False,
        enable_progress_bar=False, log_every_n_steps=1, callbacks=[Callback(), Saves(save_last=True)],
        profiler=Profiler(), **options,
    )  # fmt: skip


LOADERS = {
    "shuffled": lambda: Loader(Rows(), 2, sampler=Sampler(Rows())),
    "batch sampler": lambda: Loader(Rows(), batch_sampler=Batches(Sampler(Rows()), 2, False)),
    "workers that stay": lambda: Loader(
        Rows(), 2, sampler=Sampler(Rows()), num_workers=1, persistent_workers=True, generator=torch.Generator()
    ),
    "iterable": lambda: Loader(Stream(), 2),
    "iterable, workers": lambda: Loader(Stream(), 2, num_workers=1, persistent_workers=True),
    "own state": Own,
}


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
@pytest.mark.parametrize("kind", LOADERS)
def test_whatever_users_give_may_have_no_truth(tmp_path: Path, kind: str) -> None:
    make = LOADERS[kind]
    first, module = trainer(tmp_path), Module()
    first.fit(module, make(), make())
    assert first.global_step == 8
    first.validate(module, make(), verbose=False)
    first.test(module, make(), verbose=False)
    assert len(first.predict(module, make())) == 4
    saved = first.checkpoint_callback
    assert saved is not None
    again = trainer(tmp_path)
    again.fit(Module(), make(), make(), ckpt_path=saved.last_model_path)
    assert again.global_step == 8


def test_data_modules_may_have_no_truth(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), Module()
    run.fit(module, datamodule=Data())
    run.test(module, datamodule=Data(), verbose=False)
    assert run.global_step == 8


class Counts(lk.Callback):
    """Its state is a number, a list, or a tensor."""

    def __init__(self, state: Any) -> None:
        self.state, self.loaded = state, "nothing"

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.loaded = state


@pytest.mark.parametrize("state", [0, [], False, torch.zeros(2), torch.zeros(1)], ids=str)
def test_a_callbacks_state_that_is_false_is_a_state(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "a.ckpt"
    for ckpt_path in (None, path):
        counts = Counts(state)
        run = lk.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[counts],
        )  # fmt: skip
        run.fit(Module(), DataLoader(Rows(), 4), ckpt_path=ckpt_path)
        run.save_checkpoint(path)
    assert type(counts.loaded) is type(state)
    assert torch.equal(counts.loaded, state) if isinstance(state, Tensor) else counts.loaded == state
