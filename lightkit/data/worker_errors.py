"""What goes wrong in a loader's worker processes, brought to the user as it was; imported where something did.

PyTorch brings an exception as `type(message)`, with the whole traceback in the message; where that cannot be made, as a
RuntimeError. Here it travels as it is, with its cause, and a note says which loader, data set and batch it comes from.
"""

from __future__ import annotations

import pickle
import re
import signal
import traceback
from collections.abc import Iterable
from multiprocessing import connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch._utils import ExceptionWrapper
from torch.utils.data import get_worker_info
from torch.utils.data._utils import signal_handling

from lightkit.errors import DataError, LightkitError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from lightkit.data.order import Source

_MOST_CAUSES = 5  # of an exception, each the cause of the one before
_MOST_SECONDS_TO_DIE = 2.0  # a process whose pipes are closed is about to end
_OURS = str(Path(__file__).parent)
_DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed|exited)")
_WRAPPED = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback ")


class Failure(ExceptionWrapper):
    """An exception of a worker process on its way to the training, where PyTorch calls `reraise`."""

    def __init__(self, error: BaseException, place: str):
        # not super().__init__: it keeps a text and no exception
        if isinstance(error, StopIteration):  # it would end the epoch, and nobody would know
            error = _stopped(error)
        info = get_worker_info()
        worker = "a worker process" if info is None else f"worker process {info.id}"
        note = f"raised in {worker} of {place}"
        if not isinstance(error, LightkitError):
            note += f"\n{''.join(traceback.format_exception(error.with_traceback(_user_part(error)))).rstrip()}"
        error.add_note(note)
        self.chain = [_packed(one) for one in _with_causes(error)]

    def reraise(self) -> None:
        """Raise it here, with its type, its attributes and its cause."""
        errors: list[BaseException] = [pickle.loads(content) for content in self.chain]
        for error, cause in zip(errors, errors[1:], strict=False):
            error.__cause__ = cause
        raise errors[0]


def _stopped(error: StopIteration) -> DataError:
    found = DataError("StopIteration was raised, which would end the epoch here; check what `next` is called on")
    found.__cause__ = error
    return found.with_traceback(error.__traceback__)


def _user_part(error: BaseException) -> TracebackType | None:
    """The traceback without PyTorch's and our frames at its beginning."""
    found = error.__traceback__
    while found is not None and found.tb_next is not None:
        name = found.tb_frame.f_code.co_filename
        if not (name.startswith(_OURS) or name.endswith("worker.py") or name.endswith("fetch.py")):
            break
        found = found.tb_next
    return found


def _with_causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__) is not None and len(found) <= _MOST_CAUSES:
        found.append(cause)
    return found


class _Bare:
    """An exception that is made again without its `__init__`, which may ask for other arguments than it keeps."""

    def __init__(self, kind: type[BaseException], args: tuple[object, ...], attributes: dict[str, object]):
        self.parts = kind, args, attributes

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, self.parts


def _made_again(kind: type[BaseException], args: tuple[object, ...], attributes: dict[str, object]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def _packed(error: BaseException) -> bytes:
    """The exception as bytes that give it back; as the nearest builtin one where its class or content cannot travel."""
    kind, text, notes = type(error), str(error), {"__notes__": getattr(error, "__notes__", [])}
    builtin = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    named = text if builtin is kind else f"{kind.__qualname__}: {text}"
    ways: list[tuple[object, str]] = [
        (error, text), (_Bare(kind, error.args, vars(error)), text), (_Bare(kind, (text,), notes), text),
        (_Bare(builtin, (named,), notes), named),
    ]  # fmt: skip
    for way, wanted in ways:
        try:
            content = pickle.dumps(way)
            again = pickle.loads(content)
            if isinstance(again, BaseException) and str(again) == wanted:
                return content
        except Exception:  # whatever a user's class does: the next way
            continue
    return pickle.dumps(_Bare(RuntimeError, (named,), notes))


# ------------------------------------------------------------ in the process that trains


def explained(error: BaseException, sources: Iterable[Source]) -> LightkitError | None:
    """What a user should read instead of PyTorch's error: which loader it was, and what to do; None: that error.

    sources: those that are read.
    """
    text = str(error)
    if isinstance(error, LightkitError):
        return _unwrapped(error, text) if _WRAPPED.match(text) else None
    died, at_work = _DIED.match(text), _at_work(error.__traceback__)
    pids = set() if died is None else {int(pid) for pid in died[1].split(",")}
    for source in sources:
        try:
            found = _death(source, error, pids, at_work)
        except RuntimeError:  # PyTorch's again: another worker has died
            found = _death(source, error, pids, at_work)
        if found is not None:
            return DataError(found)
    return None


def _death(source: Source, error: BaseException, pids: set[int], at_work: list[object]) -> str | None:
    """What became of a worker process of a source, where that is why the error was raised."""
    batches = source.batches()
    is_waited_for = any(one is source or (batches is not None and one is batches) for one in at_work)
    # while workers are being started their iterator is known to the traceback alone
    iterators = {id(one): one for one in ([batches, *at_work] if is_waited_for else [batches])}.values()
    processes: list[BaseProcess] = [process for one in iterators for process in getattr(one, "_workers", ())]
    if is_waited_for and str(error).startswith("DataLoader timed out"):
        return (
            f"{source.name}: no batch came within timeout={source.loader.timeout:g} seconds; give more, 0 waits for "
            "ever, or run once with num_workers=0 to see what takes long"
        )
    dead = [process for process in processes if process.pid in pids]
    if is_waited_for and not dead:  # it raises all kinds of errors where one dies that is handing over a batch
        seconds = _MOST_SECONDS_TO_DIE if isinstance(error, (EOFError, ConnectionError)) else 0.0
        ended = connection.wait([process.sentinel for process in processes], seconds)
        dead = [process for process in processes if process.sentinel in ended and process.exitcode != 0]
    if not dead:
        return None
    for iterator in iterators:  # no signal handler is to raise while the run is taken down, for those that die now
        if getattr(iterator, "_worker_pids_set", False):
            signal_handling._remove_worker_pids(id(iterator))
            vars(iterator)["_worker_pids_set"] = False
    return _obituary(source, dead[0])


def _at_work(found: TracebackType | None) -> list[object]:
    """The objects whose methods were running when an error was raised: sources, iterators."""
    owners: list[object] = []
    while found is not None:
        owners.append(found.tb_frame.f_locals.get("self"))
        found = found.tb_next
    return owners


def _obituary(source: Source, process: BaseProcess) -> str:
    process.join(_MOST_SECONDS_TO_DIE)  # else its exit code may not be known yet
    code, count = process.exitcode, source.loader.num_workers
    how = f"ended with exit code {code}, its own output may say why"
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        why = {"SIGKILL": ": memory ran out, most likely", "SIGBUS": ": shared memory is full"}.get(name, "")
        how = f"was killed by {name}{why}"
    return (
        f"{source.name}: worker process {process.pid}, one of num_workers={count}, {how}. Use fewer workers or smaller "
        "batches; make shared memory larger (/dev/shm, docker run --shm-size=8g) or call "
        "torch.multiprocessing.set_sharing_strategy('file_system'); num_workers=0 shows an error of the data set itself"
    )


def _unwrapped(error: LightkitError, text: str) -> LightkitError:
    """An error of ours that a loader of another kind has brought, in PyTorch's way, without the traceback in it."""
    kind = type(error)
    begins = f"\n{kind.__module__}.{kind.__qualname__}: "
    return kind(text.rpartition(begins)[2].rstrip("\n")) if begins in text else error
