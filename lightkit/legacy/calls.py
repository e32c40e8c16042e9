"""Earlier names in the calls of the Trainer, and what it once told of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING

from lightkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

# by call: what the loaders were called, and are
_LOADERS = {
    "fit": {"train_dataloader": "train_dataloaders", "val_dataloader": "val_dataloaders"},
    "validate": {"val_dataloaders": "dataloaders", "val_dataloader": "dataloaders"},
    "test": {"test_dataloaders": "dataloaders", "test_dataloader": "dataloaders"},
    "predict": {"predict_dataloaders": "dataloaders"},
}


def loaders(fn: str, earlier: Mapping[str, object], given: Mapping[str, object]) -> list[object]:
    """The loaders of a call, those under an earlier name among them, in the order of `given`.

    Raises:
        ConfigError: a name that no call has, or the same loaders twice.
    """
    found = dict(given)
    for name, value in earlier.items():
        now = _LOADERS[fn].get(name)
        if now is None:
            hint = did_you_mean(name, [*given, "model", "datamodule", "ckpt_path", "weights_only"])
            raise ConfigError(f"trainer.{fn}({name}=...): no such argument{hint}")
        if found[now] is not None:
            raise ConfigError(f"trainer.{fn}({name}=..., {now}=...): they are the same; leave the first out")
        found[now] = value
    return list(found.values())


def _on_gpu(trainer: Trainer) -> bool:
    return trainer.strategy.root_device.type == "cuda"


def _is_several(trainer: Trainer) -> bool:
    return trainer.world_size > 1


def _is_mixed(trainer: Trainer) -> bool:
    return trainer.precision.name.endswith("-mixed")


def _count(trainer: Trainer) -> int:
    return trainer.num_devices if _on_gpu(trainer) else 0


_NEVER = ("use_dp", "use_ddp2", "use_tpu", "on_tpu", "use_horovod")
_FLAGS: dict[str, Callable[[Trainer], object]] = {
    **dict.fromkeys(_NEVER, lambda trainer: False),
    "use_ddp": _is_several, "use_single_gpu": _on_gpu, "on_gpu": _on_gpu,
    "use_amp": _is_mixed, "use_native_amp": _is_mixed, "num_gpus": _count, "gpus": _count,
    "root_gpu": lambda trainer: (trainer.strategy.root_device.index or 0) if _on_gpu(trainer) else None,
    "proc_rank": attrgetter("global_rank"), "get_model": lambda trainer: lambda: trainer.lightning_module,
    "weights_save_path": attrgetter("default_root_dir"), "default_save_path": attrgetter("default_root_dir"),
    "max_nb_epochs": attrgetter("max_epochs"), "row_log_interval": attrgetter("log_every_n_steps"),
}  # fmt: skip


def attribute(trainer: Trainer, name: str) -> object:
    """What the Trainer once had under this name. Raises AttributeError for every other."""
    if hasattr(type(trainer), name):  # a property has failed: its own error is the one to read
        return object.__getattribute__(trainer, name)
    if name not in _FLAGS:
        raise AttributeError(f"'Trainer' object has no attribute {name!r}{did_you_mean(name, dir(type(trainer)))}")
    return _FLAGS[name](trainer)
