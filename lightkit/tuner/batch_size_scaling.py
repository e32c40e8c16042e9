"""The largest batch that fits: trials of a few steps, each with a larger batch, until memory runs out."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lightkit.data import sources
from lightkit.errors import ConfigError
from lightkit.optimizers import Optimization
from lightkit.run.evaluation import EvaluationRun
from lightkit.run.fit import FitRun
from lightkit.tuner import attributes
from lightkit.tuner.as_before import as_before, leaves
from lightkit.tuner.trial import Trial

if TYPE_CHECKING:
    from lightkit.run.base import Run

MODES = ("power", "binsearch")
_OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator: can't allocate memory", "CUDNN_STATUS_NOT_SUPPORTED")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is asked for; see `Tuner.scale_batch_size`.

    Raises:
        ConfigError: a wrong value. who: begins the message.
    """

    who: str = "scale_batch_size"
    mode: str = "power"
    steps_per_trial: int = 3
    init_val: int = 2
    max_trials: int = 25
    batch_arg_name: str = "batch_size"
    margin: float = 0.05
    max_val: int = 8192

    def __post_init__(self) -> None:
        attributes.chosen(self.who, "mode", self.mode, MODES)
        for name in ("steps_per_trial", "init_val", "max_trials", "max_val"):
            attributes.counted(self.who, name, getattr(self, name))
        if isinstance(self.margin, bool) or not isinstance(self.margin, int | float) or not 0 <= self.margin < 1:
            raise ConfigError(f"{self.who}(margin={self.margin!r}): expected a number from 0.0 to below 1.0")

    def attribute(self, run: Run) -> attributes.Attribute:
        """What is to be set.

        Raises:
            ConfigError: there is no such attribute, or loaders that do not depend on it.
        """
        found = attributes.find(self.who, (self.batch_arg_name,), "", run.module, run.datamodule, "batch_arg_name")
        if any(given is not None for given in run.given):
            argument = "train_dataloaders" if isinstance(run, FitRun) else "dataloaders"
            raise ConfigError(
                f"{self.who}: loaders were given directly ({argument}=...), and have the batch size they were made "
                f"with; define them in the module or a data module, with batch_size=self.{self.batch_arg_name}"
            )
        attributes.counted(self.who, found.name, found.get())
        return found

    def trial(self, run: Run) -> int:
        """Search inside of a run that is set up; -> the size. Only the attribute is put back.

        Raises:
            ConfigError: not even a batch of one fits.
        """
        attribute = self.attribute(run)
        before: int = attribute.get()
        try:
            trials = _Trials(self, run, attribute)
            size = trials.begin(min(self.init_val, self.max_val))
            return self._by_power(trials, size) if self.mode.lower() == "power" else self._by_halves(trials, size)
        finally:
            attribute.set(before)

    def run(self, run: Run) -> int:
        """Search inside of a run, which goes on with the size; -> the size."""
        attribute, optimizers = self.attribute(run), run.optimization.optimizers
        with as_before(run.module, run.datamodule, optimizers, run.precision):
            size = self.trial(run)
        self.take(attribute, size)
        if isinstance(run, FitRun):
            run.data.forget()  # configure_optimizers may have asked for them, to know how many steps there are
            if run.position.counters.global_step == 0:
                run.configure_optimizers()
            if run.results is not None:  # the epochs have begun, and nobody asks any more
                run.data.load_training()
                run.data.plan_validation()
        elif isinstance(run, EvaluationRun):
            run.loop.read(*run.find_sources())
        return size

    def take(self, attribute: attributes.Attribute, size: int) -> None:
        """Set the attribute."""
        attribute.set(size)
        _log.info("%s: %s is set to %d", self.who, attribute.name, size)

    # ------------------------------------------------------------ how sizes are chosen

    def _by_power(self, trials: _Trials, size: int) -> int:
        """Twice as many as long as they fit; else half of them, until some do."""
        fits = False
        for number in range(self.max_trials):
            if not trials.fits(size):
                size = trials.smaller(size, size // 2)
                if fits:
                    break
                continue
            fits = True
            if number + 1 >= self.max_trials or size >= self.max_val or trials.holds_all(size):
                break
            size = min(size * 2, self.max_val)
        return size

    def _by_halves(self, trials: _Trials, size: int) -> int:
        """Twice as many as long as they fit, then between what fits and what does not; a margin is left."""
        low, high, count = 1, 0, 0
        while True:
            if trials.fits(size):
                low, count = size, count + 1
                if count >= self.max_trials or size >= self.max_val or trials.holds_all(size):
                    break
                if high and high - low <= 1:
                    break
                size = (high + low) // 2 if high else min(size * 2, self.max_val)
            else:
                high = size
                size = trials.smaller(size, (high + low) // 2)
                if high - low <= 1:
                    break
        return max(1, int(size * (1 - self.margin)))


class _Trials:
    """Steps with one batch size after the other, inside of a run."""

    def __init__(self, search: Search, run: Run, attribute: attributes.Attribute):
        self.search, self.run, self.attribute = search, run, attribute

    def begin(self, size: int) -> int:
        """The first size: the one that there is, where it holds the whole data set."""
        now: int = self.attribute.get()
        return now if self.holds_all(now) else size

    def holds_all(self, size: int) -> bool:
        """Whether a batch of that size is the whole data set, so that a larger one is no larger."""
        return size >= self._rows()

    def _rows(self) -> float:
        run = self.run
        stage = "train" if isinstance(run, FitRun) else run.loaders_of if isinstance(run, EvaluationRun) else ""
        found = sources.find_loaders(stage, None, run.datamodule, run.module)
        return max(map(_rows_of, leaves(found)), default=float("inf"))

    def smaller(self, size: int, to: int) -> int:
        """The size after one that did not fit."""
        if size <= 1 or to < 1:
            who, name = self.search.who, type(self.run.module).__name__
            raise ConfigError(f"{who}: the memory does not hold one step of {name} with a batch of 1")
        return to

    def fits(self, size: int) -> bool:
        """Whether the steps run with batches of that size; every other error is raised."""
        self.attribute.set(size)
        _collect_garbage()
        try:
            self._steps()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        else:
            fits = True
        # outside of the handler: the error's frames hold the batch and its activations
        _collect_garbage()
        _log.info("%s: a batch size of %d %s", self.search.who, size, "fits" if fits else "does not fit")
        return fits

    def _steps(self) -> None:
        run, count = self.run, self.search.steps_per_trial
        if isinstance(run, FitRun):
            steps = run.position.counters.global_step + count
            trial = Trial(run.trainer, callbacks=[], max_steps=steps, limit_train_batches=1.0, limit_val_batches=count)
            trial.fit_steps(run, Optimization(run.optimization.optimizers, []))
        elif isinstance(run, EvaluationRun):
            limit: dict[str, Any] = {f"limit_{run.loaders_of}_batches": count}
            Trial(run.trainer, callbacks=[], max_steps=-1, max_epochs=-1, **limit).evaluate_steps(run)


def _rows_of(loader: object) -> float:
    try:
        return len(loader.dataset)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, NotImplementedError):
        return float("inf")  # nobody knows


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a device or in the process."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def _collect_garbage() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
