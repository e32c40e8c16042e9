"""The command line: YAML to objects, its errors, and one file a command.

LightkitCLI         the same command line for a script of your own; also as LightningCLI
ReduceLROnPlateau   torch's, with the name of the metric it watches
main                what the console script `lightkit` runs
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightkit.cli.api import LightkitCLI, LightningCLI, ReduceLROnPlateau
    from lightkit.cli.main import main

__all__ = ["LightkitCLI", "LightningCLI", "ReduceLROnPlateau", "main"]


def __getattr__(name: str) -> Any:
    """Import the parts when they are first used: `lightkit list` needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("lightkit.cli.main" if name == "main" else "lightkit.cli.api"), name)
