"""The golden jobs: small deterministic trainings on the CPU, written against the public API alone.

A `Job` is one training. `run_job` runs it through, and, where it says where to stop, once more up to a checkpoint
and once more from there. What comes after a fit (test, validate, predict, another fit) is the job's `after`.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lightkit as lk
from lightkit.callbacks import EMAWeightAveraging
from lightkit.loggers import CSVLogger
from tests.golden import modules as m
from tests.golden import tape

SEED = 7
OTHER_SEED = 99  # a resumed process begins anywhere


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training: what is trained, on which data, how, and what comes after it."""

    module: Callable[[], lk.LightModule]
    data: Callable[[], dict[str, Any]]  # further arguments of fit
    callbacks: Callable[[], list[lk.Callback]] = list
    arguments: dict[str, Any] = field(default_factory=dict)  # of the Trainer
    keyed: bool = True  # seed_everything(workers=True)
    stop_at: int | None = None  # save and stop after this step
    resume_from: str | None = None  # or: a file that the whole run leaves, to go on from
    after: Callable[[Any, Any], Any] | None = None  # (trainer, module) -> what to record
    old_checkpoint: bool = False  # whether checkpoints/ holds the file of the commit before


def _loaders(workers: int = 0, noisy: bool = False, **arguments: Any) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        data = m.Noisy() if noisy else None
        return {
            "train_dataloaders": m.loader(data, shuffle=True, num_workers=workers, **arguments),
            "val_dataloaders": m.loader(m.Noisy(6) if noisy else m.rows(6), num_workers=workers),
        }

    return make


def _workers(workers: int, keyed: bool) -> Job:
    return Job(
        module=lambda: m.ToldNet(dropout=0.3),
        data=_loaders(workers, noisy=True, persistent_workers=workers > 0 and keyed),
        callbacks=lambda: [tape.Teller()],
        arguments={"max_epochs": 2},
        keyed=keyed,
        stop_at=7,
        old_checkpoint=workers == 2 and keyed,
    )


def _test_and_validate(trainer: Any, module: Any) -> Any:
    tested = trainer.test(verbose=False)
    return {"test": tested, "validate": trainer.validate(verbose=False)}


def _test_earlier(trainer: Any, module: Any) -> Any:
    return trainer.test(module, m.loader(), verbose=False)


def _predict(trainer: Any, module: Any) -> Any:
    found = trainer.predict(module, [m.loader(), m.loader(m.rows(6))])
    several = trainer.validate(module, [m.loader(), m.loader(m.rows(6))], verbose=False)
    return {"predict": [[[float(x) for x in batch] for batch in part] for part in found], "validate": several}


def _fit_again(trainer: Any, module: Any) -> Any:
    found = [[trainer.current_epoch, trainer.global_step]]
    trainer.max_epochs = 3
    trainer.fit(module, **_loaders()())
    found.append([trainer.current_epoch, trainer.global_step])
    trainer.fit(module, **_loaders()())  # nothing is left to do
    return {"positions": found, "test": trainer.test(dataloaders=m.loader(), verbose=False)}


def _two_validations() -> dict[str, Any]:
    return {"train_dataloaders": m.loader(shuffle=True), "val_dataloaders": [m.loader(), m.loader(m.rows(6))]}


