"""Which operators the time of a few steps goes to, on CPU and GPU, by torch.profiler."""

from __future__ import annotations

import threading
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightkit.checkpoint.places import local_file
from lightkit.foreign_names import answering
from lightkit.profilers.base import Profiler
from lightkit.profilers.timing import innermost

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

__all__ = ["PyTorchProfiler"]

WAIT, WARMUP, ACTIVE = 1, 1, 3  # batches left out, batches the profiler gets ready in, batches recorded: Lightning's


class PyTorchProfiler(Profiler):
    """Records a few batches with torch.profiler: a table of operators, and a trace to look at in perfetto.dev.

    Batch 0 is left out, 1 warms up, 2 to 4 are recorded; `schedule=torch.profiler.schedule(...)` records others. The
    sections of lightkit and the modules' names stand in the trace. The trace is `<stage>-<filename>.pt.trace.json` in
    the run directory (`...-2.pt.trace.json` from the second cycle of a schedule that repeats).

    Args:
        dirpath, filename: where to write; see `Profiler`.
        group_by_input_shapes: one line for each shape of input.
        emit_nvtx: name the operators for `nvprof`/Nsight (which must run this process) instead of recording them.
        export_to_chrome: write the trace.
        row_limit: lines of the table; -1: all.
        sort_by_key: a column of the table. Default: the device's own time where there is a GPU, else the CPU's.
        record_module_names: record each submodule's forward under its name.
        table_kwargs: passed on to `torch.autograd.profiler_util.EventList.table`.
        **profiler_kwargs: passed on to `torch.profiler.profile`, such as `schedule`, `activities`, `profile_memory`.
    """

    def __init__(
        self, dirpath: str | Path | None = None, filename: str | None = None, group_by_input_shapes: bool = False,
        emit_nvtx: bool = False, export_to_chrome: bool = True, row_limit: int = 20, sort_by_key: str | None = None,
        record_module_names: bool = True, table_kwargs: dict[str, Any] | None = None, **profiler_kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(dirpath, filename)
        self.group_by_input_shapes = group_by_input_shapes
        self.emit_nvtx, self.export_to_chrome = emit_nvtx, export_to_chrome
        self.row_limit, self.record_module_names = row_limit, record_module_names
        self.table_kwargs = table_kwargs or {}
        on_gpu = torch.cuda.is_available()
        self.sort_by_key = sort_by_key or ("self_cuda_time_total" if on_gpu else "self_cpu_time_total")
        self.profiler_kwargs = profiler_kwargs
        self.profiler: Any = None
        self._clear()

    def _clear(self) -> None:
        self._ranges: list[tuple[str, Any]] = []
        self._batches = 0
        self._tables: list[str] = []
        self._stack = ExitStack()
        self.trace_files: list[Path] = []

    def _begin(self, trainer: Trainer, stage: str) -> None:
        self._clear()
        super()._begin(trainer, stage)
        if self.record_module_names and trainer.lightning_module is not None:
            for name, module in trainer.lightning_module.named_modules():
                if name:
                    _record_forward(module, f"[module] {type(module).__name__}: {name}", self._stack)

    def _open(self, trainer: Trainer) -> None:
        """As Profiler._open; recording begins, as its schedule says."""
        super()._open(trainer)
        if self.emit_nvtx:
            self._stack.enter_context(torch.cuda.profiler.profile())
            self._stack.enter_context(torch.autograd.profiler.emit_nvtx())
            return
        kinds = torch.profiler.ProfilerActivity
        given = {
            "activities": [kinds.CPU, kinds.CUDA] if torch.cuda.is_available() else [kinds.CPU],
            "schedule": torch.profiler.schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1),
            "record_shapes": self.group_by_input_shapes, "on_trace_ready": self._take, **self.profiler_kwargs,
        }  # fmt: skip
        self.profiler = torch.profiler.profile(**given)
        self.profiler.start()

    def on_batch(self) -> None:
        """A step of the schedule, before every batch but the first."""
        self._batches += 1
        if self.profiler is not None and self._batches > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a cycle's events are gone with the next; `_take` has them by then
                self.profiler.step()

    def start(self, action_name: str) -> None:
        """As Profiler.start."""
        if threading.get_ident() == self._thread:
            section = torch.autograd.profiler.record_function(action_name)
            section.__enter__()
            self._ranges.append((action_name, section))

    def stop(self, action_name: str) -> None:
        """As Profiler.stop."""
        if threading.get_ident() == self._thread:
            index = innermost(action_name, [name for name, _ in self._ranges])
            self._ranges.pop(index)[1].__exit__(None, None, None)

    def _end(self, trainer: Trainer, status: str) -> None:
        """As Profiler._end; recording ends."""
        self._stack.close()
        profiler, self.profiler = self.profiler, None
        if profiler is not None:
            profiler.stop()  # takes what was recorded of a cycle that is not complete
        super()._end(trainer, status)

    def summary(self) -> str:
        """Return the table of each cycle that was recorded."""
        if self.emit_nvtx:
            return ""
        if not self._tables:
            return (
                f"{self._stage}: nothing was recorded: the run had {self._batches} batches, and recording begins after "
                f"{WAIT + WARMUP}; give PyTorchProfiler(schedule=...) or more batches"
            )
        files = "".join(f"\ntrace, to open in perfetto.dev or chrome://tracing: {path}" for path in self.trace_files)
        return "\n".join(f"{self._stage}: {table}" for table in self._tables) + files

    def _take(self, profiler: Any) -> None:
        events = profiler.key_averages(group_by_input_shape=self.group_by_input_shapes)
        table = events.table(sort_by=self.sort_by_key, row_limit=self.row_limit, **self.table_kwargs)
        lines = [line.rstrip() for line in table.strip().splitlines()]
        self._tables.append("\n".join(["operators of the recorded batches", *lines]))
        number = "" if len(self._tables) == 1 else str(len(self._tables))
        path = self._path(".pt.trace.json", number) if self.export_to_chrome else None
        if path is not None:
            with local_file(path) as file:
                profiler.export_chrome_trace(str(file))
            self.trace_files.append(path)


def _record_forward(module: torch.nn.Module, name: str, until: ExitStack) -> None:
    """Record each forward of a module under a name, until the stack takes the hooks off again."""
    running: list[Any] = []

    def before(module: torch.nn.Module, args: Any) -> None:
        section = torch.autograd.profiler.record_function(name)
        section.__enter__()
        running.append(section)

    def after(module: torch.nn.Module, args: Any, output: Any) -> None:
        running.pop().__exit__(None, None, None)

    until.enter_context(module.register_forward_pre_hook(before))
    until.enter_context(module.register_forward_hook(after, always_call=True))


def __getattr__(name: str) -> object:
    return answering(__name__)(name)
