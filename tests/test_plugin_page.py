"""What the page on plugins shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_the_page_on_plugins_runs_from_top_to_bottom(repository: Path, tmp_path: Path) -> None:
    text = (repository / "docs" / "guide" / "plugins.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(found) == 3
    (tmp_path / "page.py").write_text("\n".join(found), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LIGHTKIT_PROGRESS": "off"}
    command = [sys.executable, "-W", "error", "page.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "boring.pickle").is_file()
