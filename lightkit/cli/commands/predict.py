"""`lightkit predict CONFIG`: predict, and keep the outputs in the run directory.

`lightkit predict --ckpt_path FILE --text "..."` (or --audio, --image) prints labels, from the checkpoint alone.
"""

from __future__ import annotations

from pathlib import Path

from lightkit.cli.job import Job, prepare_job
from lightkit.cli.raw_input import RawJob, is_raw, prepare_raw, run_raw
from lightkit.errors import RunDirError


def prepare(arguments: list[str]) -> Job | RawJob:
    """Build the job from CONFIG and options, or load the module that is to see raw input."""
    return prepare_raw(arguments) if is_raw(arguments) else prepare_job("predict", arguments)


def run(job: Job | RawJob) -> None:
    """Predict; the list of what predict_step returned for each batch is saved as `predictions.pt`."""
    if isinstance(job, RawJob):
        run_raw(job)
        return
    keep = bool(job.values.get("return_predictions", True))
    predictions = job.trainer.predict(job.model, datamodule=job.data, return_predictions=keep, ckpt_path=job.ckpt_path)
    if not keep or predictions is None or not job.trainer.is_global_zero:
        return
    import torch

    path = Path(job.trainer.run_dir) / "predictions.pt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(predictions, path)
    except OSError as error:
        raise RunDirError(f"{path}: the predictions cannot be written: {error}") from error
    print(f"predictions: {path}")
