"""Which files of a folder of checkpoints are a callback's own: files say so themselves.

A file's note (`checkpoint.files.note`) holds for every callback that saves its identity, the number of its last save,
and which files it keeps; for those that saved at that very moment also the names that this save gave out in the
callback's folder. A file counts as a callback's own where it bears one of these names: a copy under another name is the
user's. What a file says is data, and names are only ever taken for files inside the folder.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightkit.callbacks import checkpoint_names as names_of
from lightkit.checkpoint import atomic, files
from lightkit.checkpoint.places import is_inside, place

__all__ = ["Claim", "Folder", "OwnFiles", "read"]

@dataclass(frozen=True)
class Claim:
    """What a file says of one callback: its last save, numbered from 1, and what it keeps, relative to its folder.

    names: those that this save gave out; none in a file that somebody else saved, after that save.
    """

    identity: str
    number: int = 0
    names: tuple[str, ...] = ()
    kept: Mapping[str, int] = field(default_factory=dict)  # each with the number of its save

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Claim:
        """As it stands in a note; what is not of its form is left out."""
        identity, number, names, kept = (said.get(key) for key in ("identity", "number", "names", "kept"))
        return cls(
            identity if isinstance(identity, str) else "",
            number if isinstance(number, int) else 0,
            tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else (),
            {name: n for name, n in kept.items() if isinstance(n, int)} if isinstance(kept, dict) else {},
        )

    def plain(self) -> dict[str, Any]:
        """As it stands in a note."""
        return {"identity": self.identity, "number": self.number, "names": list(self.names), "kept": dict(self.kept)}


def _delete(path: str) -> None:
    place(path).unlink(missing_ok=True)


def read(path: Path, identity: str) -> Claim | None:
    """What a file says of a callback; None where it is not the callback's, or no checkpoint. Reads the note alone."""
    return _claim_of(identity, files.saved_by(path) or {})


def _claim_of(identity: str, said: Mapping[str, Any]) -> Claim | None:
    claims = (Claim.of(claim) for claim in said.values() if isinstance(claim, dict))
    return next((claim for claim in claims if claim.identity == identity), None)


def _names_before_notes(path: Path, key: str) -> list[str]:
    """The names that a file without a note has in its folder, by the state of a callback in it: the newest's then."""
    try:
        state = files.outline(path)["callbacks"][key]
        return [names_of.name_in(state["dirpath"], state[name]) for name in ("newest_file", "last_model_path")]
    except Exception:  # torch's readers raise nearly everything for files that are not theirs
        return []


