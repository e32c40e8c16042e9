"""ModelPruning: what is pruned, the lottery ticket, what a checkpoint holds, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import (
    BaseFinetuning,
    EMAWeightAveraging,
    LambdaCallback,
    ModelPruning,
    StochasticWeightAveraging,
)
from lightkit.checkpoint import files
from lightkit.errors import CheckpointError, ConfigError

EPOCHS, BATCHES = 4, 4


def data(shuffle: bool = True) -> DataLoader[Any]:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=shuffle)


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        # momentum and decay move what is pruned as well: its original values are part of the state
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)


class StopAt(lk.Callback):
    def __init__(self, epoch: int, batch: int, path: Path) -> None:
        self.at, self.path = (epoch, batch), path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.at == (trainer.current_epoch, batch_idx):
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(
    root: Path, *callbacks: Any, module: Any = None, ckpt_path: Any = None, **arguments: Any
) -> tuple[Any, lk.Trainer]:
    module = Net() if module is None else module
    defaults: dict[str, Any] = {
        "max_epochs": EPOCHS, "accelerator": "cpu", "run_dir": root, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "callbacks": list(callbacks),
    }  # fmt: skip
    trainer = lk.Trainer(**{**defaults, **arguments})
    lk.seed_everything(7, verbose=False)
    trainer.fit(module, data(), data(shuffle=False), ckpt_path=ckpt_path)
    return module, trainer


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def value(module: Any, name: str = "weight") -> torch.Tensor:
    """A parameter as the next forward will see it."""
    if hasattr(module, f"{name}_mask"):
        return (getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask")).detach().clone()
    return getattr(module, name).detach().clone()  # type: ignore[no-any-return]


def num_zeros(module: nn.Module) -> int:
    parts = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return int(sum((value(part, name) == 0).sum() for part in parts for name in ("weight", "bias")))


def at_epochs(look: Any) -> tuple[list[Any], lk.Callback]:
    """What `look` gives at the beginning of each epoch, and the callback that looks."""
    seen: list[Any] = []
    return seen, LambdaCallback(on_train_epoch_start=lambda trainer, module: seen.append(look(module)))


# ---------------------------------------------------------------- what is pruned


def test_a_share_of_all_weights_is_pruned_each_epoch_and_plain_weights_are_left(tmp_path: Path) -> None:
    seen, note = at_epochs(lambda m: [int((value(m.net[i]) == 0).sum()) for i in (0, 3)])
    options: dict[str, Any] = {"parameter_names": ["weight"], "use_lottery_ticket_hypothesis": False}
    pruning = ModelPruning("l1_unstructured", amount=0.25, **options)
    module, _ = fit(tmp_path, pruning, note)
    # 24 + 8 (batch norm) + 8 weights; a quarter of those that are left each time
    assert [sum(counts) for counts in seen] == pytest.approx([0, 10, 17, 23], abs=6)
    assert seen[0] == [0, 0] and seen[1] != seen[2] != seen[3]
    assert set(dict(module.named_parameters())) == set(dict(Net().named_parameters()))
    assert not any(prune.is_pruned(part) for part in module.modules())
    zeros = sum(int((module.net[i].weight == 0).sum()) for i in (0, 1, 3))
    assert zeros == 40 - 40 * 3 // 4 + round(30 * 0.25) + round(22 * 0.25) + round(16 * 0.25)


@pytest.mark.parametrize(
    ("name", "options", "zeros"),
    [
        ("random_unstructured", {"amount": 3}, [0, 3, 6, 9]),
        ("L1_unstructured", {"amount": lambda epoch: epoch * 2}, [0, 0, 2, 6]),
        ("ln_structured", {"amount": 1, "pruning_dim": 0, "pruning_norm": 1}, [0, 3, 6, 9]),
        ("random_structured", {"amount": 1, "pruning_dim": 1, "apply_pruning": lambda e: e < 2}, [0, 8, 16, 16]),
        ("l1_unstructured", {"amount": 4, "apply_pruning": lambda epoch: epoch == 1}, [0, 0, 4, 4]),
        ("l1_unstructured", {"amount": 4, "apply_pruning": False}, [0, 0, 0, 0]),
    ],
)
def test_each_method_by_itself(tmp_path: Path, name: str, options: dict[str, Any], zeros: list[int]) -> None:
    module = Net()
    seen, note = at_epochs(lambda m: int((value(m.net[0]) == 0).sum()))
    pruning = ModelPruning(name, [(module.net[0], "weight")], use_global_unstructured=False, **options)
    fit(tmp_path, pruning, note, module=module)
    assert seen == zeros


def test_an_own_method_and_a_filter(tmp_path: Path) -> None:
    class FirstRow(prune.BasePruningMethod):
        PRUNING_TYPE = "unstructured"

        def __init__(self, amount: float) -> None:
            self.amount = amount

        def compute_mask(self, t: torch.Tensor, default_mask: torch.Tensor) -> torch.Tensor:
            mask = default_mask.clone()
            mask.view(-1)[:3] = 0
            return mask

    class Last(ModelPruning):
        def filter_parameters_to_prune(self, parameters_to_prune: Any = ()) -> Any:
            return [pair for pair in parameters_to_prune if isinstance(pair[0], nn.Linear)][-1:]

    module, _ = fit(tmp_path, Last(FirstRow, parameter_names=["weight"], apply_pruning=lambda epoch: epoch == 0))
    assert module.net[3].weight.flatten()[:3].tolist() == [0.0] * 3
    assert num_zeros(module) == 3


def test_pruning_may_wait_for_the_validation(tmp_path: Path) -> None:
    validated: list[int] = []
    note = LambdaCallback(on_validation_epoch_start=lambda trainer, module: validated.append(num_zeros(module)))
    pruning = ModelPruning("l1_unstructured", amount=5, prune_on_train_epoch_end=False)
    module, _ = fit(tmp_path, pruning, note, num_sanity_val_steps=1)
    assert validated == [0, 0, *validated[2:]] and 0 < validated[2] < validated[3] < validated[4] < num_zeros(module)


# ---------------------------------------------------------------- the lottery ticket


def test_what_is_left_goes_back_to_the_values_from_before(tmp_path: Path) -> None:
    seen, note = at_epochs(lambda m: value(m.net[0]))
    before = Net().net[0].weight.detach()
    fit(tmp_path, ModelPruning("l1_unstructured", amount=0.2), note)
    for epoch, weight in enumerate(seen[1:], start=1):  # each time, not the first alone
        left = weight != 0
        assert torch.equal(weight[left], before[left]), epoch
    plain, note = at_epochs(lambda m: value(m.net[0]))
    only_first = ModelPruning("l1_unstructured", amount=0.2, use_lottery_ticket_hypothesis=lambda epoch: epoch == 0)
    fit(tmp_path, only_first, note)
    assert torch.equal(plain[1], seen[1]) and not torch.equal(plain[2], seen[2])


def test_what_is_left_may_be_drawn_anew(tmp_path: Path) -> None:
    seen, note = at_epochs(lambda m: value(m.net[0]))
    before = Net().net[0].weight.detach()
    fit(tmp_path, ModelPruning("l1_unstructured", amount=0.2, resample_parameters=True), note)
    left = seen[1] != 0
    assert not torch.isclose(seen[1][left], before[left]).any()
    assert seen[1].abs().max() <= 3**-0.5  # as nn.Linear draws them


# ---------------------------------------------------------------- checkpoints

WAYS: dict[str, dict[str, Any]] = {
    "l1": {"pruning_fn": "l1_unstructured", "amount": 0.2, "use_lottery_ticket_hypothesis": False},
    "lottery": {"pruning_fn": "l1_unstructured", "amount": 0.2},
    "drawn anew": {"pruning_fn": "random_unstructured", "amount": 0.2, "resample_parameters": True},
    "structured": {
        "pruning_fn": "ln_structured", "amount": 0.2, "use_global_unstructured": False, "pruning_dim": 0,
        "pruning_norm": 2, "parameter_names": ["weight"], "use_lottery_ticket_hypothesis": lambda epoch: epoch == 2,
    },
    "not permanent": {
        "pruning_fn": "l1_unstructured", "amount": 0.2, "use_lottery_ticket_hypothesis": False,
        "make_pruning_permanent": False,
    },
}  # fmt: skip


class Linears(ModelPruning):
    """All but batch norms, of which a structured method knows nothing."""

    def filter_parameters_to_prune(self, parameters_to_prune: Any = ()) -> Any:
        return [pair for pair in parameters_to_prune if isinstance(pair[0], nn.Linear)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("epoch", "batch"), [(0, 1), (1, 0), (1, 3), (2, 1), (3, 3)])
def test_a_resumed_run_reaches_the_same_weights(tmp_path: Path, way: str, epoch: int, batch: int) -> None:
    whole, _ = fit(tmp_path / "whole", Linears(**WAYS[way]))
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "first", Linears(**WAYS[way]), StopAt(epoch, batch, path))
    other = Net()
    torch.nn.init.constant_(other.net[0].weight, 5.0)  # what was before training is the checkpoint's, too
    again, trainer = fit(tmp_path / "second", Linears(**WAYS[way]), module=other, ckpt_path=path)
    assert_same(dict(again.state_dict()), dict(whole.state_dict()))
    assert trainer.global_step == EPOCHS * BATCHES
    assert any(name.endswith("_mask") for name in again.state_dict()) == (way == "not permanent")


def test_a_permanent_checkpoint_holds_plain_weights_and_the_training_goes_on_with_masks(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    pruning = ModelPruning("l1_unstructured", amount=0.2)
    stopped = Net()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, pruning, StopAt(2, 1, path), module=stopped)
    saved = files.load(path)["state_dict"]
    assert saved.keys() == Net().state_dict().keys()
    assert torch.equal(saved["net.0.weight"], stopped.net[0].weight_orig * stopped.net[0].weight_mask)
    loaded = Net()
    loaded.load_state_dict(saved)
    assert num_zeros(loaded) == num_zeros(stopped) > 8


def test_a_state_of_another_module_and_one_of_another_form_are_named(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, ModelPruning("l1_unstructured", amount=0.2), StopAt(2, 1, path))
    with pytest.raises(CheckpointError) as caught:
        fit(tmp_path, ModelPruning("l1_unstructured", amount=0.2, parameter_names=["weight"]), ckpt_path=path)
    assert str(caught.value) == (
        f"{path}: checkpoint['callbacks']['ModelPruning'] has 'net.0.bias', 'net.1.bias', 'net.3.bias', which is not "
        "pruned in Net; resume with the module and the arguments that were trained"
    )
    saved = files.load(path)
    saved["callbacks"]["ModelPruning"]["masks"]["net.0.weight"] = 3
    files.save(saved, path)
    with pytest.raises(CheckpointError, match=r"^.*checkpoint\['callbacks'\]\['ModelPruning'\]\['masks'\]\['net.0"):
        fit(tmp_path, ModelPruning("l1_unstructured", amount=0.2), ckpt_path=path)


class Thaws(BaseFinetuning):
    """Lets the first layer learn from the second epoch on."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.net[0])

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.net[0], optimizer)


