"""Small modules and data to try things with, under Lightning's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.demos.boring_classes import BoringDataModule, BoringModel, DemoModel
    from lightkit.demos.lstm import LightningLSTM, SequenceSampler, SimpleLSTM
    from lightkit.demos.transformer import LightningTransformer, Transformer, WikiText2

__all__ = [
    "BoringDataModule", "BoringModel", "DemoModel", "LightningLSTM", "LightningTransformer", "SequenceSampler",
    "SimpleLSTM", "Transformer", "WikiText2",
]  # fmt: skip

attach(
    __name__,
    {
        **dict.fromkeys(("BoringDataModule", "BoringModel", "DemoModel"), "boring_classes"),
        **dict.fromkeys(("LightningLSTM", "SequenceSampler", "SimpleLSTM"), "lstm"),
        **dict.fromkeys(("LightningTransformer", "Transformer", "WikiText2"), "transformer"),
    },
    ("boring_classes", "lstm", "transformer"),
)  # fmt: skip
