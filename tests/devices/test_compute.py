"""The compute switches of the Trainer: memory format, optimizer kernels, TF32, compilation, overlapped transfer."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.data.sources import batch_preparer
from lightkit.devices.capture import CudaRecorder
from lightkit.devices.compilation import compile_options
from lightkit.devices.compute import release
from lightkit.devices.kernels import choose_kernel, load_optimizer_state
from lightkit.devices.overlap import OverlappedTransfer
from lightkit.errors import ConfigError

LAST = torch.channels_last
BACKEND = {"backend": "eager"}  # all of torch.compile but the code that it writes


class Net(lk.LightModule):
    """A small CNN; notes the memory format of what it gets."""

    def __init__(self, optimizer: Any = torch.optim.AdamW) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        self.optimizer = optimizer
        self.formats: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.formats.append(x.is_contiguous(memory_format=LAST))
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.formats.append(batch[0].is_contiguous(memory_format=LAST))
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters(), lr=0.01)


def data() -> DataLoader[Any]:
    x = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.mean((1, 2, 3)) > 0).long()), batch_size=4, shuffle=True)


def fit(model: Any, root: Path, **options: Any) -> Any:
    ckpt_path = options.pop("ckpt_path", None)
    lk.seed_everything(1, verbose=False)
    given: dict[str, Any] = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, **options}
    trainer = lk.Trainer(
        accelerator="cpu", run_dir=root, enable_progress_bar=False, enable_model_summary=False, **given
    )
    trainer.fit(model, data(), data(), ckpt_path=ckpt_path)
    return trainer


def trainer(**options: Any) -> Any:
    return lk.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, **options)


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


# ---------------------------------------------------------------- channels_last


def test_model_and_batches_are_channels_last_in_training_and_validation(tmp_path: Path) -> None:
    model = Net()
    weight = model.net[0].weight
    t = fit(model, tmp_path, channels_last=True)
    assert model.formats == [True] * 2 + ([True] * 12) * 2
    assert model.net[0].weight is weight
    assert weight.is_contiguous(memory_format=LAST)
    assert t.optimizers[0].state[weight]["exp_avg"].is_contiguous(memory_format=LAST)
    assert not any(fit(other := Net(), tmp_path / "off") and other.formats)


def test_only_images_and_volumes_of_floats_change_their_format() -> None:
    batch = {"image": torch.rand(2, 3, 4, 4), "volume": torch.rand(2, 3, 4, 4, 4), "rest": [torch.rand(2, 3), 5],
             "mask": torch.ones(2, 3, 4, 4, dtype=torch.long)}  # fmt: skip
    t = trainer(channels_last=True)
    prepare = batch_preparer(Net(), None, torch.device("cpu"), t.precision, t.compute)
    assert prepare is not None
    found = prepare(batch, 0)
    assert found["image"].is_contiguous(memory_format=LAST)
    assert found["volume"].is_contiguous(memory_format=torch.channels_last_3d)
    assert found["mask"] is batch["mask"]
    assert found["rest"] is batch["rest"]
    assert prepare(found, 0) is found


def test_a_batch_made_by_the_users_hook_is_channels_last_too(tmp_path: Path) -> None:
    class Augmenting(Net):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0].flip(3).contiguous(), batch[1]]

    model = Augmenting()
    fit(model, tmp_path, channels_last=True)
    assert all(model.formats)


def test_a_channels_last_run_resumes_to_the_same_weights_and_its_checkpoint_loads_without(tmp_path: Path) -> None:
    start = Net().state_dict()

    def run(root: Path, **options: Any) -> Net:
        model = Net()
        model.load_state_dict(start)
        save = ModelCheckpoint(every_n_train_steps=1, save_last=True)
        fit(model, root, callbacks=[save], enable_checkpointing=True, **options)
        return model

    whole = run(tmp_path / "a", channels_last=True, optimizer_kernel="fused")
    run(tmp_path / "b", channels_last=True, optimizer_kernel="fused", max_steps=8)
    path = tmp_path / "b" / "checkpoints" / "last.ckpt"
    assert_same(whole, run(tmp_path / "b", channels_last=True, optimizer_kernel="fused", ckpt_path=path))
    plain = run(tmp_path / "c", optimizer_kernel="fused", ckpt_path=path)
    assert plain.net[0].weight.is_contiguous()
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(plain.parameters(), whole.parameters(), strict=True))


# ---------------------------------------------------------------- optimizer kernels


@pytest.mark.parametrize(("kind", "kernel"), [
    (torch.optim.AdamW, "fused"), (torch.optim.SGD, "fused"), (torch.optim.Adagrad, "fused"),
    (torch.optim.AdamW, "foreach"), (torch.optim.RMSprop, "foreach"),
])  # fmt: skip
def test_a_chosen_kernel_steps_as_one_from_the_constructor(kind: Any, kernel: str) -> None:
    def weights(chosen: bool) -> Tensor:
        torch.manual_seed(0)
        layer = nn.Linear(8, 8)
        optimizer = kind(layer.parameters(), lr=0.1, **({} if chosen else {kernel: True}))
        if chosen:
            choose_kernel(optimizer, kernel)
        for _ in range(3):
            optimizer.zero_grad()
            layer(torch.ones(2, 8)).square().sum().backward()
            optimizer.step()
        return layer.weight.detach()

    assert torch.equal(weights(True), weights(False))


def test_kernels_reach_every_group_and_those_added_later(tmp_path: Path) -> None:
    class Fresh(Net):
        def configure_optimizers(self) -> Any:
            groups = [{"params": self.net[0].parameters()}, {"params": self.net[1].parameters(), "foreach": True}]
            return torch.optim.AdamW(groups, lr=0.01, foreach=True)

    model = Fresh()
    optimizer = fit(model, tmp_path, optimizer_kernel="fused").optimizers[0]
    optimizer.add_param_group({"params": list(model.net[4].parameters())})
    assert [(g["fused"], g["foreach"]) for g in optimizer.param_groups] == [(True, None)] * 3


@pytest.mark.parametrize(("optimizer", "kernel", "message"), [
    (torch.optim.RMSprop, "fused", "RMSprop has no fused kernels; use 'foreach', or leave it out"),
    (torch.optim.LBFGS, "foreach", "LBFGS has no foreach kernels; leave it out"),
    (lambda p, lr: torch.optim.Adam(p, lr=lr, differentiable=True), "fused",
     "Adam(differentiable=True) has no fused kernels; leave one of them out"),
    (lambda p, lr: torch.optim.Adam([nn.Parameter(torch.ones(2, dtype=torch.complex64))]), "fused",
     "Adam has parameters that are not of a floating dtype in group 0, which fused kernels do not take; use 'foreach', "
     "or leave it out"),
])  # fmt: skip
def test_kernels_that_an_optimizer_lacks_are_refused(
    tmp_path: Path, optimizer: Any, kernel: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        fit(Net(optimizer), tmp_path, optimizer_kernel=kernel)
    assert str(error.value) == f"Trainer(optimizer_kernel={kernel!r}): {message}"


def test_a_scaler_works_with_chosen_kernels(tmp_path: Path) -> None:
    for number, options in enumerate(({"fused": True}, {"foreach": True})):
        for kernel in ("fused", "foreach"):
            model = Net(lambda p, lr, options=options: torch.optim.AdamW(p, lr=lr, **options))
            t = fit(model, tmp_path / f"{number}{kernel}", optimizer_kernel=kernel, precision="16-mixed")
            assert t.global_step == 12


def test_a_restored_state_keeps_the_flags_and_formats_of_this_run() -> None:
    def optimizer_of(conv: nn.Module, **flags: Any) -> torch.optim.Optimizer:
        found = torch.optim.AdamW(conv.parameters(), lr=0.1, **flags)
        conv(torch.ones(1, 2, 4, 4)).sum().backward()
        found.step()
        return found

    saved = optimizer_of(nn.Conv2d(2, 2, 3).to(memory_format=LAST), fused=True).state_dict()
    conv = nn.Conv2d(2, 2, 3)
    optimizer = optimizer_of(conv)
    load_optimizer_state(optimizer, copy.deepcopy(saved))
    state = optimizer.state[conv.weight]
    assert (optimizer.param_groups[0]["fused"], optimizer.param_groups[0]["lr"]) == (None, 0.1)
    assert state["exp_avg"].is_contiguous()
    assert not state["exp_avg"].is_contiguous(memory_format=LAST)
    assert torch.equal(state["exp_avg"], saved["state"][0]["exp_avg"])


# ---------------------------------------------------------------- TF32


@pytest.fixture
def torch_switches() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.usefixtures("torch_switches")
def test_tf32_sets_both_switches_of_torch_and_none_leaves_them() -> None:
    def switches() -> Any:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = switches()
    trainer()
    assert switches() == before
    trainer(tf32=True)
    assert switches() == ("high", True)
    trainer()
    assert switches() == ("high", True)
    trainer(tf32=False)
    assert switches() == ("highest", False)


# ---------------------------------------------------------------- torch.compile


def test_a_compiled_run_ends_with_the_same_weights_and_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    graphs: list[int] = []

    def counting(graph: Any, inputs: Any) -> Any:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    plain, compiled = Net(), Net()
    compiled.load_state_dict(plain.state_dict())
    names = list(compiled.state_dict())
    fit(plain, tmp_path / "plain")
    t = fit(compiled, tmp_path / "compiled", compile={"backend": counting})
    assert_same(plain, compiled)
    assert len(graphs) >= 2  # training and validation
    assert list(compiled.state_dict()) == names
    assert compiled._compiled_call_impl is None
    assert compiled.net._compiled_call_impl is None
    t.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert_same(compiled, Net.load_from_checkpoint(tmp_path / "a.ckpt"))


def test_what_the_user_compiled_stays_so_and_a_compiled_module_can_be_copied(tmp_path: Path) -> None:
    model = Net()
    model.net.compile(**BACKEND)
    own = model.net._compiled_call_impl
    fit(model, tmp_path, compile=BACKEND, max_epochs=1)
    assert model.net._compiled_call_impl is own
    model.compile(**BACKEND)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other._compiled_call_impl is None
        assert_same(model, other)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a C++ compiler on a busy machine
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of inductor's own imports
def test_a_run_compiled_by_inductor_learns_the_same_and_resumes_exactly(tmp_path: Path) -> None:
    class Small(Net):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 2))

    start = Small().state_dict()

    def run(root: Path, **options: Any) -> Net:
        model = Small()
        model.load_state_dict(start)
        save = ModelCheckpoint(every_n_train_steps=1, save_last=True)
        fit(model, root, callbacks=[save], enable_checkpointing=True, limit_val_batches=0, **options)
        return model

    plain, whole = run(tmp_path / "plain"), run(tmp_path / "whole", compile=True)
    run(tmp_path / "parts", compile=True, max_steps=8)
    parts = run(tmp_path / "parts", compile=True, ckpt_path=tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert_same(whole, parts)
    for a, b in zip(plain.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)


@pytest.mark.parametrize(("value", "options"), [
    (True, {}), ("max-autotune", {"mode": "max-autotune"}),
    ({"dynamic": False, "mode": None}, {"dynamic": False, "mode": None}),
])  # fmt: skip
def test_forms_of_compile(value: Any, options: Any) -> None:
    assert compile_options(value) == options


MODES = "'default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs'"
ARGUMENTS = "'fullgraph', 'dynamic', 'backend', 'mode', 'options', 'disable'"


@pytest.mark.parametrize(("options", "message"), [
    ({"compile": "max-autotun"}, f"Trainer(compile='max-autotun'): expected one of the modes {MODES}; did you mean "
     "'max-autotune'?"),
    ({"compile": 3}, f"Trainer(compile=3): expected True, a mode ({MODES}) or a dict of torch.compile's arguments"),
    ({"compile": {"dynamics": True}}, "Trainer(compile={'dynamics': True}): torch.compile has no argument 'dynamics'; "
     f"expected {ARGUMENTS}; did you mean 'dynamic'?"),
    ({"compile": {"mode": "default", "options": {"max_autotune": True}}}, "Trainer(compile={'mode': 'default', "
     "'options': {'max_autotune': True}}): torch.compile takes either mode or options; leave one of them out"),
    ({"optimizer_kernel": "fuse"}, "Trainer(optimizer_kernel='fuse'): expected one of 'fused', 'foreach', or None for "
     "what configure_optimizers says; did you mean 'fused'?"),
    ({"tf32": "yes"}, "Trainer(tf32='yes'): expected True, False, or None to leave torch's switches alone"),
    ({"channels_last": 1}, "Trainer(channels_last=1): expected True or False"),
    ({"overlap_transfer": None}, "Trainer(overlap_transfer=None): expected True or False"),
])  # fmt: skip
def test_wrong_values_are_told(options: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        trainer(**options)
    assert str(error.value) == message


# ---------------------------------------------------------------- off, and the transfer


def test_nothing_is_bound_where_nothing_is_asked_for() -> None:
    for t in (trainer(), trainer(compile=False), trainer(overlap_transfer=True)):  # on the CPU nothing is moved
        assert batch_preparer(Net(), None, torch.device("cpu"), t.precision, t.compute) is None
        assert t.compute.recorder is None
        assert t.compute.compile_options is None
        assert not isinstance(t.compute.move, OverlappedTransfer)


def test_what_a_switch_needs_is_imported_when_it_is_on(repository: Path) -> None:
    code = (
        "import sys, lightkit as lk\n"
        "names = ('capture', 'compilation', 'memory_format', 'overlap')\n"
        "def loaded(): return [name for name in names if f'lightkit.devices.{name}' in sys.modules]\n"
        "lk.Trainer(barebones=True, accelerator='cpu'); print(loaded())\n"
        "lk.Trainer(barebones=True, accelerator='cpu', channels_last=True, compile=True); print(loaded())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[]", "['compilation', 'memory_format']"]


def test_hooks_keep_their_order_around_the_default_transfer() -> None:
    seen: list[str] = []

    class Hooked(Net):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append("before")
            return batch

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append("after")
            return batch

    class Moving(Hooked):
        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            seen.append("own move")
            return batch

    def move(batch: Any, device: torch.device) -> Any:
        seen.append("move")
        return batch

    for kind in (Hooked, Moving):
        t = trainer()
        t.compute.move = move
        prepare = batch_preparer(kind(), None, torch.device("meta"), t.precision, t.compute)
        assert prepare is not None
        prepare([torch.ones(2)], 0)
    assert seen == ["before", "move", "after", "before", "own move", "after"]


# ---------------------------------------------------------------- inside another run, and as a copy


def test_a_run_gives_back_what_it_compiled_and_not_what_the_run_around_it_did() -> None:
    model, t = Net(), trainer(compile=BACKEND)
    outer = t.compute.place(model, t.strategy, torch.device("cpu"))
    assert outer == [model, model.net]
    inner = t.compute.place(model, t.strategy, torch.device("cpu"))
    assert inner == []
    release(inner)
    assert model._compiled_call_impl is not None
    release(outer)
    assert model._compiled_call_impl is model.net._compiled_call_impl is None
    model.compile(**BACKEND)
    release(outer)
    assert model._compiled_call_impl is not None  # the user's, after the run


def test_what_is_made_for_speed_can_be_copied_and_makes_its_own_stream() -> None:
    compute = trainer(channels_last=True, compile=True, optimizer_kernel="fused").compute
    compute.move, compute.recorder = OverlappedTransfer(), CudaRecorder(torch.device("cuda", 0))
    compute.move.stream = compute.recorder.stream = threading.Lock()  # a stream: not to be copied
    for other in (copy.deepcopy(compute), pickle.loads(pickle.dumps(compute))):
        assert (other.move.stream, other.recorder.stream) == (None, None)
        assert other.recorder.device == torch.device("cuda", 0)
        assert (other.layout, other.kernel, other.compile_options) == (compute.layout, "fused", {})
