"""A checkpoint that Lightning wrote, as one that a fit can go on from, and what of a run it does not hold.

Names and meanings are those of Lightning 2.6's `loops`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any, NotRequired, TypedDict

from lightkit.checkpoint.contents import naming
from lightkit.loops.position import Counters
from lightkit.schema import ANYTHING, TEXT, TRUTH, WHOLE, DictOf, ListOf, Record
from lightkit.seeding import Snapshot

_COUNTS = Record({"ready": WHOLE, "completed": WHOLE}, {"processed": WHOLE})
_BATCHES = Record({"current": _COUNTS, "total": _COUNTS}, {"is_last_batch": TRUTH})
_FORM = Record({
    "global_step": WHOLE, "callbacks": DictOf(ANYTHING), "pytorch-lightning_version": TEXT,
    "lr_schedulers": ListOf(DictOf(ANYTHING, object)),
    "loops": Record({"fit_loop": Record({
        "epoch_progress": Record({"current": _COUNTS}), "epoch_loop.batch_progress": _BATCHES,
    }, {"epoch_loop.val_loop.batch_progress": _BATCHES, "state_dict": DictOf(ANYTHING)})}),
}, {"MixedPrecision": DictOf(ANYTHING)})  # fmt: skip

Counts = dict[str, int]  # "ready", "started", "processed", "completed"


class Batches(TypedDict):
    """Batches of the running epoch and of all."""

    current: Counts
    total: Counts
    is_last_batch: NotRequired[bool]


Fit = TypedDict("Fit", {
    "epoch_progress": dict[str, Counts], "epoch_loop.batch_progress": Batches,
    "epoch_loop.val_loop.batch_progress": NotRequired[Batches], "state_dict": NotRequired[dict[str, list[object]]],
})  # fmt: skip


def converted(checkpoint: Mapping[str, Any], where: str, known: Collection[str]) -> dict[str, Any]:
    """The same checkpoint with what lightkit's parts ask for; one warning names what the file does not hold.

    known: keys of the callbacks that take their states.

    Raises:
        CheckpointError: it is of another form than Lightning's.
    """
    with naming(where):
        _FORM.check(checkpoint)
    fit: Fit = checkpoint["loops"]["fit_loop"]
    counters = _counters(fit, checkpoint["global_step"])
    lacks = ["the random generators (what is drawn from now on is not what Lightning would draw)"]
    lacks.append("the loggers' positions")
    data: dict[str, object] | None = None
    rng = Snapshot().plain()
    if counters.is_epoch_started:
        loaders = fit.get("state_dict", {}).get("combined_loader") or [None]
        data = {
            "before": {"rng": rng, "generators": None}, "generators": None, "loader": loaders[0], "first_seed": None,
            "epochs_opened": counters.epoch + 1,
        }  # fmt: skip
        if not counters.is_epoch_done:
            order = f"the order of the data in epoch {counters.epoch} (its first {counters.batches_done} batches are "
            lacks += [f"{order}passed over, as they are drawn now)", "what was logged in that epoch so far"]
    if counters.is_epoch_done and any("num_bad_epochs" in state for state in checkpoint["lr_schedulers"]):
        lacks.append(f"the metrics of epoch {counters.epoch} (ReduceLROnPlateau misses the end of that epoch)")
    callbacks = {key: state for key, state in checkpoint["callbacks"].items() if key in known and _is_ours(state)}
    unused = checkpoint["callbacks"].keys() - callbacks.keys()
    warnings.warn(
        f"{where}: Lightning {checkpoint['pytorch-lightning_version']} wrote it; weights, optimizers, schedulers, "
        f"callbacks, epoch and step go on from it. It does not hold {'; '.join(lacks)}"
        + (f". No callback here takes the states of {', '.join(sorted(unused))}" if unused else ""),
        stacklevel=2,
    )
    loop: dict[str, object] = {
        "progress": counters.state_dict(), "results": {}, "metrics": {}, "data": data, "outputs": [[]],
        "board": {"callback": {}, "logged": {}, "progress_bar": {}},
    }  # fmt: skip
    ours = {"callbacks": callbacks, "precision": checkpoint.get("MixedPrecision", {}), "loggers": [], "rng": rng}
    return {**checkpoint, **ours, "loop": loop}


def _is_ours(state: object) -> bool:
    # Lightning's finetuning keeps groups of the optimizer, lightkit's the names of what learns
    return not isinstance(state, Mapping) or "internal_optimizer_metadata" not in state


def _counters(fit: Fit, global_step: int) -> Counters:
    """Where training is. `processed` counts what has had its effect, `completed` what has had its last hook, too."""
    epochs, batches = fit["epoch_progress"]["current"], fit["epoch_loop.batch_progress"]
    epoch, here, total = epochs["completed"], batches["current"], batches["total"]
    counters = Counters(
        epoch=epoch, is_epoch_started=epochs["ready"] > epoch, total_batches=_processed(total), global_step=global_step,
        logged_step=global_step, epochs_scheduled=epoch,
    )  # fmt: skip
    if not counters.is_epoch_started:
        return counters
    counters.batches_done = _processed(here)
    if batches.get("is_last_batch") and _processed(here) == here["ready"]:
        counters.epochs_scheduled = epoch + 1  # they move with the last batch
        counters.is_epoch_done = _processed(epochs) > epoch  # its validation is over
    validation = fit.get("epoch_loop.val_loop.batch_progress")
    if validation is not None and validation["total"]["ready"]:
        # one that is due after this batch comes before the batch is complete
        counters.validated_at = counters.total_batches - (here["completed"] < _processed(here))
    return counters


def _processed(counts: Counts) -> int:
    return counts.get("processed", counts["completed"])
