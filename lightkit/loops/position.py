"""Where training is: what goes on from fit to fit, and all that a checkpoint asks of the loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from lightkit.results import Results
from lightkit.seeding import RngState, restore_rng

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lightkit.board import MetricBoard
    from lightkit.contracts import EpochOutputs
    from lightkit.data.order import Source, SourceState
    from lightkit.loops.open_window import WindowState
    from lightkit.metric_objects import MetricKeeper, States
    from lightkit.module import LightModule


@dataclass
class Counters:
    """Epochs, batches and optimizer steps; plain numbers that only the training loop moves on."""

    epoch: int = 0  # the running epoch, from 0
    is_epoch_started: bool = False  # its on_train_epoch_start was called
    is_epoch_done: bool = False  # everything of it is done, its end included
    batches_done: int = 0  # in the running epoch
    total_batches: int = 0  # over all epochs
    global_step: int = 0  # optimizer steps over all epochs
    logged_step: int = -1  # the last step whose metrics were written
    validated_at: int = -1  # total_batches at the last validation
    epochs_scheduled: int = 0  # epochs at whose end the schedulers have moved
    schedulers_wait: bool = False  # those with interval "step" that watch a metric wait for the validation that is due
    steps_logged: int = 0  # validation steps whose metrics were written
    ended_at: int = -1  # total_batches at the last end of an epoch, which may have come before its last batch
    logs_by_batch = False  # metrics are written by batches, as with manual optimization, not by optimizer steps

    def next_epoch(self) -> None:
        """Go on to the epoch that comes next."""
        self.epoch += 1
        self.batches_done = 0
        self.is_epoch_started = self.is_epoch_done = False

    @property
    def is_inside(self) -> bool:
        """Whether an epoch is going on whose end was not called at this batch."""
        return self.is_epoch_started and self.ended_at != self.total_batches

    def end_epoch(self) -> None:
        """The hooks of the epoch's end have had their turn, but for those that save."""
        self.ended_at = self.total_batches

    def log_by_batch(self, is_asked: bool) -> None:
        """A fit begins whose metrics are written by batches, or by optimizer steps."""
        self.logs_by_batch = is_asked
        if is_asked:  # a checkpoint of before counted steps, of which there are more
            self.logged_step = min(self.logged_step, self.total_batches)

    @property
    def log_count(self) -> int:
        """What metrics are written by: optimizer steps, or batches, over all epochs."""
        return self.total_batches if self.logs_by_batch else self.global_step

    @property
    def last_logged(self) -> int:
        """The number, from 0, under which metrics of now are written."""
        return max(self.log_count - 1, 0)

    def next_log(self, interval: float) -> float:
        """The count at which metrics are written next: a multiple of the interval, or the first that passes it."""
        return (max(self.logged_step, 0) // interval + 1) * interval

    def end_log(self, interval: float) -> float:
        """The metrics of now are being written; -> the count at which they are written next."""
        self.logged_step = self.log_count
        return self.next_log(interval)

    def leave_epoch(self, *, was_stopped: bool) -> None:
        """Where the trainer's last fit ended inside an epoch: go on with the next if it was stopped, else repeat it."""
        if self.is_epoch_started and was_stopped:
            self.next_epoch()
        self.batches_done = 0
        self.is_epoch_started = False

    def repeat_from(self, batch: int) -> None:
        """The batches from this one on are done again."""
        self.total_batches -= self.batches_done - batch
        self.batches_done = batch

    def go_back_to(self, before: Counters) -> None:
        """Count from where these stood."""
        for field in fields(self):
            setattr(self, field.name, getattr(before, field.name))

    def end_validation(self) -> None:
        """All that a validation decides is decided: it is not repeated."""
        self.validated_at = self.total_batches

    def next_logged_step(self) -> int:
        """The number of a validation step whose metrics are written, over all validations; a resumed fit counts on."""
        self.steps_logged += 1
        return self.steps_logged - 1

    def rewind_logged(self, steps_logged: int) -> None:
        """A validation was broken off, and is to be repeated from its first step."""
        self.steps_logged = steps_logged

    def state_dict(self) -> dict[str, int | bool]:
        """Plain values; `ended_at` only where an epoch was ended before its last batch."""
        state = asdict(self)
        if not self.is_epoch_started or self.is_epoch_done or self.is_inside:
            del state["ended_at"]
        return state

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Take back what `state_dict` gave; an epoch that was done is followed by the next."""
        for field in fields(self):
            setattr(self, field.name, state.get(field.name, field.default))  # all but `ended_at` are there
        if self.is_epoch_done:
            self.next_epoch()


class Position:
    """The position of training: counters, running results, kept outputs, the order of the data.

    The Trainer keeps it and hands it from fit to fit; each fit attaches it to its module. It is taken between two
    optimizer steps.
    """

    def __init__(self) -> None:
        self.counters = Counters()
        self.results = Results(is_training=True)
        self.outputs: EpochOutputs | None = None  # what the earlier style wants to see again at the epoch's end
        self.source: Source | None = None  # of the running epoch
        self.has_ended = False  # the last fit ran to its end, which may be inside an epoch
        self._is_left = False  # the training ended inside an epoch, whose end was called there
        self._resumed: tuple[Any, RngState] | None = None  # position in the data and generators of a checkpoint
        self._loaded: dict[str, Any] = {}  # what of a checkpoint waits for the epoch
        self._window: Callable[[], WindowState | None] | None = None
        self._held: SourceState | None = None  # of the data, where it cannot be asked any more
        self._keeper: MetricKeeper | None = None  # of torchmetrics objects, where there may be any
        self._before: States | None = None  # what they held before a validation that is not decided yet

    def attach(self, module: LightModule, board: MetricBoard, device: torch.device) -> None:
        """What is logged is this module's, and shown on this board."""
        self._module, self._board, self._device = module, board, device

    def forget_results(self) -> None:
        """A fit begins, perhaps of another module with other arguments and torchmetrics objects."""
        self.results.clear()
        self.results.forget()
        self._before = None

    def ask_window(self, window: Callable[[], WindowState | None]) -> None:
        """This tells of the accumulation window that is open when a checkpoint is taken."""
        self._window = window

    @property
    def epoch(self) -> int:
        """The running epoch; after a training that was stopped inside of one, the next."""
        return self.counters.epoch + self._is_left

    def leave(self) -> None:
        """The training is over."""
        self._is_left = self.counters.is_epoch_started and not self.counters.is_inside

    def start(self, *, is_resumed: bool, is_manual: bool) -> None:
        """A fit begins; one that is not resumed from a file goes on with the next epoch, or repeats a broken one."""
        self._is_left = False
        self.counters.log_by_batch(is_manual)
        if not is_resumed:
            self.counters.leave_epoch(was_stopped=self.has_ended)
            self._resumed, self._loaded = None, {}
        self.has_ended = False

    @property
    def is_as_loaded(self) -> bool:
        """Whether nothing has been trained yet, or nothing since the checkpoint that was loaded."""
        return self._resumed is not None or self.counters.total_batches == 0

    def end(self) -> None:
        """The fit ran to its end."""
        self.has_ended = True

    # ------------------------------------------------------------ torchmetrics objects

    def see_metrics(self, module: nn.Module) -> None:
        """A run begins: what becomes of a metric's attributes from now on is its history, which checkpoints hold."""
        if (keeper := self._keeper_now()) is not None:
            keeper.see(module)

    def _keeper_now(self) -> MetricKeeper | None:
        if self._keeper is None and "torchmetrics" in sys.modules:  # without it there are no metrics
            from lightkit.metric_objects import MetricKeeper

            self._keeper = MetricKeeper()
        return self._keeper

    @contextmanager
    def metrics_left_alone(self) -> Iterator[None]:
        """What happens inside, the sanity check, leaves nothing in the metrics of the module."""
        if self._keeper_now() is None:
            yield
            return
        from lightkit.metric_objects import restore, snapshot

        before = snapshot(self._module)
        yield
        restore(self._module, before)

    def logged_state(self, *, is_whole: bool = False) -> dict[str, Any]:
        """What was logged, and what the metrics hold. is_whole: to go back in this process."""
        keeper = self._keeper_now()
        if keeper is None:
            return {"results": self.results.state_dict({}), "metrics": {}}
        metrics = keeper.states(self._module, is_whole=is_whole) if self._before is None else self._before
        return {"results": self.results.state_dict(keeper.places(self._module), warns=not is_whole), "metrics": metrics}

    def load_logged_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `logged_state` gave."""
        parts: Mapping[str, object] = {}
        if state["metrics"]:
            from lightkit.metric_objects import found_in, restore

            restore(self._module, state["metrics"], self._device)
            parts = found_in(self._module)
        self.results.load_state_dict(state["results"], self._device, parts)

    def begin_validation(self) -> None:
        """What is saved until it is decided holds the metrics as they are now: after a resume it is repeated."""
        keeper = self._keeper_now()
        self._before = None if keeper is None else keeper.states(self._module)

    def end_validation(self) -> None:
        """All that a validation decides is decided: it is not repeated."""
        self.counters.end_validation()
        self._before = None

    # ------------------------------------------------------------ an epoch

    def open(self, source: Source) -> tuple[Any, RngState] | None:
        """An epoch reads from this source; -> its state and the generators, where it is to be taken up."""
        self.source = source
        resumed, self._resumed = self._resumed, None
        self._held = None
        return resumed

    def take_window(self) -> WindowState | None:
        """The accumulation window that was open in the checkpoint; None: none was. Before `collect`."""
        found: WindowState | None = self._loaded.get("window")
        return found

    def hold(self, data: SourceState | None) -> None:
        """The data was here when what is saved from now on was true; None: it can be asked."""
        self._held = data

    def take_up(self, source: Source) -> None:
        """Nothing is left to train: the generators are those of the checkpoint all the same, where there is one."""
        resumed = self.open(source)
        if resumed is None:
            return
        if resumed[0] is not None and self.counters.is_epoch_started:
            source.reopen(resumed[0], self.counters.batches_done)
        elif resumed[0] is not None:
            source.load_between_epochs(resumed[0])
        restore_rng(resumed[1])

    def collect(self, outputs: EpochOutputs | None, *, is_taken_up: bool) -> None:
        """An epoch begins, or is taken up: then what wants its outputs gets those that the checkpoint has."""
        self.outputs = outputs
        if outputs is not None and is_taken_up:
            outputs.load(self._loaded["outputs"])
        self._loaded = {}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on from between two steps, but for the generators."""
        window = None if self._window is None else self._window()
        return {
            "progress": self.counters.state_dict(), **self.logged_state(), "board": self._board.state_dict(),
            "data": self._held or (None if self.source is None else self.source.state_dict()),
            "outputs": [[]] if self.outputs is None else self.outputs.outputs,
            **({} if window is None else {"window": window}),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; generators come with `resume_with`, the data when the epoch begins.

        Raises StateError where it is of another form.
        """
        from lightkit.loops.saved_form import check_loop

        check_loop(state)
        self.counters.load_state_dict(state["progress"])
        self.load_logged_state(state)
        self._board.load_state_dict(state["board"])
        self._loaded = state

    def resume_with(self, rng: RngState) -> None:
        """These are the generators of the moment of the checkpoint, set when the epoch begins."""
        self._resumed = self._loaded["data"], rng

    def __getstate__(self) -> dict[str, Any]:
        # a copy goes on with the next fit: neither a loader, which may hold what cannot be copied, nor what it gave
        gone = ("source", "outputs", "_window", "_held", "_keeper", "_before")
        return {**self.__dict__, **dict.fromkeys(gone)}
