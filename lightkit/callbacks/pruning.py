"""Prune weights while training, with torch.nn.utils.prune."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lightkit.callbacks.base import Callback
from lightkit.errors import CheckpointError, ConfigError, did_you_mean
from lightkit.module import LightModule

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

__all__ = ["ModelPruning"]

Amount = int | float
ParamList = Sequence[tuple[nn.Module, str]]  # a module, and the name of one of its parameters

_METHODS: dict[str, tuple[Callable[..., Any], type[prune.BasePruningMethod]]] = {
    "l1_unstructured": (prune.l1_unstructured, prune.L1Unstructured),
    "ln_structured": (prune.ln_structured, prune.LnStructured),
    "random_structured": (prune.random_structured, prune.RandomStructured),
    "random_unstructured": (prune.random_unstructured, prune.RandomUnstructured),
}
_ORIG, _MASK = "_orig", "_mask"  # what torch appends to the name of a parameter that is pruned
_HOLDERS = (LightModule, nn.Sequential, nn.ModuleList, nn.ModuleDict)  # whose parameters are those of parts
_PAIRING = ("WeightAveraging", "StochasticWeightAveraging")  # callbacks that pair the parameters of two modules


class _First(NamedTuple):
    """A module as it was before training, and the names of its parameters that are pruned."""

    module: nn.Module
    now: nn.Module
    names: list[str]


class ModelPruning(Callback):
    """Sets the least important weights to zero at the end of epochs, and keeps them there.

    Arguments and semantics are Lightning 2.6's. A pruned parameter `weight` is the parameter `weight_orig` and the
    buffer `weight_mask`, as torch has it; the optimizer goes on with the same parameter. Masks, original values and
    those that the lottery ticket goes back to are this callback's state: a resumed run goes on to the bit.

    Override `filter_parameters_to_prune` to choose among the parameters.

    Args:
        pruning_fn: "l1_unstructured", "ln_structured", "random_structured", "random_unstructured", or a subclass of
            `torch.nn.utils.prune.BasePruningMethod`.
        parameters_to_prune: pairs of a module and the name of its parameter; empty: `parameter_names` of all modules.
        parameter_names: which of "weight" and "bias"; None: both.
        use_global_unstructured: compare all parameters with one another, not each by itself.
        amount: how many are pruned each time: a share of those that are left, a count, or a function of the epoch.
        apply_pruning: whether to prune; a function of the epoch says it for each.
        make_pruning_permanent: a checkpoint has `weight` alone, and so has the module when the training ends.
        use_lottery_ticket_hypothesis: after pruning, set what is left to the values from before training
            (https://arxiv.org/abs/1803.03635); a function of the epoch says it for each.
        resample_parameters: set it to values drawn anew instead, by the modules' `reset_parameters`.
        pruning_dim: the dimension along which a structured method prunes.
        pruning_norm: the `n` of "ln_structured".
        verbose: 1: say how many are pruned; 2: of each parameter, too.
        prune_on_train_epoch_end: at the end of the training epoch; False: of the validation.

    Raises:
        ConfigError: arguments that cannot work together; in `fit`: parameters that the module has not, or weights that
            another callback averages.
    """

    PARAMETER_NAMES = ("weight", "bias")

    def __init__(
        self, pruning_fn: Callable[..., Any] | str, parameters_to_prune: ParamList = (),
        parameter_names: list[str] | None = None, use_global_unstructured: bool = True,
        amount: Amount | Callable[[int], Amount] = 0.5, apply_pruning: bool | Callable[[int], bool] = True,
        make_pruning_permanent: bool = True, use_lottery_ticket_hypothesis: bool | Callable[[int], bool] = True,
        resample_parameters: bool = False, pruning_dim: int | None = None, pruning_norm: int | None = None,
        verbose: int = 0, prune_on_train_epoch_end: bool = True,
    ) -> None:  # fmt: skip
        self._given = parameters_to_prune
        self._use_global_unstructured = use_global_unstructured
        self._parameter_names: Sequence[str] = parameter_names or self.PARAMETER_NAMES
        self.amount = amount
        self._apply_pruning, self._make_pruning_permanent = apply_pruning, make_pruning_permanent
        self._use_lottery_ticket_hypothesis = use_lottery_ticket_hypothesis
        self._resample_parameters = resample_parameters
        self._verbose, self._prune_on_train_epoch_end = verbose, prune_on_train_epoch_end
        for name in self._parameter_names:
            if name not in self.PARAMETER_NAMES:
                given = f"ModelPruning(parameter_names={parameter_names!r})"
                raise ConfigError(f"{given}: expected 'weight', 'bias' or both")
        if not (_is_number(amount) or callable(amount)):
            raise ConfigError(f"ModelPruning(amount={amount!r}): expected a share, a count, or a function of the epoch")
        if verbose not in (0, 1, 2):
            raise ConfigError(f"ModelPruning(verbose={verbose!r}): expected 0, 1 or 2")
        self.pruning_fn = self._method(pruning_fn, pruning_dim, pruning_norm)
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        # a copy is of the callback, not of the module that it prunes
        return {**super().__getstate__(), "_parameters_to_prune": (), "_original_layers": {}}

    def _begin(self) -> None:
        """Nothing has been pruned yet."""
        self._parameters_to_prune: ParamList = ()
        self._original_layers: dict[int, _First] = {}
        self._loaded: dict[str, Any] | None = None

    def _method(self, given: Callable[..., Any] | str, dim: int | None, norm: int | None) -> Callable[..., Any]:
        """What prunes: a method for all parameters at once, or a function for one."""
        if not isinstance(given, str):
            if not (isinstance(given, type) and issubclass(given, prune.BasePruningMethod)):
                raise ConfigError(
                    f"ModelPruning(pruning_fn={given!r}): expected a subclass of torch.nn.utils.prune."
                    f"BasePruningMethod, or one of {_listed(_METHODS)}"
                )
            self._pruning_method_name = given.__name__
            if not self._use_global_unstructured:
                raise ConfigError(
                    f"ModelPruning(pruning_fn={given.__name__}, use_global_unstructured=False): a class prunes all "
                    f"parameters at once; give the name of one of torch's functions, {_listed(_METHODS)}"
                )
            return self._unstructured(given)
        name = given.lower()
        if name not in _METHODS:
            hint = did_you_mean(given, _METHODS)
            raise ConfigError(f"ModelPruning(pruning_fn={given!r}): expected one of {_listed(_METHODS)}{hint}")
        options: dict[str, Any] = {}
        if name.endswith("_structured"):
            if dim is None:
                raise ConfigError(f"ModelPruning(pruning_fn={given!r}): needs pruning_dim, a dimension of the weights")
            options["dim"] = dim
        if name == "ln_structured":
            if norm is None:
                raise ConfigError(f"ModelPruning(pruning_fn={given!r}): needs pruning_norm, the n of its norm")
            options["n"] = norm
        function, method = _METHODS[name]
        if self._use_global_unstructured:
            self._pruning_method_name = method.__name__
            return self._unstructured(method)
        self._pruning_method_name = function.__name__
        return partial(function, **options)

    def _unstructured(self, method: type[prune.BasePruningMethod]) -> type[prune.BasePruningMethod]:
        kind = getattr(method, "PRUNING_TYPE", None)
        if kind != "unstructured":
            raise ConfigError(
                f"ModelPruning(pruning_fn={self._pruning_method_name}, use_global_unstructured=True): compares single "
                f"weights of all parameters, and the method is {kind}; give use_global_unstructured=False"
            )
        return method

    # ------------------------------------------------------------ which parameters

    def filter_parameters_to_prune(self, parameters_to_prune: ParamList = ()) -> ParamList:
        """Return those that are pruned; override it to choose."""
        return parameters_to_prune

    @staticmethod
    def sanitize_parameters_to_prune(
        pl_module: nn.Module, parameters_to_prune: ParamList = (), parameter_names: Sequence[str] = ()
    ) -> ParamList:
        """Return the parameters asked for, or where none are all of the module's with these names.

        Raises ConfigError for what is not of that form, or not in the module.
        """
        names = parameter_names or ModelPruning.PARAMETER_NAMES
        if not parameters_to_prune:
            modules = [m for m in pl_module.modules() if not isinstance(m, _HOLDERS)]
            return [(m, name) for name in names for m in modules if isinstance(getattr(m, name, None), nn.Parameter)]
        if not isinstance(parameters_to_prune, list | tuple) or not all(map(_is_pair, parameters_to_prune)):
            raise ConfigError(
                "ModelPruning(parameters_to_prune=...): expected pairs of a module and the name of its parameter, such "
                'as [(model.layer, "weight")]'
            )
        known = {id(module) for module in pl_module.modules()}
        for module, name in parameters_to_prune:
            if id(module) not in known or not isinstance(getattr(module, name, None), Tensor):
                raise ConfigError(
                    f"ModelPruning(parameters_to_prune=...): {type(pl_module).__name__} has no such "
                    f"{type(module).__name__} with {name!r}; give modules of the one that is fitted"
                )
        return parameters_to_prune

    # ------------------------------------------------------------ hooks

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Find the parameters, and keep their values for the lottery ticket."""
        if stage != "fit":
            return
        for callback in trainer.callbacks:
            kind = next((base.__name__ for base in type(callback).__mro__ if base.__name__ in _PAIRING), None)
            if kind is not None:
                raise ConfigError(
                    f"ModelPruning and {type(callback).__name__}: pruning replaces parameters that {kind} averages by "
                    "their place; use one of them"
                )
        self._begin()
        found = self.sanitize_parameters_to_prune(pl_module, self._given, self._parameter_names)
        self._parameters_to_prune = self.filter_parameters_to_prune(found)
        if self._use_lottery_ticket_hypothesis:
            for module, name in self._parameters_to_prune:
                first = self._original_layers.get(id(module))
                if first is None:
                    first = self._original_layers[id(module)] = _First(copy.deepcopy(module), module, [])
                first.names.append(name)

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Prune again what was pruned when the checkpoint was saved: the optimizer has its parameters by now."""
        state, self._loaded = self._loaded, None
        if state is None:
            return
        owners = self._by_name(pl_module)
        unknown = (state["masks"].keys() | state["first"].keys()) - owners.keys()
        if unknown:
            where = f"{trainer.ckpt_path}: checkpoint['callbacks'][{self.state_key!r}]"
            raise CheckpointError(
                f"{where} has {_listed(sorted(unknown)[:5])}, which is not pruned in {type(pl_module).__name__}; "
                "resume with the module and the arguments that were trained"
            )
        with torch.no_grad():
            for name, mask in state["masks"].items():
                module, own = owners[name]
                original = getattr(module, own)
                prune.custom_from_mask(module, own, mask.to(original.device))
                _parameter(module, own).copy_(state["originals"][name])
            for name, value in state["first"].items():
                module, own = owners[name]
                if id(module) in self._original_layers:
                    _parameter(self._original_layers[id(module)].module, own).copy_(value)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Prune, if this is the time to."""
        if self._prune_on_train_epoch_end:
            self._run_pruning(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Prune, if this is the time to."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not self._prune_on_train_epoch_end:
            self._run_pruning(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Leave plain parameters in the module."""
        if self._make_pruning_permanent:
            self.make_pruning_permanent(pl_module)

    # ------------------------------------------------------------ pruning

    def _run_pruning(self, trainer: Trainer) -> None:
        epoch = trainer.current_epoch
        amount = self.amount(epoch) if callable(self.amount) else self.amount
        if not _decide(self._apply_pruning, epoch) or not amount:
            return
        before = self._counts() if self._verbose else []
        self.apply_pruning(amount)
        if self._verbose:
            self._say(trainer, before, amount)
        if _decide(self._use_lottery_ticket_hypothesis, epoch):
            self.apply_lottery_ticket_hypothesis()

    def apply_pruning(self, amount: Amount) -> None:
        """Prune so many of the parameters."""
        if self._use_global_unstructured:
            takes_amount = "amount" in inspect.signature(self.pruning_fn).parameters
            options = {"amount": amount} if takes_amount else {}
            prune.global_unstructured(self._parameters_to_prune, pruning_method=self.pruning_fn, **options)
        else:
            for module, name in self._parameters_to_prune:
                self.pruning_fn(module, name=name, amount=amount)

    def apply_lottery_ticket_hypothesis(self) -> None:
        """Set the parameters to the values from before training, or to values drawn anew; masks stay."""
        for first in self._original_layers.values():
            source = first.module
            if self._resample_parameters and callable(getattr(source, "reset_parameters", None)):
                source = copy.deepcopy(source)
                cast(Any, source).reset_parameters()
            with torch.no_grad():
                for name in first.names:
                    _parameter(first.now, name).copy_(_parameter(source, name))

    def make_pruning_permanent(self, module: nn.Module) -> None:
        """Give every pruned module its plain parameter back, zeros included."""
        for part in module.modules():
            for key, hook in list(part._forward_pre_hooks.items()):
                if isinstance(hook, prune.BasePruningMethod):
                    hook.remove(part)
                    del part._forward_pre_hooks[key]

    def _counts(self) -> list[tuple[int, int]]:
        """Of each parameter how many are pruned, and how many there are."""
        found = []
        for module, name in self._parameters_to_prune:
            mask = getattr(module, name + _MASK, None)
            found.append((0, getattr(module, name).numel()) if mask is None else (int((mask == 0).sum()), mask.numel()))
        return found

    def _say(self, trainer: Trainer, before: list[tuple[int, int]], amount: Amount) -> None:
        method, now = self._pruning_method_name, self._counts()
        total = sum(count for _, count in now)
        was, are = (sum(zeros for zeros, _ in counts) for counts in (before, now))
        trainer.print(f"ModelPruning: {method}: {_share(was, total)} -> {_share(are, total)} pruned")
        if self._verbose < 2:
            return
        for (module, name), (old, _), (new, size) in zip(self._parameters_to_prune, before, now, strict=True):
            of = f"{module!r}.{name}, amount={amount}"
            trainer.print(f"ModelPruning: {method}: {of}: {_share(old, size)} -> {_share(new, size)} pruned")

    # ------------------------------------------------------------ checkpoints

    def _by_name(self, module: nn.Module) -> dict[str, tuple[nn.Module, str]]:
        """The parameters by the name that they have in the module's state, pruned or not."""
        from lightkit.checkpoint.weights import plain_name

        names = {id(part): name for name, part in module.named_modules()}
        found = [(f"{plain_name(names[id(part)])}.{own}", (part, own)) for part, own in self._parameters_to_prune]
        return {name.removeprefix("."): owner for name, owner in found}

    def state_dict(self) -> dict[str, Any]:
        """Return the masks, the original values below them, and those from before training."""
        owners = self._by_name(self._running_module) if self._parameters_to_prune else {}
        pruned = {name: owner for name, owner in owners.items() if hasattr(owner[0], owner[1] + _MASK)}
        first = {
            name: _parameter(self._original_layers[id(module)].module, own).detach()
            for name, (module, own) in owners.items()
            if id(module) in self._original_layers
        }
        return {
            "masks": {name: getattr(module, own + _MASK) for name, (module, own) in pruned.items()},
            "originals": {name: _parameter(module, own).detach() for name, (module, own) in pruned.items()},
            "first": first,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a saved state until the optimizers are made; StateError for what is no state of this callback."""
        from lightkit.schema import TENSOR, DictOf, Record

        tensors = DictOf(TENSOR)
        Record(dict.fromkeys(("masks", "originals", "first"), tensors)).check(state_dict)
        DictOf(TENSOR).check({name: state_dict["originals"].get(name) for name in state_dict["masks"]}, "originals")
        self._loaded = state_dict

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightModule, checkpoint: dict[str, Any]) -> None:
        """Put plain weights into the file, where they are to be permanent; the training goes on with its masks."""
        if self._make_pruning_permanent:
            checkpoint["state_dict"] = _permanent(checkpoint["state_dict"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightModule, checkpoint: dict[str, Any]) -> None:
        """Give the module, which is not pruned yet, plain weights."""
        checkpoint["state_dict"] = _permanent(checkpoint["state_dict"])


def _permanent(state: dict[str, Any]) -> dict[str, Any]:
    """Weights under their plain names, zero where their masks are."""
    pruned = [name.removesuffix(_MASK) for name in state if name.endswith(_MASK)]
    pruned = [name for name in pruned if name + _ORIG in state]
    gone = {name + end for name in pruned for end in (_ORIG, _MASK)}
    plain = {name: state[name + _MASK].to(state[name + _ORIG].dtype) * state[name + _ORIG] for name in pruned}
    return {**{name: value for name, value in state.items() if name not in gone}, **plain}


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    """The parameter of that name, which has another one where it is pruned."""
    return cast(nn.Parameter, getattr(module, name + _ORIG if hasattr(module, name + _ORIG) else name))


def _decide(given: bool | Callable[[int], bool], epoch: int) -> bool:
    return given(epoch) if callable(given) else given


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(item: object) -> bool:
    if not isinstance(item, list | tuple) or len(item) != 2:
        return False
    return isinstance(item[0], nn.Module) and isinstance(item[1], str)


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))


def _share(count: int, total: int) -> str:
    return f"{count}/{total} ({count / total:.2%})"
