"""`lk.supervised`: a network, a loss, an optimizer and metrics are trained as a module written by hand is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.errors import ConfigError, DataError, HookError

QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False,
                         "accelerator": "cpu"}  # fmt: skip


def loader(batch_size: int = 4) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 3, generator=generator)
    return DataLoader(TensorDataset(x, (x.sum(dim=1) > 0).long()), batch_size=batch_size)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def trainer(**arguments: Any) -> lk.Trainer:
    return lk.Trainer(**{"max_epochs": 2, "enable_checkpointing": False, **QUIET, **arguments})


class ByHand(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        output = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(output, batch[1]))
        self.log("val_accuracy", (output.argmax(dim=1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


@pytest.mark.parametrize("optimizer, lr", [
    ("AdamW", 0.05), ("adamw", 0.05), (torch.optim.AdamW, 0.05), (partial(torch.optim.AdamW, lr=0.05), None),
    (lambda parameters: torch.optim.AdamW(parameters, lr=0.05), None),
])  # fmt: skip
def test_weights_and_metrics_are_those_of_a_module_by_hand(optimizer: Any, lr: float | None) -> None:
    by_hand, fits = ByHand(), []
    model = lk.supervised(network(), loss="cross_entropy", optimizer=optimizer, lr=lr, metrics="accuracy")
    for module in (by_hand, model):
        fits.append(trainer())
        fits[-1].fit(module, loader(), loader())
    for a, b in zip(by_hand.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    shared = fits[0].callback_metrics.keys()
    assert {name: float(fits[1].callback_metrics[name]) for name in shared} == {
        name: float(value) for name, value in fits[0].callback_metrics.items()
    }
    assert fits[1].callback_metrics.keys() == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert trainer().test(model, loader(), verbose=False)[0].keys() == {"test_loss", "test_accuracy"}


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_loss", F.cross_entropy, nn.CrossEntropyLoss(),
                                  nn.CrossEntropyLoss])  # fmt: skip
def test_a_loss_is_a_name_a_function_an_object_or_a_class(loss: Any) -> None:
    model, fit = lk.supervised(network(), loss=loss, lr=0.05), trainer()
    fit.fit(model, loader())
    assert float(fit.callback_metrics["train_loss"]) == pytest.approx(0.48, abs=0.2)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.layer(left - right)


X, Y = torch.randn(6, 3), torch.randint(0, 2, (6,))


@pytest.mark.parametrize("batch, net, target", [
    ((X, Y), nn.Linear(3, 2), None),
    ([X, Y], nn.Linear(3, 2), None),
    ({"image": X, "label": Y}, nn.Linear(3, 2), None),
    ({"image": X, "kind": Y}, nn.Linear(3, 2), "kind"),
    ({"left": X, "right": 2 * X, "labels": Y}, TwoInputs(), None),
    (((X, 2 * X), Y), TwoInputs(), None),
    (({"right": 2 * X, "left": X}, Y), TwoInputs(), None),
])  # fmt: skip
def test_every_form_of_a_batch_reaches_the_network(batch: Any, net: nn.Module, target: str | None) -> None:
    model = lk.supervised(net, loss="cross_entropy", target=target)
    given = net(X, 2 * X) if isinstance(net, TwoInputs) else net(X)
    expected = F.cross_entropy(given, Y).detach()
    found = trainer().validate(model, [batch], verbose=False)
    assert found == [{"val_loss": pytest.approx(float(expected))}]
    (predicted,) = trainer().predict(model, [batch])  # type: ignore[misc]
    assert torch.equal(predicted, given)


@pytest.mark.parametrize("batch", [X, [X], {"image": X}])
def test_predicting_needs_no_targets(batch: Any) -> None:
    net = nn.Linear(3, 2)
    (predicted,) = trainer().predict(lk.supervised(net, loss="mse"), [batch])  # type: ignore[misc]
    assert torch.equal(predicted, net(X))


FORMS = (
    "expected (inputs, targets), a dict with one of 'target', 'targets', 'label', 'labels', 'y', or a torch_geometric "
    "graph with `y`. Several inputs go in a tuple of their own: ((a, b), targets)"
)


@pytest.mark.parametrize("batch, message", [
    ([X, X, Y], f"supervised(...): cannot tell inputs from targets in a batch that is a list of 3; {FORMS}"),
    (X, f"supervised(...): cannot tell inputs from targets in a batch that is a Tensor; {FORMS}"),
    ({"image": X, "kind": Y}, "supervised(...): a batch with the keys 'image', 'kind': none is the target; say which, "
     "supervised(..., target='...')"),
    ({"image": X, "label": Y, "y": Y}, "supervised(...): a batch with the keys 'image', 'label', 'y': several could "
     "be the "
     "target (label, y); say which, supervised(..., target='...')"),
])  # fmt: skip
def test_a_batch_of_another_form_says_what_is_expected(batch: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        trainer().validate(lk.supervised(nn.Linear(3, 2), loss="mse"), [batch], verbose=False)
    assert str(caught.value) == message


@pytest.mark.parametrize("arguments, kind, message", [
    ({"loss": "cross_entrpy"}, ConfigError,
     "supervised(loss='cross_entrpy'): expected one of cross_entropy, nll, bce, bce_with_logits, mse, l1, mae, huber, "
     "smooth_l1, or a function; did you mean 'cross_entropy'?"),
    ({"loss": 3}, ConfigError, "supervised(loss=3): expected a function of (outputs, targets), such as "
     "torch.nn.functional.cross_entropy, or one of cross_entropy, nll, bce, bce_with_logits, mse, l1, mae, huber, "
     "smooth_l1"),
    ({"optimizer": 3}, ConfigError, "supervised(optimizer=3): expected a function of the parameters, a class such as "
     "torch.optim.AdamW, or its name"),
    ({"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)}, ConfigError,
     "supervised(optimizer=...): got an SGD that is made already, whose state each fit would share; give what makes "
     "it, "
     "optimizer=lambda parameters: SGD(parameters, ...)"),
    ({"optimizer": partial(torch.optim.SGD, lr=1.0), "lr": 0.1}, ConfigError,
     "supervised(lr=...): goes to an optimizer that is a class or a name; the function has its own"),
    ({"scheduler": "cosin"}, ConfigError,
     "supervised(scheduler='cosin'): expected one of cosine, one_cycle, or a function; did you mean 'cosine'?"),
    ({"scheduler": 3}, ConfigError, "supervised(scheduler=3): expected a function of the optimizer, such as lambda "
     "optimizer: StepLR(optimizer, 10), a dict with it as 'scheduler', or one of cosine, one_cycle"),
    ({"metrics": ["accuracy", "accuracy"]}, ConfigError,
     "supervised(metrics=...): the name 'accuracy' is taken; name them, metrics={'name': ...}"),
    ({"metrics": {"loss": F.mse_loss}}, ConfigError,
     "supervised(metrics=...): the name 'loss' is taken; name them, metrics={'name': ...}"),
    ({"metrics": {"a": 3}}, ConfigError, "supervised(metrics=...): 'a' is a int; expected a function of (outputs, "
     "targets), "
     "a torchmetrics object, or one of accuracy, mse, mae"),
    ({"metrics": {"a": nn.MSELoss}}, ConfigError,
     "supervised(metrics=...): 'a' is a class; give an object, MSELoss(...)"),
    ({"net": F.relu}, ConfigError, "supervised(net=...): expected an nn.Module, got a function"),
])  # fmt: skip
def test_an_argument_that_cannot_work_is_said_at_once(arguments: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind) as caught:
        lk.supervised(**{"net": nn.Linear(3, 2), "loss": "mse", **arguments})
    assert str(caught.value) == message


@pytest.mark.parametrize("arguments, kind, message", [
    ({"loss": partial(F.cross_entropy, reduction="none")}, HookError,
     "supervised(loss=...): the loss gave shape (4,), expected a tensor with one number"),
    ({"optimizer": lambda parameters: None}, HookError,
     "supervised(optimizer=...): the function gave a NoneType, expected an Optimizer"),
    ({"scheduler": lambda optimizer: None}, HookError,
     "supervised(scheduler=...): the function gave a NoneType, expected a scheduler"),
    ({"net": nn.Linear(3, 2).requires_grad_(False)}, ConfigError,
     "supervised(...): the network has no parameter that learns (requires_grad)"),
])  # fmt: skip
def test_a_function_that_gives_something_else_is_said_in_the_fit(arguments: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind) as caught:
        trainer().fit(lk.supervised(**{"net": nn.Linear(3, 2), "loss": "cross_entropy", **arguments}), loader())
    assert str(caught.value) == message


def test_schedulers_span_the_fit_or_are_made_by_a_function() -> None:
    def rates(scheduler: Any, **data: Any) -> list[float]:
        class Rates(lk.Callback):
            def on_train_batch_start(self, trainer: lk.Trainer, *args: Any) -> None:
                found.append(trainer.optimizers[0].param_groups[0]["lr"])

        found: list[float] = []
        model = lk.supervised(nn.Linear(3, 2), loss="cross_entropy", optimizer="SGD", lr=0.1, scheduler=scheduler)
        trainer(callbacks=[Rates()]).fit(model, loader(), **data)
        return found

    cosine = rates("cosine")
    assert len(cosine) == 6 and cosine[0] == 0.1 and cosine[3] == pytest.approx(0.05) and cosine[5] < 0.01
    one_cycle = rates("one_cycle")
    assert one_cycle[0] == pytest.approx(0.004) and max(one_cycle) > 0.09 and one_cycle[-1] < 1e-5
    step = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    assert rates(step) == pytest.approx([0.1] * 3 + [0.05] * 3)
    assert rates({"scheduler": step, "interval": "step"}) == pytest.approx([0.1 * 0.5**i for i in range(6)])
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=1e9)
    assert rates(plateau, val_dataloaders=loader()) == pytest.approx([0.1] * 3 + [0.01] * 3)


def test_a_scheduler_over_a_fit_without_end_is_refused() -> None:
    model = lk.supervised(nn.Linear(3, 2), loss="cross_entropy", scheduler="cosine")
    with pytest.raises(ConfigError) as caught:
        trainer(max_epochs=-1).fit(model, loader())
    assert str(caught.value) == (
        "supervised(scheduler='cosine'): spans the whole fit, which has no end; set max_epochs or max_steps"
    )


def test_torchmetrics_objects_are_computed_over_the_epoch_each_stage_by_itself() -> None:
    metrics = pytest.importorskip("torchmetrics")
    kinds = {"num_classes": 2, "average": "macro"}
    given = {"f1": metrics.F1Score("multiclass", **kinds), "wrong": lambda a, b: (a.argmax(1) != b).float().mean()}
    model, fit = lk.supervised(network(), loss="cross_entropy", lr=0.05, metrics=given), trainer()
    fit.fit(model, loader(), loader())
    assert {name for name in fit.callback_metrics if "loss" not in name} == {
        "train_f1", "val_f1", "train_wrong", "val_wrong"
    }  # fmt: skip
    data = loader(batch_size=10)
    x, y = next(iter(data))
    expected = metrics.functional.f1_score(model(x), y, "multiclass", **kinds)
    assert float(fit.callback_metrics["val_f1"]) == pytest.approx(float(expected))
    assert given["f1"]._update_count == 0  # the user's own is only copied
    collection = metrics.MetricCollection({"acc": metrics.Accuracy("multiclass", num_classes=2),
                                           "recall": metrics.Recall("multiclass", num_classes=2)})  # fmt: skip
    again = trainer()
    again.fit(lk.supervised(network(), loss="cross_entropy", metrics=collection), loader(), loader())
    assert {name for name in again.callback_metrics if "loss" not in name} == {
        "train_acc", "train_recall", "val_acc", "val_recall"
    }  # fmt: skip
    listed = lk.supervised(network(), loss="cross_entropy", metrics=[metrics.Accuracy("multiclass", num_classes=2)])
    assert trainer().test(listed, loader(), verbose=False)[0].keys() == {"test_loss", "test_multiclass_accuracy"}


def test_a_checkpoint_is_loaded_with_the_network_alone(tmp_path: Path) -> None:
    def weighted(net: nn.Module) -> lk.Supervised:
        return lk.supervised(
            net, loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])), metrics=lambda a, b: a.mean(),
            optimizer=partial(torch.optim.SGD, lr=0.1), target="label",
        )  # fmt: skip

    model, fit = weighted(network()), trainer()
    fit.fit(model, [{"a": x, "label": y} for x, y in loader()])
    fit.save_checkpoint(tmp_path / "a.ckpt")
    loaded = lk.Supervised.load_from_checkpoint(tmp_path / "a.ckpt", net=nn.Sequential(*network()))
    assert torch.equal(loaded(X), model(X)) and loaded.hparams.target == "label"
    with pytest.raises(ConfigError) as caught:
        trainer().validate(loaded, [{"a": X, "label": Y}], verbose=False)
    assert str(caught.value) == (
        "Supervised: no loss; it was a function or object, which no checkpoint holds: give it, "
        "load_from_checkpoint(path, net=..., loss=...)"
    )
    with pytest.raises(ConfigError, match=r"^Supervised: no optimizer; .* load_from_checkpoint\(path, net=..., optim"):
        trainer().fit(loaded, [{"a": X, "label": Y}])
    loss = nn.CrossEntropyLoss(torch.ones(2))
    again = lk.Supervised.load_from_checkpoint(tmp_path / "a.ckpt", net=network(), loss=loss)
    assert torch.equal(again.state_dict()["loss.weight"], torch.tensor([1.0, 2.0]))


def test_names_are_in_the_checkpoint_and_a_resumed_fit_reaches_the_same_weights(tmp_path: Path) -> None:
    def model() -> lk.Supervised:
        how: dict[str, Any] = {"optimizer": "SGD", "lr": 0.1, "metrics": ["accuracy"], "scheduler": "cosine"}
        return lk.supervised(network(), loss="cross_entropy", **how)

    whole = model()
    trainer(max_epochs=4).fit(whole, loader(), loader())
    keep = lk.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    trainer(max_epochs=4, callbacks=[keep], enable_checkpointing=True).fit(model(), loader(), loader())
    resumed = model()
    keep = lk.callbacks.ModelCheckpoint(tmp_path / "again", save_top_k=-1)
    again = trainer(max_epochs=4, callbacks=[keep], enable_checkpointing=True)
    again.fit(resumed, loader(), loader(), ckpt_path=tmp_path / "epoch=1.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    loaded = lk.Supervised.load_from_checkpoint(tmp_path / "epoch=3.ckpt", net=network())
    assert torch.equal(loaded(X), whole(X))
    assert trainer().validate(loaded, loader(), verbose=False)[0].keys() == {"val_loss", "val_accuracy"}


def test_import_lightkit_does_not_import_it() -> None:
    import subprocess
    import sys

    code = "import sys, lightkit as lk; lk.Trainer; print([n for n in sys.modules if 'supervised' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_metrics_get_outputs_without_a_graph_whatever_their_form() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.net(x)}

    seen: list[bool] = []

    def accuracy(outputs: dict[str, Tensor], target: Tensor) -> Tensor:
        seen.append(outputs["logits"].requires_grad)
        return (outputs["logits"].argmax(dim=1) == target).float().mean()

    def loss(outputs: dict[str, Tensor], target: Tensor) -> Tensor:
        return F.cross_entropy(outputs["logits"], target)

    module = lk.supervised(Two(), loss=loss, optimizer="SGD", lr=0.1, metrics={"accuracy": accuracy})
    trainer(max_epochs=1).fit(module, loader())
    assert seen == [False] * 3
