"""What stands in a folder of checkpoints after a kill and a resume: what would stand there without, and all else."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightkit.callbacks import Callback, ModelCheckpoint
from lightkit.callbacks.checkpoint_names import find_file
from lightkit.checkpoint import atomic, files
from lightkit.errors import CheckpointError, ConfigError, RunDirError
from lightkit.loggers import CSVLogger
from lightkit.schema import StateError

VALUES = (0.5, 0.3, 0.4, 0.2, 0.6)


class Killed(BaseException):
    """Stands for a process that is no more."""


class KillsAt(Callback):
    """Ends the process, as it were, when a training step begins."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise Killed


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def kill_at_call(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    """Raise Killed before the count-th call of `os.NAME` for a checkpoint, and at each one after it."""
    original, calls = getattr(os, name), [0]

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls[0] += str(args[-1]).endswith(".ckpt")
        if calls[0] >= count:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(os, name, dying)


def global_step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


# ------------------------------------------------------------ one decision


def two(root: Path) -> list[Callback]:
    return [
        ModelCheckpoint(root / "kept", monitor="v", filename="best-{epoch}", save_last=True),
        ModelCheckpoint(root / "kept", monitor="v", mode="max", filename="worst-{epoch}"),
    ]


@pytest.mark.parametrize("count", range(1, 4))  # the files of the first moment: best, last and worst
def test_a_moment_that_was_cut_short_is_made_up_from_any_of_its_files(
    tmp_path: Path, fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    whole = two(tmp_path / "whole")
    fit(whole, max_epochs=2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_call(patch, "replace", count + 1)
        fit(two(tmp_path / "cut"), max_epochs=2)
    resumed = two(tmp_path / "cut")
    trainer = fit(resumed, max_epochs=2, ckpt_path="last")
    assert trainer.global_step == 8
    assert names_in(tmp_path / "cut") == names_in(tmp_path / "whole")
    for a, b in zip(whole, resumed, strict=True):
        assert Path(a.best_model_path).name == Path(b.best_model_path).name
    for path in (tmp_path / "whole" / "kept").iterdir():
        assert global_step_of(path) == global_step_of(tmp_path / "cut" / "kept" / path.name)


def test_all_files_of_a_moment_hold_the_state_after_all_of_them(tmp_path: Path, fit: Callable[..., Any]) -> None:
    fit(two(tmp_path), max_epochs=1)
    states = [torch.load(path, weights_only=True)["callbacks"] for path in sorted((tmp_path / "kept").iterdir())]
    assert len(states) == 3
    for state in states:
        assert [Path(s["best_model_path"]).name for s in state.values()] == ["best-epoch=0.ckpt", "worst-epoch=0.ckpt"]


@pytest.mark.parametrize("arguments", [
    {"save_weights_only": True, "filename": "weights-{step}"}, {"save_last": "link", "filename": "linked-{step}"},
])  # fmt: skip
def test_weights_and_links_are_made_up_too(
    tmp_path: Path, fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    def callbacks(root: Path) -> list[Callback]:
        return [ModelCheckpoint(root / "a", filename="a-{step}"), ModelCheckpoint(root / "b", **arguments)]

    fit(callbacks(tmp_path / "whole"), max_epochs=2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_call(patch, "replace", 2)  # the first file of the second callback
        fit(callbacks(tmp_path / "cut"), max_epochs=2)
    fit(callbacks(tmp_path / "cut"), max_epochs=1, ckpt_path="last")  # nothing is left to be trained
    step = {"a/a-step=4.ckpt": 4}
    names = [name for name in names_in(tmp_path / "cut") if name.endswith(".ckpt")]
    expected = {"weights-{step}": ["b/weights-step=4.ckpt"], "linked-{step}": ["b/last.ckpt", "b/linked-step=4.ckpt"]}
    assert names == [*step, *expected[arguments["filename"]]]
    assert all(global_step_of(tmp_path / "cut" / name) == 4 for name in names)


def test_a_save_that_failed_is_made_up_from_what_the_exception_left(
    tmp_path: Path, fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "kept"

    def callbacks() -> list[Callback]:
        return [
            ModelCheckpoint(root / "a", filename="{step}", save_on_exception=True),
            ModelCheckpoint(root / "b", filename="{step}"),
        ]

    original = os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith("b/step=8.ckpt"):
            raise OSError(28, "No space left on device")
        original(source, target)

    with monkeypatch.context() as patch, pytest.raises(RunDirError, match="No space left on device"):
        patch.setattr(os, "replace", full)
        fit(callbacks(), max_epochs=2)
    assert names_in(root) == ["a", "a/step=4.ckpt", "a/step=8-v1.ckpt", "a/step=8.ckpt", "b", "b/step=4.ckpt"]
    fit(callbacks(), max_epochs=1, ckpt_path="last")  # nothing is left to be trained
    assert names_in(root) == ["a", "a/step=8-v1.ckpt", "a/step=8.ckpt", "b", "b/step=8.ckpt"]
    assert global_step_of(root / "b" / "step=8.ckpt") == 8


# ------------------------------------------------------------ reconciled


def test_what_a_kill_kept_from_being_deleted_is_deleted_on_resume(
    tmp_path: Path, fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = lambda: ModelCheckpoint(tmp_path / "kept", filename="{step}")  # noqa: E731
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_call(patch, "unlink", 1)
        fit([callback()], max_epochs=5)
    assert names_in(tmp_path / "kept") == ["step=4.ckpt", "step=8.ckpt"]
    fit([callback()], max_epochs=2, ckpt_path="last")
    assert names_in(tmp_path / "kept") == ["step=8.ckpt"]


def test_half_written_files_of_a_dead_process_go_when_a_fit_begins(tmp_path: Path, fit: Callable[..., Any]) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    left = [kept / ".step=4.ckpt.999999999.0123abcd.tmp", kept / f".step=4.ckpt.{os.getpid()}.0123abcd.tmp"]
    for path in left:  # the second: a process of the same number, as the first of each container has it
        path.write_bytes(b"half")
    (kept / "mine.tmp").write_bytes(b"precious")
    fit([ModelCheckpoint(kept, filename="{step}")], max_epochs=1)
    assert names_in(kept) == ["mine.tmp", "step=4.ckpt"]


def test_a_file_that_is_being_written_is_not_swept_away(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        atomic.sweep(tmp_path)
        file.write(b"whole")

    atomic.replace(tmp_path / "file", fill)
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_what_was_saved_after_the_checkpoint_gone_on_from_is_removed(
    tmp_path: Path, fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    callback = lambda: ModelCheckpoint(tmp_path / "kept", filename="same", save_top_k=-1, save_last=True)  # noqa: E731
    fit([callback()], max_epochs=4)
    assert names_in(tmp_path / "kept") == ["last.ckpt", "same-v1.ckpt", "same-v2.ckpt", "same-v3.ckpt", "same.ckpt"]
    kept = tmp_path / "kept"
    fit([callback()], max_epochs=3, ckpt_path=kept / "same-v1.ckpt")
    assert names_in(kept) == ["last.ckpt", "same-v1.ckpt", "same-v2.ckpt", "same.ckpt"]
    assert [global_step_of(kept / name) for name in names_in(kept)] == [12, 8, 12, 4]
    assert capsys.readouterr().out == (
        f"ModelCheckpoint: 2 checkpoint(s) saved after {kept}/same-v1.ckpt are removed, the run goes on from there: "
        f"{kept}/same-v2.ckpt, {kept}/same-v3.ckpt\n"
    )


def test_files_of_the_user_stay_on_a_resume(tmp_path: Path, fit: Callable[..., Any]) -> None:
    kept = tmp_path / "kept"
    callbacks = lambda: [ModelCheckpoint(kept, filename="{step}", save_last=True)]  # noqa: E731
    fit(callbacks(), max_epochs=3)
    shutil.copy(kept / "last.ckpt", kept / "precious.ckpt")  # a copy, which says that it is last.ckpt
    (kept / "step=4.ckpt").write_text("mine")
    torch.save({"state_dict": {}}, kept / "step=8.ckpt")
    fit([ModelCheckpoint(kept, filename="other-{step}")], max_epochs=4)  # another run
    fit(callbacks(), max_epochs=5, ckpt_path=kept / "last.ckpt")
    assert names_in(kept) == [
        "last.ckpt", "other-step=16.ckpt", "precious.ckpt", "step=20.ckpt", "step=4.ckpt", "step=8.ckpt",
    ]  # fmt: skip
    assert (kept / "step=4.ckpt").read_text() == "mine"


def test_two_callbacks_in_one_folder_keep_their_own_on_a_resume(tmp_path: Path, fit: Callable[..., Any]) -> None:
    def callbacks(root: Path) -> list[Callback]:
        return [
            ModelCheckpoint(root / "kept", monitor="v", save_top_k=2),
            ModelCheckpoint(root / "kept", every_n_train_steps=2, save_top_k=-1),
        ]

    fit(callbacks(tmp_path / "whole"))
    with pytest.raises(Killed):
        fit([*callbacks(tmp_path / "cut"), KillsAt(11)])
    fit(callbacks(tmp_path / "cut"), ckpt_path="last")
    assert names_in(tmp_path / "cut") == names_in(tmp_path / "whole")


def test_a_moved_run_is_reconciled_where_it_is_now(tmp_path: Path, fit: Callable[..., Any]) -> None:
    def callbacks(root: Path) -> list[Callback]:
        return [ModelCheckpoint(root / "kept", monitor="v", save_top_k=2, filename="{epoch}-{v:.1f}", save_last=True)]

    fit(callbacks(tmp_path / "whole"))
    with pytest.raises(Killed):
        fit([*callbacks(tmp_path / "before"), KillsAt(11)])
    (tmp_path / "before").rename(tmp_path / "after")
    fit(callbacks(tmp_path / "after"), ckpt_path="last")
    assert names_in(tmp_path / "after") == names_in(tmp_path / "whole")
    assert not (tmp_path / "before").exists()


def test_the_newer_files_of_a_copied_run_stay_where_an_older_one_is_named(
    tmp_path: Path, fit: Callable[..., Any]
) -> None:
    fit([ModelCheckpoint(tmp_path / "a", filename="{step}", save_top_k=-1)], max_epochs=3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    fit([ModelCheckpoint(tmp_path / "b", filename="{step}", save_top_k=-1)], max_epochs=3,
        ckpt_path=tmp_path / "b" / "step=8.ckpt")  # fmt: skip
    assert names_in(tmp_path / "b") == ["step=12-v1.ckpt", "step=12.ckpt", "step=4.ckpt", "step=8.ckpt"]
    assert names_in(tmp_path / "a") == ["step=12.ckpt", "step=4.ckpt", "step=8.ckpt"]


def test_a_run_that_began_before_files_said_whose_they_are_goes_on(
    tmp_path: Path, fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    with monkeypatch.context() as patch:
        patch.setattr("lightkit.run.saving.note_of", lambda run: None)
        fit([ModelCheckpoint(kept, filename="{step}", save_last=True)], max_epochs=2)
    assert files.note(kept / "last.ckpt") is None
    fit([ModelCheckpoint(kept, filename="{step}", save_last=True)], max_epochs=3, ckpt_path="last")
    assert names_in(kept) == ["last.ckpt", "step=12.ckpt"]


def test_two_runs_that_began_before_that_do_not_take_each_others_files(
    tmp_path: Path, fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    callback = lambda: ModelCheckpoint(kept, filename="{step}", save_top_k=-1)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr("lightkit.run.saving.note_of", lambda run: None)
        fit([callback()], max_epochs=1)
    start = tmp_path / "start.ckpt"
    shutil.copy(kept / "step=4.ckpt", start)
    fit([callback()], max_epochs=3, ckpt_path=start)
    fit([callback()], max_epochs=2, ckpt_path=start)
    assert names_in(kept) == ["step=12.ckpt", "step=4.ckpt", "step=8-v1.ckpt", "step=8.ckpt"]


# ------------------------------------------------------------ names that hold a slash


def test_last_finds_checkpoints_in_sub_folders(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = lambda: ModelCheckpoint(monitor="v", filename="{epoch}-{part/v:.1f}", save_top_k=1)  # noqa: E731
    trainer = fit([callback()], max_epochs=2, run_dir=tmp_path / "run")
    assert Path(callback().format_checkpoint_name({"epoch": 1, "part/v": 0.0})).parts == (
        "epoch=1-part", "v=0.0.ckpt",
    )  # fmt: skip
    again = fit([callback()], max_epochs=3, run_dir=tmp_path / "run", ckpt_path="last")
    assert trainer.global_step == 8 and again.ckpt_path == str(tmp_path / "run/checkpoints/epoch=1-part/v=0.0.ckpt")


def test_last_finds_the_newest_run_by_its_sub_folders_and_goes_on_in_it(
    tmp_path: Path, fit: Callable[..., Any]
) -> None:
    callback = lambda: ModelCheckpoint(filename="{epoch}/{step}")  # noqa: E731
    first = fit([callback()], max_epochs=1, default_root_dir=tmp_path)
    again = fit([callback()], max_epochs=2, default_root_dir=tmp_path, ckpt_path="last")
    assert again.run_dir == first.run_dir
    assert names_in(first.run_dir / "checkpoints") == ["epoch=1", "epoch=1/step=8.ckpt"]


def test_folders_of_deleted_checkpoints_go(tmp_path: Path, fit: Callable[..., Any]) -> None:
    fit([ModelCheckpoint(tmp_path / "kept", filename="{epoch}/{part/v}/{step}")], max_epochs=3)
    assert names_in(tmp_path / "kept") == [
        "epoch=2", "epoch=2/part", "epoch=2/part/v=0", "epoch=2/part/v=0/step=12.ckpt",
    ]  # fmt: skip


def test_a_run_that_goes_on_by_itself_finds_sub_folders_and_reconciles_them(
    tmp_path: Path, fit: Callable[..., Any]
) -> None:
    def callbacks() -> list[Callback]:
        return [ModelCheckpoint(filename="{epoch}/{step}", save_top_k=2, monitor="v")]

    for name, step in (("whole", 99), ("cut", 11), ("cut", 99)):
        try:
            fit([*callbacks(), KillsAt(step)], run_dir=tmp_path / name, resume="auto")
        except Killed:
            assert step == 11
    assert names_in(tmp_path / "cut" / "checkpoints") == names_in(tmp_path / "whole" / "checkpoints")
    assert len(names_in(tmp_path / "cut" / "checkpoints")) == 4


def test_a_run_that_a_signal_ended_knows_its_files_again(tmp_path: Path, fit: Callable[..., Any]) -> None:
    class Ends(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 10:
                signal.raise_signal(signal.SIGTERM)

    def callbacks(name: str) -> list[Callback]:
        return [ModelCheckpoint(tmp_path / name, filename="{step}", monitor="v", save_top_k=2)]

    fit(callbacks("whole"))
    with pytest.raises(SystemExit):
        fit([*callbacks("cut"), Ends()])
    fit(callbacks("cut"), ckpt_path="last")
    assert names_in(tmp_path / "cut") == names_in(tmp_path / "whole")


def test_last_does_not_look_deeper_than_names_go(tmp_path: Path, fit: Callable[..., Any]) -> None:
    fit([ModelCheckpoint(tmp_path / "project" / "other" / "checkpoints")], max_epochs=2)
    with pytest.warns(UserWarning, match="there is no checkpoint yet, nothing is loaded"):
        trainer = fit([ModelCheckpoint(tmp_path / "project")], max_epochs=1, ckpt_path="last")
    assert trainer.global_step == 4


# ------------------------------------------------------------ paths are data


@pytest.mark.parametrize("path", [
    "{kept}/../thesis.ckpt", "{root}/thesis.ckpt", "{kept}/link/thesis.ckpt", "{kept}/mine.ckpt", "thesis.ckpt",
])  # fmt: skip
@pytest.mark.parametrize("key", ["best", "last", "unranked"])
def test_a_path_in_a_checkpoint_deletes_nothing_that_the_run_did_not_write(
    tmp_path: Path, fit: Callable[..., Any], path: str, key: str
) -> None:
    kept = tmp_path / "kept"
    fit([ModelCheckpoint(kept, monitor="v", save_last=True)], max_epochs=1)
    thesis, mine = tmp_path / "thesis.ckpt", kept / "mine.ckpt"
    shutil.copy(kept / "last.ckpt", thesis)
    shutil.copy(kept / "last.ckpt", mine)
    (kept / "link").symlink_to(tmp_path)
    path = path.format(kept=kept, root=tmp_path)
    content, note = files.load(kept / "last.ckpt"), files.note(kept / "last.ckpt")
    assert isinstance(note, dict)
    (state,), (said,) = content["callbacks"].values(), note["saved_by"].values()
    if key == "best":
        state.update(best_k_models={path: 9.0}, best_model_path=path, kth_best_model_path=path, kth_value=9.0)
    elif key == "last":
        state["last_model_path"] = state["newest_file"] = path
    else:
        said["unranked"] = os.path.relpath(path, kept)
    said["kept"] = {os.path.relpath(path, kept): 1}
    files.save(content, tmp_path / "crafted.ckpt", note)
    callback = ModelCheckpoint(kept, monitor="v", save_last=True)
    if key == "best":
        with pytest.warns(UserWarning, match="no longer exist and are forgotten"):
            fit([callback], max_epochs=5, ckpt_path=tmp_path / "crafted.ckpt")
    else:
        fit([callback], max_epochs=5, ckpt_path=tmp_path / "crafted.ckpt")
    assert thesis.read_bytes() == mine.read_bytes() != b""
    assert Path(callback.best_model_path) == kept / "epoch=3-step=16.ckpt"
    assert Path(callback.last_model_path).parent == kept


def test_a_text_that_begins_like_the_folder_is_not_in_it(tmp_path: Path) -> None:
    assert find_file("/then/a/b.ckpt", "/then", str(tmp_path)) == str(tmp_path / "a/b.ckpt")
    for path in ("/then/../thesis.tex", "/then/a/../../thesis.tex", "/thena/b", "/then", "b", "/then/\0"):
        assert find_file(path, "/then", str(tmp_path)) == ""


@pytest.mark.parametrize("version", ["../..", "..", ".", "a/b", "/etc", "", -1, "link"])
def test_a_logger_does_not_go_on_in_a_directory_that_is_none_of_its_own(tmp_path: Path, version: int | str) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("step,loss\n0,1\n1,2\n")
    (tmp_path / "logs" / "name").mkdir(parents=True)
    (tmp_path / "logs" / "name" / "link").symlink_to(tmp_path)
    logger = CSVLogger(tmp_path / "logs", "name")
    state = {"save_dir": str(tmp_path / "logs"), "name": "name", "version": version, "num_rows": 0, "columns": []}
    with pytest.raises(StateError) as caught:
        logger.load_state_dict(state)
    assert str(caught.value) == (
        f"['version']: expected a number or a plain name of a directory in {tmp_path}/logs/name, found {version!r}"
    )
    assert table.read_text() == "step,loss\n0,1\n1,2\n"


@pytest.mark.parametrize("version", [3, "mine"])
def test_a_logger_goes_on_in_a_number_or_a_plain_name(tmp_path: Path, version: int | str) -> None:
    logger = CSVLogger(tmp_path, "name")
    logger.load_state_dict({"save_dir": str(tmp_path), "name": "name", "version": version})
    assert logger.version == version


def test_a_table_that_is_a_link_to_another_is_not_cut(tmp_path: Path) -> None:
    table = tmp_path / "thesis.csv"
    table.write_text("step,loss\n0,1\n1,2\n")
    logger = CSVLogger(tmp_path / "logs", "name")
    (tmp_path / "logs" / "name" / "version_0").mkdir(parents=True)
    (tmp_path / "logs" / "name" / "version_0" / "metrics.csv").symlink_to(table)
    logger.load_state_dict(
        {"save_dir": str(tmp_path / "logs"), "name": "name", "version": 0, "num_rows": 0, "columns": ["step"]}
    )
    assert table.read_text() == "step,loss\n0,1\n1,2\n"
    assert names_in(tmp_path / "logs" / "name" / "version_0") == ["metrics.csv"]


def test_a_run_goes_on_only_in_a_folder_that_lightkit_marked(tmp_path: Path, fit: Callable[..., Any]) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"something": "else"}))
    fit([ModelCheckpoint(tmp_path / "kept")], max_epochs=1, default_root_dir=tmp_path / "root")
    trainer = fit([ModelCheckpoint(tmp_path / "kept")], max_epochs=2, default_root_dir=tmp_path / "root",
                  ckpt_path=tmp_path / "kept" / "epoch=0-step=4.ckpt")  # fmt: skip
    assert trainer.run_dir == tmp_path / "root" / "runs" / "Scripted" / "version_1"


def test_a_state_of_another_form_is_refused(tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path)
    for key, value in {"best_k_models": 3, "last_model_path": None, "last_step_saved": "x", "dirpath": 1}.items():
        with pytest.raises(CheckpointError, match=rf"^\['{key}'\]: expected "):
            callback.load_state_dict({**callback.state_dict(), key: value})


# ------------------------------------------------------------ names


@pytest.mark.parametrize("filename", ["../x", "a/../../x", "/tmp/x", "..", "a\0b", "x\\..\\y"])
def test_a_pattern_that_leads_out_of_the_folder_is_refused(filename: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelCheckpoint(filename=filename)
    problem = "names stay inside the folder of the checkpoints; give another folder as dirpath"
    if "\0" in filename:
        problem = "a name of a file cannot hold a NUL character"
    assert str(caught.value) == f"ModelCheckpoint(filename={filename!r}): {problem}."


def test_a_name_that_a_format_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, filename="{v:/>8.2f}", auto_insert_metric_name=False)
    with pytest.raises(ConfigError) as caught:
        callback.format_checkpoint_name({"v": 0.5})
    assert str(caught.value) == (
        "ModelCheckpoint: the name '////0.50': names stay inside the folder of the checkpoints; give another folder as "
        "dirpath."
    )


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path, fit: Callable[..., Any]) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").symlink_to(tmp_path)
    with pytest.raises(ConfigError) as caught:
        fit([ModelCheckpoint(tmp_path / "kept", filename="a/{step}")], max_epochs=1)
    assert str(caught.value) == (
        f"ModelCheckpoint: {tmp_path}/kept/a/step=4.ckpt is not inside {tmp_path}/kept, a link leads out of it; names "
        "stay inside the folder of the checkpoints"
    )


# ------------------------------------------------------------ for real

SCRIPT = """
import os, sys, torch
import lightkit as lk
from torch.utils.data import DataLoader
from lightkit.callbacks import ModelCheckpoint

count = int(sys.argv[1])
original, calls = os.replace, [0]
def replace(source, target):
    calls[0] += 1
    if calls[0] == count and str(target).endswith(".ckpt"):
        os._exit(9)
    original(source, target)
os.replace = replace

class Net(lk.LightModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.001)

callbacks = [ModelCheckpoint(every_n_train_steps=2, save_last=True, filename="a-{step}"), ModelCheckpoint(filename="b-{step}")]
trainer = lk.Trainer(max_epochs=2, accelerator="cpu", run_dir="run", callbacks=callbacks, logger=False,
                     enable_progress_bar=False, enable_model_summary=False, async_checkpoint=len(sys.argv) > 2)
trainer.fit(Net(), DataLoader(torch.ones(4, 1)), ckpt_path="last" if os.path.isdir("run/checkpoints") else None)
print(trainer.global_step)
"""  # noqa: E501


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["async"]])
def test_a_process_that_ends_between_two_files_leaves_what_an_undisturbed_one_does(
    tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    for count in (2, 4, 7):  # a: best and last at step 2; at step 4 best, last, b; ...
        command = [sys.executable, "script.py", str(count), *options]
        subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
    done = subprocess.run([*command[:2], "0", *options], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == "8"
    assert names_in(tmp_path / "run" / "checkpoints") == ["a-step=8.ckpt", "b-step=8.ckpt", "last.ckpt"]
