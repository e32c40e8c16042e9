"""What a Lightning program counts on without saying so: orders of calls, what None means, where numbers are written.

The expected sequences were read off Lightning 2.6.6 with the same programs; where lightkit differs on purpose, the test
says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.errors import ConfigError, HookError
from lightkit.loggers import CSVLogger
from lightkit.loggers.base import Logger


def data(samples: int = 8, **more: Any) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(samples)
    return DataLoader(TensorDataset(torch.randn(samples, 4, generator=generator)), batch_size=2, **more)


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.layer(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(path: Path, **more: Any) -> lk.Trainer:
    plain = {
        "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
        "max_epochs": 1, "accelerator": "cpu",
    }  # fmt: skip
    return lk.Trainer(**{"default_root_dir": path, **plain, **more})  # type: ignore[arg-type]


# ------------------------------------------------------------------ when loaders are asked for


class Asked(Net):
    """Notes when it is asked for loaders, in which epoch and stage, and when it is validated."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def note(self, what: str) -> None:
        stage = self.trainer.state.stage
        assert self.trainer.sanity_checking == (stage == "sanity_check")
        self.seen.append(f"{what}@{self.current_epoch}:{stage}")

    def train_dataloader(self) -> Any:
        self.note("train")
        return data()

    def val_dataloader(self) -> Any:
        self.note("val")
        return data()

    def on_train_start(self) -> None:
        self.note("start")

    def on_validation_start(self) -> None:
        self.note("validation")


class Around(lk.Callback):
    def on_sanity_check_start(self, trainer: lk.Trainer, pl_module: Any) -> None:
        pl_module.note("begin")

    def on_sanity_check_end(self, trainer: lk.Trainer, pl_module: Any) -> None:
        pl_module.note("end")


def asked(path: Path, **more: Any) -> list[str]:
    module = Asked()
    trainer(path, callbacks=[Around()], **more).fit(module)
    return module.seen


def test_the_validation_loader_is_asked_for_inside_the_sanity_check(tmp_path: Path) -> None:
    assert asked(tmp_path) == [
        "train@0:train", "begin@0:sanity_check", "val@0:sanity_check", "validation@0:sanity_check",
        "end@0:sanity_check", "start@0:train", "validation@0:validate",
    ]  # fmt: skip


def test_without_a_sanity_check_it_is_asked_for_right_before_the_training(tmp_path: Path) -> None:
    assert asked(tmp_path, num_sanity_val_steps=0) == [
        "train@0:train", "val@0:validate", "start@0:train", "validation@0:validate",
    ]  # fmt: skip


