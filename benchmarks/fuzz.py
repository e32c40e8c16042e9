"""Damage checkpoints, and count what loading them comes to: the right content, one LightkitError, or anything else.

python benchmarks/fuzz.py                     # 2,000 changed files, 900 leaves of another type; a few minutes
python benchmarks/fuzz.py --files 200 --leaves 90 --seed 3

A changed file is read by `files.load`, given to `fit(ckpt_path=)`, and lies as the newest beside a whole one for
"last". A leaf of another type stands in a file whose check sums are right. Nothing may be executed, and nothing outside
the run may be touched. Exits with 1 where anything else came of it than the right numbers or one error.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import BackboneFinetuning, EarlyStopping, EMAWeightAveraging, ModelCheckpoint, Timer
from lightkit.checkpoint import files
from lightkit.errors import LightkitError
from lightkit.loggers import CSVLogger, TensorBoardLogger

SAVED_AT, ENDS_AT = 6, 9  # steps; an epoch has 4
EXECUTING = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "ctypes.dlopen")
Place = tuple[Any, ...]


class Net(lk.LightModule):
    """A step that logs, optimizes with Adam and moves a scheduler."""

    def __init__(self, width: int = 4, rates: tuple[float, float] = (0.05, 0.1), name: str = "net") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Linear(width, 1))

    def _loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self._loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("count", batch_idx)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.rates[0], amsgrad=True)
        schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 1), torch.optim.lr_scheduler.LinearLR(optimizer)]
        both = torch.optim.lr_scheduler.SequentialLR(optimizer, schedulers, [1])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": both, "interval": "step"}}


class Other(Net):
    """With a torchmetrics object, a scheduler that waits, momentum, and a backbone that is thawed."""

    def __init__(self, width: int = 4, **kwargs: Any) -> None:
        super().__init__(width, **kwargs)
        from torchmetrics import MeanSquaredError  # heavy, and not needed by all

        self.error = MeanSquaredError()
        self.backbone = self.layers[0]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.error(self.layers(batch[0]), batch[1])
        self.log("error", self.error, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        learning = filter(lambda p: p.requires_grad, self.parameters())
        optimizer = torch.optim.SGD(learning, lr=0.05, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class Data(lk.LightDataModule):
    """A loader with a generator of its own, and a state."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.seen = 0

    def _loader(self, **kwargs: Any) -> DataLoader[Any]:
        x = torch.randn(self.hparams.size, 3, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 4, **kwargs)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(shuffle=True, generator=torch.Generator().manual_seed(2))

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader()


class Save(lk.Callback):
    """Saves inside of an epoch, and says how the state ended."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.path is not None and trainer.global_step == SAVED_AT:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def train(folder: Path, ckpt_path: Any = None, save: Path | None = None, *, other: bool = False) -> tuple[Any, ...]:
    """Fit from the beginning or a checkpoint; -> what must be the same again. other: the other one of two jobs."""
    torch.manual_seed(1)
    stopping = EarlyStopping("val_loss", patience=50)
    kept = [ModelCheckpoint(monitor="val_loss", save_top_k=2, save_last=True), stopping, Timer(), Save(save)]
    kept.append(BackboneFinetuning(unfreeze_backbone_at_epoch=1) if other else EMAWeightAveraging(decay=0.5))
    trainer = lk.Trainer(
        max_steps=ENDS_AT, accelerator="cpu", run_dir=folder, precision=None if other else "16-mixed",
        callbacks=kept, logger=TensorBoardLogger() if other else CSVLogger(), enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1,
    )  # fmt: skip
    net = Other() if other else Net()
    trainer.fit(net, datamodule=Data(), ckpt_path=ckpt_path)
    states = [net.state_dict(), [optimizer.state_dict() for optimizer in trainer.optimizers], trainer.callback_metrics]
    return *states, stopping.wait_count, trainer.global_step, trainer.ckpt_path


def same(a: Any, b: Any) -> bool:
    """Whether two contents are equal, types included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (a != a and b != b)


# ------------------------------------------------------------ changed bytes


