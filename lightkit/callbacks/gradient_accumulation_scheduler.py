"""GradientAccumulationScheduler, under the name that Lightning has for its file."""

from lightkit.callbacks.gradient_accumulation import GradientAccumulationScheduler

__all__ = ["GradientAccumulationScheduler"]
