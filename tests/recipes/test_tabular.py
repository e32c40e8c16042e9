"""Tables: the five rows against least squares, any csv by its columns, checkpoints, and rows that cannot be used."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lightkit as lk
from lightkit.cli.job import prepare_job
from lightkit.errors import ConfigError, DataError, MissingDataError
from recipes.tabular.data import CSVData, ExamScores
from recipes.tabular.prediction import TablePredictor

MakeTrainer = Callable[..., lk.Trainer]


def table(path: Path, rows: int = 60, **columns: Callable[[int], Any]) -> str:
    """Write a csv of so many rows; each column is a function of the row's number."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([make(number) for make in columns.values()] for number in range(rows))
    return str(path)


def houses(folder: Path) -> str:
    return table(
        folder / "houses.csv", size=lambda i: i % 13, age=lambda i: i % 7, kind=lambda i: "xyz"[i % 3],
        price=lambda i: 3 * (i % 13) - 2 * (i % 7) + 10 * (i % 3), color=lambda i: ["red", "blue"][i % 13 > 6],
    )  # fmt: skip


def parts_of(data: CSVData) -> dict[str, int]:
    data.setup("fit")
    return {part: len(targets) for part, (_, targets) in data.parts.items()}


def test_five_rows_reach_the_error_of_least_squares(tmp_path: Path) -> None:
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    job = prepare_job("fit", ["tabular/linear", f"--trainer.default_root_dir={tmp_path}", *quiet])
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(datamodule=job.data, verbose=False)
    assert isinstance(job.data, ExamScores)
    x, y = job.data.parts["train"]
    ones = torch.cat([x, torch.ones(5, 1)], dim=1).double()
    best = ones @ torch.linalg.lstsq(ones, y.double()).solution
    least = float((best - y).square().mean().sqrt())
    assert metrics["test_rmse"] == pytest.approx(least, rel=1e-3)
    assert metrics["test_mae"] <= metrics["test_rmse"]
    plots = next((tmp_path / "runs").rglob("plots"))
    assert sorted(path.name for path in plots.iterdir()) == ["curves.png", "predicted_and_true.png"]


def test_columns_are_chosen_by_name_and_words_become_features(tmp_path: Path) -> None:
    data = CSVData(houses(tmp_path), target="price", features=["size", "kind"], categorical=["kind"])
    assert parts_of(data) == {"train": 42, "test": 12, "val": 6}
    assert data.columns.names == ["size", "kind=x", "kind=y", "kind=z"]
    features, targets = data.parts["train"]
    assert features.shape == (42, 4) and targets.dtype == torch.float32
    assert torch.equal(features[:, 1:].sum(dim=1), torch.ones(42))


def test_parts_can_be_files_of_their_own(tmp_path: Path) -> None:
    train = table(tmp_path / "train.csv", 30, a=lambda i: i, target=lambda i: i)
    test = table(tmp_path / "test.csv", 5, b=lambda i: 0, target=lambda i: i, a=lambda i: 2 * i)
    data = CSVData(train, features=["a"], test_path=test)
    assert parts_of(data) == {"train": 27, "test": 5, "val": 3}
    assert data.parts["test"][0].flatten().tolist() == [0, 2, 4, 6, 8]


def test_classes_get_their_share_of_every_part(tmp_path: Path) -> None:
    data = CSVData(houses(tmp_path), target="color", task="classification", features=["size"])
    parts_of(data)
    assert data.class_names == ["blue", "red"]
    for _, labels in data.parts.values():
        assert abs(float(labels.float().mean()) - 0.55) < 0.1


