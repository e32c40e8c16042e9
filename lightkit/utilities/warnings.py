"""Warnings that may be meant for somebody else, and how to be spared of them."""

from __future__ import annotations

import warnings


class PossibleUserWarning(UserWarning):
    """What it warns of is wrong in most programs, not in all."""


def disable_possible_user_warnings(module: str = "") -> None:
    """Show no PossibleUserWarning of this module (a regular expression of its name); "": of any."""
    warnings.filterwarnings("ignore", module=module, category=PossibleUserWarning)
