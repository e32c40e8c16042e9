"""Training and evaluation mode of a module's parts: noted, switched, put back."""

from __future__ import annotations

from torch import nn

Modes = list[tuple[nn.Module, bool]]


def modes_of(module: nn.Module) -> Modes:
    """Each part of the module, itself included, with its mode (True: training)."""
    return [(part, part.training) for part in module.modules()]


def switch_to_eval(module: nn.Module, modes: Modes) -> None:
    """As `module.eval()`; without going through every part's methods (4 microseconds each) where none has its own."""
    if "eval" not in vars(module) and all(
        _is_plain(part) and type(part).train is nn.Module.train and "train" not in vars(part) for part, _ in modes
    ):
        for part, _ in modes:
            vars(part)["training"] = False
    else:
        module.eval()


def put_back(modes: Modes) -> None:
    """Give each part the mode that was noted."""
    for part, mode in modes:
        if _is_plain(part):
            vars(part)["training"] = mode
        else:
            part.training = mode


def _is_plain(part: nn.Module) -> bool:
    """Whether `training` is an ordinary attribute of the part; a scripted module keeps it elsewhere."""
    kind = type(part)
    return kind.__setattr__ is nn.Module.__setattr__ and kind.eval is nn.Module.eval and "training" in vars(part)
