"""Every key, class and value is held against its parameter in one pass; class specs may be written in short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Run = Callable[..., Any]

PARTS = """
from __future__ import annotations
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal
import torch
from torch import nn
import lightkit as lk
from jobs import Net

class Colour(Enum):
    red = 1
    blue = 2

@dataclass
class Augment:
    shift: float
    sizes: list[int] | None = None

class Inner(nn.Module):
    def __init__(self, width: int, act: nn.Module | None = None) -> None:
        super().__init__()

class Many(Net):
    def __init__(self, count: int = 1, mode: Literal["a", "b"] = "a", colour: Colour = Colour.red,
                 pair: tuple[int, float] = (1, 2.0), table: dict[str, int] | None = None,
                 augment: Augment | None = None, inner: nn.Module | None = None,
                 layers: list[nn.Module] | None = None, act: Callable[[torch.Tensor], torch.Tensor] = torch.relu,
                 name: str = "x") -> None:
        super().__init__()

class Sounds(lk.Callback):
    def __init__(self, volume: int) -> None:
        self.volume = volume
"""
MANY = """
model:
  class_path: parts.Many
  init_args:
{arguments}
trainer: {{fast_dev_run: true, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}}
data: {{class_path: jobs.Data, init_args: {{batch_size: 4}}}}
"""


@pytest.fixture(autouse=True)
def parts(write: Any) -> None:
    write("parts.py", PARTS)


def with_arguments(*lines: str) -> str:
    return MANY.format(arguments="\n".join(f"    {line}" for line in lines)).lstrip()


def test_all_values_are_reported_at_once_with_keys_classes_and_options(lightkit: Run, project: Path) -> None:
    (project / "many.yaml").write_text(with_arguments(
        "count: x", "mode: c", "colour: green", "pair: [1]", "table: {a: 1, b: y}",
        "augment: {shift: z, sizes: [1, q]}",
        "inner: {class_path: parts.Inner, init_args: {width: w, act: {class_path: torch.optim.SGD}}}",
        "layers:", "- 3", "- {class_path: torch.nn.Linear, init_args: {in_features: 3}}", "- torch.nn.ReLUU",
        "act: torch.reluu", "nme: y",
    ))  # fmt: skip
    options = ["--trainer.max_epochs=y", "--model.count", "1.5", "--data.rws=3", "--ckpt_path"]
    result = lightkit("fit", "many.yaml", *options)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "lightkit: error: many.yaml: 18 problems",
        "  many.yaml:4: model.count: expected int, got 'x'",
        "  many.yaml:5: model.mode: expected Literal['a', 'b'], got 'c'",
        "  many.yaml:6: model.colour: expected Colour, got 'green'",
        "  many.yaml:7: model.pair: expected tuple[int, float], got '[1]'",
        "  many.yaml:8: model.table: expected int, got 'y'",
        "  many.yaml:9: model.augment.shift: expected float, got 'z'",
        "  many.yaml:9: model.augment.sizes: expected int, got 'q'",
        "  many.yaml:10: model.inner.width: expected int, got 'w'",
        "  many.yaml:10: model.init_args.inner.init_args.act: class_path 'torch.optim.SGD': SGD is not a Module",
        "  many.yaml:12: model.layers: expected Module, got '3'",
        "  many.yaml:13: model.layers: Linear needs out_features, which is not given",
        "  many.yaml:14: model.init_args.layers[2]: class_path 'torch.nn.ReLUU': module 'torch.nn' has no 'ReLUU'; "
        "did you mean 'ReLU'?",
        "  many.yaml:15: model.act: expected Callable, got 'torch.reluu'",
        "  many.yaml:16: model.init_args.nme: unknown key; did you mean 'name'?",
        "  command line: trainer.max_epochs: expected int or null, got 'y'",
        "  command line: model.count: expected int, got '1.5'",
        "  command line: data: Data has no 'rws'; did you mean 'rows'?",
        "  command line: --ckpt_path: expected one argument",
    ]


@pytest.mark.parametrize("arguments", [
    ("count: '3'", "mode: b", "colour: blue", "pair: [1, 2]", "table: {a: 1}", "augment: {shift: 1, sizes: [2]}"),
    ("inner: torch.nn.ReLU", "layers: [torch.nn.ReLU, {class_path: Inner, init_args: {width: 3}}]", "act: torch.relu"),
    ("inner: ReLU", "count: null", "name: '3'"),
])  # fmt: skip
def test_what_jsonargparse_takes_is_taken(lightkit: Run, project: Path, arguments: tuple[str, ...]) -> None:
    (project / "many.yaml").write_text(with_arguments(*arguments))
    result = lightkit("fit", "many.yaml", "--model.name=3", "--print_config")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("options", [
    ("--model.augment={shift: 1}", "--model.augment.shift=2"),
    ("--model.augment.shift=2",),
    ("--model.inner=parts.Inner", "--model.inner.width", "3"),
    ("--model.inner={class_path: parts.Inner}", "--model.inner.init_args.width=3"),
    ("--model.layers+=torch.nn.ReLU", "--model.table.a=3"),
    ("--model.class_path=parts.Many", "--data.init_args", "{batch_size: 2, rows: 3}"),
])  # fmt: skip
def test_what_an_option_gives_is_not_missing(lightkit: Run, project: Path, options: tuple[str, ...]) -> None:
    (project / "many.yaml").write_text(with_arguments("count: 1"))
    result = lightkit("fit", "many.yaml", *options, "--print_config")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("options, problem", [
    (["--model.inner.width=3"], "model.inner: Module has no 'width'"),
    (["--model.inner=parts.Inner"], "model.inner: Inner needs width, which is not given"),
    (["--model.inner=parts.Inner", "--model.inner.width=w"], "model.inner.width: expected int, got 'w'"),
    (["--model.augment.shift=w"], "model.augment.shift: expected float, got 'w'"),
    (["--model.augment.shft=1"], "model.augment: Augment has no 'shft'; did you mean 'shift'?"),
    (["--model.table.a=w"], "model.table: expected int, got 'w'"),
    (["--model.layers+=parts.Iner"], "--model.layers[0]: class_path 'parts.Iner': module 'parts' has no 'Iner'; "
     "did you mean 'Inner'?"),
    (["--optimizer=SGDD"], "--optimizer: class_path 'SGDD': no Optimizer of that name; did you mean 'SGD'?"),
])  # fmt: skip
def test_an_option_is_held_against_the_class_that_is_named(
    lightkit: Run, project: Path, options: list[str], problem: str
) -> None:
    (project / "many.yaml").write_text(with_arguments("count: 1"))
    result = lightkit("fit", "many.yaml", *options)
    assert (result.code, result.err) == (2, f"lightkit: error: command line: {problem}\n")


def test_what_only_jsonargparse_refuses_is_one_line_with_the_file(lightkit: Run) -> None:
    result = lightkit("fit", "job.yaml", "--test=3")
    assert (result.code, result.err) == (
        2, "lightkit: error: job.yaml: argument --test: ignored explicit argument '3'\n",
    )  # fmt: skip


SHORT = """
model: jobs.Net
data: {class_path: jobs.Data, init_args: {batch_size: 4}}
trainer:
  callbacks:
  - LearningRateMonitor
  - ModelCheckpoint: {monitor: val_loss, save_last: true}
  - lightning.pytorch.callbacks.EarlyStopping:
      monitor: val_loss
  - ModelSummary:
  - {class_path: parts.Sounds, init_args: {volume: 3}}
  logger:
  - CSVLogger: {name: small}
