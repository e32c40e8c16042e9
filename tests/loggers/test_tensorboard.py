import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lightkit.errors import ConfigError
from lightkit.loggers import TensorBoardLogger


def read_back(directory: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def curve(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 4)) for event in read_back(directory).Scalars(tag)]


def attached(run_dir: Path, **kwargs: Any) -> TensorBoardLogger:
    logger = TensorBoardLogger(**kwargs)
    logger._attach_run_dir(run_dir)
    return logger


def test_scalars_are_read_back(tmp_path: Path) -> None:
    logger = attached(tmp_path, prefix="p")
    for step in range(3):
        logger.log_metrics({"loss": step / 2, "epoch": 0}, step=step)
    logger.finalize("success")
    assert curve(tmp_path, "p-loss") == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert read_back(tmp_path).Tags()["scalars"] == ["p-loss", "p-epoch"]


def test_writing_after_finalize_goes_on_in_the_same_directory(tmp_path: Path) -> None:
    logger = attached(tmp_path)
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.finalize("success")
    logger.log_metrics({"loss": 2.0}, step=1)
    logger.finalize("success")
    assert curve(tmp_path, "loss") == [(0, 1.0), (1, 2.0)]


def test_resuming_forgets_what_was_written_after_the_checkpoint(tmp_path: Path) -> None:
    killed = attached(tmp_path)
    killed.log_hyperparams({"lr": 0.1})
    for step in range(5):
        killed.log_metrics({"loss": float(step)}, step=step)
    state = killed.state_dict()
    killed.log_metrics({"val_loss": 99.0}, step=4)
    killed.log_metrics({"loss": 99.0}, step=5)
    killed.log_metrics({"loss": 99.0}, step=6)
    killed.finalize("failed")

    resumed = attached(tmp_path)
    resumed.load_state_dict(state)
    resumed.log_hyperparams({"lr": 0.1})
    resumed.log_metrics({"val_loss": 4.5}, step=4)
    resumed.log_metrics({"loss": 5.0}, step=5)
    resumed.finalize("success")
    assert curve(tmp_path, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 5.0)]
    assert curve(tmp_path, "val_loss") == [(4, 4.5)]
    assert curve(tmp_path, "hp_metric") == [(0, -1.0)]


def test_a_resume_within_the_same_second_is_read_after_what_it_forgets(tmp_path: Path) -> None:
    killed = attached(tmp_path)
    killed.log_metrics({"loss": 1.0}, step=3)
    state = killed.state_dict()
    killed.log_metrics({"loss": 99.0}, step=4)
    killed.finalize("failed")
    (path,) = tmp_path.glob("events.out.tfevents.*")  # the counter at its end goes from 9 to 10 some time
    path = path.rename(path.with_name(f"events.out.tfevents.{int(time.time())}.~.9"))

    resumed = attached(tmp_path)
    resumed.load_state_dict(state)
    resumed.log_metrics({"loss": 2.0}, step=4)
    resumed.finalize("success")
    assert curve(tmp_path, "loss") == [(3, 1.0), (4, 2.0)]
    assert sorted(found.name for found in tmp_path.iterdir())[0] == path.name


def test_resuming_keeps_the_images_of_the_checkpoint_step(tmp_path: Path) -> None:
    killed = attached(tmp_path)
    killed.log_metrics({"loss": 1.0}, step=3)
    killed.log_image("grid", [np.zeros((4, 4, 3), np.uint8)], step=3)
    state = killed.state_dict()
    killed.log_metrics({"loss": 99.0}, step=4)
    killed.finalize("failed")

    resumed = attached(tmp_path)
    resumed.load_state_dict(state)
    resumed.log_metrics({"loss": 2.0}, step=4)
    resumed.finalize("success")
    assert curve(tmp_path, "loss") == [(3, 1.0), (4, 2.0)]
    assert [event.step for event in read_back(tmp_path).Images("grid")] == [3]


