"""Prediction: an evaluation pass that keeps what the steps return."""

from __future__ import annotations

from typing import Any

from lightkit.devices.transfer import to_cpu
from lightkit.loops.evaluation import EvaluationLoop


class PredictionLoop(EvaluationLoop):
    """Runs `predict_step` over loaders and collects its outputs on the CPU."""

    logs = False

    def __init__(self, trainer: Any, *, keeps: bool = True):
        super().__init__(trainer, "predict")
        self.keeps = keeps
        self.predictions: list[list[Any]] = []

    def run(self, limits: list[float] | None = None) -> Any:
        """-> a list of outputs, one a batch; with several loaders a list of such lists; None where not kept."""
        self.predictions = [[] for _ in self.sources]
        super().run(limits)
        if not self.keeps:
            return None
        return self.predictions[0] if len(self.predictions) == 1 else self.predictions

    def _take_output(self, output: Any, loader_idx: int, batch: Any) -> None:
        if self.keeps:
            self.predictions[loader_idx].append(to_cpu(output))
