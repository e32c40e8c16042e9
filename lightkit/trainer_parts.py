"""The loggers and callbacks of a Trainer: those that were given, checked, with the default ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.errors import ConfigError
from lightkit.settings import as_list

if TYPE_CHECKING:
    from lightkit.loggers.base import Logger
    from lightkit.settings import Settings


def make_loggers(settings: Settings) -> list[Logger]:
    """The loggers; TensorBoard's where nothing is said."""
    given = settings.logger
    loggers = as_list(given)
    if given is False or (given is not None and not loggers):
        return []
    if settings.fast_dev_run:
        from lightkit.loggers.dummy import DummyLogger

        return [DummyLogger()]
    if given is None or given is True:
        from lightkit.loggers.tensorboard import TensorBoardLogger

        return [TensorBoardLogger()]
    from lightkit.loggers.calls import check_logger

    for item in loggers:
        check_logger(item)
    return loggers


def make_callback(name: str, **arguments: Any) -> Callback:
    """The callback of that name."""
    from lightkit import callbacks

    found: Callback = getattr(callbacks, name)(**arguments)
    return found


def make_callbacks(settings: Settings) -> list[Callback]:
    """The user's callbacks with the default ones; those that save come last. Those that are off are not imported."""
    given = settings.callbacks
    found = as_list(given)
    for item in found:
        if not isinstance(item, Callback):
            raise ConfigError(f"Trainer(callbacks=...): {type(item).__name__} is not a Callback")
    has_bar = False
    if found or settings.enable_progress_bar is not False:
        from lightkit.callbacks.progress.progress_bar import ProgressBar

        has_bar = any(isinstance(c, ProgressBar) for c in found)
    has_checkpoint = any(isinstance(c, Checkpoint) for c in found)
    for is_there, name, kind in (
        (has_checkpoint, "enable_checkpointing", "a callback that saves checkpoints"),
        (has_bar, "enable_progress_bar", "a progress bar"),
    ):
        if is_there and getattr(settings, name) is False:
            raise ConfigError(f"Trainer({name}=False): callbacks has {kind}; leave one of them out")
    if settings.max_time is not None:
        from lightkit.callbacks.timer import Timer
        from lightkit.durations import parse_duration

        if not any(isinstance(c, Timer) for c in found):
            found.append(Timer(parse_duration(settings.max_time)))
    if settings.enable_model_summary is not False:
        from lightkit.callbacks.model_summary import ModelSummary

        if not any(isinstance(c, ModelSummary) for c in found):
            found.append(ModelSummary())
    if settings.enable_progress_bar is not False and not has_bar:
        from lightkit.callbacks.default_bar import default_progress_bar

        bar = default_progress_bar()
        found += [bar] if bar is not None else []
    if settings.enable_checkpointing is not False and not has_checkpoint:
        from lightkit.callbacks.model_checkpoint import ModelCheckpoint

        found.append(ModelCheckpoint())
    return sorted(found, key=lambda c: isinstance(c, Checkpoint))