"""
FULL = """
model: {class_path: jobs.Net}
data: {class_path: jobs.Data, init_args: {batch_size: 4}}
trainer:
  callbacks:
  - class_path: lightkit.callbacks.LearningRateMonitor
  - {class_path: lightkit.callbacks.ModelCheckpoint, init_args: {monitor: val_loss, save_last: true}}
  - {class_path: lightkit.callbacks.EarlyStopping, init_args: {monitor: val_loss}}
  - class_path: lightkit.callbacks.ModelSummary
  - {class_path: parts.Sounds, init_args: {volume: 3}}
  logger:
  - {class_path: lightkit.loggers.CSVLogger, init_args: {name: small}}
"""


def test_a_class_named_in_short_is_the_same_class(lightkit: Run, project: Path) -> None:
    (project / "short.yaml").write_text(SHORT)
    (project / "full.yaml").write_text(FULL)
    short, full = lightkit("fit", "short.yaml", "--print_config"), lightkit("fit", "full.yaml", "--print_config")
    assert (short.code, short.err) == (0, "")
    assert short == full
    printed = yaml.safe_load(short.out)["trainer"]
    assert printed["callbacks"][1]["class_path"] == "lightkit.callbacks.ModelCheckpoint"
    assert printed["callbacks"][1]["init_args"]["save_top_k"] == 1


def test_a_class_can_be_named_in_short_on_the_command_line(lightkit: Run) -> None:
    printed = yaml.safe_load(lightkit(
        "fit", "job.yaml", "--trainer.callbacks=[{ModelCheckpoint: {monitor: val_loss}}, LearningRateMonitor]",
        "--trainer.callbacks+={EarlyStopping: {monitor: val_loss, patience: 7}}", "--trainer.logger", "CSVLogger",
        "--print_config",
    ).out)["trainer"]  # fmt: skip
    names = [callback["class_path"].rpartition(".")[2] for callback in printed["callbacks"]]
    assert names == ["ModelCheckpoint", "LearningRateMonitor", "EarlyStopping"]
    assert printed["callbacks"][2]["init_args"]["patience"] == 7
    assert printed["logger"]["class_path"] == "lightkit.loggers.CSVLogger"


def test_what_is_wrong_in_a_short_spec_is_reported_with_its_line(lightkit: Run, project: Path) -> None:
    (project / "short.yaml").write_text("""
