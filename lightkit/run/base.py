"""A run: one call of fit, validate, test or predict, and the state that is its own.

The Trainer opens a run for each call and reads the newest; a call inside a hook of a running fit gets a run of its own
on top of the fit's, which knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from lightkit.board import MetricBoard
from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.contracts import UNTIMED, EpochOutputs, Timing
from lightkit.data import sources
from lightkit.data.order import Source
from lightkit.datamodule import LightDataModule
from lightkit.devices.compute import release
from lightkit.errors import ConfigError, StoppedBySignal
from lightkit.hooks import LEGACY, LEGACY_ALIASES, LEGACY_TURNS, Dispatcher, method_of, walk
from lightkit.module import LightModule
from lightkit.optimizers import Optimization
from lightkit.results import Results, Taken
from lightkit.run.directory import RunDirectory
from lightkit.run.signals import Listener, stopped_by
from lightkit.seeding import Snapshot
from lightkit.settings import Controls, as_list
from lightkit.states import RunningStage, TrainerFn, TrainerState, TrainerStatus

if TYPE_CHECKING:
    from torch import nn

    from lightkit.loggers.base import Logger
    from lightkit.loops.position import Position
    from lightkit.trainer import Trainer

_LEGACY_NAMES = (*(hook.name for hook in walk(LEGACY)), *LEGACY_ALIASES)


@dataclass
class Loaders:
    """The loaders of a run as they were given or made, by "train", "val", "test" and "predict"; and how many batches of
    each are used, "sanity" among them."""

    found: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, list[float]] = field(default_factory=dict)

    def take(self, stage: str, found: object, counts: list[float]) -> None:
        """These are the loaders of a stage."""
        # of a CombinedLoader those that it combines, as in Lightning
        self.found[stage] = getattr(found, "iterables") if hasattr(type(found), "flattened") else found  # noqa: B009
        self.counts[stage] = counts


class Run:
    """One call: who takes part, what is logged and shown, and how it ends."""

    fn: ClassVar[TrainerFn]
    main_stage: ClassVar[RunningStage]
    dispatcher: Dispatcher
    # what a copy has, which only is read
    timing: Timing = UNTIMED
    results: Results | None = None  # where `self.log` goes now
    rng_before: Snapshot | None = None  # of the training, while an evaluation is going on
    is_copy = False

    def __init__(
        self, trainer: Trainer, position: Position, directory: RunDirectory, module: LightModule,
        datamodule: LightDataModule | None, given: tuple[object, ...], before: Run | None, *, is_nested: bool,
    ):  # fmt: skip
        self.trainer, self.position, self.directory, self.settings = trainer, position, directory, trainer.settings
        self.strategy, self.precision, self.compute = trainer.strategy, trainer.precision, trainer.compute
        self.device, self.profiler, self.writer = trainer.devices[0], trainer.profiler, trainer.checkpoint_writer
        self.controls: Controls = trainer  # all of it that loops know
        self.module, self.datamodule, self.callbacks = module, datamodule, trainer.callbacks
        self.given, self.is_nested = given, is_nested  # loaders
        self.listener = Listener(self.controls)
        self.is_trained = is_nested and before is not None and before.module is module  # by the fit around
        # handed on from the run before, to be read until this one has its own
        shown = Loaders() if before is None else before.loaders
        self.loaders: Loaders = Loaders({**shown.found}, {**shown.counts})
        self.optimization: Optimization = Optimization([], []) if before is None else before.optimization
        self.status: TrainerStatus = TrainerStatus.INITIALIZING if before is None else before.status
        self.is_open = False
        self.board: MetricBoard = MetricBoard() if before is None or self.fn == "fit" else before.board.copy()
        self.ckpt_path: str | None = None
        self.timing = trainer.profiler._timing(is_nested=is_nested)
        self.evaluation_timing: Timing = self.timing
        self.write = self.timing.timed("logging", self._write)
        self._stage: RunningStage | None = None
        self._compiled: list[nn.Module] = []

    def attach(self) -> None:
        """Tell the module and the data module who runs them, and find out which callbacks take part."""
        if self._is_legacy():
            from lightkit.legacy.style import take_aliases

            take_aliases(self.module)
        self.module._attach_trainer(self.trainer)
        if self.datamodule is not None:
            self.datamodule._attach_trainer(self.trainer)
        self.callbacks = self.with_own_callbacks()
        self.attach_again()
        taking_part = self.callbacks
        if any(hasattr(owner, name) for owner in (self.module, *taking_part) for name in LEGACY_TURNS):
            from lightkit.legacy.turns import with_turns

            taking_part = with_turns(self.module, taking_part)
        self.dispatcher = Dispatcher(
            self.trainer, self.module, self.datamodule, taking_part,
            (LightDataModule, Callback, LightModule, Checkpoint), self.timing.hook,
        )  # fmt: skip

    def with_own_callbacks(self) -> list[Callback]:
        """The callbacks with the module's own, which replace those of their type; those that save come last."""
        own: list[Callback] = as_list(method_of(self.module, LightModule, "configure_callbacks")())
        if len(own) == 0:
            return self.callbacks
        kinds = {type(c) for c in own}
        kept = [c for c in self.callbacks if type(c) not in kinds]
        return sorted([*kept, *own], key=lambda c: isinstance(c, Checkpoint))

    def take_callbacks(self, callbacks: list[Callback]) -> None:
        """These are shown from now on; those that are new take part at once, others up to the end of the run."""
        self.callbacks = callbacks
        self.attach_again()
        self.dispatcher.join(callbacks)

    def take_optimizers(self, optimizers: list[Optimizer]) -> None:
        """These are stepped from the next epoch on."""
        self.optimization = Optimization(optimizers, self.optimization.schedulers)

    def attach_again(self) -> None:
        """A run inside of this one is over, which may have been another module's."""
        for callback in self.callbacks:
            callback._attach_module(self.module)

    # ------------------------------------------------------------ what users see of it through the Trainer

    @property
    def state(self) -> TrainerState:
        """What runs: `fn`, `stage` and `status`; after the run no stage."""
        return TrainerState(self.status, self.fn, self.stage)

    @property
    def stage(self) -> RunningStage | None:
        """The stage that runs now: what else is going on, or the main one."""
        return (self._stage or self.main_stage) if self.is_open else None

    def callback_metrics(self) -> dict[str, Tensor]:
        """The newest value of every logged metric; costs a device read where there is a newer one."""
        self.refresh()
        return self.board.callback

    def refresh(self) -> None:
        """Show what was logged in the step that runs."""
        if self.results is not None and self.results.has_step_values:
            self.board.take(self.results, of_step=True)

    # ------------------------------------------------------------ what its loops use

    @property
    def loggers(self) -> list[Logger]:
        """Where metrics are written to."""
        return self.trainer.loggers

    def call_with_stage(self, name: str, owners: str) -> None:
        """Call `setup` or `teardown`, whatever their argument is called."""
        for fn in self.dispatcher.bind(name, owners):
            from lightkit.calling import call_by_name

            call_by_name(fn, stage=self.fn)

    def call(self, name: str, *args: object, owners: str = "CSM") -> None:
        """Call a hook outside of the hot loop."""
        if self.results is not None:
            self.results.enter(name)
        for fn in self.dispatcher.bind(name, owners):
            fn(*args)

    @contextmanager
    def collect_into(self, results: Results) -> Iterator[None]:
        """Let `self.log` collect into these results."""
        before = self.results
        self.results = results
        outer = self.module._collect_into(results)
        results.stand_in(outer)
        try:
            yield
        finally:
            self.results = before
            self.module._collect_into(outer)
            results.stand_out()

    @contextmanager
    def in_stage(self, stage: RunningStage) -> Iterator[None]:
        """Something else than the run's main stage is going on."""
        before, self._stage = self._stage, stage
        try:
            yield
        finally:
            self._stage = before

    @contextmanager
    def evaluating(self, stage: RunningStage, rng: Snapshot) -> Iterator[None]:
        """An evaluation is going on; what is saved meanwhile holds the generators from before it."""
        self.rng_before = rng
        try:
            with self.in_stage(stage):
                yield
        finally:
            self.rng_before = None

    def _write(self, taken: Taken, step: int, *, is_bare: bool = False) -> None:
        """is_bare: of a batch of an evaluation, which stands in no epoch."""
        metrics = {entry.forked: number for entry, number in taken if entry.slot.logger}
        if not metrics:
            return
        self.board.note_logged(metrics)
        if self.strategy.is_global_zero and self.loggers:
            self.trainer._records.write(metrics, step, None if is_bare else self.position.epoch)

    def _is_legacy(self) -> bool:
        """Whether the module has hooks of the earlier style, which may be set at any time."""
        own, kind = vars(self.module), type(self.module)
        return any(name in own or hasattr(kind, name) for name in _LEGACY_NAMES)

    def step_of(self, name: str) -> Callable[..., object]:
        """The module's step."""
        step: Callable[..., object] = method_of(self.module, LightModule, name)
        if self._is_legacy():
            from lightkit.legacy.style import ended_step

            return ended_step(self.module, name, step)
        return step

    def outputs_of(
        self, hook: str, results: Results, *, is_training: bool = False, loaders: int = 1
    ) -> EpochOutputs | None:
        """What wants to see the outputs of an epoch again at its end; None where nobody does."""
        if not self._is_legacy() or not callable(getattr(self.module, hook, None)):
            return None
        from lightkit.legacy.style import KeptOutputs

        return KeptOutputs(self.module, hook, results, is_training=is_training, loaders=loaders)

    def preparer(self) -> Callable[[object, int], object] | None:
        """What happens to a batch between loader and step; None where nothing does."""
        return sources.batch_preparer(self.module, self.datamodule, self.device, self.precision, self.compute)

    # ------------------------------------------------------------ set-up

    def set_up(self) -> None:
        """The hooks that build data sets and layers."""
        if self.strategy.is_global_zero:
            self.call("prepare_data", owners="DM")
        self.strategy.barrier("prepare_data")
        self.call_with_stage("setup", "DCSM")
        self.call("configure_model", owners="M")
        self.position.see_metrics(self.module)

    def open_directory(self) -> None:
        """Make the run directory before work begins, where something will be written to it."""
        if self._writes_files() and not self.settings.fast_dev_run and self.strategy.is_global_zero:
            path = self.directory.make(self.name)
            if self.loggers:
                self.trainer._records.open(path, self.settings.on_log_error)
        if not self.is_nested:
            self.profiler._open(self.trainer)

    def _writes_files(self) -> bool:
        return bool(self.loggers)

    @property
    def name(self) -> str:
        """What the run directory is called where the user gave no name."""
        return type(self.module).__name__

    def place(self) -> None:
        """Bring the module to its device, and compile it where that is asked for."""
        self._compiled = self.compute.place(self.module, self.strategy, self.device)

    def sources_of(
        self, stage: str, found: object, *, is_sequential: bool = False, may_be_empty: bool = False
    ) -> tuple[list[Source], list[float]]:
        """The loaders of an evaluation made readable, and how many batches of each are used."""
        argument = f"limit_{stage}_batches"
        limit: int | float = getattr(self.controls, argument)
        readable = sources.sources_of(
            found, f"{stage}_dataloader()", is_sequential=is_sequential, may_be_empty=may_be_empty
        )
        limits = [source.limited(limit, argument) for source in readable]
        self.loaders.take(stage, found, limits)
        return readable, limits

    # ------------------------------------------------------------ from the first hook to the last

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take everything down again, whatever happens in between."""
        self.is_open, self.status = True, TrainerStatus.RUNNING
        if not self.is_nested:
            self.directory.forget_plan()
            self.controls.should_stop = False
            self.profiler._begin(self.trainer, self.fn)
            self.listener.begin()
        status = TrainerStatus.FAILED
        try:
            yield
            self.writer.settle()  # hooks at the end may have saved
            status = TrainerStatus.FINISHED
        except BaseException as caught:
            error = self._explained(caught)
            if isinstance(error, KeyboardInterrupt | StoppedBySignal):
                status = TrainerStatus.INTERRUPTED
            self.go_back()
            for fn in self.dispatcher.bind("on_exception", "DCS"):
                fn(error)
            if error is caught:
                raise
            raise error from None
        finally:
            self.status = status
            try:
                self.writer.finish()
                self._tear_down("success" if status == "finished" else status.value)
            finally:
                self.listener.end()
        self.ended()
        if self.controls.stop_signal and not self.is_nested:  # it came when everything was done
            raise stopped_by(self.controls.stop_signal)

    def go_back(self) -> None:
        """An error ended the run: leave what can be saved and resumed."""

    def read_sources(self) -> list[Source]:
        """The loaders that are read."""
        return []

    def _explained(self, error: BaseException) -> BaseException:
        """The error, or what to read instead."""
        if not isinstance(error, Exception):
            return error
        from lightkit.run.explanations import explained

        return explained(error, self)

    def _tear_down(self, status: str) -> None:
        try:
            self.call_with_stage("teardown", "D")
            self.call_with_stage("teardown", "CSM")
        finally:
            writes = bool(self.loggers) and not self.is_nested
            failure = self.trainer._records.finalize(status) if writes else None
            self.is_open = False
            self.release(has_failed=status != "success")
            if not self.is_nested:
                self.module._collect_into(None)
                self.profiler._end(self.trainer, status)
                self.directory.mark()
        if failure is not None:
            raise failure

    def ended(self) -> None:
        """The run came to its end, and everything is taken down."""

    def release(self, *, has_failed: bool) -> None:
        """The run is over: give the module back as it was; let go of processes."""
        release(self._compiled)

    # ------------------------------------------------------------ checkpoints

    def save_checkpoint(self, path: str | Path, rng: Snapshot | None, *, weights_only: bool) -> None:
        """See Trainer.save_checkpoint; rng: the training's, where an evaluation has the generators now."""
        from lightkit.run import saving

        if self.is_copy and not weights_only:
            raise ConfigError(
                "trainer.save_checkpoint(): this Trainer is a copy, which has no optimizers before it fits; fit first, "
                "or save the weights alone: weights_only=True"
            )
        checkpoint = saving.gather(self, rng, weights_only=weights_only)
        if self.strategy.is_global_zero:
            self.writer.save(checkpoint, path, saving.note_of(self))
            if self.fn != "fit" or self.status != "running":
                self.writer.settle()
        self.strategy.barrier("save_checkpoint")

    # ------------------------------------------------------------ copies

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle is what is left to read of the run: neither loaders, which may hold what cannot be copied,
        # nor what was bound to work in it
        bound = "dispatcher timing evaluation_timing write loop data manual results rng_before listener".split()
        state = {name: value for name, value in vars(self).items() if name not in bound}
        state.update(is_copy=True, is_open=False, given=(), _stage=None, _compiled=[])
        state["optimization"] = Optimization([], [])  # a scheduler cannot be pickled
        return {**state, "loaders": Loaders({}, self.loaders.counts)}
