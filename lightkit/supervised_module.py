"""A LightModule for the plain case: a network, a loss, an optimizer and metrics, without a class of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.contracts import is_metric, is_metric_collection
from lightkit.devices.transfer import map_tensors
from lightkit.errors import ConfigError, HookError
from lightkit.module import LightModule
from lightkit.supervised_batches import BatchReader, Taken, rows_of
from lightkit.supervised_choices import (
    check_scheduler,
    loss_of,
    made_optimizer,
    made_scheduler,
    metrics_of,
    optimizer_of,
)  # fmt: skip

STAGES = ("train", "val", "test")
Metrics = str | Callable[..., Any] | Sequence[Any] | Mapping[str, Any]


def supervised(
    net: nn.Module, *, loss: str | Callable[..., Any],
    optimizer: str | type[Optimizer] | Callable[..., Optimizer] = "AdamW", metrics: Metrics | None = None,
    scheduler: str | Callable[..., Any] | dict[str, Any] | None = None, lr: float | None = None,
    target: str | None = None,
) -> Supervised:  # fmt: skip
    """A LightModule that trains `net` to give the targets of its batches.

    A batch is (inputs, targets), a dict that holds the targets as "target(s)", "label(s)" or "y", or a torch_geometric
    graph with `y`. Logged are `train_loss`, `val_loss` and `test_loss`, means over the epoch, and each metric likewise.

    Args:
        net: inputs to outputs; several inputs, a tuple or dict in the batch, are its arguments.
        loss: a function of (outputs, targets) that gives one number, an object such as `nn.CrossEntropyLoss()`, or a
            name: "cross_entropy", "mse", "l1", "bce_with_logits", ...
        optimizer: a function of the parameters, a class or a name of torch.optim.
        metrics: by name, functions of (outputs, targets) whose mean counts, torchmetrics objects, or "accuracy", "mae",
            "mse"; also a list of these, or a MetricCollection. Each stage has its own copy of an object.
        scheduler: a function of the optimizer, a dict of `configure_optimizers` with it as "scheduler", or "cosine" or
            "one_cycle" over the whole fit. One on plateaus watches `val_loss`.
        lr: learning rate of an optimizer that is a class or a name; None takes its default.
        target: the key of the targets in a dict, or their attribute of a graph, where it has another name.

    Raises:
        ConfigError: an argument that cannot work.
    """
    return Supervised(
        net, loss=loss, optimizer=optimizer, metrics=metrics, scheduler=scheduler, lr=lr, target=target
    )  # fmt: skip


class Supervised(LightModule):
    """What `supervised` gives; see there for the arguments.

    `load_from_checkpoint(path, net=...)` needs the network alone to predict: names and numbers are in the checkpoint,
    functions and objects are given again where they are needed.
    """

    def __init__(
        self, net: nn.Module, *, loss: str | Callable[..., Any] | None = None,
        optimizer: str | type[Optimizer] | Callable[..., Optimizer] | None = None, metrics: Metrics | None = None,
        scheduler: str | Callable[..., Any] | dict[str, Any] | None = None, lr: float | None = None,
        target: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if not isinstance(net, nn.Module):
            raise ConfigError(f"supervised(net=...): expected an nn.Module, got a {type(net).__name__}")
        given: dict[str, object] = {"loss": loss, "optimizer": optimizer, "metrics": metrics, "scheduler": scheduler}
        self.save_hyperparameters(ignore=["net", *(name for name, value in given.items() if not _is_plain(value))])
        check_scheduler(scheduler)
        self.net = net
        self.loss = None if loss is None else loss_of(loss)
        self.lr = lr
        self.scheduler = scheduler
        self._optimizer = optimizer
        if optimizer is not None:
            optimizer_of(optimizer, lr)
        self._reader = BatchReader(net, target)
        self._functions, objects = {}, {}
        for name, metric in metrics_of(metrics).items():
            if is_metric(metric) or is_metric_collection(metric):
                objects[name] = metric
            else:
                self._functions[name] = metric
        self._object_names = list(objects)
        # each stage its own: one object in two would mix their values
        self.metric_objects = nn.ModuleDict({
            f"{stage}_{number}": _copy(metric, stage)
            for stage in STAGES for number, metric in enumerate(objects.values())
        })  # fmt: skip

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives."""
        return self.net(*args, **kwargs)

    def configure_optimizers(self) -> Any:
        """The optimizer of all parameters that learn, and its scheduler."""
        if self._optimizer is None:
            raise ConfigError(
                "Supervised: no optimizer; it was a function or class, which no checkpoint holds: give it, "
                "load_from_checkpoint(path, net=..., optimizer=...)"
            )
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = made_optimizer(optimizer_of(self._optimizer, self.lr), learning)
        if self.scheduler is None:
            return optimizer
        config = made_scheduler(self.scheduler, optimizer, lambda: self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": config}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of the batch, a 0-dim tensor."""
        return self._judge(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log loss and metrics."""
        self._judge(batch, "val")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log loss and metrics."""
        self._judge(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """What the network gives for a batch with or without targets."""
        taken = self._reader.read(batch, "predict")
        return rows_of(self(*taken.args, **taken.kwargs), taken.rows)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what belongs to a loss or metrics that are not given again."""
        without = [name for name in ("loss", "metric_objects") if not isinstance(getattr(self, name), nn.Module)
                   or not list(getattr(self, name).state_dict())]  # fmt: skip
        dropped = tuple(f"{name}." for name in without)
        weights = checkpoint.get("state_dict", {})
        checkpoint["state_dict"] = {key: value for key, value in weights.items() if not key.startswith(dropped)}

    def _judge(self, batch: Any, stage: str) -> Tensor:
        taken = self._reader.read(batch, stage)
        outputs = rows_of(self(*taken.args, **taken.kwargs), taken.rows)
        if self.loss is None:
            raise ConfigError(
                "Supervised: no loss; it was a function or object, which no checkpoint holds: give it, "
                "load_from_checkpoint(path, net=..., loss=...)"
            )
        loss: Any = self.loss(outputs, taken.target)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise HookError(f"supervised(loss=...): the loss gave {found}, expected a tensor with one number")
        self._log(stage, "loss", loss, taken)
        if self._functions or self._object_names:
            self._measure(stage, map_tensors(outputs, Tensor.detach), taken)
        return loss

    def _measure(self, stage: str, outputs: Any, taken: Taken) -> None:
        for name, function in self._functions.items():
            self._log(stage, name, function(outputs, taken.target), taken)
        for number, name in enumerate(self._object_names):
            self._log_object(stage, name, self.metric_objects[f"{stage}_{number}"], outputs, taken)

    def _log(self, stage: str, name: str, value: Any, taken: Taken) -> None:
        shows = name == "loss" or stage != "train"
        self.log(f"{stage}_{name}", value, prog_bar=shows, on_step=False, on_epoch=True, batch_size=taken.size)

    def _log_object(self, stage: str, name: str, metric: Any, outputs: Any, taken: Taken) -> None:
        metric.update(outputs, taken.target)
        if is_metric_collection(metric):
            self.log_dict(metric, prog_bar=stage != "train", on_step=False, on_epoch=True, batch_size=taken.size)
        else:
            self._log(stage, name, metric, taken)


def _copy(metric: Any, stage: str) -> Any:
    """A copy for one stage; a collection has the stage in the names of what it holds."""
    return metric.clone(prefix=f"{stage}_") if is_metric_collection(metric) else metric.clone()


def _is_plain(value: object) -> bool:
    """Whether a checkpoint holds it as it is: names, and lists and dicts of them."""
    if isinstance(value, Mapping):
        return all(_is_plain(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (str, int, float, bool))
