"""What a run puts into a checkpoint, which file a `ckpt_path` means, and how a fit takes it back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit import hparams
from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.checkpoint import contents, files
from lightkit.checkpoint.places import place
from lightkit.checkpoint.torch_states import check_optimizer, check_scheduler
from lightkit.contracts import Stateful
from lightkit.devices.kernels import load_optimizer_state
from lightkit.errors import CheckpointError, ConfigError
from lightkit.hooks import method_of
from lightkit.hparams.keeping import leave_out_added
from lightkit.loops.saved_form import check_generators
from lightkit.module import LightModule
from lightkit.run import marker
from lightkit.seeding import Snapshot

if TYPE_CHECKING:
    from lightkit.run.base import Run

# what a fit takes back once its optimizers are made, in this order
_RESUMED = ("optimizer_groups", "optimizer_states", "lr_schedulers", "precision", "loggers", "loop")


def parts_of(run: Run) -> dict[str, Stateful]:
    """What training is resumed from, by its key in a checkpoint."""
    found = run.optimization
    return {
        "optimizer_states": contents.Each(found.optimizers, "optimizers", load_optimizer_state, check_optimizer),
        "optimizer_groups": contents.ParameterGroups(found.optimizers, run.module),
        "lr_schedulers": contents.Each(
            [config.scheduler for config in found.schedulers], "schedulers", check=check_scheduler
        ),
        "callbacks": contents.ByKey(_by_key(run.callbacks)),
        "precision": run.precision,
        "loop": run.position,
        "loggers": run.trainer._records.parts() if run.loggers else contents.Each([]),
    }


def gather(run: Run, rng: Snapshot | None, *, weights_only: bool) -> dict[str, Any]:
    """Everything a run can be resumed from (`files.save` makes it plain); or the weights and hyperparameters alone."""
    module, datamodule, counters = run.module, run.datamodule, run.position.counters
    checkpoint: dict[str, Any] = {
        "lightkit_version": run.trainer.version, "lightkit_format": contents.FORMAT,
        "epoch": counters.epoch, "global_step": counters.global_step, "state_dict": module.state_dict(),
        "class_path": f"{type(module).__module__}.{type(module).__qualname__}",
    }  # fmt: skip
    checkpoint |= hparams.stored(hparams.of(module))
    if datamodule is not None:
        checkpoint |= hparams.stored(hparams.of(datamodule), prefix="datamodule_")
    known = set(checkpoint.get("hyper_parameters", ()))
    if not weights_only:
        run.position.attach(module, run.board, run.device)
        checkpoint.update(contents.gather(parts_of(run)))
        checkpoint["rng"] = (Snapshot() if rng is None else rng).plain()
        if datamodule is not None and (state := datamodule.state_dict()):
            checkpoint[type(datamodule).__qualname__] = state
        for callback in run.callbacks:
            method_of(callback, Callback, "on_save_checkpoint")(run.trainer, module, checkpoint)
    method_of(module, LightModule, "on_save_checkpoint")(checkpoint)
    leave_out_added(checkpoint, known)
    return checkpoint


def note_of(run: Run) -> dict[str, Any]:
    """What a file says beside its content: by whom it was saved, for the callbacks that save."""
    saving = {key: c for key, c in _by_key(run.callbacks).items() if isinstance(c, Checkpoint)}
    claims = {key: c.claim(run.position.counters.global_step) for key, c in saving.items()}
    return {"saved_by": {key: claim for key, claim in claims.items() if claim is not None}}


def show(run: Run, checkpoint: dict[str, Any]) -> None:
    """Let the module see the checkpoint before anybody takes from it."""
    method_of(run.module, LightModule, "on_load_checkpoint")(checkpoint)


def give_weights(run: Run, checkpoint: dict[str, Any], where: str) -> None:
    """Give the module its weights."""
    run.module._load_weights(checkpoint.get("state_dict", checkpoint), where)


def give_callbacks(run: Run, checkpoint: dict[str, Any], where: str) -> None:
    """Give callbacks and the data module their states, before the module gets its weights."""
    with contents.naming(where):
        for callback in run.callbacks:
            method_of(callback, Callback, "on_load_checkpoint")(run.trainer, run.module, checkpoint)
    contents.give({"callbacks": parts_of(run)["callbacks"]}, {"callbacks": {}, **checkpoint}, where)
    datamodule = run.datamodule
    if datamodule is not None and (state := checkpoint.get(type(datamodule).__qualname__)):
        datamodule.load_state_dict(state)


def give_training(run: Run, checkpoint: Mapping[str, Any], where: str) -> None:
    """Give optimizers, schedulers, scaler, loggers and the loop what they had.

    Raises:
        CheckpointError: the checkpoint holds weights alone, or other optimizers than the module configures.
    """
    if not contents.can_train(checkpoint):
        raise CheckpointError(
            f"{where}: holds weights alone, training cannot go on from it; load them with "
            f"{type(run.module).__name__}.load_from_checkpoint and fit without ckpt_path"
        )
    parts = parts_of(run)
    contents.give({key: parts[key] for key in _RESUMED}, {"optimizer_groups": [], **checkpoint}, where)
    with contents.naming(where):
        check_generators(checkpoint.get("rng"), "rng")
    run.position.resume_with(checkpoint["rng"])


def _by_key(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Callbacks by their state key; the second of the same key is `key#2`, so that none takes another's state."""
    seen: dict[str, int] = {}
    found: dict[str, Callback] = {}
    for callback in callbacks:
        key = callback.state_key
        seen[key] = seen.get(key, 0) + 1
        found[key if seen[key] == 1 else f"{key}#{seen[key]}"] = callback
    return found


