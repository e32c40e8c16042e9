"""What a batch of the plain case holds: what the network takes, and what it is to give."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lightkit.devices.odd_batches import is_graph
from lightkit.errors import ConfigError, DataError

# how a dict, or a graph, may call what the network is to give
TARGETS = ("target", "targets", "label", "labels", "y")
FORMS = (
    f"expected (inputs, targets), a dict with one of {', '.join(map(repr, TARGETS))}, or a torch_geometric graph with "
    "`y`. Several inputs go in a tuple of their own: ((a, b), targets)"
)


@dataclass(frozen=True)
class Taken:
    """One batch: the arguments of the network, the target, and which rows of both count (None: all)."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    target: Any = None
    rows: Any = None

    @property
    def size(self) -> int | None:
        """How many rows count, where that is not the size of the batch."""
        return None if self.rows is None else len(self.target)


class BatchReader:
    """Takes batches apart for one network.

    target: the key, or the attribute of a graph, that holds the target; None finds it.
    """

    def __init__(self, net: nn.Module, target: str | None):
        self.target = target
        self._graph_arguments = _arguments_of(net)

    def read(self, batch: Any, stage: str) -> Taken:
        """Inputs and target. stage: "train", "val", "test" or "predict", which needs no target.

        Raises DataError for a batch of another form.
        """
        needs_target = stage != "predict"
        if is_graph(batch):
            return self._read_graph(batch, stage)
        if isinstance(batch, Mapping):
            return self._read_dict(batch, needs_target)
        if isinstance(batch, (tuple, list)) and len(batch) == 2:
            return _with_inputs(batch[0], batch[1])
        if not needs_target:
            return _with_inputs(batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 1 else batch, None)
        count = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise DataError(
            f"supervised(...): cannot tell inputs from targets in a batch that is a {type(batch).__name__}{count}; "
            f"{FORMS}"
        )

    def _read_dict(self, batch: Mapping[str, Any], needs_target: bool) -> Taken:
        name = self._target_in(batch, f"keys {', '.join(map(repr, batch))}", needs_target)
        inputs = {key: value for key, value in batch.items() if key != name}
        target = None if name is None else batch[name]
        if len(inputs) == 1:
            return _with_inputs(next(iter(inputs.values())), target)
        return Taken((), inputs, target)

    def _target_in(self, names: Any, shown: str, needs_target: bool) -> str | None:
        if self.target is not None:
            found = [self.target] if self.target in names else []
        else:
            found = [name for name in TARGETS if name in names]
        if len(found) == 1:
            return found[0]
        if not found and not needs_target:
            return None
        problem = f"several could be the target ({', '.join(found)})" if found else "none is the target"
        raise DataError(
            f"supervised(...): a batch with the {shown}: {problem}; say which, supervised(..., target='...')"
        )

    def _read_graph(self, graph: Any, stage: str) -> Taken:
        """A graph's attributes go to the arguments of their name; a network that names none takes the graph."""
        names = sorted(name for name in graph.keys() if graph[name] is not None)
        attribute = self._target_in(names, f"attributes {', '.join(map(repr, names))}", stage != "predict")
        target = None if attribute is None else graph[attribute]
        rows = _rows_of(graph, stage)
        if target is not None and rows is not None:
            target = target[rows]
        found = {name: getattr(graph, name) for name in self._graph_arguments if hasattr(graph, name)}
        required = [name for name, is_needed in self._graph_arguments.items() if is_needed]
        if "x" not in self._graph_arguments and (len(required) <= 1 or not all(name in found for name in required)):
            return Taken((graph,), {}, target, rows)
        missing = [name for name in required if name not in found]
        if missing:
            raise DataError(
                f"supervised(...): the network takes {', '.join(map(repr, missing))}, which the graph does not have "
                f"(it has {', '.join(map(repr, names))})"
            )
        return Taken((), found, target, rows)


def _rows_of(graph: Any, stage: str) -> Any:
    """Which nodes count: those that a sampler was asked for, which come first, or those of the stage's mask."""
    if isinstance(asked := graph.get("batch_size"), int) and "input_id" in graph:
        return slice(asked)
    return graph.get(f"{stage}_mask")


def _arguments_of(net: nn.Module) -> dict[str, bool]:
    """The names that a network's forward takes, and whether it needs each."""
    positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        parameters = inspect.signature(net.forward).parameters.values()
    except (TypeError, ValueError):
        return {}
    found = {parameter.name: parameter.default is parameter.empty for parameter in parameters
             if parameter.kind in positional}  # fmt: skip
    # torch_geometric.nn.Sequential("x, edge_index", ...) keeps its names beside a forward(*args)
    return found or dict.fromkeys(getattr(getattr(net, "signature", None), "param_dict", ()), True)


def _with_inputs(inputs: Any, target: Any) -> Taken:
    if isinstance(inputs, Mapping):
        return Taken((), dict(inputs), target)
    if isinstance(inputs, (tuple, list)):
        return Taken(tuple(inputs), {}, target)
    return Taken((inputs,), {}, target)


def rows_of(output: Any, rows: Any) -> Any:
    """The rows that count of what a network gave."""
    if rows is None:
        return output
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"supervised(...): the network gave a {type(output).__name__}; only a tensor has rows of nodes that count"
        )
    return output[rows]
