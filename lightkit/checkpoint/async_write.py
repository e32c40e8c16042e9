"""Checkpoints written while the training goes on: the state is copied at once, the file is written by a thread.

    save:    make plain; wait for the write before; copy every tensor into a kept buffer; start a thread
    thread:  write the file as `files.save` does; then what was to follow (delete the file it replaces, link `last`)

At most one write is under way, so there is one set of buffers: as much memory as the checkpoint has tensors. They are
kept from one save to the next, because fresh memory costs more than the copy.
"""

from __future__ import annotations

import copy
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightkit.checkpoint import atomic, files
from lightkit.checkpoint.writer import Writer

__all__ = ["AsyncWriter", "snapshot"]


class AsyncWriter(Writer):
    """Writes checkpoints in a thread; the file holds the state as it was when `save` was called.

    An error of the thread (a full disk) is raised by the next `save` or `settle`; what was to follow that write is
    left out, so the file that it would have replaced stays. A reader in this process (`files.load` and the like)
    waits for the write.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._actions: list[Callable[[], None]] = []  # the thread's: to write, and what follows
        self._afterwards: list[Callable[[], None]] = []
        self._is_done = True
        self._error: BaseException | None = None
        self._buffers = Buffers()

    def __reduce__(self) -> tuple[type[AsyncWriter], tuple[()]]:
        return type(self), ()  # a copy writes for another run: of what is under way here it knows nothing

    def save(
        self, checkpoint: Mapping[str, Any], path: files.PathLike, note: Mapping[str, object] | None = None
    ) -> None:
        """Copy the state, and begin to write it.

        Raises CheckpointError for what cannot be saved, RunDirError where the write before this one failed.
        """
        plain = files.plain_for(checkpoint, path)
        self.settle()
        copied, ready = snapshot(plain, self._buffers)
        self._start(*(event.synchronize for event in ready), partial(files.write, copied, os.fspath(path), note))

    def then(self, action: Callable[[], None]) -> None:
        """Do something after the write that is under way, unless it fails; at once where none is."""
        if not self._add(action) and self._error is None:
            action()

    def copy(self, source: str, target: str) -> bool:
        """Copy the file in the thread, when it is written: nobody waits for a second write of the same state."""
        action = partial(atomic.copy, source, target)
        if not self._add(action) and self._error is None:
            self.wait()
            self._start(action)
        return True

    def afterwards(self, action: Callable[[], None]) -> None:
        self._afterwards.append(action)

    def wait(self) -> None:
        """As Writer.wait; an error is kept for `settle`."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
            self._thread = None
            files.unfinished.discard(self)

    def settle(self) -> None:
        self.wait()
        error, self._error = self._error, None
        actions, self._afterwards = self._afterwards, []
        if error is not None:
            raise error
        for action in actions:
            action()

    def finish(self) -> None:
        try:
            self.settle()
        except Exception as error:
            warnings.warn(f"the last checkpoint was not written: {error}", stacklevel=2)

    def _start(self, *actions: Callable[[], None]) -> None:
        self._actions, self._is_done = [*actions], False
        files.unfinished.add(self)
        # not a daemon: where the process ends meanwhile, Python waits for the file
        self._thread = threading.Thread(target=self._run, name="lightkit-checkpoint", daemon=False)
        self._thread.start()

    def _add(self, action: Callable[[], None]) -> bool:
        """Let it follow the write that is under way; False where none is."""
        with self._lock:
            if not self._is_done:
                self._actions.append(action)
            return not self._is_done

    def _run(self) -> None:
        try:
            while (action := self._next()) is not None:
                action()
        except BaseException as error:
            with self._lock:
                self._error, self._is_done = error, True
                self._actions.clear()

    def _next(self) -> Callable[[], None] | None:
        """What is to be done; from None on, `then` does it at once."""
        with self._lock:
            self._is_done = not self._actions
            return self._actions.pop(0) if self._actions else None


