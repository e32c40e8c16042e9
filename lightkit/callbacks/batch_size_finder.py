"""`BatchSizeFinder` under Lightning's path; it stands in `lightkit/tuner/finders.py`."""

from lightkit.lazy import attach

__all__ = ["BatchSizeFinder"]  # noqa: F822  # found when asked for

attach(__name__, {"BatchSizeFinder": "lightkit.tuner.finders"})
