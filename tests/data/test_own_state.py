"""A loader's own `load_state_dict` is checked: where it has not gone on where it was, the batches are drawn again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

import lightkit as lk

BATCHES, EPOCHS = 6, 3
Seen = list[tuple[list[float], float]]
MOVE = (
    "they are drawn again and skipped. Let load_state_dict() of the data set move it to where it was, or give both "
    "methods up"
)


class Stateful:
    """A loader with torchdata's protocol. `after` says what it does after load_state_dict."""

    def __init__(self, after: str = "goes on", has_length: bool = True, batches: int = BATCHES) -> None:
        self.after, self.batches = after, batches
        self.done, self.loaded = 0, -1
        if has_length:
            self.__class__ = Sized

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        start, is_resumed, self.loaded = max(self.loaded, 0), self.loaded >= 0, -1
        if is_resumed:
            start = {"begins anew": 0, "is at its end": self.batches, "skips twice": 2 * start}.get(self.after, start)
        for number in range(start, self.batches):
            self.done = number + 1
            yield [torch.tensor([float(number)]), torch.rand(1)]

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loaded = state["done"]


class Sized(Stateful):
    def __len__(self) -> int:
        return self.batches


class Watching(lk.LightModule):
    """Writes down its batches, and draws from the global generator between them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: Seen = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        parts = batch if isinstance(batch, list) else [batch]
        self.seen.append(([number for part in parts for number in part.flatten().tolist()], torch.rand(1).item()))
        return self.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Stop(lk.Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(loader: Any, *, seed: int = 3, stop: Stop | None = None, ckpt_path: Path | None = None) -> Seen:
    torch.manual_seed(seed)
    model = Watching()
    trainer = lk.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[stop] if stop else [],
    )  # fmt: skip
    try:
        trainer.fit(model, loader, ckpt_path=ckpt_path)
    except KeyboardInterrupt:
        assert stop
    finally:
        loader._iterator = None  # torchdata's workers that stay are the user's: they end now
    return model.seen


def resumed(make: Any, step: int, path: Path) -> Seen:
    """What an interrupted run and the one that goes on from it see, together."""
    before = fit(make(), stop=Stop(step, path))
    assert len(before) == step
    return before + fit(make(), seed=99, ckpt_path=path)


@pytest.mark.parametrize("has_length", [True, False])
def test_a_loader_that_goes_on_where_it_was_is_asked(tmp_path: Path, has_length: bool) -> None:
    def make() -> Stateful:
        return Stateful(has_length=has_length)

    whole = fit(make())
    assert [batch[0] for batch, _ in whole] == [*range(BATCHES)] * EPOCHS
    for step in (1, 2, BATCHES, BATCHES + 2):
        assert resumed(make, step, tmp_path / f"{step}.ckpt") == whole


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("after", ["begins anew", "is at its end"])
@pytest.mark.parametrize("step", [1, 2, 5, BATCHES + 2])
def test_a_loader_that_has_not_found_its_place_is_replayed_and_it_is_said(
    tmp_path: Path, step: int, after: str, has_length: bool
) -> None:
    def make() -> Stateful:
        return Stateful(after, has_length)

    whole = fit(make())
    name = "Sized" if has_length else "Stateful"
    what = "began the epoch anew" if after == "begins anew" else "gave no batch"
    with pytest.warns(UserWarning) as said:
        assert resumed(make, step, tmp_path / "stop.ckpt") == whole, "to the bit, also what is drawn at random"
    assert [str(warning.message) for warning in said] == [
        f"train_dataloaders: after {name}.load_state_dict() the loader {what} instead of going on after "
        f"{step % BATCHES} batches; {MOVE}"
    ]


@pytest.mark.parametrize(("step", "has_length"), [(2, True), (BATCHES + 2, False)])
def test_an_epoch_that_comes_out_too_short_is_made_whole(tmp_path: Path, step: int, has_length: bool) -> None:
    # without a length, that of the epoch before is what it should be
    def make() -> Stateful:
        return Stateful("skips twice", has_length)

    with pytest.warns(UserWarning) as said:
        seen = [int(batch[0]) for batch, _ in resumed(make, step, tmp_path / "stop.ckpt")]
    ended = step % BATCHES + (step - step % BATCHES)
    first = ended - step % BATCHES
    assert sorted(seen[first : first + BATCHES]) == [*range(BATCHES)], "each batch once"
    assert seen[:ended] + seen[first + BATCHES :] == [*itertools.islice(itertools.cycle(range(BATCHES)), ended)] + [
        *range(BATCHES)
    ] * (EPOCHS - 1 - first // BATCHES)
    name = "Sized" if has_length else "Stateful"
    assert [str(warning.message) for warning in said] == [
        f"train_dataloaders: after {name}.load_state_dict() the loader gave 2 batches, 2 too few, instead of going on "
        f"after 2 batches; {MOVE}"
    ]


def test_batches_that_are_all_the_same_are_no_sign_of_a_loader_that_began_anew(tmp_path: Path) -> None:
    class Constant(Stateful):
        def __iter__(self) -> Iterator[torch.Tensor]:
            return (torch.ones(1) for _ in super().__iter__())

    def make() -> Stateful:
        return Constant(has_length=False)

    assert resumed(make, 8, tmp_path / "stop.ckpt") == fit(make())


def test_a_checkpoint_without_what_is_checked_by_can_be_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "stop.ckpt"
    before, whole = fit(Stateful(), stop=Stop(2, path)), fit(Stateful())
    checkpoint = torch.load(path, weights_only=True)
    data = checkpoint["loop"]["data"]
    assert len(data.pop("known")) == 2 and data.pop("length", 0) is None
    earlier = tmp_path / "earlier.ckpt"
    torch.save(checkpoint, earlier)
    assert before + fit(Stateful(), seed=99, ckpt_path=earlier) == whole


class Numbers(Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(float(index))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from (torch.tensor(float(i)) for i in range(12))


class CannotSeek(Stream):
    """Has both methods, and neither moves it."""

    def state_dict(self) -> dict[str, int]:
        return {"epoch": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


class SizedCannotSeek(CannotSeek):
    def __len__(self) -> int:
        return 12


@pytest.mark.filterwarnings("ignore:.*load_state_dict\\(\\) the loader")
@pytest.mark.parametrize(
    "workers",
    [
        {},
        pytest.param({"num_workers": 1}, marks=pytest.mark.slow),
        pytest.param({"num_workers": 1, "persistent_workers": True}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", [Numbers, Stream, CannotSeek, SizedCannotSeek])
def test_torchdatas_loader_is_taken_up_again(tmp_path: Path, kind: Any, workers: dict[str, Any]) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def make() -> Any:
        options = {"shuffle": True, "generator": torch.Generator().manual_seed(1)} if kind is Numbers else {}
        return stateful.StatefulDataLoader(kind(), 2, **options, **workers)

    whole = fit(make())
    assert len(whole) == BATCHES * EPOCHS
    for step in (2, BATCHES, BATCHES + 2):
        assert resumed(make, step, tmp_path / f"{step}.ckpt") == whole