def changed(content: bytes, random_: random.Random, first: int) -> bytes:
    """The file with one thing changed behind `first`: bits, a cut, an insertion, a removal, two blocks."""
    size = len(content)
    kind = random_.choice(["bit", "byte", "bytes", "zeros", "cut", "insert", "remove", "swap"])
    at = random_.randrange(first, size)
    count = random_.randrange(1, 64)
    if kind == "cut":
        return content[:at]
    if kind == "insert":
        return content[:at] + random_.randbytes(count) + content[at:]
    if kind == "remove":
        return content[:at] + content[at + count :]
    if kind == "swap":
        a, b = sorted((at, random_.randrange(first, size)))
        count = min(count, b - a, size - b)
        first_block, second_block = content[a : a + count], content[b : b + count]
        return content[:a] + second_block + content[a + count : b] + first_block + content[b + count :]
    new = {
        "bit": bytes([content[at] ^ 1 << random_.randrange(8)]), "byte": random_.randbytes(1),
        "bytes": random_.randbytes(count), "zeros": bytes(count),
    }[kind]  # fmt: skip
    return (content[:at] + new + content[at + len(new) :])[: max(size, at)]


def fuzz_files(folder: Path, count: int, seed: int, saved: Path) -> Counter[str]:
    """Load changed files; half of the changes are in the archive's table."""
    random_, found = random.Random(seed), Counter[str]()
    whole, expected = saved.read_bytes(), files.load(saved)
    table = whole.index(b"PK\x01\x02")
    older = folder / "run" / "checkpoints" / "older.ckpt"
    files.save(expected, older)
    os.utime(older, (1, 1))
    reference = train(folder / "run", older)
    for number in range(count):
        content = changed(whole, random_, table if number % 2 else 0)
        clear(folder / "run", older)
        path = older.with_name("changed.ckpt")
        path.write_bytes(content)
        path.with_suffix(".tmp").unlink(missing_ok=True)
        found[outcome(lambda path=path: same(files.load(path), expected), f"load {number}")] += 1
        if content == whole:
            continue
        found[outcome(lambda path=path: same(train(folder / "run", path)[:-1], reference[:-1]), f"fit {number}")] += 1
        is_older = outcome(lambda: same(train(folder / "run", "last"), reference), f"last {number}")
        found["right" if is_older == "right" else f"last: {is_older}"] += 1
    return found


def clear(run: Path, kept: Path) -> None:
    """Leave of a run's files one checkpoint."""
    for path in run.rglob("*"):
        if path.is_file() and path != kept:
            path.unlink()


# ------------------------------------------------------------ leaves of another type


def places(content: Any, place: Place = ()) -> Iterator[Place]:
    """The place of every value, of dicts and lists too."""
    if place:
        yield place
    items = content.items() if isinstance(content, dict) else ()
    if isinstance(content, (list, tuple)):
        items = enumerate(content)
    for key, value in items:
        yield from places(value, (*place, key))


def replaced(content: Any, place: Place, value: Any) -> Any:
    """A copy with another value at a place."""
    if not place:
        return value
    made = copy.copy(content) if not isinstance(content, tuple) else list(content)
    made[place[0]] = replaced(content[place[0]], place[1:], value)
    return tuple(made) if isinstance(content, tuple) else made


def value_at(content: Any, place: Place) -> Any:
    """What stands at a place."""
    for key in place:
        content = content[key]
    return content


def others(value: Any, outside: Path) -> list[Any]:
    """Values of other types than this one; for a string also one that leads out of the run."""
    if isinstance(value, torch.Tensor):
        return [value.tolist(), "x", None, {}, 3, value.to(torch.complex64) if value.dim() == 0 else [value]]
    found: list[Any] = ["x", 7, 0.5, None, [], [1, "x"], {}, {"a": 1}, torch.zeros(3), True, b"x"]
    if type(value) in (int, float):  # another number would be as good as this one: the same, of another type
        found = [other for other in found if type(other) not in (int, float)]
        found += [torch.tensor(value), str(value), *([float(value)] if type(value) is int else [])]
    kind = dict if isinstance(value, dict) else type(value)  # an OrderedDict is one
    found = [other for other in found if type(other) is not kind]
    return [*found, str(outside), f"../../{outside.name}"] if isinstance(value, str) else found


