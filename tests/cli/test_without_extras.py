"""A command line works in an installation that does without the packages of extras."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["tqdm", "wandb", "mlflow", "torchmetrics", "matplotlib", "psutil"])
def test_the_classes_that_a_config_may_name_are_found_without(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from lightkit.cli.classes import bases_of; print(*bases_of())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("model data optimizer lr_scheduler\n", 0), done.stderr
