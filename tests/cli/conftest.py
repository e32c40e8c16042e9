"""A user's project: a folder with classes of its own and a config, and the command line run inside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from lightkit.cli.main import main

JOBS = '''
from __future__ import annotations
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import lightkit as lk

class Net(lk.LightModule):
    """A small classifier.

    Args:
        lr: learning rate of the optimizer.
        hidden: width of the hidden layer.
        body: what stands between input and output.
    """

    def __init__(self, lr: float = 0.1, hidden: int = 4, body: nn.Module | None = None) -> None:
        super().__init__()
        self.lr = lr
        self.input = nn.Linear(3, hidden)
        self.body = body if body is not None else nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, 2)

    def forward(self, x):
        return self.output(self.body(torch.relu(self.input(x))))

    def _loss(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self._loss(batch))
        self.log("test_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

class Deep(Net):
    def __init__(self, depth: int = 2, **kwargs) -> None:
        super().__init__(**kwargs)
        self.depth = depth

class Data(lk.LightDataModule):
    def __init__(self, batch_size: int, rows: int = 12) -> None:
        super().__init__()
        Path("data_was_touched").touch()
        self.batch_size = batch_size
        self.x = torch.randn(rows, 3)

    def _loader(self, shuffle: bool = False):
        y = (self.x.sum(1) > 0).long()
        return DataLoader(TensorDataset(self.x, y), batch_size=self.batch_size, shuffle=shuffle)

    def train_dataloader(self):
        return self._loader(shuffle=True)

    def val_dataloader(self):
        return self._loader()

    def test_dataloader(self):
        return self._loader()

    def predict_dataloader(self):
        return self._loader()
'''

JOB = """
seed_everything: 3
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
  - class_path: EarlyStopping
    init_args:
      monitor: val_loss
model:
  class_path: jobs.Deep
  init_args:
    lr: 1e-3
    body: {class_path: torch.nn.Linear, init_args: {in_features: 4, out_features: 4}}
data:
  class_path: jobs.Data
  init_args:
    batch_size: 4
""".lstrip()


@dataclass(frozen=True)
class Result:
    """How one call of the command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, also the working directory, with `jobs.py` and `job.yaml`."""
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "job.yaml").write_text(JOB)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("jobs", None)
    yield tmp_path
    sys.modules.pop("jobs", None)


@pytest.fixture
def lightkit(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command line inside the project."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        try:
            code = main(list(arguments))
        except SystemExit as stop:  # --help and --print_config
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def write(project: Path) -> Callable[[str, str], Path]:
    """Write a file of the project."""

    def file(name: str, text: str) -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    return file
