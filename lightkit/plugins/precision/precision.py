"""The base of precisions, under the name that Lightning has for its file."""

from lightkit.devices.precision import Precision

__all__ = ["Precision"]
