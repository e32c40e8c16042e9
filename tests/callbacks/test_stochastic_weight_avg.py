"""StochasticWeightAveraging: the average itself, the learning rates, the epoch of the batch norms, exact resume."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import SWALR, update_bn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging
from lightkit.checkpoint import files
from lightkit.errors import CheckpointError, ConfigError

EPOCHS, BATCHES = 5, 4


def data(shuffle: bool = True) -> DataLoader[Any]:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=shuffle)


class Net(lk.LightModule):
    """Notes the learning rate of every batch."""

    def __init__(self, *, norm: bool = True, scheduler: bool = True, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(0)
        middle = nn.BatchNorm1d(4, momentum=0.3) if norm else nn.Identity()
        self.net = nn.Sequential(nn.Linear(3, 4), middle, nn.Dropout(dropout), nn.Linear(4, 1))
        self.has_scheduler = scheduler
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)] if self.has_scheduler else []


class StopAt(lk.Callback):
    """Saves and ends the run after a batch, or at the end of an epoch (batch None)."""

    def __init__(self, epoch: int, batch: int | None, path: Path) -> None:
        self.at, self.path = (epoch, batch), path

    def stop(self, trainer: Any) -> None:
        trainer.save_checkpoint(self.path)
        raise KeyboardInterrupt

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.at == (trainer.current_epoch, batch_idx):
            self.stop(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self.at == (trainer.current_epoch - 1, None):
            self.stop(trainer)


def make(root: Path, *callbacks: Any, **arguments: Any) -> lk.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": EPOCHS, "accelerator": "cpu", "run_dir": root, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "callbacks": list(callbacks),
    }  # fmt: skip
    return lk.Trainer(**{**defaults, **arguments})


def fit(
    root: Path, *callbacks: Any, module: Net | None = None, ckpt_path: Any = None, **arguments: Any
) -> tuple[Net, lk.Trainer]:
    module = Net() if module is None else module
    trainer = make(root, *callbacks, **arguments)
    lk.seed_everything(7, verbose=False)
    trainer.fit(module, data(), data(shuffle=False), ckpt_path=ckpt_path)
    return module, trainer


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def by_hand(module: Net, start: int, strategy: Any, annealing: int, epochs: int = EPOCHS) -> nn.Module:
    """The same training as a plain loop, with torch's own SWALR and update_bn; -> the averaged net."""
    lk.seed_everything(7, verbose=False)
    loader, net = data(), module.net
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    scheduler: Any = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
    seen: list[list[torch.Tensor]] = []
    for epoch in range(epochs):
        if epoch == start:
            for group in optimizer.param_groups:
                group["initial_lr"] = 0.02
            last = epochs + 1 if strategy == "cos" else -1
            scheduler = SWALR(optimizer, 0.02, annealing, strategy, last_epoch=last)
        if epoch >= start:
            seen.append([p.detach().clone() for p in net.parameters()])
        for inputs, targets in loader:
            module.rates.append(optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            nn.functional.mse_loss(net(inputs), targets).backward()
            optimizer.step()
        scheduler.step()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            mean = seen[0][number]
            for count, weights in enumerate(seen[1:], start=1):
                mean = mean + (weights[number] - mean) / (count + 1)
            parameter.copy_(mean)
    update_bn((inputs for inputs, _ in loader), net)
    return net


@pytest.mark.parametrize(("strategy", "annealing"), [("cos", 10), ("linear", 2), ("linear", 0)])
def test_weights_rates_and_statistics_are_those_of_a_plain_loop(tmp_path: Path, strategy: Any, annealing: int) -> None:
    plain = Net(dropout=0.0)
    expected = by_hand(plain, 1, strategy, annealing)
    swa = StochasticWeightAveraging(0.02, 2, annealing, strategy)
    # without validation, which a plain loop has not
    module, trainer = fit(tmp_path, swa, module=Net(dropout=0.0), limit_val_batches=0)
    assert_same(dict(module.net.state_dict()), dict(expected.state_dict()))
    assert module.rates[: EPOCHS * BATCHES] == plain.rates
    assert len(module.rates) == (EPOCHS + 1) * BATCHES  # one more epoch for the batch norms
    assert trainer.global_step == EPOCHS * BATCHES
    assert (trainer.current_epoch, trainer.max_epochs) == (EPOCHS + 1, EPOCHS)
    assert module.net[1].momentum == 0.3  # and afterwards they are what they were
    assert trainer.takes_steps is True


def test_without_batch_norms_there_is_no_further_epoch(tmp_path: Path) -> None:
    begun: list[torch.Tensor] = []
    note = lk.callbacks.LambdaCallback(
        on_train_epoch_start=lambda t, m: begun.append(m.net[0].weight.detach().clone()) if t.current_epoch >= 3 else 0
    )
    module, trainer = fit(tmp_path, StochasticWeightAveraging(0.02), note, module=Net(norm=False))
    assert (trainer.current_epoch, len(module.rates)) == (EPOCHS, EPOCHS * BATCHES)
    assert len(begun) == 2  # from int(5 * 0.8) = the fourth epoch on
    assert torch.equal(module.net[0].weight, begun[0] + (begun[1] - begun[0]) / 2)


def test_an_own_avg_fn_and_a_rate_for_each_group(tmp_path: Path) -> None:
    class Groups(Net):
        def configure_optimizers(self) -> Any:
            groups = [{"params": self.net[0].parameters()}, {"params": self.net[3].parameters()}]
            return torch.optim.SGD(groups, lr=0.1)

    def last(average: torch.Tensor, weights: torch.Tensor, num_averaged: torch.Tensor) -> torch.Tensor:
        counts.append(int(num_averaged))
        return weights

    counts: list[int] = []
    begun: dict[int, torch.Tensor] = {}
    note = lk.callbacks.LambdaCallback(
        on_train_epoch_start=lambda t, m: begun.update({t.current_epoch: m.net[0].weight.detach().clone()})
    )
    swa = StochasticWeightAveraging([0.02, 0.03], 3, 0, avg_fn=last)
    module, trainer = fit(tmp_path, swa, note, module=Groups(norm=False))
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [0.02, 0.03]
    assert sorted(set(counts)) == [1, 2]  # the first weights are taken as they are
    assert torch.equal(module.net[0].weight, begun[4])


STOPS = [(1, 1), (1, None), (2, 0), (3, 2), (3, None), (4, 3), (4, None), (5, 0), (5, 2)]


@pytest.mark.parametrize(("epoch", "batch"), STOPS)
@pytest.mark.parametrize("has_scheduler", [True, False])
def test_a_resumed_run_reaches_the_same_weights(
    tmp_path: Path, epoch: int, batch: int | None, has_scheduler: bool
) -> None:
    def swa() -> StochasticWeightAveraging:
        return StochasticWeightAveraging(0.02, 3, 2, "linear")

    whole, _ = fit(tmp_path / "whole", swa(), module=Net(scheduler=has_scheduler))
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "first", swa(), StopAt(epoch, batch, path), module=Net(scheduler=has_scheduler))
    torch.manual_seed(99)
    again, trainer = fit(tmp_path / "second", swa(), module=Net(scheduler=has_scheduler), ckpt_path=path)
    assert_same(dict(again.state_dict()), dict(whole.state_dict()))
    assert again.rates == whole.rates[-len(again.rates) :]
    assert (trainer.current_epoch, trainer.max_epochs) == (EPOCHS + 1, EPOCHS)
    assert again.net[1].momentum == 0.3


