"""A checkpoint in which a value is of another type, with right check sums, is one error with the value's place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lightkit as lk
from benchmarks import fuzz
from lightkit.checkpoint import contents, files
from lightkit.checkpoint.torch_states import check_optimizer, check_scheduler
from lightkit.errors import CheckpointError
from lightkit.schema import StateError

STOPPING = "EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with everything in it, taken inside of an epoch."""
    path: Path = tmp_path_factory.mktemp("fit") / "saved.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz.train(path.parent / "run", save=path)
    return path


@pytest.mark.parametrize(("place", "value", "problem"), [
    (("epoch",), "x", "expected a whole number, found 'x'"),
    (("state_dict",), 3, "expected a dict, found 3"),
    (("hyper_parameters",), ["x"], "expected a dict or None, found a list of 1"),
    (("optimizer_states",), {}, "expected a list, found a dict of 0"),
    (("optimizer_states", 0), None, "expected a dict, found None"),
    (("optimizer_states", 0, "state"), 1, "expected a dict, found 1"),
    (("optimizer_states", 0, "state", 0), [1], "expected a dict, found a list of 1"),
    (("optimizer_states", 0, "state", 0, "exp_avg"), [[1.0]], "expected a tensor, found a list of 1"),
    (("optimizer_states", 0, "state", 0, "exp_avg"), torch.ones(2),
     "expected a tensor of the parameter's shape (4, 3), found a tensor of shape (2,)"),
    (("optimizer_states", 0, "state", 1, "step"), "1", "expected a number, found '1'"),
    (("optimizer_states", 0, "state", 0, "exp_avg"), torch.ones(4, 3) * 1j,
     "expected a tensor of real numbers, found one of complex ones"),
    (("optimizer_states", 0, "param_groups"), None, "expected a list, found None"),
    (("optimizer_states", 0, "param_groups", 0, "params"), 3, "expected a list, found 3"),
    (("optimizer_states", 0, "param_groups", 0, "lr"), "0.1", "expected a number, found '0.1'"),
    (("optimizer_states", 0, "param_groups", 0, "betas", 1), None, "expected a number, found None"),
    (("optimizer_states", 0, "param_groups", 0, "amsgrad"), 1, "expected True or False, found 1"),
    (("optimizer_states", 0, "param_groups", 0, "fused"), 1, "expected True or False or None, found 1"),
    (("optimizer_groups", 0, 0), "x", "expected a list, found 'x'"),
    (("lr_schedulers", 0, "last_epoch"), [6], "expected a number, found a list of 1"),
    (("lr_schedulers", 0, "last_epoch"), 6.5, "expected a whole number, found 6.5"),
    (("lr_schedulers", 0, "_schedulers", 1, "last_epoch"), torch.tensor(2),
     "expected a whole number, found a tensor of shape ()"),
    (("lr_schedulers", 0, "_schedulers", 0, "gamma"), {}, "expected a number, found a dict of 0"),
    (("precision",), None, "expected a dict, found None"),
    (("precision", "scale"), "x", "expected a number, found 'x'"),
    (("callbacks",), [], "expected a dict, found a list of 0"),
    (("callbacks", STOPPING), "x", "expected a dict, found 'x'"),
    (("callbacks", STOPPING, "wait_count"), "2", "expected a whole number, found '2'"),
    (("callbacks", STOPPING, "best_score"), torch.ones(2), "expected a number, found a tensor of shape (2,)"),
    (("callbacks", STOPPING, "stopping_reason"), 99, "expected one of 0, 1, 2, 3, 4, found 99"),
    (("callbacks", "Timer", "time_elapsed", "train"), None, "expected a number, found None"),
    (("callbacks", "EMAWeightAveraging", "latest_update_step"), None, "expected a whole number, found None"),
    (("averaging_state", "n_averaged"), 3, "expected a tensor, found 3"),
    (("current_model_state",), None, "expected a dict, found None"),
    (("loggers",), 1, "expected a list, found 1"),
    (("loggers", 0, "num_rows"), "x", "expected a whole number, found 'x'"),
    (("loggers", 0, "columns", 0), 1, "expected a string, found 1"),
    (("loop",), [], "expected a dict, found a list of 0"),
    (("loop", "progress", "global_step"), "6", "expected a whole number, found '6'"),
    (("loop", "progress", "is_epoch_started"), 1, "expected True or False, found 1"),
    (("loop", "results", "training_step", 0, 2, "weights", 0), "x", "expected a number, found 'x'"),
    (("loop", "results", "training_step", 0, 2, "reduce"), "most",
     "expected one of 'mean', 'sum', 'min', 'max', found 'most'"),
    (("loop", "board", "logged", "loss_step"), None, "expected a number, found None"),
    (("loop", "data"), None, "expected the generators from before the epoch that is under way, found None"),
    (("loop", "data", "before"), None, "expected the generators from before the epoch that is under way, found None"),
    (("loop", "data", "before", "rng", "torch"), [1], "expected a tensor, found a list of 1"),
    (("rng", "numpy", 1), None, "expected a whole number, found None"),
    (("rng", "python", 1), "x", "expected a tensor, found 'x'"),
])  # fmt: skip
def test_a_value_of_another_type_is_named_with_its_place(
    saved: Path, tmp_path: Path, place: tuple[Any, ...], value: Any, problem: str
) -> None:
    path = tmp_path / "changed.ckpt"
    torch.save(fuzz.replaced(files.load(saved), place, value), path)
    with pytest.raises(CheckpointError) as caught:
        fuzz.train(tmp_path / "run", path)
    where = "".join(f"[{key!r}]" for key in place)
    assert str(caught.value) == f"{path}: checkpoint{where}: {problem}"


