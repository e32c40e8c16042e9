"""`trainer.state`: enums that are equal to their text, while a run goes on and afterwards."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.trainer.states import RunningStage, TrainerFn, TrainerState, TrainerStatus


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).pow(2).mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val", self.layer(batch).mean())

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("test", self.layer(batch).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data() -> DataLoader[Any]:
    return DataLoader(torch.randn(8, 4), batch_size=4)  # type: ignore[arg-type]


def trainer(path: Path, **more: Any) -> lk.Trainer:
    plain = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return lk.Trainer(default_root_dir=path, accelerator="cpu", logger=False, max_epochs=1, **plain, **more)


class Watch(lk.Callback):
    """Keeps what a user reads of the state in each hook."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, str]] = []

    def note(self, hook: str, trainer: lk.Trainer) -> None:
        state = trainer.state
        assert state.fn is not None and state.stage is not None
        self.seen.append((hook, state.fn.value, state.stage.value, state.status.value))

    def setup(self, trainer: lk.Trainer, pl_module: lk.LightModule, stage: str) -> None:
        assert stage is TrainerFn(stage)
        self.note("setup", trainer)

    def on_validation_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        assert trainer.evaluating and trainer.sanity_checking != trainer.validating
        self.note("validation", trainer)

    def on_train_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        self.note("train", trainer)

    def teardown(self, trainer: lk.Trainer, pl_module: lk.LightModule, stage: str) -> None:
        self.note("teardown", trainer)


def test_the_state_says_what_runs_and_keeps_fn_afterwards(tmp_path: Path) -> None:
    watch, module = Watch(), Net()
    t = trainer(tmp_path, callbacks=[watch])
    assert t.state == TrainerState(TrainerStatus.INITIALIZING, None, None) and not t.state.stopped
    t.fit(module, data(), data())
    assert watch.seen == [
        ("setup", "fit", "train", "running"),
        ("validation", "fit", "sanity_check", "running"),
        ("train", "fit", "train", "running"),
        ("validation", "fit", "validate", "running"),
        ("teardown", "fit", "train", "finished"),
    ]
    assert t.state == TrainerState(TrainerStatus.FINISHED, TrainerFn.FITTING, None)
    assert t.state.finished and t.state.stopped and t.state.fn == "fit" and t.state.status == "finished"
    t.test(module, data(), verbose=False)
    assert (t.state.fn, t.state.stage) == (TrainerFn.TESTING, None)


def test_a_failed_run_has_stopped_and_is_not_finished(tmp_path: Path) -> None:
    class Fails(Net):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            raise ValueError("mine")

    t = trainer(tmp_path)
    with pytest.raises(ValueError, match="^mine$"):
        t.fit(Fails(), data())
    assert (t.state.fn, t.state.status) == (TrainerFn.FITTING, TrainerStatus.FAILED)
    assert t.state.stopped and not t.state.finished


@pytest.mark.parametrize("word", [*TrainerFn, *RunningStage, *TrainerStatus])
def test_words_are_their_text(word: Any) -> None:
    assert word == word.value and f"{word}" == str(word) == word.value and {word: 1}[word.value] == 1
    assert copy.deepcopy(word) is word and pickle.loads(pickle.dumps(word)) is word


def test_a_stage_knows_its_loaders_and_whether_it_evaluates() -> None:
    found = {stage.value: (stage.dataloader_prefix, stage.evaluating) for stage in RunningStage}
    assert found == {
        "train": ("train", False), "sanity_check": ("val", True), "validate": ("val", True), "test": ("test", True),
        "predict": ("predict", False),
    }  # fmt: skip
