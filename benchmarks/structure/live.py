"""What a run really loads and calls: counted in a process of its own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.structure.rows import Row, lines_of, python, sources

# One module, SGD, one logged value; `{trainer}`: the arguments of the Trainer. `at`: the step that is counted.
_PROGRAM = """
import inspect, json, sys
from types import FunctionType
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
import lightkit as lk

package, at, calls = {package!r}, 5, []

def note(frame, event, argument):
    if event == "call" and frame.f_code.co_filename.startswith(package):
        calls.append([frame.f_code.co_filename[len(package):], frame.f_code.co_qualname])

class Module(lk.LightModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 2)
    def training_step(self, batch, batch_idx):
        # from the first line of one step to the first line of the next
        if batch_idx in (at, at + 1):
            sys.setprofile(note if batch_idx == at else None)
        x, y = batch
        loss = cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

data = DataLoader(TensorDataset(torch.zeros(48, 4), torch.zeros(48, dtype=torch.long)), batch_size=4)
trainer = lk.Trainer(max_epochs=1, accelerator="cpu", {trainer})
trainer.fit(Module(), data)
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
static = dict((name, inspect.getattr_static(trainer, name)) for name in set(dir(lk.Trainer)) | set(vars(trainer)))
methods = [name for name, value in static.items() if isinstance(value, (FunctionType, staticmethod, classmethod))]
print(json.dumps(dict(
    calls=calls, files=sorted(name for name in set(files) if name.startswith(package)),
    attributes=sorted(name for name in static if not name.startswith("_") and name not in methods),
    methods=sorted(name for name in methods if not name.startswith("_")),
)))
"""
BAREBONES = "barebones=True"
ALL_OFF = "logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False"


def fit(root: Path, trainer: str) -> dict[str, Any]:
    """What a small fit loaded (`files`), called in one steady step (`calls`), and has on its Trainer.

    Raises:
        RuntimeError: the fit failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = _PROGRAM.format(package=str(root / "lightkit") + "/", trainer=trainer)
        done = python(root, "-W", "ignore", "-c", program, cwd=Path(folder))
    if done.returncode != 0:
        raise RuntimeError(f"the fit of {root} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["files"] and found["calls"], "the fit ran over another copy of lightkit"
    return found


def import_rows(root: Path) -> list[Row]:
    """Lines of the files that a `barebones` fit imports, and of all."""
    loaded = {Path(file): lines_of(Path(file)) for file in fit(root, BAREBONES)["files"]}
    total = sum(map(lines_of, sources(root)))
    places = [f"{lines:5}  {path.relative_to(root)}" for path, lines in _by_size(loaded)]
    return [
        Row("imported", "lines of lightkit that a barebones fit imports", sum(loaded.values()), places=places),
        Row("lines", "lines of lightkit in all", total),
    ]


def _by_size(lines: dict[Path, int]) -> list[tuple[Path, int]]:
    return sorted(lines.items(), key=lambda pair: -pair[1])


def step_rows(root: Path) -> list[Row]:
    """Python calls into lightkit from one `training_step` to the next (`self.log`, SGD, a DataLoader over tensors)."""
    calls = fit(root, ALL_OFF)["calls"]
    places = [f"{file}  {name}" for file, name in calls]
    return [
        Row("step_calls", "framework calls of one steady step", len(calls), places=places),
        Row("step_files", "  in so many files", len({file for file, _ in calls})),
    ]
