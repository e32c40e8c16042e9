"""BaseFinetuning and BackboneFinetuning: what is frozen, when it thaws, and that a resumed run goes on the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import BackboneFinetuning, BaseFinetuning
from lightkit.errors import ConfigError

EPOCHS, BATCHES = 5, 4


def data() -> DataLoader[Any]:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4, shuffle=True)


class Transfer(lk.LightModule):
    """A backbone with a batch norm and dropout, and a head; only what learns goes to the optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 6))
        self.head = nn.Linear(6, 2)
        self.history: list[tuple[int, list[float]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])
        self.log("train_loss", loss)
        if batch_idx == 0:
            learning = sum(p.numel() for p in self.parameters() if p.requires_grad)
            self.history.append((learning, [g["lr"] for g in self.trainer.optimizers[0].param_groups]))
        return loss

    def configure_optimizers(self) -> Any:
        return Adam(filter(lambda p: p.requires_grad, self.parameters()), lr=0.01)


class StopAt(lk.Callback):
    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(root: Path, *callbacks: Any, module: Any = None, seed: int = 3, ckpt_path: Any = None) -> Any:
    lk.seed_everything(seed, verbose=False)
    module = Transfer() if module is None else module
    trainer = lk.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", run_dir=root, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(module, data(), ckpt_path=ckpt_path)
    return module


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_backbone_thaws_at_its_epoch_and_its_learning_rate_rises_to_the_head_s(tmp_path: Path) -> None:
    module = fit(tmp_path, BackboneFinetuning(unfreeze_backbone_at_epoch=1, lambda_func=lambda epoch: 5.0))
    norm, whole = count(module.backbone[1]), count(module)
    assert [learning for learning, _ in module.history] == [count(module.head) + norm, *[whole] * 4]
    rates = [rates for _, rates in module.history]
    assert rates[0] == [0.01]
    # a tenth of the head's, then five times as much each epoch, but never above the head's
    expected = [[0.01, 0.001], [0.01, 0.005], [0.01, 0.01], [0.01, 0.01]]
    assert all(got == pytest.approx(want) for got, want in zip(rates[1:], expected, strict=True))


