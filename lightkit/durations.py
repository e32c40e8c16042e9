"""Spans of time as users write them: "10min", "01:12:00:00", a timedelta."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from lightkit.errors import ConfigError

__all__ = ["parse_duration"]

_UNITS_S = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip


def parse_duration(duration: str | timedelta | Mapping[str, float], who: str = "Timer(duration={!r})") -> timedelta:
    """Return a duration given as "DD:HH:MM:SS", "10min", "1.5 h", a timedelta, or `dict(days=1, hours=2)`.

    Raises:
        ConfigError: anything else; `who`, with the duration filled in, begins the message.
    """
    if isinstance(duration, timedelta):
        return duration
    problem = "expected 'DD:HH:MM:SS', a number with a unit ('10min', '1.5h'), a timedelta or a dict for one."
    try:
        if isinstance(duration, Mapping):
            return timedelta(**duration)
        if match := re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", duration.strip()):
            days, hours, minutes, seconds = map(int, match.groups())
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", duration.strip().lower()):
            return timedelta(seconds=float(match[1]) * _UNITS_S[match[2]])
    except (TypeError, AttributeError, KeyError):
        pass
    raise ConfigError(f"{who.format(duration)}: {problem}")
