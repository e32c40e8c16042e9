"""What a step returned: the loss in it, what that weighs in the accumulation window, what hooks get to see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lightkit.errors import ConfigError, HookError

if TYPE_CHECKING:
    from lightkit.results import Results

Weight = float | Tensor

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


def weight_of(output: object, results: Results) -> Weight:
    """What a micro-batch counts: its `num_items` where training_step returns it, else its batch size."""
    if isinstance(output, dict) and "num_items" in output:
        items: Weight = output["num_items"]
        return items
    try:
        return results.batch_size()
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
    from lightkit.devices.transfer import map_tensors

    return map_tensors(output, Tensor.detach)


def as_outputs(output: object) -> object:
    """What on_train_batch_end gets: a dict with the detached loss and whatever else the step returned, or None."""
    if output is None:
        return None
    return {"loss": output.detach()} if isinstance(output, Tensor) else detached(output)


class Window:
    """The accumulation window: how much each micro-batch's loss counts, so that the sum is the one big batch's.

    Windows of equal micro-batches scale each loss by 1/size before backward and need no correction. Others do the
    same relative to their first micro-batch and multiply the gradients once, before the update.
    """

    def __init__(self, size: int):
        self.size = size
        self.first = 0  # the batch that began it
        self.open()

    def open(self) -> None:
        """Begin a window."""
        self.reference: Weight | None = None
        self.weights: list[Weight] = []

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with a window that was open in a checkpoint."""
        self.first, self.reference, self.weights = state["first"], state["reference"], list(state["weights"])

    def factor(self, weight: Weight, index: int) -> Weight:
        """What to multiply the loss of the next micro-batch with; weight: its items, a number or a tensor."""
        if not self.weights:
            self.first = index
        self.weights.append(weight)
        if self.reference is None:
            self.reference = weight
            return 1.0 / self.size
        if weight is self.reference or (isinstance(weight, (int, float)) and weight == self.reference):
            return 1.0 / self.size
        return weight / self.reference / self.size

    def correction(self) -> Weight | None:
        """What to multiply the gradients with before the update, or None where it is 1."""
        reference = self.reference
        if reference is None:
            return None
        if isinstance(reference, (int, float)) and all(w == reference for w in self.weights):
            count = len(self.weights)
            return None if count == self.size else self.size / count
        return self.size * reference / sum(self.weights)
