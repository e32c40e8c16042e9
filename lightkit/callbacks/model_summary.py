"""A table of the module's layers: names, types, parameters and sizes."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from lightkit.callbacks.base import Callback
from lightkit.devices.example import left_as_found, to_device_of

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["LayerSummary", "ModelSummary", "Summary", "summarize"]


@dataclass(frozen=True)
class LayerSummary:
    """One row: a submodule. Sizes are None where they are not known."""

    name: str
    layer_type: str
    num_parameters: int
    is_training: bool
    in_size: Any = None
    out_size: Any = None


class Summary:
    """What a module consists of; `str()` of it is a table.

    Args:
        model: the module. Where it has an `example_input_array`, it is run on it once, in evaluation mode and
            leaving the random state as it was, to find the sizes that go in and out of each layer.
        max_depth: how deep to list submodules; 1: the direct ones, -1: all, 0: totals only.
    """

    def __init__(self, model: nn.Module, max_depth: int = 1) -> None:
        most = math.inf if max_depth < 0 else max_depth
        named = [(name, module) for name, module in model.named_modules() if name and name.count(".") < most]
        sizes = _sizes(model, named) if getattr(model, "example_input_array", None) is not None else {}
        self.layers = [
            LayerSummary(name, type(m).__name__, _count(m.parameters()), m.training, *sizes.get(name, ()))
            for name, m in named
        ]
        parameters = list(model.parameters())
        self.total_parameters = _count(parameters)
        self.trainable_parameters = _count(p for p in parameters if p.requires_grad)
        in_layers = {id(p) for child in model.children() for p in child.parameters()}
        self.parameters_of_its_own = _count(p for p in parameters if id(p) not in in_layers)
        self.size_mb = sum(p.nbytes for p in parameters if _count([p])) / 1e6  # 10^6 bytes, as they are stored
        self.model_size = self.size_mb  # Lightning's name
        self.num_training_modules = sum(module.training for module in model.modules()) - model.training
        self.num_eval_modules = sum(not module.training for module in model.modules()) - (not model.training)

    @property
    def columns(self) -> list[str]:
        """The headings of the table."""
        has_sizes = any(layer.in_size is not None for layer in self.layers)
        return ["", "Name", "Type", "Params", "Mode"] + (["In sizes", "Out sizes"] if has_sizes else [])

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the table."""
        rows = []
        for index, layer in enumerate(self.layers):
            mode = "train" if layer.is_training else "eval"
            row = [str(index), layer.name, layer.layer_type, f"{layer.num_parameters:,}", mode]
            if "In sizes" in self.columns:
                row += ["?" if size is None else str(size) for size in (layer.in_size, layer.out_size)]
            rows.append(row)
        if self.parameters_of_its_own and rows:
            rows.append(["", "(its own)", "", f"{self.parameters_of_its_own:,}"] + [""] * (len(rows[0]) - 4))
        return rows

    @property
    def totals(self) -> list[tuple[str, str]]:
        """What stands below the table."""
        return [
            (f"{self.trainable_parameters:,}", "trainable parameters"),
            (f"{self.total_parameters - self.trainable_parameters:,}", "non-trainable parameters"),
            (f"{self.total_parameters:,}", "parameters in all"),
            (f"{self.size_mb:,.3f}", "MB of parameters"),
            (f"{self.num_training_modules:,}", "modules in train mode"),
            (f"{self.num_eval_modules:,}", "modules in eval mode"),
        ]

    def __str__(self) -> str:
        lines = []
        if self.rows:
            table = [self.columns, *self.rows]
            widths = [max(len(row[i]) for row in table) for i in range(len(self.columns))]
            for row in table:
                cells = [
                    cell.rjust(width) if name == "Params" else cell.ljust(width)
                    for cell, width, name in zip(row, widths, self.columns, strict=True)
                ]
                lines.append(" | ".join(cells).rstrip())
            lines.insert(1, "-" * (sum(widths) + 3 * (len(widths) - 1)))
            lines.append(lines[1])
        width = max(len(number) for number, _ in self.totals)
        lines += [f"{number.rjust(width)}  {what}" for number, what in self.totals]
        return "\n".join(lines)


def summarize(module: nn.Module, max_depth: int = 1) -> Summary:
    """Return the summary of a module; see `Summary`."""
    return Summary(module, max_depth)


class ModelSummary(Callback):
    """Prints the module's layers, parameters and sizes when fit begins.

    Args:
        max_depth: how deep to list submodules; 1: the direct ones, -1: all, 0: totals only.
    """

    def __init__(self, max_depth: int = 1) -> None:
        self.max_depth = max_depth

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Print the summary, as a table of rich's in a terminal."""
        if not self.max_depth or not trainer.is_global_zero:
            return
        summary = summarize(pl_module, self.max_depth)
        if sys.stdout.isatty():
            _print_with_rich(summary)
        else:
            print(summary, flush=True)


def _print_with_rich(summary: Summary) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(header_style="bold")
    for name in summary.columns:
        table.add_column(name, justify="right" if name == "Params" else "left")
    for row in summary.rows:
        table.add_row(*map(escape, row))
    console = Console()
    console.print(table)
    for number, what in summary.totals:
        console.print(f"[bold]{number}[/] {what}", highlight=False)


def _count(parameters: Iterable[Tensor]) -> int:
    """Return how many numbers these parameters hold; those of lazy layers are not there yet."""
    return sum(0 if isinstance(p, UninitializedParameter) else p.numel() for p in parameters)


def _sizes(model: nn.Module, named: list[tuple[str, nn.Module]]) -> dict[str, tuple[Any, Any]]:
    """Return the sizes that go in and out of each submodule when the module runs on its example."""
    found: dict[str, tuple[Any, Any]] = {}

    def note(name: str, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        found.setdefault(name, (_size(args[0] if len(args) == 1 else args), _size(output)))

    with ExitStack() as hooks:
        for name, module in named:
            hooks.enter_context(module.register_forward_hook(partial(note, name)))
        try:
            _run_example(model)
        except Exception as error:  # a user's forward may raise anything, and the table can do without sizes
            warnings.warn(f"ModelSummary: cannot run the module on its example_input_array: {error}", stacklevel=4)
    return found


def _run_example(model: nn.Module) -> None:
    example = to_device_of(model, model.example_input_array)
    with left_as_found(model):
        if isinstance(example, dict):
            model(**example)
        else:
            model(*(example if isinstance(example, tuple) else (example,)))


def _size(value: Any) -> Any:
    """Return the shape of a tensor as a list, shapes of the tensors in a container, "?" for anything else."""
    if isinstance(value, Tensor):
        return list(value.shape)
    if isinstance(value, list | tuple):
        return [_size(item) for item in value]
    if isinstance(value, dict):
        return {key: _size(item) for key, item in value.items()}
    return "?"
