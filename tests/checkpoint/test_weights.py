"""Weights of a file reach a module whose names or shapes are not known yet: lazy layers, compiled parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import BackboneFinetuning, EMAWeightAveraging, ModelCheckpoint
from lightkit.checkpoint import files, weights
from lightkit.errors import CheckpointError


class Net(lk.LightModule):
    """Two layers, lazy or not; one of them compiled or not."""

    def __init__(self, is_lazy: bool = False, is_compiled: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone: Any = nn.LazyLinear(4) if is_lazy else nn.Linear(3, 4)
        self.norm: Any = nn.LazyBatchNorm1d() if is_lazy else nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 1)
        if is_compiled:
            self.backbone = torch.compile(self.backbone, backend="eager")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.norm(self.backbone(x)).relu())
        return out

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(filter(lambda p: p.requires_grad, self.parameters()), lr=0.05)


def data(shuffle: bool = True) -> DataLoader[Any]:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 4, shuffle=shuffle)


def fit(module: Any, folder: Path, *callbacks: lk.Callback, epochs: int = 2, ckpt_path: Any = None) -> lk.Trainer:
    saving = ModelCheckpoint(folder / "saved", filename="{epoch}", save_top_k=-1, auto_insert_metric_name=False)
    trainer = lk.Trainer(
        max_epochs=epochs, accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[saving, *callbacks],
    )  # fmt: skip
    trainer.fit(module, data(), ckpt_path=ckpt_path)
    return trainer


def values(module: nn.Module) -> list[torch.Tensor]:
    return list(module.state_dict().values())


def assert_equal(a: nn.Module, b: nn.Module) -> None:
    assert all(torch.equal(one, other) for one, other in zip(values(a), values(b), strict=True))


def test_a_lazy_module_is_resumed_and_loaded_with_the_shapes_of_the_file(tmp_path: Path) -> None:
    whole, resumed = Net(is_lazy=True), Net(is_lazy=True)
    fit(whole, tmp_path)
    assert isinstance(resumed.backbone.weight, nn.UninitializedParameter)
    fit(resumed, tmp_path / "resumed", ckpt_path=tmp_path / "saved" / "0.ckpt")
    assert_equal(whole, resumed)
    assert_equal(whole, Net.load_from_checkpoint(tmp_path / "saved" / "1.ckpt", is_lazy=True))
    assert_equal(whole, Net.load_from_checkpoint(tmp_path / "saved" / "1.ckpt"))


def test_a_lazy_module_is_validated_with_the_weights_of_a_file(tmp_path: Path) -> None:
    trainer = fit(Net(), tmp_path)
    path = tmp_path / "saved" / "1.ckpt"
    known = trainer.validate(Net(), data(shuffle=False), ckpt_path=path, verbose=False)
    assert known == trainer.validate(Net(is_lazy=True), data(shuffle=False), ckpt_path=path, verbose=False)


def test_a_name_that_the_file_lacks_is_missing_for_a_lazy_module_too() -> None:
    with pytest.raises(CheckpointError) as caught:
        weights.load(nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 1)), {"0.bias": torch.ones(2)}, "a.ckpt")
    assert str(caught.value) == (
        "the checkpoint a.ckpt does not fit Sequential:\n  missing in the file (3):\n"
        "    0.weight (shape not known yet)\n    1.weight (1, 2)\n    1.bias (1,)"
    )


def test_a_lazy_module_that_has_no_shape_yet_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        files.save({"state_dict": nn.LazyLinear(2).state_dict()}, tmp_path / "a.ckpt")
    assert str(caught.value) == (
        "checkpoint['state_dict']['weight']: the shape of this lazy parameter is not known yet; save after the first "
        "batch, or run the module on one"
    )


@pytest.mark.parametrize("was_compiled", [True, False])
def test_a_compiled_part_is_looked_through_in_both_directions(tmp_path: Path, was_compiled: bool) -> None:
    whole, resumed = Net(is_compiled=was_compiled), Net(is_compiled=not was_compiled)
    fit(whole, tmp_path)
    path = tmp_path / "saved" / "0.ckpt"
    assert ("backbone._orig_mod.weight" in files.load(path)["state_dict"]) == was_compiled
    trainer = fit(resumed, tmp_path / "resumed", ckpt_path=path)
    assert_equal(whole, resumed)
    last = tmp_path / "saved" / "1.ckpt"
    assert_equal(whole, Net.load_from_checkpoint(last, is_compiled=not was_compiled))
    nets = Net(), Net(is_compiled=True)
    metrics = [trainer.validate(net, data(shuffle=False), ckpt_path=last, verbose=False) for net in nets]
    assert metrics[0] == metrics[1]


def test_a_module_that_was_compiled_as_a_whole_is_looked_through(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    torch.save(torch.compile(net, backend="eager").state_dict(), tmp_path / "whole.pt")
    plain, compiled = nn.Linear(3, 2), torch.compile(nn.Linear(3, 2), backend="eager")
    weights.load(plain, files.load(tmp_path / "whole.pt"), "whole.pt")
    weights.load(compiled, net.state_dict(), "plain.pt")
    assert_equal(net, plain)
    assert_equal(net, compiled)


@pytest.mark.parametrize("was_compiled", [True, False])
def test_the_average_and_what_learns_are_looked_through_too(tmp_path: Path, was_compiled: bool) -> None:
    def callbacks() -> list[lk.Callback]:
        return [EMAWeightAveraging(decay=0.5), BackboneFinetuning(unfreeze_backbone_at_epoch=1)]

    whole, resumed = Net(is_compiled=was_compiled), Net(is_compiled=not was_compiled)
    fit(whole, tmp_path, *callbacks(), epochs=3)
    fit(resumed, tmp_path / "resumed", *callbacks(), epochs=3, ckpt_path=tmp_path / "saved" / "1.ckpt")
    assert_equal(whole, resumed)
    learns = [[p.requires_grad for p in net.parameters()] for net in (whole, resumed)]
    assert learns[0] == learns[1]


def test_names_that_differ_otherwise_stay_unexpected() -> None:
    with pytest.raises(CheckpointError, match="in the file but not in the model"):
        weights.load(nn.Linear(1, 1), {"_orig_mod.weights": torch.ones(1, 1)}, "a.ckpt")


def test_sizes_that_differ_are_named_where_names_may_be_missing() -> None:
    layer = nn.Linear(2, 1)
    with pytest.raises(CheckpointError) as caught:
        weights.load(layer, {"weight": torch.ones(1, 3)}, "a.ckpt", strict=False)
    assert str(caught.value) == (
        "the checkpoint a.ckpt does not fit Linear:\n  of another size (1):\n"
        "    weight: (1, 3) in the file, (1, 2) in the model"
    )
    weights.load(layer, {"weight": torch.ones(1, 2)}, "a.ckpt", strict=False)
    assert torch.equal(layer.weight, torch.ones(1, 2))
