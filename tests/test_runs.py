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
@pytest.mark.parametrize("call", CALLS)
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
    assert trainer.state.fn == "fit" and trainer.state.status == "finished" and trainer.lightning_module is model


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
    assert len(arguments) == 53


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
    assert len(parts) == 5


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


# ---------------------------------------------------------------- what a review of runs found


class Earlier(Net):
    """Gets its hooks of the earlier style when it is set up."""

    def setup(self, stage: str) -> None:
        self.ends: list[int] = []
        self.training_epoch_end = lambda outputs: self.ends.append(len(outputs))


def test_hooks_of_the_earlier_style_that_are_set_in_setup_are_called(tmp_path: Path) -> None:
    model = Earlier()
    trainer_of(tmp_path, max_epochs=2, enable_checkpointing=False).fit(model, loader())
    assert model.ends == [6, 6]


def test_outputs_of_a_checkpoint_that_was_not_gone_on_with_are_not_another_epoch_s(tmp_path: Path) -> None:
    class Saves(lk.Callback):
        def on_train_batch_end(self, trainer: lk.Trainer, pl_module: Any, outputs: Any, batch: Any, index: int) -> None:
            if index == 1:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    trainer_of(tmp_path, max_epochs=1, callbacks=[Saves()]).fit(Earlier(), loader())
    model, trainer = Earlier(), trainer_of(tmp_path, max_epochs=2, max_steps=2)
    trainer.fit(model, loader(), ckpt_path=tmp_path / "middle.ckpt")  # its steps are done
    trainer.max_steps = -1
    trainer.fit(model, loader())
    assert model.ends[-1] == 6


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_saved_in_the_teardown_of_a_fit_is_there_when_it_returns(
    tmp_path: Path, asynchronous: bool, fails: bool
) -> None:
    class Saves(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * float("nan") if fails else loss

        def teardown(self, stage: str) -> None:
            self.trainer.save_checkpoint(tmp_path / "end.ckpt")

    trainer = trainer_of(tmp_path, max_epochs=1, async_checkpoint=asynchronous, nan_check="step")
    if fails:
        with pytest.raises(lk.errors.NonFiniteError):
            trainer.fit(Saves(), loader())
    else:
        trainer.fit(Saves(), loader())
    assert torch.load(tmp_path / "end.ckpt", weights_only=True)["global_step"] == (0 if fails else 6)


def test_reading_the_directory_of_one_run_decides_nothing_for_the_next(tmp_path: Path) -> None:
    class Other(Net):
        pass

    first, second = (trainer_of(tmp_path, logger=False, max_epochs=1) for _ in range(2))
    first.validate(Net(), loader(8), verbose=False)
    planned = first.run_dir
    second.fit(Net(), loader())
    first.fit(Net(), loader())
    assert second.run_dir == planned and first.run_dir == planned.with_name("version_1")
    third = trainer_of(tmp_path, logger=False, max_epochs=1)
    third.validate(Net(), loader(8), verbose=False)
    assert third.run_dir.parent.name == "Net"
    third.fit(Other(), loader())
    assert third.run_dir == tmp_path / "runs" / "Other" / "version_0"


def test_what_is_saved_inside_a_call_inside_a_fit_holds_the_training_s_generators(tmp_path: Path) -> None:
    class Saves(lk.Callback):
        before: Any = None

        def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            self.before = torch.get_rng_state()
            trainer.validate(pl_module, loader(8, shuffle=True), verbose=False)

        def on_validation_batch_end(self, trainer: lk.Trainer, *_: Any) -> None:
            torch.rand(3)
            trainer.save_checkpoint(tmp_path / "inside.ckpt")

    saves = Saves()
    trainer_of(tmp_path, max_epochs=1, callbacks=[saves]).fit(Net(), loader())
    assert torch.equal(torch.load(tmp_path / "inside.ckpt", weights_only=True)["rng"]["torch"], saves.before)


def test_a_fit_inside_a_fit_and_other_weights_for_its_module_are_refused(tmp_path: Path) -> None:
    found: list[str] = []

    class Tries(lk.Callback):
        def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
            for call in (
                lambda: trainer.fit(Net(), loader()),
                lambda: trainer.test(pl_module, loader(8), ckpt_path=tmp_path / "a.ckpt", verbose=False),
            ):
                with pytest.raises(ConfigError) as caught:
                    call()
                found.append(str(caught.value))

    trainer = trainer_of(tmp_path, callbacks=[Tries()])
    trainer.fit(Net(), loader())
    assert trainer.global_step == 18 and found[:2] == [
        "trainer.fit(): a fit of this Trainer is running, and both would count the same epochs and steps; use another "
        "Trainer for the one inside",
        "trainer.test(ckpt_path=...): this module is being trained, and its weights would be lost; load the checkpoint "
        "into another module, or wait until the fit is over",
    ]
    assert len(found) == 6


def test_loaders_that_are_asked_for_again_let_the_old_ones_go(tmp_path: Path) -> None:
    seen: list[int] = []

    class Counts(lk.Callback):
        def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            gc.collect()
            seen.append(sum(ref() is not None for ref in pl_module.made))

    class Makes(Net):
        def train_dataloader(self) -> Any:
            made = loader(num_workers=1, persistent_workers=True)
            self.made = [*getattr(self, "made", []), weakref.ref(made.dataset)]
            return made

    trainer = trainer_of(
        tmp_path, callbacks=[Counts()], reload_dataloaders_every_n_epochs=1, enable_checkpointing=False
    )
    before = len(multiprocessing.active_children())
    trainer.fit(Makes())
    assert seen == [1, 1, 1] and len(multiprocessing.active_children()) == before


def test_callbacks_and_optimizers_that_are_set_in_a_hook_are_taken(tmp_path: Path) -> None:
    class Sets(lk.Callback):
        def on_train_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            trainer.optimizers = [torch.optim.SGD(pl_module.parameters(), lr=0.0)]
            trainer.callbacks = []

    model = Net()
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.1)  # type: ignore[method-assign]
    before = copy.deepcopy(dict(model.state_dict()))
    trainer = trainer_of(tmp_path, callbacks=[Sets()], enable_checkpointing=False)
    trainer.fit(model, loader())
    assert same(before, dict(model.state_dict())) and trainer.callbacks == []


