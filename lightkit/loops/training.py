"""THE hot loop.

    for epoch:
        on_train_epoch_start
        for batch in the epoch's order, from where the run is:
            batch = prepare(batch)                       # transfer hooks; nothing on the CPU
            on_train_batch_start
            output = training_step(batch, batch_idx)
            if the accumulation window begins: zero_grad
            backward(loss / window)
            if the window is full, or the data is at its end:
                unscale; on_before_optimizer_step; clip; optimizer.step     -> one unit of progress
                schedulers with interval "step"
            on_train_batch_end; metrics to the loggers when due; checkpoints; validation when due
        on_train_epoch_end; epoch means; early stopping; plateau schedulers; loggers; checkpoints

What nobody overrides is an empty list and costs one truth test. Tensors are read only where metrics are written.
"""

from __future__ import annotations

import math
import signal
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from lightkit.callbacks.base import Checkpoint
from lightkit.errors import DataError
from lightkit.hooks import method_of
from lightkit.loops.limits import Limits
from lightkit.loops.outputs import Window, as_outputs, check_loss, loss_of, weight_of
from lightkit.loops.parts import StepParts, bind
from lightkit.loops.position import Counters, Position
from lightkit.module import LightModule
from lightkit.optimizers import scale_gradients
from lightkit.results import Results
from lightkit.seeding import restore_rng

if TYPE_CHECKING:
    from lightkit.loops.open_window import Guard, WindowState
    from lightkit.run.fit import FitRun

_END = object()


