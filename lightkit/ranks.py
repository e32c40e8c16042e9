"""Which of several processes this is, and telling so to lightning_utilities, whose `rank_zero_only` asks for it."""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_TOLD = "lightning_utilities.core.rank_zero"


def rank() -> int:
    """The number of this process, from the environment of whoever started it; 0 where nobody says."""
    return next((int(os.environ[key]) for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if key in os.environ), 0)


class _Watch:
    """A finder that is asked before all others, and sets the rank when the one module is imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != _TOLD:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader)
        return spec


class _Telling(Loader):
    """A loader that sets the rank once the module is there; everything else is the module's own loader's."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _set(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def _set(module: ModuleType) -> None:
    decorator = vars(module).get("rank_zero_only")
    if decorator is not None and not hasattr(decorator, "rank"):
        vars(decorator)["rank"] = rank()


def tell_lightning_utilities() -> None:
    """Set `rank_zero_only.rank` there: now where the package is imported, else when somebody imports it."""
    if (module := sys.modules.get(_TOLD)) is not None:
        _set(module)
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())
