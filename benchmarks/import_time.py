"""What importing costs beyond `import torch`, and a process from its start to the end of a fit of one step.

Every figure is a median over fresh processes, interleaved; the time is the whole process's, from outside.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_NET = "torch.nn.Linear(4, 2)"
_DATA = "DataLoader(TensorDataset(torch.zeros(4, 4), torch.zeros(4, dtype=torch.long)), batch_size=4)"
_IMPORTS = """
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
"""
_RAW = f"""
{_IMPORTS}
net, data = {_NET}, {_DATA}
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for x, y in data:
    loss = cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
_FIT = f"""
{_IMPORTS}
{{imports}}
class Module(Base):
    def __init__(self):
        super().__init__()
        self.net = {_NET}
    def training_step(self, batch, batch_idx):
        return cross_entropy(self.net(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
Trainer(
    max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
).fit(Module(), {_DATA})
"""
_OURS = _FIT.format(imports="from lightkit import LightModule as Base, Trainer")
_LIGHTNING = _FIT.format(imports="from lightning.pytorch import LightningModule as Base, Trainer")

# name -> (program, the program it is compared with)
PROGRAMS = {
    "import torch": ("import torch", None),
    "import lightkit": ("import torch, lightkit", "import torch"),
    "from lightkit import LightModule, Trainer": (
        "import torch; from lightkit import LightModule, Trainer",
        "import torch",
    ),
    "raw step, whole process": (_RAW, None),
    "lightkit fit of one step, logger=False, whole process": (_OURS, "raw step, whole process"),
}
LIGHTNING_PROGRAMS = {
    "import lightning.pytorch": ("import torch, lightning.pytorch", "import torch"),
    "Lightning fit of one step, logger=False, whole process": (_LIGHTNING, "raw step, whole process"),
}


def seconds_of(program: str, folder: str) -> float:
    """Wall-clock time of a process that runs the program."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    file = Path(folder, "program.py")  # Lightning reads the source of the module's class
    file.write_text(program, encoding="utf-8")
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-W", "ignore", str(file)], check=True, env=environment, cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - start


def measure(*, rounds: int, with_lightning: bool) -> dict[str, dict[str, float | None]]:
    """By program: `seconds`, and `beyond_ms` what it takes more than the one it is compared with."""
    programs = {**PROGRAMS, **(LIGHTNING_PROGRAMS if with_lightning else {})}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(rounds + 1):
            for name, (program, _) in programs.items():
                found = seconds_of(program, folder)
                if index > 0:  # the first round fills the disk cache and writes byte code
                    seconds[name].append(found)
    result: dict[str, dict[str, float | None]] = {}
    for name, (_, base) in programs.items():
        beyond = None
        if base is not None:
            pairs = zip(seconds[name], seconds[base], strict=True)
            beyond = statistics.median(a - b for a, b in pairs) * 1e3
        result[name] = {"seconds": statistics.median(seconds[name]), "beyond_ms": beyond}
    return result


if __name__ == "__main__":
    for title, figures in measure(rounds=7, with_lightning=False).items():
        extra = "" if figures["beyond_ms"] is None else f"  +{figures['beyond_ms']:.0f} ms"
        print(f"{title:56} {figures['seconds']:.3f} s{extra}")