def test_a_checkpoint_has_the_modules_own_scheduler_and_is_resumed_without_the_callback(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "first", StochasticWeightAveraging(0.02, 2), StopAt(3, 1, path))
    saved = files.load(path)
    assert [state["step_size"] for state in saved["lr_schedulers"]] == [1]
    own = saved["callbacks"]["StochasticWeightAveraging"]
    assert (own["n_averaged"], own["latest_update_epoch"], own["updates_statistics"]) == (3, 3, False)
    assert own["scheduler_state"]["anneal_epochs"] == 10
    lacks = (
        "the checkpoint has states of callbacks that this Trainer lacks: StochasticWeightAveraging; add them to go on "
        "exactly"
    )
    with pytest.warns(UserWarning, match=f"^{lacks}$"):
        _, trainer = fit(tmp_path / "second", ckpt_path=path)
    assert trainer.current_epoch == EPOCHS


def test_a_state_of_lightnings_form_is_taken_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "first", StochasticWeightAveraging(0.02, 2), StopAt(3, 1, path))
    saved = files.load(path)
    own = saved["callbacks"]["StochasticWeightAveraging"]
    del own["updates_statistics"]
    files.save(saved, path)
    fit(tmp_path / "second", StochasticWeightAveraging(0.02, 2), ckpt_path=path)
    own["n_averaged"] = "three"
    files.save(saved, path)
    with pytest.raises(CheckpointError) as caught:
        fit(tmp_path / "third", StochasticWeightAveraging(0.02, 2), ckpt_path=path)
    assert str(caught.value) == (
        f"{path}: checkpoint['callbacks']['StochasticWeightAveraging']['n_averaged']: expected a whole number, "
        "found 'three'"
    )


