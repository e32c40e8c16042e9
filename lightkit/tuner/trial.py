"""A trial: some steps of training or evaluation with a Trainer of its own, inside of what a run has set up.

The Trainer of the trial has the settings of the user's, but not its loggers, callbacks, position or directory: they
have no part in it, and need not be put back. What they share, the module, is put back by `as_before`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Never, TypeVar

from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.callbacks.progress import ProgressBar
from lightkit.data.order import Source
from lightkit.errors import ConfigError
from lightkit.hooks import overrides
from lightkit.loops.evaluation import Context
from lightkit.run.base import Run
from lightkit.run.evaluation import EvaluationRun, PredictionRun, TestRun, ValidationRun
from lightkit.run.fit import FitRun
from lightkit.run.signals import stopped_by
from lightkit.settings import Settings
from lightkit.states import TrainerStatus
from lightkit.trainer import Trainer

if TYPE_CHECKING:
    from lightkit.datamodule import LightDataModule
    from lightkit.module import LightModule
    from lightkit.optimizers import Optimization
    from lightkit.run.stopping import BrokenOff

_QUIET: dict[str, Any] = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "profiler": None, "num_sanity_val_steps": 0, "nan_check": "off", "log_every_n_steps": 0, "seed": None,
    "resume": None, "async_checkpoint": False, "run_dir": None, "run_name": None, "barebones": False,
    "fast_dev_run": False, "max_time": None, "min_epochs": None, "min_steps": None, "val_check_interval": None,
    "check_val_every_n_epoch": 1, "overfit_batches": 0.0, "callbacks": None,
}  # fmt: skip
# What users may have set anew on their Trainer.
_AS_NOW = (
    "max_epochs", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "limit_predict_batches", "inference_mode", "detect_anomaly",
)  # fmt: skip

E = TypeVar("E", bound=EvaluationRun)


class Trial(Trainer):
    """A Trainer that tries what another would do; writes nothing, shows nothing.

    like: that other one. asked: what is different, as Trainer's arguments. The steps go on from where a run stands:
    `fit` takes its place in the epochs.
    """

    def __init__(self, like: Trainer, **asked: Any):
        settings = {name: getattr(like.settings, name) for name in Settings.names()}
        now = {name: getattr(like, name) for name in _AS_NOW}
        super().__init__(**{**settings, **now, **_QUIET, **asked})
        self.precision.load_state_dict(copy.deepcopy(like.precision.state_dict()))

    @staticmethod
    def run_of(trainer: Trainer) -> Run:
        """The run that is open on a Trainer, the innermost; else the last one."""
        if (found := trainer._newest) is None:
            raise ConfigError("tuner: this Trainer runs nothing; call it in a hook of fit, validate, test or predict")
        return found

    @contextmanager
    def preparing(
        self, fn: str, model: LightModule | None, datamodule: LightDataModule | None, *given: object
    ) -> Iterator[Run]:
        """Set up the module as `fit`, `validate`, ... do, up to the first batch; in the end the hooks of teardown."""
        with self._run(_PREPARED[fn], model, datamodule, *given) as run, run.running():
            assert isinstance(run, PreparedFit | PreparedEvaluation)
            if isinstance(run, FitRun):
                self._last_fit = run
            run.prepare()
            yield run

    def fit_steps(self, around: FitRun, optimization: Optimization) -> FitRun:
        """Train with what a fit has set up, and with these optimizers, until a limit of this Trainer is reached."""
        with self._run(FitTrial, around.module, around.datamodule, *around.given) as run:
            self._last_fit = run
            run.follow(around, optimization)
        return run

    def evaluate_steps(self, around: EvaluationRun) -> EvaluationRun:
        """Evaluate with what a run has set up, as many batches as the limits of this Trainer say."""
        with self._run(_TRIALS[around.fn], around.module, around.datamodule, *around.given) as run:
            run.follow()
        return run


# ---------------------------------------------------------------- set up alone


def changes_module(callback: Callback) -> bool:
    """Whether its `setup` may be of weight for a trial: not that of callbacks which save or show."""
    return overrides(callback, Callback, "setup") and not isinstance(callback, Checkpoint | ProgressBar)


class SetUpOnly(Callback):
    """Callbacks of which nothing is called but `setup` and `teardown`: those that freeze layers do it there.

    They are copies: what the user's have seen and counted is not touched.
    """

    def __init__(self, callbacks: list[Callback]):
        self.copies = [copy.deepcopy(callback) for callback in callbacks if changes_module(callback)]

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """As each of them."""
        for callback in self.copies:
            callback.setup(trainer, pl_module, stage)

    def teardown(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """As each of them."""
        for callback in self.copies:
            callback.teardown(trainer, pl_module, stage)


class PreparedFit(FitRun):
    """A fit that is set up, and trains nothing."""

    def prepare(self) -> None:
        """As a fit does up to `on_fit_start`, but for directory and checkpoint."""
        self.position.attach(self.module, self.board, self.device)
        self.check_hooks()
        self.set_up()
        self.precision.convert_module(self.module)
        self.place()
        self.configure_optimizers()

    def with_own_callbacks(self) -> list[Callback]:
        """Copies, of which little is called."""
        return [SetUpOnly(super().with_own_callbacks())]

    def _writes_files(self) -> bool:
        return False


class PreparedEvaluation(EvaluationRun):
    """An evaluation that is set up, and evaluates nothing."""

    def prepare(self) -> None:
        """As an evaluation does up to its first hook, but for directory and checkpoint."""
        self.set_up()
        self.precision.convert_module(self.module)
        self.place()

    def with_own_callbacks(self) -> list[Callback]:
        """Copies, of which little is called."""
        return [SetUpOnly(super().with_own_callbacks())]


def _of_each_kind(base: type[E]) -> dict[str, type[E]]:
    """Such an evaluation of each kind, by the call that it is one of."""
    names = "fn", "main_stage", "hooks", "loaders_of"
    return {
        kind.fn: type(f"{base.__name__}Of{kind.__name__}", (base,), {name: getattr(kind, name) for name in names})
        for kind in (ValidationRun, TestRun, PredictionRun)
    }


_PREPARED: dict[str, type[Run]] = {"fit": PreparedFit, **_of_each_kind(PreparedEvaluation)}


# ---------------------------------------------------------------- steps alone


class FitTrial(FitRun):
    """Steps of training inside of what another fit has set up, from where that one stands in its epochs."""

    def with_own_callbacks(self) -> list[Callback]:
        """Those of the trial alone."""
        return self.callbacks

    def follow(self, around: FitRun, optimization: Optimization) -> None:
        """Train; loaders are asked for anew where they were not given."""
        self.optimization = optimization
        position = self.position
        position.counters.go_back_to(around.position.counters)
        self.is_open, self.status = True, TrainerStatus.RUNNING
        self.listener.begin()
        own: list[tuple[Source, Any]] = []
        try:
            position.attach(self.module, self.board, self.device)
            position.forget_results()
            position.see_metrics(self.module)
            if not self.module.automatic_optimization:
                from lightkit.loops.steps.manual import ManualOptimization

                self.manual = ManualOptimization(self, self.loop, optimization.optimizers)
            self.data.load()
            own = [(source, source.own_generators()) for source in self.read_sources()]
            position.start(is_resumed=False, is_manual=self.manual is not None)
            if self.data.validation is not None:
                self.data.validation.begin(is_resumed=False)
            with self.listener.holding_interrupts(True):
                self.loop.fit()
        finally:
            self.is_open = False
            self.release(has_failed=False)
            for source, states in own:
                source.restore_own_generators(states)
            self.listener.end()

    def stop_by_signal(self, broken_off: BrokenOff | None = None) -> Never:
        """A signal asks for the end; the fit around this one sees to what is saved."""
        raise stopped_by(self.controls.stop_signal)


class EvaluationTrial(EvaluationRun):
    """Steps of an evaluation inside of what another run has set up."""

    def with_own_callbacks(self) -> list[Callback]:
        """Those of the trial alone."""
        return self.callbacks

    def follow(self) -> None:
        """Evaluate."""
        self.position.attach(self.module, self.board, self.device)
        self.is_open, self.status = True, TrainerStatus.RUNNING
        self.listener.begin()
        try:
            self.loop = self._make_loop(*self.find_sources())
            self.loop.evaluate(Context(self.main_stage, self.board.clear, writes=False))
        finally:
            self.is_open = False
            self.release(has_failed=False)
            self.listener.end()


_TRIALS = _of_each_kind(EvaluationTrial)
