"""The table that `validate` and `test` print."""

from __future__ import annotations


def table(fn: str, metrics: list[dict[str, float]]) -> str:
    """Metrics as lines of text: one row a name, one column a loader."""
    names = list(dict.fromkeys(name for loader in metrics for name in loader))
    if not names:
        return f"{fn}: nothing was logged"
    head = [f"{fn} metric", *(["value"] if len(metrics) == 1 else [f"loader {i}" for i in range(len(metrics))])]
    rows = [[name, *(f"{loader[name]:.6g}" if name in loader else "" for loader in metrics)] for name in names]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
