"""Every error that lightkit raises for its users, and how it finds the name that was probably meant.

    LightkitError(Exception)
    ├── ConfigError(ValueError)           a wrong argument; alias MisconfigurationException
    ├── HookError(TypeError)              a hook of the user's is missing or returns the wrong thing
    ├── DataError(ValueError)             a loader or a data set that cannot be used as it is
    │   └── MissingDataError              the files of a data set are not there
    ├── CheckpointError(RuntimeError)     a checkpoint that cannot be written, read or used
    ├── ExportError(RuntimeError)         a module cannot be exported, or what was exported is another one
    ├── MissingExtraError(ImportError)    an optional package is not installed
    ├── ForeignNameError(ImportError)     a name that only Lightning has; the message says what to write
    ├── RunDirError(OSError)              the run directory cannot be written
    └── NonFiniteError(ArithmeticError)   a loss or a metric became NaN or infinite
    StoppedBySignal(SystemExit)           not an error: a signal asked the run to end

Each also derives from the builtin error that plain Python code would raise at that place, so that
`except ValueError` in a user's script goes on working. A message says where, what arrived, and what to do.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class LightkitError(Exception):
    """Base of all errors meant for users; a failed `assert` is our own mistake instead."""


class ConfigError(LightkitError, ValueError):
    """An argument has a value that cannot work."""


class HookError(LightkitError, TypeError):
    """A hook of the user's is missing, or returned something it must not return."""


class DataError(LightkitError, ValueError):
    """A data loader, data set or batch cannot be used as it is."""


class MissingDataError(DataError):
    """The files of a data set are not there; the message says which to put where."""


class CheckpointError(LightkitError, RuntimeError):
    """A checkpoint cannot be written, read, or used for this module."""


class ExportError(LightkitError, RuntimeError):
    """A module cannot be exported, or what was exported gives other numbers."""


class MissingExtraError(LightkitError, ImportError):
    """An optional package is needed and not installed; the message holds the `pip install` line."""


class ForeignNameError(LightkitError, ImportError):
    """A name, or a file, that Lightning has, or had, and lightkit has not; the message says what to write."""


class RunDirError(LightkitError, OSError):
    """The run directory, or a file in it, cannot be written, or its store not reached."""


class NonFiniteError(LightkitError, ArithmeticError):
    """A loss, a weight or a metric became NaN or infinite.

    `epoch` and `batch_idx` say in which batch, as hooks count them, `global_step` how many steps came before; None
    where it was in no training. is_first: the batches before it were looked at, too, as `Trainer(nan_check="step")`
    does; otherwise it is the last of those since the look before.
    """

    def __init__(
        self, message: str = "", *, epoch: int | None = None, batch_idx: int | None = None,
        global_step: int | None = None, is_first: bool = False,
    ):  # fmt: skip
        super().__init__(message)
        self.epoch, self.batch_idx, self.global_step, self.is_first = epoch, batch_idx, global_step, is_first


MisconfigurationException = ConfigError  # Lightning's name


class StoppedBySignal(SystemExit):
    """A signal asked the run to end; nobody's error. Uncaught, the process ends with 128 + its number: SIGTERM 143."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        return f"signal {self.number}"


SIGTERMException = StoppedBySignal  # Lightning's name


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the option that looks most like `name`, upper and lower case alike, or None where none is near."""
    by_folded = {option.casefold(): option for option in options}
    found = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return the end of an error message, `; did you mean 'x'?`, or "" where no option is near."""
    found = nearest(name, options)
    return "" if found is None else f"; did you mean {found!r}?"


def require(module_name: str, extra: str, *, needed_by: str = "this feature") -> ModuleType:
    """Import and return an optional module.

    Raises MissingExtraError, with the line to install it, where its top-level package is not installed. An
    import error from inside an installed package is that package's own and passes unchanged.
    """
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != module_name and not module_name.startswith(f"{missing}."):
            raise
        package = module_name.partition(".")[0]
        raise MissingExtraError(
            f'{package} is needed by {needed_by}: pip install "lightkit[{extra}]"', name=missing
        ) from None
