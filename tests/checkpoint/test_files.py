"""A checkpoint file is plain, whole or absent, verified when read, and never runs code."""

import collections
import enum
import errno
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lightkit.checkpoint import archive, atomic
from lightkit.checkpoint import files as ckpt
from lightkit.checkpoint.weights import explain_state_dict_mismatch
from lightkit.errors import CheckpointError, RunDirError

Point = collections.namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    pass


class Settings(dict):
    pass


class MyObject:
    pass


def example() -> dict:
    return {
        "weights": {"w": torch.arange(6.0).reshape(2, 3)},
        "learning_rate": np.float64(0.5),
        "steps": np.int64(7),
        "done": np.bool_(True),
        "array": np.arange(4, dtype=np.uint32),
        "path": Path("a") / "b",
        "colour": Colour.RED,
        "level": Level.HIGH,
        "text": Text("t"),
        "point": Point(1, np.float32(2)),
        "settings": Settings(a=collections.defaultdict(list, b=[1])),
        "ordered": collections.OrderedDict(z=1, a=2),
        "set": frozenset({1, "a"}),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "large": 2**130,
        "nothing": None,
        "bytes": b"ab",
        Level.HIGH: "a key",
        "values": {}.values(),
    }


def test_what_has_a_plain_form_gets_it_and_opens_with_weights_only(tmp_path):
    content = example()
    del content["values"]
    ckpt.save(content, tmp_path / "a.ckpt")
    for found in (torch.load(tmp_path / "a.ckpt", weights_only=True), ckpt.load(tmp_path / "a.ckpt")):
        weights, array = found.pop("weights"), found.pop("array")
        assert torch.equal(weights["w"], torch.arange(6.0).reshape(2, 3))
        assert torch.equal(array.long(), torch.arange(4))
        assert found == {
            "learning_rate": 0.5,
            "steps": 7,
            "done": True,
            "path": os.path.join("a", "b"),
            "colour": "red",
            "level": 3,
            "text": "t",
            "point": (1, 2.0),
            "settings": {"a": {"b": [1]}},
            "ordered": {"z": 1, "a": 2},
            "set": {1, "a"},
            "dtype": torch.bfloat16,
            "device": torch.device("cpu"),
            "size": torch.Size([1, 2]),
            "large": 2**130,
            "nothing": None,
            "bytes": b"ab",
            3: "a key",
        }
        types = {
            key: type(found[key]) for key in ("learning_rate", "done", "text", "level", "settings", "point")
        }
        assert types == {
            "learning_rate": float, "done": bool, "text": str, "level": int, "settings": dict, "point": tuple
        }  # fmt: skip


def test_state_dicts_of_torch_stay_as_they_are_and_share_their_tensors():
    state = nn.Linear(2, 2).state_dict()
    plain = ckpt.to_plain({"state_dict": state})["state_dict"]
    assert isinstance(plain, collections.OrderedDict)
    assert plain["weight"].data_ptr() == state["weight"].data_ptr()


def test_an_optimizer_with_a_numpy_learning_rate_goes_on_after_loading(tmp_path):
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=np.float64(0.1))
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    ckpt.save({"optimizer": optimizer.state_dict()}, tmp_path / "a.ckpt")
    fresh = torch.optim.AdamW(layer.parameters(), lr=1.0)
    fresh.load_state_dict(torch.load(tmp_path / "a.ckpt", weights_only=True)["optimizer"])
    assert fresh.param_groups[0]["lr"] == 0.1
    assert torch.equal(fresh.state[layer.weight]["exp_avg"], optimizer.state[layer.weight]["exp_avg"])


