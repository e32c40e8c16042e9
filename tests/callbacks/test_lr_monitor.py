from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from lightkit.callbacks import LearningRateMonitor
from lightkit.callbacks.lr_monitor import _named_groups
from lightkit.errors import ConfigError
from lightkit.loggers import Logger


class Rows(Logger):
    """Keeps what is logged of learning rates."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if "epoch" not in metrics:
            self.rows.append((step, dict(metrics)))


def sgd(module: Any, named: bool = False) -> SGD:
    groups = [{"params": [module.layer.weight]}, {"params": [module.layer.bias], "lr": 0.2}]
    if named:
        groups[0]["name"], groups[1]["name"] = "w", "b"
    return SGD(groups, lr=0.1)


# The rows that Lightning 2.6.6 logs in two epochs of four steps with log_every_n_steps=3.
@pytest.mark.parametrize(
    ("arguments", "configure", "rows"),
    [
        (
            {},
            lambda m: SGD(m.parameters(), lr=0.1),
            [(0, {"lr-SGD": 0.1}), (2, {"lr-SGD": 0.1}), (4, {"lr-SGD": 0.1}), (5, {"lr-SGD": 0.1})],
        ),
        (
            {"logging_interval": "step"},
            lambda m: SGD(m.parameters(), lr=0.1),
            [(2, {"lr-SGD": 0.1}), (5, {"lr-SGD": 0.1})],
        ),
        (
            {"logging_interval": "epoch", "log_momentum": True, "log_weight_decay": True},
            lambda m: Adam(m.parameters(), lr=0.1, weight_decay=0.5),
            [
                (0, {"lr-Adam": 0.1, "lr-Adam-momentum": 0.9, "lr-Adam-weight_decay": 0.5}),
                (4, {"lr-Adam": 0.1, "lr-Adam-momentum": 0.9, "lr-Adam-weight_decay": 0.5}),
            ],
        ),
        (
            {},
            lambda m: ([o := sgd(m)], [StepLR(o, 1)]),
            [
                (0, {"lr-SGD/pg1": 0.1, "lr-SGD/pg2": 0.2}),
                (4, {"lr-SGD/pg1": 0.010000000000000002, "lr-SGD/pg2": 0.020000000000000004}),
            ],
        ),
        (
            {},
            lambda m: ([o := sgd(m, True)], [{"scheduler": StepLR(o, 1), "interval": "step", "name": "foo"}]),
            [
                (2, {"foo/w": 0.0010000000000000002, "foo/b": 0.0020000000000000005}),
                (5, {"foo/w": 1.0000000000000004e-06, "foo/b": 2.0000000000000008e-06}),
            ],
        ),
        (
            {"logging_interval": "epoch", "log_momentum": True},
            lambda m: SGD([{"params": m.parameters(), "name": "w"}], lr=0.1),
            [(step, {"lr-SGD/w": 0.1, "lr-SGD/w-momentum": 0.0}) for step in (0, 4)],
        ),
    ],
)
def test_names_values_and_steps_are_those_of_lightning(
    fit: Callable[..., Any],
    scripted: type,
    arguments: dict[str, Any],
    configure: Callable[[Any], Any],
    rows: list[tuple[int, dict[str, float]]],
) -> None:
    class Module(scripted):  # type: ignore[misc, valid-type]
        def configure_optimizers(self) -> Any:
            return configure(self)

    logger = Rows()
    callback = LearningRateMonitor(**arguments)
    fit([callback], module=Module(), logger=[logger], max_epochs=2, log_every_n_steps=3)
    assert logger.rows == rows
    rates = {name: [row[name] for _, row in rows] for name in callback.lrs}
    assert callback.lrs == rates


class TwoAdams:
    """As much of a trainer as finding names asks for."""

    def __init__(self) -> None:
        weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
        self.optimizers = [Adam([weight], lr=0.1) for weight in weights]
        self.lr_scheduler_configs: list[Any] = []


def test_the_second_optimizer_of_a_class_is_numbered() -> None:
    assert [name for name, _, _ in _named_groups(TwoAdams())] == ["lr-Adam", "lr-Adam-1"]


def test_an_accumulated_step_is_logged_once(fit: Callable[..., Any]) -> None:
    logger = Rows()
    callback = LearningRateMonitor(logging_interval="step")
    fit([callback], logger=[logger], max_epochs=1, log_every_n_steps=1, accumulate_grad_batches=2)
    assert [step for step, _ in logger.rows] == [0, 1]


def test_without_a_logger_it_says_so(fit: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        fit([LearningRateMonitor()])
    assert str(caught.value) == "LearningRateMonitor: no logger to write to; pass Trainer(logger=True)."


def test_an_unknown_interval_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        LearningRateMonitor(logging_interval="batch")
    assert str(caught.value) == (
        "LearningRateMonitor(logging_interval='batch'): expected 'step', 'epoch', one of them with a count, '10step', "
        "or None"
    )


def test_the_newest_momentum_and_weight_decay_can_be_read(fit: Callable[..., Any], scripted: type) -> None:
    class Two(scripted):  # type: ignore[misc, valid-type]
        def configure_optimizers(self) -> Any:
            optimizer = Adam(self.parameters(), lr=0.1, betas=(0.8, 0.9), weight_decay=0.5)
            return [optimizer], [{"scheduler": StepLR(optimizer, 1), "interval": "step", "name": "mine"}]

    def run(**arguments: bool) -> tuple[Any, Any]:
        monitor = LearningRateMonitor(**arguments)
        fit([monitor], module=Two(), logger=Rows(), max_epochs=1, log_every_n_steps=1)
        return monitor.last_momentum_values, monitor.last_weight_decay_values

    assert run(log_momentum=True, log_weight_decay=True) == ({"mine-momentum": 0.8}, {"mine-weight_decay": 0.5})
    assert run() == ({"mine-momentum": None}, {"mine-weight_decay": None})


def test_an_optimizer_without_momentum_is_named(fit: Callable[..., Any], scripted: type) -> None:
    class Net(scripted):  # type: ignore[misc, valid-type]
        def configure_optimizers(self) -> Any:
            return torch.optim.Adagrad(self.parameters(), lr=0.1)

    monitor = LearningRateMonitor(log_momentum=True)
    told = r"^LearningRateMonitor\(log_momentum=True\): lr-Adagrad has no momentum; 0 is logged for it$"
    with pytest.warns(RuntimeWarning, match=told):
        fit([monitor], module=Net(), logger=Rows(), max_epochs=1)
    assert monitor.last_momentum_values == {"lr-Adagrad-momentum": 0.0}
