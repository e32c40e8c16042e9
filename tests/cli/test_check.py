"""`lightkit check CONFIG`: two steps of everything, all problems at once, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_a_job_without_problems_is_run_and_leaves_nothing(lightkit: Run, project: Path) -> None:
    (project / "data_was_touched").touch()  # the job's own data module makes it
    before = everything(project)
    result = lightkit("check", "job.yaml")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "model: Deep, 46 parameters\ndata: Data\nfit: ran, optimizer steps: 2\ntest: ran\n"
        "no problems; nothing was written\n"
    )
    assert everything(project) == before


def test_all_problems_of_values_classes_and_steps_are_reported_at_once(lightkit: Run, project: Path) -> None:
    text = (project / "job.yaml").read_text()
    text = text.replace("max_epochs: 2", "max_epochs: two").replace("lr: 1e-3", "lr: fast")
    text = text.replace("monitor: val_loss", "monitor: val_los\n      patience: long")
    (project / "job.yaml").write_text(text)
    result = lightkit("check", "job.yaml", "--data.batch_size", "big", "--data.rows=x")
    assert (result.code, result.out) == (2, "")
    first, *problems = result.err.splitlines()
    assert first == "lightkit: error: job.yaml: 6 problems"
    assert problems == [
        "  job.yaml:15: model.lr: expected float, got 'fast'",
        "  job.yaml:3: trainer.max_epochs: expected int or null, got 'two'",
        "  job.yaml:11: trainer.callbacks.patience: expected int, got 'long'",
        "  command line: data.batch_size: expected int, got 'big'",
        "  command line: data.rows: expected int, got 'x'",
        "  EarlyStopping(monitor='val_los'): no such metric was logged (logged: train_loss, val_loss); "
        "did you mean 'val_loss'?",
    ]


def test_problems_of_model_data_trainer_are_found_each_for_itself(lightkit: Run, write: Any, project: Path) -> None:
    write("bad.py", """
        import lightkit as lk
        from jobs import Data, Net

        class BadNet(Net):
            def __init__(self):
                raise ValueError("no weights")

        class BadData(Data):
            def __init__(self):
                raise lk.errors.DataError("no rows")
    """)  # fmt: skip
    result = lightkit(
        "check",
        "--model",
        "bad.BadNet",
        "--data",
        "bad.BadData",
        "--trainer.max_epochs=-5",
        "--trainer.accelerator=cpu",
    )
    assert result.code == 2
    first, model, data, trainer = result.err.splitlines()
    assert first == "lightkit: error: 3 problems"
    assert model == f"  model: ValueError: no weights ({project}/bad.py:7)"
    assert data == "  data: no rows"
    assert trainer.startswith("  trainer: Trainer(max_epochs=-5): ")


def test_a_fault_in_each_step_is_reported_with_its_place(lightkit: Run, write: Any, project: Path) -> None:
    write("faulty.py", """
        from jobs import Net

        class Steps(Net):
            def training_step(self, batch, batch_idx):
                return self(batch[0]).no_such_thing

            def validation_step(self, batch, batch_idx):
                raise KeyError("val")

            def test_step(self, batch, batch_idx):
                self.log("test_loss", "high")
    """)  # fmt: skip
    result = lightkit("check", "job.yaml", "--model", "faulty.Steps")
    assert result.code == 2
    first, fit, validate, test = result.err.splitlines()
    assert first == "lightkit: error: job.yaml: 3 problems"
    assert fit == (f"  fit: AttributeError: 'Tensor' object has no attribute 'no_such_thing' ({project}/faulty.py:6)")
    assert validate == f"  validate: KeyError: 'val' ({project}/faulty.py:9)"
    assert test == (
        "  test: self.log('test_loss', ...): expected a number, a tensor with one element or a torchmetrics Metric, "
        "got str"
    )


def test_misspelt_keys_are_reported_as_by_fit(lightkit: Run, project: Path) -> None:
    (project / "job.yaml").write_text((project / "job.yaml").read_text().replace("max_epochs", "max_epoch"))
    checked, fitted = lightkit("check", "job.yaml"), lightkit("fit", "job.yaml")
    assert checked == fitted
    assert checked.code == 2 and "did you mean 'max_epochs'?" in checked.err


def test_missing_data_is_made_up_where_the_data_module_can(lightkit: Run, project: Path) -> None:
    before = everything(project)
    result = lightkit("check", "tabular/csv", "--data.categorical=[kind]", "--data.features=[size, kind]")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "model: TablePredictor\n"
        "data: CSVData, made up: CSVData: no file data/table.csv; expected a csv with a header there "
        "(set data.path to another)\n"
        "fit: ran, optimizer steps: 2\ntest: ran\nno problems; nothing was written\n"
    )
    assert everything(project) == before


def test_nothing_is_downloaded(lightkit: Run, project: Path) -> None:
    result = lightkit("check", "graph/planetoid")
    assert (result.code, result.err) == (0, "")
    assert (
        "data: PlanetoidData, made up: PlanetoidData(name='Cora', root='data/planetoid', download=False): no "
        in result.out
    )
    assert not (project / "data").exists()


def test_missing_data_that_nobody_can_make_up_is_a_problem(lightkit: Run, write: Any) -> None:
    write("lost.py", """
        import lightkit as lk
        from jobs import Data

        class Lost(Data):
            def prepare_data(self):
                raise AssertionError("check must not call it")

            def setup(self, stage):
                raise lk.errors.MissingDataError("Lost: no file rows.csv")
    """)  # fmt: skip
    result = lightkit("check", "job.yaml", "--data", "lost.Lost")
    assert (result.code, result.err) == (
        2, "lightkit: error: job.yaml: 1 problem\n  data: Lost: no file rows.csv (check downloads nothing)\n",
    )  # fmt: skip


def test_real_data_that_is_broken_is_not_replaced(lightkit: Run, write: Any) -> None:
    write("table.csv", "a,target\n1,2\n3,x\n")
    result = lightkit("check", "tabular/csv", "--data.path=table.csv")
    assert result.code == 2
    assert result.err.startswith(
        "lightkit: error: tabular/csv: 1 problem\n  fit: table.csv:3: target is 'x', not a number"
    )


@pytest.mark.parametrize("config", ["vision/digits", "graph/karate", "tabular/linear"])
def test_configs_with_data_of_their_own_have_no_problems(lightkit: Run, config: str) -> None:
    result = lightkit("check", config)
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("test: ran\nno problems; nothing was written\n")