# ------------------------------------------------------------ which file is meant


def resolve(run: Run, ckpt_path: str | Path | None, saved_by: Sequence[Callback]) -> Path | None:
    """The file that a path, "best" or "last" means; None where nothing is to be loaded.

    saved_by: the callbacks that know which checkpoint is the best.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "best":
        best, _ = best_of(saved_by)
        if not best:
            raise ConfigError(
                f"trainer.{run.fn}(ckpt_path='best'): this Trainer has saved no checkpoint; fit first, or give a path"
            )
        return place(best)
    if ckpt_path == "last":
        path = _last(run, must_train=run.fn == "fit")
        if path is None:
            warnings.warn(
                f"trainer.{run.fn}(ckpt_path='last'): there is no checkpoint yet, nothing is loaded", stacklevel=2
            )
        return path
    return place(ckpt_path)


def best_of(callbacks: Sequence[Callback]) -> tuple[str, str | None]:
    """The best checkpoint of the first callback that saves, "" where there is none; and the metric it watches."""
    for callback in callbacks:
        if isinstance(callback, Checkpoint) and callback.ranks:
            return callback.best_model_path, callback.monitor
    return "", None


def for_fit(run: Run, ckpt_path: str | Path | None, *, is_found: bool = False) -> tuple[dict[str, Any] | None, str]:
    """The checkpoint to go on from and its path, None where training begins; its run goes on in its own directory.

    is_found: the run has found the file by itself, as it does for "best" and "last".
    """
    is_named = not is_found and str(ckpt_path) not in ("best", "last")
    path = resolve(run, ckpt_path, run.callbacks)
    if path is None:
        return None, ""
    checkpoint = run.writer.load(path)
    if contents.is_lightnings(checkpoint) and contents.can_train(checkpoint):
        from lightkit.run.lightning_file import converted

        checkpoint = converted(checkpoint, str(path), _by_key(run.callbacks).keys())
    run.directory.adopt(path)
    said = files.saved_by(path) or {}
    for key, callback in _by_key(run.callbacks).items():
        if isinstance(callback, Checkpoint):
            claim = said.get(key)
            callback.take_up(path, claim if isinstance(claim, dict) else None, is_named=is_named)
    return checkpoint, str(path)


def _last(run: Run, *, must_train: bool) -> Path | None:
    """The newest whole checkpoint in this Trainer's folders, else in those of the newest run that has one.

    must_train: one that training can go on from; files of weights alone are passed over.
    """
    is_wanted = can_train if must_train else None
    own, runs, home = own_folders(run), list[Path](), run.directory
    saving = [c.dirpath for c in run.callbacks if isinstance(c, Checkpoint)]
    if home.explicit is not None:
        own += folders_below(run, home.explicit / "checkpoints")
    elif not saving or None in saving:  # one without a folder saves in the run directory
        runs = [d / "checkpoints" for d in marker.versions(home.parent(run.name))]
    found = ((d, files.newest_whole(folders_below(run, d), is_wanted=is_wanted)) for d in runs)
    of_newest_run = next((d for d, path in found if path is not None), None)
    own += folders_below(run, of_newest_run) if of_newest_run else []
    return files.newest_whole(own, is_wanted=is_wanted)


def own_folders(run: Run) -> list[Path]:
    """The folders that callbacks were given, with the sub-folders that their files may be in."""
    saving = [c for c in run.callbacks if isinstance(c, Checkpoint)]
    return [folder for c in saving if c.dirpath for folder in c.folders_in(place(c.dirpath))]


def folders_below(run: Run, root: Path) -> list[Path]:
    """The folders that the callbacks' files may be in where they save in `root`."""
    saving = [c for c in run.callbacks if isinstance(c, Checkpoint)]
    return list(dict.fromkeys(folder for c in saving for folder in c.folders_in(root))) or [root]


def can_train(path: Path) -> bool:
    """Whether a file holds more than weights; only its table of contents is read."""
    try:
        content = files.outline(path)
    except Exception:  # torch's readers raise nearly everything for files that are not theirs
        return False
    return isinstance(content, dict) and contents.can_train(content)
