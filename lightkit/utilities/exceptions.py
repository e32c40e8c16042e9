"""Lightning's name for a wrong argument."""

from lightkit.errors import ConfigError as MisconfigurationException

__all__ = ["MisconfigurationException"]
