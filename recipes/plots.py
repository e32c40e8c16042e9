"""Pictures of a run for any recipe: curves over the epochs, confusion matrix, worst mistakes.

Each picture goes as PNG into `RUN_DIR/plots` and to every logger that takes figures (TensorBoard).
matplotlib is used through `Figure` objects alone: no backend is chosen, no global state is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lightkit as lk
from lightkit.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE_COLORS = ("#1f5fa8", "#e07b00", "#2b8a3e", "#9c36b5")
_DPI = 130
_LOSS_AND_ACCURACY = {"loss": ("train_loss", "val_loss"), "accuracy": ("train_acc", "val_acc")}


def new_figure(width_inch: float, height_inch: float) -> Figure:
    """Return an empty figure that keeps titles and labels inside its borders.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure_class = require("matplotlib.figure", "vision", needed_by="the plots of a recipe").Figure
    figure: Figure = figure_class(figsize=(width_inch, height_inch), layout="constrained")
    return figure


def should_publish(trainer: lk.Trainer) -> bool:
    """Whether a run leaves pictures behind: its first process does, but not under `fast_dev_run`."""
    return trainer.is_global_zero and not trainer.fast_dev_run


def publish(trainer: lk.Trainer, name: str, figure: Figure) -> None:
    """Save `figure` as `RUN_DIR/plots/NAME.png` and hand it to the loggers."""
    path = trainer.run_dir / "plots" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # which may be in a store
        figure.savefig(file, dpi=_DPI, format="png")
    for logger in trainer.loggers:
        if isinstance(logger, lk.loggers.Logger):  # any object with log_metrics may be one
            logger.log_figure(name, figure, step=trainer.global_step)


def draw_curve(axes: Axes, epochs: Sequence[float], values: Sequence[float], name: str, color: str) -> None:
    """Draw one metric over epochs, its last value in the legend; single points are marked."""
    marker = "o" if len(values) < 30 else None
    label = f"{name} (last {values[-1]:.4g})"
    axes.plot(epochs, values, color=color, label=label, linewidth=1.8, marker=marker, markersize=3.5)


