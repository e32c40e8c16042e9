"""What a run puts into a checkpoint, and how a fit takes it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Callback
from lightkit.checkpoint import contents
from lightkit.contracts import Stateful
from lightkit.devices.kernels import load_optimizer_state
from lightkit.errors import CheckpointError
from lightkit.seeding import Snapshot

if TYPE_CHECKING:
    from lightkit.run.base import Run

# what a fit takes back once its optimizers are made, in this order
_RESUMED = ("optimizer_groups", "optimizer_states", "lr_schedulers", "precision", "loggers", "loop")


def parts_of(run: Run) -> dict[str, Stateful]:
    """What training is resumed from, by its key in a checkpoint."""
    found = run.optimization
    return {
        "optimizer_states": contents.Each(found.optimizers, "optimizers", load_optimizer_state),
        "optimizer_groups": contents.ParameterGroups(found.optimizers, run.module),
        "lr_schedulers": contents.Each([config.scheduler for config in found.schedulers], "schedulers"),
        "callbacks": contents.ByKey(_by_key(run.callbacks)),
        "precision": run.precision,
        "loop": run.position,
        "loggers": contents.Each(run.loggers),
    }


def gather(run: Run, rng: Snapshot | None, *, weights_only: bool) -> dict[str, Any]:
    """Everything a run can be resumed from (`files.save` makes it plain); or the weights and hyperparameters alone."""
    module, datamodule, counters = run.module, run.datamodule, run.position.counters
    checkpoint: dict[str, Any] = {
        "lightkit_version": run.trainer.version,
        "lightkit_format": contents.FORMAT,
        "epoch": counters.epoch,
        "global_step": counters.global_step,
        "state_dict": module.state_dict(),
        "class_path": f"{type(module).__module__}.{type(module).__qualname__}",
    }
    if module.hparams:
        checkpoint["hyper_parameters"] = dict(module.hparams)
    if datamodule is not None and datamodule.hparams:
        checkpoint["datamodule_hyper_parameters"] = dict(datamodule.hparams)
    if not weights_only:
        run.position.attach(module, run.board, run.device)
        checkpoint.update(contents.gather(parts_of(run)))
        checkpoint["rng"] = (Snapshot() if rng is None else rng).plain()
        if datamodule is not None and (state := datamodule.state_dict()):
            checkpoint[type(datamodule).__qualname__] = state
        for callback in run.callbacks:
            callback.on_save_checkpoint(run.trainer, module, checkpoint)
    module.on_save_checkpoint(checkpoint)
    return checkpoint


def give_weights(run: Run, checkpoint: dict[str, Any], where: str) -> None:
    """Give the module its weights; its on_load_checkpoint is called before."""
    run.module.on_load_checkpoint(checkpoint)
    run.module._load_weights(checkpoint.get("state_dict", checkpoint), where)


def give_callbacks(run: Run, checkpoint: dict[str, Any]) -> None:
    """Give callbacks and the data module their states, before the module gets its weights."""
    for callback in run.callbacks:
        callback.on_load_checkpoint(run.trainer, run.module, checkpoint)
    contents.ByKey(_by_key(run.callbacks)).load_state_dict(checkpoint.get("callbacks", {}))
    datamodule = run.datamodule
    if datamodule is not None and (state := checkpoint.get(type(datamodule).__qualname__)):
        datamodule.load_state_dict(state)


def give_training(run: Run, checkpoint: Mapping[str, Any], where: str) -> None:
    """Give optimizers, schedulers, scaler, loggers and the loop what they had.

    Raises:
        CheckpointError: the checkpoint holds weights alone, or other optimizers than the module configures.
    """
    if not contents.can_train(checkpoint):
        raise CheckpointError(
            f"{where}: holds weights alone, training cannot go on from it; load them with "
            f"{type(run.module).__name__}.load_from_checkpoint and fit without ckpt_path"
        )
    parts = parts_of(run)
    contents.give({key: parts[key] for key in _RESUMED}, {"optimizer_groups": [], **checkpoint}, where)
    run.position.resume_with(checkpoint["rng"])


def _by_key(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Callbacks by their state key; the second of the same key is `key#2`, so that none takes another's state."""
    seen: dict[str, int] = {}
    found: dict[str, Callback] = {}
    for callback in callbacks:
        key = callback.state_key
        seen[key] = seen.get(key, 0) + 1
        found[key if seen[key] == 1 else f"{key}#{seen[key]}"] = callback
    return found
