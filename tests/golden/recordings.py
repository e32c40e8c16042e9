"""The recordings on disk, and how one is compared with what a job leaves today."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.golden import tape

FOLDER = Path(__file__).parent
RECORDED, CHECKPOINTS = FOLDER / "recorded", FOLDER / "checkpoints"
MACHINE = FOLDER / "machine.json"
_TAILS = ("order", "steps", "floats", "metrics", "logged")
_AS_WHOLE = "as the whole run's last "
_NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6  # on another machine: last bits that other kernels give, grown over 15 steps


def machine() -> dict[str, str]:
    """What decides the last bits of a result: torch, the CPU's kernels, and what they give for a few operations."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator).requires_grad_()
    y = nn.functional.softplus(torch.tanh(nn.functional.linear(x, w)) * torch.sigmoid(x.sum(1)))
    y.square().mean().backward()
    half = nn.functional.linear(x.half(), w.detach().half())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [torch.randn(3), torch.rand(3), torch.randperm(19), nn.functional.dropout(torch.ones(40), 0.3)]
    return {
        "torch": torch.__version__.partition("+")[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "results": tape.digest([y, w.grad, half, *drawn, torch.linalg.vector_norm(x), x.mean(0)]),
    }


def is_recording_machine() -> bool:
    """Whether results can be compared to the last bit."""
    return machine() == json.loads(MACHINE.read_text(encoding="utf-8"))


def write(name: str, recording: dict[str, Any]) -> Path:
    """Write the recording of a job; what a resumed run ends with as the whole run does is not written twice."""
    path = RECORDED / f"{name}.json"
    folded = dict(recording)
    if "resumed" in recording:
        whole, resumed = recording["whole"], dict(recording["resumed"])
        for part in _TAILS:
            if part in resumed:
                resumed[part] = _fold(resumed[part], whole[part])
        folded["resumed"] = resumed
    path.write_text(as_text(folded) + "\n", encoding="utf-8")
    return path


def read(name: str) -> dict[str, Any]:
    """The recording of a job."""
    found = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    resumed = found.get("resumed", {})
    for part in _TAILS:
        if part in resumed and str(resumed[part][-1]).startswith(_AS_WHOLE):
            count = int(resumed[part].pop().removeprefix(_AS_WHOLE))
            resumed[part] += found["whole"][part][-count:]
    return found


def _fold(resumed: list[Any], whole: list[Any]) -> list[Any]:
    count = 0
    while count < min(len(resumed), len(whole)) and resumed[-1 - count] == whole[-1 - count]:
        count += 1
    return [*resumed[: len(resumed) - count], f"{_AS_WHOLE}{count}"] if count > 1 else resumed


def about_checkpoint(path: Path) -> dict[str, Any]:
    """What the recording says about a checkpoint of the commit before."""
    content = torch.load(path, weights_only=True)
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights": tape.digest(content["state_dict"]),  # read, not computed: the same on every machine
    }


def as_text(content: Any, indent: str = "") -> str:
    """JSON in which what is short stands on one line."""
    line = json.dumps(content)
    if len(line) <= 150 or not content or not isinstance(content, (dict, list)):
        return line
    inner = indent + " "
    if isinstance(content, dict):
        parts = [f"{json.dumps(key)}: {as_text(value, inner)}" for key, value in content.items()]
    else:
        parts = [as_text(item, inner) for item in content]
    start, end = "{}" if isinstance(content, dict) else "[]"
    return start + "\n" + ",\n".join(inner + part for part in parts) + "\n" + indent + end


# ---------------------------------------------------------------------- comparing


def first_difference(wanted: Any, found: Any, *, exact: bool, where: str = "") -> str | None:
    """The first place where two recordings differ, in words; None where they agree.

    exact=False: numbers may differ in their last digits, and digests, which then differ, are passed over.
    """
    return next(_differences(wanted, json.loads(json.dumps(found)), where, exact), None)


def _differences(wanted: Any, found: Any, where: str, exact: bool) -> Iterator[str]:
    if not exact and where.rpartition("/")[2] == "digests":
        return
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            place = f"{where}/{key}" if where else key
            if key not in found:
                yield f"{place}: is gone; was {_short(wanted[key])}"
            elif key not in wanted:
                yield f"{place}: is new: {_short(found[key])}"
            else:
                yield from _differences(wanted[key], found[key], place, exact)
    elif isinstance(wanted, list) and isinstance(found, list):
        for i, (a, b) in enumerate(zip(wanted, found, strict=False)):
            yield from _differences(a, b, f"{where}[{i}]", exact)
        if len(wanted) != len(found):
            longer = wanted if len(wanted) > len(found) else found
            first = min(len(wanted), len(found))
            yield f"{where}: was {len(wanted)} long, is {len(found)}; the first that one lacks: {_short(longer[first])}"
    elif isinstance(wanted, str) and isinstance(found, str):
        yield from _text_differences(wanted, found, where, exact)
    elif not _is_same(wanted, found, exact):
        yield f"{where}: was {_short(wanted)}, is {_short(found)}"


def _text_differences(wanted: str, found: str, where: str, exact: bool) -> Iterator[str]:
    if wanted == found:
        return
    words, now = wanted.split(" "), found.split(" ")
    for i, (a, b) in enumerate(zip([*words, "(the end)"], [*now, "(the end)"], strict=False)):
        if a == b or (not exact and _is_near_text(a, b)):
            continue
        # a line of hooks begins with the state that they found, and the call before says where it is
        before = f" after {words[i - 1]!r}" if i else ""
        state = f" in {' '.join(words[:3])!r}" if i > 3 and where.partition("[")[0].endswith("order") else ""
        yield f"{where}: was {a!r}, is {b!r}{before}{state}"
        return


def _is_near_text(a: str, b: str) -> bool:
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
    return all(x == y or ("." in x + y and _is_same(float(x), float(y), False)) for x, y in pairs)


def _is_same(wanted: Any, found: Any, exact: bool) -> bool:
    if isinstance(wanted, float) and isinstance(found, float):
        if math.isnan(wanted) or math.isnan(found):
            return math.isnan(wanted) and math.isnan(found)
        if not exact:
            return math.isclose(wanted, found, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return type(wanted) is type(found) and wanted == found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + " ..."