def test_a_checkpoint_saved_after_the_fit_is_gone_on_from(tmp_path: Path) -> None:
    whole, _ = fit(tmp_path / "whole", StochasticWeightAveraging(0.02, 2), max_epochs=3)
    _, trainer = fit(tmp_path / "first", StochasticWeightAveraging(0.02, 2), max_epochs=3)
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    again, _ = fit(
        tmp_path / "second", StochasticWeightAveraging(0.02, 2), max_epochs=3, ckpt_path=tmp_path / "after.ckpt"
    )
    assert_same(dict(again.state_dict()), dict(whole.state_dict()))


def test_checkpoints_of_the_fit_hold_current_weights_and_the_last_one_the_average(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, filename="{epoch}")
    module, _ = fit(tmp_path, StochasticWeightAveraging(0.02, 2), keep, enable_checkpointing=None)
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == [f"epoch={epoch}.ckpt" for epoch in range(EPOCHS + 1)]
    assert_same(files.load(tmp_path / "kept" / f"epoch={EPOCHS}.ckpt")["state_dict"], dict(module.state_dict()))


def test_a_fit_that_ends_early_keeps_its_own_weights(tmp_path: Path) -> None:
    plain, _ = fit(tmp_path / "plain", max_epochs=3, module=Net(scheduler=False))
    stop = EarlyStopping("val_loss", patience=1, min_delta=1e9)
    swa = StochasticWeightAveraging(0.1, 2, 0)  # the rate that it had
    module, trainer = fit(tmp_path / "early", swa, stop, module=Net(scheduler=False))
    assert (trainer.current_epoch, trainer.max_epochs) == (2, EPOCHS)
    short, _ = fit(tmp_path / "short", max_epochs=2, module=Net(scheduler=False))
    assert_same(dict(module.state_dict()), dict(short.state_dict()))
    assert not torch.equal(module.net[0].weight, plain.net[0].weight)


def test_a_fit_without_an_end_leaves_the_average(tmp_path: Path) -> None:
    begun: list[torch.Tensor] = []
    note = lk.callbacks.LambdaCallback(on_train_epoch_start=lambda t, m: begun.append(m.net[0].weight.detach().clone()))
    swa = StochasticWeightAveraging(0.02, 2)
    module, _ = fit(tmp_path, swa, note, max_epochs=-1, max_steps=3 * BATCHES)
    assert swa.swa_end == math.inf
    assert torch.equal(module.net[0].weight, begun[1] + (begun[2] - begun[1]) / 2)
    untouched, _ = fit(tmp_path, StochasticWeightAveraging(0.02, 9), max_epochs=-1, max_steps=BATCHES)
    plain, _ = fit(tmp_path, max_epochs=1)
    assert_same(dict(untouched.state_dict()), dict(plain.state_dict()))


