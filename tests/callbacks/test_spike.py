"""SpikeDetection stops where the loss jumps, and notes which batches are to be left out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import SpikeDetection
from lightkit.callbacks.spike import TrainingSpikeException
from lightkit.errors import ConfigError


class Follows(lk.LightModule):
    """Its loss is what the batch says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return batch[0].mean() + 0.0 * self.weight

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, losses: list[float], spike: SpikeDetection, **arguments: Any) -> lk.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "nan_check": "off"}
    trainer = lk.Trainer(**{"default_root_dir": folder, "max_epochs": 1, "callbacks": [spike], **quiet, **arguments})
    trainer.fit(Follows(), DataLoader(TensorDataset(torch.tensor(losses)), batch_size=1))
    return trainer


def test_a_jump_stops_the_training_and_names_the_batches(tmp_path: Path) -> None:
    spike = SpikeDetection(exclude_batches_path=tmp_path / "out")
    message = (
        "SpikeDetection: the loss of batch 3 in epoch 0 is 9, the mean of the 3 before 1; the batches to leave out "
        f"stand in {tmp_path}/out/skip_batches.json"
    )
    with pytest.raises(TrainingSpikeException, match=f"^{re.escape(message)}$") as caught:
        fit(tmp_path, [1.0, 1.0, 1.0, 9.0, 1.0], spike)
    assert caught.value.batch_idx == 3
    assert json.loads((tmp_path / "out" / "skip_batches.json").read_text(encoding="utf-8")) == [2, 3]


@pytest.mark.parametrize("losses, arguments, is_spike", [
    ([1.0, 1.0, 2.5, 1.0], {}, False),
    ([1.0, 1.0, 2.5, 1.0], {"rtol": 1.0}, True),
    ([1.0, 1.0, 4.0, 1.0], {"atol": 5.0}, False),
    ([1.0, 9.0, 1.0], {"warmup": 2}, False),
    ([9.0, 1.0, 0.1], {"rtol": 0.1}, False),
    ([1.0, 9.0, 27.0], {"mode": "max"}, False),
    ([9.0, 9.0, -30.0], {"mode": "max"}, True),
    ([1.0, float("nan"), 1.0], {}, True),
    ([1.0, float("nan"), 1.0], {"finite_only": False}, False),
])  # fmt: skip
def test_what_is_a_spike(tmp_path: Path, losses: list[float], arguments: dict[str, Any], is_spike: bool) -> None:
    spike = SpikeDetection(exclude_batches_path=tmp_path / "bad.json", **arguments)
    if is_spike:
        with pytest.raises(TrainingSpikeException):
            fit(tmp_path, losses, spike)
    else:
        fit(tmp_path, losses, spike)
    assert (tmp_path / "bad.json").exists() == is_spike


def test_a_resumed_run_knows_the_losses_before(tmp_path: Path) -> None:
    losses = [1.0, 1.0, 9.0, 1.0]
    saved = fit(tmp_path / "a", losses, SpikeDetection(), max_steps=2, max_epochs=-1)
    saved.save_checkpoint(tmp_path / "a.ckpt")
    spike = SpikeDetection(exclude_batches_path=tmp_path / "bad.json")
    trainer = lk.Trainer(default_root_dir=tmp_path / "b", max_epochs=1, callbacks=[spike], logger=False)
    data = DataLoader(TensorDataset(torch.tensor(losses)), batch_size=1)
    message = r"^SpikeDetection: the loss of batch 2 in epoch 0 is 9, the mean of the 2 before 1;"
    with pytest.raises(TrainingSpikeException, match=message):
        trainer.fit(Follows(), data, ckpt_path=tmp_path / "a.ckpt")


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^SpikeDetection\(mode='mean'\): expected 'min' or 'max'$"):
        SpikeDetection(mode="mean")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^SpikeDetection\(window=0\): expected a count of at least 1$"):
        SpikeDetection(window=0)


def test_what_another_spike_has_left_in_the_file_stays_and_no_batch_is_before_the_first(tmp_path: Path) -> None:
    def spike() -> SpikeDetection:
        return SpikeDetection(warmup=0, exclude_batches_path=tmp_path / "out.json")

    with pytest.raises(TrainingSpikeException):
        fit(tmp_path, [1.0, 1.0, 1.0, 9.0], spike())
    assert json.loads((tmp_path / "out.json").read_text()) == [2, 3]
    later = spike()
    later.load_state_dict({"losses": [1.0], "bad_batches": []})
    with pytest.raises(TrainingSpikeException):
        fit(tmp_path, [9.0, 1.0], later)
    assert json.loads((tmp_path / "out.json").read_text()) == [2, 3, 0]
