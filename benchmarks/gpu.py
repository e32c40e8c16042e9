"""Steps on a GPU, with and without the compute switches, as ratios to a hand-written loop on the same machine.

python benchmarks/gpu.py [--rounds N] [--quick] [--cpu]

A small MLP, a CNN and a GPT-style model, the last two in bf16. Raw is the plain eager loop with pinned batches;
"raw, compiled" is the same with torch.compile. Each figure is the median over the rounds of the time for the steps
after the warm-up, in which compilers and captures run. "waits for data" is the share of the step's time that goes away
when every batch lies on the device already.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import lightkit as lk  # noqa: E402
from benchmarks.harness import quiet  # noqa: E402
from benchmarks.peers import version  # noqa: E402

WARM_UP = 12  # steps before the clock


class GPT(nn.Module):
    """A decoder of `depth` blocks over characters; (B, T) -> (B * T, vocabulary)."""

    def __init__(self, vocabulary: int, width: int, depth: int, length: int):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, vocabulary)
        self.register_buffer("order", torch.arange(length))

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.places(self.order)
        for block in self.blocks:
            x = block(x)
        return self.head(x).flatten(0, 1)


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, both after their norm."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)  # (B, heads, T, width / heads)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.feed(self.norm2(x))


def mlp() -> nn.Module:
    """Two linear layers."""
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn(width: int) -> nn.Module:
    """Four convolutions with batch norm, for images of 3 x 32 x 32."""
    layers: list[nn.Module] = []
    channels = 3
    for number in range(4):
        stride = 2 if number else 1
        layers += [nn.Conv2d(channels, width << number, 3, stride, 1), nn.BatchNorm2d(width << number), nn.ReLU()]
        channels = width << number
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


@dataclass(frozen=True)
class Work:
    """One model and its data; `precision` as Trainer's."""

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    batch_size: int
    precision: str
    steps: int

    def loader(self, pinned: bool) -> DataLoader[Any]:
        """Batches in memory, shuffled, all of one size."""
        return DataLoader(
            TensorDataset(*self.tensors), self.batch_size, shuffle=True, drop_last=True, pin_memory=pinned,
        )  # fmt: skip

    @functools.cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Samples and targets for one epoch."""
        torch.manual_seed(0)
        return self.data()

    def build(self) -> nn.Module:
        """The model, always with the same weights."""
        torch.manual_seed(1)
        return self.model()


# steps, images in a batch, channels; width, depth, length and batch of the GPT; the precision of both
SIZES: dict[str, tuple[int, int, int, int, int, int, int, str]] = {
    "quick": (10, 4, 4, 8, 1, 16, 4, "32-true"),
    "cpu": (60, 16, 16, 64, 2, 64, 8, "32-true"),
    "cuda": (300, 128, 32, 256, 6, 256, 32, "bf16-mixed"),
}


def works(size: str) -> list[Work]:
    """What is measured."""
    steps, images_a_batch, channels, width, depth, length, batch, precision = SIZES[size]
    total = steps + WARM_UP

    def images() -> tuple[Tensor, Tensor]:
        return torch.randn(total * images_a_batch, 3, 32, 32), torch.randint(10, (total * images_a_batch,))

    def text() -> tuple[Tensor, Tensor]:
        found = torch.randint(128, (total * batch, length + 1))
        return found[:, :-1].contiguous(), found[:, 1:].contiguous()

    def rows() -> tuple[Tensor, Tensor]:
        return torch.randn(total * 32, 32), torch.randint(10, (total * 32,))

    return [
        Work("bare step, MLP 32-32-10, batch 32, 32-true", mlp, rows, 32, "32-true", steps),
        Work(f"CNN, 4 layers from {channels} channels, batch {images_a_batch} of 3 x 32 x 32, {precision}",
             lambda: cnn(channels), images, images_a_batch, precision, steps),
        Work(f"GPT, {depth} blocks of {width}, batch {batch} x {length}, {precision}",
             lambda: GPT(128, width, depth, length), text, batch, precision, steps),
    ]  # fmt: skip


class Clock:
    """Seconds from the end of the warm-up to the end."""

    def __init__(self, device: torch.device):
        self.device, self.start = device, 0.0

    def now(self) -> float:
        """When the device is done; on the CPU the time that this process had, whatever else the machine does."""
        if self.device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


def raw(work: Work, device: torch.device, *, compiled: bool = False, resident: bool = False) -> float:
    """The hand-written loop; -> seconds."""
    model, clock = work.build().to(device), Clock(device)
    call = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    is_mixed = work.precision != "32-true"
    batches: Iterator[Any] = iter(work.loader(device.type == "cuda"))
    if resident:
        batches = iter([[t.to(device) for t in batch] for batch in batches])
    for index, (x, y) in enumerate(batches):
        if index == WARM_UP:
            clock.start = clock.now()
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_mixed):
            loss = cross_entropy(call(x), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clock.now() - clock.start


def with_trainer(work: Work, device: torch.device, framework: Any, **options: Any) -> float:
    """lightkit's Trainer, or Lightning's; -> seconds."""

    class Module(framework.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = work.build()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return cross_entropy(self.net(x), y.flatten())

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    class Timing(framework.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == WARM_UP:
                clock.start = clock.now()

    clock = Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = framework.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, max_epochs=1, precision=work.precision,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[Timing()], default_root_dir=folder, **options,
        )  # fmt: skip
        trainer.fit(Module(), work.loader(device.type == "cuda"))
        return clock.now() - clock.start


def variants(device: torch.device, quick: bool) -> dict[str, Callable[[Work], float]]:
    """What runs each work, by name."""
    is_gpu = device.type == "cuda"
    found: dict[str, dict[str, Any]] = {"lightkit": {}, "lightkit, fused": {"optimizer_kernel": "fused"}}
    found["lightkit, fused, channels_last"] = {"optimizer_kernel": "fused", "channels_last": True}
    if is_gpu:
        found["lightkit, overlap_transfer"] = {"overlap_transfer": True}
        found["lightkit, cuda_graph"] = {"cuda_graph": True}
        found["lightkit, cuda_graph, compiled"] = {"cuda_graph": True, "compile": True}
    if not quick:
        found["lightkit, compiled"] = {"compile": True}
    runs: dict[str, Callable[[Work], float]] = {"raw": lambda work: raw(work, device)}
    if not quick:
        runs["raw, compiled"] = lambda work: raw(work, device, compiled=True)
    for name, options in found.items():
        runs[name] = functools.partial(with_trainer, device=device, framework=lk, **options)
    if version("Lightning"):
        import lightning.pytorch as pl

        runs["Lightning"] = functools.partial(with_trainer, device=device, framework=pl)
    return runs


def measure(work: Work, device: torch.device, rounds: int, quick: bool) -> None:
    """Run all variants in turn, and print a table."""
    runs = variants(device, quick)
    seconds: dict[str, list[float]] = {name: [] for name in [*runs, "resident"]}
    for _ in range(rounds):
        for name, run in runs.items():
            with quiet():
                seconds[name].append(run(work))
        seconds["resident"].append(raw(work, device, resident=True))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\n{work.name}")
    for name in runs:
        print(f"  {name:34} {median[name] / work.steps * 1e6:10.0f} us  {median[name] / median['raw']:6.2f} of raw")
    print(f"  raw waits for data: {max(0.0, 1 - median['resident'] / median['raw']):.0%} of its time", flush=True)


def main() -> int:
    """Measure, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small models, few steps, nothing compiled")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, without what needs a GPU")
    args = parser.parse_args()
    if not args.cpu and not torch.cuda.is_available():
        print("no GPU: nothing is measured (torch.cuda.is_available() is False); --cpu runs what the CPU can")
        return 0
    device = torch.device("cpu") if args.cpu else torch.device("cuda", torch.cuda.current_device())
    name = "CPU" if args.cpu else torch.cuda.get_device_name(device)
    print(f"{name}, one thread, torch {torch.__version__}, medians of {args.rounds}")
    torch.set_num_threads(1)
    for work in works("quick" if args.quick else device.type):
        measure(work, device, args.rounds, args.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
