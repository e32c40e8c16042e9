"""A logger as a run calls it: anything with a logger's methods, each called by the names of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightkit.calling import call_by_name
from lightkit.checkpoint.places import place
from lightkit.errors import ConfigError
from lightkit.loggers.base import Logger

if TYPE_CHECKING:
    from torch import nn

    from lightkit.callbacks.base import Checkpoint
    from lightkit.settings import OnLogError

_NEEDED = ("log_metrics", "log_hyperparams")


def is_logger(item: object) -> bool:
    """Whether an object has the methods without which nothing is a logger."""
    return isinstance(item, Logger) or (
        not isinstance(item, type) and all(callable(getattr(item, name, None)) for name in _NEEDED)
    )


class OwnPlace(NamedTuple):
    """The directory of a logger's files of this run, the one above all versions, whether the user chose the version."""

    folder: Path
    above: Path
    is_fixed: bool


def has_own_place(logger: object) -> bool:
    """Whether the user gave a logger a directory; without one it uses the run directory."""
    return getattr(logger, "save_dir", None) is not None and bool(getattr(logger, "has_own_place", True))


def own_place(logger: object) -> OwnPlace:
    """The place of a logger that has one.

    That is `save_dir/name/version_N` (`save_dir/name/VERSION` where the version is a word), as Lightning has it.
    """
    root, version = getattr(logger, "root_dir", None), getattr(logger, "version", None)
    if root is None:
        root = Path(getattr(logger, "save_dir", ""), getattr(logger, "name", "") or "")
    above = place(root)
    if version is None:
        return OwnPlace(above, above.parent, True)
    folder = above / (version if isinstance(version, str) else f"version_{version}")
    return OwnPlace(folder, above, bool(getattr(logger, "has_own_version", False)))


class LoggerCalls:
    """The methods of a logger; those that it lacks do nothing."""

    def __init__(self, logger: Any):
        self.logger = logger

    def open(self, run_dir: Path, on_log_error: OnLogError) -> None:
        """A run begins; see Logger."""
        if isinstance(self.logger, Logger):
            self.logger._attach_policy(on_log_error)
            self.logger._attach_run_dir(run_dir)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """See Logger; each gets a dict of its own."""
        call_by_name(self.logger.log_metrics, metrics={**metrics}, step=step)

    def log_hyperparams(self, params: Mapping[str, object]) -> None:
        """See Logger."""
        call_by_name(self.logger.log_hyperparams, params=params)

    def log_graph(self, model: nn.Module) -> None:
        """See Logger."""
        self._if_there("log_graph", model=model)

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """See Logger."""
        self._if_there("after_save_checkpoint", checkpoint_callback=checkpoint_callback)

    def save(self) -> None:
        """See Logger."""
        self._if_there("save")

    def finalize(self, status: str) -> None:
        """See Logger."""
        self._if_there("finalize", status=status)

    def set_aside(self) -> None:
        """See Logger."""
        self._if_there("set_aside")

    def state_dict(self) -> dict[str, Any]:
        """See Logger."""
        found = self._if_there("state_dict")
        return found if isinstance(found, dict) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See Logger."""
        self._if_there("load_state_dict", state_dict=state_dict)

    def _if_there(self, name: str, **arguments: object) -> object:
        method = getattr(self.logger, name, None)
        return call_by_name(method, **arguments) if callable(method) else None


def check_logger(item: object) -> None:
    """Raise ConfigError where something is no logger; says what to write."""
    if is_logger(item):
        return
    if isinstance(item, str):
        from lightkit.loggers.foreign import what_for

        raise ConfigError(f"Trainer(logger={item!r}): {what_for(item)}")
    what = f"the class {item.__name__}" if isinstance(item, type) else type(item).__name__
    raise ConfigError(
        f"Trainer(logger=...): {what} is not a logger; one is an object of a class of lightkit.loggers, or any other "
        "with the methods log_metrics and log_hyperparams"
    )