class TrainingLoop(Limits):
    """Trains a module: epochs over one source, one optimizer, validation in between.

    The loop alone counts optimizer steps, keeps the newest loss and opens accumulation windows. It has the attributes
    listed here and no other: what is set on it has an effect or is an error.
    """

    __slots__ = (
        "guard", "loss", "micro", "next_log", "next_validation", "parts", "position", "progress", "results", "run",
        "shows_steps", "window",
    )  # fmt: skip
    parts: StepParts

    def __init__(self, run: FitRun, position: Position):
        self.run, self.position = run, position
        self.progress: Counters = position.counters
        self.results: Results = position.results
        self.loss: Tensor | None = None
        self.micro = 0  # micro-batches in the open window
        self.window = Window(1)
        self.shows_steps = False  # metrics that are read now are the last step's
        self.next_log = self.next_validation = math.inf
        self.guard: Guard | None = None  # where something saves when an error ends the fit
        position.ask_window(self._window_state)

    @property
    def batches_done(self) -> int:
        """Batches finished in the running epoch."""
        return self.progress.batches_done

    # ------------------------------------------------------------ epochs

    def fit(self) -> None:
        """Train until max_epochs, max_steps or should_stop."""
        with self.run.collect_into(self.results):
            self.run.call("on_train_start")
            before: StepParts | None = None
            resting, has_rested = 0, False
            if (reason := self._why_done()) and self.run.data.num_batches > 0:
                self.run.say_nothing_to_do(reason)
            while not self._why_done():
                done, is_part = self.progress.global_step, self.progress.batches_done > 0
                self._epoch(before)
                resting = 0 if is_part or self.progress.global_step > done else resting + 1
                if resting:
                    self.run.check_progress(resting, is_first=not has_rested)
                    has_rested = True
                before = self.parts
            if before is None:
                self.position.take_up(self.run.data.source)
            else:
                self.check_weights()
            self.position.leave()
            self.run.call("on_train_end")

    def _why_done(self) -> str:
        """What ends the training now; "": nothing does."""
        controls, p = self.run.controls, self.progress
        if self.run.data.num_batches == 0:
            return "there are no batches"
        if self.run.is_finished:
            return "the run is finished"
        if _reached(p.epoch, controls.max_epochs):
            return f"max_epochs={controls.max_epochs} is reached"
        if p.is_inside:
            return ""  # what ends it there has its turn, and the epoch's end is called
        if _reached(p.global_step, controls.max_steps):
            return f"max_steps={controls.max_steps} is reached"
        return "should_stop is set" if controls.may_end and self._ends_here() else ""

    def _ends_here(self) -> bool:
        """Whether no further step is to be taken; a signal ends the fit as a whole, Ctrl-C even in a window."""
        number = self.run.controls.stop_signal
        if number and (number == signal.SIGINT or self.micro == 0 or self._at_end()):
            self.run.stop_by_signal()
        return self._should_stop()

    def _should_stop(self) -> bool:
        controls, p = self.run.controls, self.progress
        if not controls.should_stop or (self.micro > 0 and not self._at_end()):
            return False  # an open accumulation window is finished first
        done = p.epoch + (p.is_epoch_done or self._at_end())
        return done >= (controls.min_epochs or 0) and p.global_step >= (controls.min_steps or 0)

    def _at_end(self) -> bool:
        return self.progress.batches_done >= self.run.data.num_batches

    def _epoch(self, before: StepParts | None) -> None:
        run, position, p, timing = self.run, self.position, self.progress, self.run.timing
        run.dispatcher.refresh()
        run.data.reload_if_due(p.epoch)
        source = run.data.source
        resumed = position.open(source)
        window = position.take_window()
        if window is not None and (
            window["gradients"] is None or window["size"] != run.controls.accumulate_grad_batches
        ):
            p.repeat_from(window["first"])  # broken, or of another size now: it begins anew
            window = None
        source.set_epoch(p.epoch)
        outputs = run.outputs_of("training_epoch_end", self.results, is_training=True)
        position.collect(outputs, is_taken_up=resumed is not None and p.is_epoch_started)
        if resumed is not None and p.is_epoch_started:
            batches = timing.timed("open data", source.reopen)(resumed[0], p.batches_done)
            restore_rng(resumed[1])
        else:
            if resumed is not None:
                # None: saved before the first epoch. A loader made anew has generators of its own.
                if resumed[0] is not None and not run.data.reloads_at(p.epoch):
                    source.load_between_epochs(resumed[0])
                restore_rng(resumed[1])
            run.call("on_train_epoch_start")
            p.is_epoch_started = True
            if run.data.source is not source:  # a hook has asked for the loaders anew
                source = run.data.source
                position.open(source)
                source.set_epoch(p.epoch)
            batches = timing.timed("open data", source.open)()
        self.micro, self.window = 0, Window(run.controls.accumulate_grad_batches)
        self.next_log = p.next_log(run.controls.log_interval)
        self.next_validation = run.data.plan.next(p)
        self.parts = bind(run, self, before)
        if window is not None:
            from lightkit.loops.open_window import take_up

            take_up(self, window)
        self.shows_steps = True
        if resumed is not None:
            self._finish_step()
        ended = timing.timed("loop", self._batches)(self._guarded(timing.batches(batches)))
        self.guard = None
        del batches  # workers that do not stay end here
        self._epoch_end(is_complete=ended or self._at_end(), ended_early=ended)

    # ------------------------------------------------------------ batches

    def _batches(self, batches: Iterator[object]) -> bool:  # noqa: C901  # one page, read from top to bottom
        """Run the batches of the epoch that are left; True where the loader, or a hook, ended it."""
        controls, parts, p, results = self.run.controls, self.parts, self.progress, self.results
        last_step = math.inf if controls.max_steps in (None, -1) else controls.max_steps
        num_batches, kept = self.run.data.num_batches, self.position.outputs
        while p.batches_done < num_batches and p.global_step < last_step:
            if controls.may_end and self._ends_here():
                break
            batch = next(batches, _END)
            if batch is _END:
                self._check_not_empty()
                self._end_window()
                return True
            index = p.batches_done
            if parts.prepare is not None:
                results.enter("on_after_batch_transfer")
                batch = parts.prepare(batch, 0)
            results.batch = batch
            if parts.on_batch_start and batch is not None:
                results.enter("on_train_batch_start")
                if any([fn(batch, index) == -1 for fn in parts.on_batch_start]):
                    self._end_window()
                    p.end_validation()  # as in Lightning, none after a rest that is skipped
                    return True
            is_last = index + 1 >= num_batches
            results.enter("training_step")
            if batch is None:
                output, has_stepped = None, False
                self._leave_out(is_last)
            elif parts.step is not None:
                output, has_stepped = parts.step(batch, index, is_last)
            else:
                output = parts.training_step(batch, index)
                if self.learn(output, index):
                    self.micro += 1
                has_stepped = self.micro >= parts.accumulate or (is_last and self.micro > 0)
                if has_stepped:
                    self._update()
            p.batches_done = index + 1
            p.total_batches += 1
            if has_stepped:
                parts.schedules.move_step()
            if is_last:
                parts.schedules.move_epoch()
                self._open_ahead()
            if kept is not None:
                kept.keep(output)
            outputs = as_outputs(output) if parts.on_batch_end or parts.save_on_batch_end else None
            if parts.on_batch_end:
                results.enter("on_train_batch_end")
                for fn in parts.on_batch_end:
                    fn(outputs, batch, index)
            if has_stepped and (p.global_step >= self.next_log or controls.should_stop):
                parts.write_step()
            if parts.save_on_batch_end:
                for fn in parts.save_on_batch_end:
                    fn(outputs, batch, index)
            if (p.batches_done >= self.next_validation or controls.should_stop) and (self.micro == 0 or is_last):
                self._validate_or_stop()
        return False

    def learn(self, output: object, index: int) -> bool:
        """Backward for one micro-batch; False where training_step returned None."""
        parts = self.parts
        loss = output if isinstance(output, Tensor) else loss_of(output, parts.module, self.run.log_returned)
        if loss is None:
            return False
        self.loss = loss
        if parts.checks_every_step:
            self.check_finite(index)
        if parts.optimizer is None:
            return True
        if not loss.requires_grad or loss.dim() > 0:
            check_loss(loss, parts.module)
        if self.micro == 0:
            if parts.free_gradients is not None:
                parts.free_gradients()
            else:
                parts.zero_grad(index)
        if parts.accumulate > 1:
            loss = loss * self.window.factor(weight_of(output, self.results), index)
        for fn in parts.on_before_backward:
            fn(loss)
        if parts.own_backward is None:
            parts.backward(loss)
        else:
            parts.own_backward(parts.scale(loss))
        for fn in parts.on_after_backward:
            fn()
        return True

    def zero_grad(self, index: int) -> None:
        """Free the gradients where somebody wants to see it."""
        parts = self.parts
        assert parts.optimizer is not None
        for fn in parts.on_before_zero_grad:
            fn(parts.optimizer)
        method_of(parts.module, LightModule, "optimizer_zero_grad")(self.progress.epoch, index, parts.optimizer)

    def complete_gradients(self) -> None:
        """Between the last backward of a window and the step: correct, unscale, hooks, clip."""
        parts, run = self.parts, self.run
        optimizer = parts.optimizer
        assert optimizer is not None
        if parts.accumulate > 1:
            correction = self.window.correction()
            if correction is not None:
                scale_gradients([optimizer], correction)
            self.window.open()
        if parts.on_before_step or parts.clip is not None:
            # unscale first: clipping scaled gradients would clip by the loss scale
            run.precision.unscale(optimizer)
            for fn in parts.on_before_step:
                fn(optimizer)
            if parts.clip is not None:
                parts.clip(
                    optimizer, gradient_clip_val=self.run.controls.gradient_clip_val,
                    gradient_clip_algorithm=run.controls.gradient_clip_algorithm,
                )  # fmt: skip

    def _update(self) -> None:
        parts = self.parts
        if parts.update is not None:
            if parts.complete_gradients is not None:
                parts.complete_gradients()
            parts.update()
        self.progress.global_step += 1
        self.micro = 0

    def _leave_out(self, is_last: bool) -> None:
        """No step is made of None, as in Lightning."""
        name = self.run.data.source.name
        warnings.warn(f"{name} gave None as a batch: no training step is made of it", stacklevel=2)
        if is_last:
            self._end_window()

    def _check_not_empty(self) -> None:
        if self.progress.batches_done == 0:
            raise DataError(
                f"the training loader gave no batch in epoch {self.progress.epoch}; check the data set, or give "
                "limit_train_batches=0 to train nothing"
            )

    def _end_window(self) -> None:
        """A loader without length ended inside a window: step with what the window holds."""
        if self.micro > 0:
            self._update() if self.parts.step is None else self.parts.step.finish()
            self.parts.schedules.move_step()

    # ------------------------------------------------------------ an open window in a checkpoint

    def _window_state(self) -> WindowState | None:
        """The accumulation window where one is open, or begun and broken off."""
        manual = self.run.manual
        if self.micro == 0 and not self.window.weights and (manual is None or not manual.waiting):
            return None
        from lightkit.loops.open_window import state_of

        return state_of(self)

    def go_on_with_window(self, state: WindowState) -> None:
        """The window that was open in a checkpoint is open."""
        self.micro = state["micro"]
        self.window.load_state_dict(state)

    def _guarded(self, batches: Iterator[object]) -> Iterator[object]:
        """The batches of an epoch; where something saves on an exception, that finds the training between two."""
        if not any(isinstance(c, Checkpoint) and c.save_on_exception for c in self.run.callbacks):
            return batches
        from lightkit.loops.open_window import Guard

        self.guard = Guard(self, self.run.data.source)
        return self.guard.batches(batches)

    # ------------------------------------------------------------ what other kinds of step ask for

    def count_update(self) -> None:
        """The weights have moved: one more optimizer step."""
        self.progress.global_step += 1

    def log_now(self) -> None:
        """The metrics of the batch that runs are written when it is done."""
        self.next_log = 0

    def keep_loss(self, loss: Tensor) -> None:
        """This is the newest loss: it is looked at for NaN when metrics are read."""
        self.loss = loss

    def add_micro_batch(self) -> None:
        """One more micro-batch has been learned from in the open window."""
        self.micro += 1

    def open_window(self) -> None:
        """The window's update is done, or left out: the next one begins."""
        self.micro = 0
        self.window.open()

    def collect_into(self, results: Results) -> None:
        """What the steps log goes here from now on."""
        self.results = results

    # ------------------------------------------------------------ after a step

    def _open_ahead(self) -> None:
        """Let workers that stay begin with the next epoch, while this one is validated and saved."""
        controls, data, following = self.run.controls, self.run.data, self.progress.epoch + 1
        is_over = _reached(following, controls.max_epochs) or _reached(self.progress.global_step, controls.max_steps)
        if not (is_over or controls.should_stop or data.reloads_at(following)):
            self.run.timing.timed("open data", data.source.open_ahead, is_counted=False)(following)

    def _finish_step(self) -> None:
        """What was still to be done when the checkpoint was taken in the hooks after a step."""
        p = self.progress
        if p.batches_done == 0:
            return
        if p.log_count >= self.next_log:
            self.parts.write_step()
        if self.run.data.plan.is_due(p):
            self._validate()
        self.parts.schedules.move_validated()

    def write_step(self) -> None:
        """Read what was logged, and write it; the only place in an epoch where training reads the device."""
        p = self.progress
        self.next_log = p.end_log(self.run.controls.log_interval)
        self.check_finite()
        if self.run.loggers:
            self.run.write(self.run.board.take(self.results, of_step=True), p.log_count - 1)

    def show_step(self) -> None:
        """Let hooks of a validation find the last training step's values."""
        if self.shows_steps:
            self.run.board.take(self.results, of_step=True)

    def check_finite(self, index: int | None = None) -> None:
        """Raise NonFiniteError where the last loss is NaN or infinite, unless Trainer(nan_check="off")."""
        p = self.progress
        if self.loss is None or self.run.controls.nan_check == "off":
            return
        loss = self.loss.detach()
        value = float(loss if loss.dim() == 0 else loss.sum())  # manual optimization may have several
        if math.isfinite(value):
            return
        from lightkit.loops.finite import loss_error

        looked_at = max(p.batches_done - 1, 0) if index is None else index
        raise loss_error(value, p, looked_at, is_first=index is not None)

    def check_weights(self) -> None:
        """As check_finite, and where the weights themselves are NaN or infinite."""
        if self.run.controls.nan_check == "off":
            return
        from lightkit.loops.finite import is_all_finite, weight_error

        if not is_all_finite(self.run, self.loss):
            self.check_finite()
            raise weight_error(self.run, self.progress)

    def _validate(self) -> None:
        run, p = self.run, self.progress
        if p.validated_at != p.total_batches and run.validate():
            # the generators, modes and gradients are the training's again: what is saved here can be resumed
            self.parts.schedules.move_validated()
            run.call("on_validation_end", owners="S")
        self.next_validation = run.data.plan.next(p)

    def _validate_or_stop(self) -> None:
        if self.comes_validation():
            self._validate()
        else:
            self.next_validation = self.run.data.plan.next(self.progress)

    def comes_validation(self) -> bool:
        """Whether a validation follows the batch that was just finished."""
        plan, p = self.run.data.plan, self.progress
        was_due = p.batches_done >= self.next_validation  # perhaps inside an accumulation window
        is_due = (was_due and plan.seconds is None) or plan.is_due(p)
        return is_due or (self._should_stop() and plan.validates_in(p.epoch))

    def _epoch_end(self, *, is_complete: bool, ended_early: bool) -> None:
        run, p, schedules = self.run, self.progress, self.parts.schedules
        board, kept = run.board, self.position.outputs
        run.dispatcher.refresh()
        self.check_finite()
        if ended_early:
            schedules.move_epoch()
            plan = run.data.plan  # one that counts batches or steps has had its turns inside the epoch
            if plan.validates_in(p.epoch) and plan.every >= run.data.num_batches:
                self._validate()
        self.show_step()  # callbacks find the last step's values beside the epoch's
        self.shows_steps = False
        if kept is not None:
            kept.finish()
        board.take(self.results, of_step=False)
        run.call("on_train_epoch_end", owners="NM")
        taken = board.take(self.results, of_step=False)  # with what was logged just now
        run.call("on_train_epoch_end", owners="W")
        if is_complete:
            schedules.move_waiting()
        run.write(taken, p.last_logged)
        if is_complete:  # what is saved from here on goes on with the next epoch
            p.is_epoch_done = True
            self.results.clear()
            run.data.source.close()
            self.position.collect(None, is_taken_up=False)
        p.end_epoch()
        run.call("on_train_epoch_end", owners="S")
        if is_complete:
            p.next_epoch()

    def release(self) -> None:
        """The fit is over: let go of the last step's graph and batch, and of everybody who took part in it."""
        self.loss = self.results.batch = None
        self.guard, self.shows_steps = None, False
        if hasattr(self, "parts"):
            if self.parts.step is not None:
                self.parts.step.release()
            del self.parts


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and limit != -1 and count >= limit
