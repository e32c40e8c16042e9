"""Damage YAML configs, and count what the command line makes of them: taken, one error, or anything else.

python -m benchmarks.fuzz_config                     # 2,000 changed configs; some minutes
python -m benchmarks.fuzz_config --configs 200 --seed 3

Every other config is a small project's and goes through `lightkit check`, which builds and runs what is taken. The
others are those in configs/, and are resolved (`fit --print_config`): what is printed, read again, must be the same.
Nothing may be executed, nothing outside of the folder touched, and an error is one message and exit code 2. Exits
with 1 where anything else came of a config.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.fuzz import EXECUTING, listing
from lightkit.cli.main import main as command_line

ROOT = Path(__file__).resolve().parents[1]
MEMORY = 12 * 2**30  # bytes; a layer of 10**9 features is refused by the system, not filled
SLOW = 30.0  # seconds that no config may take

NET = '''
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import lightkit as lk

class Net(lk.LightModule):
    def __init__(self, lr: float = 0.1, name: str = "net", sizes: list[int] | None = None,
                 table: dict[str, float] | None = None, body: nn.Module | None = None, mode: bool | str = False,
                 anything=None) -> None:
        super().__init__()
        self.lr, self.body = lr, body or nn.Linear(3, 2)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.body(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self.body(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

class Data(lk.LightDataModule):
    def __init__(self, batch_size: int, rows: int = 12) -> None:
        super().__init__()
        self.batch_size, self.x = batch_size, torch.ones(min(rows, 1000), 3)

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x, torch.zeros(len(self.x)).long()), self.batch_size)

    val_dataloader = train_dataloader
'''

JOB = """
description: a small project
seed_everything: 3
trainer: &trainer
  max_epochs: 2
  accelerator: cpu
  precision: 32-true
  enable_progress_bar: false
  gradient_clip_val: 1.5
  callbacks:
  - EarlyStopping: {monitor: val_loss, patience: 4}
  - class_path: lightkit.callbacks.ModelCheckpoint
    init_args:
      monitor: val_loss
      filename: "{epoch}-{val_loss:.2f}"
  logger:
  - CSVLogger: {save_dir: logs}
model:
  class_path: net.Net
  init_args:
    lr: 1e-3
    name: 'no'
    sizes: [1, 2, 3]
    table: {a: 1.0, b: 2.5}
    body: {class_path: torch.nn.Linear, init_args: {in_features: 3, out_features: 2}}
    anything: [{x: 1}, null, text]
data:
  class_path: net.Data
  init_args: {batch_size: 4, rows: 8}
optimizer:
  class_path: SGD
  init_args: {lr: 0.1}
""".lstrip()

VALUES = (
    "3", "-1", "0", "0.5", "1e-3", "1e999", ".nan", ".inf", "no", "on", "null", "~", "''", "text", "[]", "[1, x]", "{}",
    "{a: 1}", "{a: 1, a: 2}", "1:30", "0777", "77950e8", "2024-10-05", "9" * 40, "9" * 5000, "0x" + "f" * 30, "0b_",
    "=", "<<", "'\\0'", '"\\0"', '"\\ud800"', "!!python/object/apply:os.system ['touch executed']",
    "!!python/name:os.system", "!!python/object/new:subprocess.Popen [[touch, executed]]", "!own 3", "!!binary aGk=",
    "!!set {a, b}", "!!int x", "[" * 10_000, "[" * 3000 + "]" * 3000, "{a: " * 2000, "&a [*a]", "&a {<<: *a}",
    "*nowhere", "*trainer", "&a [x, x]\nl: [*a, *a]", "{class_path: os.system, init_args: {command: touch executed}}",
    "{class_path: subprocess.Popen, init_args: {args: [touch, executed]}}", "os.system", "builtins.exec",
    "../outside.txt", "|\n  text\n  text", ">", "%", "@x", "`x`", "- x", "? x", "a: b: c", "\t", "\u2028", "\x85",
    "\ufeff", "#",
)  # fmt: skip


def laughs(levels: int = 12) -> str:
    """Aliases that stand for 9 ** levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def changed(text: str, random_: random.Random) -> bytes:
    """The config with one to three things changed."""
    content = text.encode()
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        content = random_.choice(CHANGES)(content, random_)
    return content


