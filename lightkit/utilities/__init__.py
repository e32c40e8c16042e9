"""What user code imports from Lightning's `utilities`: ranks, moving data, gradient norms, the model summary."""

from lightkit.data.combined_loader import CombinedLoader
from lightkit.devices.transfer import move_data_to_device
from lightkit.model_summary import ModelSummary
from lightkit.seeding import isolate_rng
from lightkit.utilities.gradients import grad_norm
from lightkit.utilities.rank_zero import rank_zero_deprecation, rank_zero_info, rank_zero_only, rank_zero_warn

__all__ = [
    "CombinedLoader", "ModelSummary", "grad_norm", "isolate_rng", "move_data_to_device", "rank_zero_deprecation",
    "rank_zero_info", "rank_zero_only", "rank_zero_warn",
]  # fmt: skip
