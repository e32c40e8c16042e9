"""`LearningRateFinder` under Lightning's path; it stands in `lightkit/tuner/finders.py`."""

from lightkit.lazy import attach

__all__ = ["LearningRateFinder"]  # noqa: F822  # found when asked for

attach(__name__, {"LearningRateFinder": "lightkit.tuner.finders"})
