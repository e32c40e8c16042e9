"""What importing costs beyond `import torch`, and a process from its start to the end of a fit of one step.

Every figure is a median over fresh processes, interleaved. An import is timed inside of its process, after torch's: the
difference of two whole processes, seconds each, would be mostly noise. The fit is timed from outside, start included.
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

# measured inside of the process, after `import torch`
_IMPORT = """
import time, torch
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""
IMPORTS = ("import lightkit", "from lightkit import LightModule, Trainer")
# whole processes, from outside: each is compared with the first
PROGRAMS = {"raw step": _RAW, "lightkit fit of one step, logger=False": _OURS}
LIGHTNING_IMPORTS = ("import lightning.pytorch",)
LIGHTNING_PROGRAMS = {"Lightning fit of one step, logger=False": _LIGHTNING}


def seconds_of(program: str, folder: str) -> float:
    """What the program prints as its time, else the wall-clock time of the whole process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # byte code is read from files, as after any installation, wherever this environment keeps them
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = os.path.join(folder, "bytecode")
    file = Path(folder, "program.py")  # Lightning reads the source of the module's class
    file.write_text(program, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(file)]
    start = time.perf_counter()
    done = subprocess.run(
        command, check=True, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - start
    return float(done.stdout) if program.startswith(_IMPORT[:20]) else seconds


def measure(*, rounds: int, with_lightning: bool) -> dict[str, dict[str, float]]:
    """By program: `seconds`, and `beyond_ms`, what it takes more than `import torch` or the raw step."""
    imports = IMPORTS + (LIGHTNING_IMPORTS if with_lightning else ())
    programs = {statement: _IMPORT.format(statement=statement) for statement in imports}
    programs.update(PROGRAMS, **(LIGHTNING_PROGRAMS if with_lightning else {}))
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(rounds + 1):
            for name, program in programs.items():
                found = seconds_of(program, folder)
                if index > 0:  # the first round writes byte code and fills the disk cache
                    seconds[name].append(found)
    raw = seconds["raw step"]
    beyond = {
        name: found if name in imports else [a - b for a, b in zip(found, raw, strict=True)]
        for name, found in seconds.items()
    }
    return {
        name: {"seconds": statistics.median(found), "beyond_ms": statistics.median(beyond[name]) * 1e3}
        for name, found in seconds.items()
    }


if __name__ == "__main__":
    for title, figures in measure(rounds=7, with_lightning=False).items():
        print(f"{title:45} {figures['seconds']:.3f} s  +{figures['beyond_ms']:.0f} ms")
