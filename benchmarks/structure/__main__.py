"""How lightkit is built, in figures: what is `Any`, who writes whose state, what is loaded and called, how long it is.

python benchmarks/structure [--root DIR] [--only NAME ...] [--list] [--check]

Prints one row a figure; --list: also what it counts, one line each. --root measures another checkout (with the
packages of this Python), so that one tool gives the figures before and after. --check holds the figures that have a
limit, prints the rows that miss it and then ends with 1. `renames` takes minutes and runs where --only names it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

# a folder that is run puts itself first, where its files would hide others of the same name
sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from benchmarks.structure.expressions import bare_rows, share_rows  # noqa: E402
from benchmarks.structure.live import import_rows, step_rows  # noqa: E402
from benchmarks.structure.owners import assignment_rows  # noqa: E402
from benchmarks.structure.renames import RENAMES, rename_rows  # noqa: E402
from benchmarks.structure.rows import REPOSITORY, Row  # noqa: E402
from benchmarks.structure.sizes import MOST_CODE_LINES, size_rows  # noqa: E402
from benchmarks.structure.users import user_rows  # noqa: E402

# What is wanted, by the key of a row; `lines` keeps the whole from growing unseen.
AT_LEAST = {"known": 92.0, "known_core": 86.0, "renames": len(RENAMES)}
AT_MOST = {
    "bare_any": 0, "foreign": 0, "imported": 7500, "lines": 36000, "step_calls": 14, "step_files": 8,
    "file_lines": MOST_CODE_LINES, "long_functions": 0, "user_mypy": 0, "user_pyright": 0,
}  # fmt: skip

FIGURES: dict[str, Callable[[Path], list[Row]]] = {
    "types": partial(share_rows, least=AT_LEAST["known_core"]),
    "any": bare_rows,
    "assignments": assignment_rows,
    "renames": rename_rows,
    "user": user_rows,
    "imports": import_rows,
    "step": step_rows,
    "sizes": size_rows,
}
_SLOW = ("renames",)
# what `make check` holds: the user's side is held by tests/typing
_CHECKED = ("types", "any", "assignments", "imports", "step", "sizes")


def misses(row: Row) -> bool:
    """Whether a row is on the wrong side of its limit."""
    return row.value < AT_LEAST.get(row.key, row.value) or row.value > AT_MOST.get(row.key, row.value)


def line_of(row: Row) -> str:
    """The row as it is printed."""
    wanted = ""
    if row.key in AT_LEAST:
        wanted = f">= {AT_LEAST[row.key]:g}"
    elif row.key in AT_MOST:
        wanted = f"<= {AT_MOST[row.key]:g}"
    mark = "!" if misses(row) else " "
    return f"{mark} {row.title:56} {wanted:>9}  {row.text or f'{row.value:g}'}".rstrip()


def main() -> int:
    """Measure what is asked for; 1 where --check finds a figure that misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the checkout to measure; default: this one")
    parser.add_argument("--only", nargs="+", choices=FIGURES, metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--list", action="store_true", help="print what each figure counts")
    parser.add_argument("--check", action="store_true", help="hold the limits")
    args = parser.parse_args()
    names = args.only or (_CHECKED if args.check else [name for name in FIGURES if name not in _SLOW])
    failed = 0
    for name in names:
        for row in FIGURES[name](args.root.resolve()):
            failed += misses(row)
            if not args.check or misses(row):
                print(line_of(row), flush=True)
                for place in row.places if args.list or args.check else ():
                    print(f"      {place}")
    if args.check:
        print(f"structure: {failed} figures miss their limit" if failed else "structure: every figure within its limit")
    return int(args.check and failed > 0)


if __name__ == "__main__":
    sys.exit(main())