JOBS: dict[str, Job] = {
    "keyed_workers_0": _workers(0, keyed=True),
    "keyed_workers_2": _workers(2, keyed=True),
    "own_rng_workers_0": _workers(0, keyed=False),
    "own_rng_workers_2": _workers(2, keyed=False),
    "bare_step": Job(
        module=lambda: m.Net(dropout=0.3),
        data=_loaders(),
        callbacks=lambda: [tape.Quiet()],
        arguments={"max_epochs": 3, "max_steps": 12},
        keyed=False,
        stop_at=8,
    ),
    "accumulation": Job(
        module=m.EngineNet,
        data=_loaders(),
        callbacks=lambda: [tape.Teller()],
        arguments={"max_epochs": 2, "accumulate_grad_batches": 3, "gradient_clip_val": 0.5},
        stop_at=3,
        old_checkpoint=True,
    ),
    "gan": Job(
        module=m.Gan,
        data=lambda: {"train_dataloaders": m.loader(shuffle=True)},
        callbacks=lambda: [tape.Teller()],
        arguments={"max_epochs": 2},
        stop_at=14,
        old_checkpoint=True,
    ),
    "lbfgs": Job(
        module=m.LBFGSNet,
        data=_loaders(),
        callbacks=lambda: [tape.Teller()],
        arguments={"max_epochs": 2, "gradient_clip_val": 1.0},
        stop_at=6,
        old_checkpoint=True,
    ),
    "own_optimizer_step": Job(
        module=m.OwnStepNet,
        data=_loaders(),
        callbacks=lambda: [tape.Teller()],
        arguments={"max_epochs": 2, "accumulate_grad_batches": 2, "gradient_clip_val": 0.3,
                   "gradient_clip_algorithm": "value"},
        stop_at=3,
    ),
    "earlier_style": Job(
        module=m.EarlierNet,
        data=_loaders(),
        callbacks=lambda: [tape.Teller()],
        arguments={"max_epochs": 2},
        stop_at=8,
        after=_test_earlier,
        old_checkpoint=True,
    ),
    "iterable": Job(
        module=m.ToldNet,
        data=lambda: {"train_dataloaders": m.loader(m.Stream()), "val_dataloaders": m.loader(m.rows(6))},
        callbacks=lambda: [tape.Teller(), tape.Watcher()],
        arguments={"max_epochs": 2, "accumulate_grad_batches": 2, "val_check_interval": 4},
        stop_at=4,
    ),
    "two_validation_loaders": Job(
        module=m.TwoLoaderNet,
        data=_two_validations,
        callbacks=lambda: [tape.Teller(), tape.Watcher()],
        arguments={"max_epochs": 2, "limit_val_batches": 2},
        stop_at=8,
        after=_predict,
        old_checkpoint=True,
    ),
    "plateau_and_stopping": Job(
        module=lambda: m.PlateauNet(lr=0.15),
        data=lambda: {"datamodule": m.Data()},
        callbacks=lambda: [
            m.ToldStopping("val_loss", patience=2), tape.Teller(), tape.Watcher(), m.ToldSaving(monitor="val_loss"),
        ],
        arguments={"max_epochs": 8},
        after=_test_and_validate,
    ),
    "ema": Job(
        module=m.ToldNet,
        data=_loaders(),
        callbacks=lambda: [EMAWeightAveraging(decay=0.8), tape.Teller()],
        arguments={"max_epochs": 2},
        stop_at=7,
        old_checkpoint=True,
    ),
    "end_of_epoch": Job(
        module=m.PlateauNet,
        data=lambda: {"datamodule": m.Data()},
        callbacks=lambda: [tape.Teller(), tape.Watcher(), m.ToldSaving(save_top_k=-1)],
        arguments={"max_epochs": 3},
        resume_from="run/checkpoints/epoch=0-step=5.ckpt",
        old_checkpoint=True,
    ),
    "saves_in_validation": Job(
        module=m.PlateauNet,
        data=_loaders(),
        callbacks=lambda: [
            tape.Teller(), tape.Watcher(), m.ToldSaving(every_n_train_steps=2, save_top_k=-1, filename="every-{step}"),
            m.ToldSaving(monitor="val_loss", save_top_k=2, save_last=True, filename="best-{epoch}-{step}",
                         every_n_epochs=1),
        ],
        arguments={"max_epochs": 2, "val_check_interval": 0.4, "async_checkpoint": True},
        resume_from="run/checkpoints/last.ckpt",
    ),
    "saves_by_steps": Job(
        module=m.EngineNet,
        data=_loaders(),
        callbacks=lambda: [
            tape.Watcher(), tape.Teller(),
            m.ToldSaving(monitor="val_loss", every_n_train_steps=3, save_top_k=-1, filename="{step}"),
        ],
        arguments={"max_epochs": 3, "val_check_interval": "3step", "check_val_every_n_epoch": None},
        resume_from="run/checkpoints/step=6.ckpt",
    ),
    "module_callbacks": Job(
        module=m.OwnCallbacksNet,
        data=_loaders(),
        callbacks=lambda: [tape.Teller(), m.ToldStopping("nothing"), m.ToldSaving(monitor="nothing")],
        arguments={"max_epochs": 2, "check_val_every_n_epoch": 2},
    ),
    "mixed_16": Job(
        module=m.EngineNet,
        data=_loaders(),
        callbacks=lambda: [tape.Teller()],
        arguments={"max_epochs": 2, "precision": "16-mixed", "gradient_clip_val": 0.5},
        stop_at=7,
        old_checkpoint=True,
    ),
    "fit_again": Job(
        module=m.ToldNet,
        data=_loaders(),
        callbacks=lambda: [tape.Teller(), m.ToldSaving(monitor="val_loss", save_last=True)],
        arguments={"max_epochs": 1},
        after=_fit_again,
    ),
}  # fmt: skip


