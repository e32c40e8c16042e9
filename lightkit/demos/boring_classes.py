"""Modules and data that are made in a moment and learn nothing of interest: to try a loop, a callback, a logger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from lightkit.datamodule import LightDataModule
from lightkit.module import LightModule

STAGES = ("train", "val", "test", "predict")


class RandomDataset(Dataset[Tensor]):
    """`length` rows of `size` normal numbers."""

    def __init__(self, size: int, length: int):
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index]

    def __len__(self) -> int:
        return self.len


class RandomDictDataset(Dataset[dict[str, Tensor]]):
    """The same; an item is a dict with `a`, a row, and `b`, that row and 1."""

    def __init__(self, size: int, length: int):
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"a": self.data[index], "b": self.data[index] + 1}

    def __len__(self) -> int:
        return self.len


class RandomIterableDataset(IterableDataset[Tensor]):
    """A stream of `count` rows of `size` normal numbers."""

    def __init__(self, size: int, count: int):
        self.size, self.count = size, count

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.count):
            yield torch.randn(self.size)


class RandomIterableDatasetWithLen(RandomIterableDataset):
    """The same; it knows how many rows there are."""

    def __len__(self) -> int:
        return self.count


class BoringModel(LightModule):
    """A linear layer whose outputs are to be 1; brings its own data, (batch, 32) -> (batch, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out

    def loss(self, preds: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean square distance from the labels, or from 1."""
        return functional.mse_loss(preds, torch.ones_like(preds) if labels is None else labels)

    def step(self, batch: Any) -> Tensor:
        """The loss of a batch."""
        return self.loss(self(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.step(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"x": self.step(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return {"y": self.step(batch)}

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomDataset(32, 64))

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomDataset(32, 64))

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomDataset(32, 64))

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomDataset(32, 64))


class ManualOptimBoringModel(BoringModel):
    """The same, which optimizes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer: Any = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class DemoModel(LightModule):
    """A linear layer, (batch, 32) -> (batch, out_dim), whose loss is the sum of its outputs."""

    def __init__(self, out_dim: int = 10, learning_rate: float = 0.02):
        super().__init__()
        self.l1 = nn.Linear(32, out_dim)
        self.learning_rate = learning_rate

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.l1(x.view(x.size(0), -1)))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self(batch).sum()

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class Net(nn.Module):
    """A linear layer without a LightModule around it, (batch, 32) -> (batch, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class BoringDataModule(LightDataModule):
    """256 random rows, 64 of them for each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint_state: str | None = None
        self.random_full: Dataset[Any] = RandomDataset(32, 64 * 4)

    def setup(self, stage: str) -> None:
        parts = {name: Subset(self.random_full, range(64 * i, 64 * (i + 1))) for i, name in enumerate(STAGES)}
        self.random_train, self.random_val = parts["train"], parts["val"]
        self.random_test, self.random_predict = parts["test"], parts["predict"]

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.random_train)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.random_val)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.random_test)

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.random_predict)


class _OfStreams(LightDataModule):
    """A stream for each loader."""

    stream: type[RandomIterableDataset | RandomIterableDatasetWithLen]

    def setup(self, stage: str) -> None:
        self.streams = {name: self.stream(32, 64) for name in STAGES}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.streams["train"])

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.streams["val"])

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.streams["test"])

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.streams["predict"])


class BoringDataModuleNoLen(_OfStreams):
    """The same from streams, of which no loader can say how long it is."""

    stream = RandomIterableDataset


class IterableBoringDataModule(_OfStreams):
    """The same from streams that know how long they are."""

    stream = RandomIterableDatasetWithLen
