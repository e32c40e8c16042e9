"""The command line: YAML to objects, its errors, and one file a command.

LightkitCLI              the same command line for a script of your own; also as LightningCLI
LightkitArgumentParser   its parser; also as LightningArgumentParser
SaveConfigCallback       keeps the configuration with the run
ReduceLROnPlateau        torch's, with the name of the metric it watches
main                     what the console script `lightkit` runs
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.cli.api import ArgsType, LightkitCLI, LightningCLI, ReduceLROnPlateau
    from lightkit.cli.main import main
    from lightkit.cli.parser import (
        LightkitArgumentParser,
        LightningArgumentParser,
        LRSchedulerCallable,
        LRSchedulerType,
        LRSchedulerTypeTuple,
        LRSchedulerTypeUnion,
        OptimizerCallable,
        instantiate_class,
    )
    from lightkit.cli.save_config import SaveConfigCallback

__all__ = [
    "ArgsType", "LRSchedulerCallable", "LRSchedulerType", "LRSchedulerTypeTuple", "LRSchedulerTypeUnion",
    "LightkitArgumentParser", "LightkitCLI", "LightningArgumentParser", "LightningCLI", "OptimizerCallable",
    "ReduceLROnPlateau", "SaveConfigCallback", "instantiate_class", "main",
]  # fmt: skip

_API = ("ArgsType", "LightkitCLI", "LightningCLI", "ReduceLROnPlateau")
_PARSER = (
    "LRSchedulerCallable", "LRSchedulerType", "LRSchedulerTypeTuple", "LRSchedulerTypeUnion", "LightkitArgumentParser",
    "LightningArgumentParser", "OptimizerCallable", "instantiate_class",
)  # fmt: skip
_OTHERS = {"SaveConfigCallback": "save_config", "main": "main"}
# `lightkit list` needs none of them
attach(__name__, {**dict.fromkeys(_API, "api"), **dict.fromkeys(_PARSER, "parser"), **_OTHERS})
