"""Memory of a prediction: its peak over what the process had before, for an amount of data and ten times that.

python benchmarks/predictions.py prints a table; each row is a process of its own (`--run WAY MEGABYTES` is one).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WAYS = {
    "batch": "`PredictionWriter(folder)`, `return_predictions=False`",
    "workers": "the same, 2 worker processes",
    "none": "no writer, `return_predictions=False`",
    "kept": "no writer, predictions returned",
}
WIDTH, BATCH = 1000, 250  # 1 MB of predictions a batch


class Measured(NamedTuple):
    """One prediction. grown_mb: the highest resident memory over that before `predict`. written_mb: in the folder."""

    way: str
    predicted_mb: int
    grown_mb: float
    written_mb: float
    seconds: float


def peak_mb() -> float:
    """The most memory that the process has held since `forget_peak`."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024


def forget_peak() -> None:
    """Let the peak begin anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def predict(way: str, megabytes: int, folder: str) -> Measured:
    """Predict so many megabytes in this process."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    import lightkit as lk
    from lightkit.callbacks import PredictionWriter

    torch.set_num_threads(1)

    class Samples(Dataset[Any]):
        """Made when asked for: the data itself takes no memory."""

        def __len__(self) -> int:
            return megabytes * BATCH

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.full((8,), float(index))

    class Wide(lk.LightModule):
        """Each sample gives 4 kB."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, WIDTH)

        def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.layer(batch)

    def trainer(**arguments: Any) -> lk.Trainer:
        quiet: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
        return lk.Trainer(**quiet, **arguments)

    writes = way in ("batch", "workers")
    loader = DataLoader(Samples(), batch_size=BATCH, num_workers=2 if way == "workers" else 0)
    model = Wide()
    # what is loaded and allocated once is not what grows
    warm = PredictionWriter(Path(folder) / "warm") if writes else []
    trainer(callbacks=warm, limit_predict_batches=3).predict(model, loader, return_predictions=way == "kept")
    out = Path(folder) / "predictions"
    measured = trainer(callbacks=PredictionWriter(out) if writes else [])
    forget_peak()
    before, started = peak_mb(), time.perf_counter()
    measured.predict(model, loader, return_predictions=way == "kept")
    seconds = time.perf_counter() - started
    written = sum(path.stat().st_size for path in out.rglob("*.pt")) / 1e6 if writes else 0.0
    return Measured(way, megabytes, round(peak_mb() - before, 1), round(written, 1), round(seconds, 1))


def measure(way: str, megabytes: int) -> Measured:
    """Predict in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--run", way, str(megabytes), "--folder", folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table of docs/guide/predictions.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", nargs=2, metavar=("WAY", "MEGABYTES"))
    parser.add_argument("--folder")
    parser.add_argument("--megabytes", type=int, default=60, help="of predictions in the smaller run")
    asked = parser.parse_args()
    if asked.run:
        sys.path.insert(0, str(ROOT))
        print(json.dumps(predict(asked.run[0], int(asked.run[1]), asked.folder)))
        return
    small, large = asked.megabytes, 10 * asked.megabytes
    print(f"| prediction | peak over before, {small} MB | {large} MB |\n| --- | --- | --- |")
    for way, text in WAYS.items():
        one, ten = measure(way, small), measure(way, large)
        print(f"| {text} | {one.grown_mb:.1f} MB | {ten.grown_mb:.1f} MB |", flush=True)


if __name__ == "__main__":
    main()
