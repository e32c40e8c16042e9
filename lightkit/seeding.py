"""Capture and restore every random generator of this process: torch, CUDA, MPS, numpy, `random`.

What is captured is plain (numbers, lists, tensors), so that it opens with `torch.load(weights_only=True)`.
numpy's global generator is meant here, the one of `np.random.rand()`; a `default_rng()` belongs to its owner.
"""

from __future__ import annotations

import ctypes
import os
import random
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np  # costs nothing: torch has imported it already
import torch

from lightkit.errors import ConfigError

SEED_WORKERS = "LIGHTKIT_SEED_WORKERS"


def workers_are_keyed() -> bool:
    """Say whether `seed_everything(..., workers=True)` asked to key random numbers by batch."""
    return os.environ.get(SEED_WORKERS, "0") == "1"


class _NumpyGlobal:
    """numpy's global generator, read and set without the 45 microseconds that its own get_state and set_state take.

    Its state is copied from and to memory (1 microsecond): the Mersenne twister's words, whose address numpy publishes,
    and the spare normal number, which can come and go without a change of the words. Where one of them is not found,
    numpy's own functions are used.
    """

    WORDS = 624 * 4 + 4  # bytes: uint32 key[624], int pos
    SPARE = 16  # bytes: int has_gauss, padding, double gauss

    def __init__(self) -> None:
        self.generator: object = None
        self.words = self.spare = 0  # addresses; 0: not to be read in memory

    def get(self) -> bytes | dict[str, Any]:
        """The whole state, as it is in memory or as numpy gives it."""
        if np.random.get_bit_generator() is not self.generator:  # type: ignore[attr-defined]
            self._locate()
        if not self.spare:
            return _numpy_state()
        return ctypes.string_at(self.words, self.WORDS) + ctypes.string_at(self.spare, self.SPARE)

    def set(self, state: bytes | dict[str, Any]) -> None:
        """Go back to what `get` gave; costs next to nothing where nothing was drawn since."""
        now = self.get()
        if isinstance(state, bytes) and isinstance(now, bytes):
            if now != state:
                ctypes.memmove(self.words, state, self.WORDS)
                ctypes.memmove(self.spare, state[self.WORDS :], self.SPARE)
        else:
            np.random.set_state(self.decoded(state))

    def decoded(self, state: bytes | dict[str, Any]) -> dict[str, Any]:
        """A state as numpy gives it."""
        if not isinstance(state, bytes):
            return state
        key, position = np.frombuffer(state, np.uint32, 624), struct.unpack_from("i", state, 624 * 4)[0]
        has_gauss, gauss = struct.unpack_from("i4xd", state, self.WORDS)
        inner = {"key": key, "pos": position}
        return {"bit_generator": "MT19937", "state": inner, "has_gauss": has_gauss, "gauss": gauss}

    def _locate(self) -> None:
        self.generator = np.random.get_bit_generator()  # type: ignore[attr-defined]
        self.words = self.spare = 0
        owner, state = getattr(np.random.get_state, "__self__", None), _numpy_state()
        offset = _offset_of_spare() if type(owner) is np.random.RandomState else 0
        if not offset:
            return
        self.words, self.spare = int(self.generator.ctypes.state_address), id(owner) + offset
        found = self.decoded(ctypes.string_at(self.words, self.WORDS) + ctypes.string_at(self.spare, self.SPARE))
        if _numpy_list(found) != _numpy_list(state):
            self.words = self.spare = 0


def _offset_of_spare() -> int:
    """Where a RandomState keeps its spare normal number, found by setting one; 0: not found."""
    if sys.implementation.name != "cpython":
        return 0  # an id is no address there
    probe, value = np.random.RandomState(0), 0.7310585786300049
    state: Any = probe.get_state(legacy=False)

    def memory(has_gauss: int, gauss: float) -> bytes:
        probe.set_state({**state, "has_gauss": has_gauss, "gauss": gauss})
        return ctypes.string_at(id(probe), type(probe).__basicsize__)

    held = memory(1, value)
    offset = held.find(struct.pack("d", value)) - 8
    is_there = offset > 0 and held[offset : offset + 4] == struct.pack("i", 1)
    return offset if is_there and memory(0, 0.0)[offset : offset + 16] == bytes(16) else 0


