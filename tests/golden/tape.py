"""What a job leaves on tape: the order of its hooks, losses, metrics, weights, files and contents of checkpoints.

Only what users can reach is read: hooks, a logger, public attributes of the trainer, files on disk.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

import lightkit as lk
from lightkit.loggers import Logger

C = TypeVar("C", bound=type)

_PASSES = ("train", "validation", "test", "predict")
_UPDATES = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_AROUND = tuple(
    f"on_{name}_{when}"
    for name in _PASSES
    for when in ("start", "epoch_start", "batch_start", "batch_end", "epoch_end", "end")
)
_SHARED = ("setup", "teardown", "on_fit_start", "on_fit_end", "on_save_checkpoint", "on_load_checkpoint")
_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
_STEPS = ("training_step", "validation_step", "test_step", "predict_step")
_EARLIER = tuple(
    f"{name}_{end}" for name in ("training", "validation", "test", "test_loop") for end in ("step_end", "epoch_end")
)

CALLBACK_HOOKS = (
    *_SHARED, *_AROUND, *_UPDATES, "on_sanity_check_start", "on_sanity_check_end", "on_exception",
)  # fmt: skip
MODULE_HOOKS = (
    *_SHARED, *_AROUND, *_UPDATES, *_LOADERS, *_STEPS, *_EARLIER, "test_loop_step", "configure_callbacks",
    "prepare_data", "configure_model", "configure_optimizers", "on_validation_model_zero_grad",
)  # fmt: skip
# to override one of these changes the way that a step takes
ENGINE_HOOKS = (*_TRANSFER, "optimizer_zero_grad", "backward", "configure_gradient_clipping", "lr_scheduler_step")
DATA_HOOKS = (
    "prepare_data", "setup", "teardown", "on_exception", "state_dict", "load_state_dict", *_LOADERS, *_TRANSFER,
)  # fmt: skip
_WITH_FLOATS = frozenset((*_UPDATES, "lr_scheduler_step", "configure_gradient_clipping", "on_validation_start"))
_ONLY_WHERE_DEFINED = frozenset((*_LOADERS, *_STEPS))


class Tape:
    """Everything that was told while one run was on."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []  # (state, owner, name(arguments))
        self.steps: list[list[Any]] = []
        self.floats: list[list[Any]] = []
        self.metrics: list[list[Any]] = []
        self.logged: list[list[Any]] = []
        self._last_read: dict[str, float] = {}

    def tell(self, owner: str, call: str, trainer: Any) -> None:
        """Write a call down, with what the trainer says of itself at that moment."""
        self.calls.append((state_of(trainer), owner, call))

    def step(self, batch: Any, batch_idx: int, loss: Any) -> None:
        """Write a training step down: which samples, which loss."""
        ids = " ".join(str(int(i)) for i in batch[-1])
        self.steps.append([batch_idx, ids, float(loss.detach())])

    def read(self, when: str, metrics: dict[str, float]) -> None:
        """Write down which metrics have changed since they were read last; None: it is gone."""
        before = self._last_read
        gone = [name for name in before if name not in metrics]
        changed = {name: value for name, value in metrics.items() if before.get(name) != value}
        self.metrics.append([when, {**changed, **dict.fromkeys(gone)}])
        self._last_read = metrics

    def order(self) -> list[str]:
        """The calls, one line for each state: `fit/train e0 s3: CM.on_train_batch_start(3) M.training_step(3)`."""
        lines: list[str] = []
        state, owners, call = "", "", ""
        parts: list[str] = []
        for new_state, owner, new_call in [*self.calls, ("", "", "")]:
            if (new_state, new_call) == (state, call) and owner not in owners:
                owners += owner  # `CM.on_fit_start`: the callback's, then the module's
                continue
            if call:
                parts.append(f"{owners}.{call}")
            if new_state != state and parts:
                lines.append(f"{state}: {' '.join(parts)}")
                parts = []
            state, owners, call = new_state, owner, new_call
        return lines


_current: list[Tape] = [Tape()]


def start() -> Tape:
    """Put in a new tape."""
    _current[0] = Tape()
    return _current[0]


def current() -> Tape:
    """The tape that is running."""
    return _current[0]


def state_of(trainer: Any) -> str:
    """`fit/train e1 s7`, or with a status that is not "running", `fit/train/finished e1 s7`."""
    if trainer is None:
        return "-"
    state = trainer.state
    words = [str(state.fn), str(state.stage)] + ([] if state.status == "running" else [str(state.status)])
    return f"{'/'.join(words)} e{trainer.current_epoch} s{trainer.global_step}"


# ---------------------------------------------------------------------- who tells


