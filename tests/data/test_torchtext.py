"""A user's own torchtext BucketIterator: it trains, its batches are weighed by their size, and it resumes exactly."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lightkit as lk
from lightkit.devices.batch_size import batch_size_of
from lightkit.devices.transfer import move_data_to_device

data = pytest.importorskip("torchtext.data")

BATCHES = 13


def make_iterators(seed: int = 3) -> tuple[Any, Any]:
    """50 short texts: does an "a" occur? In batches of 4 to train, of 8 to validate; batch_first is off."""
    text, label = data.Field(), data.Field(sequential=False, is_target=True, unk_token=None)
    fields = [("text", text), ("label", label)]
    rng = random.Random(1)
    sentences = [[rng.choice("abcdef") for _ in range(rng.randint(1, 9))] for _ in range(50)]
    examples = [data.Example.fromlist([" ".join(s), "yes" if "a" in s else "no"], fields) for s in sentences]
    dataset = data.Dataset(examples, fields)
    text.build_vocab(dataset)
    label.build_vocab(dataset)
    random.seed(seed)
    train, val = data.BucketIterator.splits(
        (dataset, dataset), batch_sizes=(4, 8), sort_key=lambda example: len(example.text), sort_within_batch=True
    )
    return train, val


class Bag(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.EmbeddingBag(10, 8), nn.Linear(8, 3)
        self.seen: list[Any] = []

    def loss(self, batch: Any) -> torch.Tensor:
        return F.cross_entropy(self.out(self.embedding(batch.text.t())), batch.label)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch.text.tolist())
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def run(tmp_path: Path, max_steps: int = -1, ckpt_path: Path | None = None) -> tuple[Bag, lk.Trainer]:
    lk.seed_everything(0)
    model, (train, val) = Bag(), make_iterators()
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lk.Trainer(
        max_epochs=3,
        max_steps=max_steps,
        enable_checkpointing=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
        **quiet,
    )
    trainer.fit(model, train, val, ckpt_path=ckpt_path)
    return model, trainer


def test_a_bucket_iterator_trains_as_a_plain_loop_does(tmp_path: Path) -> None:
    model, _ = run(tmp_path)
    lk.seed_everything(0)
    plain, (train, _) = Bag(), make_iterators()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    for _ in range(3):
        for batch in train:
            optimizer.zero_grad()
            plain.loss(batch).backward()
            optimizer.step()
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


@pytest.mark.parametrize("steps", [5, BATCHES, BATCHES + 1, 2 * BATCHES])
def test_a_resumed_bucket_iterator_gives_the_same_batches_and_weights(tmp_path: Path, steps: int) -> None:
    whole, _ = run(tmp_path)
    first, trainer = run(tmp_path, max_steps=steps)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second, _ = run(tmp_path, ckpt_path=tmp_path / "half.ckpt")
    assert len(first.seen) == steps
    assert first.seen + second.seen == whole.seen
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_a_torchtext_batch_is_moved_and_knows_its_size() -> None:
    train, _ = make_iterators()
    batch = next(iter(train))
    assert batch.text.shape[0] != 4  # (tokens, batch): dimension 0 is not the batch's size
    assert batch_size_of(batch) == 4
    moved = move_data_to_device(batch, "meta")
    assert moved.text.device.type == moved.label.device.type == "meta"
    assert moved.dataset is batch.dataset and batch.text.device.type == "cpu"
