"""The recorded step, on the CPU: a tape of aten operations keeps a CUDA graph's promises, one memory and no Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.devices.capture import graph_problem
from lightkit.devices.precision import choose_precision
from lightkit.errors import ConfigError
from lightkit.loops.steps.graph import MOST_RECORDINGS, WARM_UP
from lightkit.loops.steps.graph_parts import BatchIndex, layout_of

NO_READ = "called a synchronizing operation"


class _Reads(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_local_scalar_dense" in str(func):
            raise RuntimeError(NO_READ)
        return func(*args, **(kwargs or {}))


class _Taping(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Any] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # what is written to, as it was

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        infos = [argument.alias_info for argument in func._schema.arguments]
        writes = [a for a, info in zip(args, infos, strict=False) if info is not None and info.is_write]
        for tensor in tree_leaves(writes):
            if isinstance(tensor, Tensor):
                self.before.setdefault(tensor.data_ptr(), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        returns = [r.alias_info for r in func._schema.returns]
        is_view = bool(returns) and not writes and all(r is not None for r in returns)
        if not is_view:
            self.operations.append((func, args, kwargs, None if writes else result))
        return result


class Tape:
    """A recorder whose device is the CPU."""

    def __init__(self) -> None:
        self.recorded = self.launched = 0

    def warm_up(self, work: Callable[[], Any]) -> Any:
        return work()

    def rehearse(self, work: Callable[[], Any]) -> Any:
        with _Reads():
            return work()

    def record(self, work: Callable[[], Any], generators: Iterable[torch.Generator]) -> Any:
        self.recorded += 1
        rng, taping = torch.get_rng_state(), _Taping()
        with taping:
            result = work()
        torch.set_rng_state(rng)
        with torch.no_grad():
            for tensor, value in taping.before.values():
                tensor.detach().copy_(value)

        def launch() -> None:
            self.launched += 1
            with torch.no_grad():
                for func, args, kwargs, old in taping.operations:
                    new = func(*args, **kwargs)
                    for target, value in zip(tree_leaves(old), tree_leaves(new), strict=False):
                        if isinstance(target, Tensor):
                            target.detach().copy_(value)

        return result, launch


class Net(lk.LightModule):
    def __init__(self, kind: type[torch.optim.Optimizer] = torch.optim.AdamW, **options: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
        self.kind, self.options = kind, {"lr": 0.125, **options}
        self.calls = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls += 1
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("largest", x.max(), reduce_fx="max", on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = self.kind(self.parameters(), **self.options)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.5)  # exact in float32
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def data(samples: int = 42) -> DataLoader[Any]:  # the last of its 11 batches holds 2
    x = torch.randn(samples, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4, shuffle=True)


def fit(model: Any, root: Path, tape: Tape | None = None, loader: Any = None, **options: Any) -> Any:
    """Train with the tape, or without one but with the kernels that it needs."""
    lk.seed_everything(1, verbose=False)
    ckpt_path = options.pop("ckpt_path", None)
    given = {"max_epochs": 2, "optimizer_kernel": None if tape else "fused", "num_sanity_val_steps": 0, **options}
    trainer = lk.Trainer(
        accelerator="cpu", run_dir=root, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1, **given,
    )  # fmt: skip
    trainer.compute.recorder = tape
    trainer.fit(model, data() if loader is None else loader, data(), ckpt_path=ckpt_path)
    return trainer


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


OPTIMIZERS = [
    (torch.optim.AdamW, {}, 0.5), (torch.optim.Adam, {"amsgrad": True}, None), (torch.optim.SGD, {}, None),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "clip"), OPTIMIZERS)
def test_a_recorded_run_equals_the_eager_one_to_the_bit(
    tmp_path: Path, kind: Any, options: Any, clip: float | None
) -> None:
    eager, recorded, tape = Net(kind, **options), Net(kind, **options), Tape()
    recorded.load_state_dict(eager.state_dict())
    plain = fit(eager, tmp_path / "eager", gradient_clip_val=clip)
    graphed = fit(recorded, tmp_path / "recorded", tape, gradient_clip_val=clip)
    assert_same(eager, recorded)
    assert eager.calls == 22
    assert (tape.recorded, tape.launched) == (1, 20 - WARM_UP)
    assert recorded.calls == WARM_UP + 1 + 2  # recorded once; two last batches are smaller
    assert plain.global_step == graphed.global_step == 22
    assert (tmp_path / "eager" / "metrics.csv").read_text() == (tmp_path / "recorded" / "metrics.csv").read_text()
    assert plain.optimizers[0].param_groups[0]["lr"] == graphed.optimizers[0].param_groups[0]["lr"] == 0.125 * 0.5**7


def test_a_resumed_recorded_run_reaches_the_same_weights(tmp_path: Path) -> None:
    start = Net().state_dict()

    def run(root: Path, **options: Any) -> Net:
        model = Net()
        model.load_state_dict(start)
        save = ModelCheckpoint(every_n_train_steps=1, save_last=True, save_top_k=1)
        fit(model, root, Tape(), callbacks=[save], **options)
        return model

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", max_steps=8)
    parts = run(tmp_path / "parts", ckpt_path=tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert_same(whole, parts)


def test_a_checkpoint_of_a_recorded_run_goes_on_without_the_recording(tmp_path: Path) -> None:
    model = Net()
    trainer = fit(model, tmp_path / "first", Tape(), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = Net()
    resumed = fit(other, tmp_path / "second", optimizer_kernel=None, ckpt_path=tmp_path / "a.ckpt")
    group = resumed.optimizers[0].param_groups[0]
    assert resumed.global_step == 22
    assert (group["fused"], group["capturable"], type(group["lr"])) == (None, False, float)


def test_a_layer_frozen_between_epochs_is_recorded_anew(tmp_path: Path) -> None:
    class Freezing(Net):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                self.layers[0].requires_grad_(False)
                self.frozen = self.layers[0].weight.detach().clone()

    model, tape = Freezing(torch.optim.SGD), Tape()
    fit(model, tmp_path, tape)
    assert torch.equal(model.layers[0].weight, model.frozen)
    assert tape.recorded == 2


def test_gradients_after_a_step_are_those_of_the_step(tmp_path: Path) -> None:
    class Looking(lk.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            pl_module.seen.append((outputs["loss"], [p.grad.clone() for p in pl_module.parameters()]))

    def run(tape: Tape | None) -> list[Any]:
        lk.seed_everything(5, verbose=False)
        model = Net()
        model.seen = []
        fit(model, tmp_path / str(tape is None), tape, callbacks=[Looking()], val_check_interval=4)
        return model.seen

    eager, recorded = run(None), run(Tape())
    assert len(eager) == 22
    for (loss, gradients), (other_loss, others) in zip(eager, recorded, strict=True):
        assert torch.equal(loss, other_loss)
        assert all(map(torch.equal, gradients, others))


def test_outputs_kept_for_the_epochs_end_are_those_of_their_steps(tmp_path: Path) -> None:
    class Keeping(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return {"loss": super().training_step(batch, batch_idx), "log": {"largest_y": batch[1].max().float()}}

        def training_epoch_end(self, outputs: Any) -> None:
            self.kept = torch.stack([o["loss"] for o in outputs])

    lk.seed_everything(2, verbose=False)
    eager = Keeping()
    recorded = Keeping()
    recorded.load_state_dict(eager.state_dict())
    fit(eager, tmp_path / "eager")
    fit(recorded, tmp_path / "recorded", Tape())
    assert torch.equal(eager.kept, recorded.kept)
    assert len(set(eager.kept.tolist())) == 11


class Lengths(Dataset[Any]):
    """Texts of two lengths in turn, eight of the one, eight of the other."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> Any:
        return torch.full((8 + 2 * (index % 2),), 1.0), torch.tensor(index % 2)