def test_on_a_resume_it_is_asked_for_right_before_the_training(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.fit(Asked())
    t.save_checkpoint(tmp_path / "a.ckpt")
    module = Asked()
    trainer(tmp_path, callbacks=[Around()], max_epochs=2).fit(module, ckpt_path=tmp_path / "a.ckpt")
    assert module.seen == ["train@1:train", "val@1:validate", "start@1:train", "validation@1:validate"]


@pytest.mark.parametrize("every, check, sanity, expected", [
    (0, 2, 0, "train0 val1"),  # an epoch without a validation asks for none
    (1, 1, 2, "train0 val0 train1 val1 train2 val2 train3 val3"),
    (1, 1, 0, "train0 val0 train1 val1 train2 val2 train3 val3"),
    (1, 2, 2, "train0 val0 train1 val1 train2 train3 val3"),
    (1, 2, 0, "train0 train1 val1 train2 train3 val3"),
    (2, 1, 2, "train0 val0 train2 val2"),
    (2, 3, 2, "train0 val0 train2 val2"),
])  # fmt: skip
def test_loaders_are_asked_for_again_as_the_epochs_are_counted(
    tmp_path: Path, every: int, check: int, sanity: int, expected: str
) -> None:
    seen = asked(
        tmp_path, reload_dataloaders_every_n_epochs=every, check_val_every_n_epoch=check, num_sanity_val_steps=sanity,
        max_epochs=4,
    )  # fmt: skip
    found = [re.sub(r"@(\d):.*", r"\1", word) for word in seen if word.startswith(("train@", "val@"))]
    assert " ".join(found) == expected


@pytest.mark.parametrize("every, check, epoch, expected", [
    (1, 2, 1, "train1 val1 train2 train3 val3 train4 train5 val5"),
    (4, 3, 3, "train3 train4 val5"),  # at 2 without the stop, at 8 again
    (2, 1, 1, "train1 val1 train2 val2 train4 val4"),
])  # fmt: skip
def test_a_resumed_fit_asks_again_when_an_uninterrupted_one_does(
    tmp_path: Path, every: int, check: int, epoch: int, expected: str
) -> None:
    how = {"reload_dataloaders_every_n_epochs": every, "check_val_every_n_epoch": check}
    t = trainer(tmp_path, max_epochs=epoch, **how)
    t.fit(Asked())
    t.save_checkpoint(tmp_path / "a.ckpt")
    module = Asked()
    trainer(tmp_path, max_epochs=6, **how).fit(module, ckpt_path=tmp_path / "a.ckpt")
    found = [re.sub(r"@(\d):.*", r"\1", word) for word in module.seen if word.startswith(("train@", "val@"))]
    assert " ".join(found) == expected


def test_what_a_loader_of_the_sanity_check_draws_is_given_back(tmp_path: Path) -> None:
    class Draws(Net):
        def train_dataloader(self) -> Any:
            return data(shuffle=True)

        def val_dataloader(self) -> Any:
            torch.rand(100)
            return data()

    def weights(module: Net) -> torch.Tensor:
        trainer(tmp_path, max_epochs=2).fit(module, None if isinstance(module, Draws) else data(shuffle=True), val)
        return module.layer.weight

    val = None
    torch.manual_seed(0)
    drawn = weights(Draws())
    val = data()
    torch.manual_seed(0)
    assert torch.equal(drawn, weights(Net()))


# ------------------------------------------------------------------ validation loaders without a batch


def test_an_empty_validation_loader_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    class Counts(Net):
        validated = 0

        def on_validation_start(self) -> None:
            self.validated += 1

    module, t = Counts(), trainer(tmp_path, max_epochs=2)
    message = (
        "val_dataloader() has no batches (its data set has 0 samples, batch_size=2, drop_last=False); the validation "
        "passes over it"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
        t.fit(module, data(), data(0))
    assert (len(caught), module.validated, t.global_step, t.num_val_batches) == (1, 0, 8, [0])
    assert not t.enable_validation and "val" not in t.callback_metrics


def test_one_empty_loader_of_several_leaves_the_others(tmp_path: Path) -> None:
    class Two(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val", self.layer(batch[0]).mean())

    t = trainer(tmp_path)
    with pytest.warns(UserWarning, match=r"^val_dataloader\(\)\[0\] has no batches \(.*\); the validation passes over"):
        t.fit(Two(), data(), [data(0), data()])
    assert t.num_val_batches == [0, 4]
    assert set(t.callback_metrics) == {"loss", "val/dataloader_idx_1"}


# ------------------------------------------------------------------ None where a hook or a loader is


HOOKS = (
    "val_dataloader", "validation_step", "prepare_data", "setup", "teardown", "configure_callbacks", "configure_model",
    "on_fit_start", "on_train_start", "on_train_batch_end", "on_train_epoch_end", "on_validation_model_eval",
    "on_validation_model_zero_grad", "on_validation_epoch_end", "on_before_zero_grad", "on_after_backward",
    "transfer_batch_to_device", "on_before_batch_transfer", "backward", "optimizer_step", "optimizer_zero_grad",
    "lr_scheduler_step", "configure_gradient_clipping", "on_save_checkpoint", "on_load_checkpoint",
)  # fmt: skip


class Overrides(Net):
    """Has a hook of each name, every one of which fails."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def fails(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise AssertionError("it was called")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_set_to_none_on_a_module_is_not_defined(tmp_path: Path, hook: str) -> None:
    kind = type("Failing", (Overrides,), {hook: fails})
    plain, module = Overrides(), kind()
    module.load_state_dict(plain.state_dict())
    setattr(module, hook, None)
    val = None if hook == "val_dataloader" else data()
    for each in (plain, module):
        t = trainer(tmp_path, gradient_clip_val=0.1)
        t.fit(each, data(), val)
        t.save_checkpoint(tmp_path / "a.ckpt")
        trainer(tmp_path, max_epochs=2).fit(each, data(), val, ckpt_path=tmp_path / "a.ckpt")
    assert torch.equal(plain.layer.weight, module.layer.weight)
    assert ("val" in t.callback_metrics) == (hook not in ("val_dataloader", "validation_step"))


@pytest.mark.parametrize("hook", ["setup", "teardown", "on_train_batch_end", "on_validation_end", "on_save_checkpoint"])
def test_a_hook_set_to_none_on_a_callback_is_not_defined(tmp_path: Path, hook: str) -> None:
    callback = type("Failing", (lk.Callback,), {hook: fails})()
    setattr(callback, hook, None)
    t = trainer(tmp_path, callbacks=[callback])
    t.fit(Net(), data(), data())
    t.save_checkpoint(tmp_path / "a.ckpt")
    assert t.global_step == 4


@pytest.mark.parametrize("hook", ["prepare_data", "setup", "teardown", "val_dataloader", "on_before_batch_transfer"])
def test_a_hook_set_to_none_on_a_data_module_is_not_defined(tmp_path: Path, hook: str) -> None:
    names = {"train_dataloader": lambda self: data(), "val_dataloader": lambda self: data(), hook: fails}
    module = type("Failing", (lk.LightDataModule,), names)()
    setattr(module, hook, None)
    t = trainer(tmp_path)
    t.fit(Net(), datamodule=module)
    assert ("val" in t.callback_metrics) == (hook != "val_dataloader")


def test_a_step_set_to_none_is_said_to_be_missing(tmp_path: Path) -> None:
    module = Net()
    module.validation_step = None  # type: ignore[assignment, method-assign]
    with pytest.raises(HookError, match=r"^Net\.validation_step is not defined; validate needs it$"):
        trainer(tmp_path).validate(module, data())


# ------------------------------------------------------------------ setup and teardown


def test_setup_and_teardown_are_called_by_keyword_where_they_can_be(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Keyword(Net):
        def setup(self, unused: int = 1, stage: str | None = None) -> None:  # type: ignore[override]
            seen.append((unused, stage))

        def teardown(self, **given: Any) -> None:  # type: ignore[override]
            seen.append(given)

    class Only(lk.Callback):
        def setup(self, trainer: Any, pl_module: Any, *, stage: str) -> None:  # type: ignore[override]
            seen.append(stage)

    class Other(lk.LightDataModule):
        def setup(self, what: str) -> None:  # type: ignore[override]
            seen.append(what)

        def train_dataloader(self) -> Any:
            return data()

    trainer(tmp_path, callbacks=[Only()], profiler="simple").fit(Keyword(), datamodule=Other())
    assert seen == ["fit", "fit", (1, "fit"), {"stage": "fit"}]


# ------------------------------------------------------------------ checkpoints


def test_the_module_sees_a_checkpoint_before_the_callbacks(tmp_path: Path) -> None:
    seen: list[str] = []

    class Looks(Net):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            seen.append("module")
            checkpoint["from_module"] = 1

    class Looking(lk.Callback):
        def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
            seen.append(f"callback {checkpoint['from_module']}")

    t = trainer(tmp_path)
    t.fit(Net(), data())
    t.save_checkpoint(tmp_path / "a.ckpt")
    trainer(tmp_path, max_epochs=2, callbacks=[Looking()]).fit(Looks(), data(), ckpt_path=tmp_path / "a.ckpt")
    assert seen == ["module", "callback 1"]


CALLS: dict[str, Callable[..., Any]] = {
    "fit": lambda t, m, **how: t.fit(m, data(), **how),
    "validate": lambda t, m, **how: t.validate(m, data(), verbose=False, **how),
    "test": lambda t, m, **how: t.test(m, data(), verbose=False, **how),
    "predict": lambda t, m, **how: t.predict(m, DataLoader(torch.randn(4, 4)), **how),
}


@pytest.mark.parametrize("name", CALLS)
def test_weights_only_is_taken_and_code_is_refused(tmp_path: Path, name: str) -> None:
    class Tested(Net):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("test", 1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    saved = tmp_path / "a.ckpt"
    t = trainer(tmp_path)
    t.fit(Tested(), data())
    t.save_checkpoint(saved)
    for given in (None, True):
        CALLS[name](trainer(tmp_path, max_epochs=2), Tested(), ckpt_path=saved, weights_only=given)
    message = f"trainer.{name}(weights_only=False): loading never executes code from a checkpoint; leave it out"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        CALLS[name](t, Tested(), ckpt_path=saved, weights_only=False)


def test_strict_loading_is_true_unless_it_is_false() -> None:
    module = Net()
    assert module.strict_loading is True
    module.strict_loading = None  # type: ignore[assignment]
    assert module.strict_loading is True
    module.strict_loading = False
    assert module.strict_loading is False

    class Loose(Net):
        strict_loading = False  # type: ignore[assignment]

    assert Loose().strict_loading is False


def test_none_as_strict_loading_refuses_other_weights(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.fit(Net(), data())
    t.save_checkpoint(tmp_path / "a.ckpt")

    class More(Net):
        def __init__(self) -> None:
            super().__init__()
            self.extra = torch.nn.Linear(1, 1)
            self.strict_loading = None  # type: ignore[assignment]

    with pytest.raises(lk.errors.CheckpointError, match="extra.weight"):
        More.load_from_checkpoint(tmp_path / "a.ckpt")


def test_a_missing_file_of_hyperparameters_is_warned_of(tmp_path: Path) -> None:
    class Wide(Net):
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()

    t = trainer(tmp_path)
    t.fit(Wide(5), data())
    t.save_checkpoint(tmp_path / "a.ckpt")
    missing = tmp_path / "none.yaml"
    message = f"load_from_checkpoint(hparams_file={str(missing)!r}): there is no such file, no hyperparameters are read"
    with pytest.warns(RuntimeWarning, match=f"^{re.escape(message)}$"):
        found = Wide.load_from_checkpoint(tmp_path / "a.ckpt", hparams_file=missing)
    assert found.hparams["width"] == 3, "the constructor's own, as in Lightning"


# ------------------------------------------------------------------ small things


def test_freeze_and_unfreeze_give_the_module_back() -> None:
    module = Net()
    assert module.freeze() is module and not module.training and not module.layer.weight.requires_grad
    assert module.unfreeze() is module and module.training and module.layer.weight.requires_grad


def test_loggers_can_be_set_and_none_is_none(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    first, second = CSVLogger(tmp_path), CSVLogger(tmp_path)
    t.logger = first
    assert t.loggers == [first] and t.logger is first
    t.loggers = [second, first]
    assert t.logger is second
    t.loggers = None
    assert t.loggers == [] and t.logger is None
    t.logger = None
    assert t.loggers == []


def test_a_data_module_of_data_sets_gets_batch_size_and_workers() -> None:
    sets = TensorDataset(torch.randn(8, 4))

    class Takes(lk.LightDataModule):
        def __init__(self, name: str, batch_size: int = 1, num_workers: int = 7) -> None:
            super().__init__()
            self.got = (name, batch_size, num_workers)

    class TakesAny(lk.LightDataModule):
        def __init__(self, **given: Any) -> None:
            super().__init__()
            self.got = given

    assert Takes.from_datasets(sets, batch_size=4, name="a").got == ("a", 4, 0)
    assert TakesAny.from_datasets(sets, batch_size=4).got == {"batch_size": 4, "num_workers": 0}
    loaders = lk.LightDataModule.from_datasets(sets, {"a": sets, "b": sets}, batch_size=4).val_dataloader()
    assert {name: loader.batch_size for name, loader in loaders.items()} == {"a": 4, "b": 4}


@pytest.mark.parametrize("how, stop_at, epochs", [
    ({"max_steps": 6}, None, ["end 0", "end 1", "train end 2", "fit end 2", "after 2"]),
    ({"max_steps": 4}, None, ["end 0", "train end 1", "fit end 1", "after 1"]),
    ({}, 6, ["end 0", "end 1", "train end 2", "fit end 2", "after 2"]),
])  # fmt: skip
def test_current_epoch_after_a_stop_is_the_next(
    tmp_path: Path, how: dict[str, Any], stop_at: int | None, epochs: list[str]
) -> None:
    seen: list[str] = []

    class Stops(Net):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if self.global_step == stop_at:
                self.trainer.should_stop = True

        def on_train_epoch_end(self) -> None:
            seen.append(f"end {self.current_epoch}")

        def on_train_end(self) -> None:
            seen.append(f"train end {self.current_epoch}")

        def on_fit_end(self) -> None:
            seen.append(f"fit end {self.current_epoch}")

    module, t = Stops(), trainer(tmp_path, max_epochs=3, **how)
    t.fit(module, data())
    assert [*seen, f"after {t.current_epoch}"] == epochs
    assert module.current_epoch == t.current_epoch


# ------------------------------------------------------------------ manual optimization is logged by batches


class Rows(Logger):
    def __init__(self) -> None:
        self.rows: list[tuple[int | None, str]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, " ".join(sorted(set(metrics) - {"epoch"}))))

    def steps(self, name: str) -> list[int | None]:
        return [step for step, names in self.rows if name in names.split()]


class Gan(lk.LightModule):
    """Two optimizers; the second takes every other batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for net, optimizer in zip((self.first, self.second), self.optimizers(), strict=True):  # type: ignore[call-overload]
            if net is self.second and batch_idx % 2:
                continue
            loss = net(batch[0]).pow(2).mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.log("loss", loss, on_step=True, on_epoch=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.first(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(net.parameters(), lr=0.1) for net in (self.first, self.second)]


@pytest.mark.parametrize("every, steps", [(1, list(range(8))), (2, [1, 3, 5, 7]), (3, [2, 5])])
def test_manual_optimization_is_logged_by_batches(tmp_path: Path, every: int, steps: list[int]) -> None:
    rows, module = Rows(), Gan()
    monitor = lk.callbacks.LearningRateMonitor("step")
    t = trainer(tmp_path, logger=rows, log_every_n_steps=every, max_epochs=2, callbacks=[monitor])
    t.fit(module, data(), data())
    assert t.global_step == 12, "optimizer steps, as before"
    assert rows.steps("loss_step") == steps == rows.steps("lr-SGD")
    assert rows.steps("loss_epoch") == rows.steps("val") == [3, 7]
    rows.rows.clear()
    t.validate(module, data(), verbose=False)
    assert rows.steps("val") == [8]


def test_a_resumed_manual_optimization_logs_what_is_left(tmp_path: Path) -> None:
    class Saves(lk.Callback):
        def on_train_batch_end(self, trainer: lk.Trainer, pl_module: Any, outputs: Any, batch: Any, i: int) -> None:
            if trainer.global_step == 9:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    how: dict[str, Any] = {"log_every_n_steps": 2, "max_epochs": 2}
    whole, rest = Rows(), Rows()
    trained, resumed = Gan(), Gan()
    trainer(tmp_path, logger=whole, callbacks=[Saves()], **how).fit(trained, data())
    trainer(tmp_path, logger=rest, **how).fit(resumed, data(), ckpt_path=tmp_path / "a.ckpt")
    assert whole.steps("loss_step") == [1, 3, 5, 7] and rest.steps("loss_step") == [5, 7]
    assert torch.equal(trained.first.weight, resumed.first.weight)
