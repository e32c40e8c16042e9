"""What holds for every callback: its names, its texts, copies of it, and runs inside the run that it is in."""

import ast
import copy
import inspect
import io
import pickle
import subprocess
import sys
import threading
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lightkit as lk
from lightkit import callbacks, hooks
from lightkit.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    Callback,
    Checkpoint,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    LineProgress,
    ModelCheckpoint,
    ModelPruning,
    ModelSummary,
    OnExceptionCheckpoint,
    PredictionWriter,
    ProgressBar,
    RichModelSummary,
    RichProgressBar,
    SpikeDetection,
    StochasticWeightAveraging,
    ThroughputMonitor,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)
from lightkit.callbacks.progress import PassProgress
from lightkit.errors import HookError
from lightkit.loggers import Logger

ROOM = [value for name in callbacks.__all__ if isinstance(value := getattr(callbacks, name), type)]
CLASSES = [cls for cls in ROOM if issubclass(cls, Callback)]


def terminal() -> Any:
    from rich.console import Console

    return Console(file=io.StringIO(), force_terminal=True, width=120)


class Thaws(BaseFinetuning):
    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.backbone, optimizer)


class Asleep(BatchSizeFinder):
    def on_fit_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        """The loaders of these tests are given to `fit`."""


def nothing(*_: Any) -> None:
    """A hook of a LambdaCallback."""


MAKE: dict[type, Callable[[Path], Callback]] = {
    BackboneFinetuning: lambda path: BackboneFinetuning(unfreeze_backbone_at_epoch=1),
    BaseFinetuning: lambda path: Thaws(),
    SpikeDetection: lambda path: SpikeDetection(),
    BasePredictionWriter: lambda path: BasePredictionWriter(),
    BatchSizeFinder: lambda path: Asleep(),
    Callback: lambda path: Callback(),
    Checkpoint: lambda path: Checkpoint(),
    DeviceStatsMonitor: lambda path: DeviceStatsMonitor(),
    ThroughputMonitor: lambda path: ThroughputMonitor(),
    EMAWeightAveraging: lambda path: EMAWeightAveraging(decay=0.5),
    EarlyStopping: lambda path: EarlyStopping("v", patience=9),
    GradientAccumulationScheduler: lambda path: GradientAccumulationScheduler({1: 2}),
    LambdaCallback: lambda path: LambdaCallback(on_fit_end=nothing),
    LearningRateFinder: lambda path: LearningRateFinder(num_training_steps=2, update_attr=False),
    LearningRateMonitor: lambda path: LearningRateMonitor(),
    LineProgress: lambda path: LineProgress(every_s=0),
    ModelCheckpoint: lambda path: ModelCheckpoint(path / "kept", monitor="v", save_top_k=2, save_last=True),
    ModelPruning: lambda path: ModelPruning("l1_unstructured", amount=0.2),
    ModelSummary: lambda path: ModelSummary(),
    OnExceptionCheckpoint: lambda path: OnExceptionCheckpoint(path),
    PredictionWriter: lambda path: PredictionWriter(path / "written"),
    ProgressBar: lambda path: ProgressBar(),
    RichModelSummary: lambda path: RichModelSummary(),
    RichProgressBar: lambda path: RichProgressBar(console=terminal()),
    StochasticWeightAveraging: lambda path: StochasticWeightAveraging(0.1, 3),
    TQDMProgressBar: lambda path: TQDMProgressBar(),
    Timer: lambda path: Timer("1h"),
    WeightAveraging: lambda path: WeightAveraging(),
}


class Silent(Logger):
    """Takes everything and writes nothing."""