def _bytes(content: bytes, random_: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(random_.choice((1, 1, 2, 8))):
        if made:
            made[random_.randrange(len(made))] = random_.randrange(256)
    return bytes(made)


def _inserted(content: bytes, random_: random.Random) -> bytes:
    at = random_.randrange(len(content) + 1)
    signs = [b"\0", b"\t", b"\r", b":", b"- ", b"[", b"}", b"&a ", b"*a", b"!!python/name:os.system ", b"'"]
    what = random_.choice(signs)
    return content[:at] + what + content[at:]


def _lines(content: bytes, random_: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    at, to = random_.randrange(len(lines)), random_.randrange(len(lines))
    kind = random_.choice(["delete", "twice", "move", "indent", "cut"])
    if kind == "delete":
        del lines[at]
    elif kind == "twice":
        lines.insert(to, lines[at])
    elif kind == "move":
        lines.insert(to, lines.pop(at))
    elif kind == "indent":
        lines[at] = random_.choice([b"  ", b" ", b"\t"]) + lines[at] if random_.random() < 0.5 else lines[at].lstrip()
    else:
        lines = lines[:at]
    return b"".join(lines)


def _value(content: bytes, random_: random.Random) -> bytes:
    places = list(re.finditer(rb"(?<=: )[^\n,{}\[\]]+|(?<=- )[^\n]+", content))
    if not places:
        return content
    place = random_.choice(places)
    return content[: place.start()] + random_.choice(VALUES).encode() + content[place.end() :]


def _added(content: bytes, random_: random.Random) -> bytes:
    more = [laughs(), "trainer: {max_epochs: 3}\n", "? [a]\n: b\n", "---\na: b\n", "<<: *trainer\n", "x: [" * 3000]
    return content.rstrip(b"\n") + b"\n" + random_.choice(more).encode()


Change = Callable[[bytes, random.Random], bytes]
CHANGES: tuple[Change, ...] = (_bytes, _inserted, _lines, _value, _value, _value, _added)
problems: list[str] = []


def run(*arguments: str) -> tuple[str, str]:
    """What came of a call of the command line: "taken", "error" or what it must not be; and what was printed."""
    out, err = io.StringIO(), io.StringIO()
    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = command_line(list(arguments))
    except SystemExit as stop:  # --print_config
        code = int(stop.code or 0)
    except BaseException as error:
        return f"{type(error).__name__}: {error}", ""
    if time.perf_counter() - began > SLOW:
        return f"slow: {time.perf_counter() - began:.0f} s", ""
    said = err.getvalue()
    if code == 0:
        return "taken", out.getvalue()
    is_one = code == 2 and said.startswith("lightkit: error: ") and said.count("lightkit: error: ") == 1
    return ("error", said) if is_one and len(said) < 20_000 else (f"exit code {code}: {said[:200]!r}", "")


def outcome(file: Path, *, is_shipped: bool) -> str:
    """What came of one changed config."""
    found, printed = run("fit", file.name, "--print_config") if is_shipped else run("check", file.name)
    if found != "taken" or not is_shipped:
        return found
    again = file.with_name("again.yaml")
    again.write_text(printed, encoding="utf-8")
    result, twice = run("fit", again.name, "--print_config")
    return found if (result, twice) == ("taken", printed) else f"read again it is another: {result} {twice[:200]}"


def fuzz(folder: Path, count: int, seed: int) -> Counter[str]:
    """Change configs in `folder`, which becomes the working directory; -> how often what came of them."""
    random_, found, executed = random.Random(seed), Counter[str](), list[str]()
    inside, before = folder / "inside", os.getcwd()
    inside.mkdir(parents=True)
    (folder / "outside.txt").write_text("not the run's")
    (inside / "net.py").write_text(NET)
    shipped = sorted((ROOT / "configs").rglob("*.yaml"))
    file = inside / "changed.yaml"
    os.chdir(inside)
    sys.path.insert(0, str(inside))
    try:
        # what is imported for the first time may compile something
        for number, text in enumerate([JOB, shipped[0].read_text(encoding="utf-8")]):
            file.write_text(text, encoding="utf-8")
            first = outcome(file, is_shipped=bool(number))
            assert first == "taken", first
        sys.addaudithook(lambda event, _: executed.append(event) if event in EXECUTING else None)
        state = listing(folder), sorted(path.name for path in inside.iterdir())
        for number in range(count):
            is_shipped = bool(number % 2)
            text = random_.choice(shipped).read_text(encoding="utf-8") if is_shipped else JOB
            file.write_bytes(changed(text, random_))
            result = outcome(file, is_shipped=is_shipped)
            found[result.partition(":")[0]] += 1
            if result not in ("taken", "error"):
                problems.append(f"{number}: {result[:300]}\n{file.read_bytes()[:3000]!r}")
        (inside / "again.yaml").touch()
        left = sorted(path.name for path in inside.iterdir())
        if (listing(folder), [name for name in left if name != "__pycache__"]) != (
            state[0], sorted({*state[1], "again.yaml"} - {"__pycache__"}),
        ):  # fmt: skip
            problems.append(f"files were made or touched: {left}")
    finally:
        os.chdir(before)
        sys.path.remove(str(inside))
    problems.extend(f"executed: {event}" for event in executed)
    return found


def main() -> int:
    """Print the counts and the problems; 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(Path(folder) / "fuzz", options.configs, options.seed)
    print(dict(found))
    print(f"{len(problems)} problems", *problems[:200], sep="\n  ")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
