"""Where batches come from: loaders found, limited, and read so that their order can be resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.data.tensor_loader import TensorLoader

__all__ = ["TensorLoader"]

attach(__name__, {"TensorLoader": "tensor_loader"})
