"""What a module consists of: its layers, their types, parameters, sizes and operations, as values and as a table."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from lightkit.devices.example import left_as_found, to_device_of
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode
    from torch.utils.hooks import RemovableHandle

    from lightkit.trainer import Trainer

__all__ = [
    "LayerSummary", "ModelSummary", "get_formatted_model_size", "get_human_readable_count", "parse_batch_shape",
    "summarize",
]  # fmt: skip

UNKNOWN_SIZE, NOT_APPLICABLE, LEFTOVER_PARAMS_NAME = "?", "n/a", "other params"
PARAMETER_NUM_UNITS = (" ", "K", "M", "B", "T")

Size = str | list[Any] | dict[Any, Any]


class LayerSummary:
    """One layer: its type, how many parameters it has, and the sizes of its first call after this was made.

    Args:
        module: the layer; it has a forward hook until it was called, or until `detach_hook`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._in_size: Size | None = None
        self._out_size: Size | None = None
        self._handle: RemovableHandle | None = None
        if not isinstance(module, torch.jit.ScriptModule):  # which take no such hooks
            self._handle = module.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        inputs = (*args, *kwargs.values())
        self._in_size = parse_batch_shape(inputs[0] if len(inputs) == 1 else inputs)
        self._out_size = parse_batch_shape(output)
        self.detach_hook()

    def detach_hook(self) -> None:
        """Take the hook off the layer; a second time does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @property
    def in_size(self) -> Size:
        """The shape of what goes in, a list of shapes for several tensors; "?" where it is not known."""
        return self._in_size if self._in_size is not None else UNKNOWN_SIZE

    @property
    def out_size(self) -> Size:
        """The shape of what comes out; "?" where it is not known."""
        return self._out_size if self._out_size is not None else UNKNOWN_SIZE

    @property
    def layer_type(self) -> str:
        """The name of the layer's class."""
        return type(self._module).__name__

    @property
    def num_parameters(self) -> int:
        """How many numbers its parameters hold; those of lazy layers are not there yet."""
        return _count(self._module.parameters())

    @property
    def parameter_text(self) -> str:
        """The same for a reader; "0 + lazy" where more come with the first batch."""
        is_lazy = any(isinstance(p, UninitializedParameter) for p in self._module.parameters())
        return f"{self.num_parameters:,}{' + lazy' if is_lazy else ''}"

    @property
    def training(self) -> bool:
        """Whether the layer is in training mode."""
        return self._module.training


