"""A logger that takes everything and writes nothing, for `fast_dev_run`: user code that logs goes on working."""

from __future__ import annotations

from lightkit.loggers.base import Logger


class _Nothing:
    """Any method, any item: does nothing and gives itself."""

    def __call__(self, *args: object, **kwargs: object) -> _Nothing:
        return self

    __getattr__ = __getitem__ = __call__


class DummyLogger(Logger):
    """Writes nothing; `experiment` answers to every call."""

    @property
    def experiment(self) -> _Nothing:
        """An object on which every method does nothing."""
        return _Nothing()