def test_an_error_in_the_epoch_of_the_batch_norms_leaves_trainer_and_module_as_they_were(tmp_path: Path) -> None:
    def fail(trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == EPOCHS:
            raise RuntimeError("in the last epoch")

    module = Net()
    trainer = make(tmp_path, StochasticWeightAveraging(0.02), lk.callbacks.LambdaCallback(on_train_batch_start=fail))
    lk.seed_everything(7, verbose=False)
    with pytest.raises(RuntimeError, match="^in the last epoch$"):
        trainer.fit(module, data())
    assert (trainer.max_epochs, trainer.takes_steps, module.net[1].momentum) == (EPOCHS, True, 0.3)


def test_a_second_fit_of_the_same_object_begins_anew(tmp_path: Path) -> None:
    swa = StochasticWeightAveraging(0.02)
    first, _ = fit(tmp_path / "first", swa)
    second, _ = fit(tmp_path / "second", swa)
    assert_same(dict(first.state_dict()), dict(second.state_dict()))
    assert first.rates == second.rates
    copied = copy.deepcopy(swa)
    third, _ = fit(tmp_path / "third", copied)
    assert_same(dict(first.state_dict()), dict(third.state_dict()))


EXPECTED_START = "expected an epoch, a whole number from 1, or a share of max_epochs between 0.0 and 1.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"swa_epoch_start": 0}, f"swa_epoch_start=0): {EXPECTED_START}"),
        ({"swa_epoch_start": 1.5}, f"swa_epoch_start=1.5): {EXPECTED_START}"),
        ({"swa_lrs": -0.1}, "swa_lrs=-0.1): expected a positive number, or one for each parameter group"),
        ({"swa_lrs": [0.1, "a"]}, "swa_lrs=[0.1, 'a']): expected a positive number, or one for each parameter group"),
        ({"annealing_strategy": "sine"}, "annealing_strategy='sine'): expected 'cos' or 'linear'"),
        ({"annealing_epochs": -1}, "annealing_epochs=-1): expected a count of at least 0"),
        ({"avg_fn": 3}, "avg_fn=3): expected a function (average, weights, num_averaged)"),
        ({"device": 3}, "device=3): expected a torch.device, its name, or None"),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_work_is_said_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StochasticWeightAveraging(**{"swa_lrs": 0.1, **arguments})
    assert str(caught.value) == f"StochasticWeightAveraging({message}"


NO_LIMIT = (
    "(swa_epoch_start=0.8): a share of max_epochs, which has no limit here; give an epoch, a whole number from 1"
)
MANUAL = (
    ": Manual has batch norms, whose statistics take an epoch without updates, and optimizes by itself "
    "(automatic_optimization = False); average with WeightAveraging"
)


class Two(Net):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, n) for n in (1, 2)]


class Manual(Net):
    automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Nothing(Net):
    def configure_optimizers(self) -> Any:
        return None


@pytest.mark.filterwarnings("ignore:Nothing.configure_optimizers returned None")
@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (Two, {}, ": works with one scheduler at most, configure_optimizers gives 2"),
        (Nothing, {}, ": works with one optimizer, configure_optimizers gives 0"),
        (Net, {"max_epochs": -1, "max_steps": 4}, NO_LIMIT),
        (Manual, {}, MANUAL),
    ],
)  # fmt: skip
def test_a_fit_that_cannot_be_averaged_is_refused(
    module: type[Net], arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(tmp_path, StochasticWeightAveraging(0.02), module=module(), **arguments)
    assert str(caught.value) == f"StochasticWeightAveraging{message}"


def test_as_many_rates_as_groups_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(tmp_path, StochasticWeightAveraging([0.02, 0.03]))
    assert str(caught.value) == (
        "StochasticWeightAveraging(swa_lrs=[0.02, 0.03]): 2 learning rates, the optimizer has 1 parameter groups"
    )
