"""The lifecycle: every hook's name, place and arguments in one table, and the dispatcher that calls them.

The table is the documentation: docs/lifecycle.md is generated from it, and a test compares it with the
calls of a real run. Letters say who has the hook, in the order in which they are called:
`D` data module, `C` callbacks in their order, `M` module; `D/M` the data module's, and the module's only where the
data module has none. A callback's hook gets `(trainer, module)` first.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from lightkit.contracts import HookFn


@dataclass(frozen=True)
class Hook:
    """One hook: who has it (in calling order), its arguments after `self`, and what it is for."""

    owners: str
    name: str
    args: str
    doc: str


@dataclass(frozen=True)
class Block:
    """Hooks that repeat together, `for` each of something."""

    each: str
    steps: tuple[Hook | Block, ...]


def _evaluation(stage: str) -> tuple[Hook | Block, ...]:
    """The hooks of one pass over evaluation data; `stage` is validation, test or predict."""
    batch_args = "batch, batch_idx, dataloader_idx=0"
    step_doc = "the forward pass and what is logged of it" if stage != "predict" else "what to return for a batch"
    return (
        Hook("M", f"on_{stage}_model_eval", "", "default: remember each submodule's mode, then `eval()`"),
        Hook("CM", f"on_{stage}_start", "", "the pass begins"),
        Hook("CM", f"on_{stage}_epoch_start", "", "as above; kept for symmetry with training"),
        Block(f"{stage} batch", (
            *_transfer(),
            Hook("CM", f"on_{stage}_batch_start", batch_args, "before the step"),
            Hook("M", f"{stage}_step", "batch, batch_idx, dataloader_idx=0", step_doc),
            Hook("CM", f"on_{stage}_batch_end", f"outputs, {batch_args}", "after the step"),
        )),
        Hook("CM", f"on_{stage}_epoch_end", "", "all batches are done; what is logged here joins the metrics"),
        Hook("CM", f"on_{stage}_end", "", "metrics are reduced and written; checkpoint callbacks come last"),
        Hook("M", f"on_{stage}_model_train", "", "default: each submodule has its mode again; `super()`: `train()`"),
    )  # fmt: skip


def _transfer() -> tuple[Hook, ...]:
    return (
        Hook("D/M", "on_before_batch_transfer", "batch, dataloader_idx", "change the batch where the loader left it"),
        Hook("D/M", "transfer_batch_to_device", "batch, device, dataloader_idx", "default: every tensor in it"),
        Hook("D/M", "on_after_batch_transfer", "batch, dataloader_idx", "change the batch on the device"),
    )


_SETUP = (
    Hook("M", "configure_callbacks", "", "callbacks that belong to the module; replace the trainer's of that type"),
    Hook("DM", "prepare_data", "", "download, write to disk; assign nothing"),
    Hook("DCM", "setup", "stage", "build data sets and layers; stage: 'fit', 'validate', 'test' or 'predict'"),
    Hook("M", "configure_model", "", "build large layers, on the device, once"),
)
_TEARDOWN = (Hook("DCM", "teardown", "stage", "the run is over, also after an error"),)

_TRAIN_BATCH = Block("train batch", (
    *_transfer(),
    Hook("CM", "on_train_batch_start", "batch, batch_idx", "return -1 to skip the rest of the epoch"),
    Hook("M", "optimizer_step", "epoch, batch_idx, optimizer, optimizer_closure", "the update; override: call step"),
    Hook("M", "training_step", "batch, batch_idx", "return the loss, a dict with `loss`, or None to skip"),
    Hook("CM", "on_before_zero_grad", "optimizer", "gradients of the last update are still there"),
    Hook("M", "optimizer_zero_grad", "epoch, batch_idx, optimizer", "default: `set_to_none`"),
    Hook("CM", "on_before_backward", "loss", "loss: scalar, scaled for accumulation"),
    Hook("M", "backward", "loss", "default: `loss.backward()`, with the precision's scaling"),
    Hook("CM", "on_after_backward", "", "gradients of this micro-batch are added"),
    Hook("CM", "on_before_optimizer_step", "optimizer", "gradients are complete, unscaled, not yet clipped"),
    Hook("M", "configure_gradient_clipping", "optimizer, gradient_clip_val, gradient_clip_algorithm", "clip here"),
    Hook("M", "lr_scheduler_step", "scheduler, metric", "schedulers with interval `step`, and `epoch` ones at its end"),
    Hook("CM", "on_train_batch_end", "outputs, batch, batch_idx", "outputs: what training_step returned, detached"),
))  # fmt: skip

FIT = Block("fit", (
    *_SETUP,
    Hook("M", "configure_optimizers", "", "optimizers and schedulers, in any of the documented forms"),
    Hook("CM", "on_fit_start", "", "everything is in place, nothing has run"),
    Hook("D/M", "train_dataloader", "", "unless loaders are given to `fit`"),
    Block("sanity check", (
        Hook("C", "on_sanity_check_start", "", "a few validation batches before training"),
        Hook("D/M", "val_dataloader", "", "one loader or several; without a sanity check, right before on_train_start"),
        *_evaluation("validation"),
        Hook("C", "on_sanity_check_end", "", "its metrics are thrown away"),
    )),
    Hook("CM", "on_train_start", "", "training begins, or goes on from a checkpoint"),
    Block("epoch", (
        Hook("CM", "on_train_epoch_start", "", "not called where a run is resumed inside the epoch"),
        _TRAIN_BATCH,
        Block("validation", (
            Hook("M", "on_validation_model_zero_grad", "", "default: free the gradients"),
            *_evaluation("validation"),
        )),
        Hook("CM", "on_train_epoch_end", "", "epoch means are in `callback_metrics`; early stopping comes after M"),
        Hook("M", "lr_scheduler_step", "scheduler, metric", "schedulers that wait for a metric (ReduceLROnPlateau)"),
    )),
    Hook("CM", "on_train_end", "", "after the last epoch"),
    Hook("CM", "on_fit_end", "", "the last hook of a fit before teardown"),
    *_TEARDOWN,
))  # fmt: skip


def _standalone(stage: str, name: str) -> Block:
    method = f"{'val' if name == 'validation' else name}_dataloader"
    loader = Hook("D/M", method, "", "unless loaders are given")
    return Block(stage, (*_SETUP, loader, *_evaluation(name), *_TEARDOWN))


VALIDATE = _standalone("validate", "validation")
TEST = _standalone("test", "test")
PREDICT = _standalone("predict", "predict")

ANYWHERE = Block("any time", (
    Hook("CM", "on_save_checkpoint", "checkpoint", "add to what is saved"),
    Hook("MC", "on_load_checkpoint", "checkpoint", "read it back, before weights are loaded"),
    Hook("DC", "on_exception", "exception", "the error is raised again afterwards"),
))  # fmt: skip

# The earlier style (0.7 to 1.9). Outputs are kept only where one of the `*_epoch_end` hooks is defined.
LEGACY = Block("earlier style", (
    Hook("M", "training_step_end", "output", "after training_step; returns what to go on with"),
    Hook("M", "training_epoch_end", "outputs", "outputs: one entry a batch, detached; before on_train_epoch_end"),
    Hook("M", "validation_step_end", "output", "after validation_step"),
    Hook("M", "validation_epoch_end", "outputs", "may return {'val_loss': ..., 'log': {...}, 'progress_bar': {...}}"),
    Hook("M", "test_step_end", "output", "after test_step; also called test_loop_step_end"),
    Hook("M", "test_epoch_end", "outputs", "as validation_epoch_end; also called test_loop_epoch_end"),
))  # fmt: skip

LEGACY_TURNS = ("on_epoch_start", "on_epoch_end", "on_batch_start", "on_batch_end")  # of callbacks and modules

LEGACY_ALIASES = {f"test_loop_{end}": f"test_{end}" for end in ("step", "step_end", "epoch_end")}


def walk(block: Block) -> Iterator[Hook]:
    """Every hook of a block, in order, each block inside once."""
    for step in block.steps:
        yield from (step,) if isinstance(step, Hook) else walk(step)


HOOK_NAMES = frozenset(hook.name for block in (FIT, VALIDATE, TEST, PREDICT, ANYWHERE, LEGACY) for hook in walk(block))


def document(cls: type) -> None:
    """Let `help` say of the hooks that do nothing what the table says; those with a text of their own keep it."""
    for hook in (hook for block in (FIT, VALIDATE, TEST, PREDICT, ANYWHERE) for hook in walk(block)):
        own = vars(cls).get(hook.name)
        if own is not None and own.__doc__ is None:
            own.__doc__ = f"{hook.doc[0].upper()}{hook.doc[1:]}."


def overrides(obj: object, base: type, name: str) -> bool:
    """Whether `obj` has its own `name`, from a subclass of `base` or set on the object itself, where None is none."""
    own = getattr(obj, "__dict__", {})
    if name in own:
        return own[name] is not None
    mine = getattr(type(obj), name, None)
    return mine is not None and mine is not getattr(base, name, None)


def method_of(obj: object, base: type, name: str) -> Callable[..., Any]:
    """What to call as `name` of `obj`: where it set that to None, what `base` does."""
    found: Callable[..., Any] | None = getattr(obj, name)
    return found if found is not None else getattr(base, name).__get__(obj)


def accepts_positional(fn: Callable[..., object], count: int) -> bool:
    """Whether `fn` can be called with `count` positional arguments (a bound method without its self)."""
    own = getattr(fn, "__func__", None)
    return _positional(fn) >= count if own is None else _positional(own) - 1 >= count


def parameter_names(fn: Callable[..., object]) -> frozenset[str]:
    """The names of the arguments of `fn`."""
    return _names(getattr(fn, "__func__", fn))


@lru_cache(maxsize=1024)
def _names(fn: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(fn).parameters)


@lru_cache(maxsize=1024)  # asked anew for every epoch and validation, and an inspection costs 50 microseconds
def _positional(fn: Callable[..., object]) -> float:
    try:
        kinds = [p.kind for p in inspect.signature(fn).parameters.values()]
    except (TypeError, ValueError):  # builtins without a signature take what they take
        return math.inf
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return math.inf
    return sum(k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in kinds)


class Dispatcher:
    """Finds who overrides a hook, once, so that calling a hook nobody overrides costs one truth test.

    What was found is kept until `refresh` (called as epochs begin and end, and as evaluations begin) sees that an owner
    has changed.

    `bases` are the classes whose own do-nothing hooks do not count: those of the data module, the callbacks
    and the module; last, the class of the callbacks that save checkpoints. `timed` gives back a hook as a section of a
    profiler's.
    """

    def __init__(
        self, trainer: object, module: object, datamodule: object, callbacks: Iterable[object], bases: tuple[type, ...],
        timed: Callable[[str, HookFn], HookFn] | None = None,
    ):  # fmt: skip
        self.trainer, self.module, self.datamodule, self.timed = trainer, module, datamodule, timed
        self.callbacks = list(callbacks)
        self.datamodule_base, self.callback_base, self.module_base, self.checkpoint_base = bases
        self.owners = [owner for owner in (module, datamodule, *self.callbacks) if owner is not None]
        self.sizes: list[int] = []  # of the owners' attributes, when the hooks were looked for
        self.bound: dict[tuple[str, str], list[HookFn]] = {}

    def refresh(self) -> None:
        """Look for the hooks anew where an owner has got or lost attributes, which may be hooks."""
        sizes = [len(vars(owner)) for owner in self.owners]
        if sizes != self.sizes:
            self.sizes = sizes
            self.bound.clear()

    def join(self, callbacks: Iterable[object]) -> None:
        """Those that are new take part from now on; in a batch's hooks from the next epoch or evaluation on."""
        new = [callback for callback in callbacks if all(callback is not known for known in self.callbacks)]
        self.callbacks += new
        self.owners += new
        self.bound.clear()

    def bind(self, name: str, owners: str = "CM") -> list[HookFn]:
        """Everyone's own `name` in the order of `owners`.

        D data module, M module, C callbacks without those that save checkpoints, S those that save, W callbacks that
        watch a metric (`monitor`), N those that neither save nor watch.
        """
        found = self.bound.get((name, owners))
        if found is None:
            found = self._find(name, owners)
            if not any(name in vars(owner) for owner in self.owners):  # one set on an object may be set again
                self.bound[name, owners] = found
        return found

    def _find(self, name: str, owners: str) -> list[HookFn]:
        found: list[HookFn] = []
        own = {"M": (self.module, self.module_base), "D": (self.datamodule, self.datamodule_base)}
        for kind in owners:
            if kind in own:
                owner, base = own[kind]
                found += [getattr(owner, name)] if owner is not None and overrides(owner, base, name) else []
                continue
            for callback in self.callbacks:
                if self._is(kind, callback) and overrides(callback, self.callback_base, name):
                    found.append(partial(getattr(callback, name), self.trainer, self.module))
        return found if self.timed is None else [self.timed(name, hook) for hook in found]

    def _is(self, kind: str, callback: object) -> bool:
        if isinstance(callback, self.checkpoint_base):
            return kind == "S"
        watches = getattr(callback, "monitor", None) is not None
        return kind == "C" or kind == ("W" if watches else "N")
