"""One program with a Trainer, lightkit's or Lightning's, and all that is to be seen of it written down."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import tempfile
import warnings
from types import ModuleType
from typing import Any

import torch

from benchmarks.parity import plain
from benchmarks.parity.programs import EPOCHS, Program, programs

PACKAGES = {"lightkit": "lightkit", "Lightning": "lightning.pytorch"}

_PASS = [f"on_{name}_{when}" for name in ("sanity_check",) for when in ("start", "end")]
_BOTH = [
    "setup", "teardown", "on_fit_start", "on_fit_end", "on_train_start", "on_train_end", "on_train_epoch_start",
    "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_end",
    "on_validation_epoch_start", "on_validation_epoch_end", "on_validation_batch_start", "on_validation_batch_end",
    "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad",
]  # fmt: skip
_MODULES = [
    *_BOTH, "prepare_data", "configure_model", "configure_callbacks", "configure_optimizers", "training_step",
    "validation_step", "on_validation_model_eval", "on_validation_model_train", "on_before_batch_transfer",
    "on_after_batch_transfer", "train_dataloader", "val_dataloader",
]  # fmt: skip


def _recording(kind: type, owner: str, names: list[str], calls: list[str]) -> type:
    """A subclass whose hooks write themselves down."""

    def wrap(name: str) -> Any:
        original = getattr(kind, name)

        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(f"{owner}.{name}")
            return original(self, *args, **kwargs)

        hook.__name__ = name  # functools.wraps would hide it: Lightning looks through it for an override
        return hook

    return type(kind.__name__, (kind,), {name: wrap(name) for name in names if hasattr(kind, name)})


def _logger(pl: ModuleType, records: list[tuple[dict[str, float], int | None]]) -> Any:
    class Records(pl.loggers.Logger):  # type: ignore[misc,name-defined]
        """Keeps what is written."""

        name, version = "records", 0

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            records.append(({key: float(value) for key, value in metrics.items()}, step))

        def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
            pass

    return Records()


def _with_loaders(kind: type, train: Any, val: Any) -> type:
    """A subclass with the loaders as its hooks."""

    def train_dataloader(self: Any) -> Any:
        return train

    def val_dataloader(self: Any) -> Any:
        return val

    return type(kind.__name__, (kind,), {"train_dataloader": train_dataloader, "val_dataloader": val_dataloader})


def run(engine: str, name: str, form: str) -> dict[str, Any]:
    """Train one program; returns weights, losses, calls, records and the last metrics."""
    if engine == "plain":
        torch.manual_seed(0)
        return plain.run(programs(plain.NAMES)[name], form)
    pl = importlib.import_module(PACKAGES[engine])
    torch.manual_seed(0)
    program: Program = programs(pl)[name]
    calls: list[str] = []
    records: list[tuple[dict[str, float], int | None]] = []
    train, val = program.data(form)
    module: Any = _recording(_with_loaders(program.module, train, val), "M", _MODULES, calls)()  # type: ignore[arg-type]
    callback = _recording(pl.Callback, "C", [*_BOTH, *_PASS], calls)()
    options: dict[str, Any] = {"max_epochs": EPOCHS, "log_every_n_steps": 1, **program.trainer}
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, default_root_dir=folder, logger=_logger(pl, records),
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[callback, *program.callbacks()], **options,
        )  # fmt: skip
        trainer.fit(module)
    return {
        "weights": {key: value.clone() for key, value in module.state_dict().items()}, "losses": module.losses,
        "calls": calls, "records": records, "epoch": trainer.current_epoch, "step": trainer.global_step,
        "metrics": {key: float(value) for key, value in trainer.callback_metrics.items()},
    }  # fmt: skip


def main(engine: str, path: str, only: list[str]) -> None:
    """Run all programs in both forms in this process; what is found goes into a file."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found: dict[tuple[str, str], Any] = {}
    names = only or list(programs(plain.NAMES))
    with open(os.devnull, "w", encoding="utf-8") as null, contextlib.redirect_stdout(null):
        for name in names:
            for form in ("a", "b"):
                try:
                    found[name, form] = run(engine, name, form)
                except Exception as error:  # the other programs go on
                    found[name, form] = f"{type(error).__name__}: {error}"
    torch.save(found, path)