def _is_torn(path: str) -> bool:
    """Whether it is the beginning of an archive, as no program leaves one on purpose."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04" and not zipfile.is_zipfile(path)
    except OSError:
        return False


class Folder:
    """A folder of checkpoints with sub-folders as deep as the names in it have them."""

    def __init__(self, root: str | Path, depths: Iterable[int], suffix: str):
        self.root, self.depths, self.suffix = place(root), sorted({0, *depths}), suffix

    def folders(self) -> list[Path]:
        """The folders that files may be in, the root first; links to folders elsewhere are none of it."""
        found, level = [self.root], [self.root]
        for depth in range(1, self.depths[-1] + 1):
            level = [entry for folder in level for entry in _folders_in(folder)]
            found += level if depth in self.depths else []
        return found

    def own(self, identity: str) -> dict[str, Claim]:
        """The files that this callback wrote, by their path."""
        found: dict[str, Claim] = {}
        for path in self._files():
            claim = read(path, identity)
            if claim is not None and self.name_of(path) in claim.names:
                found[str(path)] = claim
        return found

    def is_own(self, path: str, identity: str, key: str) -> bool:
        """Whether a path is a file of this folder that this callback wrote.

        key: the callback's, by which it is known in a file from before there were notes.
        """
        if not self.holds(path):
            return False
        if (said := files.saved_by(place(path))) is None:
            return self.name_of(path) in _names_before_notes(place(path), key)
        claim = _claim_of(identity, said) if identity else None
        return claim is not None and self.name_of(path) in claim.names

    def bears(self, path: str, key: str) -> bool:
        """Whether a path is a file of this folder that a callback of this state key wrote, in whichever run."""
        claim = (files.saved_by(place(path)) or {}).get(key) if self.holds(path) else None
        return isinstance(claim, dict) and self.name_of(path) in Claim.of(claim).names

    def holds(self, path: str) -> bool:
        """Whether a path lies in this folder, also where links lead elsewhere."""
        return is_inside(self.root, path)

    def name_of(self, path: str | Path) -> str:
        """The path relative to the folder, with `/`; "" where it is not in there."""
        return names_of.name_in(self.root, str(path))

    def remove(self, path: str, delete: Callable[[str], None] = _delete) -> None:
        """Delete a file, and the sub-folders that it leaves empty. delete: deletes a file of the run's format."""
        delete(path)
        for folder in place(path).parents:
            if folder == self.root or self.root not in folder.parents:
                break
            try:
                folder.rmdir()
            except OSError:  # there is more in it
                break

    def tidy(self) -> None:
        """Remove what killed processes have left: files half written, and sub-folders from which a file was removed."""
        for folder in reversed(self.folders()):
            atomic.sweep(folder)
            if folder != self.root and not any(folder.iterdir()):
                folder.rmdir()

    def _files(self) -> Iterator[Path]:
        for folder in self.folders():
            if folder.is_dir():
                yield from sorted(p for p in folder.iterdir() if p.name.endswith(self.suffix) and p.is_file())


