"""What classifiers of every field share: their accuracy, and whether the data has the classes that they know."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightkit.errors import DataError


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of rows of `logits` (batch, classes) that are largest at `labels`.

    Labels are numbers (batch,) or shares of the classes (batch, classes), of which the largest counts.
    """
    # lightkit's epoch means weigh batches by their size, so this equals torchmetrics' micro accuracy
    # without the two seconds that importing torchmetrics takes
    if labels.ndim == 2:
        labels = labels.argmax(dim=1)
    return (logits.argmax(dim=1) == labels).float().mean()


def check_classes(owner: str, num_classes: int, names: Sequence[str]) -> None:
    """Raise DataError where the data's classes, `names`, are not as many as the module's."""
    if len(names) != num_classes:
        raise DataError(
            f"{owner}(num_classes={num_classes}): the data has {len(names)} classes "
            f"({', '.join(names[:10])}{', ...' if len(names) > 10 else ''}); "
            f"set model.num_classes to {len(names)}"
        )
