"""Progress bars: `progress_bar.py` is their base; lines, rich's and tqdm's have a file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.callbacks.progress.lines import LineProgress
    from lightkit.callbacks.progress.progress_bar import PassProgress, ProgressBar
    from lightkit.callbacks.progress.rich_progress import RichProgressBar, RichProgressBarTheme
    from lightkit.callbacks.progress.tqdm_progress import TQDMProgressBar

__all__ = ["LineProgress", "PassProgress", "ProgressBar", "RichProgressBar", "RichProgressBarTheme", "TQDMProgressBar"]

_FILES = {
    "LineProgress": "lines", "PassProgress": "progress_bar", "ProgressBar": "progress_bar",
    "RichProgressBar": "rich_progress", "RichProgressBarTheme": "rich_progress", "TQDMProgressBar": "tqdm_progress",
}  # fmt: skip

attach(__name__, _FILES, _FILES.values())
