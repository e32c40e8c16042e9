"""The base of profilers, under the name that Lightning has for its file."""

from lightkit.profilers.base import Profiler

__all__ = ["Profiler"]
