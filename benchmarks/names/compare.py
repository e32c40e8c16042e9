"""Lightning's public names beside lightkit's: the same, different on purpose, or answered with what to write.

python benchmarks/names/compare.py [--list]

The same is what can be imported from the same path with `lightkit` for `lightning.pytorch`, takes arguments of the same
names, order and defaults (further ones by keyword alone), and has the same base classes. Needs no Lightning: what it
has stands in lightning.json, which collect.py writes.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.names.differences import DIFFERENCES, MIXINS
from benchmarks.names.signatures import NAME, NAMED, PLACE, REST, facts_of
from lightkit.errors import ForeignNameError

FILE = Path(__file__).with_name("lightning.json")
SAME, DIFFERS, ANSWER, MISSING = "same", "differs", "answer", "missing"
MOST_SAID = 4  # differences of one name
# what another plan counts: several processes, TPU, DeepSpeed, vendors' plugins
_ROOMS_ELSEWHERE = ("strategies", "accelerators", "plugins.environments", "overrides", "plugins.layer_sync")
_WORDS_ELSEWHERE = (
    "XLA", "DeepSpeed", "FSDP", "Bitsandbytes", "TransformerEngine", "Comet", "Neptune", "LitLogger", "LayerSync",
    "TorchSyncBatchNorm", "ds_checkpoint_dir", "convert_zero_checkpoint", "deepspeed_param_size",
    "DistributedDataParallel",
)  # fmt: skip


class Row(NamedTuple):
    """One name. module: without `lightning.pytorch.`; note: what differs and why, or the answer."""

    module: str
    name: str
    status: str
    note: str

    @property
    def path(self) -> str:
        """As it is imported from lightkit."""
        return ".".join(part for part in ("lightkit", self.module, self.name) if part)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is counted by the plan for several processes, or is a vendor's."""
        in_room = any(f"{self.module}.".startswith(f"{room}.") for room in _ROOMS_ELSEWHERE)
        return in_room or any(word in self.name for word in _WORDS_ELSEWHERE)


def rows() -> list[Row]:
    """Every public name of Lightning's."""
    listed = json.loads(FILE.read_text(encoding="utf-8"))["modules"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_row(module, name, facts) for module, names in listed.items() for name, facts in names.items()]


def _row(module: str, name: str, theirs: dict[str, Any]) -> Row:
    try:
        found = getattr(importlib.import_module(".".join(p for p in ("lightkit", module) if p)), name)
    except ForeignNameError as error:
        return Row(module, name, ANSWER, str(error).partition(": ")[2])
    except (ImportError, AttributeError):
        return Row(module, name, MISSING, "")
    different = differences(theirs, found)
    if not different:
        return Row(module, name, SAME, "")
    reason = DIFFERENCES.get(name, "")
    more = f"; and {len(different) - MOST_SAID} more" if len(different) > MOST_SAID else ""
    said = "; ".join(different[:MOST_SAID]) + more
    return Row(module, name, DIFFERS if reason else MISSING, f"{said}: {reason}" if reason else said)


def differences(theirs: dict[str, Any], found: Any) -> list[str]:
    """What of arguments and base classes is not the same."""
    if theirs["kind"] == "value" or (inspect.isclass(found) and issubclass(found, enum.Enum)):
        return []  # an alias, or words
    ours = facts_of(found, "lightkit")
    different = [] if "parameters" not in ours else _parameters(theirs.get("parameters"), ours["parameters"])
    return different + _bases(theirs, found)


