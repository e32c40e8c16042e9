"""The one place that paths and URLs go through, and files of stores by the names that pathlib has."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pytest

from lightkit.checkpoint import atomic, files, places
from lightkit.checkpoint.places import local_copy, local_file, place
from lightkit.errors import CheckpointError, ConfigError, MissingExtraError, RunDirError


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_local_path_is_a_path_with_the_home_folder_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/runs") == place(Path("~/runs")) == tmp_path / "runs"
    assert place("a/b") == Path("a/b") and type(place("a")) is type(Path("a"))
    assert place(f"file://{tmp_path}/x.ckpt") == tmp_path / "x.ckpt"
    assert not places.is_url("a/s3:/b") and not places.is_url("C://x")


def test_a_local_path_imports_no_file_system(repository: Path) -> None:
    code = (
        "import sys; from lightkit.checkpoint.places import place, remote, local_copy; remote(place('~/a/b'))\n"
        "print([name for name in ('fsspec', 'lightkit.checkpoint.remote') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repository)
    assert done.stdout == "[]\n"


def test_a_url_is_told_from_a_path_and_keeps_both_slashes() -> None:
    path = place("memory://bucket/a/./b.ckpt")
    assert places.is_url("memory://bucket") and places.remote(path) is path
    assert str(path) == "memory://bucket/a/b.ckpt"
    assert str(path.parent / "c.csv") == "memory://bucket/a/c.csv"
    assert (path.name, path.stem, path.suffix) == ("b.ckpt", "b", ".ckpt")
    assert str(path.with_name("x.y")) == "memory://bucket/a/x.y"
    assert [str(folder) for folder in path.parents][:2] == ["memory://bucket/a", "memory://bucket"]
    assert place(path) == path == place("memory:///bucket/a/b.ckpt") and hash(place(path)) == hash(path)
    assert path != place("memory://bucket/a") and path.parent in path.parents
    assert path.relative_to(place("memory://bucket")) == PurePosixPath("a/b.ckpt")
    assert str(place("memory://bucket/a/../../../b").resolve()) == "memory://b"
    assert pickle.loads(pickle.dumps(path)) == path


def test_a_url_used_as_a_path_of_the_disk_is_an_error_not_a_folder_called_memory(tmp_path: Path) -> None:
    path = place("memory://bucket/a")
    for use in (open, Path, os.makedirs, os.mkdir):
        with pytest.raises(RunDirError) as caught:
            use(path)
        assert str(caught.value) == (
            "memory://bucket/a is in a store, not on this machine's disk: read and write it with path.open(), or "
            "choose a local directory for what only writes there"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_url_that_went_through_pathlib_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        place(Path("s3://bucket/x"))
    assert str(caught.value) == (
        "PosixPath('s3:/bucket/x'): pathlib.Path takes a slash out of a URL; give the text 's3://bucket/x'"
    )
    Path("odd:").mkdir()
    assert place(Path("odd:/x")) == Path("odd:/x")


def test_a_store_whose_package_is_missing_is_one_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(MissingExtraError) as caught:
        place("s3://bucket/x")
    assert str(caught.value) == (
        "s3://bucket/x: the package for s3:// is not installed (Install s3fs to access S3); "
        'pip install "lightkit[remote]" brings that for s3://'
    )


def test_a_misspelt_store_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as caught:
        place("memoy://bucket/x")
    assert str(caught.value) == "memoy://bucket/x: fsspec knows no store memoy://; did you mean 'memory'?"


def test_files_of_a_store_are_written_listed_read_and_deleted(store: str) -> None:
    root = place(store)
    assert not root.exists() and list(root.iterdir()) == [] and list(root.glob("*")) == []
    path = root / "run" / "version_0" / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("é\n", encoding="utf-8")
    (root / "run" / "version_0" / "a.ckpt").write_bytes(b"12345")
    assert path.read_text(encoding="utf-8") == "é\n" and path.is_file() and not path.is_dir()
    assert path.parent.is_dir() and root.is_dir() and not (root / "ru").exists()
    assert [str(found) for found in root.iterdir()] == [f"{store}/run"]
    assert [p.name for p in (root / "run").glob("version_*")] == ["version_0"]
    assert sorted(str(p) for p in root.rglob("*.ckpt")) == [f"{store}/run/version_0/a.ckpt"]
    assert (path.parent / "a.ckpt").stat().st_size == 5
    assert path.stat().st_mtime > 1.7e9
    with path.open("r", newline="", encoding="utf-8") as file:
        assert file.read() == "é\n"
    (path.parent / "a.ckpt").replace(path.parent / "b.ckpt")
    assert names_in(path.parent) == ["b.ckpt", "run.json"]
    path.unlink()
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        path.stat()
    assert names_in(root / "run" / "version_0") == ["b.ckpt"]


def test_what_another_process_writes_into_a_store_is_seen(store: str) -> None:
    import fsspec

    root = place(store)
    (root / "a").write_bytes(b"1")
    assert names_in(root) == ["a"]
    fs, path = fsspec.url_to_fs(f"{store}/b", skip_instance_cache=True)
    fs.pipe_file(path, b"2")
    assert names_in(root) == ["a", "b"] and (root / "b").exists()


def test_a_file_that_is_created_is_created_once(store: str) -> None:
    import lightkit.checkpoint.remote as module

    there = module.RemotePath(f"{store}/run.json")
    assert there.create(b"first") and not there.create(b"second")
    assert there.read_bytes() == b"first"


def test_a_write_that_fails_leaves_the_old_file_of_a_store_and_nothing_else(store: str) -> None:
    path = place(store) / "x.ckpt"
    atomic.replace(path, lambda file: file.write(b"old"))

    def fail(file: BinaryIO) -> None:
        file.write(b"new")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunDirError, match=r"No space left on device \(in the temporary folder "):
        atomic.replace(path, fail)
    assert path.read_bytes() == b"old"
    assert names_in(place(store)) == ["x.ckpt"]


def test_an_upload_that_fails_leaves_the_old_file_of_a_store(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place(store) / "x.ckpt"
    path.write_bytes(b"old")

    def put_file(local: str, path: str) -> None:
        raise RuntimeError("the line is down")

    there = places.remote(path)
    assert there is not None
    monkeypatch.setattr(there._fs, "put_file", put_file)
    with pytest.raises(RunDirError) as caught:
        atomic.replace(path, lambda file: file.write(b"new"))
    assert str(caught.value) == (
        f"cannot write the checkpoint {path}: {path}: RuntimeError: the line is down; the file that was there is "
        "unchanged; choose a folder that can be written, with Trainer(default_root_dir=...) or dirpath=..."
    )
    monkeypatch.undo()
    assert path.read_bytes() == b"old"


def test_a_store_that_cannot_be_reached_is_one_error_with_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(path: str) -> None:
        raise RuntimeError("no route to host")

    path = place("memory://bucket/x.ckpt")
    monkeypatch.setattr(path._fs, "info", info)  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError) as caught:
        files.load(path)
    assert str(caught.value) == (
        "the checkpoint memory://bucket/x.ckpt cannot be read: memory://bucket/x.ckpt: RuntimeError: no route to host"
    )
    with pytest.raises(RunDirError) as told:
        path.exists()
    assert str(told.value) == "memory://bucket/x.ckpt: RuntimeError: no route to host"


def test_a_copy_may_go_from_store_to_disk_and_back(store: str, tmp_path: Path) -> None:
    atomic.replace(place(store) / "a", lambda file: file.write(b"content"))
    atomic.copy(f"{store}/a", f"{store}/b")
    atomic.copy(f"{store}/b", tmp_path / "c")
    atomic.copy(str(tmp_path / "c"), f"{store}/d")
    assert (tmp_path / "c").read_bytes() == (place(store) / "d").read_bytes() == b"content"


def test_a_local_copy_is_downloaded_once_and_again_when_the_file_is_another(store: str, tmp_path: Path) -> None:
    path = place(store) / "x.ckpt"
    path.write_bytes(b"one")
    with local_copy(path) as first, local_copy(path) as second:
        assert first == second and first.read_bytes() == b"one" and first.name == "x.ckpt"
    path.write_bytes(b"other")
    with local_copy(path) as third:
        assert third.read_bytes() == b"other"
    assert not first.exists()
    with local_copy(tmp_path / "here") as here:
        assert here == tmp_path / "here"


def test_what_a_library_writes_to_a_local_file_is_uploaded(store: str, tmp_path: Path) -> None:
    for path in (place(store) / "plots" / "a.png", tmp_path / "plots" / "a.png"):
        with local_file(path) as file:
            assert file.suffix == ".png"
            file.write_bytes(b"image")
        assert path.read_bytes() == b"image"


def test_what_a_file_says_of_a_store_is_compared_as_text_and_the_store_is_not_asked(tmp_path: Path) -> None:
    from lightkit.callbacks import checkpoint_names as names

    # a place that does not answer: asking for it would be an error, or wait for the network
    foreign = "sftp://nobody.invalid/checkpoints/x.ckpt"
    assert not places.is_inside(tmp_path, foreign) and not places.is_inside("memory://bucket/run", foreign)
    assert names.find_file(foreign, "memory://bucket/run", "memory://bucket/run") == ""
    assert names.find_file(foreign, "sftp://nobody.invalid/checkpoints", str(tmp_path)) == str(tmp_path / "x.ckpt")
    assert places.is_same_store("s3://bucket/a", "s3://bucket/b/c") and places.is_same_store("/a", "b/c")
    assert not places.is_same_store("s3://bucket/a", "s3://other/a")
    assert places.is_inside("memory://bucket/run", "memory://bucket/run/a/x.ckpt")
    assert not places.is_inside("memory://bucket/run", "memory://bucket/run/../x.ckpt")
    assert names.name_in("memory://bucket/run", "memory://bucket/run/a/../../x.ckpt") == ""
    assert names.name_in("memory://bucket/run", "memory://bucket/run/a/x.ckpt") == "a/x.ckpt"
