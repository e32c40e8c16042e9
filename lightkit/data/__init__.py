"""Where batches come from: loaders found, limited, and read so that their order can be resumed."""

from lightkit.data.order import IndexedSource, Source, make_source

__all__ = ["IndexedSource", "Source", "make_source"]