class Net(lk.LightModule):
    """Logs `v`, which gets better and worse; begins with the same weights each time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(1, 1)
        self.backbone = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.layer(batch) + self.backbone[0](batch)).pow(2).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("v", (0.5, 0.3, 0.4, 0.2, 0.6)[self.current_epoch])
        self.log("validated_weight", self.layer.weight.sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), lr=0.1, momentum=0.9)


def test_every_public_callback_is_made_below() -> None:
    assert set(MAKE) == set(CLASSES)
    assert len(CLASSES) >= 20


# ---------------------------------------------------------------- names and texts


def test_a_callback_has_no_public_name_of_the_frameworks_own() -> None:
    public = {name for name in dir(Callback) if not name.startswith("_")}
    assert public - hooks.HOOK_NAMES == {"state_key", "log", "log_dict", "state_dict", "load_state_dict"}
    assert len(public) == 42


def test_a_callbacks_own_attach_is_its_own(fit: Callable[..., Any]) -> None:
    class Sounds(Callback):
        def __init__(self) -> None:
            self.attached: list[str] = []

        def attach(self, microphone: str) -> None:
            self.attached.append(microphone)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.attach("left")
            self.log("num_microphones", len(self.attached))

    sounds = Sounds()
    trainer = fit([sounds], max_epochs=2)
    assert sounds.attached == ["left", "left"]
    assert float(trainer.callback_metrics["num_microphones"]) == 2


def test_logging_without_a_run_says_so() -> None:
    with pytest.raises(HookError) as caught:
        Timer().log("a", 1.0)
    assert str(caught.value) == "Timer: no Trainer runs this callback yet"
    with pytest.raises(HookError) as caught:
        LineProgress().trainer
    assert str(caught.value) == "LineProgress.trainer: no Trainer runs this callback yet"


def test_a_callback_that_is_a_module_does_not_take_the_weights_of_the_one_that_runs(fit: Callable[..., Any]) -> None:
    class Probe(nn.Module, Callback):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Linear(1, 1)

    probe = Probe()
    trainer = fit([probe], max_epochs=1)
    assert sorted(name for name, _ in probe.named_parameters()) == ["own.bias", "own.weight"]
    assert probe._pl_module is trainer.lightning_module


@pytest.mark.parametrize(("cls", "num_hooks"), [(Callback, 37), (lk.LightModule, 61)])
def test_help_says_of_every_hook_what_it_is_for(cls: type, num_hooks: int) -> None:
    owner = "C" if cls is Callback else "M"
    blocks = (hooks.FIT, hooks.VALIDATE, hooks.TEST, hooks.PREDICT, hooks.ANYWHERE)
    table = {hook.name: hook for block in blocks for hook in hooks.walk(block) if owner in hook.owners}
    texts = {name: inspect.getdoc(getattr(cls, name)) for name in table}
    assert [name for name, text in texts.items() if not text] == []
    assert len(texts) == num_hooks
    assert texts["on_train_end"] == "After the last epoch."
    assert texts["on_train_batch_start"] == "Return -1 to skip the rest of the epoch."
    assert inspect.getdoc(lk.LightModule.optimizer_zero_grad) == "Free the gradients."


# ---------------------------------------------------------------- the room


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_annotations_of_constructors_are_types_at_run_time(cls: type) -> None:
    hints = typing.get_type_hints(cls.__init__)
    names = [name for name in inspect.signature(cls).parameters if name not in ("self", "args", "kwargs", "hooks")]
    assert set(names) <= set(hints)


LOADS = """
import sys, lightkit.callbacks as c
def show():
    print(*sorted({name.split(".")[2] for name in sys.modules if name.startswith("lightkit.callbacks.")}))
