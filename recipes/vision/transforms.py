"""Transforms of `torchvision.transforms.v2` written as plain YAML: a list of names with their arguments.

    transforms:
      - RandomResizedCrop: {size: 64, scale: [0.5, 1.0]}
      - RandomHorizontalFlip
      - ColorJitter: {brightness: 0.3, contrast: 0.3}

Each image of the training set goes through them by itself (on a whole batch they would make the same random
change to every image), as uint8, together with its mask or boxes where it has some. torchvision draws from
torch's default generator, so that seeding and resuming cover it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from lightkit.errors import ConfigError, did_you_mean, require

# whole batches: `mix` does these
_BATCHED = ("MixUp", "CutMix")


def build_transforms(spec: Sequence[Any], owner: str) -> Callable[..., Any]:
    """Build the transforms of a list, one after the other.

    Args:
        spec: names, or dicts of one name and its arguments.
        owner: whose argument this is, for errors.

    Raises:
        ConfigError: an unknown name or wrong arguments; says which entry, and the nearest name.
    """
    v2 = require("torchvision.transforms.v2", "vision", needed_by=f"{owner}(transforms=...)")
    known = {
        name: cls
        for name, cls in vars(v2).items()
        if inspect.isclass(cls) and issubclass(cls, v2.Transform) and name != "Transform"
    }
    return v2.Compose([_build(entry, known, f"{owner}(transforms=...)[{i}]") for i, entry in enumerate(spec)])


def _build(entry: Any, known: dict[str, Any], where: str) -> Any:
    name: Any
    arguments: Any = {}
    if isinstance(entry, str):
        name = entry
    elif isinstance(entry, dict) and len(entry) == 1:
        ((name, given),) = entry.items()
        arguments = {} if given is None else given
    else:
        raise ConfigError(f"{where}: expected a name, or one name with its arguments, got {entry!r}")
    if name in _BATCHED:
        raise ConfigError(f"{where}: {name} needs whole batches; set data.mix.{name.lower()} instead")
    if name not in known:
        raise ConfigError(f"{where}: torchvision.transforms.v2 has no {name!r}{did_you_mean(name, known)}")
    if not isinstance(arguments, dict):
        raise ConfigError(f"{where}: the arguments of {name} must be given by name, got {arguments!r}")
    try:
        return known[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {name}({arguments}) cannot be built: {error}") from None
