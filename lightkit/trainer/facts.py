"""What of its parts a Trainer tells under Lightning's names."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager
from typing import Any

import torch

from lightkit.devices.precision import Precision
from lightkit.devices.strategies import Strategy
from lightkit.settings import Controls


class TrainerFacts(Controls):
    """The part of the Trainer that only reads what it was made with."""

    devices: list[torch.device]
    precision: Precision
    strategy: Strategy

    @property
    def device_ids(self) -> list[int]:
        """The indices of the devices, from 0; the CPU's is 0."""
        return [device.index or 0 for device in self.devices]

    @property
    def node_rank(self) -> int:
        """The number of this machine; one machine trains: 0."""
        return 0

    @property
    def precision_plugin(self) -> Precision:
        """The number format of the run, as an object."""
        return self.precision

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The scaler of the loss; None where the precision needs none."""
        return self.precision.scaler

    @property
    def received_sigterm(self) -> bool:
        """Whether SIGTERM asked the run to end, or the last one."""
        return self.stop_signal == signal.SIGTERM

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any] | None:
        """Arguments for a DistributedSampler; None: one process trains, which reads everything."""
        return None

    def init_module(self, empty_init: bool | None = None) -> AbstractContextManager[None]:
        """Inside, modules are made on the run's device and in its precision.

        empty_init: their weights are not drawn, as they are about to be loaded.
        """
        from lightkit.devices.making import made_on

        return made_on(self.devices[0], self.precision, is_empty=bool(empty_init))
