"""Intervals of time and of a training, as the Trainer's arguments give them."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from lightkit.durations import parse_duration
from lightkit.errors import ConfigError


def interval_seconds(value: Any) -> float | None:
    """Seconds in what a Timer takes: "90s", "10min", "DD:HH:MM:SS", a timedelta, a dict of its arguments; else None."""
    try:
        return parse_duration(value).total_seconds()
    except ConfigError:
        return None


class ValidationInterval(NamedTuple):
    """When validation runs inside fit: a share of the epoch, or a count of batches, steps, epochs or seconds."""

    number: float
    unit: Literal["share", "batches", "step", "epoch", "seconds"]


def parse_validation_interval(value: Any) -> ValidationInterval:
    """Read Trainer(val_check_interval=...).

    Raises:
        ConfigError: none of the documented forms.
    """
    if value is None or (isinstance(value, float) and 0.0 < value <= 1.0):
        return ValidationInterval(1.0 if value is None else value, "share")
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return ValidationInterval(value, "batches")
    match = re.fullmatch(r"(\d+)\s*(step|epoch)s?", value.strip()) if isinstance(value, str) else None
    if match and int(match[1]) > 0:
        return ValidationInterval(int(match[1]), "step" if match[2] == "step" else "epoch")
    if seconds := interval_seconds(value):
        return ValidationInterval(seconds, "seconds")
    raise ConfigError(
        f"Trainer(val_check_interval={value!r}): expected a share of the epoch (0.0 to 1.0], a count of batches, or a "
        "text with a unit: '100step', '1epoch', '10min'"
    )


def check_max_time(value: object) -> None:
    """Raise ConfigError where a limit of time is none."""
    if interval_seconds(value) is None:
        raise ConfigError(
            f"Trainer(max_time={value!r}): expected '00:12:00:00' (days:hours:minutes:seconds), '10min', "
            "a timedelta or a dict of its arguments"
        )
