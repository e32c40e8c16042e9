"""`lightkit fit|validate|test|predict` on a small job of the user's own."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import lightkit as lk

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import torch, lightkit as lk
from jobs import Data, Deep
lk.seed_everything(3, workers=True)
model = Deep(lr=1e-3, body=torch.nn.Linear(4, 4))
data = Data(batch_size=4)
trainer = lk.Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
                     callbacks=[lk.callbacks.EarlyStopping(monitor="val_loss")], run_dir="from_script")
trainer.fit(model, datamodule=data)
torch.save(model.state_dict(), "script.pt")
"""


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    checkpoints = sorted((run_dir / "checkpoints").glob("*.ckpt"))
    assert checkpoints
    loaded = torch.load(checkpoints[-1], weights_only=True)["state_dict"]
    assert isinstance(loaded, dict) and len(loaded) == 6
    return loaded


def run_dirs(project: Path) -> list[Path]:
    return sorted(path.parent for path in (project / "runs").glob("*/*/run.json"))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_fit_trains_and_says_where_everything_is(lightkit: Run, project: Path) -> None:
    result = lightkit("fit", "job.yaml")
    assert (result.code, result.err) == (0, "")
    (run_dir,) = run_dirs(project)
    assert f"run directory: {run_dir}\n" in result.out
    assert f"{run_dir}/metrics.csv\n" in result.out
    assert f"tensorboard --logdir {run_dir}\n" in result.out
    rows = list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))
    assert {"val_loss", "epoch", "step"} <= set(rows[0])
    assert len([row for row in rows if row["val_loss"]]) == 2


def test_the_resolved_config_can_be_run_again(lightkit: Run, project: Path) -> None:
    assert lightkit("fit", "job.yaml", "--model.lr", "0.5").code == 0
    (first,) = run_dirs(project)
    saved = yaml.safe_load((first / "config.yaml").read_text())
    assert saved["model"]["init_args"]["lr"] == 0.5
    assert saved["model"]["init_args"]["hidden"] == 4  # a default
    assert saved["trainer"]["callbacks"][0]["init_args"]["patience"] == 3  # and one of a callback
    assert set(saved) == {
        "seed_everything", "trainer", "model", "data", "optimizer", "lr_scheduler", "ckpt_path",
    }  # fmt: skip
    assert lightkit("fit", str(first / "config.yaml")).code == 0
    second = [run_dir for run_dir in run_dirs(project) if run_dir != first]
    assert len(second) == 1
    assert same(weights(first), weights(second[0]))
    assert (second[0] / "config.yaml").read_text() == (first / "config.yaml").read_text()


def test_a_script_and_the_same_job_from_yaml_give_the_same_weights(lightkit: Run, project: Path) -> None:
    script = SCRIPT.format(root=str(ROOT))
    subprocess.run([sys.executable, "-c", script], cwd=project, check=True, env=_environment())
    assert lightkit("fit", "job.yaml").code == 0
    (run_dir,) = run_dirs(project)
    assert same(weights(run_dir), torch.load(project / "script.pt", weights_only=True))


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("LIGHTKIT_")}


def test_numbers_are_read_as_yaml_1_2_does(lightkit: Run) -> None:
    printed = yaml.safe_load(lightkit("fit", "job.yaml", "--print_config").out)
    assert printed["model"]["init_args"]["lr"] == 0.001


def test_options_replace_what_the_file_says(lightkit: Run) -> None:
    result = lightkit(
        "fit", "job.yaml", "--trainer.max_epochs", "7", "--model.init_args.hidden=9", "--data.batch_size=2",
        "--print_config",
    )  # fmt: skip
    printed = yaml.safe_load(result.out)
    assert printed["trainer"]["max_epochs"] == 7
    assert printed["model"]["init_args"]["hidden"] == 9
    assert printed["data"]["init_args"]["batch_size"] == 2
    assert result.code == 0


def test_another_class_can_be_named_on_the_command_line(lightkit: Run) -> None:
    printed = yaml.safe_load(lightkit("fit", "job.yaml", "--model", "jobs.Net", "--print_config").out)
    assert printed["model"]["class_path"] == "jobs.Net"
    assert printed["model"]["init_args"]["lr"] == 0.001  # both classes take it
    assert "depth" not in printed["model"]["init_args"]