def test_batches_of_many_shapes_are_spoken_of(tmp_path: Path) -> None:
    class Padded(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step([batch[0][:, :8], batch[1]], batch_idx)

    loader = DataLoader(Lengths(), batch_sampler=[[0, 2]] * 5 + [[1, 3]] * 20)
    message = (
        r"Trainer\(cuda_graph=True\): 16 batches had other shapes than the captured one and ran without the graph, "
        r"2 ran with it; pad them to one shape, or leave cuda_graph out"
    )
    with pytest.warns(UserWarning, match=message):
        fit(Padded(), tmp_path, Tape(), loader, max_epochs=1)


# ---------------------------------------------------------------- what is refused


class LogsNumber(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("rate", 0.5)
        return super().training_step(batch, 0)


class UsesIndex(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, 0) * (2 if batch_idx % 2 else 1)


class Reads(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, 0)
        return loss if loss.item() > 0 else loss * 2


class Skips(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None


class Counts(Net):
    def __init__(self) -> None:
        super().__init__()
        from torchmetrics import MeanMetric

        self.mean = MeanMetric(nan_strategy="disable")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, 0)
        self.mean.update(loss.detach())
        return loss


class OwnBackward(Net):
    def backward(self, loss: Tensor) -> None:
        loss.backward()


class Hooked(Net):
    def on_after_backward(self) -> None:
        pass


class NoOptimizer(Net):
    def configure_optimizers(self) -> Any:
        return None


class BatchOfOther:
    pass


GRAPH = "Trainer(cuda_graph=True): "
LEAVE = "or leave cuda_graph out"
REFUSED = [
    (LogsNumber, "LogsNumber.training_step logs 'rate' as a float, which a captured step would log unchanged for ever; "
     f"log a tensor, log it in on_train_batch_end, {LEAVE}"),
    (UsesIndex, "training_step uses batch_idx, which a captured step would keep from one batch; use it in "
     f"on_train_batch_start or on_train_batch_end, {LEAVE}"),
    (Reads, f"Reads.training_step cannot be captured: {NO_READ}. Most often it reads the device (.item(), .cpu(), "
     f"print, a mask as an index) or makes a tensor from Python numbers there; change that, {LEAVE}"),
    (Skips, "Skips.training_step returned None for a batch; a captured step learns from each, so leave such batches "
     "out of the data, or cuda_graph out"),
    (Counts, "Counts.training_step updates the metric mean, which a captured step would do once; update it in "
     f"on_train_batch_end, log a tensor instead, {LEAVE}"),
    (OwnBackward, "OwnBackward.backward would run only while the step is captured; use on_train_batch_start or "
     f"on_train_batch_end, {LEAVE}"),
    (Hooked, "Hooked.on_after_backward would run only while the step is captured; use on_train_batch_start or "
     f"on_train_batch_end, {LEAVE}"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message"), REFUSED)
def test_what_a_recorded_step_would_do_once_is_refused(tmp_path: Path, kind: type[Net], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        fit(kind(), tmp_path, Tape())
    assert str(error.value) == GRAPH + message


def test_a_callback_inside_the_step_is_refused(tmp_path: Path) -> None:
    class Watching(lk.Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            pass

    with pytest.raises(ConfigError) as error:
        fit(Net(), tmp_path, Tape(), callbacks=[Watching()])
    assert str(error.value) == (
        "Trainer(cuda_graph=True): Watching.on_before_optimizer_step would run only while the step is captured; use "
        f"on_train_batch_start or on_train_batch_end, {LEAVE}"
    )


def test_a_module_without_an_optimizer_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="returned None"), pytest.raises(ConfigError) as error:
        fit(NoOptimizer(), tmp_path, Tape())
    assert str(error.value) == (
        "Trainer(cuda_graph=True): NoOptimizer.configure_optimizers returned None, so there is no update to capture; "
        "leave cuda_graph out"
    )


def test_steps_written_by_hand_are_refused(tmp_path: Path) -> None:
    model = Net()
    model.automatic_optimization = False
    with pytest.raises(ConfigError) as error:
        fit(model, tmp_path, Tape())
    assert str(error.value) == (
        "Trainer(cuda_graph=True): Net.automatic_optimization=False, and steps written by hand are not captured; leave "
        "cuda_graph out"
    )


def test_a_profiler_does_not_change_a_recorded_run(tmp_path: Path) -> None:
    lk.seed_everything(4, verbose=False)
    eager, recorded, tape = Net(), Net(), Tape()
    recorded.load_state_dict(eager.state_dict())
    fit(eager, tmp_path / "eager")
    fit(recorded, tmp_path / "recorded", tape, profiler="simple")
    assert_same(eager, recorded)
    assert tape.launched == 20 - WARM_UP


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.LBFGS])
def test_optimizers_that_would_keep_the_learning_rate_are_refused(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(ConfigError) as error:
        fit(Net(kind), tmp_path, Tape())
    assert str(error.value) == (
        f"Trainer(cuda_graph=True): {kind.__name__} would keep the learning rate of the captured step; use one of "
        f"torch's SGD, Adam, AdamW, {LEAVE}"
    )


def test_options_that_change_once_are_recorded_anew_and_those_that_change_always_are_refused(tmp_path: Path) -> None:
    class Cycling(lk.Callback):
        def __init__(self, until: int) -> None:
            self.until = until

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx < self.until:
                trainer.optimizers[0].param_groups[0]["weight_decay"] = 0.01 * batch_idx

    def run(until: int, tape: Tape | None) -> Net:
        lk.seed_everything(3, verbose=False)
        model = Net()
        fit(model, tmp_path / f"{until}{tape is None}", tape, callbacks=[Cycling(until)], max_epochs=1)
        return model

    tape = Tape()
    assert_same(run(6, None), run(6, tape))
    assert tape.recorded == 3
    with pytest.raises(ConfigError) as error:
        run(100, Tape())
    assert str(error.value) == (
        "Trainer(cuda_graph=True): 'weight_decay' in parameter group 0 of AdamW changes from step to step, and a "
        f"captured step keeps it ({MOST_RECORDINGS} captures in this epoch); hold it fixed, as with "
        f"OneCycleLR(cycle_momentum=False), {LEAVE}"
    )


def test_a_batch_that_cannot_be_looked_into_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        layout_of([torch.ones(2), BatchOfOther()], [])
    assert str(error.value) == (
        "Trainer(cuda_graph=True): the batch holds a BatchOfOther, into which a captured step's data cannot be copied; "
        f"give tensors in lists, tuples, dicts or dataclasses, {LEAVE}"
    )


def test_layouts_tell_shapes_dtypes_structure_and_plain_values() -> None:
    batch = {"x": torch.ones(2, 3), "more": [torch.ones(1), 5, "a"]}
    tensors: list[Tensor] = []
    layout = layout_of(batch, tensors)
    assert [t.shape for t in tensors] == [(2, 3), (1,)]
    assert layout == layout_of({"x": torch.zeros(2, 3), "more": [torch.zeros(1), 5, "a"]}, [])
    for other in (
        {"x": torch.ones(1, 3), "more": [torch.ones(1), 5, "a"]},
        {"x": torch.ones(2, 3).double(), "more": [torch.ones(1), 5, "a"]},
        {"x": torch.ones(2, 3), "more": (torch.ones(1), 5, "a")},
        {"x": torch.ones(2, 3), "more": [torch.ones(1), 6, "a"]},
        {"z": torch.ones(2, 3), "more": [torch.ones(1), 5, "a"]},
    ):
        assert layout != layout_of(other, [])


@pytest.mark.parametrize("use", [lambda i: i % 2, lambda i: 3 + i, lambda i: i == 0, bool, int, str, lambda i: [1][i]])
def test_any_use_of_the_batch_index_is_noticed(use: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigError, match="training_step uses batch_idx"):
        use(BatchIndex())


GIVEN = {"accumulate_grad_batches": 1, "detect_anomaly": False, "nan_check": "read", "optimizer_kernel": None}


@pytest.mark.parametrize(("change", "precision", "options", "problem"), [
    ({}, "bf16-mixed", {}, None),
    ({"accumulate_grad_batches": 4}, None, {}, "accumulate_grad_batches=4): a captured step is forward, backward and "
     "update at once; use larger batches"),
    ({}, "16-mixed", {}, "precision='16-mixed'): its gradient scaler reads the gradients in each step; use "
     "'bf16-mixed'"),
    ({"detect_anomaly": True}, None, {}, "detect_anomaly=True): it looks at the gradients in each step; look for the "
     "anomaly without the graph"),
    ({"nan_check": "step"}, None, {}, "nan_check='step'): it reads the loss before the update; use 'read'"),
    ({"optimizer_kernel": "foreach"}, None, {}, "optimizer_kernel='foreach'): a captured step needs the fused kernels; "
     "use 'fused'"),
    ({"compile": "reduce-overhead"}, None, {"mode": "reduce-overhead"}, "compile='reduce-overhead'): this compilation "
     "makes CUDA graphs of its own; use mode='max-autotune-no-cudagraphs' or 'default'"),
    ({"compile": True}, None, {}, None),
])  # fmt: skip
def test_arguments_that_exclude_a_graph(change: Any, precision: Any, options: Any, problem: str | None) -> None:
    chosen = choose_precision(precision, torch.device("cpu"))
    assert graph_problem(SimpleNamespace(**{**GIVEN, **change}), chosen, options) == problem


def test_a_graph_on_the_cpu_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        lk.Trainer(accelerator="cpu", cuda_graph=True, max_epochs=1)
    assert str(error.value) == (
        f"{GRAPH}there is no CUDA graph on cpu; use accelerator='gpu' on a machine with an NVIDIA GPU, {LEAVE}"
    )
