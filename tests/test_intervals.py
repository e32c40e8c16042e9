"""Arguments that are intervals take their unit with them; another unit is an error that says where it belongs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint
from lightkit.errors import ConfigError
from lightkit.loggers import CSVLogger


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(6, 1)), batch_size=1)


def trainer(**asked: Any) -> lk.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return lk.Trainer(**{"max_epochs": 4, "enable_checkpointing": False, **quiet, **asked})


def test_the_trainer_s_counts_take_their_unit() -> None:
    its = trainer(
        log_every_n_steps="3steps", check_val_every_n_epoch="2 epochs", reload_dataloaders_every_n_epochs="1epoch"
    )
    assert (its.log_every_n_steps, its.check_val_every_n_epoch, its.reload_dataloaders_every_n_epochs) == (3, 2, 1)
    its.log_every_n_steps = "4step"  # type: ignore[assignment]
    assert its.log_every_n_steps == 4


def test_a_checkpoint_is_saved_as_often_as_its_text_says() -> None:
    def kept(**asked: Any) -> ModelCheckpoint:
        saves = ModelCheckpoint(save_top_k=-1, filename="{epoch}-{step}", **asked)
        trainer(callbacks=[saves], enable_checkpointing=True).fit(Net())
        return saves

    assert kept(every_n_epochs="2epoch").every_n_epochs == 2
    assert kept(every_n_train_steps="10step").state_key == kept(every_n_train_steps=10).state_key
    assert kept(train_time_interval="10min").state_key == kept(train_time_interval=timedelta(minutes=10)).state_key


def test_rates_are_logged_as_often_as_the_text_says() -> None:
    def rates(interval: str) -> int:
        monitor = LearningRateMonitor(interval)
        trainer(callbacks=[monitor], logger=CSVLogger(), log_every_n_steps=1).fit(Net())
        return len(monitor.lrs["lr-SGD"])

    assert [rates(interval) for interval in ("step", "6step", "epoch", "2epoch")] == [24, 4, 4, 2]


def test_other_counts_take_their_unit() -> None:
    assert EMAWeightAveraging(update_every_n_steps="5step").update_every_n_steps == 5


@pytest.mark.parametrize("make, message", [
    (lambda: trainer(log_every_n_steps="1epoch"),
     "Trainer(log_every_n_steps='1epoch'): counts steps, such as '2step'; epoch means are logged in any case"),
    (lambda: trainer(check_val_every_n_epoch="10min"),
     "Trainer(check_val_every_n_epoch='10min'): counts epochs, such as '2epoch'; for another unit write "
     "val_check_interval"),
    (lambda: trainer(reload_dataloaders_every_n_epochs="often"),
     "Trainer(reload_dataloaders_every_n_epochs='often'): expected a count of at least 1, or a text with a unit: "
     "'100step', '2epoch', '10min'"),
    (lambda: ModelCheckpoint(every_n_train_steps="10min"),
     "ModelCheckpoint(every_n_train_steps='10min'): counts steps, such as '2step'; for another unit there "
     "are every_n_train_steps, every_n_epochs, train_time_interval"),
    (lambda: ModelCheckpoint(every_n_epochs="5step"),
     "ModelCheckpoint(every_n_epochs='5step'): counts epochs, such as '2epoch'; for another unit there are "
     "every_n_train_steps, every_n_epochs, train_time_interval"),
    (lambda: ModelCheckpoint(train_time_interval="2epoch"),
     "ModelCheckpoint(train_time_interval='2epoch'): expected 'DD:HH:MM:SS', a number with a unit ('10min', '1.5h'), a "
     "timedelta or a dict for one."),
    (lambda: LearningRateMonitor("10min"),
     "LearningRateMonitor(logging_interval='10min'): expected 'step', 'epoch', '10step', '2epoch' or None."),
])  # fmt: skip
def test_a_unit_that_does_not_belong_there_is_an_error(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value) == message
