"""The hyperparameters of the module and the data module, written to the loggers before the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit import hparams
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.run.fit import FitRun


def log_hyperparameters(run: FitRun) -> None:
    """Give them to the loggers of a fit, and the module's graph.

    Raises:
        ConfigError: both have one of the same name, and other values.
    """
    module, datamodule = run.module, run.datamodule
    params: dict[str, object] = {}
    for owner in (datamodule, module):
        if owner is None or not (hyperparameters := hparams.of(owner)).is_logged:
            continue
        plain = {key: value for key, value in hyperparameters.initial.items() if key not in hyperparameters.live}
        for key, value in plain.items():
            if key in params and hparams.differ(params[key], value):
                raise ConfigError(
                    f"hyperparameter {key!r}: {type(module).__name__} has {value!r}, "
                    f"{type(datamodule).__name__} has {params[key]!r}; rename one, or use "
                    "save_hyperparameters(logger=False)"
                )
            params[key] = value
    for target in run.trainer._records.targets():
        if params and run.settings.enable_autolog_hparams:
            target.log_hyperparams(params)
        target.log_graph(module)
        target.save()
