"""A value is told as the file has it, and one that the command line replaces is not read at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

MANY = """
from dataclasses import dataclass
from torch import nn
from jobs import Net

@dataclass
class Augment:
    shift: float = 1.0

class Many(Net):
    def __init__(self, name: str = "x", count: int = 1, names: list[str] | None = None,
                 table: dict[str, int] | None = None, augment: Augment | None = None,
                 layers: list[nn.Module] | None = None, rate: float | str = 1.0, free: dict | None = None) -> None:
        super().__init__()
        with open("made", "a") as file:
            print(name, count, augment, layers, file=file)
"""


@pytest.fixture
def many(project: Path, write: Any) -> Callable[..., None]:
    """`many("count: 3")` writes `many.yaml` with these arguments of the model, from line 14 on."""
    write("many.py", MANY)
    text = (project / "job.yaml").read_text()

    def make(*lines: str) -> None:
        model = "model:\n  class_path: many.Many\n  init_args:\n" + "".join(f"    {line}\n" for line in lines)
        (project / "many.yaml").write_text(text[: text.index("model:")] + model + text[text.index("data:") :])

    return make


@pytest.mark.parametrize("given, read", [
    ("77950e8", "the float 7795000000000.0"), ("no", "false"), ("on", "true"), ("1:30", "the int 90"),
    ("0777", "the int 511"), ("3", "the int 3"), ("1_0", "the int 10"), ("0x1F", "the int 31"),
    ("12:30:45.5", "the float 45045.5"), (".inf", "the float inf"),
])  # fmt: skip
def test_a_text_that_yaml_reads_as_something_else_is_shown_as_the_file_has_it(
    lightkit: Run, many: Callable[..., None], given: str, read: str
) -> None:
    many(f"name: {given}")
    message = f"many.yaml:14: model.name: expected str, got {given}, which YAML reads as {read}; quote it: '{given}'"
    assert lightkit("fit", "many.yaml").err == f"lightkit: error: {message}\n"
    many(f"names: [a, {given}]")
    assert lightkit("fit", "many.yaml").err == (
        f"lightkit: error: {message.replace('model.name:', 'model.names:')}\n"
    )
    many(f"name: '{given}'")
    assert lightkit("fit", "many.yaml", "--trainer.fast_dev_run=true").code == 0


@pytest.mark.parametrize("given", ["2024-10-05", "2024-13-45", "08", "off-white", "1:30pm"])
def test_what_looks_like_a_date_stays_a_text(
    lightkit: Run, many: Callable[..., None], project: Path, given: str
) -> None:
    many(f"name: {given}")
    assert lightkit("fit", "many.yaml", "--trainer.fast_dev_run=true").code == 0
    assert (project / "made").read_text().startswith(f"{given} 1 ")


@pytest.mark.parametrize("line, message", [
    ("count: on", "model.count: expected int, got on, which YAML reads as true"),
    ("count: 1e3", "model.count: expected int, got 1e3, which YAML reads as the float 1000.0"),
    ("count: 010", "model.count: 010, which YAML reads as 8; write 8"),
    ("count: 1:30", "model.count: 1:30, which YAML reads as 90; write 90"),
    ("rate: 1:30", "model.rate: 1:30, which YAML reads as 90; write 90, or quote it: '1:30'"),
    ("table: {no: 1}", "model.table: the key no, which YAML reads as false; quote it: 'no'"),
    ("table: {1: 1}", "model.table: the key 1, which YAML reads as the int 1; quote it: '1'"),
    ("free: {0777: 1}", "model.free: the key 0777, which YAML reads as the int 511; quote it: '0777'"),
    ("names: {a: yes}", "model.names: expected list[str] or null, got '{a: yes}'"),
])  # fmt: skip
def test_a_number_that_yaml_changes_is_no_number(
    lightkit: Run, many: Callable[..., None], line: str, message: str
) -> None:
    many(line)
    result = lightkit("fit", "many.yaml")
    assert (result.code, result.err) == (2, f"lightkit: error: many.yaml:14: {message}\n")


def test_an_option_is_no_other_number_either(lightkit: Run, many: Callable[..., None], project: Path) -> None:
    many("count: 3")
    assert lightkit("fit", "many.yaml", "--model.count=010").err == (
        "lightkit: error: command line: model.count: 010, which YAML reads as 8; write 8\n"
    )
    assert lightkit("fit", "many.yaml", "--model.name=010", "--trainer.fast_dev_run=true").code == 0
    assert (project / "made").read_text().startswith("010 3 ")


@pytest.mark.parametrize("line, options, made", [
    ("count: x", ["--model.count=3"], "x 3 None None"),
    ("count: x", ["--model.init_args.count", "3"], "x 3 None None"),
    ("count: x", ["--model.init_args", "{count: 3}"], "x 3 None None"),
    ("count: 1:30", ["--model.count=3"], "x 3 None None"),
    ("augment: {shift: z}", ["--model.augment={shift: 2}"], "x 1 Augment(shift=2.0) None"),
    ("augment: {shift: z}", ["--model.augment.shift=2"], "x 1 Augment(shift=2.0) None"),
    ("augment: {shift: z}", ["--model.augment=null"], "x 1 None None"),
    ("layers: [3]", ["--model.layers", "[torch.nn.ReLU]"], "x 1 None [ReLU()]"),
    ("count: x", ["--model=jobs.Net"], None),
])  # fmt: skip
def test_a_bad_value_that_the_command_line_replaces_is_not_read(
    lightkit: Run, many: Callable[..., None], project: Path, line: str, options: list[str], made: str | None
) -> None:
    many(line)
    result = lightkit("fit", "many.yaml", *options, "--trainer.fast_dev_run=true")
    assert (result.code, result.err) == (0, "")
    if made is not None:
        assert (project / "made").read_text() == f"{made}\n"
    assert lightkit("check", "many.yaml", *options).code == 0


@pytest.mark.parametrize("options", [[], ["--model.name=a"], ["--model.count=y"], ["--data.batch_size=2"]])
def test_a_bad_value_of_the_file_is_blamed_on_its_line(
    lightkit: Run, many: Callable[..., None], options: list[str]
) -> None:
    many("count: x")
    result = lightkit("fit", "many.yaml", *options)
    assert result.code == 2 and "many.yaml:14: model.count: expected int, got 'x'\n" in result.err


def test_what_the_trainer_refuses_is_blamed_on_the_line_that_gave_it(lightkit: Run, project: Path) -> None:
    text = (project / "job.yaml").read_text()
    (project / "job.yaml").write_text(text.replace("max_epochs: 2", "max_epochs: -5"))
    result = lightkit("fit", "job.yaml")
    assert result.code == 2 and result.err.startswith("lightkit: error: job.yaml:3: Trainer(max_epochs=-5): ")
    result = lightkit("fit", "job.yaml", "--trainer.max_epochs=-6")
    assert result.err.startswith("lightkit: error: Trainer(max_epochs=-6): ")
    assert lightkit("fit", "job.yaml", "--trainer.max_epochs=1", "--trainer.fast_dev_run=true").code == 0
    (project / "more.yaml").write_text("trainer: {max_epochs: -7}\n")
    result = lightkit("fit", "job.yaml", "--config", "more.yaml")
    assert result.err.startswith("lightkit: error: more.yaml:1: Trainer(max_epochs=-7): ")


def test_a_later_file_replaces_too(lightkit: Run, many: Callable[..., None], project: Path) -> None:
    many("count: x")
    (project / "more.yaml").write_text(
        "trainer: {fast_dev_run: true}\nmodel: {class_path: many.Many, init_args: {count: 5}}\n"
    )
    assert lightkit("fit", "many.yaml", "--config", "more.yaml").code == 0
    assert (project / "made").read_text() == "x 5 None None\n"
    result = lightkit("fit", "more.yaml", "--config", "many.yaml")
    assert result.err == "lightkit: error: many.yaml:14: model.count: expected int, got 'x'\n"


def test_items_of_a_list_that_is_replaced_are_not_read(lightkit: Run, project: Path) -> None:
    text = (project / "job.yaml").read_text().replace("monitor: val_loss", "monitor: 3")
    (project / "job.yaml").write_text(text)
    quick = "--trainer.fast_dev_run=true"
    assert lightkit("fit", "job.yaml", quick, "--trainer.callbacks=null").code == 0
    spec = "[{EarlyStopping: {monitor: train_loss}}]"
    assert lightkit("fit", "job.yaml", quick, f"--trainer.callbacks={spec}").code == 0
    result = lightkit("fit", "job.yaml", quick, "--trainer.callbacks+=LearningRateMonitor")
    assert result.err == (
        "lightkit: error: job.yaml:10: trainer.callbacks.monitor: expected str, got 3, which YAML reads as the int 3; "
        "quote it: '3'\n"
    )


@pytest.mark.parametrize("option", [
    "--trainer.callbacks+=EarlyStoping", "--trainer.callbacks+={EarlyStoping: {monitor: val_loss}}",
    "--trainer.callbacks+=[EarlyStoping]",
])  # fmt: skip
def test_a_misspelt_class_that_is_appended_is_told_with_the_near_one(lightkit: Run, option: str) -> None:
    result = lightkit("fit", "job.yaml", option)
    assert (result.code, result.err) == (
        2,
        "lightkit: error: command line: --trainer.callbacks[0]: class_path 'EarlyStoping': no Callback of that name; "
        "did you mean 'EarlyStopping'?\n",
    )
