"""Bad input gets one clear error, matched here by its whole message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint
from lightkit.errors import CheckpointError, ConfigError, DataError, HookError, NonFiniteError, RunDirError


class Net(lk.LightModule):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(width, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data(samples: int = 8) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(samples, 4)), batch_size=4)


def trainer(root: Path, **arguments: Any) -> Any:
    defaults: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def message_of(kind: type[Exception], run: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        run()
    assert type(caught.value) is kind
    return str(caught.value)


# ------------------------------------------------------------------ the module


def test_no_training_step(tmp_path: Path) -> None:
    class Lacking(lk.LightModule):
        def configure_optimizers(self) -> Any:
            return None

    assert message_of(HookError, lambda: trainer(tmp_path).fit(Lacking(), data())) == (
        "Lacking.training_step is not defined; fit needs it: def training_step(self, batch, batch_idx) -> loss"
    )


def test_no_configure_optimizers(tmp_path: Path) -> None:
    class Lacking(lk.LightModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None

    assert message_of(HookError, lambda: trainer(tmp_path).fit(Lacking(), data())) == (
        "Lacking.configure_optimizers is not defined; return an optimizer, for example "
        "torch.optim.AdamW(self.parameters(), lr=1e-3), or None to train without one"
    )


EXPECTED = "expected the loss (a scalar tensor), a dict with 'loss', or None to skip the batch"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (1.5, f"Net.training_step returned a float; {EXPECTED}"),
        ("loss", f"Net.training_step returned a str; {EXPECTED}"),
        ({"los": 1}, f"Net.training_step returned a dict with 'los'; {EXPECTED}"),
        ({}, f"Net.training_step returned a dict with no keys; {EXPECTED}"),
        ({"loss": None}, f"Net.training_step returned a NoneType; {EXPECTED}"),
        (
            torch.ones(3, requires_grad=True),
            "Net.training_step returned a loss of shape (3,); expected a scalar: use .mean() or .sum()",
        ),
        (
            torch.tensor(1.0),
            "Net.training_step returned a loss without gradient: nothing it was computed from requires one; are all "
            "parameters frozen, or was it detached (.item(), .detach(), torch.no_grad())?",
        ),
    ],
)
def test_wrong_return_of_training_step(tmp_path: Path, returned: Any, message: str) -> None:
    class Wrong(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return returned

    Wrong.__name__ = "Net"
    assert message_of(HookError, lambda: trainer(tmp_path).fit(Wrong(), data())) == message


def test_nan_loss_stops_and_leaves_what_was_saved(tmp_path: Path) -> None:
    class Diverging(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) * (float("nan") if self.current_epoch == 1 else 1.0)

    t = trainer(tmp_path, max_epochs=2, callbacks=[ModelCheckpoint(save_last=True)])
    message = message_of(NonFiniteError, lambda: t.fit(Diverging(), data()))
    assert message == (
        "the loss is nan in epoch 1, batch 1 (step 4); training stopped, checkpoints saved before are untouched. "
        "Try a lower learning rate, gradient_clip_val=1.0 or detect_anomaly=True; Trainer(nan_check='off') goes on "
        "regardless"
    )
    saved = Net.load_from_checkpoint(t.run_dir / "checkpoints" / "last.ckpt")
    assert all(torch.isfinite(p).all() for p in saved.parameters())


def test_nan_loss_every_step_on_request(tmp_path: Path) -> None:
    class Diverging(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) * (float("inf") if batch_idx == 1 else 1.0)

    t = trainer(tmp_path, nan_check="step")
    assert message_of(NonFiniteError, lambda: t.fit(Diverging(), data(40))).startswith(
        "the loss is inf in epoch 0, batch 1 (step 1); training stopped"
    )
    assert t.global_step == 1, "the step with the bad loss was not taken"


def test_not_a_light_module(tmp_path: Path) -> None:
    assert message_of(ConfigError, lambda: trainer(tmp_path).fit(nn.Linear(1, 1), data())) == (
        "trainer.fit(model): expected a LightModule, got Linear; subclass lightkit.LightModule"
    )
    assert message_of(ConfigError, lambda: trainer(tmp_path).test()) == (
        "trainer.test(): no model; pass one, or fit one first"
    )


def test_several_optimizers(tmp_path: Path) -> None:
    class Two(Net):
        def configure_optimizers(self) -> Any:
            return [super(Two, self).configure_optimizers() for _ in range(2)]

    assert message_of(ConfigError, lambda: trainer(tmp_path).fit(Two(), data())) == (
        "Two.configure_optimizers returned 2 optimizers; automatic optimization steps one. Put all parameters into one "
        "optimizer, with a parameter group for each learning rate, or set self.automatic_optimization = False and step "
        "each in training_step"
    )


def test_monitored_metric_that_was_never_logged(tmp_path: Path) -> None:
    class Logging(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("train_loss", loss)
            return loss

    t = trainer(tmp_path, callbacks=[EarlyStopping(monitor="trainloss")])
    assert message_of(ConfigError, lambda: t.fit(Logging(), data())) == (
        "EarlyStopping(monitor='trainloss'): no metric 'trainloss' was logged; logged so far: 'train_loss'; "
        "did you mean 'train_loss'? Write self.log('trainloss', value) in the module, or monitor a name that is logged."
    )


# ------------------------------------------------------------------ data


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (
            DataLoader(TensorDataset(torch.ones(3, 4)), batch_size=4, drop_last=True),
            "train_dataloaders has no batches (its data set has 3 samples, batch_size=4, drop_last=True); "
            "check the data set's length, batch_size and drop_last",
        ),
        ([], "train_dataloaders has no batches; check the data set's length, batch_size and drop_last"),
        (7, "train_dataloaders returned a int, which is not iterable; return a DataLoader or any iterable of batches"),
    ],
)
def test_loader_that_is_empty_or_not_iterable(tmp_path: Path, loader: Any, message: str) -> None:
    assert message_of(DataError, lambda: trainer(tmp_path).fit(Net(), loader)) == message


def test_no_data_at_all(tmp_path: Path) -> None:
    assert message_of(DataError, lambda: trainer(tmp_path).fit(Net())) == (
        "fit: no training data; pass train_dataloaders=..., datamodule=..., or define Net.train_dataloader"
    )


def test_loader_without_length_that_yields_nothing(tmp_path: Path) -> None:
    class Empty:
        def __iter__(self) -> Any:
            return iter(())

    assert message_of(DataError, lambda: trainer(tmp_path).fit(Net(), Empty())) == (
        "the training loader gave no batch in epoch 0; check the data set, or give "
        "limit_train_batches=0 to train nothing"
    )


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epoch": 3}, "Trainer(max_epoch=3): no such argument; did you mean 'max_epochs'?"),
        ({"xyzzy": 1}, "Trainer(xyzzy=1): no such argument"),
        ({"tpu_cores": 8}, "Trainer(tpu_cores=8): this argument is gone; nothing: lightkit runs on CPU, CUDA and MPS"),
        (
            {"truncated_bptt_steps": 2, "track_grad_norm": 2},
            "Trainer(truncated_bptt_steps=2): this argument is gone; a loop over the sequence in training_step\n"
            "Trainer(track_grad_norm=2): this argument is gone; write on_before_optimizer_step: "
            "self.log_dict(grad_norm(self, norm_type=2))",
        ),
        (
            {"plugins": "AsyncCheckpointIO"},
            "Trainer(plugins='AsyncCheckpointIO'): expected objects of lightkit.plugins, a CheckpointIO or a "
            "Precision, got 'AsyncCheckpointIO'",
        ),
        (
            {"profiler": "simpel"},
            "Trainer(profiler='simpel'): expected None, 'simple', 'advanced', 'pytorch' or a Profiler; did you mean "
            "'simple'?",
        ),
        ({"profiler": True}, "Trainer(profiler=True): expected None, 'simple', 'advanced', 'pytorch' or a Profiler"),
        (
            {"barebones": True, "profiler": "simple"},
            "Trainer(barebones=True, profiler='simple'): barebones turns this off; leave one of them out",
        ),
        ({"async_checkpoint": "yes"}, "Trainer(async_checkpoint='yes'): expected one of True, False"),
        ({"max_epochs": -2}, "Trainer(max_epochs=-2): expected a whole number of at least 0 or -1 for no limit"),
        ({"max_steps": -5}, "Trainer(max_steps=-5): expected a whole number of at least 0 or -1 for no limit"),
        ({"min_epochs": -1}, "Trainer(min_epochs=-1): expected a whole number of at least 0"),
        ({"accumulate_grad_batches": 0}, "Trainer(accumulate_grad_batches=0): expected a whole number of at least 1"),
        ({"log_every_n_steps": 2.5}, "Trainer(log_every_n_steps=2.5): expected a whole number of at least 0"),
        (
            {"limit_train_batches": -1},
            "Trainer(limit_train_batches=-1): expected a count of batches (an int) or a fraction between 0.0 and 1.0",
        ),
        (
            {"limit_val_batches": 1.5},
            "Trainer(limit_val_batches=1.5): expected a count of batches (an int) or a fraction between 0.0 and 1.0",
        ),
        (
            {"val_check_interval": "often"},
            "Trainer(val_check_interval='often'): expected a share of the epoch (0.0 to 1.0], a count of batches, or a "
            "text with a unit: '100step', '1epoch', '10min'",
        ),
        (
            {"gradient_clip_algorithm": "nrom"},
            "Trainer(gradient_clip_algorithm='nrom'): expected one of 'norm', 'value'; did you mean 'norm'?",
        ),
        ({"gradient_clip_val": -1.0}, "Trainer(gradient_clip_val=-1.0): expected a number of at least 0, or None"),
        ({"num_nodes": 2}, "Trainer(num_nodes=2): this version trains on one machine; use 1"),
        ({"nan_check": "stp"}, "Trainer(nan_check='stp'): expected one of 'read', 'step', 'off'; did you mean 'step'?"),
        (
            {"max_time": "soon"},
            "Trainer(max_time='soon'): expected '00:12:00:00' (days:hours:minutes:seconds), '10min', a timedelta or a "
            "dict of its arguments",
        ),
        (
            {"barebones": True, "logger": True},
            "Trainer(barebones=True, logger=True): barebones turns this off; leave one of them out",
        ),
        (
            {"enable_checkpointing": False, "callbacks": [ModelCheckpoint()]},
            "Trainer(enable_checkpointing=False): callbacks has a callback that saves checkpoints; "
            "leave one of them out",
        ),
        ({"callbacks": ["x"]}, "Trainer(callbacks=...): str is not a Callback"),
        (
            {"logger": ["x"]},
            "Trainer(logger='x'): expected a logger: CSVLogger(), MLFlowLogger(), TensorBoardLogger(), WandbLogger() "
            "of lightkit.loggers, a list of loggers, True or False",
        ),
    ],
)
def test_wrong_trainer_arguments(arguments: dict[str, Any], message: str) -> None:
    assert message_of(ConfigError, lambda: lk.Trainer(**{"max_epochs": 1, **arguments})) == message


def test_interval_longer_than_the_epoch(tmp_path: Path) -> None:
    class Validating(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

    t = trainer(tmp_path, val_check_interval=3)
    assert message_of(ConfigError, lambda: t.fit(Validating(), data(), data())) == (
        "Trainer(val_check_interval=3): an epoch has only 2 batches; use at most that, or check_val_every_n_epoch=None "
        "to count over epochs"
    )


def test_loaders_and_datamodule_together(tmp_path: Path) -> None:
    module = lk.LightDataModule.from_datasets(TensorDataset(torch.ones(4, 4)))
    assert message_of(ConfigError, lambda: trainer(tmp_path).fit(Net(), data(), datamodule=module)) == (
        "train_dataloaders and datamodule are given both; pass one of them"
    )


# ------------------------------------------------------------------ checkpoints and directories


def saved(root: Path) -> Path:
    t = trainer(root)
    t.fit(Net(), data())
    t.save_checkpoint(root / "net.ckpt")
    return root / "net.ckpt"


def test_checkpoint_that_is_truncated(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    message = message_of(CheckpointError, lambda: trainer(tmp_path).fit(Net(), data(), ckpt_path=path))
    assert message == (
        f"the checkpoint {path} is damaged: it is truncated ({len(content) // 2 / 1000:.1f} kB of it are there); "
        "no whole checkpoint is beside it"
    )


def test_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.ckpt"
    for run in (
        lambda: trainer(tmp_path).fit(Net(), data(), ckpt_path=path),
        lambda: Net.load_from_checkpoint(path),
    ):
        message = message_of(CheckpointError, run)
        assert message == f"there is no checkpoint {path}; the folder holds no checkpoint"


def test_checkpoint_of_another_class(tmp_path: Path) -> None:
    class Other(lk.LightModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 3)
            self.layer = nn.Linear(4, 5)

    path = saved(tmp_path)
    message = message_of(CheckpointError, lambda: Other.load_from_checkpoint(path))
    assert "body.weight" in message and "(3, 4)" in message, "missing keys with sizes"
    assert "layer.weight" in message and "(2, 4)" in message and "(5, 4)" in message, "sizes that differ"


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.fit(Net(), data())
    t.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    message = message_of(
        CheckpointError, lambda: trainer(tmp_path).fit(Net(), data(), ckpt_path=tmp_path / "weights.ckpt")
    )
    assert message == (
        f"{tmp_path / 'weights.ckpt'}: holds weights alone, training cannot go on from it; load them with "
        "Net.load_from_checkpoint and fit without ckpt_path"
    )


def test_best_without_a_checkpoint(tmp_path: Path) -> None:
    assert message_of(ConfigError, lambda: trainer(tmp_path).fit(Net(), data(), ckpt_path="best")) == (
        "trainer.fit(ckpt_path='best'): this Trainer has saved no checkpoint; fit first, or give a path"
    )


def test_run_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    t = trainer(tmp_path / "file")
    steps: list[int] = []

    class Counting(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            steps.append(batch_idx)
            return super().training_step(batch, batch_idx)

    assert message_of(RunDirError, lambda: t.fit(Counting(), data())) == (
        f"Trainer(default_root_dir={str(tmp_path / 'file')!r}): the run directory "
        f"{tmp_path / 'file' / 'runs' / 'Counting'} cannot be written: "
        "Not a directory; give a directory that you may write to"
    )
    assert steps == []
