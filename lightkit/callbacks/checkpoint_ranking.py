"""Which checkpoints are kept and which of them is the best: what ModelCheckpoint remembers, also over a resume."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from lightkit.callbacks.base import Checkpoint, missing_metric_message
from lightkit.callbacks.checkpoint_rules import find_file
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

__all__ = ["RankedCheckpoints"]


class RankedCheckpoints(Checkpoint):
    """The base of ModelCheckpoint: the files that are kept with their scores, and the state that says so.

    Args:
        monitor: the logged metric that says which are best; None: the newest is best.
        mode: "min" or "max": which values are better.
        save_top_k: how many to keep; -1: all, 0: none.
    """

    def __init__(self, monitor: str | None, mode: str, save_top_k: int) -> None:
        self.monitor = monitor
        self.mode = mode
        self.save_top_k = save_top_k
        self.dirpath: str | None = None
        self.current_score: Tensor | None = None
        self.best_k_models: dict[str, Tensor] = {}
        self.kth_best_model_path = ""
        self.kth_value = torch.tensor(self._worst)
        self.best_model_score: Tensor | None = None
        self.best_model_path = ""
        self.last_model_path = ""
        self._newest_file = ""
        self._last_step_saved = 0  # nothing to save before the first step
        self._is_deferred = False  # a save waits for the metric that the next validation will log

    @property
    def _worst(self) -> float:
        return torch.inf if self.mode == "min" else -torch.inf

    def _monitored(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """Return the monitored value, 0-dim on the CPU, the worst there is for NaN."""
        assert self.monitor is not None
        if self.monitor not in metrics:
            who = f"ModelCheckpoint(monitor={self.monitor!r})"
            raise ConfigError(missing_metric_message(self.monitor, metrics, who))
        value = torch.as_tensor(metrics[self.monitor]).detach().cpu().clone().squeeze()
        return torch.full_like(value, self._worst) if torch.isnan(value) else value

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a checkpoint with this score belongs to the best `save_top_k`."""
        if current is None or self.save_top_k == 0:
            return False
        if self.save_top_k == -1 or len(self.best_k_models) < self.save_top_k:
            return True
        kth = self.best_k_models[self.kth_best_model_path]
        return bool(current < kth if self.mode == "min" else current > kth)

    def _rank(self) -> None:
        """Find the best and the worst of the kept checkpoints; of equal ones the earlier, as in Lightning."""
        scores = {path: float(score) for path, score in self.best_k_models.items()}
        best, worst = (min, max) if self.mode == "min" else (max, min)
        self.best_model_path = best(scores, key=scores.__getitem__, default="")
        self.best_model_score = self.best_k_models.get(self.best_model_path)
        self.kth_best_model_path = ""
        if scores and (self.save_top_k == -1 or 0 < self.save_top_k <= len(scores)):
            self.kth_best_model_path = worst(scores, key=scores.__getitem__)
            self.kth_value = self.best_k_models[self.kth_best_model_path]

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept and how good it is."""
        return {
            "monitor": self.monitor,
            "best_model_score": self.best_model_score,
            "best_model_path": self.best_model_path,
            "current_score": self.current_score,
            "dirpath": self.dirpath,
            # numbers: a tensor is a part of the file of its own, and there may be one for each file that is kept
            "best_k_models": {path: float(score) for path, score in self.best_k_models.items()},
            "kth_best_model_path": self.kth_best_model_path,
            "kth_value": self.kth_value,
            "last_model_path": self.last_model_path,
            "newest_file": self._newest_file,
            "last_step_saved": self._last_step_saved,
            "is_deferred": self._is_deferred,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the checkpoints that were kept; files that are gone leave the list, with a warning.

        Where the run directory was moved, the files are looked for in the present one first.
        """

        def here(path: str) -> str:
            return find_file(path, state_dict.get("dirpath"), self.dirpath)

        kept = state_dict.get("best_k_models", {})
        double = torch.float64  # holds every number that a metric of any precision had
        self.best_k_models = {here(p): torch.as_tensor(v, dtype=double) for p, v in kept.items() if here(p)}
        best = state_dict.get("best_model_path", "")
        gone = [path for path in dict.fromkeys([*kept, best]) if path and not here(path)]
        if gone:
            warnings.warn(
                f"ModelCheckpoint: {len(gone)} checkpoint(s) kept before the resume no longer exist and are "
                f"forgotten: {', '.join(gone)}",
                stacklevel=2,
            )
        self.current_score = state_dict.get("current_score")
        self.kth_value = state_dict.get("kth_value", self.kth_value)
        if self.monitor is None:
            self.best_model_path = here(best)
        else:
            self._rank()
        self.last_model_path = here(state_dict.get("last_model_path", ""))
        self._newest_file = here(state_dict.get("newest_file", ""))
        self._last_step_saved = state_dict.get("last_step_saved", 0)
        self._is_deferred = state_dict.get("is_deferred", False)

    def to_yaml(self, filepath: str | Path | None = None) -> None:
        """Write the paths of the kept checkpoints with their scores to `best_k_models.yaml`."""
        if filepath is None:
            assert self.dirpath is not None
            filepath = Path(self.dirpath, "best_k_models.yaml")
        scores = {path: float(score) for path, score in self.best_k_models.items()}
        Path(filepath).write_text(yaml.safe_dump(scores), encoding="utf-8")
