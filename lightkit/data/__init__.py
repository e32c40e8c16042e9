"""Where batches come from: loaders found, limited, and read so that their order can be resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightkit.data.tensor_loader import TensorLoader

__all__ = ["TensorLoader"]


def __getattr__(name: str) -> Any:
    if name != "TensorLoader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lightkit.data.tensor_loader import TensorLoader

    return TensorLoader
