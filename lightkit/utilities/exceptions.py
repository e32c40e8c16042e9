"""Lightning's names for a wrong argument, and for the end that a signal asked for."""

from lightkit.errors import ConfigError as MisconfigurationException
from lightkit.errors import StoppedBySignal as SIGTERMException

__all__ = ["MisconfigurationException", "SIGTERMException"]