def test_scales_are_those_of_the_training_rows_and_travel_in_the_checkpoint(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    data = CSVData(houses(tmp_path), target="price", features=["size", "age", "kind"], categorical=["kind"])
    model = TablePredictor(hidden=[8])
    make_trainer(max_epochs=3, run_dir=tmp_path / "run").fit(model, datamodule=data)
    features, targets = data.parts["train"]
    torch.testing.assert_close(model.features_mean, features.mean(dim=0))
    torch.testing.assert_close(model.features_std, features.std(dim=0, correction=0))
    torch.testing.assert_close(model.target_mean, targets.mean().view(1))
    [saved] = (tmp_path / "run" / "checkpoints").glob("*.ckpt")
    loaded = TablePredictor.load_from_checkpoint(saved)
    rows = [{"size": 3, "age": 2, "kind": "y"}, {"size": 12, "age": 0, "kind": "never seen"}]
    expected = (
        model.eval()(torch.tensor([[3.0, 2, 0, 1, 0], [12.0, 0, 0, 0, 0]])) * model.target_std + model.target_mean
    )
    torch.testing.assert_close(loaded.predict_rows(rows), expected.detach())
    with pytest.raises(DataError) as caught:
        loaded.predict_rows([{"size": 3}])
    assert str(caught.value) == "predict_rows: row 0 lacks age, kind"


def test_scales_of_the_checkpoint_are_used_on_other_rows(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    small = table(tmp_path / "small.csv", 40, a=lambda i: i, target=lambda i: 2 * i)
    large = table(tmp_path / "large.csv", 40, a=lambda i: 100 * i, target=lambda i: 200 * i)
    run = make_trainer(run_dir=tmp_path / "run")
    run.fit(TablePredictor(), datamodule=CSVData(small))
    [saved] = (tmp_path / "run" / "checkpoints").glob("*.ckpt")
    model = TablePredictor()
    make_trainer().test(model, datamodule=CSVData(large), ckpt_path=saved, verbose=False)
    assert float(model.features_mean) < 40


def test_classification_learns_and_predicts_probabilities(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    data = CSVData(houses(tmp_path), target="color", task="classification", features=["size"])
    run = make_trainer(max_epochs=30)
    run.fit(TablePredictor(hidden=[8], lr=0.05), datamodule=data)
    [metrics] = run.test(datamodule=data, verbose=False)
    assert metrics["test_acc"] >= 0.9
    probabilities = torch.cat(run.predict(datamodule=data))
    assert probabilities.shape == (12, 2)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(12))
    assert (run.run_dir / "plots" / "confusion_matrix.png").is_file()


def test_root_of_the_mean_is_over_all_rows_not_over_batches(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    path = table(tmp_path / "t.csv", 50, a=lambda i: i % 5, target=lambda i: i % 11)
    results = []
    for batch_size in (3, 50):
        lk.seed_everything(0)
        [metrics] = make_trainer().test(
            TablePredictor(), datamodule=CSVData(path, batch_size=batch_size), verbose=False
        )
        results.append((metrics["test_rmse"], metrics["test_mae"]))
    assert results[0] == pytest.approx(results[1], rel=1e-6)


@pytest.mark.parametrize("workers", [False, True])
def test_resumed_run_reaches_the_same_weights(tmp_path: Path, make_trainer: MakeTrainer, workers: bool) -> None:
    path = houses(tmp_path)

    def train(steps: int, name: str, ckpt_path: Any = None) -> TablePredictor:
        lk.seed_everything(1, workers=workers)
        data, model = CSVData(path, "price", features=["size", "age"], batch_size=8), TablePredictor([8], dropout=0.2)
        run = make_trainer(max_epochs=3, max_steps=steps, run_dir=tmp_path / name)
        run.fit(model, datamodule=data, ckpt_path=ckpt_path)
        run.save_checkpoint(tmp_path / f"{name}.ckpt")
        return model

    whole = train(15, "whole")
    train(8, "part")  # 6 batches an epoch: in the middle of the second
    resumed = train(15, "resumed", tmp_path / "part.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize(("text", "arguments", "message"), [
    ("a,target\n1,2\n3,x\n", {},
     "{path}:3: target is 'x', not a number; mend it, name columns of words in data.categorical, leave columns out "
     "with data.features, or set data.on_bad_row to skip"),
    ("a,target\n1,2\n,4\n", {},
     "{path}:3: a is '', not a number; mend it, name columns of words in data.categorical, leave columns out with "
     "data.features, or set data.on_bad_row to skip"),
    ("a,target\n1,2\n3\n", {},
     "{path}:3: 1 cells, the header has 2; mend it, name columns of words in data.categorical, leave columns out with "
     "data.features, or set data.on_bad_row to skip"),
    ("a;target\n1;2\n", {},
     "{path}: one column, 'a;target', with data.delimiter ','; set data.delimiter to what stands between the cells, "
     "such as ';'"),
    ("a,targets\n1,2\n", {}, "{path}: no column 'target' (there are: a, targets); did you mean 'targets'?"),
    ("a,target\n1,2\n", {"features": ["b"]}, "{path}: no column 'b' (there are: a, target)"),
    ("a,target\n", {}, "{path}: 1 lines; expected a header and rows below it"),
    ("a,target\nx,2\ny,3\n", {"on_bad_row": "skip"},
     "{path}: no row can be used; the first: {path}:2: a is 'x', not a number"),
    ("a,target\n1,2\n2,3\n", {}, "{path}: 2 rows are too few to hold some out to validate and test"),
    ("a,target\n1,u\n2,u\n3,u\n4,u\n5,u\n6,u\n", {"task": "classification"},
     "{path}: column 'target' holds ['u']; expected at least 2 classes"),
    ("a,target\n1,2\n2,3\n3,4\n4,5\n5,6\n", {"features": ["target"]},
     "{path}: no features beside the target 'target'; set data.features"),
])  # fmt: skip
def test_a_table_that_cannot_be_used(text: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        CSVData(str(path), **arguments).setup("fit")
    assert str(caught.value) == message.format(path=path)


def test_bad_rows_can_be_skipped_and_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,target\n" + "".join(f"{i},{i if i % 5 else '?'}\n" for i in range(20)))
    assert sum(parts_of(CSVData(str(path), on_bad_row="skip")).values()) == 16
    assert capsys.readouterr().out == (
        f"{path}: 4 of 20 rows skipped, the first: {path}:2: target is '?', not a number\n"
    )


def test_a_class_that_no_training_row_has(tmp_path: Path) -> None:
    train = table(tmp_path / "train.csv", 20, a=lambda i: i, target=lambda i: "uv"[i % 2])
    test = table(tmp_path / "test.csv", 3, a=lambda i: i, target=lambda i: "uvw"[i % 3])
    with pytest.raises(DataError) as caught:
        CSVData(train, task="classification", test_path=test).setup("test")
    assert str(caught.value) == (f"{test}:4: target is 'w', which no training row has (test rows; classes: u, v)")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        CSVData(f"{tmp_path}/nowhere.csv").setup("fit")
    assert str(caught.value) == (
        f"CSVData: no file {tmp_path}/nowhere.csv; expected a csv with a header there (set data.path to another)"
    )


@pytest.mark.parametrize(("build", "message"), [
    (lambda: CSVData(val_fraction=1), "CSVData(val_fraction=1): expected a share between 0 and 1, such as 0.1"),
    (lambda: ExamScores(batch_size=0), "ExamScores(batch_size=0): expected at least 1"),
    (lambda: TablePredictor(optimizer="adam"),  # type: ignore[arg-type]
     "TablePredictor(optimizer='adam'): expected 'sgd' or 'adamw'"),
])  # fmt: skip
def test_wrong_argument(build: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message