class OwnFiles:
    """The files of one callback: those that it keeps, and how it knows its own again.

    The identity is given when it first saves, and goes on with the run; its files bear it.
    """

    def __init__(self) -> None:
        self.identity = ""
        self.num_saves = 0
        self.kept: dict[str, int] = {}  # on purpose, each with the number of its save
        self.named_by_user = ""  # the file that the fit goes on from, where the user said which
        self._known: set[str] = set()  # to be its own
        self._under_way: tuple[int, tuple[str, ...]] | None = None  # the step of a save that is not done, its names
        self._resumed: tuple[str, Claim] | None = None  # the file that the fit goes on from, what it says
        self._root_then = self._key = ""

    # ------------------------------------------------------------ saves

    def count(self, paths: Iterable[str], leaving: Iterable[str]) -> tuple[str, ...]:
        """One more save, which keeps these; -> those of `leaving` that are to be deleted."""
        self.identity = self.identity or os.urandom(8).hex()  # moves no generator
        self.num_saves += 1
        gone = {*leaving} - {"", self.named_by_user, *paths}
        self.kept = {path: number for path, number in self.kept.items() if path not in gone}
        self.kept.update(dict.fromkeys(paths, self.num_saves))
        return tuple(sorted(gone))

    def begin(self, folder: Folder, global_step: int, paths: Iterable[str | Path]) -> None:
        """From now on files say that they belong to this save, and to one of the same step that failed."""
        failed = self._under_way[1] if self._under_way is not None and self._under_way[0] == global_step else ()
        self._under_way = global_step, tuple(dict.fromkeys([*map(folder.name_of, paths), *failed]))

    def end(self) -> None:
        """The files of the save are written, or left to the writer."""
        self._under_way = None

    def has_failed_at(self, global_step: int) -> bool:
        """Whether the save of this step was begun and not ended."""
        return self._under_way is not None and self._under_way[0] == global_step

    def claim(self, folder: Folder, global_step: int) -> Claim:
        """What a file says that is saved now."""
        names = self._under_way[1] if self._under_way is not None and self._under_way[0] == global_step else ()
        kept = {name: number for path, number in self.kept.items() if (name := folder.name_of(path))}
        return Claim(self.identity, self.num_saves, names, kept)

    def know(self, path: str) -> None:
        """It was written just now."""
        self._known.add(path)

    def owns(self, folder: Folder, path: str) -> bool:
        """Whether a file is this callback's to replace and to delete."""
        return (path in self._known and folder.holds(path)) or folder.is_own(path, self.identity, self._key)

    def remove(self, folder: Folder, path: str, delete: Callable[[str], None] = _delete) -> None:
        """Delete a file, which is this callback's."""
        self._known.discard(path)
        folder.remove(path, delete)

    # ------------------------------------------------------------ a run goes on

    def take_up(self, path: str, claim: Claim, *, is_named: bool) -> None:
        """The fit goes on from this file, in which that stands."""
        self._resumed = path, claim
        self.named_by_user = path if is_named else ""

    def load(self, key: str, root_then: str) -> None:
        """Go on as the file says. key: the callback's, for files that were written before there were notes."""
        claim = Claim("") if self._resumed is None else self._resumed[1]
        self.identity, self.num_saves, self._key, self._root_then = claim.identity, claim.number, key, root_then

    def find_kept(self, find: Callable[[str], str]) -> None:
        """Take over which files are kept. find: gives for a path of then the one of now, or ""."""
        listed = {} if self._resumed is None else self._resumed[1].kept
        self.kept = {path: n for name, n in listed.items() if (path := find(os.path.join(self._root_then, name)))}

    def is_pending(self, name: str) -> bool:
        """Whether a file belongs to the moment of the checkpoint that the fit goes on from."""
        return self._resumed is not None and self._is_of_now(self._resumed[1]) and name in self._resumed[1].names

    def _is_of_now(self, claim: Claim) -> bool:
        return claim.number == self.num_saves and claim.identity == self.identity

    def reconcile(
        self, folder: Folder, *, keeps_all: bool, make_up: Callable[[str, str, list[str]], object]
    ) -> tuple[list[str], list[str]]:
        """Bring the folder to the moment of the checkpoint: write what belongs to it, remove what came after it.

        A run that was killed may have left half of what it did at one moment, and what it did after it. In a folder
        that is not the one of then, and holds nothing of this run, nothing is done.
        keeps_all: files are kept without a list of them. make_up: writes a file (path, the one gone on from, all that
        belong to that moment). Returns those removed that came after the checkpoint; and those kept that are gone.
        """
        resumed, self._resumed, self._under_way = self._resumed, None, None
        if resumed is None or not self.identity:
            return [], []
        source, claim = resumed
        own = folder.own(self.identity)
        if self._root_then != str(folder.root) and not own and not folder.holds(source):
            return [], []
        pending = []
        if self._is_of_now(claim):
            paths = [os.path.join(str(folder.root), name) for name in claim.names]
            # a name that has come to be somebody else's file is left to them
            pending = [p for p in paths if folder.holds(p) and (p in own or not place(p).exists() or _is_torn(p))]
            for path in pending:
                if path not in own or own[path].number not in (self.kept.get(path), claim.number):
                    make_up(path, source, pending)
                    self._known.add(path)
                    if path in self.kept:
                        self.kept[path] = claim.number
        if self.named_by_user in own:  # it stays in later resumes, too
            self.kept.setdefault(self.named_by_user, own[self.named_by_user].number)
        left = {path: found.number for path, found in own.items() if path not in (*pending, source)}
        dead = {path: n for path, n in left.items() if not self._is_kept(path, n, keeps_all=keeps_all)}
        listed = [path for path in self.kept if folder.holds(path)]
        gone = [path for path in listed if path in dead or (path not in own and path not in pending)]
        for path in gone:
            del self.kept[path]
        if self.named_by_user and self._root_then != str(folder.root):  # somebody copied what came later
            dead = {path: number for path, number in dead.items() if number <= self.num_saves}
        for path in dead:
            self.remove(folder, path)
        return [path for path, number in dead.items() if number > self.num_saves], gone

    def _is_kept(self, path: str, number: int, *, keeps_all: bool) -> bool:
        return number == self.kept.get(path) or (keeps_all and number <= self.num_saves)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
    except OSError:
        return []
