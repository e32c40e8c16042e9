"""Wrong input ends in one message with file and line, exit code 2, and nothing built or touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def job_with(old: str, new: str, project: Path) -> None:
    text = (project / "job.yaml").read_text()
    assert old in text
    (project / "job.yaml").write_text(text.replace(old, new))


def test_all_misspelt_keys_are_reported_at_once(lightkit: Run, project: Path) -> None:
    job_with("seed_everything", "seed_everthing", project)
    job_with("max_epochs", "max_epoch", project)
    job_with("monitor", "monitr", project)
    job_with("in_features", "in_feature", project)
    job_with("batch_size", "batchsize", project)
    job_with("  class_path: jobs.Data\n", "  class_path: jobs.Dat\n", project)
    result = lightkit("fit", "job.yaml")
    assert result.err == (
        "lightkit: error: job.yaml: 5 problems\n"
        "  job.yaml:1: seed_everthing: unknown key; did you mean 'seed_everything'?\n"
        "  job.yaml:3: trainer.max_epoch: unknown key; did you mean 'max_epochs'?\n"
        "  job.yaml:10: trainer.callbacks[0].init_args.monitr: unknown key; did you mean 'monitor'?\n"
        "  job.yaml:15: model.init_args.body.init_args.in_feature: unknown key; did you mean 'in_features'?\n"
        "  job.yaml:17: data: class_path 'jobs.Dat': module 'jobs' has no 'Dat'; did you mean 'Data'?\n"
    )
    assert result.code == 2
    assert result.out == ""
    assert not (project / "data_was_touched").exists()
    assert not (project / "runs").exists()


@pytest.mark.parametrize("old, new, message", [
    ("lr: 1e-3", "learning_rate: 1e-3\n    hiden: 3",
     "job.yaml: 2 problems\n"
     "  job.yaml:14: model.init_args.learning_rate: unknown key\n"
     "  job.yaml:15: model.init_args.hiden: unknown key; did you mean 'hidden'?"),
    ("  init_args:\n    lr: 1e-3", "  init_arg:\n    lr: 1e-3",
     "job.yaml: 1 problem\n  job.yaml:13: model.init_arg: unknown key; did you mean 'init_args'?"),
    ("seed_everything: 3", "model: {}\nseed_everything: 3",
     "job.yaml: 2 problems\n"
     "  job.yaml:1: model: expected class_path: and init_args:, found nothing\n"
     "  job.yaml:12: model: given twice, first in line 1"),
    ("jobs.Deep", "jbs.Deep",
     "job.yaml: 1 problem\n"
     "  job.yaml:12: model: class_path 'jbs.Deep': no module named 'jbs'; did you mean 'jobs'?"),
    ("jobs.Deep", "torch.optm.Adam",
     "job.yaml: 1 problem\n"
     "  job.yaml:12: model: class_path 'torch.optm.Adam': no module named 'torch.optm'; "
     "did you mean 'optim'?"),
    ("jobs.Data", "torch.nn.Linear",
     "job.yaml: 1 problem\n"
     "  job.yaml:17: data: class_path 'torch.nn.Linear': Linear is not a LightDataModule"),
    ("class_path: EarlyStopping", "class_path: EarlyStoping",
     "job.yaml: 1 problem\n"
     "  job.yaml:8: trainer.callbacks[0]: class_path 'EarlyStoping': no Callback of that name; "
     "did you mean 'EarlyStopping'?"),
    ("max_epochs: 2", "max_epochs: two",
     "job.yaml:3: trainer.max_epochs: expected int or null, got 'two'"),
    ("max_epochs: 2", "gpus: 1",
     "job.yaml: 1 problem\n"
     "  job.yaml:3: trainer.gpus: this argument is gone; write accelerator='gpu', devices=1"),
    ("max_epochs: 2", "gpus: 'a): b'",
     "job.yaml: 1 problem\n"
     "  job.yaml:3: trainer.gpus: this argument is gone; write accelerator='gpu', devices='a): b'"),
    ("lr: 1e-3", "lr: fast", "job.yaml:14: model.lr: expected float, got 'fast'"),
    ("batch_size: 4", "batch_size: big", "job.yaml:19: data.batch_size: expected int, got 'big'"),
    ("in_features: 4", "in_features: x", "job.yaml:15: model.body.in_features: expected int, got 'x'"),
    ("monitor: val_loss", "monitor: val_loss\n      patience: long",
     "job.yaml:11: trainer.callbacks.patience: expected int, got 'long'"),
    ("monitor: val_loss", "patience: 3",
     "job.yaml:8: trainer.callbacks: EarlyStopping needs monitor, which is not given"),
    ("  init_args:\n    batch_size: 4\n", "",
     "job.yaml:17: data: Data needs batch_size, which is not given"),
    ("seed_everything: 3", "seed_everything: hi",
     "job.yaml:1: seed_everything: expected bool or int or null, got 'hi'"),
    ("seed_everything: 3", "optimizer: {class_path: AdamW, init_args: {lr: x}}",
     "job.yaml:1: optimizer.lr: expected float or Tensor, got 'x'"),
    ("seed_everything: 3", "optimizer: {class_path: AdanW}",
     "job.yaml: 1 problem\n"
     "  job.yaml:1: optimizer: class_path 'AdanW': no Optimizer of that name; did you mean 'AdamW'?"),
    ("seed_everything: 3", "lr_scheduler: {class_path: StepLR, init_args: {step_size: 3}}",
     "lr_scheduler: give an optimizer: too; without one the module's own are used"),
])  # fmt: skip
def test_a_wrong_line_is_named(lightkit: Run, project: Path, old: str, new: str, message: str) -> None:
    job_with(old, new, project)
    result = lightkit("fit", "job.yaml")
    assert result.err == f"lightkit: error: {message}\n"
    assert result.code == 2
    assert not (project / "data_was_touched").exists()


def test_a_scheduler_without_an_optimizer_is_refused_before_the_model_is_built(
    lightkit: Run, project: Path
) -> None:
    jobs = (project / "jobs.py").read_text()
    init = "        super().__init__()\n        self.lr = lr\n"
    assert init in jobs
    (project / "jobs.py").write_text(jobs.replace(init, init + '        Path("model_was_built").touch()\n'))
    lone = "lr_scheduler: {class_path: StepLR, init_args: {step_size: 3}}"
    job_with("seed_everything: 3", lone, project)
    result = lightkit("fit", "job.yaml")
    assert result.err == (
        "lightkit: error: lr_scheduler: give an optimizer: too; without one the module's own are used\n"
    )
    assert not (project / "model_was_built").exists()
    job_with(lone, "seed_everything: 3", project)
    assert lightkit("fit", "job.yaml").code == 0
    assert (project / "model_was_built").exists()


@pytest.mark.parametrize("text, message", [
    ("", "bad.yaml: empty; it should hold keys such as model: and trainer:"),
    ("# nothing yet\n", "bad.yaml: empty; it should hold keys such as model: and trainer:"),
    ("- a\n- b\n", "bad.yaml:1: expected keys such as model: and trainer:, found a list"),
    ("\nhello\n", "bad.yaml:2: expected keys such as model: and trainer:, found a single value"),
    ("model:\n  class_path: [a\n", "bad.yaml:3: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ("model:\n\tclass_path: a\n",
     "bad.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
    ("trainer: {max_epochs: 3}\n", "bad.yaml: missing: model"),
    ("model: {lr: 3}\n",
     "bad.yaml: 1 problem\n  bad.yaml:1: model: expected class_path: and init_args:, found keys lr"),
    ("trainer: 3\nmodel: {class_path: jobs.Net}\n",
     "bad.yaml: 1 problem\n  bad.yaml:1: trainer: expected keys and values, found a single value"),
])  # fmt: skip
def test_a_file_that_is_no_config_says_so(lightkit: Run, project: Path, text: str, message: str) -> None:
    (project / "bad.yaml").write_text(text)
    result = lightkit("fit", "bad.yaml")
    assert result.err == f"lightkit: error: {message}\n"
    assert result.code == 2


def test_a_file_that_is_not_utf8_says_so(lightkit: Run, project: Path) -> None:
    (project / "bad.yaml").write_bytes(b"model: \xff\n")
    result = lightkit("fit", "bad.yaml")
    assert result.err == (
        "lightkit: error: bad.yaml: cannot be read: 'utf-8' codec can't decode byte 0xff in position 7: "
        "invalid start byte\n"
    )


@pytest.mark.parametrize("options, message", [
    (["--trainer.max_epoch", "3"],
     "command line: unknown option --trainer.max_epoch; did you mean '--trainer.max_epochs'?"),
    (["--model.hiden", "3"], "command line: model: Deep has no 'hiden'; did you mean 'hidden'?"),
    (["--model.lr", "x"], "command line: model.lr: expected float, got 'x'"),
    (["--trainer.max_epochs=x"], "command line: trainer.max_epochs: expected int or null, got 'x'"),
    (["--model", "jobs.Nett"],
     "command line: --model: class_path 'jobs.Nett': module 'jobs' has no 'Nett'; did you mean 'Net'?"),
    (["extra"], "command line: 'extra' is not expected here; options start with --"),
])  # fmt: skip
def test_a_wrong_option_is_named(lightkit: Run, options: list[str], message: str) -> None:
    result = lightkit("fit", "job.yaml", *options)
    assert result.err == f"lightkit: error: {message}\n"
    assert result.code == 2


def test_a_module_of_the_users_that_fails_is_named_with_its_line(
    lightkit: Run, write: Any, project: Path
) -> None:
    write("broken.py", "import os\n\nx = 1 / 0\n")
    job_with("jobs.Deep", "broken.Net", project)
    result = lightkit("fit", "job.yaml")
    assert result.err == (
        "lightkit: error: job.yaml: 1 problem\n"
        "  job.yaml:12: model: class_path 'broken.Net': importing 'broken' failed at "
        f"{project}/broken.py:3: ZeroDivisionError: division by zero\n"
    )


def test_a_missing_extra_says_what_to_install(lightkit: Run, write: Any, project: Path) -> None:
    # ModuleNotFoundError as python raises it where torchvision is not installed
    missing = "raise ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')\n"
    write("needs_vision.py", missing)
    job_with("jobs.Deep", "needs_vision.Net", project)
    result = lightkit("fit", "job.yaml")
    assert result.err == (
        "lightkit: error: job.yaml: 1 problem\n"
        "  job.yaml:12: model: class_path 'needs_vision.Net': torchvision is needed by needs_vision: "
        'pip install "lightkit[vision]"\n'
    )
    assert result.code == 2


def test_an_extra_that_is_missed_during_the_run_is_wrong_input_too(lightkit: Run, write: Any) -> None:
    write("late.py", """
        from jobs import Data
        from lightkit.errors import require

        class Late(Data):
            def prepare_data(self) -> None:
                require("torchvision_surely_absent", "vision", needed_by="Late")
    """)
    result = lightkit("fit", "job.yaml", "--data", "late.Late", "--data.batch_size=4")
    assert result.err == (
        'lightkit: error: torchvision_surely_absent is needed by Late: pip install "lightkit[vision]"\n'
    )
    assert result.code == 2


def test_another_missing_package_is_named(lightkit: Run, write: Any, project: Path) -> None:
    write("needs_other.py", "import surely_not_installed_here\n")
    job_with("jobs.Deep", "needs_other.Net", project)
    assert lightkit("fit", "job.yaml").err == (
        "lightkit: error: job.yaml: 1 problem\n"
        "  job.yaml:12: model: class_path 'needs_other.Net': needs_other needs surely_not_installed_here, "
        "which is not installed\n"
    )


def test_without_a_config_the_message_says_how_to_find_one(lightkit: Run) -> None:
    result = lightkit("fit")
    assert result.err == (
        "lightkit: error: missing: model; give a CONFIG, `lightkit list` shows the shipped ones\n"
    )
    assert result.code == 2


def test_an_unknown_command_names_the_near_one(lightkit: Run) -> None:
    result = lightkit("fitt", "job.yaml")
    assert result.err == (
        "lightkit: error: command 'fitt': expected one of fit, validate, test, predict, list, check, export, copy; "
        "did you mean 'fit'?\n"
    )
    assert result.code == 2


def test_debug_shows_the_traceback_too(lightkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = lightkit("fit", "nowhere.yaml").err
    assert "Traceback" not in plain
    with_flag = lightkit("fit", "nowhere.yaml", "--debug").err
    monkeypatch.setenv("LIGHTKIT_DEBUG", "1")
    with_variable = lightkit("fit", "nowhere.yaml").err
    for shown in (with_flag, with_variable):
        assert shown.startswith("Traceback (most recent call last):\n")
        assert shown.endswith(plain)


def test_what_a_constructor_refuses_is_said_as_it_says_it(lightkit: Run) -> None:
    result = lightkit("fit", "vision/mnist", "--data.name=FasionMNIST")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "lightkit: error: TorchvisionData(name='FasionMNIST'): expected one of MNIST, FashionMNIST, KMNIST, CIFAR10, "
        "CIFAR100; did you mean 'FashionMNIST'?\n"
    )
