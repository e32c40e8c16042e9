"""Pretrained weights for torchvision's models, by name or from a file; layers of another size stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightkit.errors import ConfigError, DataError, did_you_mean, require


def check_weights(owner: str, net: str, weights: str | None) -> None:
    """Raise ConfigError unless `weights` is None, a file, or a name of weights that the model has.

    Args:
        owner: whose arguments these are, for the error.
        net: name of a model of torchvision.
        weights: what was asked for.
    """
    if weights is None:
        return
    models = require("torchvision.models", "vision", needed_by=f"{owner}(net={net!r})")
    if net not in models.list_models():
        raise ConfigError(f"{owner}(net={net!r}, weights={weights!r}): only torchvision's models have weights")
    names = list(models.get_model_weights(net).__members__)
    if weights not in names and not _is_file(weights):
        raise ConfigError(
            f"{owner}(net={net!r}, weights={weights!r}): expected one of {', '.join(names)}, or a file .pth"
            f"{did_you_mean(weights, names)}"
        )


def copy_pretrained(model: nn.Module, owner: str, net: str, weights: str) -> None:
    """Copy into `model` all pretrained weights that have their size there; the layers for the classes do not.

    Args:
        model: a model of torchvision called `net`, made for any number of classes.
        owner: whose arguments these are, for errors.
        net: name of the model.
        weights: name of the weights, downloaded where torch's cache has not got them, or a file.

    Raises:
        DataError: the weights cannot be downloaded, says which file to put where; or the file is not of such
            a model.
    """
    call = f"{owner}(net={net!r}, weights={weights!r})"
    state = _read(weights, call) if _is_file(weights) else _fetch(net, weights, call)
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    # counters of batch norm are in every model; a share below half is another model's file
    if len(fitting) < len(own) / 2:
        raise DataError(
            f"{call}: only {len(fitting)} of the model's {len(own)} tensors are there in this size; "
            f"these are not weights of {net}"
        )
    model.load_state_dict(fitting, strict=False)


def _is_file(weights: str) -> bool:
    return Path(weights).suffix in (".pth", ".pt", ".ckpt") or Path(weights).is_file()


def _read(path: str, call: str) -> dict[str, Tensor]:
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the broken file leads to
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{call}: {path} cannot be read as weights saved by torch ({reason})") from None
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{call}: {path} holds no weights by name (a state_dict)")
    return found


def _fetch(net: str, weights: str, call: str) -> dict[str, Tensor]:
    models = require("torchvision.models", "vision", needed_by=call)
    entry = models.get_model_weights(net)[weights]
    try:
        state: dict[str, Tensor] = entry.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise DataError(
            f"{call}: {entry.url} cannot be downloaded ({error}); put the file into {folder}, or set weights "
            "to its path, or to null"
        ) from None
    return state


def average_faster(model: nn.Module, momentum: float = 0.1) -> None:
    """Give every batch norm PyTorch's own momentum, so that its averages follow a training of some hundred steps.

    torchvision's MobileNets come with 0.01: what evaluation uses would still be half its initial value after
    70 steps.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
