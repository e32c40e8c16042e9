"""What a step returned: the loss in it, what it weighs, and what hooks get to see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from lightkit.devices.transfer import batch_size_of, map_tensors
from lightkit.errors import ConfigError, HookError, NonFiniteError

if TYPE_CHECKING:
    from lightkit.loops.position import Counters
    from lightkit.loops.window import Weight

EXPECTED = "expected the loss (a scalar tensor), a dict with 'loss', or None to skip the batch"


def loss_of(output: object, module: nn.Module, log_returned: Callable[[Mapping[str, object]], object]) -> Tensor | None:
    """The loss in what training_step returned; log_returned sees a dict that holds more.

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
        if len(output) > 1:
            log_returned(output)
    if not isinstance(loss, Tensor):
        raise HookError(f"{type(module).__name__}.training_step returned a {type(loss).__name__}; {EXPECTED}")
    return loss


def not_finite(value: float, counters: Counters, index: int) -> NonFiniteError:
    """What to raise for a loss that is NaN or infinite."""
    return NonFiniteError(
        f"the loss is {value} in epoch {counters.epoch}, batch {index} (step {counters.global_step}); "
        "training stopped, checkpoints saved before are untouched. Try a lower learning rate, "
        "gradient_clip_val=1.0 or detect_anomaly=True; Trainer(nan_check='off') goes on regardless"
    )


def weight_of(output: object, batch: object) -> Weight:
    """What a micro-batch counts: its `num_items` where training_step returns it, else its batch size."""
    if isinstance(output, dict) and "num_items" in output:
        items: Weight = output["num_items"]
        return items
    try:
        return batch_size_of(batch)
    except ConfigError:
        return 1


def check_loss(loss: Tensor, module: nn.Module) -> None:
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


def detached(output: object) -> object:
    """The same structure with its tensors cut from their graphs."""
    return map_tensors(output, Tensor.detach)


def as_outputs(output: object) -> object:
    """What on_train_batch_end gets: a dict with the detached loss and whatever else the step returned, or None."""
    if output is None:
        return None
    return {"loss": output.detach()} if isinstance(output, Tensor) else detached(output)
