"""What a checkpoint holds: gathered from a run, and given back to one.

Keys are Lightning's where the concept is: `epoch`, `global_step`, `state_dict`, `optimizer_states`, `lr_schedulers`,
`callbacks`, `hyper_parameters`, `datamodule_hyper_parameters`. lightkit's own: `loop` (position, running metrics,
order of the data), `rng`, `precision`, `loggers`, `optimizer_groups` (names of parameters), `lightkit_version`,
`class_path` (the module's class, as a name: loading never imports it; `lightkit predict --ckpt_path` does where it is
one of lightkit's recipes).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from lightkit.checkpoint.groups import add_missing_groups, names_of_groups
from lightkit.devices.kernels import load_optimizer_state
from lightkit.errors import CheckpointError
from lightkit.seeding import Snapshot

FORMAT = 1


def gather(trainer: Any, *, weights_only: bool = False) -> dict[str, Any]:
    """Everything a run can be resumed from (`files.save` makes it plain); or the weights and hyperparameters alone."""
    module, datamodule = trainer.lightning_module, trainer.datamodule
    checkpoint: dict[str, Any] = {
        "lightkit_version": trainer.version,
        "lightkit_format": FORMAT,
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "state_dict": module.state_dict(),
        "class_path": f"{type(module).__module__}.{type(module).__qualname__}",
    }
    if module.hparams:
        checkpoint["hyper_parameters"] = dict(module.hparams)
    if datamodule is not None and getattr(datamodule, "hparams", None):
        checkpoint["datamodule_hyper_parameters"] = dict(datamodule.hparams)
    if not weights_only:
        checkpoint["optimizer_states"] = [optimizer.state_dict() for optimizer in trainer.optimizers]
        checkpoint["optimizer_groups"] = names_of_groups(trainer.optimizers, module)
        checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        checkpoint["callbacks"] = {key: state for key, c in _by_key(trainer.callbacks) if (state := c.state_dict())}
        checkpoint["precision"] = trainer.precision.state_dict()
        checkpoint["loop"] = trainer.fit_loop.state_dict()
        checkpoint["loggers"] = [logger.state_dict() for logger in trainer.loggers]
        checkpoint["rng"] = (trainer.training_rng or Snapshot()).plain()
        if datamodule is not None and (state := datamodule.state_dict()):
            checkpoint[type(datamodule).__qualname__] = state
        for callback in trainer.callbacks:
            callback.on_save_checkpoint(trainer, module, checkpoint)
    module.on_save_checkpoint(checkpoint)
    return checkpoint


def _by_key(callbacks: list[Any]) -> Iterator[tuple[str, Any]]:
    """Callbacks by their state key; the second of the same key is `key#2`, so that none takes another's state."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        key = callback.state_key
        seen[key] = seen.get(key, 0) + 1
        yield (key if seen[key] == 1 else f"{key}#{seen[key]}"), callback


def give_weights(trainer: Any, checkpoint: dict[str, Any], where: str) -> None:
    """Give the module its weights; its on_load_checkpoint is called before."""
    trainer.lightning_module.on_load_checkpoint(checkpoint)
    trainer.lightning_module._load_weights(checkpoint.get("state_dict", checkpoint), where)


def give_callbacks(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Give callbacks and the data module their states; states nobody takes are named in a warning."""
    for callback in trainer.callbacks:
        callback.on_load_checkpoint(trainer, trainer.lightning_module, checkpoint)
    states = dict(checkpoint.get("callbacks", {}))
    for key, callback in _by_key(trainer.callbacks):
        state = states.pop(key, None)
        if state is not None:
            callback.load_state_dict(state)
    if states:
        warnings.warn(
            f"the checkpoint has states of callbacks that this Trainer lacks: {', '.join(sorted(states))}; "
            "add them to go on exactly",
            stacklevel=2,
        )
    datamodule = trainer.datamodule
    if datamodule is not None and (state := checkpoint.get(type(datamodule).__qualname__)):
        datamodule.load_state_dict(state)


def can_train(checkpoint: dict[str, Any]) -> bool:
    """Whether it holds what training needs to go on, beside the weights."""
    return "loop" in checkpoint and "optimizer_states" in checkpoint


def give_training(trainer: Any, checkpoint: dict[str, Any], where: str) -> None:
    """Give optimizers, schedulers, scaler, loggers and the loop what they had.

    Raises:
        CheckpointError: the checkpoint holds weights alone, or other optimizers than the module configures.
    """
    if not can_train(checkpoint):
        raise CheckpointError(
            f"{where}: holds weights alone, training cannot go on from it; load them with "
            f"{type(trainer.lightning_module).__name__}.load_from_checkpoint and fit without ckpt_path"
        )
    for optimizer, groups in zip(trainer.optimizers, checkpoint.get("optimizer_groups", []), strict=False):
        add_missing_groups(optimizer, groups, trainer.lightning_module)
    kinds = (
        ("optimizer_states", trainer.optimizers, "optimizers"),
        ("lr_schedulers", [config.scheduler for config in trainer.lr_scheduler_configs], "schedulers"),
    )
    for key, targets, what in kinds:
        states = checkpoint[key]
        if len(states) != len(targets):
            raise CheckpointError(
                f"{where}: has {len(states)} {what}, configure_optimizers gives {len(targets)}; "
                "resume with the module that was trained"
            )
        for target, state in zip(targets, states, strict=True):
            try:
                load_optimizer_state(target, state) if key == "optimizer_states" else target.load_state_dict(state)
            except (ValueError, KeyError) as error:
                raise CheckpointError(f"{where}: the state of {type(target).__name__} does not fit: {error}") from error
    trainer.precision.load_state_dict(checkpoint["precision"])
    for logger, state in zip(trainer.loggers, checkpoint["loggers"], strict=False):
        logger.load_state_dict(state)
    trainer.fit_loop.load_state_dict(checkpoint["loop"], checkpoint["rng"])
