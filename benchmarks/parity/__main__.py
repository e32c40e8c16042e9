"""The same programs with lightkit, with Lightning and as a hand-written loop.

    python -m benchmarks.parity --peer SIDE/bin/python [--only NAME ...] [--write docs/parity.md]

--peer: the Python of an environment with Lightning and the same torch; without it lightkit is compared with the
hand-written loop alone. Form (a): the order comes from a sampler that draws nothing; weights, losses, hook calls and
logged records equal Lightning's. Form (b): the data is shuffled by the process's generator and validated in between;
weights and losses equal those of the loop; the difference to Lightning is printed. Ends with 1 where something differs.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.parity import plain  # noqa: E402
from benchmarks.parity.programs import programs  # noqa: E402

CLOSE = 1e-6
Found = dict[tuple[str, str], Any]


def numbers(one: Any, other: Any) -> str:
    """How equal two ends are: "bits", the largest difference, or what is wrong."""
    pairs = [(one["weights"][key], other["weights"].get(key)) for key in one["weights"]]
    if any(b is None or a.shape != b.shape for a, b in pairs) or len(one["losses"]) != len(other["losses"]):
        return f"other shapes or counts ({len(one['losses'])} losses, {len(other['losses'])})"
    pairs.append((torch.tensor(one["losses"], dtype=torch.float64), torch.tensor(other["losses"], dtype=torch.float64)))
    if all(torch.equal(a, b) for a, b in pairs):
        return "bits"
    return f"{max(float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()):.1e}"


def swapped(calls: list[str]) -> list[str]:
    """Hook calls without those that ask for loaders, whose one documented difference is their order."""
    return [call for call in calls if not call.endswith("_dataloader")]


def difference(one: list[Any], other: list[Any]) -> str:
    """Where two lists part; "": nowhere."""
    for index, (a, b) in enumerate(itertools.zip_longest(one, other)):
        if a != b:
            return f"at {index}: {a} | {b}"
    return ""


def records(one: list[Any], other: list[Any]) -> tuple[str, str]:
    """How equal two lists of logged records are, and where they part."""
    if one == other:
        return "bits", ""
    names = [(sorted(values), step) for values, step in one], [(sorted(values), step) for values, step in other]
    if where := difference(*names):
        return "differ", where
    gaps = [
        (abs(a[key] - b[key]) / max(1.0, abs(a[key])), f"{key} at {step}: {a[key]} | {b[key]}")
        for (a, step), (b, _) in zip(one, other, strict=True) for key in a
    ]  # fmt: skip
    most, where = max(gaps)
    return f"{most:.1e}", where


def is_same(text: str) -> bool:
    """Whether a comparison came out equal, or equal to 1e-6."""
    if text == "bits":
        return True
    try:
        return float(text) <= CLOSE
    except ValueError:
        return False


def collect(engine: str, python: str, only: list[str]) -> Found:
    """What an engine ends with, run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "found.pt")
        code = f"from benchmarks.parity import engines; engines.main({engine!r}, {str(path)!r}, {only!r})"
        subprocess.run([python, "-W", "ignore", "-c", code], check=True, cwd=ROOT)
        found: Found = torch.load(path, weights_only=False)  # our own, of a moment ago
        return found