def told(owner: str, names: Iterable[str]) -> Callable[[C], C]:
    """Let the class write its hooks down before they do what they do."""

    def decorate(cls: C) -> C:
        for name in names:
            original = getattr(cls, name, None)
            is_default = original is getattr(lk.LightModule, name, None) or original is getattr(
                lk.LightDataModule, name, None
            )
            if original is None or (is_default and name in _ONLY_WHERE_DEFINED):
                continue
            setattr(cls, name, _telling(owner, name, original))
        return cls

    return decorate


def _telling(owner: str, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        of_callback = isinstance(self, lk.Callback)
        trainer = values[0] if of_callback else _trainer_of(self)
        told_values = values[2:] if of_callback else values
        call = f"{name}({','.join(x for x in map(_show, told_values) if x)})"
        current().tell(owner, call.removesuffix("()"), trainer)
        if owner == "M" and name in _WITH_FLOATS:
            numbers = [value for value in told_values if isinstance(value, (float, torch.Tensor))]
            floats = [float(torch.as_tensor(value).detach()) for value in numbers]
            current().floats.append([name, *floats, _size_of_gradients(self)])
        return original(self, *args, **kwargs)

    return hook


def _trainer_of(owner: Any) -> Any:
    try:
        return owner.trainer
    except lk.errors.LightkitError:  # no Trainer has it: load_from_checkpoint calls hooks, too
        return None


def _size_of_gradients(module: Any) -> float:
    """The sum of all gradients' absolute values: whether backward, unscaling and clipping have been."""
    found = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return float(sum(gradient.double().abs().sum() for gradient in found))


def _show(value: Any) -> str:
    """A short word for an argument; nothing for batches and numbers that are compared as numbers."""
    if value is None or isinstance(value, (bool, int, str)):
        return str(value)
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, Mapping):
        # a checkpoint's own keys are compared with the file
        return "{...}" if "state_dict" in value else "{" + " ".join(sorted(map(str, value))) + "}"
    if isinstance(value, (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)):
        return type(value).__name__
    return ""