show()
c.Timer; show()
c.early_stopping.EarlyStopping; show()
c.LineProgress; c.default_progress_bar(); show()
"""


def test_a_callback_is_loaded_when_it_is_asked_for() -> None:
    root = Path(callbacks.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split("\n") == [
        "",
        "base timer",
        "base early_stopping timer",
        "base default_bar early_stopping progress timer",
        "",
    ]


def test_the_room_lists_its_callbacks_and_nothing_else() -> None:
    assert dir(callbacks) == sorted(callbacks.__all__) == sorted(callbacks._FILES)
    with pytest.raises(AttributeError, match="^module 'lightkit.callbacks' has no attribute 'Earlystopping'$"):
        callbacks.Earlystopping


def test_what_checkers_read_of_the_room_names_the_same_callbacks_in_the_same_files() -> None:
    stub = ast.parse(Path(callbacks.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    named = {alias.asname: f"{node.module}:{alias.name}" for node in imports for alias in node.names}
    files = {name: file if "." in file else f"lightkit.callbacks.{file}" for name, file in callbacks._FILES.items()}
    assert named == {name: f"{file}:{name}" for name, file in files.items()}


# ---------------------------------------------------------------- copies


def holds(value: Any, seen: dict[int, Any]) -> set[str]:
    """The classes of what an object holds, however deep; `seen` keeps what was looked at alive, and so its id."""
    if id(value) in seen or isinstance(value, type | types.ModuleType | types.FunctionType | torch.Tensor):
        return set()
    seen[id(value)] = value
    inside = list(value.items()) if isinstance(value, dict) else []
    inside += list(value) if isinstance(value, list | tuple | set) else []
    inside += list(vars(value).values()) if hasattr(value, "__dict__") else []
    return {type(value).__name__}.union(*(holds(item, seen) for item in inside))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_after_a_fit_is_the_callback_alone(
    cls: type, way: str, tmp_path: Path, fit: Callable[..., Any]
) -> None:
    callback = MAKE[cls](tmp_path)
    bar = isinstance(callback, ProgressBar)
    fit([callback], module=Net(), max_epochs=3, logger=Silent(), enable_progress_bar=bar or False)
    expected = callback.state_dict()
    again = copy.deepcopy(callback) if way == "deepcopy" else pickle.loads(pickle.dumps(callback))
    assert type(again) is type(callback) and again.state_key == callback.state_key
    assert again._pl_module is None
    found = holds(again, {})
    assert found & {"Trainer", "Console", "Progress", "Thread", threading.RLock().__class__.__name__} == set()
    has_average = isinstance(callback, StochasticWeightAveraging | WeightAveraging)
    assert ("Net" in found) == has_average
    # theirs is the running module's, or the clock's
    if not isinstance(callback, BaseFinetuning | ModelPruning | Timer):
        assert repr(again.state_dict()) == repr(expected)
    fit([again], module=Net(), max_epochs=1, logger=Silent(), enable_progress_bar=bar or False)


def test_a_bar_that_is_copied_while_it_shows_something_starts_anew(fit: Callable[..., Any]) -> None:
    copies: list[Any] = []
    bar = RichProgressBar(console=terminal())
    take = LambdaCallback(on_train_epoch_start=lambda trainer, module: copies.append(copy.deepcopy(bar)))
    fit([bar, take], max_epochs=2, enable_progress_bar=True)
    assert len(copies) == 2
    assert [vars(c)[name] for c in copies for name in ("_trainer", "_rich", "_console", "_ended")] == [None] * 8
    assert [vars(c)[name] for c in copies for name in ("_bars", "_runs", "_tasks")] == [[], [], {}] * 2


# ---------------------------------------------------------------- a run inside the run

STAGES = {"validate": "validation", "test": "test", "predict": "predict"}


class Inside:
    """The trainer as it is in a run inside the fit: everything but what that run has of its own."""

    sanity_checking = False
    num_val_batches = num_test_batches = num_predict_batches = [2]

    def __init__(self, trainer: Any, fn: str) -> None:
        self.trainer, self.state = trainer, types.SimpleNamespace(fn=fn)
        self.callback_metrics = {"v": torch.tensor(-100.0)}  # better than any of the fit's

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trainer, name)


class RunsInside(Callback):
    """At a hook of the fit, calls the hooks of a validation, a test and a prediction for the other callbacks."""

    def __init__(self, at: str, *, fails: bool = False) -> None:
        self.fails = fails
        self.num_runs = 0
        setattr(self, at, self.run_all)

    def run_all(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        for fn, name in STAGES.items():
            self.run(Inside(trainer, fn), pl_module, fn, name)

    def run(self, trainer: Any, module: Any, fn: str, name: str) -> None:
        self.num_runs += 1
        others = [callback for callback in trainer.callbacks if callback is not self]

        def call(hook: str, *args: Any) -> None:
            for callback in others:
                getattr(callback, hook)(trainer, module, *args)

        call("setup", fn)
        call(f"on_{name}_start")
        call(f"on_{name}_epoch_start")
        for index in range(2):
            call(f"on_{name}_batch_start", None, index)
            call(f"on_{name}_batch_end", None, None, index)
        if self.fails:
            call("on_exception", RuntimeError("inside"))
        else:
            call(f"on_{name}_epoch_end")
            call(f"on_{name}_end")
        call("teardown", fn)


def state_of(made: list[Callback], trainer: Any) -> str:
    """All that the callbacks know at the end of a fit, the weights, and those that were validated."""
    states = [{k: v for k, v in c.state_dict().items() if k != "time_elapsed"} for c in made]
    lrs = [c.lrs for c in made if isinstance(c, LearningRateMonitor)]
    averages = [c._average_model.state_dict() for c in made if isinstance(c, WeightAveraging)]  # type: ignore[union-attr]
    return repr((states, lrs, averages, trainer.lightning_module.state_dict(), trainer.callback_metrics))


KEEPS = (BackboneFinetuning, EMAWeightAveraging, EarlyStopping, LearningRateMonitor, ModelCheckpoint, Timer)
AT = [
    "on_train_epoch_start", "on_train_batch_end", "on_validation_start", "on_validation_batch_start",
    "on_validation_end", "on_train_epoch_end",
]  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("at", AT)
def test_a_run_inside_the_fit_changes_nothing_for_the_fit(
    at: str, fails: bool, tmp_path: Path, fit: Callable[..., Any]
) -> None:
    def run(*extra: Callback) -> tuple[str, list[str], int]:
        made = [MAKE[cls](tmp_path) for cls in KEEPS]
        trainer = fit([*extra, *made], module=Net(), logger=Silent(), val_check_interval=2)
        state = state_of(made, trainer)
        names = sorted(path.name for path in (tmp_path / "kept").iterdir())
        (tmp_path / "kept").rename(tmp_path / f"kept_{len(extra)}")
        return state, names, trainer.global_step

    inside = RunsInside(at, fails=fails)
    assert run(inside) == run()
    assert inside.num_runs >= 15


def test_a_run_inside_the_fit_leaves_the_clock_of_training_alone(fit: Callable[..., Any]) -> None:
    timer, starts = Timer("1h"), []
    note = LambdaCallback(on_train_batch_start=lambda *_: starts.append((timer.start_time(), timer.end_time())))
    fit([timer, RunsInside("on_train_batch_end"), note], max_epochs=2)
    assert len(starts) == 8
    assert set(starts) == {(timer.start_time(), None)}
    assert timer.end_time("predict") is not None


class Recorder(ProgressBar):
    """Notes what is opened and closed, and what is drawn of an epoch."""

    def __init__(self) -> None:
        super().__init__(every_s=0)
        self.seen: list[str] = []

    def open_bar(self, bar: PassProgress) -> None:
        self.seen.append(f"open {bar.label}")

    def draw_bar(self, bar: PassProgress, metrics: Any) -> None:
        if bar.is_training:
            self.seen.append(bar.count)

    def close_bar(self, bar: PassProgress, metrics: Any) -> None:
        self.seen.append(f"close {bar.label}")

    def stop(self) -> None:
        self.seen.append("stop")


@pytest.mark.parametrize("fails", [False, True])
def test_the_bar_of_the_fit_goes_on_after_a_run_inside_it(fit: Callable[..., Any], fails: bool) -> None:
    bar = Recorder()
    inside = RunsInside("on_train_batch_start", fails=fails)
    fit([bar, inside], max_epochs=1, num_batches=2, enable_progress_bar=True, num_sanity_val_steps=0)
    passes = [f"{what} {label}" for label in ("Validation", "Testing", "Predicting") for what in ("open", "close")]
    own = ["open Validation", "close Validation", "close Epoch 0/0", "stop", "stop"]
    assert bar.seen == ["open Epoch 0/0", *passes, "1/2", *passes, "2/2", *own]
    assert bar._runs == [] and bar._bars == []


def test_a_run_inside_the_fit_that_fails_before_its_setup_leaves_the_bar(fit: Callable[..., Any]) -> None:
    bar = Recorder()

    def fails_early(trainer: Any, module: Any, *_: Any) -> None:
        bar.on_exception(Inside(trainer, "test"), module, RuntimeError("no test_step"))
        bar.teardown(Inside(trainer, "test"), module, "test")

    early = LambdaCallback(on_train_batch_start=fails_early)
    fit([bar, early], max_epochs=1, num_batches=2, enable_progress_bar=True, limit_val_batches=0)
    assert bar.seen == ["open Epoch 0/0", "1/2", "2/2", "close Epoch 0/0", "stop", "stop"]


@pytest.mark.parametrize("at", ["on_train_batch_end", "on_train_epoch_end", "on_train_epoch_start"])
def test_the_rich_bar_shows_the_epochs_after_a_run_inside_the_fit(fit: Callable[..., Any], at: str) -> None:
    bar = RichProgressBar(console=terminal())
    bar.every_s = 0
    left: list[Any] = []
    note = LambdaCallback(on_train_end=lambda *_: left.extend(task.description for task in bar._rich.tasks))
    fit([note, bar, RunsInside(at)], max_epochs=3, enable_progress_bar=True)
    assert left == ["Epoch 2/2"]


def test_lines_say_nothing_of_a_run_inside_the_fit(
    fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    fit([LineProgress(every_s=3600), RunsInside("on_train_epoch_end")], max_epochs=2, enable_progress_bar=True)
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == ["Epoch 0/1", "Epoch 1/1"]


# ---------------------------------------------------------------- the contract

# of these, one at a time: the second is refused, or there is nothing that both could do
GROUPS: tuple[tuple[type, ...], ...] = (
    (ProgressBar,), (BaseFinetuning,), (ModelSummary,), (WeightAveraging, ModelPruning),
    (StochasticWeightAveraging, ModelPruning),
)  # fmt: skip


class Whole(Net):
    """Has all four kinds of step."""

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("tested", self.layer(batch).sum())

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch)


def together(cls: type) -> list[type]:
    """A callback's class with all others that go with it, which are the same ones every time."""
    found = [cls]
    for other in CLASSES:
        if other is cls or other not in CONTRACT:  # the methods of BasePredictionWriter are the user's
            continue
        clashes = any(issubclass(other, group) and any(issubclass(c, group) for c in found) for group in GROUPS)
        if not clashes:
            found.append(other)
    return found


