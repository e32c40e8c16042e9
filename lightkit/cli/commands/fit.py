"""`lightkit fit CONFIG`: train, and with `--test` test the best checkpoint afterwards."""

from __future__ import annotations

from lightkit.cli.job import Job, prepare_job
from lightkit.cli.summary import print_summary


def prepare(arguments: list[str]) -> Job:
    """Build the job from CONFIG and options."""
    return prepare_job("fit", arguments)


def run(job: Job) -> None:
    """Train; then say where everything is."""
    job.trainer.fit(job.model, datamodule=job.data, ckpt_path=job.ckpt_path)
    metrics = {}
    if job.values.get("test"):
        # without arguments the trainer tests what it just fitted, its best checkpoint where one was monitored
        for found in job.trainer.test(datamodule=job.data):
            metrics.update(found)
    print_summary(job.trainer, metrics)
