"""What a run left behind, in a few lines: metrics, the run directory, curves, plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def print_summary(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Print the metrics and the paths of what there is, on the first process only."""
    if not trainer.is_global_zero:
        return
    rows = [(readable(name), f"{value:.4f}") for name, value in sorted(metrics.items())]
    if not trainer.fast_dev_run:
        rows += found_in(Path(trainer.run_dir))
    width = max((len(name) for name, _ in rows), default=0) + 1
    for name, text in rows:
        print(f"{name + ':':<{width}} {text}")


def readable(metric: str) -> str:
    """`test_acc` -> `test accuracy`."""
    words = metric.replace("/", " ").replace("_", " ").split()
    return " ".join("accuracy" if word == "acc" else word for word in words)


def found_in(run_dir: Path) -> list[tuple[str, str]]:
    """Name and path of each thing worth looking at in a run directory."""
    rows = [("run directory", str(run_dir))]
    if (run_dir / "metrics.csv").is_file():
        rows.append(("metrics", str(run_dir / "metrics.csv")))
    if any(run_dir.glob("events.out.tfevents.*")):
        rows.append(("curves", f"tensorboard --logdir {run_dir}"))
    best = sorted((run_dir / "checkpoints").glob("*.ckpt"))
    rows += [("checkpoint", str(path)) for path in best]
    plots = sorted(path for path in (run_dir / "plots").rglob("*") if path.suffix in PLOT_SUFFIXES)
    rows += [("plot", str(path)) for path in plots]
    return rows
