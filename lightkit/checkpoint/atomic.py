"""Files that are the whole new one, or after any failure the whole old one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from lightkit.checkpoint import places
from lightkit.errors import RunDirError

_TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.[0-9a-f]{8}\.tmp")  # as `replace` names it: target, process, random


def copy(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Make the file at `path` a copy of another one, as safely as `replace`."""

    def fill(file: BinaryIO) -> None:
        with places.local_copy(places.place(source)) as local, open(local, "rb") as original:
            shutil.copyfileobj(original, file, 1 << 20)

    replace(places.place(path), fill)


def replace(target: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Let `fill` write to a temporary file, and put that in the place of `target` when it is whole and on the disk.

    In a store `target` is the whole upload, or what was there.
    """
    try:
        if (there := places.remote(target)) is None:
            _replace(target, fill)
        else:
            there.write_with(fill)
    except BaseException as error:
        causes = [error]  # torch's zip writer hides a Ctrl-C and the system's errors behind a RuntimeError of its own
        while (hidden := causes[-1].__context__) is not None:
            causes.append(hidden)
        for cause in causes:
            if not isinstance(cause, Exception):
                raise cause from None
        for cause in causes:
            if isinstance(cause, OSError):
                raise RunDirError(_cannot_write(target, cause)) from error
        raise


def _replace(target: Path, fill: Callable[[BinaryIO], object]) -> None:
    temporary = temporary_name(target)
    _under_way.add(temporary)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "x+b") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
        _sweep(target)
    except BaseException:  # also KeyboardInterrupt: leave nothing behind
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        _under_way.discard(temporary)


def replace_all(files: Mapping[Path, Path]) -> None:
    """Let finished files of this machine (the values) take these places: all of them, or after any failure none.

    The last one names the others, where any does: it is moved when they are there. A file that was in a place is back
    after a failure.
    """
    *before, last = files
    staged: dict[Path, Path] = {}
    aside: dict[Path, Path | None] = {}
    kept: set[Path] = set()  # the only copies of what was there
    try:
        for target, local in files.items():
            staged[target] = temporary_name(target)
            _under_way.add(staged[target])
            _stage(local, staged[target])
        for target in before:
            aside[target] = _put_aside(target)
            staged[target].replace(target)
        staged[last].replace(last)
    except BaseException as error:
        for target, old in aside.items():
            try:
                target.unlink(missing_ok=True) if old is None else old.replace(target)
            except OSError:
                if old is not None:
                    kept.add(old)
                    error.add_note(f"what was in {target} is in {old}")
        if isinstance(error, OSError) and not isinstance(error, RunDirError):
            raise RunDirError(_cannot_write(last, error)) from error
        raise
    finally:
        for left in (*staged.values(), *filter(None, aside.values())):
            _under_way.discard(left)
            if left not in kept:
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)
    if places.remote(last) is None:
        _sync_folder(last.parent)


def _stage(local: Path, temporary: Path) -> None:
    if (there := places.remote(temporary)) is not None:
        there.put(local)
        return
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with open(local, "rb") as source, open(temporary, "xb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _put_aside(target: Path) -> Path | None:
    """Another name for what is there, None where there is nothing; on a disk it also keeps its own."""
    if not target.exists():
        return None
    old = target.with_name(f".{target.name}.{os.urandom(4).hex()}.before")  # which `sweep` does not take for its own
    if places.remote(target) is not None:
        return target.replace(old)
    try:
        os.link(target, old)
    except OSError:  # a file system without links
        try:
            shutil.copyfile(target, old)
        except BaseException:
            old.unlink(missing_ok=True)
            raise
    return old


def temporary_name(target: Path) -> Path:
    """A name for what will be moved to `target`; `sweep` knows it as left behind where its process has ended."""
    # in the same folder: a rename is atomic only within one file system. os.urandom: no generator moves.
    return target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def sweep(folder: Path) -> None:
    """Remove what processes that were killed while they wrote a file in this folder have left of it."""
    if places.remote(folder) is not None:  # whose processes may be another machine's
        return
    _leftovers.pop(folder, None)
    with contextlib.suppress(OSError):
        for match in filter(None, map(_TEMPORARY.fullmatch, os.listdir(folder))):
            _remove_leftover(folder / match[0], int(match[2]))


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, on systems that can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_under_way: set[Path] = set()  # temporary files of this process
# by folder and by the name of the file that was to be written: file, process
_leftovers: dict[Path, dict[str, list[tuple[Path, int]]]] = {}


def _sweep(target: Path) -> None:
    """Remove what processes that were killed while they wrote this file have left of it.

    A folder is listed once: at every save, each file that is kept would make the next save dearer.
    """
    folder = target.parent
    if folder not in _leftovers:
        found: dict[str, list[tuple[Path, int]]] = {}
        for match in filter(None, map(_TEMPORARY.fullmatch, os.listdir(folder))):
            found.setdefault(match[1], []).append((folder / match[0], int(match[2])))
        _leftovers[folder] = found
    for path, process in _leftovers[folder].pop(target.name, []):
        _remove_leftover(path, process)


def _remove_leftover(path: Path, process: int) -> None:
    # a killed process may have had this one's number, as the first one in a container always has
    if path not in _under_way and (process == os.getpid() or not _is_alive(process)):
        with contextlib.suppress(OSError):
            path.unlink()


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # asking there would end the process
        return True
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _cannot_write(path: Path, error: OSError) -> str:
    reason, kept = error.strerror or str(error) or type(error).__name__, ""
    with contextlib.suppress(OSError):
        kept = "; the file that was there is unchanged" if path.is_file() else ""
    advice = "choose a folder that can be written, with Trainer(default_root_dir=...) or dirpath=..."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with contextlib.suppress(OSError):  # as of a store's path
            reason += f", {size_text(shutil.disk_usage(path.parent).free)} are free"
        advice = "make room, keep fewer checkpoints (save_top_k) or set Trainer(default_root_dir=...)"
    what = "the checkpoint " if path.suffix in (".ckpt", ".pt", ".pth") else ""
    return f"cannot write {what}{path}: {reason}{kept}; {advice}"


def size_text(count: int) -> str:
    """Name a number of bytes: `12 bytes`, `3.4 MB`."""
    if count < 1000:
        return f"{count} bytes"
    size, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if size >= 1000:
            size, unit = size / 1000, larger
    return f"{size:.1f} {unit}"
