"""torch_geometric, imported where it is used."""

from __future__ import annotations

import warnings
from types import ModuleType

from lightkit.errors import require


def geometric(name: str, needed_by: str) -> ModuleType:
    """Import and return `torch_geometric.NAME`.

    Raises:
        MissingExtraError: torch_geometric is not installed; says how to install it.
    """
    with warnings.catch_warnings():
        # while it is imported it calls torch.jit.script, which torch 2.11 calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        return require(f"torch_geometric.{name}", "graph", needed_by=needed_by)
