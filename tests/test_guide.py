"""The blocks of pages of the guide, and of those for who comes from elsewhere, are run from top to bottom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "LIGHTKIT_PROGRESS": "off"}
# by page of docs/: how many blocks it has, and which package they need
PAGES = {
    "guide/tuner.md": (3, "matplotlib"),
    "guide/handlers.md": (1, "torch"),
    "guide/export.md": (2, "onnxscript"), "guide/supervised.md": (3, "torch_geometric"),
    "guide/early_stopping.md": (1, "torch"), "from_pytorch.md": (3, "torch"), "from_keras.md": (1, "torch"),
    "from_ignite.md": (1, "torch"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs_from_top_to_bottom(name: str, repository: Path, tmp_path: Path) -> None:
    count, needs = PAGES[name]
    pytest.importorskip(needs)
    found = re.findall(r"```python\n(.*?)```", (repository / "docs" / name).read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == count
    (tmp_path / "page.py").write_text("\n".join(found), encoding="utf-8")
    # torch_geometric scripts classes when it is imported
    command = [sys.executable, "-W", "error", "-W", "ignore:`torch.jit.script` is deprecated", "page.py"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
