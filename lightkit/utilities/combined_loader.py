"""Lightning's place for `CombinedLoader`."""

from lightkit.data.combined_loader import CombinedLoader

__all__ = ["CombinedLoader"]
