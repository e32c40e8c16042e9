"""What a checkpoint holds: gathered from parts that have a state, and given back to them.

Keys are Lightning's where the concept is: `epoch`, `global_step`, `state_dict`, `optimizer_states`, `lr_schedulers`,
`callbacks`, `hyper_parameters`, `hparams_name`, `hparams_type` (of the data module: `datamodule_...`). lightkit's own:
`hparams_kinds`, `hparams_entries`, `hparams_left_out` (by `lightkit.hparams.stored`), `loop` (position, running
metrics, order of the data), `rng`, `precision`, `loggers`, `optimizer_groups` (names of parameters),
`lightkit_version`, `class_path` (the module's class, as a name: loading never imports it; `lightkit predict
--ckpt_path` does where it is one of lightkit's recipes).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from torch import nn
from torch.optim import Optimizer

from lightkit.checkpoint.torch_states import is_torchs
from lightkit.checkpoint.weights import named_parameters, plain_name
from lightkit.contracts import Stateful
from lightkit.errors import CheckpointError
from lightkit.schema import ANYTHING, TEXT, WHOLE, DictOf, Form, ListOf, Record, StateError, optional, place_text

FORMAT = 2  # 2: hyperparameters say of which kind they are, see `lightkit.hparams.loading`
S = TypeVar("S", bound=Stateful)
Groups = list[list[str]]  # of one optimizer: for each group the names of its parameters
_GROUPS = ListOf(ListOf(ListOf(TEXT)))


# what is at the top of a checkpoint, of Lightning's too; what parts keep is theirs to check
_HYPERPARAMETERS: dict[str, Form] = {  # their names may be any keys: those of one dict that was saved
    "hyper_parameters": optional(DictOf(ANYTHING, object)), "hparams_kinds": DictOf(ANYTHING, object),
    "hparams_name": optional(TEXT), "hparams_entries": ListOf(ANYTHING),
    "hparams_left_out": DictOf(TEXT),
}  # fmt: skip
_TOP = Record({"state_dict": DictOf(ANYTHING)}, {
    "epoch": WHOLE, "global_step": WHOLE, "callbacks": DictOf(ANYTHING), "optimizer_states": ListOf(ANYTHING),
    "lr_schedulers": ListOf(ANYTHING), "lightkit_format": WHOLE,
    **_HYPERPARAMETERS, **{f"datamodule_{key}": form for key, form in _HYPERPARAMETERS.items()},
})  # fmt: skip


def check(checkpoint: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError where a checkpoint is none, or one of a later version."""
    with naming(where):
        _TOP.check(checkpoint)
        if checkpoint.get("lightkit_format", FORMAT) > FORMAT:
            raise Misfit(
                f"a later lightkit wrote it (format {checkpoint['lightkit_format']}, this one reads up to {FORMAT}); "
                "update lightkit"
            )


