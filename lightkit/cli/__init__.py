"""The command line: YAML to objects, its errors, and one file a command.

LightkitCLI         the same command line for a script of your own; also as LightningCLI
ReduceLROnPlateau   torch's, with the name of the metric it watches
main                what the console script `lightkit` runs
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.cli.api import LightkitCLI, LightningCLI, ReduceLROnPlateau
    from lightkit.cli.main import main

__all__ = ["LightkitCLI", "LightningCLI", "ReduceLROnPlateau", "main"]

# `lightkit list` needs none of them
attach(__name__, {"LightkitCLI": "api", "LightningCLI": "api", "ReduceLROnPlateau": "api", "main": "main"})
