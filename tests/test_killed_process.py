"""A process that is killed for real, by a signal, goes on from its newest checkpoint as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint


class Net(lk.LightModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        print("step", self.global_step, flush=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.layers(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


lk.seed_everything(3, workers=True, verbose=False)
x = torch.randn(60, 4)
data = TensorDataset(x, (x.sum(1) > 0).long())
trainer = lk.Trainer(
    max_epochs=4, accelerator="cpu", run_dir="run", log_every_n_steps=1, val_check_interval=4,
    enable_progress_bar=False, enable_model_summary=False, async_checkpoint="async" in sys.argv,
    callbacks=[
        ModelCheckpoint(every_n_train_steps=1, save_last=True, save_top_k=2, monitor="train_loss"),
        ModelCheckpoint(dirpath="run/best", monitor="val_loss", filename="best"),
        EarlyStopping(monitor="val_loss", patience=50),
    ],
)
trainer.fit(Net(), DataLoader(data, 8, shuffle=True), DataLoader(data, 30), ckpt_path="last" if "resume" in sys.argv else None)
trainer.save_checkpoint("final.ckpt")
"""  # noqa: E501


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "script.py", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def kill_at(process: subprocess.Popen[str], step: int, how: signal.Signals) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.split() == ["step", str(step)]:
            process.send_signal(how)
            break
    process.stdout.close()
    # SIGTERM ends it between two steps, with the code that a shell shows for it; Ctrl-C is Python's own end
    expected = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: -signal.SIGINT}
    assert process.wait(timeout=60) == expected[how]


@pytest.mark.parametrize(("how", "steps", "options"), [
    (signal.SIGKILL, (5, 21), ()), (signal.SIGTERM, (13,), ()), (signal.SIGINT, (8,), ()),
    (signal.SIGKILL, (7, 19), ("async",)),
])  # fmt: skip
def test_a_killed_run_ends_as_the_whole_one(
    tmp_path: Path, how: signal.Signals, steps: tuple[int, ...], options: tuple[str, ...]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    with start(whole) as process:
        process.communicate(timeout=120)
        assert process.returncode == 0
    for number, step in enumerate(steps):
        with start(parts, *options, *(["resume"] if number else [])) as process:
            kill_at(process, step, how)
    with start(parts, *options, "resume") as process:
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 0
    assert "step 0" not in told.splitlines(), "it went on, it did not begin anew"
    first, second = (torch.load(folder / "final.ckpt", weights_only=True) for folder in (whole, parts))
    assert first["global_step"] == second["global_step"] == 32
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(first[key], second[key], key)
    # rows of the same steps; what was logged after the last checkpoint was cut off and logged again
    assert (whole / "run" / "metrics.csv").read_text() == (parts / "run" / "metrics.csv").read_text()
    for folder in ("best", "checkpoints"):
        assert sorted(p.name for p in (whole / "run" / folder).iterdir()) == sorted(
            p.name for p in (parts / "run" / folder).iterdir()
        )


def assert_equal(a: object, b: object, where: str) -> None:
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert isinstance(b, list) and len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{index}]")
    else:
        assert a == b, where