class TapeLogger(Logger):
    """Writes down what a logger is asked to write, and when."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.trainer: Any = None  # set by Teller and Quiet

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.num_calls += 1
        current().tell("L", f"log_metrics({step})", self.trainer)
        current().logged.append([step, {name: float(value) for name, value in metrics.items()}])

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        current().logged.append(["hyperparams", {str(name): value for name, value in dict(params).items()}])

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        current().tell("L", "after_save_checkpoint", self.trainer)

    def finalize(self, status: str) -> None:
        current().tell("L", f"finalize({status})", self.trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"num_calls": self.num_calls}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_calls = state_dict["num_calls"]
        current().tell("L", f"load_state_dict({self.num_calls})", self.trainer)


class Quiet(lk.Callback):
    """Tells only where a run begins and where epochs and validations end: the step takes its shortest way."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TapeLogger):
                logger.trainer = trainer

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        counts = [trainer.num_training_batches, trainer.estimated_stepping_batches, *trainer.num_val_batches]
        current().metrics.append(["on_train_start", {"counts": [float(x) for x in counts]}])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._metrics("on_train_epoch_end", trainer)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._metrics("on_validation_epoch_end", trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._metrics("on_validation_end", trainer)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._metrics("on_test_end", trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._metrics("on_train_end", trainer)

    def _metrics(self, name: str, trainer: Any) -> None:
        current().read(f"{name} {state_of(trainer)}", floats_of(trainer.callback_metrics))


@told("C", CALLBACK_HOOKS)
class Teller(Quiet):
    """Tells every hook, and what a callback can read after every step."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_last_batch:
            current().tell("C", "is_last_batch", trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._metrics("on_train_batch_end", trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"told": True}


@told("W", CALLBACK_HOOKS)
class Watcher(lk.Callback):
    """Watches a metric, as EarlyStopping does: such callbacks come first where a validation ends."""

    monitor = "val_loss"


# ---------------------------------------------------------------------- what is left of a run


def floats_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as python floats."""
    return {name: float(value) for name, value in metrics.items()}


def digest(content: Any, root: Path | None = None) -> str:
    """A short digest of everything in a structure: values, dtypes, shapes; paths without their root."""
    found = hashlib.sha256()
    for path, leaf in _leaves(content):
        found.update(_without_root(path, root).encode())
        if isinstance(leaf, torch.Tensor):
            tensor = leaf.detach().cpu().contiguous()
            found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
        else:
            found.update(_without_root(repr(leaf), root).encode())
    return found.hexdigest()[:16]


def _without_root(text: str, root: Path | None) -> str:
    return text if root is None else text.replace(str(root.resolve()), "<root>")


def _leaves(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping):
        if not content:
            yield path, {}
        for key in sorted(content, key=str):  # the order of keys is nobody's business
            name = str(key)
            yield from _leaves(content[key], f"{path}/{name}" if path else name)
    elif isinstance(content, (list, tuple)) and not _is_row(content):
        for i, item in enumerate(content):
            yield from _leaves(item, f"{path}/{i}")
    else:
        yield path, content


def _is_row(content: Any) -> bool:
    """Whether it is one leaf: plain values, or nothing, in a row."""
    return all(isinstance(x, (bool, int, float, str)) for x in content)


def _type_of(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}".replace(" ", "")
    if isinstance(leaf, (list, tuple)):
        kinds = sorted({type(x).__name__ for x in leaf})
        return f"{type(leaf).__name__}[{len(leaf)} {'|'.join(kinds)}]" if leaf else f"{type(leaf).__name__}[]"
    return type(leaf).__name__


def _tree(content: Mapping[str, Any]) -> list[str]:
    """The kinds of all entries, a line for each parent: `state_dict: bias float32[1], weight float32[1,4]`."""
    lines: dict[str, dict[str, None]] = {}
    for where, leaf in _leaves(content):
        parent, name = _parent_and_name(where)
        kind = _type_of(leaf)
        if parent.startswith("loop/results/"):
            kind = re.sub(r"\[\d+", "[n", kind)  # values of an epoch so far; how many, the digest says
        lines.setdefault(parent, {})[f"{name if '/' not in name else '<path>'} {kind}"] = None
    return [f"{parent}: {', '.join(entries)}" for parent, entries in lines.items()]


def _parent_and_name(where: str) -> tuple[str, str]:
    if "//" in where:  # the key is a path
        parent, _, name = where.partition("//")
        return parent, f"/{name}"
    parent, _, name = where.rpartition("/")
    return parent, name


_READABLE = ("epoch", "global_step", "loop", "callbacks", "lr_schedulers", "loggers", "precision", "class_path")


def checkpoint_contents(path: Path, root: Path, trees: dict[str, list[str]]) -> dict[str, Any]:
    """What a file holds: the kinds of its entries (each list of kinds once, in `trees`), plain values, digests."""
    content = torch.load(path, weights_only=True)
    del content["lightkit_version"]
    tree = _tree(content)
    name = next((name for name, known in trees.items() if known == tree), f"tree {len(trees) + 1}")
    trees.setdefault(name, tree)
    values: dict[str, dict[str, Any]] = {}
    for where, leaf in _leaves({key: content[key] for key in _READABLE if key in content}):
        parent, entry = _parent_and_name(where)
        number = leaf.item() if isinstance(leaf, torch.Tensor) and leaf.dim() == 0 else leaf
        is_running = parent.startswith("loop/results")  # metrics before they are reduced: the digest will do
        if number is not None and not isinstance(number, torch.Tensor) and not is_running:
            text = _without_root(json.dumps([entry, number]), root)
            values.setdefault(_without_root(parent, root), {}).update([json.loads(text)])
    return {
        "entries": name,
        "values": values,
        "digests": {key: digest(part, root) for key, part in content.items() if not isinstance(part, (int, str))},
    }


def end_of(trainer: Any, module: Any) -> dict[str, Any]:
    """What can be read after a run: the trainer's numbers, the weights, the optimizers."""
    weights = module.state_dict()
    optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
    return {
        "state": state_of(trainer),
        "should_stop": trainer.should_stop,
        "counts": [float(trainer.num_training_batches), *map(float, trainer.num_val_batches)],
        "callback_metrics": floats_of(trainer.callback_metrics),
        "logged_metrics": floats_of(trainer.logged_metrics),
        "progress_bar_metrics": floats_of(trainer.progress_bar_metrics),
        "lr": [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups],
        "weights": {name: [float(x) for x in w.detach().reshape(-1)[:3]] for name, w in weights.items()},
        "digests": {"weights": digest(weights), "optimizers": digest(optimizers)},
    }


def recording_of(tape: Tape, trainer: Any, module: Any, root: Path, trees: dict[str, list[str]]) -> dict[str, Any]:
    """All of a run, as it is written to a recording."""
    run = root / "run"
    checkpoints: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for path in sorted(root.rglob("*.ckpt")):
        contents = checkpoint_contents(path, root.parent, trees)
        before, values = values, contents["values"]
        contents["values"] = {key: value for key, value in values.items() if before.get(key) != value}
        checkpoints[str(path.relative_to(root))] = contents  # values: those that differ from the file before
    found = {
        "order": tape.order(),
        "steps": tape.steps,
        "floats": tape.floats,
        "metrics": tape.metrics,
        "logged": tape.logged,
        "end": end_of(trainer, module),
        "files": sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir()),
        "csv": {p.name: p.read_text(encoding="utf-8").splitlines() for p in sorted(run.glob("metrics*.csv"))},
        "checkpoints": checkpoints,
    }
    return {name: part for name, part in found.items() if part or name == "order"}
