"""Names, classes and functions that `lk.supervised` takes, as what they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from lightkit.contracts import is_metric_collection
from lightkit.errors import ConfigError, HookError, did_you_mean

Loss = Callable[[Any, Any], Tensor]
MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]

LOSSES: dict[str, Loss] = {
    "cross_entropy": F.cross_entropy, "nll": F.nll_loss, "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits, "mse": F.mse_loss, "l1": F.l1_loss, "mae": F.l1_loss,
    "huber": F.huber_loss, "smooth_l1": F.smooth_l1_loss,
}  # fmt: skip


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """The share that is right: of logits (batch, classes, ...), or of logits of one class, right above 0."""
    predicted = output.argmax(dim=1) if output.dim() > target.dim() else (output > 0).to(target.dtype)
    return (predicted == target).float().mean()


METRICS: dict[str, Loss] = {"accuracy": accuracy, "mse": F.mse_loss, "mae": F.l1_loss}
SCHEDULERS = ("cosine", "one_cycle")


def loss_of(given: object) -> Loss:
    """The loss that a name, a class or a function stands for."""
    if isinstance(given, str):
        return _named("loss", given, {**LOSSES, **{f"{name}_loss": found for name, found in LOSSES.items()}}, LOSSES)
    if isinstance(given, type) and issubclass(given, nn.Module):
        given = given()
    if callable(given):
        return given
    raise ConfigError(
        f"supervised(loss={given!r}): expected a function of (outputs, targets), such as "
        f"torch.nn.functional.cross_entropy, or one of {', '.join(LOSSES)}"
    )


def _named(argument: str, name: str, known: Mapping[str, Any], shown: Iterable[str]) -> Any:
    if name not in known:
        raise ConfigError(
            f"supervised({argument}={name!r}): expected one of {', '.join(shown)}, or a function"
            f"{did_you_mean(name, known)}"
        )
    return known[name]


def optimizer_of(given: object, lr: float | None) -> MakeOptimizer:
    """What makes the optimizer; lr goes to a class or a name."""
    if isinstance(given, str):
        classes = {
            name: found for name, found in vars(torch.optim).items()
            if isinstance(found, type) and issubclass(found, Optimizer) and found is not Optimizer
        }  # fmt: skip
        spelt = {name.lower(): name for name in classes}.get(given.lower(), given)
        given = _named("optimizer", spelt, classes, sorted(classes))
    if isinstance(given, Optimizer):
        name = type(given).__name__
        raise ConfigError(
            f"supervised(optimizer=...): got an {name} that is made already, whose state each fit would share; give "
            f"what makes it, optimizer=lambda parameters: {name}(parameters, ...)"
        )
    if isinstance(given, type) and issubclass(given, Optimizer):
        cls: Any = given  # the base names no arguments
        return lambda parameters: cls(parameters) if lr is None else cls(parameters, lr=lr)
    if not callable(given):
        raise ConfigError(
            f"supervised(optimizer={given!r}): expected a function of the parameters, a class such as "
            "torch.optim.AdamW, or its name"
        )
    if lr is not None:
        raise ConfigError(
            "supervised(lr=...): goes to an optimizer that is a class or a name; the function has its own"
        )
    return given


def made_optimizer(make: MakeOptimizer, parameters: list[nn.Parameter]) -> Optimizer:
    """The optimizer; HookError where the function gave something else."""
    if not parameters:
        raise ConfigError("supervised(...): the network has no parameter that learns (requires_grad)")
    made = make(parameters)
    if not isinstance(made, Optimizer):
        raise HookError(f"supervised(optimizer=...): the function gave a {type(made).__name__}, expected an Optimizer")
    return made


def check_scheduler(given: object) -> None:
    """Raise ConfigError for what is neither a name, a function, nor a dict that holds one."""
    inner = given.get("scheduler") if isinstance(given, dict) else given
    if isinstance(inner, str):
        _named("scheduler", inner, dict.fromkeys(SCHEDULERS), SCHEDULERS)
    elif given is not None and not callable(inner):
        raise ConfigError(
            f"supervised(scheduler={given!r}): expected a function of the optimizer, such as "
            "lambda optimizer: StepLR(optimizer, 10), a dict with it as 'scheduler', or one of cosine, one_cycle"
        )


def made_scheduler(given: Any, optimizer: Optimizer, total_steps: Callable[[], float]) -> dict[str, Any]:
    """The scheduler as `configure_optimizers` gives it; a name spans the whole fit, step by step."""
    config = dict(given) if isinstance(given, dict) else {"scheduler": given}
    make = config["scheduler"]
    if isinstance(make, str):
        total = total_steps()
        if total == float("inf"):
            raise ConfigError(
                f"supervised(scheduler={make!r}): spans the whole fit, which has no end; set max_epochs or max_steps"
            )
        config = {"interval": "step", **config, "scheduler": _spanning(make, optimizer, int(total))}
    else:
        config["scheduler"] = make(optimizer)
    made = config["scheduler"]
    if not isinstance(made, LRScheduler):
        raise HookError(f"supervised(scheduler=...): the function gave a {type(made).__name__}, expected a scheduler")
    if isinstance(made, ReduceLROnPlateau):
        config.setdefault("monitor", "val_loss")
    return config


def _spanning(name: str, optimizer: Optimizer, steps: int) -> LRScheduler:
    if name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    return OneCycleLR(optimizer, max_lr=[group["lr"] for group in optimizer.param_groups], total_steps=steps)


def metrics_of(given: Any) -> dict[str, Any]:
    """Metrics by name: functions of (outputs, targets), or torchmetrics objects; a MetricCollection under ''."""
    if given is None:
        return {}
    if is_metric_collection(given):
        return {"": given}
    if isinstance(given, (str, nn.Module)) or callable(given):
        given = [given]
    pairs = given.items() if isinstance(given, Mapping) else ((_name_of(metric), metric) for metric in given)
    found: dict[str, Any] = {}
    for name, metric in pairs:
        if isinstance(metric, str):
            metric = _named("metrics", metric, METRICS, METRICS)
        if not callable(metric):
            raise ConfigError(
                f"supervised(metrics=...): {name!r} is a {type(metric).__name__}; expected a function of (outputs, "
                f"targets), a torchmetrics object, or one of {', '.join(METRICS)}"
            )
        if inspect.isclass(metric):
            raise ConfigError(f"supervised(metrics=...): {name!r} is a class; give an object, {metric.__name__}(...)")
        if name in found or name == "loss":
            raise ConfigError(
                f"supervised(metrics=...): the name {name!r} is taken; name them, metrics={{'name': ...}}"
            )
        found[name] = metric
    return found


def _name_of(metric: Any) -> str:
    """`MulticlassAccuracy()` -> `multiclass_accuracy`, a function its name."""
    if isinstance(metric, str):
        return metric
    name: str = getattr(metric, "__name__", None) or type(metric).__name__
    return "".join(f"_{c.lower()}" if c.isupper() and i and not name[i - 1].isupper() else c.lower()
                   for i, c in enumerate(name))  # fmt: skip