def test_the_state_can_be_read_without_unpickling_code(tmp_path: Path) -> None:
    logger = attached(tmp_path / "run")
    logger.log_metrics({"loss": 1.0}, step=3)
    torch.save(logger.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == {
        "max_step": 3, "newest": {"loss": 1.0}, "newest_keys": ["loss"], "newest_values": [1.0], "hparams_step": None,
        "hparams_metrics": [],
    }  # fmt: skip


def test_hyperparameters_go_to_the_tab_and_to_yaml(tmp_path: Path) -> None:
    logger = attached(tmp_path)
    logger.log_hyperparams({"lr": 0.1, "net": {"width": 3, "act": torch.nn.ReLU()}}, {"best": 0.9})
    logger.finalize("success")
    events = read_back(tmp_path)
    plugin = events.PluginTagToContent("hparams")
    assert sorted(plugin) == [
        "_hparams_/experiment",
        "_hparams_/session_end_info",
        "_hparams_/session_start_info",
    ]
    assert b"net/width" in plugin["_hparams_/session_start_info"]
    assert curve(tmp_path, "best") == [(0, 0.9)]
    assert yaml.safe_load((tmp_path / "hparams.yaml").read_text()) == {
        "lr": 0.1,
        "net": {"width": 3, "act": "ReLU()"},
    }


def test_images_texts_and_figures_are_written(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    logger = attached(tmp_path)
    logger.log_image("one", [np.zeros((4, 6, 3), np.uint8)], step=1)
    logger.log_image("two", [torch.rand(3, 4, 6), np.zeros((2, 2), np.uint8)], step=1)
    logger.log_text("words", ["a", "b"], step=1)
    logger.log_figure("figure", figure, step=1)
    logger.finalize("success")
    events = read_back(tmp_path)
    assert events.Tags()["images"] == ["one", "two/0", "two/1", "figure"]
    assert (events.Images("one")[0].height, events.Images("one")[0].width) == (4, 6)
    assert events.Tensors("words/text_summary")[0].tensor_proto.string_val == [b"a\n\nb"]


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5)]
        self.layers = torch.nn.Sequential(*layers)
        self.example_input_array = torch.ones(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_the_graph_is_written_and_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    net = Net().train()
    net.layers[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rng = torch.get_rng_state()
    logger = attached(tmp_path, log_graph=True)
    logger.log_graph(net)
    logger.finalize("success")
    assert read_back(tmp_path).Tags()["graph"]
    assert torch.equal(torch.get_rng_state(), rng)
    assert [module.training for module in net.modules()] == [True, True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_module_without_example_input_array_gets_no_graph_and_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning) as caught:
        attached(tmp_path, log_graph=True).log_graph(torch.nn.Linear(1, 1))
    assert [str(w.message) for w in caught] == [
        "TensorBoardLogger(log_graph=True): the module has no example_input_array: no graph written."
    ]


def test_a_metric_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        attached(tmp_path).log_metrics({"loss": "low"}, step=0)
    assert str(caught.value) == "TensorBoardLogger: metric 'loss': expected a number, got 'low'."


def test_own_directory_with_sub_dir(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="exp", version=3, sub_dir="events", max_queue=1)
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.finalize("success")
    assert logger.log_dir == str(tmp_path / "exp" / "version_3" / "events")
    assert curve(Path(logger.log_dir), "loss") == [(0, 1.0)]


def test_importing_the_loggers_and_callbacks_imports_nothing_heavy(repository: Path) -> None:
    code = (
        "import sys, lightkit.loggers, lightkit.callbacks\n"
        "print(sorted({'tensorboard', 'rich', 'matplotlib', 'torchvision'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_name_that_was_logged_twice_at_the_step_of_the_checkpoint_is_there_twice_after_a_resume(
    tmp_path: Path,
) -> None:
    killed = attached(tmp_path)
    killed.log_metrics({"loss": 1.0, "epoch": 0}, step=3)
    killed.log_metrics({"val": 2.0, "epoch": 0}, step=3)
    state = killed.state_dict()
    killed.log_metrics({"loss": 99.0, "epoch": 1}, step=4)
    killed.finalize("failed")

    resumed = attached(tmp_path)
    resumed.load_state_dict(state)
    resumed.log_metrics({"loss": 3.0, "epoch": 1}, step=4)
    resumed.finalize("success")
    assert curve(tmp_path, "epoch") == [(3, 0.0), (3, 0.0), (4, 1.0)]
    assert curve(tmp_path, "loss") == [(3, 1.0), (4, 3.0)]


def test_charts_of_several_curves_forget_what_was_written_after_the_checkpoint(tmp_path: Path) -> None:
    killed = attached(tmp_path)
    for step in range(3):
        killed.log_metrics({"loss": {"train": step, "val": step + 0.5}}, step=step)
    state = killed.state_dict()
    for step in range(3, 6):
        killed.log_metrics({"loss": {"train": 99.0}}, step=step)
    killed.finalize("failed")

    resumed = attached(tmp_path)
    resumed.load_state_dict(state)
    resumed.log_metrics({"loss": {"train": 3.0}}, step=3)
    resumed.finalize("success")
    resumed.log_metrics({"loss": {"train": 4.0}}, step=4)
    resumed.finalize("success")
    assert curve(tmp_path / "loss_train", "loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert curve(tmp_path / "loss_val", "loss") == [(0, 0.5), (1, 1.5), (2, 2.5)]
