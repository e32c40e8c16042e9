"""What user code imports from Lightning's `utilities`, each name in the file that it has there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.data.combined_loader import CombinedLoader
    from lightkit.devices.transfer import move_data_to_device
    from lightkit.hparams import AttributeDict
    from lightkit.model_summary import ModelSummary
    from lightkit.seeding import isolate_rng
    from lightkit.throughput import measure_flops
    from lightkit.utilities.enums import GradClipAlgorithmType, LightningEnum
    from lightkit.utilities.gradients import grad_norm
    from lightkit.utilities.parameter_tying import find_shared_parameters, set_shared_parameters
    from lightkit.utilities.parsing import is_picklable
    from lightkit.utilities.rank_zero import (
        rank_zero_debug,
        rank_zero_deprecation,
        rank_zero_info,
        rank_zero_only,
        rank_zero_warn,
    )
    from lightkit.utilities.system import is_shared_filesystem, suggested_max_num_workers
    from lightkit.utilities.warnings import disable_possible_user_warnings

__all__ = [
    "AttributeDict", "CombinedLoader", "GradClipAlgorithmType", "LightningEnum", "ModelSummary",
    "disable_possible_user_warnings", "find_shared_parameters", "grad_norm", "is_picklable", "is_shared_filesystem",
    "isolate_rng", "measure_flops",
    "move_data_to_device", "rank_zero_debug", "rank_zero_deprecation", "rank_zero_info", "rank_zero_only",
    "rank_zero_warn", "set_shared_parameters", "suggested_max_num_workers",
]  # fmt: skip

attach(
    __name__,
    {
        "AttributeDict": "parsing", "CombinedLoader": "combined_loader", "GradClipAlgorithmType": "enums",
        "LightningEnum": "enums",
        "ModelSummary": "lightkit.model_summary", "disable_possible_user_warnings": "warnings",
        "find_shared_parameters": "parameter_tying", "grad_norm": "gradients", "is_picklable": "parsing",
        "is_shared_filesystem": "system", "isolate_rng": "seed", "measure_flops": "lightkit.throughput",
        "move_data_to_device": "lightkit.devices.transfer", "rank_zero_debug": "rank_zero",
        "rank_zero_deprecation": "rank_zero",
        "rank_zero_info": "rank_zero", "rank_zero_only": "rank_zero", "rank_zero_warn": "rank_zero",
        "set_shared_parameters": "parameter_tying", "suggested_max_num_workers": "system",
    },
    (
        "combined_loader", "data", "enums", "exceptions", "gradients", "grads", "memory", "model_helpers",
        "model_summary",
        "parameter_tying", "parsing", "rank_zero", "seed", "signature_utils", "system",
        "throughput", "types", "warnings",
    ),
)  # fmt: skip