def compare(name: str, ours: Found, loop: Found, peer: Found | None) -> tuple[dict[str, str], list[str]]:
    """The row of a program, and what is wrong with it."""
    wrong: list[str] = []
    mine, mine_b = ours[name, "a"], ours[name, "b"]
    for form, found in (("a", mine), ("b", mine_b), ("loop, b", loop[name, "b"]), ("loop, a", loop[name, "a"])):
        if isinstance(found, str):
            return {}, [f"{form}: {found}"]
    row = {"loop (b)": numbers(mine_b, loop[name, "b"]), "loop (a)": numbers(mine, loop[name, "a"])}
    wrong += [f"{key}: {row[key]}" for key in ("loop (a)", "loop (b)") if not is_same(row[key])]
    if peer is None:
        return row, wrong
    theirs, theirs_b = peer[name, "a"], peer[name, "b"]
    if isinstance(theirs, str) or isinstance(theirs_b, str):
        return row, [*wrong, f"Lightning: {theirs if isinstance(theirs, str) else theirs_b}"]
    row["weights, losses"] = numbers(mine, theirs)
    row["records"], where = records(mine["records"], theirs["records"])
    calls = difference(swapped(mine["calls"]), swapped(theirs["calls"]))
    row["hook calls"] = "same" if not calls else "differ"
    row["counters"] = "same" if all(mine[key] == theirs[key] for key in ("epoch", "step")) else "differ"
    row["Lightning (b)"] = numbers(mine_b, theirs_b)
    wrong += [f"{key}: {row[key]} {where}" for key in ("weights, losses", "records") if not is_same(row[key])]
    wrong += [f"hook calls {calls}"] if calls else []
    if row["counters"] == "differ":
        wrong.append(f"counters: {mine['epoch']}, {mine['step']} | {theirs['epoch']}, {theirs['step']}")
    if set(mine["metrics"]) != set(theirs["metrics"]):
        wrong.append(f"callback_metrics: {sorted(mine['metrics'])} | {sorted(theirs['metrics'])}")
    return row, wrong


def table(rows: dict[str, dict[str, str]]) -> list[str]:
    """The rows in markdown."""
    columns = list(max(rows.values(), key=len))  # a row with a reason has them all
    lines = [f"| program | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    return lines + [
        f"| {name} | {' | '.join(row.get(column, '-') for column in columns)} |" for name, row in rows.items()
    ]


def main() -> int:
    """Compare; 1 where something differs that ought not to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with Lightning")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--write", type=Path, help="where the table goes, in markdown")
    args = parser.parse_args()
    names = args.only or list(programs(plain.NAMES))
    ours, loop = (collect(engine, sys.executable, args.only) for engine in ("lightkit", "plain"))
    peer = collect("Lightning", args.peer, args.only) if args.peer else None
    rows: dict[str, dict[str, str]] = {}
    failures = 0
    for name in names:
        rows[name], wrong = compare(name, ours, loop, peer)
        if reason := programs(plain.NAMES)[name].differs if peer else "":
            rows[name]["on purpose"] = reason
            wrong = [line for line in wrong if line.startswith(("loop", "weights"))]
        failures += bool(wrong)
        print(f"{'!' if wrong else ' '} {name:52} {rows[name]}")
        for line in wrong:
            print(f"      {line}")
    if args.write:
        args.write.write_text("\n".join([*_INTRODUCTION, *table(rows), ""]), encoding="utf-8")
    print(f"{len(names)} programs, {failures} with a difference")
    return failures > 0


_INTRODUCTION = [
    "# The same numbers as Lightning", "",
    "`python -m benchmarks.parity --peer SIDE/bin/python --write docs/parity.md` runs each program with lightkit, with",
    "Lightning 2.6.6 and as a hand-written loop (`benchmarks/parity/`), all with one torch on one machine.", "",
    "- Form (a): the order of the data comes from a sampler that draws nothing. *weights, losses*, *records* (names,",
    "  steps, values of all that reaches a logger), *hook calls* (of module and callback, in their order), *counters*",
    "  are compared with Lightning's, *loop (a)* with the hand-written loop's weights and losses.",
    "- Form (b): the data is shuffled by the process's generator, and validated in between. *loop (b)*: with a plain",
    "  `for` loop that saves the generators before an evaluation and restores them after it. *Lightning (b)* is the",
    "  largest difference to Lightning, where a validation moves the generator that shuffles the next epoch: it",
    "  is no fault of either, and the reason why lightkit puts the generators back.", "",
    "\"bits\": equal to the last bit; else the largest difference. Epoch means are float64 here, float32 there. Calls",
    "that ask for loaders are left out: lightkit asks for the training loader first.", "",
]  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