def gather(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """The state of each part under its key."""
    return {key: part.state_dict() for key, part in parts.items()}


def give(parts: Mapping[str, Stateful], checkpoint: Mapping[str, Any], where: str) -> None:
    """Give each part what it had, in the order of the mapping.

    Raises CheckpointError for a state that does not fit; where: the file, for the message.
    """
    for key, part in parts.items():
        with naming(where):
            if key not in checkpoint:
                raise StateError("is missing", key)
            try:
                part.load_state_dict(checkpoint[key])
            except StateError as error:
                raise error.inside(key) from error.__cause__


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Let a state that is not of its form be an error that names the file and the place in it."""
    try:
        yield
    except StateError as error:
        place = f"checkpoint{place_text(error.place)}: " if error.place else ""
        raise CheckpointError(f"{where}: {place}{error.problem}") from error.__cause__


def is_state(state: object) -> bool:
    """Whether somebody has a state; 0, an empty list and a tensor are one."""
    return state is not None and not (isinstance(state, Mapping) and len(state) == 0)


class Misfit(StateError):
    """A state of the right form that is another one's; its place would say nothing more."""

    def inside(self, *place: object) -> StateError:
        """As it is."""
        return self


class Each(Generic[S]):
    """Parts of one kind whose states are a list.

    what: their name where their number must be the saved one; "": those that are there take theirs. load: instead of
    the part's own `load_state_dict`; check: before it.
    """

    def __init__(
        self, parts: Sequence[S], what: str = "", load: Callable[[S, Any], object] | None = None,
        check: Callable[[S, Any], None] | None = None,
    ):  # fmt: skip
        self.parts, self.what, self.load, self.check = parts, what, load, check

    def state_dict(self) -> list[Any]:
        """The state of each."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: Sequence[Any]) -> None:
        """Give each its own."""
        ListOf(ANYTHING).check(states)
        if self.what and len(states) != len(self.parts):
            raise Misfit(
                f"has {len(states)} {self.what}, configure_optimizers gives {len(self.parts)}; "
                "resume with the module that was trained"
            )
        for index, (part, state) in enumerate(zip(self.parts, states, strict=False)):
            try:
                if self.check is not None:
                    self.check(part, state)
                part.load_state_dict(state) if self.load is None else self.load(part, state)
            except StateError as error:
                raise error.inside(index) from error.__cause__
            except Exception as error:
                if not self.what or not (isinstance(error, (ValueError, KeyError)) or is_torchs(part)):
                    raise  # the part's own affair
                raise Misfit(f"the state of {type(part).__name__} does not fit: {error}") from error


class ByKey:
    """Callbacks by their key; only those that have a state are kept."""

    def __init__(self, parts: Mapping[str, Stateful]):
        self.parts = parts

    def state_dict(self) -> dict[str, Any]:
        """The states that there are."""
        return {key: state for key, part in self.parts.items() if is_state(state := part.state_dict())}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Give each its own; states nobody takes are named in a warning."""
        DictOf(ANYTHING).check(states)
        for key, part in self.parts.items():
            if states.get(key) is not None:
                try:
                    part.load_state_dict(states[key])
                except StateError as error:
                    raise error.inside(key) from error.__cause__
        left = states.keys() - self.parts.keys()
        if left:
            warnings.warn(
                f"the checkpoint has states of callbacks that this Trainer lacks: {', '.join(sorted(left))}; "
                "add them to go on exactly",
                stacklevel=2,
            )


class ParameterGroups:
    """The names of the parameters in each optimizer's groups: those added during training are made again."""

    def __init__(self, optimizers: Sequence[Optimizer], module: nn.Module):
        self.optimizers, self.module = optimizers, module

    def state_dict(self) -> list[Groups]:
        """The groups of each optimizer; "" stands for a parameter that is not the module's."""
        names = {id(parameter): name for name, parameter in named_parameters(self.module).items()}
        return [[[names.get(id(p), "") for p in group["params"]] for group in o.param_groups] for o in self.optimizers]

    def load_state_dict(self, states: Sequence[Groups]) -> None:
        """Add those that the optimizers lack; their numbers come with the optimizers' states.

        Of an optimizer where a parameter is not the module's, or is in it already, nothing is added.
        """
        _GROUPS.check(states)
        parameters = named_parameters(self.module)
        for index, (optimizer, groups) in enumerate(zip(self.optimizers, states, strict=False)):
            present = {id(p) for group in optimizer.param_groups for p in group["params"]}
            missing = groups[(first := len(optimizer.param_groups)) :]
            for number, names in enumerate(missing, first):
                for name in names:
                    if name and plain_name(name) not in parameters:
                        problem = f"a group added during training has {name!r}, which the module has not"
                        raise StateError(f"{problem}; resume with the module that was trained", index, number)
            found = [[parameters.get(plain_name(name)) for name in group] for group in missing]
            if all(p is not None and id(p) not in present for group in found for p in group):
                for group in found:
                    optimizer.add_param_group({"params": group})


def can_train(checkpoint: Mapping[str, Any]) -> bool:
    """Whether it holds what training needs to go on, beside the weights."""
    return "optimizer_states" in checkpoint and ("loop" in checkpoint or is_lightnings(checkpoint))


def is_lightnings(checkpoint: Mapping[str, Any]) -> bool:
    """Whether Lightning wrote it, with its loops."""
    return "pytorch-lightning_version" in checkpoint and "loops" in checkpoint and "loop" not in checkpoint
