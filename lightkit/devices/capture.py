"""Work on a GPU recorded once and launched as a whole afterwards: CUDA graphs.

`warm_up` and `rehearse` run a function as it is, `record` runs its Python once and returns what it returned and a
function that does the recorded work again, on the same memory, without any Python of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from lightkit.devices.precision import Precision
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.settings import Settings

T = TypeVar("T")


class CudaRecorder:
    """Records with `torch.cuda.CUDAGraph`, after warm-ups on the stream that it records on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: torch.cuda.Stream | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "stream": None}  # a copy makes its own

    def warm_up(self, work: Callable[[], T]) -> T:
        """Run work that will be recorded later: libraries, allocators and optimizers set themselves up.

        On the side stream: autograd's leaf nodes belong to the stream they are made on.
        """
        if self.stream is None:
            self.stream = torch.cuda.Stream(self.device)
        main = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            result = work()
        main.wait_stream(self.stream)
        return result

    def rehearse(self, work: Callable[[], T]) -> T:
        """The last warm-up: an error where the work waits for the device, from torch, which points at the line."""
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            return self.warm_up(work)
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def record(self, work: Callable[[], T], generators: Iterable[torch.Generator]) -> tuple[T, Callable[[], None]]:
        """-> (what the work returned, a function that does it again). The work has not been done yet.

        The default generator of the device moves on with each replay, as in eager steps.
        """
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # thread_local: a thread of a loader that pins memory meanwhile does no harm to this recording
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            result = work()
        return result, graph.replay


def check_graph(asked: Settings, device: torch.device, precision: Precision, options: dict[str, Any]) -> None:
    """Raise ConfigError where a step on this device, with these arguments, cannot be captured."""
    where = "Trainer(cuda_graph=True"
    if device.type != "cuda":
        raise ConfigError(
            f"{where}): there is no CUDA graph on {device.type}; use accelerator='gpu' on a machine with an NVIDIA "
            "GPU, or leave cuda_graph out"
        )
    if (problem := graph_problem(asked, precision, options)) is not None:
        raise ConfigError(f"{where}, {problem}, or leave cuda_graph out")


def graph_problem(asked: Settings, precision: Precision, options: dict[str, Any]) -> str | None:
    """Why a step with these arguments cannot be captured, and what to do instead; None where it can."""
    if asked.accumulate_grad_batches != 1:
        return (
            f"accumulate_grad_batches={asked.accumulate_grad_batches}): a captured step is forward, backward and "
            "update at once; use larger batches"
        )
    if precision.scaler is not None:
        return f"precision={precision.name!r}): its gradient scaler reads the gradients in each step; use 'bf16-mixed'"
    if asked.detect_anomaly:
        return "detect_anomaly=True): it looks at the gradients in each step; look for the anomaly without the graph"
    if asked.nan_check == "step":
        return "nan_check='step'): it reads the loss before the update; use 'read'"
    if asked.optimizer_kernel == "foreach":
        return "optimizer_kernel='foreach'): a captured step needs the fused kernels; use 'fused'"
    own = options.get("options") or {}
    if options.get("mode") in ("reduce-overhead", "max-autotune") or own.get("triton.cudagraphs"):
        return (
            f"compile={asked.compile!r}): this compilation makes CUDA graphs of its own; use "
            "mode='max-autotune-no-cudagraphs' or 'default'"
        )
    return None
