"""Which progress bar a Trainer shows where none is given."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from lightkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lightkit.callbacks.progress import ProgressBar

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
        from lightkit.callbacks.rich_progress import RichProgressBar

        return RichProgressBar()
    from lightkit.callbacks.progress import LineProgress

    return LineProgress()
