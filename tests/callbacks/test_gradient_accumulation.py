"""GradientAccumulationScheduler: windows by epoch, resume inside one, what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import GradientAccumulationScheduler
from lightkit.errors import ConfigError

BATCHES = 6


def data() -> DataLoader[Any]:
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=2, shuffle=True)


class Net(lk.LightModule):
    """Notes after how many batches of an epoch each step came, and how many steps it expects."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
        self.stepped: list[tuple[int, int]] = []
        self.expected: float = -1

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.batch_idx = batch_idx
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.stepped.append((self.current_epoch, self.batch_idx))

    def configure_optimizers(self) -> Any:
        self.expected = self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class StopAt(lk.Callback):
    def __init__(self, epoch: int, batch: int, path: Path) -> None:
        self.at, self.path = (epoch, batch), path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.at == (trainer.current_epoch, batch_idx):
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def make(root: Path, *callbacks: Any, **arguments: Any) -> lk.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 4, "accelerator": "cpu", "run_dir": root, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "callbacks": list(callbacks),
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def fit(root: Path, *callbacks: Any, ckpt_path: Any = None, **arguments: Any) -> tuple[Net, lk.Trainer]:
    module, trainer = Net(), make(root, *callbacks, **arguments)
    lk.seed_everything(7, verbose=False)
    trainer.fit(module, data(), ckpt_path=ckpt_path)
    return module, trainer


def test_windows_have_the_size_that_their_epoch_says(tmp_path: Path) -> None:
    module, trainer = fit(tmp_path, GradientAccumulationScheduler({1: 3, 3: 4}))
    by_epoch = [[batch for epoch, batch in module.stepped if epoch == number] for number in range(4)]
    assert by_epoch == [[0, 1, 2, 3, 4, 5], [2, 5], [2, 5], [3, 5]]
    assert trainer.global_step == module.expected == 12
    assert trainer.accumulate_grad_batches == 1  # as it was


def test_one_size_all_the_time_is_the_trainers_own_argument(tmp_path: Path) -> None:
    one, _ = fit(tmp_path, GradientAccumulationScheduler({0: 3}))
    other, _ = fit(tmp_path, accumulate_grad_batches=3)
    assert one.stepped == other.stepped and one.expected == other.expected
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("epoch", "batch"), [(0, 2), (1, 1), (1, 5), (2, 3), (3, 0)])
def test_a_resumed_run_reaches_the_same_weights(tmp_path: Path, epoch: int, batch: int) -> None:
    scheduling = {1: 3, 3: 2}
    whole, _ = fit(tmp_path, GradientAccumulationScheduler(scheduling))
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, GradientAccumulationScheduler(scheduling), StopAt(epoch, batch, path))
    again, trainer = fit(tmp_path, GradientAccumulationScheduler(scheduling), ckpt_path=path)
    assert again.stepped == whole.stepped[-len(again.stepped) :]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert trainer.accumulate_grad_batches == 1


def test_names_and_values_are_lightnings() -> None:
    scheduler = GradientAccumulationScheduler({4: 2, 8: 1})
    assert (scheduler.scheduling, scheduler.epochs) == ({0: 1, 4: 2, 8: 1}, [0, 4, 8])
    assert [scheduler.get_accumulate_grad_batches(epoch) for epoch in (0, 3, 4, 7, 8, 99)] == [1, 1, 2, 2, 1, 1]
    assert scheduler.going_to_accumulate_grad_batches()
    assert not GradientAccumulationScheduler({0: 1}).going_to_accumulate_grad_batches()


@pytest.mark.parametrize(
    ("scheduling", "expected"),
    [
        ({}, "expected a dict such as {4: 2}, from epoch 4 on two micro-batches an update"),
        ({-1: 2}, "expected epochs, whole numbers from 0, as keys"),
        ({"0": 2}, "expected epochs, whole numbers from 0, as keys"),
        ({0: 0}, "expected numbers of micro-batches, of at least 1, as values"),
        ({0: 1.5}, "expected numbers of micro-batches, of at least 1, as values"),
    ],
)
def test_what_is_no_schedule_is_refused(scheduling: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GradientAccumulationScheduler(scheduling)
    assert str(caught.value) == f"GradientAccumulationScheduler(scheduling={scheduling!r}): {expected}"


class Manual(Net):
    automatic_optimization = False


def test_a_trainer_with_a_number_of_its_own_and_manual_optimization_are_refused(tmp_path: Path) -> None:
    trainer = make(tmp_path, GradientAccumulationScheduler({0: 2}), accumulate_grad_batches=4)
    with pytest.raises(ConfigError) as caught:
        trainer.fit(Net(), data())
    assert str(caught.value) == (
        "Trainer(accumulate_grad_batches=4): GradientAccumulationScheduler sets it; give one of them"
    )
    assert trainer.accumulate_grad_batches == 4
    with pytest.raises(ConfigError) as caught:
        make(tmp_path, GradientAccumulationScheduler({0: 2})).fit(Manual(), data())
    assert str(caught.value) == (
        "GradientAccumulationScheduler: Manual optimizes by itself (automatic_optimization = False); leave the "
        "callback out and count micro-batches in training_step"
    )
