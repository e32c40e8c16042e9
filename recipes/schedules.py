"""Optimizers and schedules that recipes share."""

from __future__ import annotations

from typing import Any, Literal

import torch

import lightkit as lk
from lightkit.errors import ConfigError

Schedule = Literal["one_cycle", "constant"]


def total_steps(module: lk.LightModule, schedule: str, otherwise: str = "") -> int:
    """Return the optimizer steps of the whole fit, which `schedule` needs.

    Raises:
        ConfigError: the fit has no end; says what to set, `otherwise` included.
    """
    steps = module.trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise ConfigError(
            f"{type(module).__name__}({schedule}): the fit has no end to fall towards; "
            f"set trainer.max_epochs or max_steps{otherwise}"
        )
    return int(steps)


def adamw(module: lk.LightModule, lr: float, weight_decay: float, schedule: Schedule) -> Any:
    """Return AdamW over the module's parameters that learn and, unless the rate is constant, its schedule.

    "one_cycle" rises to `lr` and falls to nearly 0 over the whole fit (Smith, Topin 2018), stepped every batch.

    Raises:
        ConfigError: a one-cycle schedule for a fit without an end.
    """
    learn = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learn, lr=lr, weight_decay=weight_decay)
    if schedule == "constant":
        return optimizer
    steps = total_steps(module, "schedule='one_cycle'", ", or model.schedule to 'constant'")
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
