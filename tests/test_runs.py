"""A run is a value: calls inside of calls, what is read before and after, copies, what a fit leaves behind."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint
from lightkit.errors import ConfigError
from lightkit.loggers import CSVLogger, TensorBoardLogger


def loader(samples: int = 24, seed: int = 0, **kwargs: Any) -> DataLoader[Any]:
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, **kwargs)


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


def trainer_of(tmp_path: Path, **kwargs: Any) -> lk.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu", "max_epochs": 3, "default_root_dir": tmp_path, "enable_progress_bar": False,
        "enable_model_summary": False, "logger": CSVLogger(), "log_every_n_steps": 1,
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **kwargs})


# ---------------------------------------------------------------- a call inside a hook of a running fit


class Inside(lk.Callback):
    """Calls the trainer in hooks of a fit."""

    def __init__(self, hook: str, call: Callable[[lk.Trainer, Net], Any]):
        self.call, self.found, self.states = call, list[Any](), list[Any]()
        setattr(self, hook, self.run)

    def run(self, trainer: lk.Trainer, pl_module: Net, *_: Any) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self.states.append((trainer.state, trainer.training, dict(trainer.progress_bar_metrics)))
        self.found.append(self.call(trainer, pl_module))
        self.states.append((trainer.state, trainer.training, dict(trainer.progress_bar_metrics)))


CALLS: dict[str, Callable[[lk.Trainer, Net], Any]] = {
    "validate": lambda trainer, module: trainer.validate(dataloaders=loader(8, seed=1), verbose=False),
    "test": lambda trainer, module: trainer.test(module, loader(8, seed=1), verbose=False),
    "predict": lambda trainer, module: trainer.predict(
        module, DataLoader(torch.ones(4, 4), batch_size=2), return_predictions=True
    ),
    "another module": lambda trainer, module: trainer.validate(Net(), loader(8, seed=1), verbose=False),
}


class Predicting(Net):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found


def fitted(tmp_path: Path, extra: list[lk.Callback]) -> tuple[lk.Trainer, Net, list[Any]]:
    lk.seed_everything(3)
    saving = ModelCheckpoint(monitor="val_loss", save_top_k=-1, filename="{epoch}")
    stopping = EarlyStopping("val_loss", patience=50)
    trainer = trainer_of(tmp_path, callbacks=[*extra, saving, stopping])
    model = Predicting()
    trainer.fit(model, loader(shuffle=True), loader(8, seed=2))
    assert len(saving.best_k_models) == 3
    states = [torch.load(path, weights_only=True) for path in sorted(saving.best_k_models)]
    return trainer, model, [float(stopping.best_score), stopping.wait_count, torch.get_rng_state(), states]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


HOOKS = ["on_train_batch_start", "on_train_batch_end", "on_train_epoch_end", "on_validation_end"]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("call", [name for name in CALLS if name != "another module"])
def test_a_call_inside_a_fit_leaves_the_fit_as_it_was_to_the_bit(tmp_path: Path, call: str, hook: str) -> None:
    _, plain, left = fitted(tmp_path / "plain", [Inside(hook, lambda trainer, module: None)])
    inside = Inside(hook, CALLS[call])
    trainer, model, found = fitted(tmp_path / "inside", [inside])
    assert same(list(plain.state_dict().values()), list(model.state_dict().values()))
    for state in (*left[3], *found[3]):  # rows of the csv, and where it lies, are not the same
        state["loggers"], state["callbacks"] = None, None
    assert same(left, found)
    assert len(inside.found) == (18 if "batch" in hook else 3)
    assert all(before == after for before, after in zip(inside.states[::2], inside.states[1::2], strict=True))
    assert trainer.state.fn is None and trainer.state.status == "finished" and trainer.lightning_module is model


def test_a_call_inside_a_fit_gives_its_own_metrics(tmp_path: Path) -> None:
    inside = Inside("on_train_epoch_end", CALLS["validate"])
    trainer, model, _ = fitted(tmp_path, [inside])
    assert [list(found[0]) for found in inside.found] == [["val_loss"]] * 3
    assert inside.found[-1] == trainer.validate(model, loader(8, seed=1), verbose=False)


def test_a_call_with_another_module_gives_the_callbacks_their_own_back(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Logs(lk.Callback):
        def on_train_batch_end(self, trainer: lk.Trainer, pl_module: Any, *_: Any) -> None:
            trainer.validate(Net(), loader(8, seed=1), verbose=False)
            self.log("mine", float(trainer.global_step))
            seen.append((trainer.lightning_module is pl_module, pl_module.trainer is trainer))

    trainer = trainer_of(tmp_path, callbacks=[Logs()], max_epochs=1, enable_checkpointing=False)
    trainer.fit(Net(), loader())
    assert seen == [(True, True)] * 6
    assert float(trainer.callback_metrics["mine"]) == 6.0


def test_an_error_inside_a_call_inside_a_fit_can_be_caught(tmp_path: Path) -> None:
    class Broken(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise ValueError("broken")

    broken = Broken()

    def call(trainer: lk.Trainer, module: Net) -> str:
        with pytest.raises(ValueError, match="^broken$"):
            trainer.validate(broken, loader(8), verbose=False)
        return str(trainer.state.status)

    _, plain, _ = fitted(tmp_path / "plain", [])
    inside = Inside("on_train_batch_end", call)
    trainer, model, _ = fitted(tmp_path / "inside", [inside])
    assert inside.found == ["running"] * 18 and trainer.state.status == "finished"
    assert same(list(plain.state_dict().values()), list(model.state_dict().values()))


# ---------------------------------------------------------------- before any run


@pytest.mark.parametrize("name", ["estimated_stepping_batches", "fit_loop", "validate_loop"])
def test_what_only_a_fit_knows_says_so_before_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        getattr(trainer_of(tmp_path), name)
    assert str(caught.value) == (
        f"trainer.{name}: there was no fit yet; read it in a hook of trainer.fit(model), or after it"
    )


@pytest.mark.parametrize("name", ["run_dir", "log_dir"])
def test_the_run_directory_is_not_known_before_a_run(tmp_path: Path, name: str) -> None:
    trainer = trainer_of(tmp_path)
    with pytest.raises(ConfigError) as caught:
        getattr(trainer, name)
    assert str(caught.value) == (
        "trainer.run_dir: there is no run yet, so its directory is not known; read it in a hook or after "
        "trainer.fit(model), or choose it: Trainer(run_dir=...)"
    )
    trainer.fit(Net(), loader(), loader())
    assert trainer.run_dir == tmp_path / "runs" / "Net" / "version_0"  # reading has not fixed another name
    assert trainer.log_dir == str(trainer.run_dir)


def test_a_run_directory_that_was_chosen_is_known_and_not_made_by_reading(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, run_dir=tmp_path / "mine")
    assert trainer.run_dir == tmp_path / "mine" and trainer.log_dir == str(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_reading_the_run_directory_in_a_run_that_writes_nothing_makes_none(tmp_path: Path) -> None:
    seen: list[Path] = []

    class Reads(lk.Callback):
        def on_train_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            seen.append(trainer.run_dir)

    trainer = trainer_of(tmp_path, callbacks=[Reads()], logger=False, enable_checkpointing=False)
    trainer.fit(Net(), loader())
    assert seen == [tmp_path / "runs" / "Net" / "version_0"] and not (tmp_path / "runs").exists()


def test_a_directory_that_a_user_writes_to_is_marked_as_the_run_s(tmp_path: Path) -> None:
    class Writes(lk.Callback):
        def on_train_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            trainer.run_dir.mkdir(parents=True)
            (trainer.run_dir / "mine.txt").write_text("mine")

    trainer = trainer_of(tmp_path, callbacks=[Writes()], logger=False, enable_checkpointing=False)
    trainer.fit(Net(), loader())
    assert sorted(path.name for path in trainer.run_dir.iterdir()) == ["mine.txt", "run.json"]


def test_reading_a_new_trainer_gives_values_that_say_nothing_has_run(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    assert (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics) == ({}, {}, {})
    assert (trainer.current_epoch, trainer.global_step, trainer.optimizers, trainer.num_val_batches) == (0, 0, [], [])
    assert trainer.lightning_module is None and trainer.state.status == "initializing"
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what may be set, and what may not


def test_what_is_set_is_checked_as_the_argument_is(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    with pytest.raises(ConfigError) as caught:
        trainer.max_epochs = -3
    assert str(caught.value) == "Trainer(max_epochs=-3): expected a whole number of at least 0 or -1 for no limit"
    with pytest.raises(ConfigError) as caught:
        trainer.limit_val_batches = 1.5
    assert str(caught.value) == (
        "Trainer(limit_val_batches=1.5): expected a count of batches (an int) or a fraction between 0.0 and 1.0"
    )
    assert (trainer.max_epochs, trainer.limit_val_batches) == (3, 1.0)


def test_what_cannot_be_changed_any_more_says_so(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    with pytest.raises(ConfigError) as caught:
        trainer.val_check_interval = 0.5
    assert str(caught.value) == (
        "trainer.val_check_interval = 0.5: what a Trainer was made with; make another, Trainer(val_check_interval=...)"
    )


def test_limits_that_are_set_count_from_the_next_loaders_on(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, enable_checkpointing=False)
    trainer.limit_train_batches, trainer.limit_val_batches, trainer.max_epochs = 3, 1, 2
    trainer.fit(Net(), loader(), loader())
    assert (trainer.global_step, trainer.num_training_batches, trainer.num_val_batches) == (6, 3, [1])
    trainer.max_epochs = 4
    trainer.fit(Net(), loader(), loader())
    assert trainer.global_step == 12


def test_settings_have_the_trainer_s_arguments_and_defaults() -> None:
    import dataclasses
    import inspect

    from lightkit.settings import Settings

    arguments = {
        name: p.default for name, p in inspect.signature(lk.Trainer).parameters.items() if p.kind is p.KEYWORD_ONLY
    }
    assert arguments == {field.name: field.default for field in dataclasses.fields(Settings)}
    assert len(arguments) == 49


# ---------------------------------------------------------------- copies, and what a fit leaves behind


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_fitted_trainer_can_be_copied_and_goes_on(tmp_path: Path, copied: Any, asynchronous: bool) -> None:
    loggers = [TensorBoardLogger(), CSVLogger()]
    stopping = EarlyStopping("val_loss", patience=50)
    trainer = lk.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, logger=loggers, callbacks=[stopping],
        async_checkpoint=asynchronous, profiler="simple",
    )  # fmt: skip
    trainer.fit(Net(), loader(collate_fn=lambda rows: torch.utils.data.default_collate(rows)), loader())
    other = copied(trainer)
    assert other is not trainer and other.lightning_module is not trainer.lightning_module
    assert other.global_step == trainer.global_step == 12 and other.state == trainer.state
    assert same(other.callback_metrics, trainer.callback_metrics)
    assert same(dict(other.lightning_module.state_dict()), dict(trainer.lightning_module.state_dict()))
    other.max_epochs = 3
    other.fit(other.lightning_module, loader(), loader())
    assert (other.global_step, trainer.global_step) == (18, 12)
    assert [type(c) for c in other.callbacks] == [type(c) for c in trainer.callbacks]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part))])
def test_parts_of_a_fitted_trainer_can_be_copied(tmp_path: Path, copied: Any) -> None:
    trainer = lk.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path)
    trainer.fit(Net(), loader(), loader())
    parts: list[Any] = [trainer.lightning_module, *trainer.loggers, *trainer.callbacks]
    assert [type(copied(part)) for part in parts] == [type(part) for part in parts]
    assert len(parts) == 6


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_holds_the_last_step_s_graph_after_a_fit(tmp_path: Path, fails: bool) -> None:
    graphs: list[Any] = []

    class Watched(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            graphs.append(weakref.ref(loss))
            if fails and batch_idx == 3:
                raise ValueError("enough")
            return loss

    trainer = trainer_of(tmp_path, max_epochs=1)
    model = Watched()
    if fails:
        with pytest.raises(ValueError, match="^enough$"):
            trainer.fit(model, loader(), loader())
    else:
        trainer.fit(model, loader(), loader())
    gc.collect()
    assert [graph for graph in graphs if graph() is not None] == []
    assert len(graphs) == (4 if fails else 6)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_fit_that_raises_leaves_no_worker_process(tmp_path: Path, persistent: bool) -> None:
    class Broken(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 2:
                raise ValueError("broken")
            return super().training_step(batch, batch_idx)

    workers: dict[str, Any] = {"num_workers": 2, "persistent_workers": persistent}
    before = len(multiprocessing.active_children())
    trainer = trainer_of(tmp_path)
    with pytest.raises(ValueError, match="^broken$") as held:
        trainer.fit(Broken(), loader(**workers), loader(**workers))
    assert len(multiprocessing.active_children()) == before
    assert held.value is not None  # the traceback, and all frames in it, are still there
