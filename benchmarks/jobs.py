"""What is measured: a job says what is trained, on what, and how; each framework does the same job.

Everything random is seeded per job and per run, so that all of them see the same batches and end with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

LOG_EVERY = 50  # steps between two written metrics: Lightning's default
LEARNING_RATE = 0.01
MAX_LEARNING_RATE = 0.05


class OwnDataset(Dataset[tuple[Tensor, Tensor]]):
    """A user's data set: it can be read item by item alone."""

    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


@dataclass(frozen=True)
class Data:
    """Random samples of two classes.

    own: a data set with its own `__getitem__`, else a TensorDataset. workers: processes that stay, of each loader.
    """

    shape: tuple[int, ...]  # of one sample
    batch_size: int
    train_batches: int
    val_batches: int = 0
    own: bool = False
    workers: int = 0
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def tensors(self, which: str) -> tuple[Tensor, Tensor]:
        """Samples and classes; which: "train" or "val"."""
        if which not in self.cache:
            count = self.batch_size * (self.train_batches if which == "train" else self.val_batches)
            generator = torch.Generator().manual_seed(1 if which == "train" else 2)
            x = torch.randn(count, *self.shape, generator=generator)
            self.cache[which] = x, (x.flatten(1)[:, :4].sum(1) > 0).long()
        return self.cache[which]

    def dataset(self, which: str) -> Any:
        """The samples as a data set."""
        return OwnDataset(*self.tensors(which)) if self.own else TensorDataset(*self.tensors(which))

    def train(self) -> DataLoader[Any]:
        """A new loader that shuffles, always in the same order."""
        generator = torch.Generator().manual_seed(3)
        return self._loader("train", shuffle=True, generator=generator)

    def val(self) -> DataLoader[Any]:
        """A new loader in order."""
        return self._loader("val")

    def _loader(self, which: str, **options: Any) -> DataLoader[Any]:
        staying = {"num_workers": self.workers, "persistent_workers": True} if self.workers else {}
        return DataLoader(self.dataset(which), batch_size=self.batch_size, **options, **staying)


def mlp(inputs: int = 32, hidden: int = 32, classes: int = 2) -> nn.Module:
    """Two linear layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def cnn() -> nn.Module:
    """Two convolutions with batch norm, for images of 28 x 28."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One piece of work. `kind` names the hand-written loop that does it (see raw.py)."""

    name: str
    title: str
    data: Data
    kind: str = "plain"  # plain, everything, validation, epochs, accumulate
    model: Callable[[], nn.Module] = mlp
    epochs: int = 1
    logged: int = 0  # metrics logged every step, beside none
    callbacks: int = 0  # that override one hook each
    keyed: bool = False  # after seed_everything(workers=True): each batch's random state is keyed by its position
    units: int = 0  # what microseconds are given for; 0: training batches

    @property
    def count(self) -> int:
        """Units of work: steps, or evaluated batches, or epochs."""
        return self.units or self.data.train_batches * self.epochs


# A job done by one framework: prepared outside of the clock, then `run()` inside it gives what must be equal.
Run = Callable[[], list[Tensor]]
Maker = Callable[[Job, str], Run]  # (job, scratch folder) -> run


def weights(model: nn.Module) -> list[Tensor]:
    """What the job ends with."""
    return [tensor.detach() for tensor in model.state_dict().values()]
