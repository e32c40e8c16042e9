"""Several training loaders: which batches they give together, and that a run over them goes on exactly."""

from __future__ import annotations

import collections
import contextlib
import copy
import importlib
import itertools
import multiprocessing
import os
import pickle
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.data.ahead import Ahead
from lightkit.errors import CheckpointError, ConfigError, DataError
from lightkit.utilities import CombinedLoader

EPOCHS = 2
MODES = ["min_size", "max_size_cycle", "max_size", "sequential"]


class Numbers(Dataset[Any]):
    """`size` numbers from `first` on, each with noise from two generators of the process."""

    def __init__(self, size: int, first: int, is_noisy: bool = True):
        self.size, self.first, self.is_noisy = size, first, is_noisy

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> torch.Tensor:
        noise = torch.rand(1).item() + random.random() if self.is_noisy else 0.0
        return torch.tensor([self.first + index, noise], dtype=torch.float64)


class Stream(IterableDataset[Any]):
    def __init__(self, size: int, first: int):
        self.size, self.first = size, first

    def __iter__(self) -> Iterator[torch.Tensor]:
        for index in range(self.size):
            yield torch.tensor([self.first + index, torch.rand(1).item()], dtype=torch.float64)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(size: int, first: int, batch_size: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(Numbers(size, first), batch_size, **options)


def two(**options: Any) -> list[DataLoader[Any]]:
    """Three batches of 0 to 6, and five of 100 to 119."""
    return [plain(7, 0, 3, **options), plain(20, 100, 4, **options)]


def numbers(batch: Any) -> Any:
    """What is in a batch, without its noise, in its form."""
    if isinstance(batch, torch.Tensor):
        return batch[:, 0].int().tolist()
    if isinstance(batch, dict):
        return {key: numbers(value) for key, value in batch.items()}
    return None if batch is None else type(batch)(numbers(value) for value in batch)


class Net(lk.LightModule):
    """Learns of every number in a batch, and draws between batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, dtype=torch.float64)
        self.dropout = nn.Dropout(0.5)
        self.batches: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.batches.append(numbers(batch))
        found: list[torch.Tensor] = []
        collect(batch, found)
        return self.dropout(self.layer(torch.cat(found) / 100)).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def collect(batch: Any, found: list[torch.Tensor]) -> None:
    if isinstance(batch, torch.Tensor):
        found.append(batch)
    elif batch is not None:
        for part in batch.values() if isinstance(batch, dict) else batch:
            collect(part, found)


class Stop(lk.Callback):
    """Saves in this hook of this batch, counted over all epochs, and ends the process's run there."""

    def __init__(self, batch: int, path: Path, hook: str):
        self.batch, self.path, self.count = batch, path, 0
        setattr(self, hook, self.stop)

    def stop(self, trainer: Any, *_: Any) -> None:
        self.count += 1
        if self.count == self.batch:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(
    make: Callable[[], Any], *, seed: int = 3, stop: Stop | None = None, ckpt_path: Path | None = None, **options: Any
) -> tuple[Net, lk.Trainer]:
    torch.manual_seed(seed)
    random.seed(seed)
    net = Net()
    trainer = lk.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[] if stop is None else [stop], **{"max_epochs": EPOCHS, **options},
    )  # fmt: skip
    try:
        trainer.fit(net, make(), ckpt_path=ckpt_path)
    except KeyboardInterrupt:
        assert stop is not None
    return net, trainer


def assert_goes_on(
    make: Callable[[], Any], tmp_path: Path, stops: list[int] | None = None, hook: str = "on_train_batch_end",
    **options: Any,
) -> None:  # fmt: skip
    """Stopped at these batches, or at any, and gone on from with other generators, it ends as the undisturbed run."""
    whole, _ = fit(make, **options)
    count = len(whole.batches)
    for batch in stops or range(1, count + 1):
        path = tmp_path / f"{batch}.ckpt"
        before, _ = fit(make, stop=Stop(batch, path, hook), **options)
        after, trainer = fit(make, seed=99, ckpt_path=path, **options)
        assert before.batches + after.batches == whole.batches, batch
        assert torch.equal(after.layer.weight, whole.layer.weight), batch
        assert trainer.current_epoch == EPOCHS


