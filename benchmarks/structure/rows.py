"""One figure of the table, and how a tree of sources is asked for it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Row:
    """One figure; `key` names its limit, `places` are what it counts, one line each."""

    key: str
    title: str
    value: float
    text: str = ""  # how it is written, where that is not the number
    places: list[str] = field(default_factory=list)


def sources(root: Path, package: str = "lightkit") -> list[Path]:
    """Every Python file of a package, sorted."""
    return sorted((root / package).rglob("*.py"))


def module_name(root: Path, path: Path) -> str:
    """`lightkit/loops/training.py` -> `lightkit.loops.training`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def lines_of(path: Path) -> int:
    """Lines of a file, blank ones too."""
    return len(path.read_text(encoding="utf-8").splitlines())


def cache_of(root: Path) -> Path:
    """Where mypy keeps what it knows of a tree: this checkout's own place, for another a temporary one."""
    if root == REPOSITORY:
        return root / ".mypy_cache"
    name = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir(), f"lightkit-structure-{name}")


def python(root: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run this Python over the packages of `root`, never those that are installed."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd or root, env=environment)


def mypy(root: Path, *arguments: str, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run mypy with the configuration of `root`.

    Raises:
        RuntimeError: mypy itself failed (what it finds in the code is no failure).
    """
    options = ("--config-file", str(root / "pyproject.toml"), "--cache-dir", str(cache or cache_of(root)))
    done = python(root, "-m", "mypy", *options, "--no-error-summary", "--no-color-output", *arguments)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"mypy {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done