# ---------------------------------------------------------------------- running


def _trainer(job: Job, root: Path, extra: list[lk.Callback]) -> Any:
    defaults = {
        "accelerator": "cpu", "logger": [tape.TapeLogger(), CSVLogger()], "run_dir": root / "run",
        "default_root_dir": root, "log_every_n_steps": 2, "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    callbacks = [*job.callbacks(), *extra]
    saves = any(isinstance(callback, m.ToldSaving) for callback in callbacks)
    return lk.Trainer(**{**defaults, "callbacks": callbacks, "enable_checkpointing": saves, **job.arguments})


def _fit(
    job: Job, root: Path, trees: dict[str, list[str]], *, stop: bool = False, ckpt_path: Path | None = None
) -> Any:
    """Train once, and return what is on tape."""
    lk.seed_everything(SEED if ckpt_path is None else OTHER_SEED, workers=job.keyed, verbose=False)
    running = tape.start()
    module = job.module()
    trainer = _trainer(job, root, [m.Stop(job.stop_at, str(root / "stopped.ckpt"))] if stop and job.stop_at else [])
    with contextlib.suppress(KeyboardInterrupt) if stop else contextlib.nullcontext():
        trainer.fit(module, **job.data(), ckpt_path=ckpt_path)
    after = None if job.after is None or stop else job.after(trainer, module)
    drawn = [float(torch.rand(())), random.random(), float(np.random.rand())]
    found = tape.recording_of(running, trainer, module, root, trees)
    found["generators"] = drawn  # where the run left them
    return found if after is None else {**found, "after": after}


def run_job(name: str, root: Path) -> dict[str, Any]:
    """Run a job through, up to a stop, and on from there; what is on tape of each, and the trees they refer to."""
    job, trees = JOBS[name], {}
    found: dict[str, Any] = {"trees": trees, "whole": _fit(job, root / "whole", trees)}
    if job.stop_at is not None:
        stopped = _fit(job, root / "stopped", trees, stop=True)
        for part in ("steps", "floats", "metrics", "logged", "csv"):
            stopped.pop(part, None)  # a beginning of the whole run's
        found["stopped"] = {**stopped, "order": stopped["order"][-2:]}
    if job.resume_from is not None and not job.old_checkpoint:
        shutil.copytree(root / "whole", root / "resumed", symlinks=True)
        found["resumed"] = _fit(job, root / "resumed", trees, ckpt_path=root / "resumed" / job.resume_from)
        files = found["whole"]["checkpoints"]
        for path, contents in found["resumed"]["checkpoints"].items():
            if contents == files.get(path):
                found["resumed"]["checkpoints"][path] = "as the whole run left it"
    elif job.stop_at is not None or job.resume_from is not None:
        found["resumed"] = resume(name, checkpoint_of(name, root), root / "resumed", trees)
    return found


def checkpoint_of(name: str, root: Path) -> Path:
    """The file that `run_job` leaves in `root` for the run that goes on from it."""
    resume_from = JOBS[name].resume_from
    return root / "stopped" / "stopped.ckpt" if resume_from is None else root / "whole" / resume_from


def resume(name: str, checkpoint: Path, root: Path, trees: dict[str, list[str]]) -> dict[str, Any]:
    """Go on from a checkpoint in a new place; a file of the run's own ModelCheckpoint is put into its directory."""
    resume_from = JOBS[name].resume_from
    if resume_from is not None:
        place = root / resume_from
        place.parent.mkdir(parents=True)
        checkpoint = Path(shutil.copyfile(checkpoint, place))
    found = _fit(JOBS[name], root, trees, ckpt_path=checkpoint)
    if resume_from is not None:
        del found["checkpoints"][resume_from]  # its own, with the paths of where it was written
    return found
