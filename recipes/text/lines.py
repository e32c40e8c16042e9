"""Text files as text, and text as lines: one place that knows where a line ends.

A line ends at a line feed, a carriage return, or both (`\\n`, `\\r`, `\\r\\n`), as Python's files have it, and nowhere
else: U+2028, U+0085, a form feed or a vertical tab are characters of their line; `str.splitlines` would cut it in two.
"""

from __future__ import annotations

import io
from pathlib import Path

from lightkit.errors import DataError

MARK = "\ufeff"  # the byte-order mark, which some editors and spreadsheets write first


def without_mark(text: str) -> str:
    """Return a text without the byte-order mark that it may begin with."""
    return text.removeprefix(MARK)


def read_text(owner: str, path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte-order mark, with `\\n` at the ends of lines.

    Raises:
        DataError: the file is not UTF-8.
        OSError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{owner}: {path} is not UTF-8 ({error}); convert it") from None


def lines_of(text: str, *, keep_ends: bool = False) -> list[str]:
    """Return the lines of a text, without what ends them unless `keep_ends` says so."""
    if keep_ends:
        return list(io.StringIO(text, newline=""))
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]