model: jobs.Net
trainer:
  callbacks:
  - LearningRateMonitr
  - ModelCheckpoint: {monitr: val_loss}
  - EarlyStopping:
      patience: long
  - ModelCheckpoint:
    monitor: val_loss
  - parts.Sounds
  logger:
  - CSVLogger: {flush_logs_every_n_steps: x}
""")
    assert lightkit("fit", "short.yaml").err.splitlines() == [
        "lightkit: error: short.yaml: 7 problems",
        "  short.yaml:5: trainer.callbacks[0]: class_path 'LearningRateMonitr': no Callback of that name; "
        "did you mean 'LearningRateMonitor'?",
        "  short.yaml:6: trainer.callbacks[1].init_args.monitr: unknown key; did you mean 'monitor'?",
        "  short.yaml:7: trainer.callbacks: EarlyStopping needs monitor, which is not given",
        "  short.yaml:8: trainer.callbacks.patience: expected int, got 'long'",
        "  short.yaml:9: trainer.callbacks[3]: expected class_path: and init_args:, found keys "
        "ModelCheckpoint, monitor",
        "  short.yaml:11: trainer.callbacks: Sounds needs volume, which is not given",
        "  short.yaml:13: trainer.logger.flush_logs_every_n_steps: expected int, got 'x'",
    ]


def test_the_saved_config_of_a_short_spec_can_be_run_again(lightkit: Run, project: Path) -> None:
    (project / "short.yaml").write_text(SHORT)
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    assert lightkit("fit", "short.yaml", *quiet, "--trainer.run_dir=first").code == 0
    saved = yaml.safe_load((project / "first" / "config.yaml").read_text())
    assert saved["trainer"]["callbacks"][2]["class_path"] == "lightkit.callbacks.EarlyStopping"
    assert lightkit("fit", "first/config.yaml", "--trainer.run_dir=second").code == 0


def test_a_recipe_named_in_short_is_copied(lightkit: Run, write: Any, project: Path) -> None:
    write("mine.yaml", """
        model: recipes.tabular.prediction.TablePredictor
        trainer: {callbacks: [{recipes.plots.Curves: {}}]}
    """)  # fmt: skip
    assert lightkit("copy", "mine.yaml", "copied").code == 0
    assert "mine_recipe.plots.Curves: {}" in (project / "copied" / "mine.yaml").read_text()
    assert (project / "copied" / "mine_recipe" / "plots.py").is_file()


def test_check_goes_on_without_the_values_that_are_wrong(lightkit: Run, project: Path) -> None:
    (project / "many.yaml").write_text(with_arguments("count: x", "inner: {class_path: parts.Inner}"))
    result = lightkit("check", "many.yaml", "--data.rows", "x", "--trainer.callbacks+=EarlyStopping")
    assert result.err.splitlines() == [
        "lightkit: error: many.yaml: 4 problems",
        "  many.yaml:4: model.count: expected int, got 'x'",
        "  command line: data.rows: expected int, got 'x'",
        "  many.yaml:5: model.inner: Inner needs width, which is not given",
        "  command line: trainer.callbacks: EarlyStopping needs monitor, which is not given",
    ]
