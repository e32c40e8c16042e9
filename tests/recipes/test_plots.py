"""The pictures that a recipe draws of its run: what is in them, and where they go."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch

import lightkit as lk
from recipes.plots import ClassificationReport, Curves
from recipes.vision.classification import ImageClassifier
from recipes.vision.data import DigitsData

T = TypeVar("T")
MakeTrainer = Callable[..., lk.Trainer]


def callback_of(run: lk.Trainer, kind: type[T]) -> T:
    """Return the only callback of this kind."""
    [found] = [callback for callback in run.callbacks if isinstance(callback, kind)]
    return found


def test_curves_hold_one_point_an_epoch_with_the_logged_values(make_trainer: MakeTrainer) -> None:
    run = make_trainer(max_epochs=3, limit_train_batches=4, log_every_n_steps=1)
    run.fit(ImageClassifier(image_size=8, width=4), datamodule=DigitsData())
    curves = callback_of(run, Curves)
    assert {name: len(values) for name, values in curves.values.items()} == {
        "train_loss": 3, "train_acc": 3, "val_loss": 3, "val_acc": 3,
    }  # fmt: skip
    assert curves.epoch_ends == [4, 8, 12] == curves.steps["val_loss"]
    with (Path(run.run_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows if row["val_loss"]] == pytest.approx(
        curves.values["val_loss"]
    )
    assert [float(row["train_acc"]) for row in rows if row["train_acc"]] == pytest.approx(
        curves.values["train_acc"]
    )


def test_curves_go_on_after_a_resume(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    def fit(max_epochs: int, ckpt_path: Path | None = None) -> tuple[Curves, lk.Trainer]:
        run = make_trainer(max_epochs=max_epochs, limit_train_batches=2)
        model = ImageClassifier(image_size=8, width=4, schedule="constant")
        run.fit(model, datamodule=DigitsData(), ckpt_path=ckpt_path)
        return callback_of(run, Curves), run

    first, run = fit(2)
    run.save_checkpoint(tmp_path / "half.ckpt")
    whole, _ = fit(3, tmp_path / "half.ckpt")
    assert whole.epoch_ends == [2, 4, 6]
    assert whole.values["train_loss"][:2] == first.values["train_loss"]
    assert len(whole.values["val_loss"]) == 3


def test_report_counts_every_test_image_and_keeps_the_worst_mistakes(make_trainer: MakeTrainer) -> None:
    run = make_trainer()
    model = ImageClassifier(image_size=8, width=4)
    data = DigitsData()
    [metrics] = run.test(model, datamodule=data, verbose=False)
    report = callback_of(run, ClassificationReport)
    assert report.counts is not None
    assert report.counts.sum() == 360
    assert report.counts.diagonal().sum() / 360 == pytest.approx(metrics["test_acc"])
    images, labels = data.sets["test"].__getitems__(range(360))
    with torch.no_grad():
        logits = model.eval()(images)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = losses[logits.argmax(1) != labels].sort(descending=True).values[:24]
    assert [m.loss for m in report.mistakes] == pytest.approx(expected.tolist(), rel=1e-4)


def test_pictures_reach_tensorboard(make_trainer: MakeTrainer) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make_trainer(max_epochs=1, limit_train_batches=2)
    model, data = ImageClassifier(image_size=8, width=4), DigitsData()
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    events = EventAccumulator(str(run.run_dir)).Reload()
    assert sorted(events.Tags()["images"]) == ["confusion_matrix", "curves", "worst_mistakes"]


def test_fast_dev_run_draws_nothing(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    run = make_trainer(fast_dev_run=True)
    model, data = ImageClassifier(image_size=8, width=4), DigitsData()
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    assert list(tmp_path.rglob("*.png")) == []
