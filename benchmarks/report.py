"""The figures as a table in the terminal, as docs/benchmarks.md, and as a plot."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks import async_checkpoint, peers
from benchmarks.harness import AGAIN, RAW

COLUMNS = ("lightkit", "sliced", *peers.PACKAGES)
EQUALITY = {"bits": "", "close": " ~", "differs": " ≠"}

_HOW = """\
Ratios of wall-clock time to a hand-written PyTorch loop that does the same work (`benchmarks/raw.py`), measured in one
run of `make bench`: all take turns, one thread, the median over {rounds} rounds of the ratio within a round. Below 1 is
faster than the loop one writes by hand. Construction of model, data and trainer is not counted, everything inside
`fit` or `validate` is. All end with raw's weights bit for bit, except those marked ~ (equal to 1e-4) and ≠ (other
numbers: mostly because they draw the order of the data differently from a plain loop, from the second epoch on).
`sliced` is a hand-written loop that cuts batches from tensors by hand, without a DataLoader; `raw again` is the
hand-written loop measured twice: its distance from 1 is the noise.
"""


def machine() -> dict[str, str]:
    """What was measured on, and with."""
    import lightkit

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    found = {
        "machine": f"{model}, {os.cpu_count()} cores, {platform.system()}", "python": platform.python_version(),
        "torch": torch.__version__, "lightkit": lightkit.__version__,
    }  # fmt: skip
    return {**found, **{name: v for name in peers.PACKAGES if (v := peers.version(name))}}


def table(results: Iterable[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table, one row a job, one column a framework."""
    results = list(results)
    columns = [c for c in COLUMNS if any(c in r["rows"] for r in results)]
    lines = [
        "| workload | raw, us | " + " | ".join([*columns, AGAIN]) + " |",
        "|---|---" + "|---" * (len(columns) + 1) + "|",
    ]
    for result in results:
        cells = []
        for column in (*columns, AGAIN):
            row = result["rows"].get(column)
            cells.append("-" if row is None else f"{row['ratio']:.2f}{EQUALITY[row['equality']]}")
        lines.append(f"| {result['title']} | {result['rows'][RAW]['us']:.0f} | " + " | ".join(cells) + " |")
    return lines


def page(figures: dict[str, Any]) -> str:
    """docs/benchmarks.md."""
    about = ", ".join(f"{name} {value}" for name, value in figures["machine"].items() if name != "machine")
    lines = ["# Benchmarks", "", _HOW.format(rounds=figures["rounds"])]
    lines += [f"Measured on {figures['machine']['machine']}; {about}; {figures['date']}.", ""]
    if figures.get("steps"):
        lines += [*table(figures["steps"]), "", "![ratios to a hand-written loop](benchmarks.png)", ""]
    for group in figures.get("scaling", []):
        lines += [f"## {group['title'].split(' ', 1)[1]}", "", *table(group["results"]), ""]
        each = ", ".join(f"{name} {value:.2f}" for name, value in group["us_each"].items())
        lines += [f"Microseconds a step for each one more: {each}.", ""]
    if figures.get("import_time"):
        lines += ["## Import and first step", ""]
        lines += ["| import, or whole process | seconds | beyond, ms |", "|---|---|---|"]
        for name, row in figures["import_time"].items():
            lines.append(f"| {name} | {row['seconds']:.3f} | {row['beyond_ms']:.0f} |")
        lines += ["", "Beyond: `import torch`, or the whole process that does the same step by hand.", ""]
    if figures.get("async_checkpoint"):
        lines += ["## Checkpoints of 100 MB", "", *async_checkpoint.table(figures["async_checkpoint"]), ""]
        lines += ["What the loop waits for a save, by the training itself and by a thread.", ""]
    for row in figures.get("growth", []):
        change = row["last_us"] / row["second_us"]
        lines += [f"## {row['steps']:,} logged steps", ""]
        lines += [f"Every step written to TensorBoard and CSV. Memory grows by {row['rss_growth_mb']:.1f} MB from a "]
        lines[-1] += f"tenth of the steps to the end; a step takes {row['last_us']:.0f} us in the last decile, "
        lines += [f"{change:.3f} of the second.", ""]
    lines += [
        "## How to run", "", "```", "make bench                                    # all of it, writes this page",
        "python benchmarks/run.py --only bare --quick  # a part, a tenth of the steps, writes nothing",
        "pip install -r benchmarks/requirements-peers.txt   # the other frameworks; used where installed", "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Ratios as points on a logarithmic axis, one line a workload."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, axes = plt.subplots(figsize=(10, 0.55 * len(results) + 1.8), layout="constrained")
    names = [c for c in COLUMNS if any(c in r["rows"] for r in results)]
    markers = dict(zip(COLUMNS, "oxs^Dv<>", strict=True))
    palette = ("red", "gray", "blue", "cyan", "green", "purple", "brown", "pink")
    colours = {name: f"tab:{colour}" for name, colour in zip(COLUMNS, palette, strict=True)}
    for name in names:
        found = [(i, r["rows"][name]["ratio"]) for i, r in enumerate(results) if name in r["rows"]]
        at = [x for _, x in found], [i for i, _ in found]
        size, order = (70, 3) if name == "lightkit" else (36, 4)  # larger and below: both are seen where they meet
        axes.scatter(*at, label=name, marker=markers[name], color=colours[name], s=size, zorder=order)
    axes.axvline(1.0, color="black", linewidth=1)
    titles = [r["title"].replace(", DataLoader(", ",\nDataLoader(") for r in results]
    axes.set_yticks(range(len(results)), [title.replace(", data set", ",\ndata set") for title in titles])
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [t for t in (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 12, 20) if t <= 1.3 * axes.get_xlim()[1]]
    axes.set_xticks([t for t in ticks if t >= 0.8 * axes.get_xlim()[0]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="both", alpha=0.3)
    axes.set_xlabel("time / time of the hand-written loop (left is faster)")
    figure.legend(loc="outside upper center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(figures: dict[str, Any], folder: Path) -> None:
    """Write benchmarks.md and benchmarks.png into a folder; elsewhere than in docs/ benchmarks.json too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.md").write_text(page(figures), encoding="utf-8")
    if folder.name != "docs":
        (folder / "benchmarks.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if figures.get("steps"):
        plot(figures["steps"], folder / "benchmarks.png")


def show(lines: Iterable[str]) -> None:
    """Print a Markdown table with aligned columns."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    widths = [max(len(row[i]) for row in rows if not row[i].startswith("---")) for i in range(len(rows[0]))]
    for row in rows:
        if not row[0].startswith("---"):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    sys.stdout.flush()
