"""Every shipped config builds and runs two steps on made-up data of its layout; every one has its page."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lightkit.cli.job import prepare_job
from lightkit.cli.shipped import describe
from lightkit.hooks import overrides
from lightkit.module import LightModule

ROOT = Path(__file__).resolve().parents[2]
# how many there are of each field; a new config changes a number here and adds an entry to generated.py
COUNTS = {"audio": 5, "graph": 2, "tabular": 2, "text": 8, "vision": 11}
CONFIGS = {p.relative_to(ROOT / "configs").with_suffix("").as_posix(): p for p in (ROOT / "configs").rglob("*.yaml")}


def load_generated() -> ModuleType:
    """The file beside this one; with --import-mode=importlib tests are no package."""
    spec = importlib.util.spec_from_file_location("generated_data_of_recipes", Path(__file__).with_name("generated.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATED = load_generated().GENERATED


def test_every_config_is_found() -> None:
    counts: dict[str, int] = {}
    for name in CONFIGS:
        counts[name.partition("/")[0]] = counts.get(name.partition("/")[0], 0) + 1
    assert counts == COUNTS, "change COUNTS, and say in tests/recipes/generated.py what the new config reads"


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_config_builds_and_runs_two_steps(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in GENERATED, (
        f"tests/recipes/generated.py does not know {name}: add GENERATED[{name!r}], a function that writes a small set "
        "in the layout that the config reads below a folder and returns the options that point there, or nothing()"
    )
    options = GENERATED[name](tmp_path / "data", monkeypatch)
    quiet = ["--trainer.fast_dev_run=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
             "--trainer.enable_model_summary=false", f"--trainer.default_root_dir={tmp_path}"]  # fmt: skip
    job = prepare_job("fit", [str(CONFIGS[name]), *options, *quiet])
    job.trainer.fit(job.model, datamodule=job.data)
    assert 1 <= job.trainer.global_step <= 4
    fitted = set(job.trainer.callback_metrics)
    assert any(metric.startswith("train") for metric in fitted)
    assert "hp_metric" in fitted or not any(metric.startswith("val") for metric in fitted)
    if overrides(job.model, LightModule, "test_step") and name != "vision/transfer":
        job.trainer.test(job.model, datamodule=job.data, verbose=False)
        assert any(metric.startswith("test") for metric in job.trainer.callback_metrics)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_config_says_what_it_is_and_how_to_start_it(name: str) -> None:
    text = CONFIGS[name].read_text(encoding="utf-8")
    assert text.startswith("description: ")
    assert 20 < len(describe(CONFIGS[name])) <= 120
    commands = re.findall(r"lightkit (?:fit|test|predict|check) ([a-z0-9_]+/[a-z0-9_]+)", text)
    assert set(commands) <= {name}, "the comment names another config"


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_config_has_a_page_with_its_command(name: str) -> None:
    page = ROOT / "docs" / "recipes" / f"{name.replace('/', '_')}.md"
    assert page.is_file(), f"write docs/recipes/{page.name}: command, what it prints, the picture, measured result"
    text = page.read_text(encoding="utf-8")
    assert f"lightkit fit {name}" in text


def test_the_pages_name_no_config_that_is_not_there() -> None:
    pages = sorted((ROOT / "docs" / "recipes").glob("*.md"))
    assert len(pages) >= len(CONFIGS)
    named = {
        (page.name, name)
        for page in pages
        for name in re.findall(
            r"lightkit (?:fit|test|validate|predict|check|copy) ([a-z0-9_]+/[a-z0-9_]+)",
            page.read_text(encoding="utf-8"),
        )
    }
    assert {found for found in named if found[1] not in CONFIGS} == set()
    assert len(named) >= len(CONFIGS)


def test_the_list_of_recipes_has_every_config() -> None:
    text = (ROOT / "docs" / "recipes" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[`([a-z0-9_/]+)`\]", text, re.MULTILINE) == sorted(CONFIGS)
