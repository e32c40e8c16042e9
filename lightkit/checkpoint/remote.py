"""Files of stores that fsspec reaches (`s3://`, `gs://`, `memory://`, ...), by the names that `pathlib.Path` has.

Nothing is kept of what a store listed: another process may write there. What a store's package raises arrives as an
OSError, as from a disk: errors of its own, of the network or of who asks, as RunDirError.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import os
import posixpath
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NoReturn

import fsspec
from fsspec.registry import known_implementations

from lightkit.errors import ConfigError, MissingExtraError, RunDirError, did_you_mean

__all__ = ["Mirror", "RemotePath", "Stat"]

# An object of theirs is there when its upload is complete, and whole; nothing in them is moved or is a folder.
_OBJECT_STORES = frozenset("s3 s3a gs gcs az abfs abfss adl oss oci".split())
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")


@dataclass(frozen=True)
class Stat:
    """What is known of a file: its size in bytes, its time in nanoseconds since 1970 (0: the store does not say)."""

    st_size: int
    st_mtime_ns: int

    @property
    def st_mtime(self) -> float:
        """Seconds since 1970."""
        return self.st_mtime_ns / 1e9


@total_ordering
class RemotePath(os.PathLike[str]):
    """A file or folder of a store. What only works on a disk is refused with the reason, never done beside it.

    Raises:
        ConfigError: fsspec knows no such store.
        MissingExtraError: the package for it is not installed.
    """

    def __init__(self, url: str):
        scheme, _, rest = url.partition("://")
        self._root, self._pure = f"{scheme}://", PurePosixPath(rest)
        self._fs = _file_system(url, scheme.rpartition("::")[2], self._root)
        self._is_object_store = scheme.rpartition("::")[2].lower() in _OBJECT_STORES

    def _with(self, pure: PurePosixPath) -> RemotePath:
        return RemotePath(f"{self._root}{'' if str(pure) == '.' else pure}")

    # ------------------------------------------------------------ its text

    def __str__(self) -> str:
        return f"{self._root}{'' if str(self._pure) == '.' else self._pure}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __fspath__(self) -> NoReturn:
        raise RunDirError(
            f"{self} is in a store, not on this machine's disk: read and write it with path.open(), or choose a local "
            "directory for what only writes there"
        )

    def __reduce__(self) -> tuple[type[RemotePath], tuple[str]]:
        return RemotePath, (str(self),)

    def _key(self) -> tuple[str, str]:
        return self._root, self._path

    @property
    def _path(self) -> str:
        """As the file system takes it: `memory://a` and `memory:///a` are one file."""
        return str(self._fs._strip_protocol(str(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self._key() == other._key()

    def __lt__(self, other: RemotePath) -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __truediv__(self, name: str | PurePosixPath) -> RemotePath:
        return self.joinpath(name)

    def joinpath(self, *names: str | PurePosixPath) -> RemotePath:
        """The path below."""
        return self._with(self._pure.joinpath(*(str(name).replace(os.sep, "/") for name in names)))

    @property
    def name(self) -> str:
        """The last part."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot on."""
        return self._pure.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The store and all parts."""
        return self._root, *self._pure.parts

    @property
    def parent(self) -> RemotePath:
        """The folder that it is in."""
        return self._with(self._pure.parent)

    @property
    def parents(self) -> Sequence[RemotePath]:
        """All folders that it is in, the nearest first."""
        return [self._with(pure) for pure in self._pure.parents]

    def with_name(self, name: str) -> RemotePath:
        """Another name in the same folder."""
        return self._with(self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> RemotePath:
        """The same name with another suffix."""
        return self._with(self._pure.with_suffix(suffix))

    def is_relative_to(self, other: object) -> bool:
        """Whether it is that path or below it."""
        folder = RemotePath(other) if isinstance(other, str) and "://" in other else other
        return self == folder or folder in self.parents

    def relative_to(self, other: object) -> PurePosixPath:
        """What leads from that path to this one; ValueError where it is not below."""
        if not self.is_relative_to(other):
            raise ValueError(f"{self} is not below {other}")
        return PurePosixPath(posixpath.relpath(self._path, RemotePath(str(other))._path))

    def is_absolute(self) -> bool:
        """A URL always is."""
        return True

    def absolute(self) -> RemotePath:
        """Itself."""
        return self

    def expanduser(self) -> RemotePath:
        """Itself: a `~` means something on a disk alone."""
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        """Without `..`: nothing in a store leads out of a folder."""
        lead = "/" if self._pure.is_absolute() else ""
        path = PurePosixPath(lead + posixpath.normpath("/" + str(self._pure)).lstrip("/"))
        return self if path == self._pure else self._with(path)

    # ------------------------------------------------------------ what is there

    def _info(self) -> dict[str, Any] | None:
        self._fs.invalidate_cache()
        with _as_os_errors(self):
            try:
                found: dict[str, Any] = self._fs.info(self._path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return found

    def exists(self) -> bool:
        """Whether there is a file, or a folder with something in it."""
        return self._info() is not None

    def is_file(self) -> bool:
        """Whether there is a file."""
        return (self._info() or {}).get("type") == "file"

    def is_dir(self) -> bool:
        """Whether there is a folder, in an object store one with something in it."""
        return (self._info() or {}).get("type") == "directory"

    def is_symlink(self) -> bool:
        """No store has links."""
        return False

    def stat(self) -> Stat:
        """Size and time; FileNotFoundError where there is nothing."""
        if (info := self._info()) is None:
            raise FileNotFoundError(errno.ENOENT, "No such file in the store", str(self))
        time = next((info[name] for name in _TIMES if info.get(name) is not None), 0)
        if isinstance(time, str):
            time = datetime.fromisoformat(time)
        return Stat(info.get("size") or 0, int((time.timestamp() if isinstance(time, datetime) else time) * 1e9))

    def iterdir(self) -> Iterator[RemotePath]:
        """What is in the folder."""
        yield from self._found(lambda: self._fs.ls(self._path, detail=False))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What matches in the folder, and below it for a pattern with `/`."""
        yield from self._found(lambda: self._fs.glob(posixpath.join(self._path, pattern)))

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """What matches at any depth."""
        for path in self._found(lambda: self._fs.find(self._path)):
            if PurePosixPath(path.name).match(pattern):
                yield path

    def _found(self, look: Callable[[], Sequence[str]]) -> list[RemotePath]:
        self._fs.invalidate_cache()
        with _as_os_errors(self), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            own = self._path.rstrip("/")
            below = [str(name).removeprefix(own).strip("/") for name in look()]
            return [self / name for name in below if name]
        return []

    # ------------------------------------------------------------ reading and writing

    def open(self, mode: str = "r", buffering: int = -1, encoding: str | None = None, **text: Any) -> IO[Any]:
        """Open the file, as `open` does."""
        if encoding is not None:
            text["encoding"] = encoding
        with _as_os_errors(self):
            file: IO[Any] = self._fs.open(self._path, mode, **text)
        return file

    def read_bytes(self) -> bytes:
        """The content."""
        with _as_os_errors(self):
            return bytes(self._fs.cat_file(self._path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content as text."""
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding).read()  # line ends as from a disk

    def write_bytes(self, data: bytes) -> int:
        """Make this the content: all of it or nothing."""
        self.write_with(lambda file: file.write(data))
        return len(data)

    def write_text(self, data: str, encoding: str = "utf-8") -> int:
        """Make this text the content: all of it or nothing."""
        return self.write_bytes(data.encode(encoding))

    def create(self, data: bytes) -> bool:
        """Make a file of this content; False where there is one, which stays."""
        self._fs.invalidate_cache()
        with _as_os_errors(self):
            try:
                self._make_folder(self.parent)
                self._fs.pipe_file(self._path, data, mode="create")
            except FileExistsError:
                return False
        return True

    def write_with(self, fill: Callable[[BinaryIO], object]) -> None:
        """Let `fill` write a file; it is here when it is whole, and before that, or after a failure, the old one is."""
        with self.uploaded() as local, io.FileIO(local, "w+") as raw, io.BufferedRandom(raw) as file:
            fill(file)

    @contextlib.contextmanager
    def uploaded(self) -> Iterator[Path]:
        """A file of this machine, which becomes the content when it is written."""
        with tempfile.TemporaryDirectory(prefix="lightkit-") as folder:
            local = Path(folder, self.name)
            try:
                yield local
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror or error} (in the temporary folder {folder})") from error
            self.put(local)

    def put(self, local: Path) -> None:
        """Upload a file of this machine; it is here when it is whole."""
        with _as_os_errors(self):
            self._make_folder(self.parent)
            if self._is_object_store:
                self._fs.put_file(str(local), self._path)
            else:
                self._put_and_move(local)

    def _put_and_move(self, local: Path) -> None:
        """Under another name first: in these stores a part of an upload can be seen."""
        temporary = self.with_name(f".{self.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")._path
        try:
            self._fs.put_file(str(local), temporary)
            self._fs.mv(temporary, self._path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    @contextlib.contextmanager
    def downloaded(self) -> Iterator[Path]:
        """A file of this machine with the content, to be read while the block runs."""
        with _as_os_errors(self):
            self._fs.invalidate_cache()
            version = self._fs.ukey(self._path)  # another one when the file is written anew
        with _downloads.of(self, version) as file:
            yield file

    def get(self, local: Path) -> None:
        """Download the file to a path of this machine."""
        with _as_os_errors(self):
            self._fs.get_file(self._path, str(local))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the folder, in stores that have some; in the others it is there with its first file."""
        with _as_os_errors(self):
            self._make_folder(self)

    def _make_folder(self, folder: RemotePath) -> None:
        if not self._is_object_store:  # those would make a bucket of a misspelt name
            self._fs.makedirs(folder._path, exist_ok=True)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file."""
        if self.exists():  # an object store deletes what is not there without a word
            with _as_os_errors(self):
                self._fs.rm_file(self._path)
        elif not missing_ok:
            raise FileNotFoundError(errno.ENOENT, "No such file in the store", str(self))

    def rmdir(self) -> None:
        """Delete an empty folder, in stores that have some."""
        with _as_os_errors(self):
            if not self._is_object_store:
                self._fs.rmdir(self._path)

    def replace(self, target: RemotePath) -> RemotePath:
        """Give the file another name in the same store, also one that is taken."""
        self._fs.invalidate_cache()
        with _as_os_errors(self):
            self._fs.mv(self._path, target._path)
        return target

    rename = replace


def _file_system(url: str, scheme: str, root: str) -> fsspec.AbstractFileSystem:
    try:
        found: fsspec.AbstractFileSystem = fsspec.url_to_fs(url)[0]
    except ImportError as error:
        known = known_implementations.get(scheme, {}).get("err", str(error))
        raise MissingExtraError(
            f'{url}: the package for {root} is not installed ({known}); pip install "lightkit[remote]" brings that for s3://',
            name=error.name,
        ) from None
    except ValueError as error:
        if scheme in known_implementations:
            raise ConfigError(f"{url}: {error}") from error
        near = did_you_mean(scheme, known_implementations)
        raise ConfigError(f"{url}: fsspec knows no store {root}{near}") from None
    except OSError:
        raise
    except Exception as error:
        raise RunDirError(f"{url}: {type(error).__name__}: {error}") from error
    return found


@contextlib.contextmanager
def _as_os_errors(path: RemotePath) -> Iterator[None]:
    """Packages of stores have errors of their own, for a network that is down or a user whom nobody knows."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise RunDirError(f"{path}: {type(error).__name__}: {error}") from error


class Mirror:
    """A folder of this machine for what only writes to a disk: `push` uploads the files that have changed.

    It is gone with the object; what was pushed stays in the store.
    """

    def __init__(self, there: RemotePath):
        self.there, self.folder = there, Path(tempfile.mkdtemp(prefix="lightkit-"))
        self._pushed: dict[Path, tuple[int, int]] = {}  # size and time
        self._removal = weakref.finalize(self, shutil.rmtree, str(self.folder), ignore_errors=True)

    def keep(self) -> Path:
        """Leave the folder when the object goes: what is in it could not be uploaded."""
        self._removal.detach()
        return self.folder

    def pull(self, name: str) -> None:
        """Download a file, where there is one and it is not here."""
        if not (self.folder / name).exists() and (there := self.there / name).is_file():
            there.get(self.folder / name)

    def push(self) -> None:
        """Upload what has changed; what could not be uploaded is tried again the next time."""
        for file in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            found = file.stat()
            if self._pushed.get(file) != (stamp := (found.st_size, found.st_mtime_ns)):
                (self.there / file.relative_to(self.folder).as_posix()).put(file)
                self._pushed[file] = stamp


class _Downloads:
    """Files downloaded to be read; the newest is kept, for what was looked at is mostly read next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[tuple[str, str], str] = {}
        self._readers: dict[tuple[str, str], int] = {}

    @contextlib.contextmanager
    def of(self, path: RemotePath, version: str) -> Iterator[Path]:
        """The file in its present version."""
        key = (str(path), version)
        with self._lock:
            self._forget(but=key)
            if key not in self._folders:
                folder = tempfile.mkdtemp(prefix="lightkit-")
                try:
                    path.get(Path(folder, path.name))
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                self._folders[key] = folder
            self._readers[key] = self._readers.get(key, 0) + 1
        try:
            yield Path(self._folders[key], path.name)
        finally:
            with self._lock:
                self._readers[key] -= 1

    def _forget(self, but: tuple[str, str] | None = None) -> None:
        for key in [key for key in self._folders if key != but and not self._readers.get(key)]:
            shutil.rmtree(self._folders.pop(key), ignore_errors=True)


_downloads = _Downloads()
atexit.register(_downloads._forget)
