"""A search for a learning rate or a batch size finds what it should, and leaves everything as it was."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    LearningRateFinder,
    ModelCheckpoint,
    PredictionWriter,
)
from lightkit.errors import ConfigError, MissingExtraError
from lightkit.seeding import Snapshot
from lightkit.tuner import Tuner

BAD = "CUDA error: out of memory"  # what torch's message holds


def data(rows: int = 64) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(rows, 4, generator=generator), torch.randn(rows, 1, generator=generator))


class Net(lk.LightModule):
    """Draws from generators wherever it can: dropout, shuffled data, a layer that is made in setup."""

    most = 10**9  # rows that "memory" holds

    def __init__(self, lr: float = 0.01, batch_size: int = 8):
        super().__init__()
        self.save_hyperparameters()
        self.lr, self.batch_size = lr, batch_size
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.seen: list[int] = []

    def setup(self, stage: str) -> None:
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        if len(x) > self.most:
            raise RuntimeError(BAD)
        self.seen.append(len(x))
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if len(batch[0]) > self.most:
            raise RuntimeError(BAD)
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        if len(batch[0]) > self.most:
            raise RuntimeError(BAD)
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(data(), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(data(), batch_size=self.batch_size)

    predict_dataloader = val_dataloader


def trainer(**asked: Any) -> lk.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return lk.Trainer(**{"max_epochs": 4, "enable_checkpointing": False, **quiet, **asked})


def made(kind: type[Net] = Net, **asked: Any) -> Net:
    lk.seed_everything(7)
    return kind(**asked)


def state(module: nn.Module) -> dict[str, Any]:
    """All of a module: weights, buffers, gradients, attributes of every part."""
    found: dict[str, Any] = {}
    for name, part in module.named_modules():
        own = {k: v for k, v in vars(part).items() if k not in ("_modules", "_parameters", "_buffers")}
        found[f"{name}:"] = copy.deepcopy({k: v for k, v in own.items() if k[0] != "_" or k == "_hyperparameters"})
        found[f"{name}:names"] = sorted(vars(part)), [*part._modules], part.training
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        found[name] = tensor.detach().clone(), id(tensor), tensor.grad, tensor.requires_grad
    return found


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# ---------------------------------------------------------------- the range test


def test_a_range_test_is_that_of_a_plain_loop() -> None:
    class Plain(Net):
        def setup(self, stage: str) -> None:
            self.body, self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 1)

        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(data(), batch_size=8)

    module = made(Plain)
    found = Tuner(trainer()).lr_find(module, min_lr=1e-4, max_lr=1.0, num_training=20, early_stop_threshold=None)
    assert found is not None

    other = made(Plain)
    other.setup("fit")
    optimizer = torch.optim.SGD(other.parameters(), lr=1e-4, momentum=0.9)
    rates, losses, mean = [], [], 0.0
    for step, (x, y) in zip(range(20), [b for _ in range(3) for b in other.train_dataloader()], strict=False):
        rate = 1e-4 * (1.0 / 1e-4) ** ((step + 1) / 20) if step else 1e-4
        optimizer.param_groups[0]["lr"] = rate
        loss = nn.functional.mse_loss(other(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = 0.98 * mean + (1 - 0.98) * float(loss.detach())
        rates.append(rate)
        losses.append(mean / (1 - 0.98 ** (step + 2)))
    assert found.results == {"lr": rates, "loss": losses}
    assert rates[-1] == 1.0

    gradients = torch.gradient(torch.tensor(losses[10:-1]), spacing=[torch.tensor(rates[10:-1])])[0]
    assert found.suggestion() == rates[10 + int(gradients.argmin())] == module.lr == module.hparams.lr
    assert found.suggestion(skip_begin=0, skip_end=0) in rates


def test_a_linear_range_test_ends_at_its_last_rate_and_counts_updates_not_batches() -> None:
    found = Tuner(trainer(accumulate_grad_batches=2)).lr_find(
        made(), min_lr=0.1, max_lr=0.3, num_training=8, mode="LINEAR", early_stop_threshold=None, update_attr=False
    )
    assert found is not None
    expected = [0.1, *(0.1 + (step + 1) / 8 * (0.3 - 0.1) for step in range(1, 8))]
    assert found.results["lr"] == expected
    assert len(found.results["loss"]) == 8


def test_a_diverging_loss_ends_the_range_test_early_and_nan_is_no_error() -> None:
    class Explodes(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * (1.0 if self.global_step < 5 else 1e6)

    def steps(threshold: float | None, max_lr: float = 1e-6) -> list[float]:
        asked: dict[str, Any] = {"num_training": 20, "early_stop_threshold": threshold, "update_attr": False}
        found = Tuner(trainer()).lr_find(made(Explodes), max_lr=max_lr, **asked)
        assert found is not None
        return found.results["loss"]

    assert len(steps(4.0)) == 6
    assert len(steps(None)) == 20
    assert any(loss != loss for loss in steps(None, 1e30))


def test_too_few_steps_suggest_nothing_and_say_so() -> None:
    module = made()
    with pytest.warns(UserWarning) as said:
        found = Tuner(trainer()).lr_find(module, num_training=5, early_stop_threshold=None)
    assert found is not None
    assert [str(w.message) for w in said] == [
        "lr_find: no suggestion, 5 steps were taken, and of those between the first 10 and the last 1 fewer than two "
        "have a finite loss; give more: num_training=..., Trainer(max_epochs=...), or a larger early_stop_threshold"
    ]
    assert module.lr == 0.01


def test_the_plot_shows_the_losses_and_the_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Tuner(trainer()).lr_find(made(), num_training=30, early_stop_threshold=None)
    assert found is not None
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError) as error:
        found.plot(suggest=True)
    assert str(error.value) == 'matplotlib is needed by plot() of lr_find: pip install "lightkit[vision]"'
    monkeypatch.undo()
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure = found.plot(suggest=True)
    assert figure is not None
    curve, point = figure.axes[0].lines
    assert curve.get_xdata().tolist() == found.results["lr"]
    assert point.get_xdata().tolist() == [found.suggestion()]
    assert figure.axes[0].get_xscale() == "log"
    pyplot.close("all")


# ---------------------------------------------------------------- all is as before


@pytest.mark.parametrize("search", ["lr_find", "scale_batch_size"])
@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before_also_after_an_error(search: str, fails: bool, tmp_path: Path) -> None:
    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if fails and self.global_step > 1:
                raise ValueError("of the user's")
            return super().training_step(batch, batch_idx)

    module, its = made(Fails), trainer(callbacks=[ModelCheckpoint()], enable_checkpointing=True, logger=True)
    module.body[0].weight.grad = torch.ones(8, 4)
    callbacks, loggers, parts = [*its.callbacks], [*its.loggers], [vars(c).copy() for c in its.callbacks]
    before, rng = state(module), Snapshot()
    asked: dict[str, Any] = {"lr_find": {"num_training": 20}, "scale_batch_size": {}}[search]
    if fails:
        with pytest.raises(ValueError, match=r"^of the user's$"):
            getattr(Tuner(its), search)(module, **asked)
    else:
        assert getattr(Tuner(its), search)(module, **asked) is not None
    module.lr, module.batch_size = 0.01, 8
    module.hparams.update(lr=0.01, batch_size=8)
    assert same(state(module), before)
    assert same(rng.plain(), Snapshot().plain())
    assert its.callbacks == callbacks and its.loggers == loggers
    assert [vars(c) for c in its.callbacks] == parts
    assert (its.global_step, its.current_epoch, its.max_steps, its.state.status) == (0, 0, -1, "initializing")
    assert files(tmp_path) == []


@pytest.mark.parametrize("search, name", [("lr_find", "lr"), ("scale_batch_size", "batch_size")])
def test_a_fit_after_a_search_is_one_with_what_it_found(search: str, name: str) -> None:
    module, its = made(), trainer()
    asked: dict[str, Any] = {"lr_find": {"num_training": 25, "max_lr": 0.1}, "scale_batch_size": {}}[search]
    getattr(Tuner(its), search)(module, **asked)
    found = getattr(module, name)
    assert found != {"lr": 0.01, "batch_size": 8}[name]
    its.fit(module)
    plain = made(**{name: found})
    trainer().fit(plain)
    assert same(weights(module), weights(plain))
    assert plain.seen == module.seen


def test_generators_of_given_loaders_are_as_before() -> None:
    module, generator = made(), torch.Generator().manual_seed(5)
    loader = DataLoader(data(), batch_size=8, shuffle=True, generator=generator)
    before = generator.get_state()
    Tuner(trainer()).lr_find(module, loader, num_training=20, update_attr=False)
    assert torch.equal(generator.get_state(), before)


def test_a_lazy_layer_is_lazy_again() -> None:
    class Lazy(Net):
        def setup(self, stage: str) -> None: ...

        def __init__(self) -> None:
            super().__init__()
            self.head: nn.Module = nn.LazyLinear(1)
            self.body = nn.Sequential(nn.Linear(4, 8))

        def configure_optimizers(self) -> Any:
            self(torch.zeros(2, 4))
            return super().configure_optimizers()

    module = Lazy()
    Tuner(trainer()).lr_find(module, num_training=12, update_attr=False)
    assert type(module.head) is nn.LazyLinear
    trainer(max_epochs=1).fit(module)
    assert module.head.weight.shape == (1, 8)


def test_torchmetrics_objects_are_as_before() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")

    class Counts(Net):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torchmetrics.MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.mean.update(loss.detach())
            return loss

    module = Counts()
    module.mean.update(3.0)
    Tuner(trainer()).lr_find(module, num_training=12, update_attr=False)
    assert float(module.mean.compute()) == 3.0


def test_a_callback_that_freezes_layers_has_its_part_and_is_not_touched() -> None:
    class Two(Net):
        def setup(self, stage: str) -> None: ...

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = self.body, nn.Linear(8, 1)
            self.trained: list[int] = []

        def configure_optimizers(self) -> Any:
            TRAINED.append(sum(p.requires_grad for p in self.parameters()))
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self.lr)

    TRAINED: list[int] = []
    freezes = BackboneFinetuning(unfreeze_backbone_at_epoch=2)
    before = copy.deepcopy(vars(freezes))
    module = Two()
    Tuner(trainer(callbacks=[freezes])).lr_find(module, num_training=12, update_attr=False)
    assert TRAINED[0] < sum(1 for _ in module.parameters())
    assert all(p.requires_grad for p in module.parameters())
    assert vars(freezes) == before


def test_the_module_s_hooks_of_set_up_run_once_and_none_of_the_callbacks() -> None:
    calls: list[str] = []

    class Told(Net):
        def prepare_data(self) -> None:
            calls.append("prepare_data")

        def setup(self, stage: str) -> None:
            super().setup(stage)
            calls.append(f"setup {stage}")

        def teardown(self, stage: str) -> None:
            calls.append(f"teardown {stage}")

        def on_fit_start(self) -> None:
            calls.append("on_fit_start")

        def configure_callbacks(self) -> Any:
            return [Watches()]

    class Watches(lk.Callback):
        def on_train_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            calls.append("of a callback")

        on_train_batch_end = on_exception = on_train_start  # type: ignore[assignment]

    Tuner(trainer(callbacks=[Watches()])).scale_batch_size(made(Told), max_val=16)
    assert calls == ["prepare_data", "setup fit", "teardown fit"]


# ---------------------------------------------------------------- batch sizes


@pytest.mark.parametrize("most, mode, asked, expected", [
    (10**9, "power", {}, 64),  # the whole data set
    (10**9, "power", {"max_val": 20}, 20),
    (10**9, "power", {"max_trials": 3}, 8),
    (20, "power", {}, 16),
    (20, "power", {"init_val": 60}, 15),
    (20, "binsearch", {"margin": 0.0}, 20),
    (20, "binsearch", {"margin": 0.1}, 18),
    (20, "BINSEARCH", {"init_val": 60, "margin": 0.0}, 20),
    (10**9, "binsearch", {"max_val": 50, "margin": 0}, 50),
])  # fmt: skip
def test_the_largest_batch_that_fits_is_found(most: int, mode: str, asked: dict[str, Any], expected: int) -> None:
    class Small(Net):
        pass

    Small.most = most
    module = made(Small)
    assert Tuner(trainer()).scale_batch_size(module, mode=mode, **asked) == expected
    assert module.batch_size == module.hparams.batch_size == expected
    assert module.seen == []


@pytest.mark.parametrize("method", ["validate", "predict"])
def test_batches_of_an_evaluation_are_scaled_too(method: Any) -> None:
    class Small(Net):
        most = 20

    module = made(Small)
    assert Tuner(trainer()).scale_batch_size(module, method=method) == 16
    assert not hasattr(module, "head")


def test_a_data_module_holds_the_batch_size() -> None:
    class Data(lk.LightDataModule):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size = 4

        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(data(), batch_size=self.batch_size)

    class Bare(Net):
        def __init__(self) -> None:
            super().__init__()
            del self.batch_size
            del self.hparams["batch_size"]

        def val_dataloader(self) -> Any:
            return None

    held, its = Data(), trainer()
    assert Tuner(its).scale_batch_size(Bare(), datamodule=held, steps_per_trial=1) == 64
    assert held.batch_size == 64
    assert held.trainer is its


def test_a_step_that_never_fits_is_an_error() -> None:
    class Never(Net):
        most = 0

    module = made(Never)
    with pytest.raises(ConfigError) as error:
        Tuner(trainer()).scale_batch_size(module)
    assert str(error.value) == "scale_batch_size: the memory does not hold one step of Never with a batch of 1"
    assert module.batch_size == 8


# ---------------------------------------------------------------- callbacks


def test_a_fit_with_the_finder_is_one_with_the_rate_that_it_found() -> None:
    class Scheduled(Net):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)]

    finder = LearningRateFinder(num_training_steps=25, max_lr=0.1)
    module, its = made(Scheduled), trainer(callbacks=[finder])
    its.fit(module)
    assert finder.optimal_lr is not None
    assert module.lr == finder.optimal_lr.suggestion() != 0.01
    plain = made(Scheduled, lr=module.lr)
    trainer().fit(plain)
    assert same(weights(module), weights(plain))
    assert its.optimizers[0].param_groups[0]["lr"] == module.lr * 0.5**4


def test_a_rate_that_configure_optimizers_does_not_read_is_set_all_the_same() -> None:
    class Fixed(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    module, its = made(Fixed), trainer(callbacks=[LearningRateFinder(num_training_steps=25, max_lr=0.1)])
    its.fit(module)
    assert its.optimizers[0].param_groups[0]["lr"] == module.lr < 0.2


def test_a_search_between_epochs_leaves_the_fit_as_it_was() -> None:
    class Later(LearningRateFinder):
        def on_fit_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None: ...

        def on_train_epoch_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            if trainer.current_epoch in (0, 2):
                self.lr_find(trainer, pl_module)
                found.append(trainer.current_epoch)

    found: list[int] = []
    module, plain = made(), made()
    torch.manual_seed(3)
    trainer(callbacks=[Later(num_training_steps=6, update_attr=False)]).fit(module)
    torch.manual_seed(3)
    trainer().fit(plain)
    assert found == [0, 2]
    assert module.trainer.global_step == 32
    assert module.seen == plain.seen
    assert same(weights(module), weights(plain))
    momentum = [list(m.trainer.optimizers[0].state.values())[0]["momentum_buffer"] for m in (module, plain)]
    assert torch.equal(*momentum)


def test_a_batch_size_that_is_found_between_epochs_counts_from_then_on() -> None:
    class Later(BatchSizeFinder):
        def on_fit_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None: ...

        def on_train_epoch_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            if trainer.current_epoch == 1:
                self.scale_batch_size(trainer, pl_module)

    module = made()
    trainer(max_epochs=2, callbacks=[Later(max_val=16)]).fit(module)
    assert module.seen == [8] * 8 + [16] * 4


def test_the_batch_size_finder_s_fit_is_one_with_that_size() -> None:
    class Counts(Net):
        def configure_optimizers(self) -> Any:
            PLANNED.append(self.trainer.estimated_stepping_batches)
            return super().configure_optimizers()

    PLANNED: list[float] = []
    finder, module = BatchSizeFinder(max_val=16), made(Counts)
    trainer(callbacks=[finder]).fit(module)
    assert finder.optimal_batch_size == module.batch_size == 16
    plain = made(Counts, batch_size=16)
    trainer().fit(plain)
    assert PLANNED == [32, 16, 16]
    assert same(weights(module), weights(plain))


@pytest.mark.parametrize("method", ["validate", "predict"])
def test_the_batch_size_finder_of_an_evaluation_reads_on_with_its_size(method: str) -> None:
    sizes: list[int] = []

    class Sees(lk.Callback):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *where: Any) -> None:
            sizes.append(len(batch[0]))

        on_predict_batch_end = on_validation_batch_end

    its = trainer(callbacks=[BatchSizeFinder(max_val=32), Sees()])
    getattr(its, method)(made())
    assert sizes == [32, 32]


@pytest.mark.parametrize("finder", [
    lambda: LearningRateFinder(num_training_steps=25, max_lr=0.1), lambda: BatchSizeFinder(max_val=16)
])  # fmt: skip
def test_a_resumed_fit_goes_on_with_what_was_found(finder: Any, tmp_path: Path) -> None:
    class Stops(lk.Callback):
        def on_train_batch_end(self, trainer: lk.Trainer, *rest: Any) -> None:
            if trainer.global_step == 6:
                trainer.save_checkpoint(tmp_path / "six.ckpt")

    whole = made()
    trainer(callbacks=[finder(), Stops()]).fit(whole)
    found = (whole.lr, whole.batch_size)
    assert found != (0.01, 8)

    again, its = made(), finder()
    trainer(callbacks=[its]).fit(again, ckpt_path=tmp_path / "six.ckpt")
    assert (again.lr, again.batch_size) == found
    assert same(weights(again), weights(whole))


def test_a_fit_after_lr_find_resumes_exactly(tmp_path: Path) -> None:
    class Stops(lk.Callback):
        def on_train_batch_end(self, trainer: lk.Trainer, *rest: Any) -> None:
            if trainer.global_step == 11:
                trainer.save_checkpoint(tmp_path / "eleven.ckpt")

    module, its = made(), trainer(callbacks=[Stops()])
    Tuner(its).lr_find(module, num_training=25, max_lr=0.1)
    its.fit(module)
    again = made()
    trainer().fit(again, ckpt_path=tmp_path / "eleven.ckpt")
    assert same(weights(again), weights(module))


# ---------------------------------------------------------------- what is refused


class Several(Net):
    def configure_optimizers(self) -> Any:
        return None


class Manual(Net):
    automatic_optimization = False


class Nameless(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.learning_rat, self.batch_sise = nn.Linear(4, 1), 0.1, 4

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rat)

    training_step = Net.training_step
    train_dataloader = Net.train_dataloader


@pytest.mark.parametrize("call, message", [
    (lambda t: t.lr_find(Net(), method="test"),
     "lr_find(method='test'): a learning rate is looked for in a training; use 'fit'"),
    (lambda t: t.lr_find(Net(), mode="exp"), "lr_find(mode='exp'): expected 'exponential' or 'linear'"),
    (lambda t: t.lr_find(Net(), min_lr=1.0),
     "lr_find(min_lr=1.0, max_lr=1): expected 0 < min_lr < max_lr"),
    (lambda t: t.lr_find(Net(), num_training=0),
     "lr_find(num_training=0): expected a whole number of at least 1"),
    (lambda t: t.lr_find(Net(), dataloaders=[]),
     "lr_find(dataloaders=...): with method='fit' write train_dataloaders=..., val_dataloaders=..."),
    (lambda t: t.lr_find(Nameless()),
     "lr_find: no attribute 'lr' or 'learning_rate' in Nameless or Nameless.hparams; set it in __init__ and use it "
     "where it counts, or name another: attr_name=..."),
    (lambda t: t.lr_find(Nameless(), attr_name="learning_rate"),
     "lr_find(attr_name='learning_rate'): no such attribute in Nameless or Nameless.hparams; did you mean "
     "'learning_rat'?"),
    (lambda t: t.lr_find(Manual()),
     "lr_find: Manual optimizes by itself (automatic_optimization=False), so no rate can be set for it"),
    (lambda t: t.lr_find(nn.Linear(1, 1)),
     "Tuner: expected a LightModule, got Linear; subclass lightkit.LightModule"),
    (lambda t: t.scale_batch_size(Net(), mode="pow"),
     "scale_batch_size(mode='pow'): expected 'power' or 'binsearch'; did you mean 'power'?"),
    (lambda t: t.scale_batch_size(Net(), method="fti"),
     "scale_batch_size(method='fti'): expected 'fit', 'validate', 'test' or 'predict'; did you mean 'fit'?"),
    (lambda t: t.scale_batch_size(Net(), margin=1.0),
     "scale_batch_size(margin=1.0): expected a number from 0.0 to below 1.0"),
    (lambda t: t.scale_batch_size(Net(), [], method="validate"),
     "scale_batch_size(train_dataloaders=..., val_dataloaders=...): with method='validate' write dataloaders=..."),
    (lambda t: t.scale_batch_size(Nameless()),
     "scale_batch_size: no attribute 'batch_size' in Nameless or Nameless.hparams; did you mean 'batch_sise'?; set it "
     "in __init__ and use it where it counts, or name another: batch_arg_name=..."),
    (lambda t: t.scale_batch_size(Net(), DataLoader(data(), batch_size=4)),
     "scale_batch_size: loaders were given directly (train_dataloaders=...), and have the batch size they were made "
     "with; define them in the module or a data module, with batch_size=self.batch_size"),
])  # fmt: skip
def test_what_cannot_be_looked_for_is_one_error(call: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        call(Tuner(trainer()))
    assert str(error.value) == message


def test_no_optimizer_is_an_error() -> None:
    with pytest.warns(UserWarning, match="returned None"), pytest.raises(ConfigError) as error:
        Tuner(trainer()).lr_find(Several())
    assert str(error.value) == (
        "lr_find: Several.configure_optimizers returned no optimizers; a rate is looked for with one"
    )


def test_a_finder_beside_the_tuner_and_a_tuner_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        Tuner(trainer(callbacks=[LearningRateFinder()])).lr_find(Net())
    assert str(error.value) == (
        "lr_find: this Trainer has a LearningRateFinder, which does the same; leave one of them out"
    )
    with pytest.raises(ConfigError) as error:
        Tuner(Net())  # type: ignore[arg-type]
    assert str(error.value) == "Tuner(trainer): expected a Trainer, got Net"


@pytest.mark.parametrize("make, message", [
    (lambda: LearningRateFinder(mode="x"), "LearningRateFinder(mode='x'): expected 'exponential' or 'linear'"),
    (lambda: LearningRateFinder(num_training_steps=0),
     "LearningRateFinder(num_training_steps=0): expected a whole number of at least 1"),
    (lambda: BatchSizeFinder(init_val=0), "BatchSizeFinder(init_val=0): expected a whole number of at least 1"),
])  # fmt: skip
def test_a_finder_refuses_what_it_cannot_do(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value) == message


def test_fast_dev_run_looks_for_nothing_and_says_so() -> None:
    with pytest.warns(UserWarning, match=r"^lr_find: nothing is looked for with fast_dev_run$"):
        assert Tuner(trainer(fast_dev_run=True)).lr_find(Net()) is None
    with pytest.warns(UserWarning, match=r"^BatchSizeFinder: no batch size is looked for with fast_dev_run$"):
        trainer(fast_dev_run=True, callbacks=[BatchSizeFinder()]).fit(made())


def test_a_choice_is_taken_in_any_case() -> None:
    class Small(Net):
        most = 20

    assert Tuner(trainer()).scale_batch_size(made(Small), method="Validate", mode="Power") == 16  # type: ignore[arg-type]


def test_a_writer_is_told_the_samples_of_batches_of_the_size_that_was_found(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "out", "batch_and_epoch")
    trainer(callbacks=[BatchSizeFinder(max_val=32), writer]).predict(made())
    whole = torch.load(tmp_path / "out" / "predictions.pt", weights_only=True)
    assert whole["batch_indices"] == [[list(range(32)), list(range(32, 64))]]
    first = torch.load(tmp_path / "out" / "loader_0" / "batch_000000.pt", weights_only=True)
    assert first["batch_indices"] == list(range(32))
