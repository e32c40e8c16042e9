"""Where batches come from: loaders found, limited, and read so that their order can be resumed."""

from lightkit.data.order import IndexedSource, Source, make_source
from lightkit.data.tensor_loader import TensorLoader

__all__ = ["IndexedSource", "Source", "TensorLoader", "make_source"]
