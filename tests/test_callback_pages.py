"""The pages on callbacks: their blocks run from top to bottom, with warnings as errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "LIGHTKIT_PROGRESS": "off"}
# name: how many blocks
PAGES = {
    "callbacks": 2,
    "model_summary": 2,
    "monitors": 3,
    "predictions": 2,
    "progress": 3,
    "pruning": 1,
    "weight_averaging": 2,
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs_from_top_to_bottom(name: str, repository: Path, tmp_path: Path) -> None:
    text = (repository / "docs" / "guide" / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == PAGES[name]
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    command = [sys.executable, "-W", "error", "page.py"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
