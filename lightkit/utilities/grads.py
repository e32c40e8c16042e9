"""Norms of gradients, under the name that Lightning has for their file."""

from lightkit.utilities.gradients import grad_norm

__all__ = ["grad_norm"]
