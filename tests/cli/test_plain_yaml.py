"""YAML that would take a program down, or run one, is one error with its line; nothing of it is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightkit.plain_yaml import MAX_ALIASED, MAX_DEPTH, compose

Run = Callable[..., Any]

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
# aliases of aliases: no bracket stands in another one
STAIRS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))
END = "description: "
NO_TAGS = "is not taken: values here are plain ones"
DEEP = f"nested more than {MAX_DEPTH} levels deep"


def job_and(text: str, project: Path) -> None:
    (project / "bad.yaml").write_text((project / "job.yaml").read_text() + text)


@pytest.mark.parametrize("command", [["check"], ["fit"]])
@pytest.mark.parametrize("text, message", [
    (END + "&a [*a]\n", "an alias of what it stands in: it would never end"),
    (END + "&a {<<: *a}\n", "an alias of what it stands in: it would never end"),
    (END + "&a {b: [{c: *a}]}\n", "an alias of what it stands in: it would never end"),
    (END + "a\0b\n", "not valid YAML: the character U+0000 is not allowed"),
    (END + '"a\\0b"\n', "a text with a NUL or half a character (U+D800 to U+DFFF)"),
    (END + '"\\ud800"\n', "a text with a NUL or half a character (U+D800 to U+DFFF)"),
    (END + "[" * 10_000 + "]" * 10_000 + "\n", DEEP),
    (END + "[" * 10_000 + "\n", DEEP),
    (END + "{a: " * 10_000 + "\n", DEEP),
    (STAIRS, DEEP + ", with its aliases"),
    (LAUGHS, f"its aliases stand for more than {MAX_ALIASED:,} values"),
    (END + "9" * 5000 + "\n", f"'{'9' * 37}...' cannot be read as !!int; quote it"),
    (END + "9" * 30 + "\n", f"'{'9' * 30}' has more than 64 bits"),
    (END + "0x" + "f" * 5000 + "\n", f"'0x{'f' * 35}...' has more than 64 bits"),
    (END + "1e999\n", "'1e999' is more than a float can hold; write .inf where that is meant"),
    (END + "0b_\n", "'0b_' cannot be read as !!int; quote it"),
    (END + "!!python/object/apply:os.system [touch executed]\n", f"the tag !!python/object/apply:os.system {NO_TAGS}"),
    (END + "!!python/name:os.system\n", f"the tag !!python/name:os.system {NO_TAGS}"),
    (END + "!own {a: 1}\n", f"the tag !own {NO_TAGS}"),
    (END + "!!binary aGk=\n", f"the tag !!binary {NO_TAGS}"),
    (END + "!!map 3\n", f"the tag !!map {NO_TAGS}"),
    (END + "!!str [3]\n", f"the tag !!str {NO_TAGS}"),
    (END + "!!float abc\n", "'abc' cannot be read as !!float; quote it"),
    (END + "!!bool abc\n", "'abc' cannot be read as !!bool; quote it"),
    (END + "=\n", "'=' is nothing that can be read; quote it"),
    (END + "[<<]\n", "'<<' is a key, and here it is a value; quote it"),
    (END + "{<<: 3}\n", "<<: takes a mapping, or a list of mappings"),
    ("? [a, b]\n: 3\n", "a key must be one word, and this is a list or a mapping"),
    (END + "*nowhere\n", "not valid YAML: found undefined alias 'nowhere'"),
])  # fmt: skip
def test_yaml_that_cannot_be_taken_is_one_error_with_its_line(
    lightkit: Run, project: Path, text: str, message: str, command: list[str]
) -> None:
    job_and(text, project)
    line = {LAUGHS: 1, STAIRS: 59}.get(text, 20)
    result = lightkit(*command, "bad.yaml")
    assert (result.code, result.out, result.err) == (2, "", f"lightkit: error: bad.yaml:{line}: {message}\n")
    assert not (project / "executed").exists() and not (project / "data_was_touched").exists()


@pytest.mark.parametrize("text", [
    "!!python/object/apply:os.system ['touch executed']", "[" * 10_000, "&a [*a]", "{a: " * 2_000, "9" * 5000, LAUGHS,
])  # fmt: skip
@pytest.mark.parametrize("key", ["model.lr", "trainer.callbacks+", "model.body"])
def test_such_an_option_is_one_error_and_runs_nothing(lightkit: Run, project: Path, key: str, text: str) -> None:
    result = lightkit("fit", "job.yaml", f"--{key}", text)
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("lightkit: error: command line: ") and result.err.count("\n") == 1
    assert len(result.err) < 500
    assert not (project / "executed").exists() and not (project / "data_was_touched").exists()


def test_a_quoted_text_that_is_no_yaml_is_a_text(lightkit: Run, project: Path) -> None:
    text = (project / "job.yaml").read_text()
    deep = "[" * 10_000
    (project / "bad.yaml").write_text(text.replace("lr: 1e-3", f"lr: '{deep}'"))
    assert lightkit("fit", "bad.yaml").err == (
        f"lightkit: error: bad.yaml:14: model.lr: expected float, got '{'[' * 77}...'\n"
    )


@pytest.mark.parametrize("command", ["list", "copy"])
def test_other_commands_read_configs_no_less_carefully(
    lightkit: Run, project: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "lightkit").mkdir()
    (project / "lightkit" / "__init__.py").touch()
    for number, text in enumerate(["[" * 10_000, "&a [*a]", "!!python/name:os.system", "a\0b"]):
        (project / "configs").mkdir(exist_ok=True)
        (project / "configs" / "bad.yaml").write_text(f"description: {text}\n")
        if command == "list":
            result = lightkit("list")
            assert result.code == 0 and "bad" in result.out and "(not valid YAML)" in result.out
        else:
            result = lightkit("copy", "configs/bad.yaml", f"copy{number}")
            assert result.code == 2 and result.err.startswith("lightkit: error: configs/bad.yaml:1: ")
            assert not (project / f"copy{number}").exists()


@pytest.mark.parametrize("old, new", [
    ("max_epochs: 2", "max_epochs:"), ("max_epochs: 2", "max_epochs: # later"),
    ("seed_everything: 3", "seed_everything:"),
    ("lr: 1e-3", "lr:"),
])  # fmt: skip
def test_a_value_that_is_left_empty_is_null(lightkit: Run, project: Path, old: str, new: str) -> None:
    text = (project / "job.yaml").read_text()
    for name, value in (("empty.yaml", new), ("null.yaml", f"{new.partition(':')[0]}: null")):
        (project / name).write_text(text.replace(old, value))
    empty, null = (lightkit("fit", name, "--print_config") for name in ("empty.yaml", "null.yaml"))
    assert (empty.code, empty.err) == (null.code, null.err) == (0, "")
    assert empty.out == null.out


def test_an_alias_is_a_copy_of_what_it_stands_for(lightkit: Run, project: Path) -> None:
    """What is written out in full in one place, as a class, stays what it is in the other."""
    node = compose("a: &a {b: [1, {c: x}]}\nd: *a\ne: *a\n")
    assert node is not None
    parts = [value for _, value in node.value]
    assert len({id(part) for part in parts}) == len({id(part.value[0][1]) for part in parts}) == 3
    assert [part.start_mark.line for part in parts] == [0, 0, 0]
    text = (project / "job.yaml").read_text().replace("class_path: EarlyStopping", "class_path: &name EarlyStopping")
    (project / "job.yaml").write_text(text + "description: *name\n")
    printed = lightkit("fit", "job.yaml", "--print_config").out
    assert "description: EarlyStopping\n" in printed


def test_a_key_given_twice_is_found_in_values_of_any_kind_and_beside_a_merge(lightkit: Run, project: Path) -> None:
    (project / "free.py").write_text(
        "from jobs import Net\n"
        "class Free(Net):\n"
        "    def __init__(self, table: dict | None = None, any=None) -> None:\n"
        "        super().__init__()\n"
    )
    text = (project / "job.yaml").read_text()
    start, end = text.index("model:"), text.index("data:")
    (project / "job.yaml").write_text(
        text[:start]
        + "model:\n  class_path: free.Free\n  init_args:\n    table: {a: 1, b: 2, a: 3}\n    any: [{x: {y: 1, y: 2}}]\n"
        + text[end:]
        + "optimizer:\n  class_path: SGD\n  init_args: {<<: {lr: 1.0}, lr: 0.1, lr: 0.2}\n"
    )
    assert lightkit("fit", "job.yaml").err.splitlines() == [
        "lightkit: error: job.yaml: 3 problems",
        "  job.yaml:14: model.init_args.table.a: given twice, first in line 14",
        "  job.yaml:15: model.init_args.any[0].x.y: given twice, first in line 15",
        "  job.yaml:22: optimizer.init_args.lr: given twice, first in line 22",
    ]


@pytest.mark.parametrize("path", ["os.system", "subprocess.check_output", "builtins.exec"])
def test_a_function_that_makes_no_such_thing_is_not_called(lightkit: Run, project: Path, path: str) -> None:
    text = (project / "job.yaml").read_text().replace(
        "class_path: torch.nn.Linear, init_args: {in_features: 4, out_features: 4}", f"class_path: {path}"
    )
    (project / "job.yaml").write_text(text)
    result = lightkit("fit", "job.yaml")
    assert result.code == 2 and result.err.startswith(
        "lightkit: error: job.yaml: 1 problem\n  job.yaml:15: model.init_args.body: "
        f"class_path '{path}': this is a "
    )
    assert result.err.endswith("function_or_method, and not annotated to return a Module\n") or result.err.endswith(
        "function, and not annotated to return a Module\n"
    )


def test_a_function_that_is_annotated_is_called(lightkit: Run, project: Path) -> None:
    (project / "makes.py").write_text(
        "from torch import nn\ndef make(width: int) -> nn.Linear:\n    return nn.Linear(width, width)\n"
    )
    text = (project / "job.yaml").read_text().replace(
        "class_path: torch.nn.Linear, init_args: {in_features: 4, out_features: 4}",
        "class_path: makes.make, init_args: {width: 4}",
    )
    (project / "job.yaml").write_text(text)
    assert lightkit("fit", "job.yaml", "--trainer.fast_dev_run=true").code == 0
