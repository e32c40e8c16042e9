"""What a Trainer tells of its parts under Lightning's names."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lightkit as lk
from lightkit.demos.boring_classes import BoringDataModule, BoringModel


def test_the_parts_have_lightning_s_names(tmp_path: Path) -> None:
    trainer = lk.Trainer(max_epochs=1, accelerator="cpu", precision="16-mixed", default_root_dir=tmp_path)
    assert trainer.device_ids == [0] and trainer.node_rank == 0
    assert trainer.precision_plugin is trainer.precision
    assert trainer.scaler is trainer.precision.scaler and trainer.scaler is not None
    assert lk.Trainer(max_epochs=1, accelerator="cpu").scaler is None
    assert trainer.distributed_sampler_kwargs is None


def test_a_sigterm_is_told(tmp_path: Path) -> None:
    class Killed(BoringModel):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert not self.trainer.received_sigterm
            os.kill(os.getpid(), signal.SIGTERM)
            assert self.trainer.received_sigterm

    trainer = lk.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, limit_val_batches=0, logger=False)
    with pytest.raises(SystemExit):
        trainer.fit(Killed())
    assert trainer.received_sigterm


@pytest.mark.parametrize("precision, dtype", [
    ("32", torch.float32), ("64-true", torch.float64), ("bf16-true", torch.bfloat16),
])  # fmt: skip
def test_a_module_is_made_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    trainer = lk.Trainer(max_epochs=1, accelerator="cpu", precision=precision, logger=False)
    with trainer.init_module():
        layer = nn.Linear(3, 3)
    assert layer.weight.dtype == dtype and layer.weight.device == trainer.devices[0]
    assert torch.get_default_dtype() == torch.float32


def test_weights_that_are_about_to_be_loaded_are_not_drawn() -> None:
    trainer = lk.Trainer(max_epochs=1, accelerator="cpu", logger=False)
    torch.manual_seed(0)
    with trainer.init_module(empty_init=True):
        nn.Linear(64, 64)
    undrawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), undrawn)


def test_the_keys_of_hyperparameters_are_told(tmp_path: Path) -> None:
    class Module(BoringModel):
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Data(BoringDataModule):
        def __init__(self, size: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()

    trainer = lk.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, fast_dev_run=True)
    trainer.fit(Module(), datamodule=Data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content[Module.CHECKPOINT_HYPER_PARAMS_KEY] == {"lr": 0.1}
    assert content[Data.CHECKPOINT_HYPER_PARAMS_KEY] == {"size": 3}
    keys = ("KEY", "NAME", "TYPE")
    assert [getattr(Module, f"CHECKPOINT_HYPER_PARAMS_{key}") for key in keys] == [
        "hyper_parameters", "hparams_name", "hparams_type",
    ]  # fmt: skip
    assert [getattr(Data, f"CHECKPOINT_HYPER_PARAMS_{key}") for key in keys] == [
        "datamodule_hyper_parameters", "datamodule_hparams_name", "datamodule_hparams_type",
    ]  # fmt: skip
    assert Data.load_from_checkpoint(tmp_path / "a.ckpt", size=4).hparams.size == 4