OTHERS: list[tuple[tuple[Any, ...], Any, str]] = [
    (("loop", "metrics", "error", "state", "sum_squared_error"), [1.0], "expected a tensor, found a list of 1"),
    (("loop", "metrics", "error", "updates"), None, "expected a whole number, found None"),
    (("loop", "data", "before", "generators"), [], "expected a dict or None, found a list of 0"),
    (("lr_schedulers", 0, "num_bad_epochs"), "x", "expected a number, found 'x'"),
    (("lr_schedulers", 0, "mode"), None, "expected a string, found None"),
    (("optimizer_states", 0, "state", 0, "momentum_buffer"), 1, "expected a tensor or None, found 1"),
    (("callbacks", "BackboneFinetuning", "trainable", 0), 3, "expected a string, found 3"),
    (("callbacks", "BackboneFinetuning", "previous_backbone_lr"), "x", "expected a number or None, found 'x'"),
    (("optimizer_groups", 0, 1), ["x"],
     "a group added during training has 'x', which the module has not; resume with the module that was trained"),
    (("loggers", 0, "max_step"), None, "expected a whole number, found None"),
    (("callbacks", "BackboneFinetuning", "trainable"), ["x"],
     "has 'x', which Other has not; resume with the module that was trained"),
    (("loop", "data", "before", "generators", "generator"), "x",
     "the state of the loader's generator in the checkpoint is none of a Generator: 'str' object has no attribute "
     "'cpu'"),
]  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of a module with a torchmetrics object, a scheduler that waits, finetuning, TensorBoard."""
    pytest.importorskip("torchmetrics")
    path: Path = tmp_path_factory.mktemp("other") / "saved.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz.train(path.parent / "run", save=path, other=True)
    return path


@pytest.mark.parametrize(("place", "value", "problem"), OTHERS)
def test_that_holds_for_metrics_generators_and_what_waits(
    other: Path, tmp_path: Path, place: tuple[Any, ...], value: Any, problem: str
) -> None:
    path = tmp_path / "changed.ckpt"
    torch.save(fuzz.replaced(files.load(other), place, value), path)
    with pytest.raises(CheckpointError) as caught:
        fuzz.train(tmp_path / "run", path, other=True)
    where = "".join(f"[{key!r}]" for key in place)
    messages = f"{path}: checkpoint{where}: {problem}", f"{path}: checkpoint{where} {problem}", problem
    assert str(caught.value) in messages


def test_generators_that_no_library_takes_are_named(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "changed.ckpt"
    torch.save(fuzz.replaced(files.load(saved), ("rng", "torch"), torch.zeros(3, dtype=torch.uint8)), path)
    before = torch.get_rng_state()
    with pytest.raises(CheckpointError, match=r"checkpoint\['rng'\]: no state of the random generators: Expected a "):
        fuzz.train(tmp_path / "run", path)
    assert path.exists() and before.shape == torch.get_rng_state().shape


def test_a_weight_that_is_none_is_named_also_where_names_may_be_missing(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "changed.ckpt"
    torch.save(fuzz.replaced(files.load(saved), ("state_dict", "layers.0.bias"), [1.0] * 4), path)
    for strict in (True, False):
        with pytest.raises(CheckpointError) as caught:
            fuzz.Net.load_from_checkpoint(path, strict=strict)
        assert str(caught.value) == (
            f"the checkpoint {path} does not fit Net:\n  of another size (1):\n"
            "    layers.0.bias: (list) in the file, (4,) in the model"
        )


def test_a_part_that_is_missing_is_named(saved: Path, tmp_path: Path) -> None:
    for key in ("lr_schedulers", "loggers", "rng"):
        content = files.load(saved)
        del content[key]
        torch.save(content, tmp_path / "changed.ckpt")
        with pytest.raises(CheckpointError, match=rf"changed.ckpt: checkpoint\['{key}'\]: "):
            fuzz.train(tmp_path / "run", tmp_path / "changed.ckpt")


def test_a_checkpoint_of_a_later_lightkit_says_so(saved: Path, tmp_path: Path) -> None:
    later = contents.FORMAT + 1
    torch.save({**files.load(saved), "lightkit_format": later}, tmp_path / "later.ckpt")
    with pytest.raises(CheckpointError) as caught:
        files.load(tmp_path / "later.ckpt")
    assert str(caught.value) == (
        f"{tmp_path}/later.ckpt: a later lightkit wrote it (format {later}, this one reads up to {contents.FORMAT}); "
        "update lightkit"
    )


class Refuses(lk.Callback):
    """A user's callback, whose state and errors are its own affair."""

    def state_dict(self) -> dict[str, Any]:
        return {"key": 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise ZeroDivisionError("a user's own")


def test_what_a_users_own_load_state_dict_raises_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError, match="a user's own"):
        contents.give({"callbacks": contents.ByKey({"own": Refuses()})}, {"callbacks": {"own": {"key": "x"}}}, "a.ckpt")