def test_metrics_are_there_until_the_next_pass_has_its_own(tmp_path: Path) -> None:
    class Looks(Net):
        def setup(self, stage: str) -> None:
            self.seen = [*getattr(self, "seen", []), sorted(self.trainer.callback_metrics)]

    model, trainer = Looks(), trainer_of(tmp_path, enable_checkpointing=False)
    trainer.fit(model, loader(), loader(8))
    trainer.test(model, loader(8), verbose=False)
    assert model.seen == [[], ["train_loss", "train_loss_epoch", "train_loss_step", "val_loss"]]
    assert sorted(trainer.callback_metrics) == ["test_loss"]


def test_a_copy_saves_weights_and_says_why_no_more(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_epochs=1, profiler="advanced")
    trainer.fit(Net(), loader())
    other = copy.deepcopy(trainer)
    with pytest.raises(ConfigError) as caught:
        other.save_checkpoint(tmp_path / "copy.ckpt")
    assert str(caught.value) == (
        "trainer.save_checkpoint(): this Trainer is a copy, which has no optimizers before it fits; fit first, or save "
        "the weights alone: weights_only=True"
    )
    other.save_checkpoint(tmp_path / "copy.ckpt", weights_only=True)
    assert torch.load(tmp_path / "copy.ckpt", weights_only=True)["global_step"] == 6


def test_a_copy_made_in_a_hook_runs_nothing(tmp_path: Path) -> None:
    found: list[lk.Trainer] = []

    class Copies(lk.Callback):
        def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            callbacks, trainer.callbacks = trainer.callbacks, []
            found.append(copy.deepcopy(trainer))
            trainer.callbacks = callbacks

    trainer_of(tmp_path, max_epochs=1, callbacks=[Copies()], enable_checkpointing=False).fit(Net(), loader())
    assert (found[0].training, found[0].state.stage, found[0].global_step) == (False, None, 6)


def test_numbers_that_mean_something_else_may_be_set_too(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, enable_checkpointing=False, max_epochs=1)
    trainer.num_sanity_val_steps, trainer.limit_val_batches = -1, None  # type: ignore[assignment]
    assert (trainer.num_sanity_val_steps, trainer.limit_val_batches) == (float("inf"), 1.0)
    trainer.gradient_clip_algorithm, trainer.inference_mode, trainer.nan_check = "value", False, "off"
    trainer.fit(Net(), loader(), loader(8))
    assert trainer.num_sanity_val_batches == [2] and trainer.num_val_batches == [2]


def test_the_estimate_of_steps_knows_the_loaders_in_configure_callbacks(tmp_path: Path) -> None:
    class Asks(Net):
        def configure_callbacks(self) -> list[lk.Callback]:
            self.asked = self.trainer.estimated_stepping_batches
            return []

    model = Asks()
    trainer_of(tmp_path).fit(model, loader())
    assert model.asked == 18


def test_names_that_look_like_ours_are_the_user_s(tmp_path: Path) -> None:
    class Mine(Net):
        def __init__(self) -> None:
            super().__init__()
            self._manual = self._attach = self.attach = True

    trainer_of(tmp_path, max_epochs=1, enable_checkpointing=False).fit(Mine(), loader())
