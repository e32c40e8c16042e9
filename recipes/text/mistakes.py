"""The worst mistakes of a test, as text."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

import lightkit as lk
from recipes.plots import should_publish

_MAX_CHARACTERS = 300


class WorstTexts(lk.Callback):
    """Writes, after a test, the texts with the highest loss into `plots/worst_mistakes.txt`, and to the loggers.

    Needs a `test_step` that returns `logits`, float (batch, classes), and `labels`, int64 (batch,), and a data module
    of `recipes.text`, whose test rows it names by file and line.

    Args:
        num_mistakes: how many to write.
    """

    def __init__(self, num_mistakes: int = 20) -> None:
        self.num_mistakes = num_mistakes
        self.first = 0
        self.worst: list[tuple[float, int, int, int, float]] = []

    def on_test_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Forget an earlier test."""
        self.first, self.worst = 0, []

    def on_test_batch_end(
        self,
        trainer: lk.Trainer,
        pl_module: lk.LightModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the worst of the batch: loss, position, true and predicted class, probability of the predicted."""
        logits, labels = outputs["logits"].detach().float().cpu(), outputs["labels"].cpu()
        losses = F.cross_entropy(logits, labels, reduction="none")
        probability, predicted = logits.softmax(dim=1).max(dim=1)
        for i in (predicted != labels).nonzero().flatten().tolist():
            found = (float(losses[i]), self.first + i, int(labels[i]), int(predicted[i]), float(probability[i]))
            self.worst.append(found)
        self.first += len(labels)
        self.worst = sorted(self.worst, reverse=True)[: self.num_mistakes]

    def on_test_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """Write them."""
        rows = getattr(trainer.datamodule, "parts", {}).get("test")
        if not rows or not should_publish(trainer):
            return
        names = getattr(trainer.datamodule, "class_names", [])
        lines = []
        for loss, place, label, predicted, probability in self.worst:
            row = rows[place][0]
            text = " ".join(row.text.split())
            text = text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} ..."
            lines += [
                f"{row.where}: true {names[label]}, predicted {names[predicted]} ({probability:.1%}), loss {loss:.2f}",
                f"    {text}",
            ]
        report = "\n".join(lines) or "no mistakes"
        path = trainer.run_dir / "plots" / "worst_mistakes.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report + "\n", encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, lk.loggers.Logger):
                logger.log_text("worst_mistakes", report, step=trainer.global_step)
