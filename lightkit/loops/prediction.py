"""Prediction: an evaluation pass that keeps what the steps return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.data.order import Source
from lightkit.devices.transfer import to_cpu
from lightkit.loops.evaluation import Context, EvaluationLoop

if TYPE_CHECKING:
    from lightkit.run.base import Run


class PredictionLoop(EvaluationLoop):
    """Runs `predict_step` over loaders and collects its outputs on the CPU."""

    def __init__(self, run: Run, sources: list[Source], limits: list[float], *, keeps: bool = True):
        super().__init__(run, "predict", sources, limits)
        self.keeps = keeps
        self.predictions: list[list[object]] = []

    def predict(self, context: Context) -> list[object] | None:
        """-> a list of outputs, one a batch; with several loaders a list of such lists; None where not kept."""
        self.predictions = [[] for _ in self.sources]
        self.evaluate(context)
        predictions, self.predictions = self.predictions, []
        if not self.keeps:
            return None
        return predictions[0] if len(predictions) == 1 else [*predictions]

    def _take_output(self, output: object, loader_idx: int) -> None:
        if self.keeps:
            self.predictions[loader_idx].append(to_cpu(output))

    def release(self, *, has_failed: bool) -> None:
        """As EvaluationLoop.release."""
        super().release(has_failed=has_failed)
        self.predictions = []