# ------------------------------------------------------------ which batches

A, B = [[0, 1, 2], [3, 4, 5], [6]], [[*range(n, n + 4)] for n in range(100, 120, 4)]


@pytest.mark.parametrize(("mode", "batches"), [
    ("min_size", [{"a": a, "b": b} for a, b in zip(A, B, strict=False)]),
    ("max_size_cycle", [{"a": a, "b": b} for a, b in zip([*A, *A[:2]], B, strict=True)]),
    ("max_size", [{"a": a, "b": b} for a, b in zip([*A, None, None], B, strict=True)]),
    ("sequential", [*A, *B]),
])  # fmt: skip
def test_each_mode_gives_its_batches_in_a_fit_and_alone(mode: Any, batches: list[Any]) -> None:
    combined = CombinedLoader(dict(zip("ab", two(), strict=True)), mode)
    net, trainer = fit(lambda: combined)
    assert net.batches == EPOCHS * batches
    assert trainer.num_training_batches == len(batches)
    assert trainer.train_dataloader is combined.iterables  # type: ignore[comparison-overlap]
    alone = [(numbers(batch), index, place) for batch, index, place in combined]
    assert [batch for batch, _, _ in alone] == batches
    assert len(combined) == len(batches)
    indices = [*range(3), *range(5)] if mode == "sequential" else [*range(len(batches))]
    places = [0] * 3 + [1] * 5 if mode == "sequential" else [0] * len(batches)
    assert [(index, place) for _, index, place in alone] == list(zip(indices, places, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_shuffled_loaders_give_the_batches_of_a_plain_loop(mode: Any) -> None:
    def make() -> Any:
        return CombinedLoader(two(shuffle=True), mode)

    net, _ = fit(make)
    torch.manual_seed(3)
    random.seed(3)
    other, combined, batches = Net(), make(), []
    optimizer = other.configure_optimizers()
    for _ in range(EPOCHS):
        iter(combined)
        for _ in range(len(combined)):  # no more than there are: a loader that goes round would draw for one more
            batch, _, _ = next(combined)
            batches.append(numbers(batch))
            optimizer.zero_grad()
            other.training_step(batch, 0).backward()
            optimizer.step()
    assert net.batches == batches
    assert torch.equal(net.layer.weight, other.layer.weight)


@pytest.mark.parametrize(("make", "batch"), [
    (lambda: two()[:1], [A[0]]),
    (lambda: (two()[0], two()[1]), (A[0], B[0])),
    (lambda: {"a": two()[0]}, {"a": A[0]}),
    (lambda: {"a": two(), "b": {"c": two()[0]}}, {"a": [A[0], B[0]], "b": {"c": A[0]}}),
    (lambda: CombinedLoader(two()[0]), A[0]),
    (lambda: [[torch.zeros(2, 2, dtype=torch.float64)], [torch.ones(2, 2, dtype=torch.float64)]], [[0, 0]]),
], ids=["list of one", "tuple", "dict of one", "nested", "no collection", "list of batches"])  # fmt: skip
def test_a_batch_has_the_form_of_what_was_given(make: Any, batch: Any) -> None:
    given = make()
    net, trainer = fit(lambda: given, max_epochs=1)
    assert net.batches[0] == batch
    if not isinstance(given, CombinedLoader):
        assert trainer.train_dataloader is given


@pytest.mark.parametrize(("limit", "mode", "count"), [
    (2, "max_size_cycle", 2), (4, "max_size_cycle", 4), (9, "max_size_cycle", 5), (0.5, "max_size_cycle", 2),
    (2, "min_size", 2), (4, "min_size", 3), (0.5, "min_size", 1), (4, "max_size", 4), (0.8, "max_size", 4),
    (4, "sequential", 7), (1, "sequential", 2), (0.5, "sequential", 3), (1.0, "sequential", 8),
])  # fmt: skip
def test_limits_are_of_each_loader(limit: Any, mode: Any, count: int) -> None:
    net, trainer = fit(lambda: CombinedLoader(two(), mode), limit_train_batches=limit)
    assert len(net.batches) == EPOCHS * count
    assert trainer.num_training_batches == count
    assert trainer.estimated_stepping_batches == EPOCHS * count
    if (limit, mode) == (4, "sequential"):
        assert net.batches[:7] == [*A, *B[:4]]


def test_overfitting_takes_the_first_batches_of_each_in_order() -> None:
    net, _ = fit(lambda: two(shuffle=True), overfit_batches=2)
    assert net.batches == EPOCHS * [[A[0], B[0]], [A[1], B[1]]]


def test_loaders_without_an_end_are_limited_by_the_others_or_a_count() -> None:
    def endless() -> Iterator[torch.Tensor]:
        while True:
            yield torch.zeros(1, 2, dtype=torch.float64)

    net, trainer = fit(lambda: CombinedLoader([endless(), two()[0]], "min_size"))
    assert trainer.num_training_batches == 3
    assert [own for _, own in net.batches] == EPOCHS * A
    net, trainer = fit(lambda: [endless(), two()[0]], limit_train_batches=4)
    assert trainer.num_training_batches == 4
    assert [own for _, own in net.batches] == EPOCHS * [*A, A[0]]


def test_streams_end_the_epoch_where_their_mode_says() -> None:
    def make(mode: Any) -> Callable[[], Any]:
        return lambda: CombinedLoader([DataLoader(Stream(5, 0), 2), DataLoader(Stream(5, 50), 1)], mode)

    assert [len(fit(make(mode))[0].batches) / EPOCHS for mode in MODES] == [3, 5, 5, 8]


def test_loaders_are_asked_for_again_and_told_the_epoch() -> None:
    class Told(torch.utils.data.SequentialSampler):
        epochs: list[int]

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    class Asked(Net):
        asked = 0
        samplers: tuple[Told, ...] = ()

        def train_dataloader(self) -> Any:
            self.asked += 1
            loaders = {}
            for name, size in (("a", 4), ("b", 6)):
                sampler = Told(Numbers(size, 0))
                sampler.epochs = []
                self.samplers += (sampler,)
                loaders[name] = DataLoader(Numbers(size, 0), 2, sampler=sampler)
            return loaders

    net = Asked()
    trainer = lk.Trainer(
        max_epochs=4, reload_dataloaders_every_n_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(net)
    assert net.asked == 2
    assert [sampler.epochs for sampler in net.samplers] == [[0, 1], [0, 1], [2, 3], [2, 3]]


class Asked(Net):
    """Its loaders are other ones in each epoch in which they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def train_dataloader(self) -> Any:
        epoch = self.trainer.current_epoch  # type: ignore[union-attr]
        self.asked.append(f"train{epoch}")
        return {"a": plain(3 + epoch, 0, 2, shuffle=True), "b": plain(6 + epoch, 100, 2, shuffle=True)}

    def val_dataloader(self) -> Any:
        self.asked.append(f"val{self.trainer.current_epoch}")  # type: ignore[union-attr]
        return CombinedLoader(two(shuffle=True), "max_size_cycle")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", batch[0].sum(), batch_size=1)


def fit_asked(*, seed: int = 3, stop: Stop | None = None, ckpt_path: Path | None = None, **options: Any) -> Asked:
    torch.manual_seed(seed)
    random.seed(seed)
    net = Asked()
    trainer = lk.Trainer(
        accelerator="cpu", max_epochs=4, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[] if stop is None else [stop], **options,
    )  # fmt: skip
    try:
        trainer.fit(net, ckpt_path=ckpt_path)
    except KeyboardInterrupt:
        assert stop is not None
    return net


@pytest.mark.parametrize(("every", "check", "asked"), [  # as Lightning asks
    (1, 2, ["train0", "train1", "val1", "train2", "train3", "val3"]), (2, 1, ["train0", "val0", "train2", "val2"]),
    (2, 3, ["train0", "train2", "val2"]),
])  # fmt: skip
def test_loaders_are_asked_for_again_beside_a_rare_validation(every: int, check: int, asked: list[str]) -> None:
    assert fit_asked(reload_dataloaders_every_n_epochs=every, check_val_every_n_epoch=check).asked == asked


def test_a_fit_that_asks_again_in_each_epoch_goes_on(tmp_path: Path) -> None:
    how: dict[str, Any] = {"reload_dataloaders_every_n_epochs": 1, "check_val_every_n_epoch": 2}
    whole = fit_asked(**how)
    for batch in range(1, len(whole.batches) + 1, 2):
        path = tmp_path / f"{batch}.ckpt"
        before = fit_asked(stop=Stop(batch, path, "on_train_batch_end"), **how)
        after = fit_asked(seed=99, ckpt_path=path, **how)
        assert before.batches + after.batches == whole.batches, batch
        assert torch.equal(after.layer.weight, whole.layer.weight), batch


def test_a_data_set_that_grows_makes_the_epoch_longer() -> None:
    growing = Numbers(8, 0)

    class Grows(lk.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            growing.size += 4

    net = Net()
    trainer = lk.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False, callbacks=[Grows()],
    )  # fmt: skip
    trainer.fit(net, [DataLoader(growing, 2), two()[0]])
    assert len(net.batches) == 4 + 6
    assert trainer.num_training_batches == 6


def test_a_logged_mean_weighs_a_batch_by_its_first_loader() -> None:
    class Logs(Net):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.log("first", batch["a"][:, 0].mean(), on_epoch=True, on_step=False)
            return super().training_step(batch, batch_idx)

    loaders = {name: DataLoader(Numbers(6, 0, is_noisy=False), 4) for name in "ab"}
    net = Logs()
    trainer = lk.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(net, loaders)
    assert float(trainer.callback_metrics["first"]) == pytest.approx(2.5)  # the mean of 0 to 5


# ------------------------------------------------------------ the loader itself


@pytest.mark.parametrize("module", ["lightkit.utilities.combined_loader", "lightkit.utilities"])
def test_it_has_what_lightnings_has(module: str) -> None:
    kind = importlib.import_module(module).CombinedLoader
    loaders = {"a": two()[0], "b": (two()[1], [1, 2, 3])}
    combined = kind(loaders)
    assert combined.mode == "min_size"
    assert combined.iterables is loaders
    assert combined.flattened == [loaders["a"], loaders["b"][0], [1, 2, 3]]  # type: ignore[index]
    assert combined.sampler == {"a": loaders["a"].sampler, "b": (loaders["b"][0].sampler, None)}  # type: ignore[index,attr-defined]
    assert combined.batch_sampler["b"][1] is None
    assert combined.limits is None
    combined.limits = 2
    assert combined.limits == [2, 2, 2]
    assert len(iter(combined)) == 2
    combined.flattened = [[1], [2], [3]]
    assert combined.iterables == {"a": [1], "b": ([2], [3])}
    assert list(combined) == [({"a": 1, "b": (2, 3)}, 0, 0)]
    combined.reset()
    with pytest.raises(RuntimeError) as caught:
        len(combined)
    assert str(caught.value) == "len(CombinedLoader): call iter() of it first, the iterables may change until then"


def test_limits_end_a_loader_in_the_mode_sequential() -> None:
    combined = CombinedLoader([range(3), range(10, 12), range(20, 25)], "sequential")
    combined.limits = [2, 0, 3]
    assert list(combined) == [(0, 0, 0), (1, 1, 0), (20, 0, 2), (21, 1, 2), (22, 2, 2)]
    assert len(combined) == 5


def test_collections_keep_their_types() -> None:
    pair = collections.namedtuple("pair", "x y")
    given = collections.OrderedDict(a=pair([1], [2]), b=collections.defaultdict(list, c=[3]))
    ((batch, _, _),) = CombinedLoader(given)
    assert batch == collections.OrderedDict(a=pair(1, 2), b={"c": 3})
    assert type(batch) is collections.OrderedDict
    assert type(batch["b"]) is collections.defaultdict


def test_a_copy_and_a_pickle_combine_the_same() -> None:
    combined = CombinedLoader({"a": range(2), "b": range(5)}, "max_size")
    combined.limits = [1, 3]
    iter(combined)
    for other in (pickle.loads(pickle.dumps(combined)), copy.deepcopy(combined)):
        assert list(other) == list(combined)
        assert (other.limits, len(other)) == ([1, 3], 3)


def test_what_cannot_be_combined_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        CombinedLoader([], "max_size_cycles")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "CombinedLoader(mode='max_size_cycles'): expected one of 'min_size', 'max_size_cycle', 'max_size', "
        "'sequential'; did you mean 'max_size_cycle'?"
    )
    combined = CombinedLoader([range(2), range(3)])
    with pytest.raises(ConfigError, match=r"^CombinedLoader\.limits: 3 limits for 2 iterables$"):
        combined.limits = [1, 2, 3]
    with pytest.raises(ConfigError, match=r"^CombinedLoader\.flattened: 1 iterables in the place of 2$"):
        combined.flattened = [[1]]
    iter(endless := CombinedLoader([itertools.count(), range(2)], "max_size"))
    with pytest.raises(TypeError):
        len(endless)


# ------------------------------------------------------------ workers


def test_workers_that_stay_begin_the_next_epoch_of_all_loaders_early(monkeypatch: pytest.MonkeyPatch) -> None:
    were_true: list[bool] = []
    is_true = Ahead.is_true

    def look(self: Ahead, *arguments: Any) -> bool:
        were_true.append(is_true(self, *arguments))
        return were_true[-1]

    monkeypatch.setattr(Ahead, "is_true", look)
    workers = {"shuffle": True, "num_workers": 1, "persistent_workers": True}
    net, _ = fit(lambda: two(**workers), max_epochs=3)
    assert were_true == [True] * 4
    torch.manual_seed(3)
    combined, other, batches = CombinedLoader(two(**workers), "max_size_cycle"), Net(), []
    for _ in range(3):
        iter(combined)
        for _ in range(5):
            batch, _, _ = next(combined)
            other.training_step(batch, 0)  # which draws
            batches.append(numbers(batch))
    assert net.batches == batches
    combined.reset()


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_no_worker_outlasts_the_run(fails: bool, stays: bool) -> None:
    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            assert len(multiprocessing.active_children()) >= 2
            if fails and batch_idx == 3:  # the first one has begun anew
                raise RuntimeError("broken")
            return super().training_step(batch, batch_idx)

    trainer = lk.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    loaders = two(num_workers=1, persistent_workers=stays)
    with pytest.raises(RuntimeError, match="broken") if fails else contextlib.nullcontext():
        trainer.fit(Fails(), loaders)
    assert multiprocessing.active_children() == []


def test_a_killed_worker_names_its_loader() -> None:
    class Kills(Numbers):
        def __getitem__(self, index: int) -> torch.Tensor:
            if index == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    with pytest.raises(DataError) as caught:
        fit(lambda: {"a": two()[0], "b": DataLoader(Kills(20, 0), 4, num_workers=1)})
    assert str(caught.value).startswith("train_dataloaders['b']: worker process ")


# ------------------------------------------------------------ evaluation


class Evaluated(Net):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, int, int]] = []

    def evaluation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("count", 1.0, reduce_fx="sum", batch_size=1)
        self.seen.append((numbers(batch), batch_idx, dataloader_idx))

    validation_step = test_step = evaluation_step

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> int:
        self.seen.append((numbers(batch), batch_idx, dataloader_idx))
        return batch_idx


def evaluate(name: str, loaders: Any, **options: Any) -> tuple[Evaluated, Any]:
    net = Evaluated()
    trainer = lk.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, **options)
    found = getattr(trainer, name)(net, loaders, **({} if name == "predict" else {"verbose": False}))
    return net, found


@pytest.mark.parametrize("name", ["validate", "test", "predict"])
def test_an_evaluation_reads_nested_loaders_one_after_the_other(name: str) -> None:
    one_by_one = [(batch, index, 0) for index, batch in enumerate(A)] + [(b, i, 1) for i, b in enumerate(B)]
    for given in (two(), {"a": two()[:1], "b": two()[1]}, CombinedLoader(two(), "sequential")):
        net, found = evaluate(name, given)
        assert net.seen == one_by_one
        assert len(found) == 2


@pytest.mark.parametrize("name", ["validate", "test", "predict"])
def test_an_evaluation_of_combined_loaders_is_of_one(name: str) -> None:
    net, found = evaluate(name, CombinedLoader(dict(zip("ab", two(), strict=True)), "max_size"))
    row = [{"a": a, "b": b} for a, b in zip([*A, None, None], B, strict=True)]
    assert net.seen == [(batch, index, 0) for index, batch in enumerate(row)]
    assert found == ([0, 1, 2, 3, 4] if name == "predict" else [{"count": 5.0}])
    limit = {f"limit_{'val' if name == 'validate' else name}_batches": 2}
    assert len(evaluate(name, CombinedLoader(two(), "max_size_cycle"), **limit)[0].seen) == 2


def test_a_fit_validates_on_combined_loaders_and_goes_on_as_without() -> None:
    def run(val: Any) -> Evaluated:
        torch.manual_seed(3)
        net = Evaluated()
        trainer = lk.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(net, two(shuffle=True), val)
        return net

    with_validation = run(CombinedLoader(two(shuffle=True), "max_size_cycle"))
    assert len(with_validation.seen) == 2 + EPOCHS * 5
    assert with_validation.batches == run(None).batches


# ------------------------------------------------------------ going on


KINDS: dict[str, Callable[..., list[Any]]] = {
    "global generator": lambda **w: two(shuffle=True, **w),
    "own generators": lambda **w: [
        plain(7, 0, 3, shuffle=True, generator=generator(1), **w),
        plain(20, 100, 4, shuffle=True, generator=generator(2), **w),
    ],
    "one generator": lambda **w: two(shuffle=True, generator=generator(1), **w),
    "in order": lambda **w: two(**w),
    "tensors": lambda **w: [
        DataLoader(TensorDataset(torch.rand(size, 2, dtype=torch.float64) + first), batch, shuffle=True, **w)
        for size, first, batch in ((7, 0, 3), (20, 100, 4))
    ],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_it_goes_on_exactly_from_any_batch(tmp_path: Path, mode: Any, kind: str) -> None:
    torch.manual_seed(0)
    make = KINDS[kind]
    data = make()

    def again() -> Any:
        return CombinedLoader(data if kind == "tensors" else make(), mode)

    assert_goes_on(again, tmp_path)


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize(("mode", "kind", "stops"), [
    ("max_size_cycle", "global generator", [1, 3, 4, 7, 9]), ("max_size_cycle", "one generator", [4, 8]),
    ("max_size", "own generators", [4, 6]), ("min_size", "global generator", [2, 3]),
    ("sequential", "global generator", [3, 4, 13]),
])  # fmt: skip
def test_it_goes_on_exactly_with_workers(tmp_path: Path, mode: Any, kind: str, stops: Any, stays: bool) -> None:
    make = KINDS[kind]
    workers = {"num_workers": 1, "persistent_workers": stays}
    assert_goes_on(lambda: CombinedLoader(make(**workers), mode), tmp_path, stops)


def test_workers_beside_a_loader_without_are_gone_on_from(tmp_path: Path) -> None:
    def make() -> Any:
        return {
            "a": plain(7, 0, 3, shuffle=True), "b": plain(20, 100, 4, shuffle=True, num_workers=1),
            "c": DataLoader(Stream(4, 50), 2), "d": range_of(2),
        }  # fmt: skip

    assert_goes_on(make, tmp_path, [1, 4, 5, 7])


def range_of(count: int) -> list[Any]:
    """A list of batches."""
    return [torch.full((1, 2), float(number), dtype=torch.float64) for number in range(count)]


def test_a_loader_of_one_batch_that_is_cycled_every_time_goes_on(tmp_path: Path) -> None:
    assert_goes_on(lambda: [plain(2, 0, 2, shuffle=True), plain(9, 50, 2, shuffle=True)], tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_saved_before_a_step_the_batch_is_the_same_again(tmp_path: Path, mode: Any) -> None:
    def make() -> Any:
        quiet = [Numbers(7, 0, is_noisy=False), Numbers(20, 100, is_noisy=False)]  # reading again draws nothing
        loaders = [DataLoader(data, size, shuffle=True) for data, size in zip(quiet, (3, 4), strict=True)]
        return CombinedLoader(loaders, mode)

    whole, _ = fit(make)
    for batch in range(1, len(whole.batches) + 1):
        path = tmp_path / f"{batch}.ckpt"
        before, _ = fit(make, stop=Stop(batch, path, "on_train_batch_start"))
        after, _ = fit(make, seed=99, ckpt_path=path)
        assert before.batches + after.batches == whole.batches


def test_an_open_accumulation_window_over_several_rounds_goes_on(tmp_path: Path) -> None:
    def make() -> Any:
        return [plain(4, 0, 2, shuffle=True), plain(20, 100, 2, shuffle=True)]

    assert_goes_on(make, tmp_path, accumulate_grad_batches=4)


def test_a_window_that_begins_anew_reads_its_batches_again(tmp_path: Path) -> None:
    def make() -> Any:
        return [plain(4, 0, 2, shuffle=True), plain(20, 100, 2, shuffle=True)]

    whole, _ = fit(make, max_epochs=1, accumulate_grad_batches=5)
    path = tmp_path / "window.ckpt"
    fit(make, max_epochs=1, accumulate_grad_batches=5, stop=Stop(9, path, "on_train_batch_end"))
    after, _ = fit(make, max_epochs=1, seed=99, ckpt_path=path, accumulate_grad_batches=2)
    assert [longer for _, longer in after.batches] == [longer for _, longer in whole.batches[5:]]
    assert after.batches[0] == whole.batches[5]  # of a round before those that had begun in the window
    rounds = [sorted([*a, *b]) for (a, _), (b, _) in zip(after.batches[1::2], after.batches[2::2], strict=False)]
    assert rounds == [[0, 1, 2, 3]] * 2


def test_an_error_leaves_what_can_be_gone_on_from(tmp_path: Path) -> None:
    class Breaks(Net):
        breaks_at = -1

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if len(self.batches) == self.breaks_at:
                raise RuntimeError("broken")
            return super().training_step(batch, batch_idx)

    def run(root: Path, breaks_at: int = -1, ckpt_path: Any = None, seed: int = 3) -> Breaks:
        torch.manual_seed(seed)
        random.seed(seed)
        net = Breaks()
        net.breaks_at = breaks_at
        trainer = lk.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, run_dir=root, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[ModelCheckpoint(save_on_exception=True, save_last=True)],
        )  # fmt: skip
        trainer.fit(net, two(shuffle=True), ckpt_path=ckpt_path)
        return net

    whole = run(tmp_path / "whole")
    for batch in (3, 4, 8):
        root = tmp_path / str(batch)
        with pytest.raises(RuntimeError, match="broken"):
            run(root, breaks_at=batch)
        after = run(root, ckpt_path="last", seed=99)
        assert torch.equal(after.layer.weight, whole.layer.weight)
        assert after.batches == whole.batches[batch:]


def test_keyed_runs_are_the_same_with_any_number_of_workers() -> None:
    def run(workers: int) -> Net:
        lk.seed_everything(5, workers=True, verbose=False)
        net = Net()
        trainer = lk.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(net, two(num_workers=workers))
        return net

    one, other = run(0), run(1)
    assert one.batches == other.batches
    assert torch.equal(one.layer.weight, other.layer.weight)


# ------------------------------------------------------------ what is wrong


def test_an_error_names_the_loader() -> None:
    with pytest.raises(DataError) as caught:
        fit(lambda: {"a": two()[0], "b": [two()[1], DataLoader(Numbers(0, 0), 2)]})
    assert str(caught.value) == (
        "train_dataloaders['b'][1] has no batches (its data set has 0 samples, batch_size=2, drop_last=False); check "
        "the data set's length, batch_size and drop_last"
    )
    with pytest.raises(DataError) as caught:
        fit(lambda: {"a": two()[0], "b": None})
    assert str(caught.value) == (
        "train_dataloaders['b'] returned None, which is not iterable; return a DataLoader or any iterable of batches"
    )
    with pytest.raises(ConfigError) as wrong:
        fit(lambda: {"a": two()[0], "b": two()[1]}, limit_train_batches=0.3)
    assert str(wrong.value) == (
        "Trainer(limit_train_batches=0.3): that is less than one of the 3 batches of train_dataloaders['a']; "
        "use at least 0.333 or a count"
    )


def test_a_generator_that_is_to_begin_anew_is_said() -> None:
    with pytest.raises(DataError) as caught:
        fit(lambda: {"a": iter(range_of(2)), "b": two()[0]})
    assert str(caught.value) == (
        "train_dataloaders['a'], begun anew after it was at its end, gave no batch; give a loader that can be iterated "
        'over each time, or CombinedLoader(..., mode="max_size")'
    )


def test_no_loaders_at_all_are_an_error() -> None:
    for nothing in ([], {}):
        with pytest.raises(DataError) as caught:
            fit(lambda: nothing)  # noqa: B023
        assert str(caught.value) == (
            "train_dataloaders has no batches; check the data set's length, batch_size and drop_last"
        )


def test_the_trainers_former_argument_names_the_loader() -> None:
    with pytest.raises(ConfigError) as caught:
        lk.Trainer(multiple_trainloader_mode="min_size")  # type: ignore[call-arg]
    assert str(caught.value) == (
        "Trainer(multiple_trainloader_mode='min_size'): this argument is gone; write CombinedLoader(loaders, "
        "'min_size') where the training loaders are given"
    )


@pytest.mark.parametrize(("first", "then", "told"), [
    (two, lambda: two()[0], "train_dataloaders is one loader, the checkpoint was taken in the middle of an epoch of 2 "
     "in the mode 'max_size_cycle'"),
    (lambda: two()[0], two, "train_dataloaders is 2 in the mode 'max_size_cycle', the checkpoint was taken in the "
     "middle of an epoch of one loader"),
    (two, lambda: CombinedLoader(two(), "min_size"), "train_dataloaders is 2 in the mode 'min_size', the checkpoint "
     "was taken in the middle of an epoch of 2 in the mode 'max_size_cycle'"),
])  # fmt: skip
def test_other_loaders_in_the_middle_of_an_epoch_are_refused(tmp_path: Path, first: Any, then: Any, told: str) -> None:
    path = tmp_path / "stop.ckpt"
    fit(first, stop=Stop(2, path, "on_train_batch_end"))
    with pytest.raises(CheckpointError) as caught:
        fit(then, ckpt_path=path)
    assert str(caught.value) == (
        f"resuming: {told}; give the loaders that it was taken with, or a checkpoint of an epoch's end"
    )


@pytest.mark.parametrize(("first", "then"), [(two, lambda: two()[0]), (lambda: two()[0], two)])
def test_other_loaders_for_the_next_epoch_are_taken(tmp_path: Path, first: Any, then: Any) -> None:
    path = tmp_path / "end.ckpt"

    class Saves(lk.Callback):
        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(path)

    trainer = lk.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Saves()],
    )  # fmt: skip
    trainer.fit(Net(), first())
    net, _ = fit(then, ckpt_path=path)
    assert len(net.batches) == (5 if then is two else 3)
