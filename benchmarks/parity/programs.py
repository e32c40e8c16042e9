"""Twenty-three programs of different kinds, each written once, for `pl`: lightning.pytorch, lightkit or `plain`."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from benchmarks.parity.data import EPOCHS, Program

__all__ = ["EPOCHS", "Program", "programs"]


def programs(pl: Any) -> dict[str, Program]:
    """All of them, by name, with the classes of `pl`."""
    spec = spec_from_file_location("benchmarks.parity.modules", Path(__file__).with_name("modules.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    vars(module)["pl"] = pl
    spec.loader.exec_module(module)
    found: dict[str, Program] = module.PROGRAMS
    return found
