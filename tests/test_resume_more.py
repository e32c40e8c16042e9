"""Exact resume of everything else that has a state, and from checkpoints taken in unusual places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint

STEPS = 6  # a epoch


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(23, 4, generator=generator)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4, shuffle=True)


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("largest", loss, on_epoch=True, on_step=False, reduce_fx="max")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.layers(x), y))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class Saving(lk.Callback):
    """Saves once, in a hook of choice, at a step of choice, and stops there on request."""

    def __init__(self, hook: str, step: int, path: Path, stops: bool = True):
        self.step, self.path, self.stops, self.done = step, path, stops, False
        setattr(self, hook, self._save)

    def _save(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step >= self.step and not self.done and not trainer.sanity_checking:
            self.done = True
            trainer.save_checkpoint(self.path)
            if self.stops:
                raise KeyboardInterrupt


def run(
    root: Path, net: Any, *, extra: Any = (), ckpt_path: Any = None, seed: int = 1, train: Any = data, **arguments: Any
) -> Any:
    lk.seed_everything(seed, verbose=False)
    model = net()
    trainer = lk.Trainer(
        **{"max_epochs": 3, **arguments}, accelerator="cpu", run_dir=root, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[
            EarlyStopping(monitor="val_loss", patience=99), ModelCheckpoint(monitor="val_loss", save_top_k=2), *extra,
        ],
    )  # fmt: skip
    try:
        trainer.fit(model, train(), data(), ckpt_path=ckpt_path)
    except KeyboardInterrupt:
        assert extra
    return trainer


def assert_same(whole: Any, parts: Any) -> None:
    a, b = whole.lightning_module.state_dict(), parts.lightning_module.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert whole.callback_metrics == parts.callback_metrics
    assert whole.global_step == parts.global_step
    assert (whole.run_dir / "metrics.csv").read_text() == (parts.run_dir / "metrics.csv").read_text()
    for one, other in zip(whole.callbacks, parts.callbacks, strict=False):
        if isinstance(one, EarlyStopping):
            assert (one.wait_count, one.best_score) == (other.wait_count, other.best_score)


@pytest.mark.parametrize("interval", [1.0, 2])
@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_train_batch_end", 8),
        ("on_validation_start", 8),
        ("on_validation_batch_end", 8),
        ("on_validation_epoch_end", 8),
        ("on_validation_end", 8),
        ("on_train_epoch_end", 8),
        ("on_train_epoch_start", 6),
        ("on_train_start", 0),
    ],
)
def test_saved_in_any_hook_it_goes_on_exactly(tmp_path: Path, hook: str, step: int, interval: Any) -> None:
    whole = run(tmp_path / "whole", Net, val_check_interval=interval)
    path = tmp_path / "saved.ckpt"
    run(tmp_path / "parts", Net, extra=[Saving(hook, step, path)], val_check_interval=interval)
    parts = run(tmp_path / "parts", Net, ckpt_path=path, seed=77, val_check_interval=interval)
    assert_same(whole, parts)


class Sizeless(IterableDataset[Any]):
    """A loader over it has no length: the epoch ends where it ends."""

    def __iter__(self) -> Any:
        yield from ((torch.linspace(i, i + 1, 4), torch.tensor(i % 2)) for i in torch.randperm(23).tolist())


class Earlier(Net):
    """The earlier style, whose outputs must be there when the epoch ends; a scheduler that waits for no metric."""

    def training_epoch_end(self, outputs: Any) -> None:
        self.log("mean_of_outputs", torch.stack([o["loss"] for o in outputs]).mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


@pytest.mark.parametrize("is_sized", [True, False])
@pytest.mark.parametrize("hook", ["on_validation_epoch_end", "on_validation_end", "on_train_epoch_end"])
def test_saved_at_an_epoch_s_end_its_end_is_not_repeated(tmp_path: Path, hook: str, is_sized: bool) -> None:
    def train() -> Any:
        return data() if is_sized else DataLoader(Sizeless(), batch_size=4)

    whole = run(tmp_path / "whole", Earlier, train=train)
    path = tmp_path / "saved.ckpt"
    run(tmp_path / "parts", Earlier, train=train, extra=[Saving(hook, 12, path)])
    parts = run(tmp_path / "parts", Earlier, train=train, ckpt_path=path, seed=77)
    assert_same(whole, parts)
    schedulers = [trainer.lr_scheduler_configs[0].scheduler.state_dict() for trainer in (whole, parts)]
    assert schedulers[0] == schedulers[1]


def test_saved_at_a_validation_s_end_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Net, val_check_interval=2)

    class Dies(lk.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 8:
                raise KeyboardInterrupt

    saves = ModelCheckpoint(dirpath=tmp_path / "each", monitor="val_loss", save_top_k=-1, filename="{step}")
    whole_too = run(tmp_path / "whole_too", Net, val_check_interval=2, extra=[saves])
    again = ModelCheckpoint(dirpath=tmp_path / "each2", monitor="val_loss", save_top_k=-1, filename="{step}")
    run(tmp_path / "parts", Net, val_check_interval=2, extra=[again, Dies()])
    again = ModelCheckpoint(dirpath=tmp_path / "each2", monitor="val_loss", save_top_k=-1, filename="{step}")
    path = tmp_path / "each2" / "step=8.ckpt"
    parts = run(tmp_path / "parts", Net, val_check_interval=2, extra=[again], ckpt_path=path, seed=5)
    assert_same(whole, whole_too)
    assert_same(whole, parts)
    names = [sorted(p.name for p in (tmp_path / folder).iterdir()) for folder in ("each", "each2")]
    assert names[0] == names[1]


def test_torchmetrics_objects_go_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    metrics = pytest.importorskip("torchmetrics", reason="torchmetrics comes with the recipes' extras")

    class Metered(Net):
        def __init__(self) -> None:
            super().__init__()
            self.accuracy = metrics.classification.MulticlassAccuracy(2)
            self.kept = metrics.CatMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.accuracy(self.layers(batch[0]), batch[1])
            self.log("accuracy", self.accuracy, on_step=True, on_epoch=True)
            self.kept.update(loss.detach())
            return loss

        def on_train_epoch_end(self) -> None:
            self.log("spread", self.kept.compute().std())
            self.kept.reset()

    whole = run(tmp_path / "whole", Metered)
    for step in (8, 12):  # 12: the last batch, with nothing of the metric's epoch logged after the resume
        path = tmp_path / f"{step}.ckpt"
        run(tmp_path / f"parts{step}", Metered, extra=[Saving("on_train_batch_end", step, path)])
        assert_same(whole, run(tmp_path / f"parts{step}", Metered, ckpt_path=path, seed=5))


def test_the_gradient_scaler_goes_on(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Net, precision="16-mixed")
    path = tmp_path / "8.ckpt"
    run(tmp_path / "parts", Net, precision="16-mixed", extra=[Saving("on_train_batch_end", 8, path)])
    parts = run(tmp_path / "parts", Net, precision="16-mixed", ckpt_path=path, seed=5)
    assert_same(whole, parts)
    assert whole.precision.state_dict() == parts.precision.state_dict()


def test_weights_of_double_precision_come_back_whole(tmp_path: Path) -> None:
    class Double(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step([batch[0].double(), batch[1]], batch_idx)

    whole = run(tmp_path / "whole", Double, precision="64-true")
    path = tmp_path / "8.ckpt"
    run(tmp_path / "parts", Double, precision="64-true", extra=[Saving("on_train_batch_end", 8, path)])
    assert_same(whole, run(tmp_path / "parts", Double, precision="64-true", ckpt_path=path, seed=5))


def test_loaders_are_asked_for_in_the_same_epochs_after_a_resume(tmp_path: Path) -> None:
    class Asked(Net):
        def train_dataloader(self) -> Any:
            generator = torch.Generator().manual_seed(self.current_epoch)
            return DataLoader(data().dataset, batch_size=4, shuffle=True, generator=generator)

    options: dict[str, Any] = {"train": lambda: None, "max_epochs": 5, "reload_dataloaders_every_n_epochs": 2}
    whole = run(tmp_path / "whole", Asked, **options)
    for hook, step in (("on_train_batch_end", 8), ("on_train_batch_end", 13), ("on_train_epoch_start", 12)):
        path, folder = tmp_path / f"{hook}{step}.ckpt", tmp_path / f"parts {hook}{step}"
        run(folder, Asked, extra=[Saving(hook, step, path)], **options)
        assert_same(whole, run(folder, Asked, ckpt_path=path, seed=5, **options))


def test_fit_after_an_interrupted_one_begins_the_epoch_anew(tmp_path: Path) -> None:
    trainer = run(tmp_path / "run", Net, extra=[Saving("on_train_batch_end", 8, tmp_path / "8.ckpt")])
    assert (trainer.current_epoch, trainer.global_step) == (1, 8)
    trainer.fit(trainer.lightning_module, data(), data())
    assert (trainer.current_epoch, trainer.global_step) == (3, 8 + 2 * STEPS)


def test_accumulated_steps_go_on(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Net, accumulate_grad_batches=4)  # 6 batches: a window of 4 and one of 2
    for step in (1, 2, 3):
        path = tmp_path / f"{step}.ckpt"
        folder = tmp_path / f"each{step}"
        saves = ModelCheckpoint(dirpath=folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        stop = Saving("on_train_batch_start", step, tmp_path / "unused.ckpt")
        run(tmp_path / f"parts{step}", Net, accumulate_grad_batches=4, extra=[saves, stop])
        path = tmp_path / f"each{step}" / f"step={step}.ckpt"
        parts = run(tmp_path / f"parts{step}", Net, accumulate_grad_batches=4, ckpt_path=path, seed=5, extra=[saves])
        assert_same(whole, parts)


def test_a_run_ended_by_max_steps_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Net)
    short = run(tmp_path / "short", Net, max_steps=8)
    short.save_checkpoint(tmp_path / "short.ckpt")
    longer = run(tmp_path / "longer", Net, ckpt_path=tmp_path / "short.ckpt", seed=5)
    a, b = whole.lightning_module.state_dict(), longer.lightning_module.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert whole.callback_metrics == longer.callback_metrics


def test_more_epochs_after_a_finished_run(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Net, max_epochs=4)
    short = run(tmp_path / "short", Net, max_epochs=2)
    short.save_checkpoint(tmp_path / "short.ckpt")
    longer = run(tmp_path / "longer", Net, max_epochs=4, ckpt_path=tmp_path / "short.ckpt", seed=5)
    a, b = whole.lightning_module.state_dict(), longer.lightning_module.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_states_of_the_data_module_and_of_callbacks_come_back(tmp_path: Path) -> None:
    class Data(lk.LightDataModule):
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        def train_dataloader(self) -> Any:
            self.asked += 1
            return data()

        def state_dict(self) -> dict[str, Any]:
            return {"asked": self.asked}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.asked = state_dict["asked"]

    class Counting(lk.Callback):
        batches = 0

        def on_train_batch_end(self, *args: Any) -> None:
            self.batches += 1

        def state_dict(self) -> dict[str, Any]:
            return {"batches": self.batches}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.batches = state_dict["batches"]

    class Late(Net):
        """Builds its layers late, and keeps something of its own in the checkpoint."""

        def __init__(self) -> None:
            super().__init__()
            self.extra = 0

        def configure_model(self) -> None:
            if not hasattr(self, "head"):
                self.head = nn.Linear(2, 2)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["extra"] = 41

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.extra = checkpoint["extra"] + 1

    def fit(epochs: int, ckpt_path: Any = None) -> tuple[Any, Any, Any]:
        counting, module = Counting(), Data()
        trainer = lk.Trainer(
            max_epochs=epochs, accelerator="cpu", run_dir=tmp_path / "run", callbacks=[counting],
            enable_progress_bar=False,
        )  # fmt: skip
        model = Late()
        model.validation_step = lk.LightModule.validation_step.__get__(model)  # type: ignore[method-assign]
        model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), 0.1)  # type: ignore[method-assign]
        trainer.fit(model, datamodule=module, ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return counting, module, model

    fit(1)
    counting, module, model = fit(3, tmp_path / "1.ckpt")
    assert (counting.batches, module.asked, model.extra) == (3 * STEPS, 2, 42)


def test_last_is_the_newest_whole_checkpoint_of_the_latest_run(tmp_path: Path) -> None:
    def fit(**arguments: Any) -> Any:
        trainer = lk.Trainer(
            accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[ModelCheckpoint(every_n_train_steps=3, save_top_k=-1)], max_epochs=2,
        )  # fmt: skip
        trainer.fit(Net(), data(), data(), **arguments)
        return trainer

    with pytest.warns(UserWarning, match="there is no checkpoint yet, nothing is loaded"):
        first = fit(ckpt_path="last")
    assert first.global_step == 2 * STEPS and first.run_dir.name == "version_0"
    files = sorted((first.run_dir / "checkpoints").iterdir(), key=lambda p: p.stat().st_mtime)
    assert len(files) == 4
    files[-1].write_bytes(files[-1].read_bytes()[:1000])  # the newest one was cut off
    resumed = fit(ckpt_path="last")
    assert resumed.ckpt_path == str(files[-2])
    assert resumed.run_dir == first.run_dir, "a resumed run goes on in its own directory"
    assert fit().run_dir.name == "version_1"


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    def fit(**arguments: Any) -> Any:
        trainer = lk.Trainer(
            max_epochs=50, accelerator="cpu", run_dir=tmp_path / "run", enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[EarlyStopping(monitor="val_loss", patience=1, min_delta=9.0), ModelCheckpoint(save_last=True)],
        )  # fmt: skip
        trainer.fit(Net(), data(), data(), **arguments)
        return trainer

    first = fit()
    assert first.current_epoch == 2, "the first check is an improvement, the second is not"
    again = fit(ckpt_path="last")
    assert (again.current_epoch, again.global_step) == (first.current_epoch, first.global_step)