def fuzz_leaves(folder: Path, count: int, seed: int, *, other: bool) -> Counter[str]:
    """Resume from a file with one value of another type."""
    saved = folder / "first" / "saved.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(saved.parent, save=saved, other=other)
    random_, found = random.Random(seed), Counter[str]()
    content, run = files.load(saved), folder / "run"
    found_places = list(places(content))
    # each kind of place as often: generators and weights have the most values
    groups: dict[Place, list[Place]] = {}
    for place in found_places:
        groups.setdefault(place[:2], []).append(place)
    template = folder / "template"
    shutil.copytree(saved.parent, template)
    target = run / "checkpoints" / "saved.ckpt"

    def fresh(value: Any) -> None:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(template, run)
        target.parent.mkdir(exist_ok=True)
        torch.save(value, target)

    fresh(content)
    reference = train(run, target, other=other)
    keys = list(groups)
    for number in range(count):
        place = random_.choice(groups[keys[number % len(keys)]])
        value = random_.choice(others(value_at(content, place), folder.parent / "outside.txt"))
        if value is None and place[-1] in MAY_BE_NONE:
            continue
        fresh(replaced(content, place, value))
        names = [next((key for key in reversed(place) if isinstance(key, str)), "")]
        if "options" in place:  # others than those of the next self.log are as good, and are said as a user's are
            names.append("self.log(")
        what = f"{place} = {value!r}"
        found[outcome(lambda: same(train(run, target, other=other), reference), what, names)] += 1
    return found


# ------------------------------------------------------------ what it came to


problems: list[str] = []
# a state that a run may be in: the backbone is not thawed yet
MAY_BE_NONE = ("previous_backbone_lr",)
tries: list[str] = []  # what is tried now; nothing while the job itself is run, which imports what it needs


def outcome(attempt: Callable[[], bool], what: str, names: Sequence[str] = ("",)) -> str:
    """Try it; "right", "error" (one of lightkit's, with one of the names), or a problem, which is kept."""
    tries.append(what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if attempt():
                return "right"
        problem = "other numbers"
    except LightkitError as error:
        if any(name in str(error) for name in names):
            return "error"
        problem = f"does not name {names}: {error}"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    finally:
        tries.clear()
    problems.append(f"{what}: {problem[:300]}")
    return problem.partition(":")[0]


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Files of a folder with size and time, but those of the run."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if "inside" not in path.relative_to(folder).parts
    }


def fuzz(folder: Path, num_files: int, num_leaves: int, seed: int) -> dict[str, Counter[str]]:
    """Both kinds; -> how often what came of it."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if tries and event in EXECUTING:
            problems.append(f"{tries[0]}: executed {event}{arguments!r}")

    sys.addaudithook(watch)
    (folder / "inside").mkdir(parents=True)
    for outside in (folder / "outside.txt", folder / "outside" / "thesis.ckpt"):
        outside.parent.mkdir(exist_ok=True)
        outside.write_text("not the run's")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(folder / "inside" / "first", save=folder / "inside" / "first" / "saved.ckpt")
    before, saved = listing(folder), folder / "inside" / "first" / "saved.ckpt"
    found = {}
    if num_files:
        found["files"] = fuzz_files(folder / "inside" / "files", num_files, seed, saved)
    if num_leaves:
        found["leaves"] = fuzz_leaves(folder / "inside" / "leaves", num_leaves - num_leaves // 2, seed, other=False)
        found["leaves"] += fuzz_leaves(folder / "inside" / "others", num_leaves // 2, seed, other=True)
    if listing(folder) != before:
        problems.append("files outside of the run were touched")
    return found


def main() -> int:
    """Print the counts and the problems; 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--leaves", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(Path(folder) / "fuzz", options.files, options.leaves, options.seed)
    for kind, counts in found.items():
        print(kind, dict(counts))
    print(f"{len(problems)} problems", *problems[:200], sep="\n  ")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
