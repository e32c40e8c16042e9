"""What a step returned: the loss in it, the earlier style's `log` and `progress_bar`, and outputs that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightkit.devices.transfer import batch_size_of, map_tensors, to_cpu
from lightkit.errors import ConfigError, HookError, NonFiniteError
from lightkit.hooks import overrides
from lightkit.module import LightModule

EXPECTED = "expected the loss (a scalar tensor), a dict with 'loss', or None to skip the batch"
# (prog_bar, logger, on_step, on_epoch, reduce_fx, add_dataloader_idx) of the earlier style's entries
LOG = (False, True, None, None, "mean", True)
BAR = (True, False, None, None, "mean", True)
PLAIN = (False, False, None, None, "mean", True)


def loss_of(output: Any, module: Any, results: Any) -> Tensor | None:
    """The loss in what training_step returned; logs the earlier style's `log` and `progress_bar` entries.

    Raises:
        HookError: neither loss, dict with `loss` nor None; or a loss that cannot be learned from.
    """
    if output is None:
        return None
    loss = output
    if isinstance(output, Mapping):
        if "loss" not in output:
            keys = ", ".join(repr(k) for k in output)
            raise HookError(
                f"{type(module).__name__}.training_step returned a dict with {keys or 'no keys'}; {EXPECTED}"
            )
        loss = output["loss"]
        if "log" in output or "progress_bar" in output:
            log_entries(results, output)
    if not isinstance(loss, Tensor):
        raise HookError(f"{type(module).__name__}.training_step returned a {type(loss).__name__}; {EXPECTED}")
    return loss


def not_finite(value: float, progress: Any, index: int) -> NonFiniteError:
    """What to raise for a loss that is NaN or infinite."""
    return NonFiniteError(
        f"the loss is {value} in epoch {progress.epoch}, batch {index} (step {progress.global_step}); "
        "training stopped, checkpoints saved before are untouched. Try a lower learning rate, "
        "gradient_clip_val=1.0 or detect_anomaly=True; Trainer(nan_check='off') goes on regardless"
    )


def weight_of(output: Any, batch: Any) -> Any:
    """What a micro-batch counts: its `num_items` where training_step returns it, else its batch size."""
    if isinstance(output, dict) and "num_items" in output:
        return output["num_items"]
    try:
        return batch_size_of(batch)
    except ConfigError:
        return 1


def check_loss(loss: Tensor, module: Any) -> None:
    """Raise HookError for a loss without gradient or with several elements."""
    where = f"{type(module).__name__}.training_step"
    if loss.numel() != 1:
        raise HookError(
            f"{where} returned a loss of shape {tuple(loss.shape)}; expected a scalar: use .mean() or .sum()"
        )
    if not loss.requires_grad:
        raise HookError(
            f"{where} returned a loss without gradient: nothing it was computed from requires one; are all parameters "
            "frozen, or was it detached (.item(), .detach(), torch.no_grad())?"
        )


def log_entries(results: Any, output: Mapping[str, Any]) -> None:
    """Log what the earlier style returns under `log` and `progress_bar`."""
    bar = output.get("progress_bar") or {}
    for name, value in (output.get("log") or {}).items():
        results.log(name, value, (name in bar, *LOG[1:]), None)
    for name, value in bar.items():
        if name not in (output.get("log") or {}):
            results.log(name, value, BAR, None)


def log_epoch_end(results: Any, output: Any, hook: str, module: Any) -> None:
    """Log what an earlier-style `*_epoch_end(outputs)` returned: `log`, `progress_bar`, and scalars for callbacks."""
    if output is None:
        return
    if not isinstance(output, Mapping):
        raise HookError(f"{type(module).__name__}.{hook} returned a {type(output).__name__}; expected a dict or None")
    log_entries(results, output)
    seen = {*(output.get("log") or {}), *(output.get("progress_bar") or {}), "log", "progress_bar"}
    for name, value in output.items():
        if name not in seen and (isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)):
            results.log(name, value, PLAIN, None)


def detached(output: Any) -> Any:
    """The same structure with its tensors cut from their graphs."""
    return map_tensors(output, Tensor.detach)


def as_outputs(output: Any) -> Any:
    """What on_train_batch_end gets: a dict with the detached loss and whatever else the step returned, or None."""
    if output is None:
        return None
    return detached(output) if isinstance(output, Mapping) else {"loss": output.detach()}


class KeptOutputs:
    """What the steps of an epoch returned, kept only where an earlier-style `*_epoch_end(outputs)` wants it."""

    def __init__(self, module: Any, hook: str, *, is_training: bool, loaders: int = 1):
        self.hook, self.module, self.is_training = hook, module, is_training
        self.wanted = callable(getattr(module, hook, None))
        self.on_cpu = bool(getattr(module, "outputs_on_cpu", False))
        self.outputs: list[list[Any]] = [[] for _ in range(loaders)]

    def add(self, output: Any, loader_idx: int = 0) -> None:
        """Keep one output, detached, on the CPU where the module says `outputs_on_cpu = True`."""
        if output is None:
            return
        if self.is_training and isinstance(output, Tensor):
            output = {"loss": output}
        self.outputs[loader_idx].append(to_cpu(output) if self.on_cpu else detached(output))

    def finish(self, results: Any) -> None:
        """Hand them to the hook, and log what it returns."""
        outputs: Any = self.outputs[0] if len(self.outputs) == 1 else self.outputs
        results.enter(self.hook)
        log_epoch_end(results, getattr(self.module, self.hook)(outputs), self.hook, self.module)

    def forget(self) -> None:
        """The epoch is over, and nobody will ask for them again."""
        self.outputs = [[] for _ in self.outputs]


def step_of(module: Any, name: str) -> Any:
    """The module's step, with the earlier style's `<name>_end` after it where that is defined."""
    step, end = getattr(module, name), getattr(module, f"{name}_end", None)
    if not callable(end):
        return step
    return lambda *args: end(step(*args))


def is_defined(module: Any, name: str) -> bool:
    """Whether the user defined a step or building block."""
    return overrides(module, LightModule, name)
