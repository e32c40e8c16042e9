"""Runs whose directory is in a store: what is there, how they go on, what is read back."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from lightkit.callbacks import Callback, ModelCheckpoint
from lightkit.checkpoint import files
from lightkit.checkpoint.places import local_copy, place
from lightkit.errors import CheckpointError
from lightkit.loggers import CSVLogger, TensorBoardLogger
from lightkit.module import LightModule
from lightkit.trainer import Trainer


class Module(LightModule):
    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).pow(2).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val", self.layer(batch).pow(2).mean())

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("test", self.layer(batch).pow(2).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


class Killed(RuntimeError):
    pass


class Kill(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise Killed


def loader() -> DataLoader[torch.Tensor]:
    data = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    return DataLoader(data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(2))


def fit(root: str, *callbacks: Callback, ckpt_path: str | None = None, **arguments: Any) -> Trainer:
    checkpoint = ModelCheckpoint(monitor="val", save_top_k=2, save_last=True)
    trainer = Trainer(
        accelerator="cpu", max_epochs=4, log_every_n_steps=1, callbacks=[checkpoint, *callbacks],
        default_root_dir=root, enable_progress_bar=False, enable_model_summary=False, seed=1, **arguments,
    )  # fmt: skip
    trainer.fit(Module(), loader(), loader(), ckpt_path=ckpt_path)
    return trainer


def names_in(folder: Path) -> list[str]:
    """The files below a folder, by their names in it; event files without what their names say of machine and time."""
    found = (path for path in folder.rglob("*") if path.is_file())
    names = (re.sub(r"tfevents\..*", "tfevents", path.relative_to(folder).as_posix()) for path in found)
    return sorted(set(names))


def curves(folder: Path, into: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    into.mkdir()
    for path in folder.glob("events.out.tfevents.*"):
        (into / path.name).write_bytes(path.read_bytes())
    events = EventAccumulator(str(into), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def weights(trainer: Trainer) -> list[torch.Tensor]:
    assert trainer.lightning_module is not None
    return [parameter.detach().clone() for parameter in trainer.lightning_module.parameters()]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_in_a_store_leaves_what_it_leaves_on_a_disk(store: str, tmp_path: Path, is_async: bool) -> None:
    there = fit(store, async_checkpoint=is_async)
    here = fit(str(tmp_path / "here"), async_checkpoint=is_async)
    assert str(there.run_dir) == f"{store}/runs/Module/version_0"
    assert there.default_root_dir == store and there.log_dir == str(there.run_dir)
    expected = names_in(here.run_dir)
    assert len(expected) == 7 and "checkpoints/last.ckpt" in expected and "metrics.csv" in expected
    assert names_in(there.run_dir) == expected
    assert (there.run_dir / "metrics.csv").read_text() == (here.run_dir / "metrics.csv").read_text()
    assert (there.run_dir / "hparams.yaml").read_text() == "lr: 0.05\n"
    assert curves(there.run_dir, tmp_path / "a") == curves(here.run_dir, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir() if path.name not in "ab"] == ["here"]
    best, local = there.checkpoint_callback, here.checkpoint_callback
    assert isinstance(best, ModelCheckpoint) and isinstance(local, ModelCheckpoint)
    assert best.best_model_path == local.best_model_path.replace(str(here.run_dir), str(there.run_dir))
    assert best.dirpath == f"{there.run_dir}/checkpoints"
    contents = [files.load(callback.last_model_path)["state_dict"] for callback in (best, local)]
    assert all(torch.equal(contents[0][name], contents[1][name]) for name in contents[1])


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_in_a_store_that_was_killed_goes_on_exactly(store: str, tmp_path: Path, is_async: bool) -> None:
    whole = fit(f"{store}/whole")
    with pytest.raises(Killed):
        fit(f"{store}/cut", Kill(10), async_checkpoint=is_async)
    assert names_in(place(f"{store}/cut/runs/Module/version_0/checkpoints")) == [
        "epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt", "last.ckpt",
    ]  # fmt: skip
    resumed = fit(f"{store}/cut", ckpt_path="last", async_checkpoint=is_async)
    assert str(resumed.run_dir) == f"{store}/cut/runs/Module/version_0"
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))
    beside = {"metrics.before_resume_1.csv"}
    assert [name for name in names_in(resumed.run_dir) if name not in beside] == names_in(whole.run_dir)
    assert (resumed.run_dir / "metrics.csv").read_text() == (whole.run_dir / "metrics.csv").read_text()
    assert curves(resumed.run_dir, tmp_path / "a") == curves(whole.run_dir, tmp_path / "b")
    rows = list(csv.DictReader(io.StringIO((resumed.run_dir / "metrics.before_resume_1.csv").read_text())))
    assert [row["step"] for row in rows] == ["8", "9"]


def test_last_in_a_store_goes_to_the_next_whole_file_where_one_is_damaged(store: str) -> None:
    with pytest.raises(Killed):
        fit(store, Kill(14))
    folder = place(store) / "runs" / "Module" / "version_0" / "checkpoints"
    first, *others = sorted(folder.iterdir())
    assert [path.name for path in others][-1] == "last.ckpt" and len(others) == 2
    for path in others:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=rf"last\.ckpt is damaged: .*; use the newest whole one, {first}$"):
        files.load(f"{folder}/last.ckpt")
    resumed = fit(store, ckpt_path="last")
    assert resumed.ckpt_path == str(first)
    assert resumed.global_step == 16


def test_weights_are_taken_from_a_url_by_every_way_in(store: str, tmp_path: Path) -> None:
    trainer = fit(store)
    best = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    tested = trainer.test(dataloaders=loader(), ckpt_path="best", verbose=False)
    assert trainer.ckpt_path == best and best.startswith(store)
    assert trainer.test(dataloaders=loader(), ckpt_path=best, verbose=False) == tested
    trainer.save_checkpoint(f"{store}/by hand/x.ckpt")
    trainer.save_checkpoint(place(store) / "weights.ckpt", weights_only=True)
    for url in (f"{store}/by hand/x.ckpt", f"{store}/weights.ckpt"):
        loaded = Module.load_from_checkpoint(url)
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), weights(trainer), strict=True))
    (place(store) / "other.yaml").write_text("lr: 0.5\n")
    other = Module.load_from_checkpoint(f"{store}/weights.ckpt", hparams_file=f"{store}/other.yaml")
    assert other.hparams.lr == 0.5
    longer = fit(store, ckpt_path=f"{store}/by hand/x.ckpt", max_steps=16)
    assert longer.global_step == 16
    missing = f"there is no checkpoint {store}/by hand/y.ckpt; in that folder: 'x.ckpt'"
    with pytest.raises(CheckpointError, match=f"^{re.escape(missing)}$"):
        trainer.validate(Module(), loader(), ckpt_path=f"{store}/by hand/y.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_checkpoints_and_of_each_logger_may_be_in_a_store(store: str, tmp_path: Path) -> None:
    def start(ckpt_path: str | None = None, *callbacks: Callback) -> Trainer:
        checkpoint = ModelCheckpoint(f"{store}/kept", filename="{val/x}{epoch}", save_top_k=-1, every_n_epochs=1)
        trainer = Trainer(
            accelerator="cpu", max_epochs=2, log_every_n_steps=1, callbacks=[checkpoint, *callbacks],
            logger=[TensorBoardLogger(store, name="tb"), CSVLogger(f"{store}/", name="csv")], run_dir=tmp_path / "run",
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(), loader(), ckpt_path=ckpt_path)
        return trainer

    with pytest.raises(Killed):
        start(None, Kill(6))
    trainer = start("last")
    assert [logger.version for logger in trainer.loggers] == [0, 0]
    assert len(names_in(place(store) / "kept")) == 2
    assert names_in(place(store) / "tb") == ["version_0/events.out.tfevents", "version_0/hparams.yaml"]
    assert set(names_in(place(store) / "csv")) - {"version_0/metrics.before_resume_1.csv"} == {
        "version_0/hparams.yaml", "version_0/metrics.csv",
    }  # fmt: skip
    assert [logger.log_dir for logger in trainer.loggers] == [f"{store}/tb/version_0", f"{store}/csv/version_0"]
    again = start()
    assert [logger.version for logger in again.loggers] == [1, 1]


def test_rows_of_a_start_in_a_store_that_saved_nothing_are_set_aside(store: str) -> None:
    def start(*callbacks: Callback) -> Trainer:
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, log_every_n_steps=1, run_dir=f"{store}/run", callbacks=[*callbacks],
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        with pytest.warns(UserWarning, match="there is no checkpoint yet, nothing is loaded"):
            trainer.fit(Module(), loader(), ckpt_path="last")
        return trainer

    with pytest.raises(Killed):
        start(Kill(2))
    start()
    rows = csv.DictReader(io.StringIO((place(store) / "run" / "metrics.csv").read_text()))
    assert [row["step"] for row in rows if row["loss"]] == ["0", "1", "2", "3"]
    aside = csv.DictReader(io.StringIO((place(store) / "run" / "metrics.before_resume_1.csv").read_text()))
    assert [row["step"] for row in aside] == ["0", "1"]
    assert len(list((place(store) / "run").glob("events.out.before_resume_1.*"))) == 1


def test_a_profiler_and_predictions_may_be_in_a_store(store: str) -> None:
    trainer = fit(store, profiler="simple", logger=False)
    assert "where the time went" in (trainer.run_dir / "fit-profile.txt").read_text()


@pytest.mark.slow
def test_the_command_line_writes_its_config_into_the_store_and_goes_on_there(
    s3_server: str, tmp_path: Path, repository: Path
) -> None:
    environment = {
        "AWS_ENDPOINT_URL": s3_server, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": f"{repository}:{tmp_path}", "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1", "HOME": str(tmp_path),
    }  # fmt: skip
    make = "import fsspec; fsspec.filesystem('s3').mkdir('cli-bucket')"
    subprocess.run([sys.executable, "-c", make], env=environment, check=True)
    (tmp_path / "jobs.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "job.py").write_text(
        "import torch\nfrom torch.utils.data import DataLoader\nimport lightkit as lk\nfrom jobs import Module\n\n"
        "class Data(lk.LightDataModule):\n"
        "    def train_dataloader(self):\n        return DataLoader(torch.ones(8, 4), batch_size=2)\n",
        encoding="utf-8",
    )
    (tmp_path / "job.yaml").write_text(
        "model: {class_path: jobs.Module}\ndata: {class_path: job.Data}\ntrainer:\n  accelerator: cpu\n"
        "  max_epochs: 1\n  log_every_n_steps: 1\n  enable_progress_bar: false\n",
        encoding="utf-8",
    )
    root = "s3://cli-bucket/work"
    command = [sys.executable, "-m", "lightkit", "fit", "job.yaml", "--trainer.default_root_dir", root]
    first = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    run_dir = f"{root}/runs/Module/version_0"
    assert f"{run_dir}/checkpoints/epoch=0-step=4.ckpt" in first.stdout
    more = ["--ckpt_path", "last", "--trainer.max_epochs", "2"]
    more_of_it = [*command, *more]
    second = subprocess.run(more_of_it, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    alone = [*command[:3], "fit", "--resume", f"{root}/runs/Module/version_0", "--trainer.max_epochs", "3"]
    third = subprocess.run(alone, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr
    look = (
        "from lightkit.checkpoint.places import place\n"
        f"folder = place({run_dir!r})\n"
        "print(*sorted(path.name for path in folder.iterdir() if 'tfevents' not in path.name))\n"
        "print(len((folder / 'metrics.csv').read_text().splitlines()))\n"
        "print((folder / 'config.yaml').read_text())"
    )
    found = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    names, num_lines, config = found.stdout.split("\n", 2)
    assert names == "checkpoints config.yaml config_2.yaml config_3.yaml hparams.yaml metrics.csv run.json"
    assert int(num_lines) == 1 + 3 * 4
    assert yaml.safe_load(config)["trainer"]["default_root_dir"] == root
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("s3")]


def test_what_a_file_of_a_store_is_can_be_seen_without_its_weights(store: str) -> None:
    url = f"{store}/x.ckpt"
    files.save({"state_dict": {"w": torch.ones(100_000)}, "loop": {"step": 3}}, url)
    outline = files.outline(url)
    assert outline["loop"] == {"step": 3} and outline["state_dict"]["w"].shape == (100_000,)
    with local_copy(place(url)) as local:
        assert files.outline(local)["loop"] == {"step": 3}


def test_a_folder_that_a_checkpoint_names_in_a_foreign_store_is_not_asked(store: str) -> None:
    trainer = fit(store, max_steps=8)
    url = trainer.checkpoint_callback.last_model_path  # type: ignore[union-attr]
    content = files.load(url)
    key = next(key for key in content["callbacks"] if key.startswith("ModelCheckpoint"))
    state = content["callbacks"][key]
    foreign = "sftp://nobody.invalid/checkpoints"
    state.update(dirpath=foreign, best_k_models={f"{foreign}/x.ckpt": 0.1}, best_model_path=f"{foreign}/x.ckpt")
    files.save(content, f"{store}/changed.ckpt", files.note(url))  # type: ignore[arg-type]
    those = "ModelCheckpoint: 1 checkpoint(s) kept before the resume"
    message = f"{those} no longer exist and are forgotten: {foreign}/x.ckpt"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        resumed = fit(f"{store}/other", ckpt_path=f"{store}/changed.ckpt")
    assert resumed.global_step == 16


def test_a_run_in_a_store_resumes_by_itself_and_a_finished_one_takes_no_step(store: str) -> None:
    def start(*callbacks: Callback) -> Trainer:
        trainer = Trainer(
            accelerator="cpu", max_epochs=3, log_every_n_steps=1, run_dir=f"{store}/run", resume="auto", seed=1,
            callbacks=[ModelCheckpoint(), *callbacks], enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(), loader())
        return trainer

    for step in (2, 6):
        with pytest.raises(Killed):
            start(Kill(step))
    assert start().global_step == 12
    again = Count()
    start(again)
    assert again.num_batches == 0
    rows = list(csv.DictReader(io.StringIO((place(store) / "run" / "metrics.csv").read_text())))
    assert [row["step"] for row in rows] == [str(step) for step in range(12)]


class Count(Callback):
    num_batches = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.num_batches += 1


def test_a_link_to_the_newest_is_a_copy_in_a_store(store: str) -> None:
    def start(*callbacks: Callback, ckpt_path: str | None = None) -> Trainer:
        checkpoint = ModelCheckpoint(f"{store}/kept", save_last="link", every_n_train_steps=2, save_top_k=1)
        trainer = Trainer(
            accelerator="cpu", max_epochs=2, logger=False, run_dir=f"{store}/run", callbacks=[checkpoint, *callbacks],
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(), loader(), ckpt_path=ckpt_path)
        return trainer

    with pytest.raises(Killed):
        start(Kill(5))
    assert names_in(place(f"{store}/kept")) == ["epoch=0-step=4.ckpt", "last.ckpt"]
    start(ckpt_path="last")
    assert names_in(place(f"{store}/kept")) == ["epoch=1-step=8.ckpt", "last.ckpt"]
    contents = [(place(f"{store}/kept") / name).read_bytes() for name in ("epoch=1-step=8.ckpt", "last.ckpt")]
    assert contents[0] == contents[1]


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    trainer = fit("~/work", logger=[TensorBoardLogger(), CSVLogger("~/logs")])
    trainer.save_checkpoint("~/by hand.ckpt")
    Module.load_from_checkpoint("~/by hand.ckpt")
    assert trainer.default_root_dir == f"{home}/work" and trainer.run_dir == home / "work/runs/Module/version_0"
    assert sorted(path.name for path in home.iterdir()) == ["by hand.ckpt", "logs", "work"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
