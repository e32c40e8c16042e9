"""What a checkpoint of 100 MB costs the training: written while it waits, and by a thread; each in its own process.

python benchmarks/async_checkpoint.py prints JSON for one way; `measure` runs both and gives rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SAVES = 7  # a first one, which makes the buffers, is not counted
SETTLE_STEPS = 12  # steps between two saves, so that a write can end


def train(megabytes: int, is_async: bool, folder: str) -> dict[str, Any]:
    """Fit a layer whose weights take `megabytes`, and save at every `SETTLE_STEPS`th step."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    import lightkit as lk
    from benchmarks.growth import resident_mb

    torch.set_num_threads(1)
    width = 1000

    class Wide(lk.LightModule):
        """One step takes some 30 ms, most of it in torch."""

        def __init__(self) -> None:
            super().__init__()
            self.stored = nn.Parameter(torch.randn(megabytes * 250, width), requires_grad=False)
            self.layer = nn.Linear(width, width)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch[0]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.layer.parameters(), lr=1e-3)

    waits: list[float] = []
    steps: list[float] = []
    memory: list[float] = []

    class Watch(lk.Callback):
        """Saves, and looks at the clock."""

        started = 0.0

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.started = time.perf_counter()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            before = time.perf_counter()
            steps.append(before - self.started)
            if batch_idx % SETTLE_STEPS == 0:
                if not memory:
                    memory.append(resident_mb())
                trainer.save_checkpoint(f"{folder}/{batch_idx % 2}.ckpt")
                waits.append(time.perf_counter() - before)
            memory.append(resident_mb())

    data = DataLoader(TensorDataset(torch.randn(512 * SETTLE_STEPS * (SAVES + 1), width)), 512)
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=folder, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Watch()], async_checkpoint=is_async,
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(Wide(), data)
    return {
        "way": "async" if is_async else "sync", "megabytes": megabytes, "seconds": time.perf_counter() - start,
        "in_loop_ms": statistics.median(waits[1:]) * 1e3, "first_ms": waits[0] * 1e3,
        "step_ms": statistics.median(steps) * 1e3, "rss_growth_mb": max(memory) - memory[0],
    }  # fmt: skip


def measure(megabytes: int = 100) -> list[dict[str, Any]]:
    """Rows for both ways: what the loop waits for a save, a step's time, growth of memory, seconds of the whole run."""
    rows = []
    for way in ("sync", "async"):
        command = [sys.executable, __file__, "--megabytes", str(megabytes), "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    for row in rows:
        row["ratio"] = row["in_loop_ms"] / rows[0]["in_loop_ms"]
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [
        "| checkpoint | in the loop, ms | ratio | the first, ms | a step, ms | memory, MB | whole run, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row['megabytes']} MB, {row['way']}", f"{row['in_loop_ms']:.1f}", f"{row['ratio']:.2f}"]
        cells += [f"{row['first_ms']:.1f}", f"{row['step_ms']:.1f}", f"{row['rss_growth_mb']:.0f}"]
        lines.append("| " + " | ".join([*cells, f"{row['seconds']:.2f}"]) + " |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--way", choices=("sync", "async", "both"), default="both")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.way == "both":
        print("\n".join(table(measure(arguments.megabytes))))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(train(arguments.megabytes, arguments.way == "async", scratch)))
