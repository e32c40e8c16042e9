"""Programs of the years 0.7 to 1.9: their arguments, hyperparameters, hooks and calls, as they were written."""

from __future__ import annotations

import inspect
import re
import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint, ModelSummary, TQDMProgressBar
from lightkit.errors import ConfigError
from lightkit.legacy.trainer_arguments import READ_AS

QUIET: dict[str, Any] = {
    "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
    "max_epochs": 1, "accelerator": "cpu",
}  # fmt: skip


def data(samples: int = 4) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(samples, 4)), batch_size=2)


class Net(lk.LightModule):
    def __init__(self, hparams: Any = None) -> None:
        super().__init__()
        self.hparams = hparams if hparams is not None else Namespace(lr=0.1, width=2)
        self.layer = torch.nn.Linear(4, self.hparams.width)
        self.seen: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch[0]).pow(2).mean()
        return {"loss": loss, "log": {"lr": self.trainer.optimizers[0].param_groups[0]["lr"]}}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"val_loss": self.layer(batch[0]).pow(2).mean()}

    def validation_epoch_end(self, outputs: Any) -> Any:
        return {"val_loss": torch.stack([output["val_loss"] for output in outputs]).mean()}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("test", self.layer(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


def read(**old: Any) -> lk.Trainer:
    """A Trainer of old arguments; what is said of them is of no interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lk.Trainer(**{"accelerator": "cpu", "logger": False, "max_epochs": None, **old})


# ------------------------------------------------------------------ the Trainer's arguments


@pytest.mark.parametrize("old, attribute, value", [
    ({"max_nb_epochs": 3}, "max_epochs", 3),
    ({"min_nb_epochs": 2, "max_epochs": 3}, "min_epochs", 2),
    ({"train_percent_check": 0.5}, "limit_train_batches", 0.5),
    ({"val_percent_check": 0.25}, "limit_val_batches", 0.25),
    ({"test_percent_check": 0.1}, "limit_test_batches", 0.1),
    ({"overfit_pct": 0.5}, "overfit_batches", 0.5),
    ({"nb_sanity_val_steps": 5}, "num_sanity_val_steps", 5),
    ({"gradient_clip": 0.5}, "gradient_clip_val", 0.5),
    ({"row_log_interval": 7}, "log_every_n_steps", 7),
    ({"default_save_path": "here"}, "default_root_dir", "here"),
    ({"weights_save_path": "there"}, "default_root_dir", "there"),
    ({"reload_dataloaders_every_epoch": True}, "reload_dataloaders_every_n_epochs", 1),
    ({"replace_sampler_ddp": False}, "use_distributed_sampler", False),
    ({"terminate_on_nan": True}, "nan_check", "step"),
])  # fmt: skip
def test_an_old_argument_is_read_as_what_it_is_now(old: dict[str, Any], attribute: str, value: Any) -> None:
    assert getattr(read(**old), attribute) == value


def test_what_is_read_is_said_once() -> None:
    message = (
        "arguments of an earlier Lightning: Trainer(max_nb_epochs=1) is read as max_epochs=1; "
        "Trainer(row_log_interval=5) is read as log_every_n_steps=5; Trainer(process_position=1) is left out"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
        lk.Trainer(accelerator="cpu", logger=False, max_nb_epochs=1, row_log_interval=5, process_position=1, gpus=None)
    assert len(caught) == 1 and caught[0].filename == __file__


def kinds(trainer: lk.Trainer) -> dict[type, Any]:
    return {type(callback): callback for callback in trainer.callbacks}


def test_callbacks_that_were_arguments_take_part(tmp_path: Path) -> None:
    saving, stopping = ModelCheckpoint(dirpath=tmp_path), EarlyStopping("a", patience=1)
    found = kinds(read(checkpoint_callback=saving, early_stop_callback=stopping))
    assert found[ModelCheckpoint] is saving and found[EarlyStopping] is stopping
    found = kinds(read(checkpoint_callback=False, early_stop_callback=True, callbacks=lk.Callback()))
    assert ModelCheckpoint not in found and lk.Callback in found
    assert (found[EarlyStopping].monitor, found[EarlyStopping].patience) == ("val_loss", 3)
    assert EarlyStopping not in kinds(read(early_stop_callback=False, checkpoint_callback=True))


@pytest.mark.parametrize("value, depth", [("top", 1), ("full", -1), (None, None)])
def test_the_weights_summary_is_the_model_s(value: str | None, depth: int | None) -> None:
    found = kinds(read(weights_summary=value)).get(ModelSummary)
    assert (None if found is None else found.max_depth) == depth


def test_the_refresh_rate_is_the_bar_s() -> None:
    assert kinds(read(progress_bar_refresh_rate=20))[TQDMProgressBar].refresh_rate == 20
    assert read(progress_bar_refresh_rate=0).progress_bar_callback is None


def test_no_gpus_are_the_cpu() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t = lk.Trainer(gpus=0, max_epochs=1, logger=False)
    assert t.strategy.root_device.type == "cpu"


def test_a_run_is_resumed_from_the_checkpoint_that_was_an_argument(tmp_path: Path) -> None:
    first = lk.Trainer(**QUIET)
    first.fit(Net(), data())
    first.save_checkpoint(tmp_path / "a.ckpt")
    message = re.escape("Trainer(resume_from_checkpoint=") + ".* is read as trainer.fit"
    with pytest.warns(UserWarning, match=message):
        t = lk.Trainer(**{**QUIET, "max_epochs": 3}, resume_from_checkpoint=str(tmp_path / "a.ckpt"))
    t.fit(Net(), data())
    assert (t.global_step, t.ckpt_path) == (6, str(tmp_path / "a.ckpt"))


def test_both_names_of_one_argument_are_an_error() -> None:
    message = "Trainer(max_nb_epochs=3, max_epochs=2): both mean max_epochs; leave the first out"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        lk.Trainer(max_nb_epochs=3, max_epochs=2)


def test_every_old_argument_that_is_off_is_taken() -> None:
    """None was the default of nearly all of them, and programs hand it on."""
    old = {name: None for name in READ_AS if name != "weights_summary"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = lk.Trainer(**QUIET, **old)
    assert len(old) >= 40 and t.max_epochs == 1


# ------------------------------------------------------------------ the command line


def test_the_trainer_s_arguments_come_from_a_command_line(tmp_path: Path) -> None:
    parser = ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--max_epochs", type=int, default=2)
    parser = lk.Trainer.add_argparse_args(parser)
    line = "--max_epochs 4 --limit_val_batches 0.5 --row_log_interval 3 --accelerator cpu --fast_dev_run --logger False"
    args = parser.parse_args(line.split())
    assert (args.lr, args.max_epochs, args.limit_val_batches, args.fast_dev_run, args.gpus) == (0.1, 4, 0.5, True, None)
    args.fast_dev_run = False
    with pytest.warns(UserWarning, match="is read as log_every_n_steps=3$"):
        t = lk.Trainer.from_argparse_args(args, default_root_dir=tmp_path)
    assert (t.max_epochs, t.limit_val_batches, t.log_every_n_steps, t.loggers) == (4, 0.5, 3, [])
    assert t.default_root_dir == str(tmp_path)
    assert lk.Trainer.parse_argparser(Namespace(max_epochs="3", other="4")) == Namespace(max_epochs=3, other="4")
    assert lk.Trainer.default_attributes()["accumulate_grad_batches"] == 1


# ------------------------------------------------------------------ hyperparameters


@pytest.mark.parametrize("given", [Namespace(lr=0.5, width=3), {"lr": 0.5, "width": 3}])
def test_hyperparameters_can_be_set(tmp_path: Path, given: Any) -> None:
    module, t = Net(given), lk.Trainer(**QUIET)
    assert module.hparams.lr == module.hparams["lr"] == 0.5
    t.fit(module, data())
    t.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Net.load_from_checkpoint(tmp_path / "a.ckpt")
    assert dict(loaded.hparams) == {"lr": 0.5, "width": 3}
    assert torch.equal(loaded.layer.weight, module.layer.weight)


# ------------------------------------------------------------------ hooks by other names


class Earlier(Net):
    def on_epoch_start(self) -> None:
        self.seen.append("M.on_epoch_start")

    def on_epoch_end(self) -> None:
        self.seen.append("M.on_epoch_end")

    def on_batch_start(self, batch: Any) -> int | None:
        self.seen.append("M.on_batch_start")
        return -1 if len([word for word in self.seen if word == "M.on_batch_start"]) == 2 else None

    def on_batch_end(self) -> None:
        self.seen.append("M.on_batch_end")

    def on_train_epoch_start(self) -> None:
        self.seen.append("M.on_train_epoch_start")


class EarlierCallback(lk.Callback):
    def on_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.seen.append("C.on_epoch_start")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.seen.append("C.on_train_epoch_start")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.seen.append("C.on_train_epoch_end")

    def on_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.seen.append("C.on_epoch_end")

    def on_batch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.seen.append("C.on_batch_start")


def test_hooks_of_epochs_and_batches_have_their_turn() -> None:
    module = Earlier()
    lk.Trainer(**QUIET, callbacks=[EarlierCallback()]).fit(module, data(6))
    assert module.seen == [
        "C.on_epoch_start", "C.on_train_epoch_start", "M.on_epoch_start", "M.on_train_epoch_start",
        "C.on_batch_start", "M.on_batch_start", "M.on_batch_end", "C.on_batch_start", "M.on_batch_start",
        "C.on_train_epoch_end", "C.on_epoch_end", "M.on_epoch_end",
    ]  # fmt: skip


def test_epochs_of_evaluations_have_them_too() -> None:
    module = Earlier()
    lk.Trainer(**QUIET, callbacks=[EarlierCallback()]).validate(module, data(), verbose=False)
    assert module.seen == ["C.on_epoch_start", "M.on_epoch_start", "C.on_epoch_end", "M.on_epoch_end"]


# ------------------------------------------------------------------ calls and attributes


def test_loaders_are_taken_under_their_earlier_names() -> None:
    module, t = Net(), lk.Trainer(**QUIET)
    t.fit(module, train_dataloader=data(), val_dataloaders=data())
    assert t.global_step == 2 and "val_loss" in t.callback_metrics
    assert list(t.test(module, test_dataloaders=data(), verbose=False)[0]) == ["test"]
    assert list(t.validate(module, val_dataloaders=data(), verbose=False)[0]) == ["val_loss"]


@pytest.mark.parametrize("call, message", [
    (lambda t, m: t.fit(m, trian_dataloaders=data()),
     "trainer.fit(trian_dataloaders=...): no such argument; did you mean 'train_dataloaders'?"),
    (lambda t, m: t.test(m, data(), test_dataloaders=data()),
     "trainer.test(test_dataloaders=..., dataloaders=...): they are the same; leave the first out"),
])  # fmt: skip
def test_another_name_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        call(lk.Trainer(**QUIET), Net())


def test_the_trainer_s_flags_are_told() -> None:
    t = lk.Trainer(**QUIET)
    assert (t.use_dp, t.use_ddp, t.on_gpu, t.use_amp, t.num_gpus, t.root_gpu) == (False, False, False, False, 0, None)
    t.fit(Net(), data())
    assert t.get_model() is t.lightning_module
    with pytest.raises(AttributeError, match=r"^'Trainer' object has no attribute 'current_epohc'; did you mean"):
        _ = t.current_epohc  # type: ignore[attr-defined]


# ------------------------------------------------------------------ callbacks


def test_early_stopping_needs_no_monitor() -> None:
    found = EarlyStopping()
    assert (found.monitor, found.patience, found.mode) == ("val_loss", 3, "min")
    shown = inspect.signature(EarlyStopping).parameters["monitor"]
    assert shown.default is shown.empty, "configs and readers are asked for it"


def test_a_checkpoint_s_filepath_is_a_folder_and_a_name(tmp_path: Path) -> None:
    message = (
        f"ModelCheckpoint(filepath='{tmp_path}/best-{{epoch}}', period=2): of an earlier Lightning; read as "
        f"dirpath='{tmp_path}', filename='best-{{epoch}}', every_n_epochs=2"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        found = ModelCheckpoint(filepath=f"{tmp_path}/best-{{epoch}}", period=2)
    assert (found.dirpath, found.filename, found.every_n_epochs) == (str(tmp_path), "best-{epoch}", 2)
    with pytest.warns(UserWarning, match="of an earlier Lightning"):
        found = ModelCheckpoint(filepath=str(tmp_path), monitor="val_acc", mode="auto")
    assert (found.dirpath, found.filename, found.mode) == (str(tmp_path), None, "max")
    with pytest.raises(ConfigError, match=r"^ModelCheckpoint\(dir_path='a'\): no such argument; did you mean"):
        ModelCheckpoint(dir_path="a")


def test_a_filepath_is_saved_to(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="of an earlier Lightning"):
        saving = ModelCheckpoint(filepath=tmp_path / "best-{epoch}", monitor="val_loss")
    how = {name: value for name, value in QUIET.items() if name != "enable_checkpointing"}
    lk.Trainer(**how, callbacks=[saving]).fit(Net(), data(), data())
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["best-epoch=0.ckpt"]


def test_the_page_of_earlier_programs_runs(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (repository / "docs" / "guide" / "earlier_lightning.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    exec(compile(block, "earlier_lightning.md", "exec"), {"__name__": "page"})
    told = capsys.readouterr().out
    assert "Trainer(max_nb_epochs=2) is read as max_epochs=2; " in told and "epoch 1\n" in told


def test_a_method_of_ones_own_by_an_earlier_hooks_name_is_none(tmp_path: Path) -> None:
    """It asks for an argument that the hook never had: forecasting libraries have an `on_epoch_end(outputs)`."""
    calls: list[object] = []

    class Own(lk.LightModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch[0]).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def on_epoch_end(self, outputs: list[object]) -> None:
            calls.append(outputs)

        def on_batch_start(self, batch: object) -> None:
            calls.append("batch")

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(2, 1)))
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Own(), loader)
    assert calls == ["batch", "batch"]


def test_two_earlier_arguments_for_one_of_today_are_an_error_where_they_differ() -> None:
    with pytest.raises(ConfigError) as caught:
        lk.Trainer(row_log_interval=5, add_row_log_interval=7)
    assert str(caught.value) == (
        "Trainer(add_row_log_interval=7): an earlier argument also asks for log_every_n_steps=5; take one"
    )


def test_a_trainer_that_is_being_made_can_be_asked_for_attributes() -> None:
    class Asked(lk.Trainer):
        def __init__(self) -> None:
            self.has_it = hasattr(self, "foo")
            super().__init__(max_epochs=1, logger=False)

    assert not Asked().has_it and not hasattr(lk.Trainer.__new__(lk.Trainer), "on_gpu")
