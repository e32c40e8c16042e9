"""What in a folder is data, and what desktops, archives and notebooks left there."""

from __future__ import annotations

from pathlib import Path

_LEFT_BEHIND = ("__macosx", "__pycache__", "thumbs.db", "desktop.ini", "$recycle.bin")


def is_left_behind(name: str) -> bool:
    """Whether a file or folder of this name is no data: `.ipynb_checkpoints`, `._cat.jpg`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.casefold() in _LEFT_BEHIND


def entries(folder: Path) -> list[Path]:
    """Return the files and folders in a folder that may be data, by their names: each disk has an order of its own."""
    return sorted(path for path in folder.iterdir() if not is_left_behind(path.name))


def is_data(path: str | Path, root: Path) -> bool:
    """Whether neither a file below `root` nor a folder on the way there was left behind by a program."""
    return not any(map(is_left_behind, Path(path).relative_to(root).parts))
