"""A checkpoint that Lightning 2.6 wrote resumes: the layout is its own, the states those of the same training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping
from lightkit.checkpoint import files
from lightkit.errors import CheckpointError

BATCHES, EPOCHS = 4, 4


class Net(lk.LightModule):
    def __init__(self, width: int = 4, waits: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1))
        self.waits = waits

    def _loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self._loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        if self.waits:
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class SaveAt(lk.Callback):
    """Saves after a step, or when the validation of an epoch is over."""

    def __init__(self, path: Path, step: int = -1, epoch: int = -1) -> None:
        self.path, self.step, self.epoch = path, step, epoch

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)


def fit(net: Net, folder: Path, *callbacks: lk.Callback, ckpt_path: Any = None, **arguments: Any) -> lk.Trainer:
    x = torch.randn(4 * BATCHES, 3, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 4)
    trainer = lk.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[EarlyStopping("val_loss", patience=9), *callbacks],
        enable_checkpointing=False, **arguments,
    )  # fmt: skip
    trainer.fit(net, loader, loader, ckpt_path=ckpt_path)
    return trainer


def counts(done: int, completed: int | None = None) -> dict[str, int]:
    return {"ready": done, "started": done, "processed": done, "completed": done if completed is None else completed}


def lightnings(ours: dict[str, Any], *, epoch: int, batches: int, is_ended: bool) -> dict[str, Any]:
    """The states of a checkpoint of ours as Lightning 2.6.6 lays them out.

    Saved in on_train_batch_end of batch number `batches`, or, with is_ended, when the epoch's validation is over.
    """
    total, step = epoch * BATCHES + batches, ours["global_step"]
    steps = {"current": {"ready": batches, "completed": batches}, "total": {"ready": step, "completed": step}}
    none = {"ready": 0, "completed": 0}
    evaluated = {
        "total": counts(BATCHES if epoch or is_ended else 0), "current": counts(BATCHES if epoch or is_ended else 0),
        "is_last_batch": True,
    }  # fmt: skip
    unfinished = 0 if is_ended else 1
    fit_loop = {
        "state_dict": {}, "epoch_loop.state_dict": {"_batches_that_stepped": step},
        "epoch_progress": {
            "total": {**counts(epoch + 1, epoch), "processed": epoch + is_ended},
            "current": {**counts(epoch + 1, epoch), "processed": epoch + is_ended},
        },
        "epoch_loop.batch_progress": {
            "total": counts(total, total - unfinished), "current": counts(batches, batches - unfinished),
            "is_last_batch": batches == BATCHES,
        },
        "epoch_loop.scheduler_progress": {"total": none, "current": none},
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {"step": steps, "zero_grad": {"total": counts(step), "current": counts(batches)}}
        },
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": {"total": none, "current": none},
        "epoch_loop.val_loop.state_dict": {}, "epoch_loop.val_loop.batch_progress": evaluated,
    }  # fmt: skip
    other = {"state_dict": {}, "batch_progress": {"total": counts(0), "current": counts(0), "is_last_batch": False}}
    return {
        "epoch": epoch, "global_step": step, "pytorch-lightning_version": "2.6.6", "state_dict": ours["state_dict"],
        "loops": {"fit_loop": fit_loop, "validate_loop": other, "test_loop": other, "predict_loop": other},
        "callbacks": ours["callbacks"], "optimizer_states": ours["optimizer_states"],
        "lr_schedulers": ours["lr_schedulers"], "hparams_name": "kwargs", "hyper_parameters": {"width": 4},
    }  # fmt: skip


@pytest.mark.parametrize(("epoch", "batches", "is_ended"), [(1, 4, True), (1, 2, False), (0, 3, False), (2, 4, False)])
def test_a_run_goes_on_from_a_file_of_lightnings_to_the_same_weights(
    tmp_path: Path, epoch: int, batches: int, is_ended: bool
) -> None:
    path = tmp_path / "ours.ckpt"
    step = epoch * BATCHES + batches
    whole, resumed = Net(), Net()
    first = fit(whole, tmp_path, SaveAt(path, **({"epoch": epoch} if is_ended else {"step": step})))
    torch.save(lightnings(files.load(path), epoch=epoch, batches=batches, is_ended=is_ended), tmp_path / "pl.ckpt")
    with pytest.warns(UserWarning) as caught:
        second = fit(resumed, tmp_path / "resumed", ckpt_path=tmp_path / "pl.ckpt")
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    assert second.global_step == first.global_step == EPOCHS * BATCHES and second.current_epoch == EPOCHS
    assert second.optimizers[0].param_groups[0]["lr"] == first.optimizers[0].param_groups[0]["lr"]
    assert first.early_stopping_callback is not None and second.early_stopping_callback is not None
    assert first.early_stopping_callback.best_score == second.early_stopping_callback.best_score
    inside = (
        f"; the order of the data in epoch {epoch} (its first {batches} batches are passed over, as they are drawn "
        "now); what was logged in that epoch so far"
    )
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path}/pl.ckpt: Lightning 2.6.6 wrote it; weights, optimizers, schedulers, callbacks, epoch and step go "
        "on from it. It does not hold the random generators (what is drawn from now on is not what Lightning would "
        f"draw); the loggers' positions{'' if is_ended else inside}"
    ]


def saved(tmp_path: Path, net: Net, **arguments: Any) -> dict[str, Any]:
    fit(net, tmp_path, SaveAt(tmp_path / "ours.ckpt", epoch=1), **arguments)
    return lightnings(files.load(tmp_path / "ours.ckpt"), epoch=1, batches=4, is_ended=True)


def test_states_that_nobody_takes_are_named_in_the_same_warning(tmp_path: Path) -> None:
    content = saved(tmp_path, Net(waits=True))
    content["callbacks"] |= {"BackboneFinetuning": {"internal_optimizer_metadata": {0: []}}, "Other": {"a": 1}}
    torch.save(content, tmp_path / "pl.ckpt")
    with pytest.warns(UserWarning) as caught:
        fit(Net(waits=True), tmp_path / "resumed", ckpt_path=tmp_path / "pl.ckpt")
    (warning,) = caught
    assert str(warning.message).endswith(
        "the loggers' positions; the metrics of epoch 1 (ReduceLROnPlateau misses the end of that epoch). "
        "No callback here takes the states of BackboneFinetuning, Other"
    )


def test_the_scale_of_mixed_precision_goes_on(tmp_path: Path) -> None:
    content = saved(tmp_path, Net(), precision="16-mixed")
    scaler = files.load(tmp_path / "ours.ckpt")["precision"]
    content["MixedPrecision"] = {**scaler, "scale": 64.0}
    torch.save(content, tmp_path / "pl.ckpt")
    with pytest.warns(UserWarning, match="Lightning 2.6.6 wrote it"):
        trainer = fit(Net(), tmp_path / "resumed", ckpt_path=tmp_path / "pl.ckpt", precision="16-mixed")
    assert trainer.precision.scaler is not None and trainer.precision.scaler.get_scale() == 64.0


def test_last_takes_a_file_of_lightnings(tmp_path: Path) -> None:
    content = saved(tmp_path, Net())
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.save(content, tmp_path / "run" / "checkpoints" / "pl.ckpt")
    with pytest.warns(UserWarning, match="Lightning 2.6.6 wrote it"):
        trainer = fit(Net(), tmp_path, ckpt_path="last", run_dir=tmp_path / "run")
    assert trainer.ckpt_path == str(tmp_path / "run" / "checkpoints" / "pl.ckpt") and trainer.global_step == 16


def test_a_module_is_built_from_a_file_of_lightnings_and_validated(tmp_path: Path) -> None:
    net = Net()
    torch.save(saved(tmp_path, net), tmp_path / "pl.ckpt")
    content = files.load(tmp_path / "pl.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = Net.load_from_checkpoint(tmp_path / "pl.ckpt")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in content["state_dict"].items())


@pytest.mark.parametrize(("place", "value", "problem"), [
    (("loops", "fit_loop"), None, "expected a dict, found None"),
    (("loops", "fit_loop", "epoch_progress", "current", "ready"), "x", "expected a whole number, found 'x'"),
    (("lr_schedulers", 0), 3, "expected a dict, found 3"),
])  # fmt: skip
def test_a_file_of_another_form_is_one_error(tmp_path: Path, place: tuple[Any, ...], value: Any, problem: str) -> None:
    content = saved(tmp_path, Net())
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    torch.save(content, tmp_path / "pl.ckpt")
    with pytest.raises(CheckpointError) as caught:
        fit(Net(), tmp_path / "resumed", ckpt_path=tmp_path / "pl.ckpt")
    assert str(caught.value) == f"{tmp_path}/pl.ckpt: checkpoint{''.join(f'[{key!r}]' for key in place)}: {problem}"
