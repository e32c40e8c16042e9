import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightkit.callbacks import Callback, ModelCheckpoint
from lightkit.errors import ConfigError
from lightkit.module import LightModule

NAN = float("nan")


def files_of(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


METRICS = {
    "epoch": torch.tensor(3),
    "step": torch.tensor(40),
    "val_loss": torch.tensor(0.12345),
    "val/acc": torch.tensor(0.9),
    "epoch_test": torch.tensor(2.0),
    "bad": torch.tensor(NAN),
}


# What Lightning 2.6.6 answers.
@pytest.mark.parametrize(
    ("pattern", "auto_insert", "name"),
    [
        (None, True, "epoch=3-step=40"),
        ("{epoch:02d}-{val_loss:.2f}", True, "epoch=03-val_loss=0.12"),
        ("x-{epoch}-{val/acc:.3f}", True, "x-epoch=3-val/acc=0.900"),
        ("e{epoch:03d}_a{val/acc:.1f}", False, "e003_a0.9"),
        ("{epoch}-{epoch_test}", True, "epoch=3-epoch_test=2.0"),
        ("{missing:d}-{missing2:.2f}", True, "missing=0-missing2=0.00"),
        ("plain", True, "plain"),
        ("{bad:.2f}", True, "bad=nan"),
        ("{val_loss}", True, "val_loss=0.12345000356435776"),
    ],
)
def test_file_names_are_those_of_lightning(pattern: str | None, auto_insert: bool, name: str) -> None:
    callback = ModelCheckpoint(filename=pattern, auto_insert_metric_name=auto_insert)
    assert callback.format_checkpoint_name(METRICS) == f"{name}.ckpt"
    assert callback.format_checkpoint_name(METRICS, ver=2, prefix="p") == f"p-{name}-v2.ckpt"


def test_file_names_have_their_directory(tmp_path: Path) -> None:
    assert ModelCheckpoint(tmp_path).format_checkpoint_name(METRICS) == str(tmp_path / "epoch=3-step=40.ckpt")


EPOCHS = ["epoch=0-step=4", "epoch=1-step=8", "epoch=2-step=12", "epoch=3-step=16", "epoch=4-step=20"]
HALVES = [f"epoch={step // 4 - (step % 4 == 0)}-step={step}" for step in range(2, 21, 2)]


# The files are those that Lightning 2.6.6 leaves after the same five epochs.
@pytest.mark.parametrize(
    ("arguments", "trainer_arguments", "files", "best", "worst"),
    [
        ({}, {}, [EPOCHS[4]], EPOCHS[4], None),
        ({"monitor": "v"}, {}, [EPOCHS[3]], EPOCHS[3], EPOCHS[3]),
        ({"monitor": "v", "save_top_k": 2}, {}, [EPOCHS[1], EPOCHS[3]], EPOCHS[3], EPOCHS[1]),
        (
            {"monitor": "v", "save_top_k": 2, "mode": "max", "save_last": True},
            {},
            [EPOCHS[0], EPOCHS[4], "last"],
            EPOCHS[4],
            EPOCHS[0],
        ),
        ({"monitor": "v", "save_top_k": -1}, {}, EPOCHS, EPOCHS[3], EPOCHS[4]),
        ({"save_top_k": -1, "every_n_epochs": 2}, {}, [EPOCHS[1], EPOCHS[3]], EPOCHS[3], None),
        ({"save_top_k": 0, "save_last": True}, {}, ["last"], None, None),
        ({"monitor": "v", "save_last": "link"}, {}, [EPOCHS[3], "last"], EPOCHS[3], EPOCHS[3]),
        (
            {"every_n_train_steps": 3, "save_top_k": -1},
            {},
            [f"epoch={(step - 1) // 4}-step={step}" for step in (3, 6, 12, 9, 15, 18)],
            "epoch=4-step=18",
            None,
        ),
        (
            {"every_n_train_steps": 3, "save_top_k": 2, "monitor": "step", "mode": "max"},
            {},
            ["epoch=3-step=15", "epoch=4-step=18"],
            "epoch=4-step=18",
            "epoch=3-step=15",
        ),
        (
            {"monitor": "v", "filename": "same", "save_top_k": 3},
            {},
            ["same-v1", "same-v2", "same"],
            "same",
            "same-v2",
        ),
        ({"filename": "same", "save_last": True}, {}, ["last", "same"], "same", None),
        (
            {"monitor": "v", "save_top_k": -1},
            {"val_check_interval": 0.5},
            sorted(HALVES),
            "epoch=3-step=14",
            "epoch=4-step=18",
        ),
        (
            {"monitor": "v", "save_top_k": -1},
            {"check_val_every_n_epoch": 2},
            [EPOCHS[1], EPOCHS[3]],
            EPOCHS[3],
            EPOCHS[1],
        ),
    ],
)
def test_the_files_kept_are_those_of_lightning(
    tmp_path: Path,
    fit: Callable[..., Any],
    arguments: dict[str, Any],
    trainer_arguments: dict[str, Any],
    files: list[str],
    best: str | None,
    worst: str | None,
) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", **arguments)
    fit([callback], **trainer_arguments)
    assert files_of(tmp_path / "kept") == [f"{name}.ckpt" for name in files]
    paths = [callback.best_model_path, callback.kth_best_model_path]
    assert [Path(path).stem or None for path in paths] == [best, worst]


@pytest.mark.parametrize(
    ("values", "top_k", "files", "score"),
    [
        ((NAN, 0.3, NAN, 0.2, NAN), 3, EPOCHS[1:4], 0.2),
        ((NAN, NAN, NAN, NAN, NAN), 1, EPOCHS[:1], float("inf")),
        ((0.3, 0.3, 0.3, 0.3, 0.3), 2, EPOCHS[:2], 0.3),
    ],
)
def test_nan_is_the_worst_and_equals_stay_as_in_lightning(
    tmp_path: Path,
    fit: Callable[..., Any],
    values: tuple[float, ...],
    top_k: int,
    files: list[str],
    score: float,
) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", monitor="v", save_top_k=top_k)
    fit([callback], values=values)
    assert files_of(tmp_path / "kept") == [f"{name}.ckpt" for name in files]
    assert float(callback.best_model_score) == pytest.approx(score)


def test_last_is_the_newest_even_where_it_is_not_among_the_best(tmp_path: Path, fit: Callable[..., Any]) -> None:
    fit([ModelCheckpoint(tmp_path / "kept", monitor="v", save_last=True)])
    assert torch.load(tmp_path / "kept" / "last.ckpt", weights_only=True)["global_step"] == 20
    assert torch.load(tmp_path / "kept" / "epoch=3-step=16.ckpt", weights_only=True)["global_step"] == 16


def test_a_step_that_a_validation_follows_is_saved_with_its_value(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", monitor="v", every_n_train_steps=4, save_top_k=-1)
    fit([callback])
    scores = {Path(path).stem: round(float(score), 3) for path, score in callback.best_k_models.items()}
    assert scores == dict(zip(EPOCHS, (0.5, 0.3, 0.4, 0.2, 0.6), strict=True))


class Stepwise(LightModule):
    """Its validation logs `v`, 100 - step; its training `t`, the mean of the epoch's steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.log("t", float(self.global_step + 1), on_step=False, on_epoch=True)
        return self.layer(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("v", 100.0 - self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.001)


class Endless(IterableDataset[torch.Tensor]):
    """Eight batches; nobody knows before that they are eight."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.ones(8, 1))


def scores_of(callback: ModelCheckpoint) -> dict[int, float]:
    return {int(Path(path).stem.removeprefix("step=")): float(s) for path, s in callback.best_k_models.items()}


@pytest.mark.parametrize(("every", "arguments"), [
    (2, {"val_check_interval": 2}), (4, {"val_check_interval": 2}), (1, {"val_check_interval": 1}),
    (2, {"val_check_interval": 4, "accumulate_grad_batches": 2}), (2, {"val_check_interval": 0.25}),
    (2, {"val_check_interval": "2step"}), (2, {"val_check_interval": timedelta(microseconds=1)}), (4, {}),
])  # fmt: skip
@pytest.mark.parametrize("at_train_end", [None, True, False])
def test_a_score_is_that_of_the_validation_after_the_same_step(
    tmp_path: Path, trainer: Callable[..., Any], every: int, arguments: dict[str, Any], at_train_end: bool | None
) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", "{step}", "v", every_n_train_steps=every, save_top_k=-1,
                               save_on_train_epoch_end=at_train_end)  # fmt: skip
    made = trainer([callback], max_epochs=2, **arguments)
    made.fit(Stepwise(), DataLoader(torch.ones(8, 1)), DataLoader(torch.ones(1, 1)))
    scores = scores_of(callback)
    validated = [s for s in scores if arguments or s % 8 == 0]
    assert len(validated) >= 2 and {s: 100.0 - s for s in validated} == {s: scores[s] for s in validated}


@pytest.mark.parametrize("interval", [4, "4step"])
def test_a_score_is_that_of_its_step_where_validations_are_counted_over_epochs(
    tmp_path: Path, trainer: Callable[..., Any], interval: int | str
) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", "{step}", "v", every_n_train_steps=4, save_top_k=-1)
    made = trainer([callback], max_epochs=2, val_check_interval=interval, check_val_every_n_epoch=None)
    made.fit(Stepwise(), DataLoader(torch.ones(6, 1)), DataLoader(torch.ones(1, 1)))
    assert scores_of(callback) == {4: 96.0, 8: 92.0, 12: 88.0}


def test_the_step_before_an_end_that_nobody_foresaw_has_the_score_of_the_validation_after_it(
    tmp_path: Path, trainer: Callable[..., Any]
) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", "{step}", "v", every_n_train_steps=4, save_top_k=1, save_last=True)
    trainer([callback], max_epochs=3).fit(Stepwise(), DataLoader(Endless()), DataLoader(torch.ones(1, 1)))
    assert scores_of(callback) == {24: 76.0}
    assert files_of(tmp_path / "kept") == ["last.ckpt", "step=24.ckpt"]
    state = torch.load(tmp_path / "kept" / "last.ckpt", weights_only=True)["callbacks"][callback.state_key]
    assert list(state["best_k_models"].values()) == [76.0]


def test_a_metric_of_the_training_epoch_is_the_one_of_the_epoch_that_ends(
    tmp_path: Path, trainer: Callable[..., Any]
) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", "{step}", "t", every_n_train_steps=8, save_top_k=-1, mode="max")
    trainer([callback], max_epochs=3).fit(Stepwise(), DataLoader(torch.ones(8, 1)))
    assert scores_of(callback) == {8: 4.5, 16: 12.5, 24: 20.5}


NO_SCORE = (
    "ModelCheckpoint(monitor='v'): no validation has run yet and no metric 'v' was logged, so checkpoints have no "
    "score; {} until there is one"
)


@pytest.mark.parametrize(("arguments", "trainer_arguments", "files", "what"), [
    ({}, {"max_steps": 2}, ["epoch=0-step=2"], "the newest is kept"),
    ({"save_last": True}, {"max_steps": 2}, ["last"], "last is saved"),
    ({"save_last": "link"}, {"max_steps": 2}, ["last"], "last is saved"),
    ({}, {"limit_val_batches": 0}, ["epoch=4-step=20"], "the newest is kept"),
    ({"filename": "{v:.2f}", "save_top_k": 3}, {"limit_val_batches": 0}, ["epoch=4-step=20"], "the newest is kept"),
    ({"save_last": True}, {"limit_val_batches": 0}, ["last"], "last is saved"),
    ({}, {"check_val_every_n_epoch": 3, "max_epochs": 2}, ["epoch=1-step=8"], "the newest is kept"),
    ({"every_n_train_steps": 2}, {"limit_val_batches": 0}, ["epoch=4-step=20"], "the newest is kept"),
    ({"save_top_k": 0, "save_last": True}, {"limit_val_batches": 0}, ["last"], "last is saved"),
])  # fmt: skip
def test_a_run_without_a_validation_is_saved_without_a_score(
    tmp_path: Path,
    fit: Callable[..., Any],
    arguments: dict[str, Any],
    trainer_arguments: dict[str, Any],
    files: list[str],
    what: str,
) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", monitor="v", **arguments)
    with pytest.warns(UserWarning) as caught:
        trainer = fit([callback], **trainer_arguments)
    assert [str(w.message) for w in caught if "score" in str(w.message)] == [NO_SCORE.format(what)]
    assert files_of(tmp_path / "kept") == [f"{name}.ckpt" for name in files]
    saved = torch.load(tmp_path / "kept" / f"{files[0]}.ckpt", weights_only=True)
    assert saved["global_step"] == trainer.global_step and callback.best_model_path == ""


def test_what_stood_in_for_a_ranked_checkpoint_goes_when_there_is_one(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = lambda: ModelCheckpoint(tmp_path / "kept", monitor="v", save_on_train_epoch_end=True)  # noqa: E731
    with pytest.warns(UserWarning, match="the newest is kept until there is one"):
        fit([callback()], max_epochs=2, check_val_every_n_epoch=3)
    assert files_of(tmp_path / "kept") == ["epoch=1-step=8.ckpt"]
    fit([callback()], max_epochs=3, check_val_every_n_epoch=3, ckpt_path="last")
    assert files_of(tmp_path / "kept") == ["epoch=2-step=12.ckpt"]


def test_a_constant_name_is_numbered_where_all_are_kept(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", filename="same", save_top_k=-1)
    fit([callback], max_epochs=3)
    assert files_of(tmp_path / "kept") == ["same-v1.ckpt", "same-v2.ckpt", "same.ckpt"]
    assert Path(callback.best_model_path).name == "same-v2.ckpt"


def test_two_callbacks_of_one_pattern_and_a_pattern_called_last_do_not_write_over_each_other(
    tmp_path: Path, fit: Callable[..., Any]
) -> None:
    fit([ModelCheckpoint(tmp_path / "a", monitor=m, filename="same") for m in (None, "v")], max_epochs=3)
    assert files_of(tmp_path / "a") == ["same-v1.ckpt", "same.ckpt"]
    fit([ModelCheckpoint(tmp_path / "b", filename="last", save_last=True)], max_epochs=3)
    assert files_of(tmp_path / "b") == ["last-v1.ckpt", "last.ckpt"]


def test_each_file_holds_the_state_that_includes_itself(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", monitor="v", save_top_k=-1, save_last=True)
    fit([callback])
    last = str(tmp_path / "kept" / "last.ckpt")
    for epoch, name in enumerate(EPOCHS):
        path = str(tmp_path / "kept" / f"{name}.ckpt")
        state = torch.load(path, weights_only=True)["callbacks"][callback.state_key]
        assert list(state["best_k_models"]) == [str(tmp_path / "kept" / f"{n}.ckpt") for n in EPOCHS[: epoch + 1]]
        assert state["last_model_path"] == last


def test_the_link_points_to_the_newest_kept(tmp_path: Path, fit: Callable[..., Any]) -> None:
    fit([ModelCheckpoint(tmp_path / "kept", monitor="v", save_last="link")])
    assert os.readlink(tmp_path / "kept" / "last.ckpt") == "epoch=3-step=16.ckpt"


def test_files_of_others_are_neither_overwritten_nor_deleted(tmp_path: Path, fit: Callable[..., Any]) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    names = ["epoch=0-step=4.ckpt", "epoch=4-step=20.ckpt", "last.ckpt", "notes.txt"]
    for name in names:
        (kept / name).write_text("precious")
    fit([ModelCheckpoint(kept, save_last=True)])
    assert [(kept / name).read_text() for name in names] == ["precious"] * 4
    assert files_of(kept) == sorted([*names, "epoch=4-step=20-v1.ckpt", "last-v1.ckpt"])


def test_the_checkpoint_that_a_run_was_resumed_from_is_kept(tmp_path: Path, fit: Callable[..., Any]) -> None:
    kept = tmp_path / "kept"
    fit([ModelCheckpoint(kept)], max_epochs=2)
    fit([ModelCheckpoint(kept)], max_epochs=4, ckpt_path=kept / "epoch=1-step=8.ckpt")
    assert files_of(kept) == ["epoch=1-step=8.ckpt", "epoch=3-step=16.ckpt"]


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_run_keeps_the_files_of_the_uninterrupted_one(
    tmp_path: Path, fit: Callable[..., Any], stop_after: int
) -> None:
    def callback(name: str) -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / name, monitor="v", save_top_k=2, save_last=True)

    whole = callback("whole")
    fit([whole])
    fit([callback("cut")], max_epochs=stop_after)
    resumed = callback("cut")
    fit([resumed], ckpt_path=tmp_path / "cut" / "last.ckpt")
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    best = {Path(path).name: score for path, score in resumed.best_k_models.items()}
    assert best == {Path(path).name: score for path, score in whole.best_k_models.items()}


def test_checkpoints_that_are_gone_are_forgotten_with_a_warning(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", monitor="v", save_top_k=2)
    fit([callback])
    state = callback.state_dict()
    gone = tmp_path / "kept" / "epoch=3-step=16.ckpt"
    gone.unlink()
    fresh = ModelCheckpoint(tmp_path / "kept", monitor="v", save_top_k=2)
    with pytest.warns(UserWarning) as caught:
        fresh.load_state_dict(state)
    assert [str(w.message) for w in caught] == [
        f"ModelCheckpoint: 1 checkpoint(s) kept before the resume no longer exist and are forgotten: {gone}"
    ]
    assert Path(fresh.best_model_path).name == "epoch=1-step=8.ckpt"
    assert float(fresh.best_model_score) == pytest.approx(0.3)


def test_a_moved_directory_is_found_again(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = ModelCheckpoint(tmp_path / "before", monitor="v", save_last=True)
    fit([callback])
    state = callback.state_dict()
    (tmp_path / "before").rename(tmp_path / "after")
    moved = ModelCheckpoint(tmp_path / "after", monitor="v", save_last=True)
    moved.load_state_dict(state)
    assert moved.best_model_path == str(tmp_path / "after" / "epoch=3-step=16.ckpt")
    assert moved.last_model_path == str(tmp_path / "after" / "last.ckpt")


def test_the_default_directory_is_in_the_run_directory(fit: Callable[..., Any]) -> None:
    callback = ModelCheckpoint()
    trainer = fit([callback], max_epochs=1)
    assert Path(callback.best_model_path) == trainer.run_dir.resolve() / "checkpoints" / "epoch=0-step=4.ckpt"


def test_nothing_is_saved_in_a_fast_dev_run(tmp_path: Path, fit: Callable[..., Any]) -> None:
    fit([ModelCheckpoint(tmp_path / "kept", save_last=True, save_on_exception=True)], fast_dev_run=True)
    assert not (tmp_path / "kept").exists()


def test_no_checkpoint_is_taken_inside_an_accumulation_window(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", train_time_interval=timedelta(0), save_top_k=-1)
    fit([callback], accumulate_grad_batches=3, max_epochs=1)
    names = files_of(tmp_path / "kept")
    assert names == ["epoch=0-step=1.ckpt", "epoch=0-step=2.ckpt"]
    position = torch.load(tmp_path / "kept" / names[0], weights_only=True)
    assert position["global_step"] == 1


def test_a_time_that_is_up_inside_a_window_waits_for_its_step(tmp_path: Path, fit: Callable[..., Any]) -> None:
    class TimeIsUp(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 3:
                callback._last_saved_at_s = float("-inf")

    callback = ModelCheckpoint(tmp_path / "kept", train_time_interval=timedelta(days=1), save_top_k=-1)
    fit([callback, TimeIsUp()], accumulate_grad_batches=3, max_epochs=1, num_batches=9)
    assert files_of(tmp_path / "kept") == ["epoch=0-step=2.ckpt"]


class Fails(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 6:
            raise RuntimeError("stop here")


def test_an_exception_is_a_reason_to_save_on_request(
    tmp_path: Path, fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", save_on_exception=True, save_top_k=0)
    with pytest.raises(RuntimeError, match="^stop here$"):
        fit([callback, Fails()])
    assert files_of(tmp_path / "kept") == ["epoch=1-step=6.ckpt"]
    path = tmp_path / "kept" / "epoch=1-step=6.ckpt"
    assert capsys.readouterr().out == f"ModelCheckpoint: saved {path} after RuntimeError: stop here\n"


def test_verbose_says_what_is_saved_and_what_is_not(
    tmp_path: Path, fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    fit([ModelCheckpoint(tmp_path / "kept", monitor="v", verbose=True)], max_epochs=3)
    assert capsys.readouterr().out.splitlines() == [
        f"Epoch 0, step 4: v = 0.5 is among the best 1; saving {tmp_path}/kept/epoch=0-step=4.ckpt",
        f"Epoch 1, step 8: v = 0.3 is among the best 1; saving {tmp_path}/kept/epoch=1-step=8.ckpt",
        "Epoch 2, step 12: v = 0.4 is not among the best 1",
    ]


def test_a_monitor_that_was_never_logged_is_an_error_with_the_nearest_name(fit: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        fit([ModelCheckpoint(monitor="losss")])
    assert str(caught.value) == (
        "ModelCheckpoint(monitor='losss'): no metric 'losss' was logged; logged so far: 'epoch', 'loss', "
        "'step', 'v'; did you mean 'loss'? Write self.log('losss', value) in the module, or monitor a "
        "name that is logged."
    )


def test_best_k_models_as_yaml(tmp_path: Path, fit: Callable[..., Any]) -> None:
    callback = ModelCheckpoint(tmp_path / "kept", monitor="v")
    fit([callback])
    callback.to_yaml()
    text = (tmp_path / "kept" / "best_k_models.yaml").read_text()
    assert text == f"{tmp_path}/kept/epoch=3-step=16.ckpt: 0.20000000298023224\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "minimum"}, "ModelCheckpoint(mode='minimum'): expected 'min' or 'max'."),
        (
            {"save_top_k": -2},
            "ModelCheckpoint(save_top_k=-2): expected -1 (keep all), 0 (keep none) or a positive number.",
        ),
        (
            {"save_top_k": 3},
            "ModelCheckpoint(save_top_k=3): expected -1, 0 or 1 without a monitor, which says what is best.",
        ),
        ({"save_last": "yes"}, "ModelCheckpoint(save_last='yes'): expected True, False or 'link'."),
        (
            {"every_n_epochs": -1},
            "ModelCheckpoint(every_n_epochs=-1): expected 0 (not by these) or a positive number.",
        ),
        (
            {"every_n_epochs": 0},
            "ModelCheckpoint(every_n_epochs=0): would never save; give a positive number, another trigger, "
            "save_last=True (at the end of the training) or save_on_exception=True.",
        ),
        (
            {"every_n_epochs": 0, "every_n_train_steps": 0},
            "ModelCheckpoint(every_n_train_steps=0, every_n_epochs=0): would never save; give a positive number, "
            "another trigger, save_last=True (at the end of the training) or save_on_exception=True.",
        ),
        (
            {"every_n_epochs": 1, "every_n_train_steps": 5},
            "ModelCheckpoint(every_n_train_steps=5, every_n_epochs=1): give only one of them.",
        ),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelCheckpoint(**arguments)
    assert str(caught.value) == message


def test_state_keys_are_those_of_lightning() -> None:
    assert ModelCheckpoint(monitor="v", every_n_train_steps=5).state_key == (
        "ModelCheckpoint{'monitor': 'v', 'mode': 'min', 'every_n_train_steps': 5, 'every_n_epochs': 0, "
        "'train_time_interval': None}"
    )


def test_a_second_fit_of_another_trainer_starts_anew(tmp_path: Path, fit: Callable[..., Any]) -> None:
    saving = ModelCheckpoint(tmp_path / "kept", monitor="v", filename="{epoch}", save_last=True)
    fit([saving], values=(0.2, 0.1, 0.3), max_epochs=3)
    first = saving.best_model_path
    assert (Path(first).name, float(saving.best_model_score)) == ("epoch=1.ckpt", pytest.approx(0.1))
    fit([saving], values=(0.9, 0.8, 0.7), max_epochs=3)
    assert (Path(saving.best_model_path).name, float(saving.best_model_score)) == ("epoch=2.ckpt", pytest.approx(0.7))
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["epoch=1.ckpt", "epoch=2.ckpt", "last-v1.ckpt", "last.ckpt"]


@pytest.mark.parametrize("arguments", [{"max_epochs": 3}, {"max_epochs": 2, "every": 1}])
def test_one_callback_in_cross_validation_saves_each_fold(
    tmp_path: Path, fit: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    saving = ModelCheckpoint(monitor="v", every_n_train_steps=arguments.pop("every", None))
    best = []
    for fold, values in enumerate([(0.1, 0.2, 0.3), (0.6, 0.5, 0.7)]):
        fit([saving], values=values, default_root_dir=tmp_path / str(fold), **arguments)
        best.append(Path(saving.best_model_path))
        assert best[-1].is_file() and tmp_path / str(fold) in best[-1].parents
    assert float(saving.best_model_score) == pytest.approx(0.5)