def confusion_matrix_figure(counts: Tensor, class_names: Sequence[str]) -> Figure:
    """Draw how often each true class was taken for each class.

    Args:
        counts: int64 (classes, classes); row: true class, column: predicted class.
        class_names: the names, by number.

    Returns:
        The figure; a cell's colour is its share of the row, its number the count.
    """
    classes = len(class_names)
    side = min(max(4.5, 1.8 + 0.5 * classes), 16)
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    total, right = int(counts.sum()), int(counts.diagonal().sum())
    axes.set_title(f"Confusion matrix: {right:,} of {total:,} right ({right / max(total, 1):.2%})")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    every = -(-classes // 50)  # more than 50 names would not be readable
    ticks = list(range(0, classes, every))
    names = [class_names[tick] for tick in ticks]
    upright = max(map(len, names)) <= 3
    axes.set_xticks(ticks, names, rotation=0 if upright else 45, ha="center" if upright else "right")
    axes.set_yticks(ticks, names)
    if classes <= 25:
        for row, column in counts.nonzero().tolist():
            color = "white" if shares[row, column] > 0.5 else "#102a43"
            text = f"{int(counts[row, column]):,}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return figure


@dataclass(frozen=True)
class Mistake:
    """One misjudged example.

    Attributes:
        input: what the network saw, float (channels, height, width), on the CPU.
        label: number of the true class.
        predicted: number of the class that the network found most probable.
        label_probability: what the network gave the true class, 0 to 1.
        predicted_probability: what it gave the predicted class, 0 to 1.
    """

    input: Tensor
    label: int
    predicted: int
    label_probability: float
    predicted_probability: float

    @property
    def loss(self) -> float:
        """The cross-entropy, nats."""
        return -math.log(max(self.label_probability, 1e-300))


def _as_picture(image: Tensor) -> Any:
    """Return (channels, height, width) of any range as an array that imshow takes, from 0 to 1."""
    low, high = image.min(), image.max()
    picture = ((image - low) / (high - low).clamp(min=1e-8)).movedim(0, -1)
    return (picture[..., 0] if picture.shape[-1] == 1 else picture).numpy()


def mistakes_figure(
    mistakes: Sequence[Mistake], total: int, wrong: int, class_names: Sequence[str]
) -> Figure:
    """Draw the given mistakes, worst first, each with its true and its predicted class.

    Args:
        mistakes: what to draw, in order.
        total: number of examples tested.
        wrong: number of mistakes among them, drawn or not.
        class_names: the names, by number.
    """
    columns = min(6, max(1, len(mistakes)))
    rows = max(1, -(-len(mistakes) // columns))
    figure = new_figure(max(1.75 * columns, 3.2), 2.15 * rows + 0.7)
    title = f"{wrong:,} mistake{'' if wrong == 1 else 's'} in {total:,}"
    if len(mistakes) > 1:
        title += f" (the worst {len(mistakes)})" if wrong > len(mistakes) else " (worst first)"
    figure.suptitle(title)
    for place, mistake in enumerate(mistakes, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(_as_picture(mistake.input), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        axes.set_title(
            f"true: {class_names[mistake.label]} ({mistake.label_probability:.1%})\n"
            f"predicted: {class_names[mistake.predicted]} ({mistake.predicted_probability:.1%})",
            fontsize=8,
        )
    return figure


class Curves(lk.Callback):
    """Draws metrics over the epochs into `plots/curves.png` when the training ends.

    Args:
        charts: title of each chart and the logged metrics that are drawn in it, such as
            `{"loss": ("train_loss", "val_loss")}`. Metrics that were not logged are left out. None draws what
            classifiers log: loss and accuracy.
    """

    def __init__(self, charts: Mapping[str, Sequence[str]] | None = None) -> None:
        charts = _LOSS_AND_ACCURACY if charts is None else charts
        self.charts = {title: tuple(names) for title, names in charts.items()}
        self._reset()

    def _reset(self) -> None:
        # per metric the optimizer steps at which it was read and its values; per epoch its last step
        self.steps: dict[str, list[int]] = {}
        self.values: dict[str, list[float]] = {}
        self.epoch_ends: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the curves so far."""
        return {"steps": self.steps, "values": self.values, "epoch_ends": self.epoch_ends}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of the checkpoint."""
        self.steps = {name: list(steps) for name, steps in state_dict["steps"].items()}
        self.values = {name: list(values) for name, values in state_dict["values"].items()}
        self.epoch_ends = list(state_dict["epoch_ends"])

    def _read(self, trainer: lk.Trainer, *, validated: bool) -> None:
        """Append the metrics that the validation, or else the training epoch, has just renewed."""
        for name in dict.fromkeys(name for names in self.charts.values() for name in names):
            value = trainer.callback_metrics.get(name)
            if value is not None and name.startswith("val") == validated:
                self.steps.setdefault(name, []).append(trainer.global_step)
                self.values.setdefault(name, []).append(float(value))

    def on_train_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Forget the curves of an earlier fit, unless this one goes on from its steps."""
        if trainer.global_step == 0:
            self._reset()

    def on_validation_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Note the validation metrics."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._read(trainer, validated=True)

    def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Note the training metrics."""
        self._read(trainer, validated=False)
        self.epoch_ends.append(trainer.global_step)

    def on_train_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Draw what was noted."""
        if self.values and should_publish(trainer):
            publish(trainer, "curves", self.figure())

    def figure(self) -> Figure:
        """Return the charts side by side."""
        charts = {
            title: [name for name in names if name in self.values] for title, names in self.charts.items()
        }
        charts = {title: names for title, names in charts.items() if names}
        from matplotlib import ticker

        figure = new_figure(5.2 * len(charts), 4.0)
        for place, (title, names) in enumerate(charts.items(), start=1):
            axes = figure.add_subplot(1, len(charts), place)
            for name, color in zip(names, _LINE_COLORS, strict=False):
                draw_curve(axes, self._epochs(self.steps[name]), self.values[name], name, color)
            axes.set_title(title)
            axes.set_xlabel("epoch" if self.epoch_ends else "optimizer step")
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            axes.grid(alpha=0.3)
            axes.legend()
        return figure

    def _epochs(self, steps: Sequence[int]) -> list[float]:
        """Return the steps as epochs; a validation in the middle of an epoch lies between two."""
        if not self.epoch_ends:
            return [float(step) for step in steps]
        import numpy as np

        epochs = np.interp(steps, [0, *self.epoch_ends], range(len(self.epoch_ends) + 1))
        return [float(epoch) for epoch in epochs]


class ClassificationReport(lk.Callback):
    """Draws, after a test, `plots/confusion_matrix.png` and, for images, `plots/worst_mistakes.png`.

    Needs a `test_step` that returns a dict with `logits`, float (batch, classes), `labels`, int64
    (batch,), and, for the mistakes, `inputs`, float (batch, 1 or 3, height, width). The names of the
    classes are the data module's `class_names`, else their numbers. With several processes the report
    is on the share of the first.

    Args:
        num_mistakes: how many mistakes to draw; those with the highest loss.
    """

    def __init__(self, num_mistakes: int = 24) -> None:
        self.num_mistakes = num_mistakes
        self.counts: Tensor | None = None
        self.mistakes: list[Mistake] = []

    def on_test_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Forget an earlier test."""
        self.counts, self.mistakes = None, []

    def on_test_batch_end(
        self,
        trainer: lk.Trainer,
        pl_module: lk.LightModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch's pairs of true and predicted class, and keep the worst mistakes."""
        logits, labels = outputs["logits"].detach().float().cpu(), outputs["labels"].cpu()
        classes = logits.shape[1]
        predicted = logits.argmax(dim=1)
        pairs = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
        self.counts = pairs if self.counts is None else self.counts + pairs
        inputs = outputs.get("inputs")
        if inputs is None or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
            return
        losses = F.cross_entropy(logits, labels, reduction="none")
        wrong = (predicted != labels).nonzero().flatten()
        worst = wrong[losses[wrong].argsort(descending=True)[: self.num_mistakes]]
        probabilities = logits.softmax(dim=1)
        for i in worst.tolist():
            of_label, of_predicted = probabilities[i, labels[i]], probabilities[i, predicted[i]]
            mistake = Mistake(
                inputs[i].float().cpu(),
                int(labels[i]),
                int(predicted[i]),
                float(of_label),
                float(of_predicted),
            )
            self.mistakes.append(mistake)
        self.mistakes = sorted(self.mistakes, key=lambda m: -m.loss)[: self.num_mistakes]

    def on_test_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Draw the report."""
        if self.counts is None or not should_publish(trainer):
            return
        names = getattr(trainer.datamodule, "class_names", None)
        if names is None or len(names) == 0:  # an array has no truth
            names = [str(i) for i in range(len(self.counts))]
        publish(trainer, "confusion_matrix", confusion_matrix_figure(self.counts, names))
        total = int(self.counts.sum())
        self.draw_worst(trainer, names, total, wrong=total - int(self.counts.diagonal().sum()))

    def draw_worst(self, trainer: lk.Trainer, names: Sequence[str], total: int, wrong: int) -> None:
        """Draw the worst of the `wrong` mistakes in `total` examples."""
        if self.mistakes or not wrong:
            publish(trainer, "worst_mistakes", mistakes_figure(self.mistakes, total, wrong, names))