class Partly(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.05, momentum=0.9)


@pytest.mark.parametrize("order", [1, -1])
def test_parameters_that_are_pruned_and_joined_the_optimizer_later_are_resumed_by_their_plain_names(
    tmp_path: Path, order: int
) -> None:
    def both() -> list[Any]:
        return [ModelPruning("l1_unstructured", amount=0.2, use_lottery_ticket_hypothesis=False), Thaws()][::order]

    whole, _ = fit(tmp_path / "whole", *both(), module=Partly())
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "first", *both(), StopAt(2, 1, path), module=Partly())
    saved = files.load(path)
    assert saved["optimizer_groups"][0][1] == ["net.0.weight", "net.0.bias"]
    assert "net.0.weight" in saved["callbacks"]["Thaws"]["trainable"]
    again, _ = fit(tmp_path / "second", *both(), module=Partly(), ckpt_path=path)
    assert_same(dict(again.state_dict()), dict(whole.state_dict()))


def test_a_second_fit_of_the_same_object_begins_anew(tmp_path: Path) -> None:
    pruning = ModelPruning("l1_unstructured", amount=0.2)
    first, _ = fit(tmp_path, pruning)
    second, _ = fit(tmp_path, pruning)
    assert_same(dict(first.state_dict()), dict(second.state_dict()))


