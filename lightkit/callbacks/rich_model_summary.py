"""Print what the module consists of by rich, also where there is no terminal."""

from __future__ import annotations

from typing import Any

from lightkit.callbacks.model_summary import ModelSummary, print_with_rich
from lightkit.model_summary import totals_of

__all__ = ["RichModelSummary"]


class RichModelSummary(ModelSummary):
    """Prints the module's layers, parameters and sizes when fit begins, as a table of rich's on `rich.get_console()`.

    Args:
        max_depth: how deep to list submodules; 1: the direct ones, -1: all, 0: prints nothing.
        **summarize_kwargs: `header_style`, rich's style of the headings ("bold magenta").
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]], total_parameters: int, trainable_parameters: int, model_size: float,
        total_training_modes: dict[str, int], total_flops: int, **summarize_kwargs: Any,
    ) -> None:  # fmt: skip
        """Print it."""
        totals = totals_of(total_parameters, trainable_parameters, model_size, total_training_modes, total_flops)
        print_with_rich(summary_data, totals, **{"header_style": "bold magenta", **summarize_kwargs})