class Buffers:
    """Memory that checkpoints are copied into, kept from one to the next."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, bool], list[Tensor]] = {}
        self.used: dict[tuple[int, bool], list[Tensor]] = {}

    def take(self, num_bytes: int, pinned: bool) -> Tensor:
        """Memory of that size as uint8 (num_bytes,), pinned where a GPU copies into it."""
        key = (num_bytes, pinned)
        if spare := self.kept.get(key):
            buffer = spare.pop()
        else:
            buffer = torch.empty(num_bytes, dtype=torch.uint8, device="cpu", pin_memory=pinned)
        self.used.setdefault(key, []).append(buffer)
        return buffer

    def turn(self) -> None:
        """A snapshot is complete: what it used is kept for the next, what it did not is freed."""
        self.kept, self.used = self.used, {}

    @property
    def num_bytes(self) -> int:
        """Memory kept."""
        return sum(size * len(buffers) for (size, _), buffers in self.kept.items())


@torch.inference_mode(False)  # buffers made in a validation are written to in training
@torch.no_grad()
def snapshot(plain: Any, buffers: Buffers) -> tuple[Any, list[torch.cuda.Event]]:
    """Return a copy of plain content that shares no memory with it, and what to wait for before it is read.

    Tensors that share memory share it in the copy as well, so the file is the same as without a copy. Tensors of a GPU
    are copied to pinned memory on a stream of their own: no kernel that comes later overtakes the copy, and the process
    does not wait for it.
    """
    tensors = {id(t): t for t in _tensors(plain)}
    copies: dict[int, Tensor] = {}  # uint8 (bytes,), by storage
    by_device: dict[torch.device, tuple[list[Tensor], list[Tensor]]] = {}
    for tensor in tensors.values():
        if not _is_ordinary(tensor) or (storage := tensor.untyped_storage())._cdata in copies:
            continue
        copies[storage._cdata] = buffers.take(storage.nbytes(), storage.device.type == "cuda")
        to, source = by_device.setdefault(storage.device, ([], []))
        to.append(copies[storage._cdata])
        source.append(torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage))
    ready = [event for device, pair in by_device.items() if (event := _copy(device, *pair)) is not None]
    buffers.turn()
    # what deepcopy finds in its memo is taken for the copy: the tensors made here
    return copy.deepcopy(plain, {key: _like(tensor, copies) for key, tensor in tensors.items()}), ready


def _copy(device: torch.device, to: list[Tensor], source: list[Tensor]) -> torch.cuda.Event | None:
    if device.type != "cuda":
        torch._foreach_copy_(to, source)
        return None
    current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        torch._foreach_copy_(to, source, non_blocking=True)
    current.wait_stream(side)  # the next update, and memory freed meanwhile, come after the copy
    event = torch.cuda.Event()
    event.record(side)
    return event


def _is_ordinary(tensor: Tensor) -> bool:
    """Whether a tensor is a view of a storage of bytes that can be copied, as nearly all are."""
    return tensor.layout is torch.strided and tensor.device.type != "meta" and not tensor.is_quantized


def _like(tensor: Tensor, copies: dict[int, Tensor]) -> Tensor:
    """The same view of the copied memory."""
    if _is_ordinary(tensor):
        storage = copies[tensor.untyped_storage()._cdata].untyped_storage()
        made = torch.empty(0, dtype=tensor.dtype, device="cpu")
        made.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
        made = made.conj() if tensor.is_conj() else made
        made = torch._neg_view(made) if tensor.is_neg() else made
    else:
        made = tensor.detach().clone()
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(made, tensor.requires_grad)
    return made.requires_grad_(tensor.requires_grad)


def _tensors(plain: Any) -> Iterator[Tensor]:
    if isinstance(plain, Tensor):
        yield plain
    elif isinstance(plain, (dict, list, tuple, set)):
        for value in plain.values() if isinstance(plain, dict) else plain:
            yield from _tensors(value)
