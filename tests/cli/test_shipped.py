"""Names of configs, where they are found, and `lightkit list`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightkit.cli.shipped import config_folders, describe, find_config, shipped_configs
from lightkit.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def make_checkout(folder: Path, configs: dict[str, str]) -> None:
    (folder / "lightkit").mkdir(parents=True)
    (folder / "lightkit" / "__init__.py").touch()
    for name, text in configs.items():
        path = folder / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_every_shipped_config_is_found_by_its_name() -> None:
    shipped = shipped_configs()
    assert {"vision/digits", "vision/mnist", "vision/cifar10", "vision/image_folder"} <= set(shipped)
    for name, path in shipped.items():
        assert find_config(name) == path


def test_every_shipped_config_has_a_description() -> None:
    shipped = shipped_configs()
    assert len(shipped) >= 5
    assert [name for name, path in shipped.items() if not describe(path)] == []


def test_the_checkout_one_stands_in_comes_first(tmp_path: Path) -> None:
    make_checkout(tmp_path, {"vision/digits": "description: mine\nmodel: x\n"})
    assert config_folders() == [tmp_path / "configs", ROOT / "configs"]
    assert find_config("vision/digits") == tmp_path / "configs" / "vision" / "digits.yaml"
    assert find_config("vision/mnist") == ROOT / "configs" / "vision" / "mnist.yaml"


def test_a_folder_called_configs_alone_is_no_checkout(tmp_path: Path) -> None:
    (tmp_path / "configs" / "vision").mkdir(parents=True)
    (tmp_path / "configs" / "vision" / "digits.yaml").write_text("model: x\n")
    assert find_config("vision/digits") == ROOT / "configs" / "vision" / "digits.yaml"


def test_a_path_comes_before_a_name(tmp_path: Path) -> None:
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "digits").write_text("model: x\n")
    assert find_config("vision/digits") == Path("vision/digits")


@pytest.mark.parametrize("name, meant", [
    ("vision/digit", "vision/digits"), ("digits", "vision/digits"), ("vison/mnist.yaml", "vision/mnist"),
])  # fmt: skip
def test_an_unknown_name_lists_what_there_is(name: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_config(name)
    assert str(caught.value) == (
        f"config {name!r}: neither a file nor a shipped config; did you mean {meant!r}? "
        f"(shipped: {', '.join(shipped_configs())})"
    )


def test_a_folder_is_not_taken_for_a_config(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    with pytest.raises(ConfigError) as caught:
        find_config("jobs")
    assert str(caught.value) == "config 'jobs': this is a folder, give a YAML file in it"


@pytest.mark.parametrize("text, line", [
    ("# a comment\ndescription: >\n  Trains\n  a net.\nmodel: x\n", "Trains a net."),
    ("# Trains a net.\n# more\nmodel: x\n", "Trains a net."),
    ("model: x\n", ""),
    ("model: [\n", "(not valid YAML)"),
])  # fmt: skip
def test_a_config_is_described_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    assert describe(path) == line


def test_list_prints_name_and_description(lightkit: Callable[..., Any], project: Path) -> None:
    make_checkout(project, {"a/short": "description: One.\n", "a/much_longer": "# Two.\nmodel: x\n"})
    result = lightkit("list")
    lines = result.out.splitlines()
    width = max(len(name) for name in shipped_configs())
    assert f"{'a/short':<{width}}  One." in lines
    assert f"{'a/much_longer':<{width}}  Two." in lines
    assert len(lines) == len(shipped_configs()) >= 7
    assert result.code == 0


def test_list_takes_no_arguments(lightkit: Callable[..., Any]) -> None:
    result = lightkit("list", "vision")
    assert result.err == "lightkit: error: lightkit list takes no arguments, got 'vision'\n"
    assert result.code == 2


def test_a_file_that_begins_with_a_byte_order_mark_is_described_by_its_comment(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf# Mine\nmodel: x\n")
    assert describe(tmp_path / "a.yaml") == "Mine"