# ---------------------------------------------------------------- what it says


def test_it_says_how_many_are_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = Net()
    pruning = ModelPruning("l1_unstructured", [(module.net[3], "weight")], amount=2, verbose=2)
    fit(tmp_path, pruning, module=module, max_epochs=2)
    layer = "Linear(in_features=8, out_features=1, bias=True).weight, amount=2"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ModelPruning")]
    assert lines == [
        "ModelPruning: L1Unstructured: 0/8 (0.00%) -> 2/8 (25.00%) pruned",
        f"ModelPruning: L1Unstructured: {layer}: 0/8 (0.00%) -> 2/8 (25.00%) pruned",
        "ModelPruning: L1Unstructured: 2/8 (25.00%) -> 4/8 (50.00%) pruned",
        f"ModelPruning: L1Unstructured: {layer}: 2/8 (25.00%) -> 4/8 (50.00%) pruned",
    ]


KNOWN = "'l1_unstructured', 'ln_structured', 'random_structured', 'random_unstructured'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"pruning_fn": "l1_unstructed"},
            f"pruning_fn='l1_unstructed'): expected one of {KNOWN}; did you mean 'l1_unstructured'?",
        ),
        (
            {"pruning_fn": 3},
            f"pruning_fn=3): expected a subclass of torch.nn.utils.prune.BasePruningMethod, or one of {KNOWN}",
        ),
        (
            {"pruning_fn": prune.L1Unstructured, "use_global_unstructured": False},
            "pruning_fn=L1Unstructured, use_global_unstructured=False): a class prunes all parameters at once; give "
            f"the name of one of torch's functions, {KNOWN}",
        ),
        (
            {"pruning_fn": prune.LnStructured},
            "pruning_fn=LnStructured, use_global_unstructured=True): compares single weights of all parameters, and "
            "the method is structured; give use_global_unstructured=False",
        ),
        (
            {"pruning_fn": "random_structured"},
            "pruning_fn='random_structured'): needs pruning_dim, a dimension of the weights",
        ),
        (
            {"pruning_fn": "ln_structured", "pruning_dim": 0},
            "pruning_fn='ln_structured'): needs pruning_norm, the n of its norm",
        ),
        ({"amount": "half"}, "amount='half'): expected a share, a count, or a function of the epoch"),
        ({"parameter_names": ["weights"]}, "parameter_names=['weights']): expected 'weight', 'bias' or both"),
        ({"verbose": 3}, "verbose=3): expected 0, 1 or 2"),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_work_is_said_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelPruning(**{"pruning_fn": "l1_unstructured", **arguments})
    assert str(caught.value) == f"ModelPruning({message}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([(nn.Linear(1, 1), "weight")], "Net has no such Linear with 'weight'; give modules of the one that is fitted"),
        (["weight"], "expected pairs of a module and the name of its parameter, such as [(model.layer, \"weight\")]"),
    ],
)  # fmt: skip
def test_parameters_that_the_module_has_not(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(tmp_path, ModelPruning("l1_unstructured", given))
    assert str(caught.value) == f"ModelPruning(parameters_to_prune=...): {message}"


@pytest.mark.parametrize(
    ("callback", "kind"),
    [(EMAWeightAveraging(), "WeightAveraging"), (StochasticWeightAveraging(0.1), "StochasticWeightAveraging")],
)
def test_averages_of_pruned_weights_are_refused(tmp_path: Path, callback: Any, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(tmp_path, ModelPruning("l1_unstructured"), callback)
    assert str(caught.value) == (
        f"ModelPruning and {type(callback).__name__}: pruning replaces parameters that {kind} averages by their place; "
        "use one of them"
    )