def test_frozen_weights_stay_and_thawed_ones_move(tmp_path: Path) -> None:
    lk.seed_everything(3, verbose=False)
    module = Transfer()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(tmp_path, BackboneFinetuning(unfreeze_backbone_at_epoch=9), module=module)
    moved = {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}
    names = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert moved == {"head.weight", "head.bias", *(f"backbone.1.{name}" for name in names)}
    fit(tmp_path, BackboneFinetuning(unfreeze_backbone_at_epoch=0), module=module)
    assert all(not torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_its_own_first_learning_rate_and_no_alignment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = BackboneFinetuning(2, backbone_initial_lr=0.02, should_align=False, verbose=True, rounding=3)
    module = fit(tmp_path, callback)
    assert [rates for _, rates in module.history] == [[0.01]] * 2 + [[0.01, 0.02], [0.01, 0.04], [0.01, 0.08]]
    assert capsys.readouterr().out.splitlines() == [
        f"Current lr: 0.01, Backbone lr: {rate}" for rate in (0.02, 0.04, 0.08)
    ]


class Stages(BaseFinetuning):
    """Thaws the two linear layers one after the other, without their batch norm learning at first."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze([pl_module.backbone[0], [pl_module.backbone[1:]]], train_bn=False)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.backbone[4], optimizer)
        elif epoch == 3:
            self.unfreeze_and_add_param_group(pl_module.backbone[:2], optimizer, lr=0.5, train_bn=False)


class Scheduled(Transfer):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [lr_scheduler.StepLR(optimizer, 2, gamma=0.5)]


@pytest.mark.parametrize("make, kind", [
    (lambda: BackboneFinetuning(unfreeze_backbone_at_epoch=2), Transfer),
    (Stages, Transfer),
    (Stages, Scheduled),
])  # fmt: skip
@pytest.mark.parametrize("step", [2, 8, 9, 13, 16])
def test_a_run_killed_and_resumed_ends_bit_for_bit_the_same(tmp_path: Path, make: Any, kind: Any, step: int) -> None:
    def state(module: Any) -> dict[str, torch.Tensor]:
        return {**module.state_dict(), **_moments(module.trainer.optimizers[0])}

    lk.seed_everything(3, verbose=False)
    whole = fit(tmp_path / "whole", make(), module=kind())
    path = tmp_path / "stop.ckpt"
    lk.seed_everything(3, verbose=False)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", make(), StopAt(step, path), module=kind())
    parts = fit(tmp_path / "parts", make(), module=kind(), seed=99, ckpt_path=path)
    one, other = state(whole), state(parts)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert whole.history[-1] == parts.history[-1]
    for a, b in zip(whole.modules(), parts.modules(), strict=True):
        assert getattr(a, "track_running_stats", None) == getattr(b, "track_running_stats", None)


def _moments(optimizer: Any) -> dict[str, torch.Tensor]:
    found = optimizer.state_dict()["state"]
    return {f"{key}.{name}": value for key, entry in found.items() for name, value in entry.items()}


def test_a_group_added_without_the_callback_is_resumed_too(tmp_path: Path) -> None:
    class Growing(Transfer):
        def configure_optimizers(self) -> Any:
            return SGD(self.head.parameters(), lr=0.1, momentum=0.9)

        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                self.trainer.optimizers[0].add_param_group({"params": list(self.backbone.parameters()), "lr": 0.01})

    path = tmp_path / "stop.ckpt"
    lk.seed_everything(3, verbose=False)
    whole = fit(tmp_path / "whole", module=Growing())
    lk.seed_everything(3, verbose=False)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", StopAt(6, path), module=Growing())
    parts = fit(tmp_path / "parts", module=Growing(), seed=99, ckpt_path=path)
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())


def test_freezing_a_batch_norm_stops_its_statistics_unless_it_trains() -> None:
    net = Transfer().backbone
    BaseFinetuning.freeze(net, train_bn=True)
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True, False, False]
    assert net[1].track_running_stats
    BaseFinetuning.freeze(net, train_bn=False)
    assert not any(p.requires_grad for p in net.parameters()) and not net[1].track_running_stats
    BaseFinetuning.make_trainable(net)
    assert all(p.requires_grad for p in net.parameters()) and net[1].track_running_stats
    BaseFinetuning.freeze_module(net[0])
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True, True, True]


def test_modules_are_found_in_lists_dicts_and_with_parameters_of_their_own() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.inner = nn.Linear(1, 1)

    scaled = Scaled()
    modules = [nn.ModuleDict({"a": scaled}), [nn.Linear(1, 1), (nn.ReLU(),)]]
    assert [type(m).__name__ for m in BaseFinetuning.flatten_modules(modules)] == ["Scaled", "Linear", "Linear", "ReLU"]
    assert len(list(BaseFinetuning.filter_params(scaled))) == 3
    BaseFinetuning.freeze(scaled.inner)
    assert [p.numel() for p in BaseFinetuning.filter_params(scaled, requires_grad=False)] == [1, 1]


def test_thawing_what_the_optimizer_has_already_is_warned_of() -> None:
    module = Transfer()
    BaseFinetuning.freeze(module.backbone, train_bn=False)
    optimizer = SGD(module.parameters(), lr=0.1)
    with pytest.warns(UserWarning) as caught:
        BaseFinetuning.unfreeze_and_add_param_group(module.backbone, optimizer)
    assert [str(w.message) for w in caught] == [
        "6 of 6 parameters to thaw are in SGD already and stay in their group; leave frozen ones out in "
        "configure_optimizers: filter(lambda p: p.requires_grad, self.parameters())"
    ]
    assert len(optimizer.param_groups) == 1


def test_a_module_without_backbone(tmp_path: Path) -> None:
    class Headless(Transfer):
        def __init__(self) -> None:
            super().__init__()
            self.body = self.backbone
            del self.backbone

    with pytest.raises(ConfigError) as caught:
        fit(tmp_path, BackboneFinetuning(), module=Headless())
    assert str(caught.value) == (
        "BackboneFinetuning: Headless has no `backbone`; put the layers that are frozen at first into an nn.Module "
        "called self.backbone"
    )
