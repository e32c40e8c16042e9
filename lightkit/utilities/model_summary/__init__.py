"""What user code imports from Lightning's `utilities.model_summary`."""

from lightkit.foreign_names import answering
from lightkit.model_summary import (
    LayerSummary,
    ModelSummary,
    get_formatted_model_size,
    get_human_readable_count,
    parse_batch_shape,
    summarize,
)

__all__ = [
    "LayerSummary", "ModelSummary", "get_formatted_model_size", "get_human_readable_count", "parse_batch_shape",
    "summarize",
]  # fmt: skip


def __getattr__(name: str) -> object:
    return answering(__name__)(name)
