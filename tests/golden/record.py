"""Write the recordings anew: `python -m tests.golden.record [NAME ...]`, from the root of the repository.

The files in recorded/ and checkpoints/ were written at commit a28fbe7, before the redesign, and say what it must keep.
A test that differs from them is not repaired by recording: only where behaviour is changed on purpose is the job
recorded again, and the change log says what changed. `--checkpoints` also writes the checkpoints of the jobs named;
without it the old files stay, so that what was saved once is read for ever.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its pools; the tests run so, too

import torch

from tests.golden import recordings as rec
from tests.golden.jobs import JOBS, checkpoint_of, run_job


def main() -> None:
    """Record the jobs that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(JOBS)}")
    parser.add_argument("--checkpoints", action="store_true", help="write the checkpoints too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    for folder in (rec.RECORDED, rec.CHECKPOINTS):
        folder.mkdir(exist_ok=True)
    rec.MACHINE.write_text(rec.as_text(rec.machine()) + "\n", encoding="utf-8")
    for name in arguments.names or JOBS:
        with tempfile.TemporaryDirectory() as folder:
            found = run_job(name, Path(folder))
            if JOBS[name].old_checkpoint:
                kept = rec.CHECKPOINTS / f"{name}.ckpt"
                if arguments.checkpoints:
                    shutil.copyfile(checkpoint_of(name, Path(folder)), kept)
                found["checkpoint"] = rec.about_checkpoint(kept)
        path = rec.write(name, found)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
