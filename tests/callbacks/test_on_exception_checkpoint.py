"""OnExceptionCheckpoint: what it saves when, exact resume, when the file goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import LambdaCallback, ModelCheckpoint, OnExceptionCheckpoint
from lightkit.errors import ConfigError, NonFiniteError


class Net(lk.LightModule):
    def __init__(self, fails_at: tuple[int, int] | None = None, *, with_nan: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
        self.fails_at, self.with_nan = fails_at, with_nan

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        if self.fails_at == (self.current_epoch, batch_idx):
            if self.with_nan:
                return loss * float("nan")
            raise RuntimeError("broken off")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def data() -> DataLoader[Any]:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=True)


def make(root: Path, *callbacks: Any, **arguments: Any) -> lk.Trainer:
    quiet: dict[str, Any] = {
        "max_epochs": 3, "accelerator": "cpu", "run_dir": root / "run", "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False, "callbacks": list(callbacks),
    }  # fmt: skip
    return lk.Trainer(**{**quiet, **arguments})


def fit(trainer: lk.Trainer, module: Net, ckpt_path: Any = None) -> Net:
    lk.seed_everything(5, verbose=False)
    trainer.fit(module, data(), data(), ckpt_path=ckpt_path)
    return module


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_saved_goes_on_to_the_same_weights_and_goes_at_the_end(tmp_path: Path, accumulate: int) -> None:
    whole = fit(make(tmp_path, accumulate_grad_batches=accumulate, enable_checkpointing=False), Net())
    callback = OnExceptionCheckpoint(tmp_path / "kept")
    assert callback.ckpt_path == str(tmp_path / "kept" / "on_exception.ckpt")
    with pytest.raises(RuntimeError, match="^broken off$"):
        fit(make(tmp_path, callback, accumulate_grad_batches=accumulate), Net((1, 3)))
    assert Path(callback.ckpt_path).is_file()
    trainer = make(tmp_path, OnExceptionCheckpoint(tmp_path / "kept"), accumulate_grad_batches=accumulate)
    again = fit(trainer, Net(), ckpt_path=callback.ckpt_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert list((tmp_path / "kept").iterdir()) == []


def test_ctrl_c_is_an_exception_and_last_finds_the_file(tmp_path: Path) -> None:
    def stop(trainer: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            raise KeyboardInterrupt

    whole = fit(make(tmp_path, enable_checkpointing=False), Net())
    callback = OnExceptionCheckpoint(tmp_path, "mine")
    with pytest.raises(KeyboardInterrupt):
        fit(make(tmp_path, callback, LambdaCallback(on_train_batch_end=stop)), Net())
    again = fit(make(tmp_path, OnExceptionCheckpoint(tmp_path, "mine")), Net(), ckpt_path="last")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert not (tmp_path / "mine.ckpt").exists()


def test_a_file_that_it_did_not_write_stays(tmp_path: Path) -> None:
    path = tmp_path / "on_exception.ckpt"
    trainer = make(tmp_path, enable_checkpointing=False)
    fit(trainer, Net())
    trainer.save_checkpoint(path)
    kept = path.read_bytes()
    fit(make(tmp_path, OnExceptionCheckpoint(tmp_path)), Net())
    assert path.read_bytes() == kept
    path.write_bytes(b"no checkpoint")
    fit(make(tmp_path, OnExceptionCheckpoint(tmp_path)), Net())
    assert path.read_bytes() == b"no checkpoint"


def test_nothing_is_saved_before_the_first_batch_of_nan_or_outside_of_a_fit(tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("too early")

    callback = OnExceptionCheckpoint(tmp_path / "kept")
    for hook in ("setup", "on_fit_start", "on_sanity_check_start", "on_train_start"):
        with pytest.raises(RuntimeError, match="^too early$"):
            fit(make(tmp_path, callback, LambdaCallback(**{hook: fail})), Net())
    with pytest.raises(NonFiniteError):
        fit(make(tmp_path, callback, nan_check="step"), Net((1, 1), with_nan=True))
    trainer = make(tmp_path, callback, LambdaCallback(on_validation_start=fail), num_sanity_val_steps=0)
    with pytest.raises(RuntimeError, match="^too early$"):
        trainer.validate(Net(), data())
    assert not (tmp_path / "kept").exists()


def test_it_says_nothing_of_which_checkpoint_is_best(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", monitor="val_loss")
    trainer = make(tmp_path, OnExceptionCheckpoint(tmp_path), best)
    module = fit(trainer, Net())
    trainer.validate(module, data(), ckpt_path="best", verbose=False)
    assert trainer.ckpt_path == best.best_model_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "OnExceptionCheckpoint(filename=''): expected the name of a file without its ending"),
        (
            "../up",
            "OnExceptionCheckpoint(filename='../up'): names stay inside the folder of the checkpoints; give another "
            "folder as dirpath.",
        ),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OnExceptionCheckpoint(".", name)
    assert str(caught.value) == message