def test_the_help_of_a_class_shows_its_docstring(lightkit: Run) -> None:
    result = lightkit("fit", "--model.help", "jobs.Deep")
    assert result.code == 0
    assert "--model.init_args.lr LR" in result.out or "--model.lr LR" in result.out
    assert "learning rate of the optimizer." in " ".join(result.out.split())


def test_the_help_of_a_command_lists_its_options(lightkit: Run) -> None:
    result = lightkit("fit", "--help")
    assert result.code == 0
    for option in ("--config", "--trainer.max_epochs", "--model", "--data", "--ckpt_path", "--test"):
        assert f"  {option} " in result.out
    assert lightkit("--help").out.startswith("usage: lightkit COMMAND [CONFIG] [--key value ...]\n")


def test_fit_with_test_tests_what_was_trained(lightkit: Run, project: Path) -> None:
    result = lightkit("fit", "job.yaml", "--test")
    assert (result.code, result.err) == (0, "")
    (run_dir,) = run_dirs(project)
    values = {line.partition(":")[0]: line.partition(":")[2].strip() for line in result.out.splitlines()}
    assert 0.0 <= float(values["test accuracy"]) <= 1.0
    assert "test loss" in values
    assert values["run directory"] == str(run_dir)


def test_test_and_validate_use_the_weights_of_the_checkpoint(lightkit: Run, project: Path) -> None:
    assert lightkit("fit", "job.yaml", "--model.lr=0.5").code == 0
    (run_dir,) = run_dirs(project)
    checkpoint = sorted((run_dir / "checkpoints").glob("*.ckpt"))[-1]
    fresh = lightkit("test", "job.yaml")
    trained = lightkit("test", "job.yaml", "--ckpt_path", str(checkpoint))
    assert (fresh.code, trained.code) == (0, 0)
    assert "test_loss" in fresh.out and "test_loss" in trained.out
    assert fresh.out.split("test_loss")[1].split("\n")[0] != trained.out.split("test_loss")[1].split("\n")[0]
    validated = lightkit("validate", "job.yaml", "--ckpt_path", str(checkpoint))
    assert validated.code == 0
    assert "val_loss" in validated.out


def test_predict_keeps_the_outputs(lightkit: Run, project: Path) -> None:
    result = lightkit("predict", "job.yaml", "--trainer.run_dir=predicted")
    assert (result.code, result.err) == (0, "")
    path = project / "predicted" / "predictions.pt"
    assert f"predictions: {path}\n" in result.out
    predictions = torch.load(path, weights_only=True)
    assert [tuple(batch.shape) for batch in predictions] == [(4, 2), (4, 2), (4, 2)]


