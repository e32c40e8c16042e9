"""What the documentation shows is what happens: its blocks are run, its generated pages are up to date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "LIGHTKIT_PROGRESS": "off"}


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def final_weights(runs: Path, version: int) -> dict[str, torch.Tensor]:
    (path,) = (runs / "Classifier" / f"version_{version}" / "checkpoints").glob("*.ckpt")
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_s_script_and_its_yaml_give_the_same_weights(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the example's data comes with scikit-learn")
    (script,), (config,) = blocks(repository / "README.md", "python"), blocks(repository / "README.md", "yaml")
    (tmp_path / "digits.py").write_text(script, encoding="utf-8")
    (tmp_path / "digits.yaml").write_text(config, encoding="utf-8")
    told = run([sys.executable, "digits.py"], tmp_path)
    assert float(re.search(r"test_acc +([\d.]+)", told)[1]) > 0.93  # type: ignore[index]
    run([sys.executable, "-m", "lightkit", "fit", "digits.yaml"], tmp_path)
    first, second = final_weights(tmp_path / "runs", 0), final_weights(tmp_path / "runs", 1)
    assert first.keys() == second.keys() and len(first) == 4
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_quickstart_runs_from_top_to_bottom(repository: Path, tmp_path: Path) -> None:
    found = blocks(repository / "docs" / "quickstart.md", "python")
    assert len(found) == 10
    (tmp_path / "quickstart.py").write_text("\n".join(found), encoding="utf-8")
    run([sys.executable, "-W", "error", "quickstart.py"], tmp_path)
    assert (tmp_path / "runs" / "Regression" / "version_0" / "metrics.csv").is_file()


def test_the_page_of_several_loaders_runs(repository: Path, tmp_path: Path) -> None:
    found = blocks(repository / "docs" / "guide" / "several_loaders.md", "python")
    assert len(found) == 2
    (tmp_path / "page.py").write_text("\n".join(found), encoding="utf-8")
    run([sys.executable, "-W", "error", "page.py"], tmp_path)


def test_the_page_of_loggers_runs(repository: Path, tmp_path: Path) -> None:
    page = repository / "docs" / "guide" / "loggers.md"
    found = blocks(page, "python")
    assert len(found) == 2
    if find_spec("wandb") is not None:
        found += blocks(page, "python wandb")
    (tmp_path / "page.py").write_text("\n".join(found), encoding="utf-8")
    told = run([sys.executable, "page.py"], tmp_path)
    assert "['3', '7', '11', '15']\n" in told and "{'lr': 0.1}\n0 ['epoch', 'loss']\n" in told
    assert find_spec("wandb") is None or "['checkpoints', 'metrics.csv', 'run.json', 'wandb']\n" in told


@pytest.mark.slow
def test_the_page_of_loggers_runs_with_mlflow(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    page = repository / "docs" / "guide" / "loggers.md"
    first, *_ = blocks(page, "python")
    (tmp_path / "page.py").write_text("\n".join([first, *blocks(page, "python mlflow")]), encoding="utf-8")
    assert run([sys.executable, "page.py"], tmp_path).endswith("True\n")


def test_the_page_of_scripts_runs(repository: Path, tmp_path: Path) -> None:
    found = blocks(repository / "docs" / "guide" / "scripts.md", "python")
    assert len(found) == 2
    (tmp_path / "page.py").write_text("\n".join(found), encoding="utf-8")
    assert run([sys.executable, "-W", "error", "page.py"], tmp_path).startswith("fitting Net\n")


def test_the_first_page_runs_and_both_loops_give_the_same_line(repository: Path, tmp_path: Path) -> None:
    found = blocks(repository / "docs" / "first.md", "python")
    assert len(found) == 5
    (tmp_path / "first.py").write_text("\n".join(found), encoding="utf-8")
    told = run([sys.executable, "-W", "error", "first.py"], tmp_path)
    assert "plain PyTorch: off by 0.323 marks (root mean square)\n" in told
    assert re.search(r"a student with 80, 85 and 82: 16\d marks\n", told)


def test_the_generated_pages_are_up_to_date(repository: Path) -> None:
    run([sys.executable, str(repository / "docs" / "build.py"), "--check"], repository)


def test_links_between_the_pages_lead_somewhere(repository: Path) -> None:
    pages = [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]
    links = [
        (page, target) for page in pages for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) >= 5
    missing = [(page.name, target) for page, target in links if not (page.parent / target).exists()]
    assert missing == []


def test_every_room_and_file_of_lightkit_is_in_the_architecture_page(repository: Path) -> None:
    text = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = sorted(p for p in (repository / "lightkit").glob("*") if p.suffix == ".py" or p.is_dir())
    names = [p.name for p in files if not p.name.startswith("__") and p.name != "configs"]
    assert len(names) > 20
    assert [name for name in names if name not in text] == []
