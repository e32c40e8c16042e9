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
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor

from lightkit.data.order import Source
from lightkit.data.sources import batch_preparer
from lightkit.devices.precision import Precision
from lightkit.devices.transfer import batch_size_of
from lightkit.errors import DataError
from lightkit.hooks import accepts_positional, overrides
from lightkit.loops import state
from lightkit.loops.evaluation import EvaluationLoop
from lightkit.loops.graph import whole_step
from lightkit.loops.outputs import KeptOutputs, as_outputs, check_loss, loss_of, not_finite, step_of, weight_of
from lightkit.loops.progress import Progress, Window
from lightkit.loops.schedules import Schedules
from lightkit.module import LightModule
from lightkit.optimizers import gradient_freer, scale_gradients, stepper
from lightkit.results import Results
from lightkit.seeding import restore_rng

_END = object()
_UPDATE_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")


class TrainingLoop:
    """Trains a module: epochs over one source, one optimizer, validation in between."""

    def __init__(self, trainer: Any, validation: EvaluationLoop):
        self.trainer, self.validation = trainer, validation
        self.progress = Progress()
        self.results = Results(batch_size_of, is_training=True)
        self.kept: KeptOutputs | None = None
        self.loss: Tensor | None = None
        self.manual: Any = None  # takes the step's place where the module optimizes by itself
        self.micro = 0  # micro-batches in the open window
        self.source: Source | None = None
        self.resume_state: dict[str, Any] | None = None  # position in the data and generators of a checkpoint

    @property
    def batches_done(self) -> int:
        """Batches finished in the running epoch."""
        return self.progress.batches_done

    # ------------------------------------------------------------ epochs

    def run(self) -> None:
        """Train until max_epochs, max_steps or should_stop."""
        trainer = self.trainer
        with trainer.collect_into(self.results):
            trainer.call("on_train_start")
            while not self._is_done():
                self._epoch()
            trainer.call("on_train_end")

    def _is_done(self) -> bool:
        trainer, p = self.trainer, self.progress
        if trainer.num_training_batches == 0:
            return True
        if _reached(p.epoch, trainer.max_epochs) or _reached(p.global_step, trainer.max_steps):
            return True
        return self._should_stop()

    def _should_stop(self) -> bool:
        """Whether somebody asked to stop and the minimum is reached."""
        trainer, p = self.trainer, self.progress
        if not trainer.should_stop or (self.micro > 0 and not self._at_end()):
            return False  # an open accumulation window is finished first
        done = p.epoch + (p.is_epoch_done or self._at_end())
        return done >= (trainer.min_epochs or 0) and p.global_step >= (trainer.min_steps or 0)

    def _at_end(self) -> bool:
        return self.progress.batches_done >= self.trainer.num_training_batches

    def _epoch(self) -> None:
        trainer, p = self.trainer, self.progress
        trainer.dispatcher.refresh()
        trainer.reload_train_loader_if_due()
        self.source = source = trainer.train_source
        saved, self.resume_state = self.resume_state, None
        source.set_epoch(p.epoch)
        if saved is not None and p.is_epoch_started:
            batches = source.reopen(saved["data"], p.batches_done)
            restore_rng(saved["rng"])
        else:
            if saved is not None:
                # None: saved before the first epoch. A loader made anew has generators of its own.
                if saved["data"] is not None and not trainer.run.reloads_at(p.epoch):
                    source.load_between_epochs(saved["data"])
                restore_rng(saved["rng"])
            self.kept = KeptOutputs(trainer.lightning_module, "training_epoch_end", is_training=True)
            trainer.call("on_train_epoch_start")
            p.is_epoch_started = True
            batches = source.open()
        self._bind()
        trainer.shows_steps = True
        if saved is not None:
            self._finish_step()
        ended = self._batches(batches)
        del batches  # workers that do not stay end here
        self._epoch_end(is_complete=ended or self._at_end(), ended_early=ended)

    def _bind(self) -> None:
        """Find out, once an epoch, who takes part in a step."""
        trainer, module, p = self.trainer, self.trainer.lightning_module, self.progress
        bind = trainer.dispatcher.bind
        self.module, self.precision = module, trainer.precision
        device = trainer.strategy.root_device
        self.prepare = batch_preparer(self.module, trainer.datamodule, device, trainer.precision, trainer.compute)
        step = step_of(module, "training_step")
        if not accepts_positional(module.training_step, 2):
            step = _without_index(step)
        self.training_step = trainer.precision.wrap(step)
        self.on_batch_start, self.on_batch_end = bind("on_train_batch_start"), bind("on_train_batch_end")
        self.save_on_batch_end = bind("on_train_batch_end", "S")
        hooks = {name: bind(name, "CSM") for name in _UPDATE_HOOKS}
        self.on_before_zero_grad, self.on_before_backward, self.on_after_backward, self.on_before_step = hooks.values()
        self.optimizer = trainer.optimizers[0] if trainer.optimizers else None
        self.step_optimizer = self._stepper()
        is_plain = not self.on_before_zero_grad and not overrides(module, LightModule, "optimizer_zero_grad")
        self.plain_zero_grad = gradient_freer(self.optimizer) if is_plain and self.optimizer is not None else None
        self.backward = module.backward if overrides(module, LightModule, "backward") else None
        self.clips = trainer.gradient_clip_val is not None or overrides(
            module, LightModule, "configure_gradient_clipping"
        )
        self.closure_step = whole_step(self)
        self.schedules = Schedules(self)
        self.accumulate = trainer.accumulate_grad_batches
        self.window = Window(self.accumulate)
        self.completes_gradients = self.accumulate > 1 or self.clips or bool(self.on_before_step)
        self.checks_every_step = trainer.nan_check == "step"
        self.micro = 0
        self.next_log, self.next_validation = p.next_log(trainer.log_interval), trainer.validation_plan.next(p)
        trainer.profiler.instrument(self)

    def _stepper(self) -> Callable[[], Any] | None:
        if self.optimizer is None:
            return None
        is_plain = type(self.precision).step is Precision.step
        return stepper(self.optimizer) if is_plain else partial(self.precision.step, self.optimizer)

    # ------------------------------------------------------------ batches

    def _batches(self, batches: Iterator[Any]) -> bool:  # noqa: C901  # one page, read from top to bottom
        """Run the batches of the epoch that are left; True where the loader, or a hook, ended it."""
        trainer, p, results = self.trainer, self.progress, self.results
        last_step = math.inf if trainer.max_steps in (None, -1) else trainer.max_steps
        num_batches = trainer.num_training_batches
        while p.batches_done < num_batches and p.global_step < last_step:
            if trainer.should_stop and self._should_stop():
                break
            batch = next(batches, _END)
            if batch is _END:
                self._check_not_empty()
                self._end_window()
                return True
            index = p.batches_done
            if self.prepare is not None:
                results.enter("on_after_batch_transfer")
                batch = self.prepare(batch, 0)
            results.batch = batch
            if self.on_batch_start:
                results.enter("on_train_batch_start")
                if any([fn(batch, index) == -1 for fn in self.on_batch_start]):
                    self._end_window()
                    p.end_validation()  # as in Lightning, none after a rest that is skipped
                    return True
            is_last = index + 1 >= num_batches
            results.enter("training_step")
            if self.closure_step is not None:
                output, has_stepped = self.closure_step(batch, index, is_last)
            else:
                output = self.training_step(batch, index)
                if self.learn(output, index):
                    self.micro += 1
                has_stepped = self.micro >= self.accumulate or (is_last and self.micro > 0)
                if has_stepped:
                    self._update()
            p.batches_done = index + 1
            p.total_batches += 1
            if has_stepped:
                self.schedules.move_step()
            if is_last:
                self.schedules.move_epoch()
                self._open_ahead()
            if self.kept is not None and self.kept.wanted:
                self.kept.add(output)
            outputs = as_outputs(output) if self.on_batch_end or self.save_on_batch_end else None
            if self.on_batch_end:
                results.enter("on_train_batch_end")
                for fn in self.on_batch_end:
                    fn(outputs, batch, index)
            if has_stepped and (p.global_step >= self.next_log or trainer.should_stop):
                self._write_step()
            if self.save_on_batch_end:
                for fn in self.save_on_batch_end:
                    fn(outputs, batch, index)
            if (p.batches_done >= self.next_validation or trainer.should_stop) and (self.micro == 0 or is_last):
                self._validate_or_stop()
        return False

    def learn(self, output: Any, index: int) -> bool:
        """Backward for one micro-batch; False where training_step returned None."""
        loss = output if output.__class__ is Tensor else loss_of(output, self.module, self.results)
        if loss is None:
            return False
        self.loss = loss
        if self.checks_every_step:
            self.check_finite(index)
        if self.optimizer is None:
            return True
        if not loss.requires_grad or loss.dim() > 0:
            check_loss(loss, self.module)
        if self.micro == 0:
            if self.plain_zero_grad is not None:
                self.plain_zero_grad()
            else:
                self._zero_grad(index)
        if self.accumulate > 1:
            loss = loss * self.window.factor(weight_of(output, self.results.batch))
        for fn in self.on_before_backward:
            fn(loss)
        if self.backward is None:
            self.precision.backward(loss)
        else:
            self.backward(self.precision.scale(loss))
        for fn in self.on_after_backward:
            fn()
        return True

    def _zero_grad(self, index: int) -> None:
        for fn in self.on_before_zero_grad:
            fn(self.optimizer)
        self.module.optimizer_zero_grad(self.progress.epoch, index, self.optimizer)

    def complete_gradients(self) -> None:
        """Between the last backward of a window and the step: correct, unscale, hooks, clip."""
        trainer, optimizer = self.trainer, self.optimizer
        if self.accumulate > 1:
            correction = self.window.correction()
            if correction is not None:
                assert optimizer is not None
                scale_gradients([optimizer], correction)
            self.window.open()
        if self.on_before_step or self.clips:
            # unscale first: clipping scaled gradients would clip by the loss scale
            self.precision.unscale(optimizer)
            for fn in self.on_before_step:
                fn(optimizer)
            if self.clips:
                value, algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
                self.module.configure_gradient_clipping(
                    optimizer, gradient_clip_val=value, gradient_clip_algorithm=algorithm
                )

    def _update(self) -> None:
        """One optimizer step."""
        if self.step_optimizer is not None:
            if self.completes_gradients:
                self.complete_gradients()
            self.step_optimizer()
        self.progress.global_step += 1
        self.micro = 0

    def _check_not_empty(self) -> None:
        if self.progress.batches_done == 0:
            raise DataError(
                f"the training loader gave no batch in epoch {self.progress.epoch}; check the data set, or give "
                "limit_train_batches=0 to train nothing"
            )

    def _end_window(self) -> None:
        """A loader without length ended inside a window: step with what the window holds."""
        if self.micro > 0:
            self._update() if self.closure_step is None else self.closure_step.finish()
            self.schedules.move_step()

    # ------------------------------------------------------------ after a step

    def _open_ahead(self) -> None:
        """Let workers that stay begin with the next epoch, while this one is validated and saved."""
        trainer, following = self.trainer, self.progress.epoch + 1
        is_over = _reached(following, trainer.max_epochs) or _reached(self.progress.global_step, trainer.max_steps)
        if self.source is not None and not (is_over or trainer.should_stop or trainer.run.reloads_at(following)):
            self.source.open_ahead(following)

    def _finish_step(self) -> None:
        """What was still to be done when the checkpoint was taken in the hooks after a step."""
        trainer, p = self.trainer, self.progress
        if p.batches_done == 0:
            return
        if p.global_step >= self.next_log:
            self._write_step()
        if trainer.validation_plan.is_due(p):
            self._validate()
        self.schedules.move_validated()

    def _write_step(self) -> None:
        """Read what was logged, and write it; the only place in an epoch where training reads the device."""
        trainer, p = self.trainer, self.progress
        self.next_log = p.end_log(trainer.log_interval)
        self.check_finite()
        if trainer.loggers:
            taken = trainer.board.take(self.results, of_step=True)
            trainer.log_to_loggers({e.forked: n for e, n in taken if e.slot.logger}, p.global_step - 1)

    def check_finite(self, index: int | None = None) -> None:
        """Raise NonFiniteError where the last loss is NaN or infinite, unless Trainer(nan_check="off")."""
        p = self.progress
        index = max(p.batches_done - 1, 0) if index is None else index
        if self.loss is None or self.trainer.nan_check == "off":
            return
        value = float(self.loss.detach())
        if not math.isfinite(value):
            raise not_finite(value, p, index)

    def _validate(self) -> None:
        trainer, p = self.trainer, self.progress
        if p.validated_at != p.total_batches:
            self.validation.run()
        self.next_validation = trainer.validation_plan.next(p)

    def _validate_or_stop(self) -> None:
        """Validate where it is due, or because the training is about to stop."""
        plan, p = self.trainer.validation_plan, self.progress
        was_due = p.batches_done >= self.next_validation  # perhaps inside an accumulation window
        if (was_due and plan.seconds is None) or plan.is_due(p) or (self._should_stop() and plan.validates_in(p.epoch)):
            self._validate()
        else:
            self.next_validation = plan.next(p)

    def _epoch_end(self, *, is_complete: bool, ended_early: bool) -> None:
        trainer, p = self.trainer, self.progress
        trainer.dispatcher.refresh()
        if ended_early:
            self.schedules.move_epoch()
            plan = trainer.validation_plan  # one that counts batches or steps has had its turns inside the epoch
            if plan.validates_in(p.epoch) and plan.every >= trainer.num_training_batches:
                self._validate()
        if trainer.shows_steps:  # callbacks find the last step's values beside the epoch's
            trainer.board.take(self.results, of_step=True)
        trainer.shows_steps = False
        assert self.kept is not None
        if self.kept.wanted:
            self.kept.finish(self.results)
        trainer.board.take(self.results, of_step=False)
        trainer.call("on_train_epoch_end", owners="NM")
        taken = trainer.board.take(self.results, of_step=False)  # with what was logged just now
        trainer.call("on_train_epoch_end", owners="W")
        if is_complete:
            self.schedules.move_waiting()
        trainer.log_to_loggers({e.forked: n for e, n in taken if e.slot.logger}, max(p.global_step - 1, 0))
        if is_complete:  # what is saved from here on goes on with the next epoch
            p.is_epoch_done = True
            self.results.clear()
            trainer.train_source.close()
            self.kept.forget()
        trainer.call("on_train_epoch_end", owners="S")
        if is_complete:
            p.next_epoch()

    # ------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on from between two steps."""
        return state.gather(self)

    def load_state_dict(self, saved: dict[str, Any], rng: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; data and generators follow when the epoch begins."""
        state.give(self, saved, rng)


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and limit != -1 and count >= limit


def _without_index(step: Callable[[Any], Any]) -> Callable[[Any, int], Any]:
    return lambda batch, index: step(batch)
