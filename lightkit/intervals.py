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
    if (found := _interval_of(value)) is not None:
        return ValidationInterval(found.number, "batches" if found.unit == "count" else found.unit)
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


class Interval(NamedTuple):
    """How often: every so many times, optimizer steps, epochs or seconds."""

    number: float
    unit: Literal["count", "step", "epoch", "seconds"]


def parse_interval(value: Any, where: str) -> Interval:
    """Read an interval: a count, "100step", "2epoch", or what `parse_duration` reads.

    Raises:
        ConfigError: none of these; `where` begins the message.
    """
    if (found := _interval_of(value)) is not None:
        return found
    raise ConfigError(
        f"{where}: expected a count of at least 1, or a text with a unit: '100step', '2epoch', '10min'"
    )


def _interval_of(value: Any) -> Interval | None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return Interval(value, "count")
    match = re.fullmatch(r"(\d+)\s*(step|epoch)s?", value.strip()) if isinstance(value, str) else None
    if match and int(match[1]) > 0:
        return Interval(int(match[1]), "step" if match[2] == "step" else "epoch")
    if not isinstance(value, int | float) and (seconds := interval_seconds(value)):
        return Interval(seconds, "seconds")
    return None


def counted(value: Any, unit: Literal["step", "epoch"], where: str, others: str) -> Any:
    """What an argument that counts in one unit means: "100step" is 100; what is no text stays as it is.

    others: arguments for other units, as the error names them.

    Raises:
        ConfigError: a text that is no interval, or one of another unit.
    """
    if not isinstance(value, str):
        return value
    found = parse_interval(value, where)
    if found.unit != unit:
        raise ConfigError(f"{where}: counts {unit}s, such as '2{unit}'; {others}")
    return int(found.number)


# Counts of the Trainer that may be given with their unit, and what is said of another unit.
_COUNTED: dict[str, tuple[Literal["step", "epoch"], str]] = {
    "log_every_n_steps": ("step", "epoch means are logged in any case"),
    "check_val_every_n_epoch": ("epoch", "for another unit write val_check_interval"),
    "reload_dataloaders_every_n_epochs": ("epoch", "loaders are asked for between epochs"),
}


def counted_argument(name: str, value: str) -> Any:
    """What the Trainer's argument of that name counts; other texts stay as they are.

    Raises:
        ConfigError: a text that is no interval, or one of another unit.
    """
    if name not in _COUNTED:
        return value
    unit, others = _COUNTED[name]
    return counted(value, unit, f"Trainer({name}={value!r})", others)
