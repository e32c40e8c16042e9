"""`lightkit validate CONFIG`: the validation loop once."""

from __future__ import annotations

from lightkit.cli.job import Job, prepare_job


def prepare(arguments: list[str]) -> Job:
    """Build the job from CONFIG and options."""
    return prepare_job("validate", arguments)


def run(job: Job) -> None:
    """Validate with the weights as built, or with those of `ckpt_path`."""
    verbose = bool(job.values.get("verbose", True))
    job.trainer.validate(job.model, ckpt_path=job.ckpt_path, verbose=verbose, datamodule=job.data)
