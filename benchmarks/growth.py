"""Whether memory and step time grow with the number of logged steps, in a process of its own.

python benchmarks/growth.py --steps 20000 prints JSON: the growth of the resident memory in MB from a tenth of the
steps to the end, and the medians of the second and the last decile of the step times, in microseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def resident_mb() -> float:
    """Memory of this process that is in RAM."""
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    scale = 1e6 if sys.platform == "darwin" else 1e3  # the highest so far, in bytes or kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def train(steps: int, folder: str) -> dict[str, Any]:
    """Fit with TensorBoard, CSV, bar and a metric with an epoch mean, and look at memory and clock."""
    import torch

    import lightkit as lk
    from benchmarks.jobs import Data, Job
    from benchmarks.ours import LoggingMany

    torch.set_num_threads(1)
    times = array("d", bytes(8 * steps))
    memory: list[float] = []

    class Watch(lk.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            times[batch_idx] = time.perf_counter()
            if batch_idx + 1 in (steps // 10, steps):
                memory.append(resident_mb())

    job = Job("growth", "growth", Data((32,), 4, steps, own=True), logged=1)
    # a TensorBoard writer of 200,000 scalars and a table of as many rows: log_every_n_steps=1
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=folder, log_every_n_steps=1, callbacks=[Watch()],
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(LoggingMany(job), job.data.train())
    each = [b - a for a, b in zip(times[:-1], times[1:], strict=True)]
    tenth = len(each) // 10
    second, last = (statistics.median(part) * 1e6 for part in (each[tenth : 2 * tenth], each[-tenth:]))
    return {"steps": steps, "rss_growth_mb": memory[-1] - memory[0], "second_us": second, "last_us": last}


def measure(steps: int) -> dict[str, Any]:
    """Run `train` in a process of its own."""
    command = [sys.executable, __file__, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(train(parser.parse_args().steps, scratch)))