class ModelSummary:
    """What a module consists of; `str()` of it is a table.

    Where the module has an `example_input_array` (a tensor, a tuple of arguments, a dict of keyword arguments), it is
    run on it once, in evaluation mode, leaving modes and generators as they were, to find the sizes that go in
    and out of each layer and how many floating point operations it takes; lazy layers get their parameters by that.
    A run that fails costs the sizes alone, and a warning.

    Args:
        model: the module.
        max_depth: how deep to list submodules; 1: the direct ones, -1: all, 0: totals only.

    Raises:
        ConfigError: max_depth is no whole number of at least -1.
    """

    def __init__(self, model: nn.Module, max_depth: int = 1) -> None:
        if isinstance(max_depth, bool) or not isinstance(max_depth, int) or max_depth < -1:
            raise ConfigError(f"ModelSummary(max_depth={max_depth!r}): expected -1 (all layers), 0 (none) or a depth")
        self._model, self._max_depth = model, max_depth
        self._flops: dict[str, dict[Any, int]] = {}  # by the module's place; "Global": all
        self._layers = self.summarize()

    @property
    def max_depth(self) -> int:
        """How deep submodules are listed."""
        return self._max_depth

    @property
    def named_modules(self) -> list[tuple[str, nn.Module]]:
        """The layers that are listed, by their names."""
        most = math.inf if self._max_depth < 0 else self._max_depth
        return [(name, module) for name, module in self._model.named_modules() if name and name.count(".") < most]

    def summarize(self) -> dict[str, LayerSummary]:
        """Look at the layers, and run the module on its example where it has one."""
        layers = {name: LayerSummary(module) for name, module in self.named_modules}
        try:
            if self._has_example:
                self._run_example()
        finally:
            for layer in layers.values():
                layer.detach_hook()
        return layers

    @property
    def _has_example(self) -> bool:
        return getattr(self._model, "example_input_array", None) is not None

    # ------------------------------------------------------------ a value for each layer

    @property
    def layers(self) -> list[LayerSummary]:
        """The layers that are listed."""
        return list(self._layers.values())

    @property
    def layer_names(self) -> list[str]:
        """Where each layer is: "encoder.0"."""
        return list(self._layers)

    @property
    def layer_types(self) -> list[str]:
        """The class of each layer."""
        return [layer.layer_type for layer in self.layers]

    @property
    def param_nums(self) -> list[int]:
        """How many numbers the parameters of each layer hold."""
        return [layer.num_parameters for layer in self.layers]

    @property
    def in_sizes(self) -> list[Size]:
        """What goes into each layer; "?" where that is not known."""
        return [layer.in_size for layer in self.layers]

    @property
    def out_sizes(self) -> list[Size]:
        """What comes out of each layer; "?" where that is not known."""
        return [layer.out_size for layer in self.layers]

    @property
    def training_modes(self) -> list[bool]:
        """Whether each layer is in training mode."""
        return [layer.training for layer in self.layers]

    @property
    def flop_counts(self) -> dict[str, dict[Any, int]]:
        """Floating point operations of each layer for the example, by operator; a multiply-add counts as two."""
        prefix = type(self._model).__name__
        return {name: dict(self._flops.get(f"{prefix}.{name}", {})) for name in self.layer_names}

    # ------------------------------------------------------------ totals

    @property
    def total_parameters(self) -> int:
        """How many numbers the parameters hold; shared ones count once."""
        return _count(self._model.parameters())

    @property
    def trainable_parameters(self) -> int:
        """The same of those that need a gradient."""
        return _count(p for p in self._model.parameters() if p.requires_grad)

    @property
    def total_layer_params(self) -> int:
        """The sum of `param_nums`."""
        return sum(self.param_nums)

    @property
    def leftover_parameters(self) -> int:
        """Numbers in parameters that are in none of the module's children."""
        inside = {id(p) for child in self._model.children() for p in child.parameters()}
        return _count(p for p in self._model.parameters() if id(p) not in inside)

    @property
    def model_size(self) -> float:
        """The size of the parameters as they are stored, in MB (10^6 bytes)."""
        return sum(p.nbytes for p in self._model.parameters() if _count([p])) / 1e6

    @property
    def total_training_modes(self) -> dict[str, int]:
        """How many submodules, of any depth, are in each mode: "train", "eval"."""
        modes = [module.training for module in self._model.modules()][1:]
        return {"train": modes.count(True), "eval": modes.count(False)}

    @property
    def total_flops(self) -> int:
        """Floating point operations of the forward pass on the example; 0 where there is none."""
        return sum(self._flops.get("Global", {}).values())

    # ------------------------------------------------------------ the table

    def _get_summary_data(self) -> list[tuple[str, list[str]]]:
        """The table by columns: heading and cells."""
        columns = [
            (" ", [str(index) for index in range(len(self.layers))]),
            ("Name", self.layer_names),
            ("Type", self.layer_types),
            ("Params", [layer.parameter_text for layer in self.layers]),
            ("Mode", ["train" if mode else "eval" for mode in self.training_modes]),
        ]
        if self._flops:
            flops = (sum(counts.values()) for counts in self.flop_counts.values())
            columns.append(("FLOPs", [get_human_readable_count(count).strip() for count in flops]))
        if any(size != UNKNOWN_SIZE for size in self.in_sizes):
            columns += [("In sizes", list(map(str, self.in_sizes))), ("Out sizes", list(map(str, self.out_sizes)))]
        if self.leftover_parameters and self.layers:
            own = {" ": "", "Name": LEFTOVER_PARAMS_NAME, "Params": f"{self.leftover_parameters:,}"}
            for heading, cells in columns:
                cells.append(own.get(heading, NOT_APPLICABLE))
        return columns

    def __str__(self) -> str:
        numbers = self.total_parameters, self.trainable_parameters, self.model_size
        return table_of(self._get_summary_data(), totals_of(*numbers, self.total_training_modes, self.total_flops))

    __repr__ = __str__

    # ------------------------------------------------------------ the example

    def _run_example(self) -> None:
        """Run the module on its example, for the layers' hooks; what it raises is a warning."""
        counter = _flop_counter()
        try:
            self._run(counter)
            self._flops = {name: dict(counts) for name, counts in counter.get_flop_counts().items()}
        except Exception:  # perhaps it cannot be counted, only run
            try:
                self._run(nullcontext())
            except Exception as error:  # a user's forward may raise anything, and the table can do without sizes
                told = f"ModelSummary: cannot run the module on its example_input_array: {error}"
                warnings.warn(told, stacklevel=5)

    def _run(self, inside: AbstractContextManager[Any]) -> None:
        model: Any = self._model
        example = to_device_of(model, model.example_input_array)
        trainer: Trainer | None = getattr(model, "_trainer", None)
        forward: Callable[..., object] = model
        if trainer is not None:
            forward = trainer.precision.wrap(model)
            example = trainer.precision.convert_batch(example) if trainer.precision.converts_batch else example
        with ExitStack() as stack:
            stack.enter_context(left_as_found(model))
            stack.enter_context(inside)
            if isinstance(example, dict):
                forward(**example)
            else:
                forward(*(example if isinstance(example, tuple | list) else (example,)))


