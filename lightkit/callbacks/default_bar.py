"""Which progress bar a Trainer shows where none is given."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from lightkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lightkit.callbacks.progress.progress_bar import ProgressBar

__all__ = ["default_progress_bar"]


def default_progress_bar() -> ProgressBar | None:
    """Return a bar in a terminal, else lines, unless LIGHTKIT_PROGRESS=bar|lines|off says (off: None)."""
    wish = os.environ.get("LIGHTKIT_PROGRESS", "").strip().lower()
    if wish not in ("", "bar", "lines", "off"):
        hint = did_you_mean(wish, ("bar", "lines", "off"))
        raise ConfigError(f"LIGHTKIT_PROGRESS={wish!r}: expected 'bar', 'lines' or 'off'{hint}")
    if wish == "off":
        return None
    if wish == "bar" or (wish == "" and sys.stdout.isatty()):
        from lightkit.callbacks.progress.rich_progress import RichProgressBar, RichProgressBarTheme

        plain = RichProgressBarTheme(  # rich's own colours, small numbers to be read
            progress_bar="bar.complete", progress_bar_finished="bar.finished", progress_bar_pulse="bar.pulse", time="",
            processing_speed="", metrics="", metrics_format=".4g",
        )  # fmt: skip
        return RichProgressBar(theme=plain)
    from lightkit.callbacks.progress.lines import LineProgress

    return LineProgress()
