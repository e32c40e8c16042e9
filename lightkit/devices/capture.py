"""Work on a GPU recorded once and launched as a whole afterwards: CUDA graphs.

What a recorder promises: `warm_up` and `rehearse` run a function as it is, `record` runs its Python once and returns
what it returned and a function that does the recorded work again, on the same memory, without any Python of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

Work = Callable[[], Any]


class Recorder(Protocol):
    """Records work of one device."""

    def warm_up(self, work: Work) -> Any:
        """Run work that will be recorded later: libraries, allocators and optimizers set themselves up."""

    def rehearse(self, work: Work) -> Any:
        """The last warm-up: an error where the work waits for the device."""

    def record(self, work: Work, generators: Iterable[torch.Generator]) -> tuple[Any, Callable[[], None]]:
        """-> (what the work returned, a function that does it again). The work has not been done yet."""


class CudaRecorder:
    """Records with `torch.cuda.CUDAGraph`, after warm-ups on the stream that it records on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: Any = None

    def warm_up(self, work: Work) -> Any:
        """As Recorder.warm_up; on the side stream: autograd's leaf nodes belong to the stream they are made on."""
        if self.stream is None:
            self.stream = torch.cuda.Stream(self.device)
        main = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            result = work()
        main.wait_stream(self.stream)
        return result

    def rehearse(self, work: Work) -> Any:
        """As Recorder.rehearse; torch's error points at the line that waits."""
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            return self.warm_up(work)
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def record(self, work: Work, generators: Iterable[torch.Generator]) -> tuple[Any, Callable[[], None]]:
        """As Recorder.record; the default generator of the device moves on with each replay, as in eager steps."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # thread_local: a thread of a loader that pins memory meanwhile does no harm to this recording
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            result = work()
        return result, graph.replay