def summarize(lightning_module: nn.Module, max_depth: int = 1) -> ModelSummary:
    """Return the summary of a module; see `ModelSummary`."""
    return ModelSummary(lightning_module, max_depth=max_depth)


def totals_of(
    total_parameters: int, trainable_parameters: int, model_size: float, training_modes: dict[str, int], flops: int
) -> list[tuple[str, str]]:
    """What stands below the table: numbers, and what they are of."""
    found = [
        (f"{trainable_parameters:,}", "trainable parameters"),
        (f"{total_parameters - trainable_parameters:,}", "non-trainable parameters"),
        (f"{total_parameters:,}", "parameters in all"),
        (get_formatted_model_size(model_size), "MB of parameters"),
        (f"{training_modes['train']:,}", "modules in train mode"),
        (f"{training_modes['eval']:,}", "modules in eval mode"),
    ]
    return [*found, *([(get_human_readable_count(flops).strip(), "FLOPs for the example")] if flops else [])]


def table_of(columns: list[tuple[str, list[str]]], totals: list[tuple[str, str]]) -> str:
    """The table as text; without layers the totals alone."""
    lines = []
    if columns[0][1]:
        widths = [max(len(text) for text in (heading, *cells)) for heading, cells in columns]
        for row in zip(*((heading, *cells) for heading, cells in columns), strict=True):
            cells = [
                cell.rjust(width) if heading in ("Params", "FLOPs") else cell.ljust(width)
                for cell, width, (heading, _) in zip(row, widths, columns, strict=True)
            ]
            lines.append(" | ".join(cells).rstrip())
        lines.insert(1, "-" * (sum(widths) + 3 * (len(widths) - 1)))
        lines.append(lines[1])
    width = max(len(number) for number, _ in totals)
    return "\n".join([*lines, *(f"{number.rjust(width)}  {what}" for number, what in totals)])


def get_human_readable_count(number: int | float) -> str:
    """Return a number of at least 0 with K, M, B or T for thousands to trillions: "1.2 K", "123  ", "400 T"."""
    if number < 0:
        raise ConfigError(f"get_human_readable_count({number!r}): expected a number of at least 0")
    digits = len(str(int(number)))
    group = min(math.ceil(digits / 3), len(PARAMETER_NUM_UNITS)) - 1
    scaled, unit = number / 1000**group, PARAMETER_NUM_UNITS[group]
    return f"{int(scaled):,d} {unit}" if group == 0 or scaled >= 100 else f"{scaled:,.1f} {unit}"


def get_formatted_model_size(total_model_size: float) -> str:
    """Return a size in MB as text: "1,234.568"."""
    return f"{total_model_size:,.3f}"


def parse_batch_shape(batch: Any) -> Size:
    """Return the shape of a tensor as a list, those of the tensors in a container likewise, "?" for anything else."""
    if hasattr(batch, "shape"):
        return list(batch.shape)
    if isinstance(batch, list | tuple):
        return [parse_batch_shape(item) for item in batch]
    if isinstance(batch, dict):
        return {key: parse_batch_shape(item) for key, item in batch.items()}
    return UNKNOWN_SIZE


def _count(parameters: Iterable[Tensor]) -> int:
    """Return how many numbers these parameters hold; those of lazy layers are not there yet."""
    return sum(0 if isinstance(p, UninitializedParameter) else p.numel() for p in parameters)


def _flop_counter() -> FlopCounterMode:
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)
