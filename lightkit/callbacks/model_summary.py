"""Print what the module consists of when a fit begins."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Callback
from lightkit.model_summary import summarize, table_of, totals_of

if TYPE_CHECKING:
    from lightkit.model_summary import ModelSummary as Summary
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["ModelSummary", "print_with_rich"]


class ModelSummary(Callback):
    """Prints the module's layers, parameters and sizes when fit begins, as a table of rich's in a terminal.

    Override `summarize` to do something else with them.

    Args:
        max_depth: how deep to list submodules; 1: the direct ones, -1: all, 0: prints nothing.
        **summarize_kwargs: passed on to `summarize`: here `header_style`, rich's style of the headings.
    """

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        self._max_depth = max_depth
        self._summarize_kwargs = summarize_kwargs

    @property
    def max_depth(self) -> int:
        """How deep submodules are listed."""
        return self._max_depth

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look at the module, and hand what was seen to `summarize`."""
        if not self._max_depth:
            return
        found = self._summary(trainer, pl_module)
        if trainer.is_global_zero:
            self.summarize(
                found._get_summary_data(), found.total_parameters, found.trainable_parameters, found.model_size,
                found.total_training_modes, total_flops=found.total_flops, **self._summarize_kwargs,
            )  # fmt: skip

    def _summary(self, trainer: Trainer, pl_module: LightModule) -> Summary:
        return summarize(pl_module, max_depth=self._max_depth)

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]], total_parameters: int, trainable_parameters: int, model_size: float,
        total_training_modes: dict[str, int], total_flops: int, **summarize_kwargs: Any,
    ) -> None:  # fmt: skip
        """Print it. summary_data: headings, each with its cells; summarize_kwargs: those of the constructor."""
        totals = totals_of(total_parameters, trainable_parameters, model_size, total_training_modes, total_flops)
        if sys.stdout.isatty():
            print_with_rich(summary_data, totals, **{"header_style": "bold", **summarize_kwargs})
        else:
            print(table_of(summary_data, totals), flush=True)


def print_with_rich(columns: list[tuple[str, list[str]]], totals: list[tuple[str, str]], *, header_style: str) -> None:
    """Print the table on rich's console."""
    from rich import get_console
    from rich.markup import escape
    from rich.table import Table

    console = get_console()
    if columns[0][1]:
        table = Table(header_style=header_style)
        for heading, _ in columns:
            table.add_column(heading, justify="right" if heading in ("Params", "FLOPs") else "left")
        for row in zip(*(cells for _, cells in columns), strict=True):
            table.add_row(*map(escape, row))
        console.print(table)
    for number, what in totals:
        console.print(f"[bold]{number}[/] {what}", highlight=False)
