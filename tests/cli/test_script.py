"""LightkitCLI gives a script the command line; a user's own recipes/ does not shadow ours silently."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ActionYesNo

from lightkit.cli import LightkitCLI

ROOT = Path(__file__).resolve().parents[2]
QUIET = [
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false", "--trainer.max_epochs=1",
]  # fmt: skip


@pytest.fixture
def classes(project: Path) -> Iterator[Any]:
    import jobs  # type: ignore[import-not-found]

    yield jobs


def test_arguments_of_a_fixed_class_stand_directly_under_model(classes: Any, project: Path) -> None:
    job = project / "mine.yaml"
    job.write_text("model: {hidden: 6, lr: 1e-2}\ndata: {batch_size: 4}\n")
    cli = LightkitCLI(
        classes.Net, classes.Data, args=["fit", "--config", str(job), "--model.hidden=5", *QUIET]
    )
    assert type(cli.model) is classes.Net
    assert (cli.model.input.out_features, cli.model.lr) == (5, 0.01)
    assert cli.datamodule.batch_size == 4
    assert cli.trainer.current_epoch == 1
    saved = yaml.safe_load((Path(cli.trainer.run_dir) / "config.yaml").read_text())
    assert saved["model"] == {"hidden": 5, "lr": 0.01, "body": None}


def test_without_running_the_parts_are_there_to_use(classes: Any, project: Path) -> None:
    cli = LightkitCLI(
        classes.Net, run=False, args=["--data=jobs.Data", "--data.batch_size=3"],
        trainer_defaults={"max_epochs": 4}, seed_everything_default=11,
    )  # fmt: skip
    assert cli.trainer.max_epochs == 4
    assert cli.datamodule.batch_size == 3
    assert cli.config.seed_everything == 11
    assert not (project / "runs").exists()


def test_a_subclass_may_be_named_where_that_is_asked_for(classes: Any) -> None:
    cli = LightkitCLI(
        classes.Net, classes.Data, run=False, subclass_mode_model=True,
        args=["--model=jobs.Deep", "--model.depth=5", "--data.batch_size=3", *QUIET],
    )  # fmt: skip
    assert type(cli.model) is classes.Deep
    assert cli.model.depth == 5


def test_linked_arguments_reach_both_classes(classes: Any) -> None:
    class Linked(LightkitCLI):
        def add_arguments_to_parser(self, parser: Any) -> None:
            parser.link_arguments("data.batch_size", "model.hidden")

    cli = Linked(classes.Net, classes.Data, run=False, args=["--data.batch_size=3", *QUIET])
    assert cli.model.input.out_features == 3


def test_a_script_may_add_arguments_of_any_kind(classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class More(LightkitCLI):
        def add_arguments_to_parser(self, parser: Any) -> None:
            parser.add_argument("--run-label", "-l", type=str, required=True)
            parser.add_argument("--sizes", type=int, nargs="+")
            parser.add_argument("--fast", action=ActionYesNo)

    args = ["--data.batch_size=3", *QUIET, "--sizes", "1", "2", "--fast", "--run-label", "a"]
    cli = More(classes.Net, classes.Data, run=False, args=args)
    assert (cli.config.sizes, cli.config.fast, cli.config.run_label) == ([1, 2], True, "a")
    assert More(classes.Net, classes.Data, run=False, args=[*args[:-2], "-l", "b", "--no_fast"]).config.run_label == "b"
    with pytest.raises(SystemExit):
        More(classes.Net, classes.Data, run=False, args=[*args, "--sizes", "x"])
    assert capsys.readouterr().err == "lightkit: error: command line: sizes: expected int, got 'x'\n"


def test_a_required_argument_of_a_scripts_own_may_stand_in_the_config(classes: Any, project: Path) -> None:
    class More(LightkitCLI):
        def add_arguments_to_parser(self, parser: Any) -> None:
            parser.add_argument("--run_label", type=str, required=True)

    (project / "more.yaml").write_text("run_label: a\ndata: {batch_size: 3}\n")
    assert More(classes.Net, classes.Data, run=False, args=["--config=more.yaml", *QUIET]).config.run_label == "a"


def test_methods_of_a_subclass_run_before_and_after(classes: Any) -> None:
    class Around(LightkitCLI):
        def before_fit(self) -> None:
            calls.append(("before", self.trainer.global_step))

        def after_fit(self) -> None:
            calls.append(("after", self.trainer.global_step))

    calls: list[tuple[str, int]] = []
    Around(classes.Net, classes.Data, args=["fit", "--data.batch_size=4", *QUIET])
    assert calls == [("before", 0), ("after", 3)]


@pytest.mark.parametrize("args, message", [
    (["fit", "--config=bad.yaml"],
     "bad.yaml: 2 problems\n"
     "  bad.yaml:1: model.hiden: unknown key; did you mean 'hidden'?\n"
     "  bad.yaml:2: data.batchsize: unknown key; did you mean 'batch_size'?"),
    (["fit"], "missing: data.batch_size; give a CONFIG, `lightkit list` shows the shipped ones"),
    (["list"], "command 'list': expected one of fit, validate, test, predict"),
    ([], "no command; expected one of fit, validate, test, predict"),
])  # fmt: skip
def test_a_script_ends_with_one_message(
    classes: Any, project: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    (project / "bad.yaml").write_text("model: {hiden: 3}\ndata: {batchsize: 4}\n")
    with pytest.raises(SystemExit) as stop:
        LightkitCLI(classes.Net, classes.Data, args=args)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"lightkit: error: {message}\n"


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_a_folder_of_the_users_called_recipes_does_not_shadow_ours_silently(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "__init__.py").touch()
    done = python("-m", "lightkit.cli.main", "fit", "vision/digits", cwd=tmp_path)
    shadow = (
        f"{tmp_path}/recipes stands before lightkit's own {ROOT}/recipes on sys.path, and both are called "
        "'recipes'; rename yours, or start from another folder with the command `lightkit`"
    )
    assert done.stderr == f"lightkit: error: {shadow}\n"
    assert done.returncode == 2


def test_the_console_script_is_not_shadowed(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "__init__.py").touch()
    # as the console script starts: the folder of the script, not the working directory, is on sys.path
    code = "import sys; sys.path.remove(''); from lightkit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = python("-c", code, "fit", "vision/digits", "--print_config", cwd=tmp_path)
    assert done.stderr == ""
    assert yaml.safe_load(done.stdout)["model"]["class_path"].startswith("recipes.vision.")
