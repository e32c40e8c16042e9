"""`lightkit copy CONFIG FOLDER`: every shipped job as files of one's own that run without `recipes`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightkit.cli.copying import _rewritten
from lightkit.cli.shipped import shipped_configs

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]

# imports every copied module in one process, in which there are no recipes
IMPORT_ALL = """
import importlib, pathlib, sys, warnings
sys.modules["recipes"] = None
warnings.simplefilter("ignore")
for folder in sorted(pathlib.Path(".").iterdir()):
    sys.path.insert(0, str(folder))
    for file in sorted(folder.glob("*/*.py")):
        importlib.import_module(".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"))
        print(file)
"""


def test_a_copied_job_runs_from_its_folder_without_the_recipes(lightkit: Run, project: Path) -> None:
    result = lightkit("copy", "tabular/linear", "mine")
    assert (result.code, result.err) == (0, "")
    listed = result.out.splitlines()
    assert listed[-1] == "start it: cd mine && lightkit fit linear.yaml"
    assert {Path(line) for line in listed[:-1]} == {
        path.relative_to(project) for path in (project / "mine").rglob("*") if path.is_file()
    }
    code = (
        "import sys; sys.modules['recipes'] = None; from lightkit.cli.main import main; "
        "sys.exit(main(['fit', 'linear.yaml', '--trainer.max_epochs=20', '--trainer.enable_progress_bar=false', "
        "'--test']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project / "mine", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "test rmse:" in done.stdout
    assert (project / "mine" / "runs" / "TablePredictor" / "version_0" / "plots" / "predicted_and_true.png").is_file()


def test_every_shipped_config_can_be_copied_and_what_it_names_is_there(lightkit: Run, project: Path) -> None:
    shipped = shipped_configs()
    assert len(shipped) >= 9
    modules = set()
    for name in shipped:
        folder = name.replace("/", "-")
        assert lightkit("copy", name, f"copies/{folder}").code == 0
        text = (project / "copies" / folder / f"{name.rpartition('/')[2]}.yaml").read_text()
        assert "recipes." not in text and isinstance(yaml.safe_load(text), dict)
        for path in re.findall(r"class_path: (\w+\.[\w.]+)", text):
            if not path.startswith(("lightkit.", "torch")):
                module, _, cls = path.rpartition(".")
                file = (project / "copies" / folder).joinpath(*module.split(".")).with_suffix(".py")
                assert re.search(rf"^(class|def) {cls}\b|\b{cls}\b", file.read_text(), re.MULTILINE)
                modules.add(file)
        for file in (project / "copies" / folder).rglob("*.py"):
            assert not re.search(r"^\s*(from|import) recipes", file.read_text(), re.MULTILINE), file
    assert len(modules) >= 9
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=project / "copies", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(list((project / "copies").rglob("*.py")))


def test_nothing_is_overwritten(lightkit: Run, project: Path) -> None:
    (project / "mine").mkdir()
    (project / "mine" / "linear.yaml").write_text("mine")
    result = lightkit("copy", "tabular/linear", "mine")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "lightkit: error: mine/linear.yaml: already there; nothing is overwritten, give another folder\n"
    )
    assert [path.name for path in (project / "mine").iterdir()] == ["linear.yaml"]
    assert (project / "mine" / "linear.yaml").read_text() == "mine"


def test_two_jobs_fit_into_one_folder(lightkit: Run, project: Path) -> None:
    assert lightkit("copy", "tabular/linear", "mine").code == 0
    assert lightkit("copy", "tabular/csv", "mine").code == 0
    assert sorted(path.name for path in (project / "mine").iterdir()) == [
        "csv.yaml", "linear.yaml", "tabular_csv", "tabular_linear",
    ]  # fmt: skip


def test_all_forms_of_import_are_rewritten() -> None:
    from lightkit.cli.copying import _rewritten

    places = {"recipes.plots": "vision_x.plots", "recipes.vision.data": "vision_x.data",
              "recipes.data": "vision_x.recipes_data"}  # fmt: skip
    source = (
        "from recipes.plots import (\n    Curves,  # kept\n    new_figure,\n)\n"
        "from recipes import plots, data as d\n"
        "def f():\n    from . import data\n    from .data import A as B\n    import recipes.plots\n"
        "    return recipes.plots.publish\n"
    )
    assert _rewritten(source, "recipes.vision.classification", places) == (
        "from vision_x.plots import (\n    Curves,  # kept\n    new_figure,\n)\n"
        "from vision_x import plots\nfrom vision_x import recipes_data as d\n"
        "def f():\n    from vision_x import data\n    from vision_x.data import A as B\n    import vision_x.plots\n"
        "    return vision_x.plots.publish\n"
    )


@pytest.mark.parametrize("arguments, message", [
    ([], "lightkit copy takes CONFIG and FOLDER, such as lightkit copy vision/digits my_project, got ''"),
    (["vision/digits"],
     "lightkit copy takes CONFIG and FOLDER, such as lightkit copy vision/digits my_project, got 'vision/digits'"),
    (["job.yaml", "mine"],
     "config 'job.yaml': names no class of the recipes; there is nothing but the file to copy"),
    (["vision/digits", "job.yaml"], "job.yaml: this is a file, give a folder"),
])  # fmt: skip
def test_wrong_input(lightkit: Run, arguments: list[str], message: str) -> None:
    result = lightkit("copy", *arguments)
    assert (result.code, result.out, result.err) == (2, "", f"lightkit: error: {message}\n")


def test_a_line_of_a_source_ends_where_python_says_so() -> None:
    source = "a = 1\f\nb = '\u2028'\nfrom recipes import plots\nc = 2\n"
    assert _rewritten(source, "recipes.x", {"recipes.plots": "mine.plots"}) == (
        "a = 1\f\nb = '\u2028'\nfrom mine import plots\nc = 2\n"
    )