ADVICE = (
    "cannot be saved: a checkpoint holds only numbers, strings, lists, dicts and tensors, so that loading "
    "it never runs code; save what is needed to build it again"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"callbacks": {"Mine": {"fn": len}}},
         f"checkpoint['callbacks']['Mine']['fn']: a builtin_function_or_method (len) {ADVICE}"),
        ({"a": [1, example]}, f"checkpoint['a'][1]: a function (example) {ADVICE}"),
        ({"a": (MyObject,)}, f"checkpoint['a'][0]: the class MyObject {ADVICE}"),
        ({"a": {3: MyObject()}}, f"checkpoint['a'][3]: a {__name__}.MyObject {ADVICE}"),
        ({"a": np.array([None])}, f"checkpoint['a']: a numpy array of dtype object {ADVICE}"),
        ({"a": np.datetime64("2020-01-01")}, f"checkpoint['a']: a datetime.date {ADVICE}"),
        ({"a": {torch.ones(1): 1}},
         "checkpoint['a']: a tensor as a key cannot be saved; use a number or a string"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_named_with_its_place_and_nothing_is_written(content, message, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        ckpt.save(content, tmp_path / "a.ckpt")
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_holds_itself_is_refused_but_one_held_twice_is_not():
    twice = [1]
    assert ckpt.to_plain({"a": twice, "b": twice}) == {"a": [1], "b": [1]}
    endless: list = []
    endless.append(endless)
    with pytest.raises(CheckpointError) as caught:
        ckpt.to_plain({"a": endless})
    assert str(caught.value) == "checkpoint['a'][0]: this list holds itself and cannot be saved"


def test_saving_leaves_only_the_file_makes_folders_and_draws_no_random_number(tmp_path):
    before = torch.get_rng_state()
    ckpt.save({"a": 1}, tmp_path / "deep" / "er" / "a.ckpt")
    ckpt.save({"a": 2}, tmp_path / "deep" / "er" / "a.ckpt")
    assert [file.name for file in (tmp_path / "deep" / "er").iterdir()] == ["a.ckpt"]
    assert ckpt.load(tmp_path / "deep" / "er" / "a.ckpt") == {"a": 2}
    assert torch.equal(torch.get_rng_state(), before)


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    ckpt.save({"a": 1}, tmp_path / "a.ckpt")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.ckpt").stat().st_mode == (tmp_path / "plain").stat().st_mode


FULL_DISK = """
import resource, sys
import torch
from lightkit.checkpoint import archive
from lightkit.checkpoint import files as ckpt
from lightkit.checkpoint.weights import explain_state_dict_mismatch
from lightkit.errors import RunDirError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # the system then refuses to write more
for content in (torch.zeros(100_000), [torch.zeros(100) for _ in range(200)], "x" * 100_000):
    try:
        ckpt.save({"a": content}, sys.argv[1])
    except RunDirError as error:
        print(str(error).partition(", ")[0], "|", str(error).partition(" free; ")[2])
"""


def test_a_full_disk_leaves_the_old_file_whole_and_nothing_else(tmp_path):
    pytest.importorskip("resource")
    target = tmp_path / "a.ckpt"
    ckpt.save({"a": "old"}, target)
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(target)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    line = (
        f"cannot write the checkpoint {target}: File too large | the file that was there is unchanged; "
        "make room, keep fewer checkpoints (save_top_k) or set Trainer(default_root_dir=...)"
    )
    assert child.stdout.splitlines() == [line] * 3
    assert ckpt.load(target) == {"a": "old"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirError) as caught:
        ckpt.save({"a": 1}, tmp_path / "file" / "a.ckpt")
    assert str(caught.value) == (
        f"cannot write the checkpoint {tmp_path}/file/a.ckpt: Not a directory; choose a folder that can be "
        "written, with Trainer(default_root_dir=...) or dirpath=..."
    ).replace("Not a directory", caught.value.__cause__.strerror)
    (tmp_path / "b.ckpt").mkdir()
    with pytest.raises(RunDirError, match="Is a directory"):
        ckpt.save({"a": 1}, tmp_path / "b.ckpt")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.ckpt", "file"]


def cut(file: Path, count: int) -> None:
    file.write_bytes(file.read_bytes()[:-count])


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def written(file: Path, *, minute: int = 0) -> Path:
    ckpt.save({"w": torch.arange(2000.0)}, file)
    os.utime(file, (1_000_000 + 60 * minute,) * 2)
    return file


def test_a_truncated_file_is_refused_and_the_newest_whole_one_beside_it_named(tmp_path):
    written(tmp_path / "old.ckpt", minute=1)
    newer = written(tmp_path / "newer.ckpt", minute=2)
    cut(written(tmp_path / "cut_too.ckpt", minute=3), 1)
    half = written(tmp_path / "half.ckpt", minute=4)
    cut(half, half.stat().st_size // 2)
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(half)
    assert str(caught.value) == (
        f"the checkpoint {half} is damaged: it is truncated ({half.stat().st_size / 1000:.1f} kB of it are "
        f"there); use the newest whole one, {newer}"
    )


def test_a_flipped_bit_which_torch_would_load_as_a_wrong_weight_is_refused(tmp_path):
    file = written(tmp_path / "a.ckpt")
    with zipfile.ZipFile(file) as zipped:
        name = next(name for name in zipped.namelist() if name.endswith("data/0"))
        middle = zipped.getinfo(name).header_offset + 4000
    flip(file, middle)
    assert not torch.equal(torch.load(file, weights_only=True)["w"], torch.arange(2000.0))
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(file)
    assert str(caught.value) == (
        f"the checkpoint {file} is damaged: the part {name!r} of it was changed after it was written "
        f"(wrong check sum; {file.stat().st_size / 1000:.1f} kB); no whole checkpoint is beside it"
    )


def test_no_bit_of_a_file_changes_unnoticed(tmp_path):
    """Also none of the table, from which torch's reader would take other weights without a word."""
    file = tmp_path / "a.ckpt"
    ckpt.save({"w": torch.arange(3.0), "v": torch.ones(2), "none": torch.empty(0)}, file)
    whole = file.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        assert archive.damage(io.BytesIO(changed), len(changed)) is not None, position
    for count in range(len(whole)):
        assert archive.damage(io.BytesIO(whole[:count]), count) is not None
    assert archive.damage(io.BytesIO(whole), len(whole)) is None


def test_a_changed_table_is_refused_where_torch_would_load_other_weights(tmp_path):
    file = tmp_path / "a.ckpt"
    ckpt.save({"first": torch.arange(4.0), "second": torch.ones(4)}, file)
    content = bytearray(file.read_bytes())
    name = content.index(b"archive/data/0", content.index(b"PK\x01\x02"))
    content[name - 8] = 0x10  # for torch's reader the part is a folder now, whose content it leaves as it finds memory
    file.write_bytes(content)
    torch.load(file, weights_only=True)
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(file)
    assert str(caught.value) == (
        f"the checkpoint {file} is damaged: its table of contents is not as torch.save writes it: it was changed "
        f"afterwards, or another program wrote it ({len(content) / 1000:.1f} kB); no whole checkpoint is beside it"
    )
    assert not ckpt.is_whole(file)
    older = written(tmp_path / "older.ckpt")
    assert ckpt.newest_whole(tmp_path) == older


def test_whatever_a_damaged_file_makes_a_reader_raise_is_one_error(tmp_path):
    """Sizes, flags and methods that zip readers stumble over, each with an exception of its own."""
    file = written(tmp_path / "a.ckpt")
    whole = file.read_bytes()
    table = whole.index(b"PK\x01\x02")
    for position in range(table, len(whole)):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with pytest.raises(CheckpointError, match="is damaged"):
            ckpt.load(file)
        assert ckpt.newest_whole(tmp_path) is None


def test_files_have_check_sums_where_torch_is_told_to_write_none(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        written(tmp_path / "a.ckpt")
        assert not torch.serialization.get_crc32_options(), "what the user chose for other files stays"
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(ckpt.load(tmp_path / "a.ckpt")["w"], torch.arange(2000.0))


def test_a_file_that_cannot_be_read_says_why(tmp_path, monkeypatch):
    file = written(tmp_path / "a.ckpt")

    def failing(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(archive, "damage", failing)
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(file)
    assert str(caught.value) == (
        f"the checkpoint {file} is damaged: it cannot be read (Input/output error); no whole checkpoint is beside it"
    )


def test_a_whole_file_that_cannot_be_read_here_is_not_called_damaged(tmp_path):
    file = written(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(file, map_location="nowhere")
    assert str(caught.value).startswith(f"the checkpoint {file} is whole, but cannot be read here: RuntimeError")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"PK\x03\x04 and then nothing", "it is truncated (21 bytes of it are there)"),
        (b"hello world", "torch.save did not write it, or only a part of it is there (KeyError: 101)"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(content, problem, tmp_path):
    file = tmp_path / "a.ckpt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(file)
    assert (
        str(caught.value) == f"the checkpoint {file} is damaged: {problem}; no whole checkpoint is beside it"
    )


def test_another_zip_archive_is_refused(tmp_path):
    file = tmp_path / "a.pt"
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(file)
    assert str(caught.value) == (
        f"the checkpoint {file} is damaged: its table of contents is not as torch.save writes it: it was changed "
        f"afterwards, or another program wrote it ({file.stat().st_size} bytes); no whole checkpoint is beside it"
    )


def test_an_archive_of_torchs_writer_that_is_no_checkpoint_is_refused(tmp_path):
    file = tmp_path / "a.pt"
    writer = torch._C.PyTorchFileWriter(str(file))
    writer.write_record("model.json", b"{}", 2)
    writer.write_end_of_file()
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(file)
    assert str(caught.value) == (
        f"the checkpoint {file} is damaged: it is a zip archive, but not one that torch.save wrote; "
        "no whole checkpoint is beside it"
    )


def test_a_missing_file_lists_near_names_else_the_newest(tmp_path):
    written(tmp_path / "epoch=1-step=10.ckpt", minute=1)
    written(tmp_path / "last.ckpt", minute=2)
    (tmp_path / "notes.txt").touch()
    for name, listed in (
        ("epoch=1-step=11.ckpt", "in that folder: 'epoch=1-step=10.ckpt'"),
        ("zzz", "in that folder: 'last.ckpt', 'epoch=1-step=10.ckpt'"),
    ):
        with pytest.raises(CheckpointError) as caught:
            ckpt.load(tmp_path / name)
        assert str(caught.value) == f"there is no checkpoint {tmp_path / name}; {listed}"
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is a folder, not a checkpoint file; in that folder: 'last.ckpt', 'epoch=1-step=10.ckpt'"
    )


def test_a_missing_file_in_an_empty_or_missing_folder_says_so(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(tmp_path / "a.ckpt")
    assert str(caught.value) == f"there is no checkpoint {tmp_path}/a.ckpt; the folder holds no checkpoint"
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(tmp_path / "no" / "a.ckpt")
    assert str(caught.value) == (
        f"there is no checkpoint {tmp_path}/no/a.ckpt: its folder {tmp_path}/no does not exist"
    )


class Trap:
    """Would write a file when unpickled by a loader that runs code."""

    def __reduce__(self):
        return os.system, ("touch trapped",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_named_and_never_run(tmp_path, zipped):
    file = tmp_path / "a.ckpt"
    torch.save({"a": Trap()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(file)
    assert str(caught.value) == (
        f"the checkpoint {file} holds objects, not only data: {os.system.__module__}.system; loading never "
        "runs code from a checkpoint, so they are not built. If you trust the file, open it with "
        "torch.load(path, weights_only=False) and save its state_dict again"
    )
    assert not Path("trapped").exists()


def test_an_object_array_of_numpy_cannot_carry_code_either(tmp_path):
    torch.save({"a": np.array([Trap()], dtype=object)}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"holds objects, not only data: posix.system;|nt.system;"):
        ckpt.load(tmp_path / "a.ckpt")
    assert not Path("trapped").exists()


def test_files_of_others_open_where_they_hold_harmless_types(tmp_path):
    content = {
        "numpy": np.float64(0.5),
        "array": np.arange(3),
        "path": Path("a/b"),
        "default": collections.defaultdict(list, a=[1]),
        "deque": collections.deque([1, 2], maxlen=2),
    }
    torch.save(content, tmp_path / "a.ckpt")
    found = ckpt.load(tmp_path / "a.ckpt")
    assert found.pop("array").tolist() == [0, 1, 2]
    assert found == {"numpy": 0.5, "path": Path("a/b"), "default": {"a": [1]}, "deque": [1, 2]}


def test_what_another_package_declared_safe_does_not_stand_in_the_way(tmp_path):
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([collections.defaultdict])  # as torch_geometric does
    try:
        torch.save({"default": collections.defaultdict(list, a=[1])}, tmp_path / "a.ckpt")
        assert ckpt.load(tmp_path / "a.ckpt") == {"default": {"a": [1]}}
        assert collections.defaultdict in torch.serialization.get_safe_globals()
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_a_plain_state_dict_of_either_torch_format_opens(tmp_path):
    layer = nn.Linear(3, 2)
    for name, zipped in (("new.pt", True), ("old.pt", False)):
        torch.save(layer.state_dict(), tmp_path / name, _use_new_zipfile_serialization=zipped)
        nn.Linear(3, 2).load_state_dict(ckpt.load(tmp_path / name))
        assert ckpt.is_whole(tmp_path / name)
        cut(tmp_path / name, 5)
        assert not ckpt.is_whole(tmp_path / name)
        with pytest.raises(CheckpointError, match="is damaged"):
            ckpt.load(tmp_path / name)


def test_a_file_that_holds_no_dict_is_refused(tmp_path):
    torch.save(torch.ones(2), tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        ckpt.load(tmp_path / "a.pt")
    assert str(caught.value) == (
        f"{tmp_path}/a.pt: expected a checkpoint or a state_dict, found a Tensor; save a dict, for example "
        "torch.save(model.state_dict(), path)"
    )


def test_the_newest_whole_checkpoint_is_by_time_then_by_name(tmp_path):
    assert ckpt.newest_whole(tmp_path) is None
    assert ckpt.newest_whole(tmp_path / "missing") is None
    written(tmp_path / "z.ckpt", minute=1)
    written(tmp_path / "a.ckpt", minute=2)
    newest = written(tmp_path / "b.pt", minute=2)
    (tmp_path / ".c.ckpt.1.tmp").write_bytes(newest.read_bytes())
    assert ckpt.newest_whole(tmp_path) == newest
    cut(newest, 1)
    assert ckpt.newest_whole(tmp_path) == tmp_path / "a.ckpt"
    assert ckpt.newest_whole(tmp_path, skip=tmp_path / "a.ckpt") == tmp_path / "z.ckpt"
    assert not ckpt.is_whole(tmp_path / "missing.ckpt")


def test_a_state_dict_of_another_model_is_explained_with_sizes():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = nn.Sequential(nn.Linear(4, 3), nn.Identity(), nn.Linear(1, 1, bias=False)).state_dict()
    assert explain_state_dict_mismatch(module, state, "a.ckpt") == (
        "the checkpoint a.ckpt does not fit Sequential:\n"
        "  missing in the file (5):\n"
        "    1.weight (3,)\n"
        "    1.bias (3,)\n"
        "    1.running_mean (3,)\n"
        "    1.running_var (3,)\n"
        "    1.num_batches_tracked ()\n"
        "  in the file but not in the model (1):\n"
        "    2.weight (1, 1)\n"
        "  of another size (1):\n"
        "    0.weight: (3, 4) in the file, (3, 2) in the model"
    )
    assert explain_state_dict_mismatch(module, module.state_dict(), "a.ckpt") is None


def test_long_lists_of_keys_are_cut_at_ten():
    module = nn.Sequential(*[nn.Linear(1, 1) for _ in range(6)])
    explained = explain_state_dict_mismatch(module, {}, "a.ckpt")
    assert explained.splitlines()[1] == "  missing in the file (12):"
    assert explained.splitlines()[-1] == "    ... and 2 more"
    assert len(explained.splitlines()) == 13


def test_a_module_and_a_data_module_are_made_without_the_file_format(repository):
    code = (
        "import sys, lightkit.module, lightkit.datamodule\n"
        "lightkit.module.LightModule(), lightkit.datamodule.LightDataModule()\n"
        "print([name for name in sys.modules if name.startswith('lightkit.checkpoint')])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_what_cannot_be_put_back_is_kept_beside_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "x.data"):
        (tmp_path / name).write_text(f"old {name}")
        (tmp_path / f"new {name}").write_text(f"new {name}")
    real, moves = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        moves.append(str(target))
        if len(moves) > 1:  # the last move, and putting back what was there
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(RunDirError) as caught:
        atomic.replace_all({tmp_path / name: tmp_path / f"new {name}" for name in ("x.data", "x")})
    monkeypatch.undo()
    (kept,) = tmp_path.glob(".x.data.*.before")
    assert kept.read_text() == "old x.data" and (tmp_path / "x").read_text() == "old x"
    assert f"what was in {tmp_path / 'x.data'} is in {kept}" in caught.value.__cause__.__notes__
    atomic.sweep(tmp_path)
    assert kept.exists()
