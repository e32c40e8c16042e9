"""`lightkit test CONFIG`: the test loop once."""

from __future__ import annotations

from lightkit.cli.job import Job, prepare_job
from lightkit.cli.summary import print_summary


def prepare(arguments: list[str]) -> Job:
    """Build the job from CONFIG and options."""
    return prepare_job("test", arguments)


def run(job: Job) -> None:
    """Test with the weights as built, or with those of `ckpt_path`."""
    verbose = bool(job.values.get("verbose", True))
    job.trainer.test(job.model, ckpt_path=job.ckpt_path, verbose=verbose, datamodule=job.data)
    print_summary(job.trainer, {})
