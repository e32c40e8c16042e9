"""Which of several processes this is, and telling so to lightning_utilities, whose `rank_zero_only` asks for it."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_TOLD = "lightning_utilities.core.rank_zero"


def rank() -> int:
    """The number of this process, from the environment of whoever started it; 0 where nobody says."""
    return next((int(os.environ[key]) for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if key in os.environ), 0)


class _Watch:
    """A finder that is asked before all others, and lets the one module's loader set the rank when it has loaded it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != _TOLD:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_tell(module: ModuleType) -> None:
                load(module)
                _set(module)

            vars(spec.loader)["exec_module"] = load_and_tell  # of this spec's own loader
        return spec


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
