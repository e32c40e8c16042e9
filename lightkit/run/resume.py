"""Trainer(resume="auto"): which run goes on, from which file, and whether it is finished already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.checkpoint import files
from lightkit.run import marker, saving

if TYPE_CHECKING:
    from lightkit.run.fit import FitRun


def newest(run: FitRun) -> Path | None:
    """The newest whole checkpoint of this run that training can go on from; None: begin anew.

    This run is the one in `Trainer(run_dir=...)`, else the newest fit of its name; with it come the folders that
    callbacks were given.
    """
    folders = saving.own_folders(run)
    if run.directory.explicit is not None:
        folders += saving.folders_below(run, run.directory.explicit / "checkpoints")
    else:
        fits = (d for d in marker.versions(run.directory.parent(run.name)) if marker.is_of_fit(d))
        folders += [folder for d in list(fits)[:1] for folder in saving.folders_below(run, d / "checkpoints")]
    return files.newest_whole(folders, is_wanted=saving.can_train)


def has_ended(run: FitRun) -> bool:
    """Whether the run directory says that the fit came to its end, and nothing asks for more now."""
    end = run.directory.end_of_fit()
    counts = (end.get("epoch"), run.controls.max_epochs), (end.get("global_step"), run.controls.max_steps)
    is_enough = any(isinstance(count, int) and most is not None and 0 <= most <= count for count, most in counts)
    return bool(end) and (is_enough or end.get("limits") == limits(run))


def end_of(run: FitRun) -> dict[str, Any]:
    """Where a fit came to its end, as the run directory keeps it."""
    p = run.position.counters
    return {"epoch": p.epoch, "global_step": p.global_step, "limits": limits(run)}


def limits(run: FitRun) -> dict[str, Any]:
    """What ends the training beside the callbacks."""
    max_time = run.settings.max_time
    found = {"max_epochs": run.controls.max_epochs, "max_steps": run.controls.max_steps}
    return {**found, "max_time": None if max_time is None else str(max_time)}