_numpy = _NumpyGlobal()


# The state of every generator, plain. torch: a tensor; numpy: words, position, has_gauss, gauss; python: version,
# words, gauss; where there are such devices cuda: tensors, mps: a tensor.
RngState = dict[str, Any]


class Snapshot:
    """The state of every generator of this process at one moment, kept as it comes: about 20 microseconds.

    For use inside the process; `plain()` is what goes into a checkpoint.
    """

    __slots__ = ("cuda", "mps", "numpy", "python", "torch")

    def __init__(self, *, include_cuda: bool = True) -> None:
        self.torch = torch.default_generator.get_state()
        self.numpy = _numpy.get()
        self.python = random.getstate()
        # CUDA is asked only where it is already in use: asking would start it
        self.cuda = torch.cuda.get_rng_state_all() if include_cuda and torch.cuda.is_initialized() else None
        self.mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore(self) -> None:
        """Set every generator as it was."""
        torch.default_generator.set_state(self.torch)
        _numpy.set(self.numpy)
        random.setstate(self.python)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)

    def plain(self) -> RngState:
        """The same in numbers, lists and tensors."""
        version, words, gauss = self.python
        numpy = _numpy.decoded(self.numpy)
        key = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
        state: RngState = {
            "torch": self.torch,
            "numpy": [key, int(numpy["state"]["pos"]), int(numpy["has_gauss"]), float(numpy["gauss"])],
            # by way of numpy: torch.tensor(words) alone would take as long as all the rest
            "python": [version, torch.from_numpy(np.array(words, dtype=np.int64)), gauss],
        }
        if self.cuda is not None:
            state["cuda"] = self.cuda
        if self.mps is not None:
            state["mps"] = self.mps
        return state


def _numpy_list(state: dict[str, Any]) -> list[Any]:
    return [state["state"]["key"].tobytes(), state["state"]["pos"], state["has_gauss"], state["gauss"]]


def capture_rng() -> RngState:
    """Return the state of every generator of this process, plain, to be given to `restore_rng`."""
    return Snapshot().plain()


def _numpy_state() -> dict[str, Any]:
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    if state["bit_generator"] != "MT19937":
        raise ConfigError(
            f"numpy's global generator is a {state['bit_generator']}: lightkit saves and restores "
            "only numpy's default, MT19937; leave np.random.set_bit_generator() out, or use a "
            "np.random.Generator of your own"
        )
    return state


def restore_rng(state: RngState) -> None:
    """Set every generator as `capture_rng` found it.

    States of devices that this machine has not got are left out, so a run may resume on another machine.
    """
    torch.default_generator.set_state(state["torch"].cpu())
    key, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", key.cpu().numpy(), position, has_gauss, gauss))
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss_next))
    if "cuda" in state and torch.cuda.is_available():
        for index, device_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(device_state.cpu(), index)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())


@contextmanager
def isolate_rng(include_cuda: bool = True) -> Iterator[None]:
    """Leave every generator as it was found, whatever is drawn inside, also when that raises.

    include_cuda=False: those of CUDA devices are not looked at.
    """
    state = Snapshot(include_cuda=include_cuda)
    try:
        yield
    finally:
        state.restore()


def key_rng(seed: int) -> None:
    """Make the CPU generators of torch, numpy and `random` a function of one integer of 63 bits from `mix`.

    Runs for every batch in loader workers, so it must be cheap: about 6 microseconds (torch 1.0, numpy 1.4,
    random 3.5), where torch.manual_seed alone takes 70. Generators of devices are not touched.
    """
    torch.default_generator.manual_seed(seed)  # its Mersenne twister reads the low 32 bits alone
    # The high 32 bits: seeded with the same ones, numpy's twister would repeat torch's words. numpy takes a
    # wider seed only as an array, which costs five times as much.
    np.random.seed(seed >> 31)
    random.seed(seed)


def mix(base_seed: int, index: int) -> int:
    """Return a well mixed integer from 0 to 2**63 - 1 for (base_seed, index): neighbours share nothing.

    Two rounds of splitmix64 (Steele, Lea, Flood 2014). Both arguments may be any integers.
    """
    return _splitmix64(_splitmix64(base_seed) + index) >> 1


def _splitmix64(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)
