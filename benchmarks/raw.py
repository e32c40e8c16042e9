"""The hand-written loops that everything is compared with: what one writes without a framework, and no more."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.jobs import LEARNING_RATE, LOG_EVERY, MAX_LEARNING_RATE, Data, Job, Run, weights

ACCUMULATE, CLIP = 4, 1.0


def raw(job: Job, folder: str) -> Run:
    """The job as a hand-written loop over its DataLoader."""
    return _LOOPS[job.kind](job, folder)


def _plain(job: Job, folder: str) -> Run:
    model, loader, epochs = job.model(), job.data.train(), job.epochs
    optimizer = SGD(model.parameters(), lr=LEARNING_RATE)

    def run() -> list[Tensor]:
        for _ in range(epochs):
            for x, y in loader:
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return weights(model)

    return run


def _everything(job: Job, folder: str) -> Run:
    from torch.utils.tensorboard import SummaryWriter

    model, loader, epochs = job.model(), job.data.train(), job.epochs
    optimizer = SGD(model.parameters(), lr=LEARNING_RATE)
    total = len(loader)

    def run() -> list[Tensor]:
        writer = SummaryWriter(folder)
        step, draw_at = 0, 0.0
        for epoch in range(epochs):
            for index, (x, y) in enumerate(loader):
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                if step % LOG_EVERY == 0:
                    writer.add_scalar("train_loss", loss.item(), step)
                if time.monotonic() >= draw_at:
                    sys.stdout.write(f"\repoch {epoch} {index + 1}/{total} loss {loss.item():.4f}")
                    draw_at = time.monotonic() + 0.1
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save(state, os.path.join(folder, "raw.ckpt"))
        writer.close()
        return weights(model)

    return run


def _evaluate(model: nn.Module, loader: Any) -> float:
    """The mean loss over all samples."""
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for x, y in loader:
            total += cross_entropy(model(x), y).item() * len(y)
            count += len(y)
    model.train()
    return total / count


def _validation(job: Job, folder: str) -> Run:
    model, loader = job.model(), job.data.val()
    return lambda: [torch.tensor(_evaluate(model, loader))]


def _epochs(job: Job, folder: str) -> Run:
    model, loader, val, epochs = job.model(), job.data.train(), job.data.val(), job.epochs
    optimizer = SGD(model.parameters(), lr=LEARNING_RATE)

    def run() -> list[Tensor]:
        for _ in range(epochs):
            for x, y in loader:
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            last = _evaluate(model, val)
        return [*weights(model), torch.tensor(last)]

    return run


def _accumulate(job: Job, folder: str) -> Run:
    model, loader, epochs = job.model(), job.data.train(), job.epochs
    parameters = list(model.parameters())
    optimizer = SGD(parameters, lr=LEARNING_RATE)
    scheduler = OneCycleLR(optimizer, MAX_LEARNING_RATE, total_steps=job.count // ACCUMULATE)

    def run() -> list[Tensor]:
        for _ in range(epochs):
            for index, (x, y) in enumerate(loader):
                loss = cross_entropy(model(x), y)
                (loss / ACCUMULATE).backward()
                if (index + 1) % ACCUMULATE == 0:
                    nn.utils.clip_grad_norm_(parameters, CLIP)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
        return weights(model)

    return run


_LOOPS = {
    "plain": _plain, "everything": _everything, "validation": _validation, "epochs": _epochs,
    "accumulate": _accumulate,
}  # fmt: skip


# ---------------------------------------------------------------- the same without a DataLoader


class Slices:
    """Batches cut by hand from tensors in memory, in the order in which the DataLoader of `Data` gives them."""

    def __init__(self, data: Data, which: str):
        self.x, self.y = data.tensors(which)
        self.batch_size, self.shuffles = data.batch_size, which == "train"
        self.generator = torch.Generator().manual_seed(3)

    def __len__(self) -> int:
        return math.ceil(len(self.x) / self.batch_size)

    def __iter__(self) -> Any:
        x, y, size = self.x, self.y, self.batch_size
        if not self.shuffles:
            yield from zip(x.split(size), y.split(size), strict=True)
            return
        # a DataLoader draws a seed for its workers first, also where it has none
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        for indices in torch.randperm(len(x), generator=self.generator).split(size):
            yield x[indices], y[indices]
        torch.randperm(len(x), generator=self.generator)  # and its sampler draws once more when it is asked for more


class _SlicedData(Data):
    def train(self) -> Any:
        return Slices(self, "train")

    def val(self) -> Any:
        return Slices(self, "val")


def sliced(job: Job, folder: str) -> Run:
    """The hand-written loop with hand-written slicing; only for tensors in memory."""
    if job.data.own:
        raise NotImplementedError("the data set must be read item by item")
    data = _SlicedData(**{name: getattr(job.data, name) for name in vars(job.data)})
    return _LOOPS[job.kind](Job(**{**vars(job), "data": data}), folder)