def test_optimizer_and_scheduler_of_the_config_replace_those_of_the_module(lightkit: Run, write: Any) -> None:
    write("watch.py", """
        import lightkit as lk

        class Watch(lk.Callback):
            def on_train_start(self, trainer, pl_module):
                optimizer = trainer.optimizers[0]
                config = trainer.lr_scheduler_configs[0]
                print("seen:", type(optimizer).__name__, optimizer.param_groups[0]["lr"],
                      type(config.scheduler).__name__, config.monitor)
    """)  # fmt: skip
    result = lightkit(
        "fit", "job.yaml", "--optimizer", "Adam", "--optimizer.lr", "1e-2",
        "--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "val_loss",
        "--trainer.callbacks+=watch.Watch",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    assert "seen: Adam 0.01 ReduceLROnPlateau val_loss\n" in result.out


def test_anchors_and_merges_are_read(lightkit: Run, write: Any) -> None:
    write("merged.yaml", """
        model: &net
          class_path: jobs.Net
          init_args: {lr: 0.5}
        data: {<<: *net, class_path: jobs.Data, init_args: {batch_size: 4}}
    """)  # fmt: skip
    printed = yaml.safe_load(lightkit("fit", "merged.yaml", "--print_config").out)
    assert printed["data"] == {"class_path": "jobs.Data", "init_args": {"batch_size": 4, "rows": 12}}


def test_lightnings_class_paths_mean_ours(lightkit: Run, project: Path) -> None:
    text = (project / "job.yaml").read_text()
    text = text.replace("EarlyStopping", "lightning.pytorch.callbacks.EarlyStopping")
    (project / "job.yaml").write_text(text)
    printed = yaml.safe_load(lightkit("fit", "job.yaml", "--print_config").out)
    assert printed["trainer"]["callbacks"][0]["class_path"].startswith("lightkit.callbacks.")


def test_a_wrong_value_for_the_trainer_is_wrong_input(lightkit: Run, project: Path) -> None:
    result = lightkit("fit", "job.yaml", "--trainer.max_epochs=-5")
    assert result.code == 2
    assert result.err.startswith("lightkit: error: Trainer(max_epochs=-5): ")
    assert "Traceback" not in result.err


def test_a_run_that_fails_ends_with_one_message_and_code_1(lightkit: Run) -> None:
    result = lightkit("fit", "job.yaml", "--trainer.callbacks.monitor=val_los")
    assert result.code == 1
    assert result.err.startswith(
        "lightkit: error: EarlyStopping(monitor='val_los'): no metric 'val_los' was logged"
    )
    assert "Traceback" not in result.err


def test_a_resumed_run_keeps_both_configs(lightkit: Run, project: Path) -> None:
    assert lightkit("fit", "job.yaml").code == 0
    (run_dir,) = run_dirs(project)
    checkpoint = sorted((run_dir / "checkpoints").glob("*.ckpt"))[-1]
    first = (run_dir / "config.yaml").read_text()
    result = lightkit("fit", "job.yaml", "--ckpt_path", str(checkpoint), "--trainer.max_epochs=3")
    assert (result.code, result.err) == (0, "")
    assert run_dirs(project) == [run_dir]
    assert (run_dir / "config.yaml").read_text() == first
    assert yaml.safe_load((run_dir / "config_2.yaml").read_text())["trainer"]["max_epochs"] == 3


def test_seed_true_is_saved_as_the_seed_that_was_used(lightkit: Run, project: Path) -> None:
    text = (project / "job.yaml").read_text().replace("seed_everything: 3", "seed_everything: true")
    (project / "job.yaml").write_text(text)
    assert lightkit("fit", "job.yaml", "--trainer.max_epochs=1").code == 0
    (run_dir,) = run_dirs(project)
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["seed_everything"] == 0


def test_a_dry_run_leaves_nothing_behind(lightkit: Run, project: Path) -> None:
    result = lightkit("fit", "job.yaml", "--trainer.fast_dev_run=true")
    assert (result.code, result.err) == (0, "")
    assert not list(project.rglob("config*.yaml"))


@pytest.mark.parametrize("arguments, code", [(["--version"], 0), (["-h"], 0), ([], 2)])
def test_the_command_alone(lightkit: Run, arguments: list[str], code: int) -> None:
    result = lightkit(*arguments)
    assert result.code == code
    assert result.out.startswith("lightkit 0." if "--version" in arguments else "usage: lightkit COMMAND")


def test_list_and_help_load_neither_jsonargparse_nor_a_recipe(repository: Path) -> None:
    code = (
        "import sys; from lightkit.cli.main import main; main(['--help']); main(['list']); "
        "print([name for name in ('jsonargparse', 'torchvision', 'recipes') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, check=True, capture_output=True, text=True
    )
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize("argument", ["['--version']", "[]", "['--help']"])
def test_the_command_alone_loads_neither_yaml_nor_torch(argument: str) -> None:
    code = (
        f"import sys; from lightkit.cli.main import main; main({argument}); "
        "print([name for name in ('yaml', 'torch', 'jsonargparse') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.endswith("\n[]\n")


def test_the_public_names_are_there() -> None:
    from lightkit import cli

    assert cli.LightningCLI is cli.LightkitCLI
    assert issubclass(cli.ReduceLROnPlateau, torch.optim.lr_scheduler.ReduceLROnPlateau)
    assert lk.__name__ == "lightkit"
