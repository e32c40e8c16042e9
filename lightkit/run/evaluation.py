"""validate, test and predict: one pass of their own, with a checkpoint's weights where asked for."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lightkit.checkpoint.places import place
from lightkit.data import sources
from lightkit.data.order import Source
from lightkit.errors import ConfigError, DataError, HookError
from lightkit.hooks import overrides
from lightkit.loops.evaluation import Context, EvaluationLoop
from lightkit.loops.prediction import PredictionLoop
from lightkit.module import LightModule
from lightkit.run.base import Run
from lightkit.states import RunningStage, TrainerFn

if TYPE_CHECKING:
    from lightkit.run.fit import FitRun


class EvaluationRun(Run):
    """One call of `trainer.validate` or `trainer.test`; `PredictionRun` is that of `trainer.predict`."""

    loop: EvaluationLoop
    hooks: ClassVar[str]  # the name in the module's hooks
    loaders_of: ClassVar[str]  # the name in `*_dataloader`

    def evaluate(self, ckpt_path: str | Path | None, fit: FitRun | None, *, takes_best: bool) -> list[dict[str, float]]:
        """Run the pass once; -> one dict of metrics for each loader.

        fit: the last one, whose callbacks know the best checkpoint. takes_best: that is what is meant without a path,
        where a metric was monitored.
        """
        with self.running():
            metrics = self._pass(ckpt_path, fit, takes_best=takes_best)
            if self.fn == "validate":
                self.call("on_validation_end", owners="S")
        return metrics

    def _pass(
        self, ckpt_path: str | Path | None, fit: FitRun | None, *, takes_best: bool
    ) -> list[dict[str, float]]:
        with self.profiler.profile("set-up"), self.listener.at_once():
            self.loop = self._make_loop(*self._prepare(ckpt_path, fit, takes_best))
        p, writes = self.position.counters, self.fn != "predict"
        context = Context(
            self.main_stage, self.board.clear, step=lambda: p.log_count, next_step=count().__next__, writes=writes
        )
        return self.loop.evaluate(context)

    def _make_loop(self, readable: list[Source], limits: list[float]) -> EvaluationLoop:
        return EvaluationLoop(self, self.hooks, readable, limits)

    def _prepare(
        self, ckpt_path: str | Path | None, fit: FitRun | None, takes_best: bool
    ) -> tuple[list[Source], list[float]]:
        module = self.module
        if self.fn != "predict" and not overrides(module, LightModule, f"{self.hooks}_step"):
            raise HookError(f"{type(module).__name__}.{self.hooks}_step is not defined; {self.fn} needs it")
        path = self._file_of(ckpt_path, fit, takes_best)
        self.ckpt_path = None if path is None else str(path)
        if path is not None and self.is_trained:
            raise ConfigError(
                f"trainer.{self.fn}(ckpt_path=...): this module is being trained, and its weights would be lost; load "
                "the checkpoint into another module, or wait until the fit is over"
            )
        self.open_directory()
        self.set_up()
        self.precision.convert_module(module)
        if path is not None:
            from lightkit.run import saving

            checkpoint = self.writer.load(path)
            saving.show(self, checkpoint)
            saving.give_weights(self, checkpoint, str(path))
        self.place()
        return self.find_sources()

    def find_sources(self) -> tuple[list[Source], list[float]]:
        """Ask for the loaders; -> what reads them, and how many batches of each are used."""
        found = sources.find_loaders(self.loaders_of, self.given[0], self.datamodule, self.module)
        if found is None:
            raise DataError(
                f"{self.fn}: no data; pass dataloaders=..., datamodule=..., or define "
                f"{type(self.module).__name__}.{self.loaders_of}_dataloader"
            )
        return self.sources_of(self.loaders_of, found)

    def _file_of(self, ckpt_path: str | Path | None, fit: FitRun | None, takes_best: bool) -> Path | None:
        """The checkpoint whose weights are evaluated; None: the module's own."""
        if ckpt_path is None and not takes_best:
            return None
        from lightkit.run import saving

        saved_by = self.callbacks if fit is None else fit.callbacks
        if ckpt_path is not None:
            return saving.resolve(self, ckpt_path, saved_by)
        best, monitor = saving.best_of(saved_by)
        if not best or monitor is None:
            return None
        self.trainer.print(f"{self.fn}: the best checkpoint of the fit is used, {best}")
        return place(best)

    def read_sources(self) -> list[Source]:
        """As Run.read_sources."""
        return self.loop.sources if "loop" in vars(self) else []

    def release(self, *, has_failed: bool) -> None:
        """As Run.release."""
        super().release(has_failed=has_failed)
        if "loop" in vars(self):
            self.loop.release(has_failed=has_failed)


class ValidationRun(EvaluationRun):
    """One call of `trainer.validate`."""

    fn, main_stage = TrainerFn.VALIDATING, RunningStage.VALIDATING
    hooks, loaders_of = "validation", "val"


class TestRun(EvaluationRun):
    """One call of `trainer.test`."""

    __test__ = False  # the name is not a test's
    fn, main_stage = TrainerFn.TESTING, RunningStage.TESTING
    hooks, loaders_of = "test", "test"


class PredictionRun(EvaluationRun):
    """One call of `trainer.predict`."""

    fn, main_stage = TrainerFn.PREDICTING, RunningStage.PREDICTING
    hooks, loaders_of = "predict", "predict"
    loop: PredictionLoop
    returns = True

    def predict(
        self, ckpt_path: str | Path | None, fit: FitRun | None, *, takes_best: bool, keeps: bool
    ) -> list[object] | None:
        """Run the pass once; -> what the steps returned."""
        self.returns = keeps
        with self.running():
            self._pass(ckpt_path, fit, takes_best=takes_best)
            return self.loop.predictions if keeps else None

    def _make_loop(self, readable: list[Source], limits: list[float]) -> PredictionLoop:
        return PredictionLoop(self, readable, limits, returns=self.returns)


def prediction_of(run: Run | None) -> PredictionLoop:
    """The loop of a prediction that runs, or ran last; ConfigError where that is another run."""
    if not isinstance(run, PredictionRun) or "loop" not in vars(run):
        raise ConfigError(
            "trainer.predict_loop: no prediction has begun; read it in a hook of trainer.predict(model), or after it"
        )
    return run.loop


def table(fn: str, metrics: list[dict[str, float]]) -> str:
    """Metrics as lines of text: one row a name, one column a loader."""
    names = list(dict.fromkeys(name for loader in metrics for name in loader))
    if not names:
        return f"{fn}: nothing was logged"
    head = [f"{fn} metric", *(["value"] if len(metrics) == 1 else [f"loader {i}" for i in range(len(metrics))])]
    rows = [[name, *(f"{loader[name]:.6g}" if name in loader else "" for loader in metrics)] for name in names]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