def _parameters(theirs: list[list[str]] | None, ours: list[list[str]] | None) -> list[str]:
    if theirs is None or ours is None:
        return []
    known = {name: (kind, default) for name, kind, default in ours}
    kinds = {kind for _, kind, _ in ours}
    different = []
    places = [name for name, kind, _ in theirs if kind == PLACE]
    own_places = [name for name, kind, _ in ours if kind == PLACE]
    for name, kind, default in theirs:
        if kind in (REST, NAMED):
            if kind not in kinds:
                different.append(f"no {kind}{name}")
        elif name not in known:
            different.append(f"no `{name}`")
        elif known[name][1].replace("Lightkit", "Lightning") != default:
            different.append(f"`{name}={known[name][1]}` for {default}")
        elif kind == PLACE and known[name][0] == NAME:
            different.append(f"`{name}` by keyword alone")
    shared = [name for name in own_places if name in places]
    if not different and own_places[: len(shared)] != shared:
        different.append("another order")
    different += [f"further `{name}`" for name in own_places if name not in {n for n, _, _ in theirs}]
    return different


def _bases(theirs: dict[str, Any], found: Any) -> list[str]:
    if theirs["kind"] != "class" or not inspect.isclass(found):
        return [] if theirs["kind"] != "class" else ["no class"]
    ancestors = {base.__name__ for base in found.__mro__} | {
        f"{base.__module__.split('.')[0]}.{base.__name__}" for base in found.__mro__
    }
    names = _aliases(found)
    wanted = [base for base in theirs["bases"] if base not in MIXINS and base not in names]
    return [f"no `{base.rpartition('.')[2]}`" for base in wanted if base not in ancestors | names]


def _aliases(found: type) -> set[str]:
    """What lightkit's classes among the ancestors are called in Lightning."""
    other = {
        "LightModule": "LightningModule", "LightDataModule": "LightningDataModule", "ConfigError": "Exception",
        "SteppedOptimizer": "LightningOptimizer",
    }  # fmt: skip
    names = {base.__name__ for base in found.__mro__}
    return names | {other[name] for name in names if name in other}


def figures(found: list[Row]) -> dict[str, float]:
    """Counts by status, of those that belong here and of all; `share`: of those here, the same or different, in %."""
    here = Counter(row.status for row in found if not row.is_elsewhere)
    total = sum(here.values())
    return {
        "all": len(found), "modules": len({row.module for row in found}), "here": total, **here,
        "share": 100.0 * (here[SAME] + here[DIFFERS]) / total,
    }  # fmt: skip


_TEXT = """# Lightning's names

<!-- written by docs/build.py from benchmarks/names; change it there -->

Every public name of Lightning 2.6.6's `lightning.pytorch`: {all:.0f} in {modules:.0f} modules. **same**: from the same
path with `lightkit` for `lightning.pytorch`, with the same arguments, defaults and base classes. **differs**: on
purpose, as said. **answer**: the import raises one line, which says what to write.

Of the {here:.0f} that are neither for several processes, TPU, DeepSpeed nor a vendor's, {same:.0f} are the same,
{differs:.0f} differ, {answered:.0f} are answered: {share:.1f} % are the same or differ on purpose.

| name | | |
| --- | --- | --- |
"""


def page() -> str:
    """The table as docs/lightning_names.md has it."""
    found = rows()
    count = figures(found)
    text = _TEXT.format(
        all=count["all"], modules=count["modules"], here=count["here"], same=count.get(SAME, 0),
        differs=count.get(DIFFERS, 0), answered=count.get(ANSWER, 0), share=count["share"],
    )  # fmt: skip
    return text + "".join(f"| `{row.path}` | {row.status} | {row.note} |\n" for row in found)


def main() -> None:
    """Print the figures; --list: every name that is not the same, too."""
    found = rows()
    count = figures(found)
    print(f"{count['all']:.0f} names in {count['modules']:.0f} modules; {count['here']:.0f} of them belong here:")
    for status in (SAME, DIFFERS, ANSWER, MISSING):
        print(f"  {status:8} {count.get(status, 0):4.0f}")
    print(f"  the same or different on purpose: {count['share']:.1f} %")
    if "--list" in sys.argv:
        for row in found:
            if row.status != SAME:
                print(f"{row.status:8} {'(elsewhere) ' if row.is_elsewhere else ''}{row.path}  {row.note}")


if __name__ == "__main__":
    main()