OPTIMIZERS: list[Callable[[Any], torch.optim.Optimizer]] = [
    lambda p: torch.optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), torch.optim.Adam,
    lambda p: torch.optim.Adam(p, torch.tensor(0.1)), torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad,
    torch.optim.Adadelta, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam, torch.optim.ASGD, torch.optim.Rprop,
    torch.optim.Adafactor, torch.optim.LBFGS, lambda p: torch.optim.LBFGS(p, line_search_fn="strong_wolfe"),
]  # fmt: skip


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_the_states_of_torchs_own_optimizers_are_of_the_form(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(torch.ones(2, 3)).pow(2).sum()
        loss.backward()
        return loss

    net = nn.Linear(3, 4)
    optimizer = make(net.parameters())
    check_optimizer(make(net.parameters()), optimizer.state_dict())
    for _ in range(3):
        optimizer.step(closure)
    check_optimizer(make(net.parameters()), optimizer.state_dict())
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = "x"
    with pytest.raises(StateError, match=r"^\['param_groups'\]\[0\]\['lr'\]: expected a number, found 'x'"):
        check_optimizer(make(net.parameters()), state)


def test_the_states_of_torchs_own_schedulers_are_of_the_form() -> None:
    schedulers = torch.optim.lr_scheduler
    kinds: list[Callable[[Any], Any]] = [
        lambda o: schedulers.LambdaLR(o, lambda step: 0.5**step),
        lambda o: schedulers.MultiplicativeLR(o, lambda step: 0.9),
        lambda o: schedulers.StepLR(o, 2), lambda o: schedulers.MultiStepLR(o, [1, 3]), schedulers.ConstantLR,
        schedulers.LinearLR, lambda o: schedulers.ExponentialLR(o, 0.9), schedulers.PolynomialLR,
        lambda o: schedulers.CosineAnnealingLR(o, 3), schedulers.ReduceLROnPlateau,
        lambda o: schedulers.CyclicLR(o, 0.1, 0.2), lambda o: schedulers.OneCycleLR(o, 0.2, total_steps=9),
        lambda o: schedulers.CosineAnnealingWarmRestarts(o, 2),
        lambda o: schedulers.SequentialLR(o, [schedulers.ConstantLR(o), schedulers.StepLR(o, 1)], [2]),
        lambda o: schedulers.ChainedScheduler([schedulers.ConstantLR(o), schedulers.StepLR(o, 1)], o),
    ]  # fmt: skip
    for make in kinds:
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1, momentum=0.9)
        scheduler = make(optimizer)
        for _ in range(4):
            optimizer.step()
            scheduler.step(*([0.5] if isinstance(scheduler, schedulers.ReduceLROnPlateau) else []))
        check_scheduler(make(torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.2, momentum=0.9)), scheduler.state_dict())
        with pytest.raises(StateError, match="expected a"):
            check_scheduler(scheduler, {**scheduler.state_dict(), "_last_lr": "x"})


@pytest.mark.slow
def test_damaged_files_and_wrong_types_come_to_the_right_numbers_or_to_one_error(tmp_path: Path) -> None:
    """The short form of `python benchmarks/fuzz.py`."""
    fuzz.problems.clear()
    found = fuzz.fuzz(tmp_path / "fuzz", num_files=16, num_leaves=50, seed=11)
    assert fuzz.problems == []
    assert set(found["files"]) | set(found["leaves"]) <= {"right", "error"}
    assert found["files"]["error"] >= 28 and found["leaves"]["error"] >= 30, "most changes are noticed by an error"