def all_runs(trainer: Any, module: Any, ckpt_path: Any = None) -> list[Any]:
    """Every kind of run; -> what the evaluations gave."""
    loader = torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2)
    trainer.fit(module, loader, loader, ckpt_path=ckpt_path)
    found = [trainer.validate(module, loader, verbose=False), trainer.test(module, loader, verbose=False)]
    return [*found, [p.tolist() for p in trainer.predict(module, loader)]]


# the finders look for a batch size of the module's own loaders before a fit: their contract is tests/tuner's
FINDERS = (BatchSizeFinder, LearningRateFinder)
CONTRACT = [c for c in CLASSES if c is not BasePredictionWriter and issubclass(c, Callback) and c not in FINDERS]


@pytest.mark.parametrize("cls", CONTRACT, ids=lambda cls: cls.__name__)
def test_every_callback_goes_with_all_others_through_every_run_a_file_a_second_fit_and_a_pickle(
    cls: type, tmp_path: Path, trainer: Callable[..., Any]
) -> None:
    names = together(cls)
    assert len(names) >= 12

    def make(made: list[Callback], max_epochs: int) -> Any:
        bar = any(isinstance(c, ProgressBar) for c in made)
        return trainer(made, max_epochs=max_epochs, logger=Silent(), enable_progress_bar=bar or False, run_dir=tmp_path)

    made = [MAKE[name](tmp_path) for name in names]
    first = make(made, 3)
    gave = all_runs(first, Whole())
    # a copy of the Trainer is one that has run
    again = pickle.loads(pickle.dumps(first))
    assert [type(c) for c in again.callbacks] == [type(c) for c in first.callbacks]
    # through a file
    first.save_checkpoint(tmp_path / "file.ckpt")
    fresh = [MAKE[name](tmp_path) for name in names]
    resumed = make(fresh, 3)
    resumed.fit(Whole(), torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2), ckpt_path=tmp_path / "file.ckpt")
    assert [c.state_key for c in fresh] == [c.state_key for c in made]
    one, other = resumed.lightning_module.state_dict(), first.lightning_module.state_dict()
    assert [name for name in other if not torch.equal(one[name], other[name])] == []
    # a second fit of the same objects begins anew, and ends where the first did
    assert all_runs(make(made, 3), Whole()) == gave
