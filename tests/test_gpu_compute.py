"""The compute switches on a GPU: CUDA graph, overlapped transfer, channels_last, compilation; skipped without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint
from lightkit.devices.overlap import OverlappedTransfer
from lightkit.devices.transfer import move_data_to_device
from lightkit.errors import ConfigError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]


@pytest.fixture(autouse=True)
def equal_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions that give the same bits each time."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


class Net(lk.LightModule):
    def __init__(self, optimizer: Any = torch.optim.AdamW, **options: Any) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(288, 2)
        )
        self.optimizer, self.options = optimizer, {"lr": 0.0625, **options}
        self.calls = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.calls += 1
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_acc", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters(), **self.options)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 9, 0.5), "interval": "step"}]


def data(samples: int = 250, **options: Any) -> DataLoader[Any]:  # the last batch is smaller
    x = torch.randn(samples, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.mean((1, 2, 3)) > 0).long()), batch_size=16, shuffle=True, **options)


def fit(model: Any, root: Path, loader: Any = None, **options: Any) -> Any:
    lk.seed_everything(1, verbose=False)
    ckpt_path = options.pop("ckpt_path", None)
    given = {"max_epochs": 3, **options}
    t = lk.Trainer(accelerator="gpu", devices=1, run_dir=root, enable_progress_bar=False, **given)
    t.fit(model, data() if loader is None else loader, data(), ckpt_path=ckpt_path)
    return t


def fused(model: Net, root: Path, **options: Any) -> Any:
    """The same steps without a graph: fused, with the learning rate in float32 (0.0625 and its halves are exact)."""
    return fit(model, root, optimizer_kernel="fused", **options)


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


OPTIMIZERS = [
    (torch.optim.AdamW, {}), (torch.optim.SGD, {}), (torch.optim.SGD, {"momentum": 0.9}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_captured_run_equals_the_eager_one(
    tmp_path: Path, kind: Any, options: Any, precision: str, clip: float | None
) -> None:
    eager, captured = Net(kind, **options), Net(kind, **options)
    captured.load_state_dict(eager.state_dict())
    plain = fused(eager, tmp_path / "a", precision=precision, gradient_clip_val=clip)
    graphed = fit(captured, tmp_path / "b", precision=precision, gradient_clip_val=clip, cuda_graph=True)
    assert captured.calls < eager.calls / 3
    assert plain.global_step == graphed.global_step == 48
    assert plain.optimizers[0].param_groups[0]["lr"] == graphed.optimizers[0].param_groups[0]["lr"]
    assert_same(eager, captured)
    assert torch.equal(plain.callback_metrics["loss_epoch"], graphed.callback_metrics["loss_epoch"])


def test_a_captured_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    start = Net().state_dict()

    def run(root: Path, **options: Any) -> Net:
        model = Net()
        model.load_state_dict(start)
        save = ModelCheckpoint(every_n_train_steps=1, save_last=True, save_top_k=1)
        fit(model, root, cuda_graph=True, callbacks=[save], **options)
        return model

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", max_steps=21)
    assert_same(whole, run(tmp_path / "parts", ckpt_path=tmp_path / "parts" / "checkpoints" / "last.ckpt"))


def test_a_step_that_reads_the_device_is_refused_with_torchs_reason(tmp_path: Path) -> None:
    class Reading(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss if loss.item() > 0 else loss * 2

    with pytest.raises(ConfigError, match=r"Reading.training_step cannot be captured: .*synchronizing"):
        fit(Reading(), tmp_path, cuda_graph=True)
    fit(Net(), tmp_path / "again", cuda_graph=True, max_epochs=1)  # the device is none the worse


def test_compiled_and_captured_at_once(tmp_path: Path) -> None:
    t = fit(Net(), tmp_path, cuda_graph=True, compile=True, precision="bf16-mixed")
    assert t.callback_metrics["val_acc"] > 0.7


@pytest.mark.parametrize("options", [
    {}, {"overlap_transfer": True}, {"cuda_graph": True, "overlap_transfer": True}, {"channels_last": True},
])  # fmt: skip
def test_steps_never_wait_for_the_gpu(tmp_path: Path, options: Any) -> None:
    class Strict(lk.Callback):
        """From the fifth step on: those before set up, and rehearse a capture."""

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx > 4 and batch[0].shape[0] == 16:
                torch.cuda.set_sync_debug_mode("error")

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            torch.cuda.set_sync_debug_mode("default")

    given = {"callbacks": [Strict()], "log_every_n_steps": 1000, "num_sanity_val_steps": 0, "max_epochs": 1, **options}
    t = fit(Net(torch.optim.SGD), tmp_path, data(pin_memory=True), **given)
    assert t.global_step == 16


@pytest.mark.parametrize("loader", [{}, {"pin_memory": True}, {"num_workers": 2, "pin_memory": True}])
def test_an_overlapped_run_ends_with_the_same_weights(tmp_path: Path, loader: Any) -> None:
    plain, overlapped = Net(), Net()
    overlapped.load_state_dict(plain.state_dict())
    fit(plain, tmp_path / "plain", data(**loader))
    fit(overlapped, tmp_path / "overlapped", data(**loader), overlap_transfer=True)
    assert_same(plain, overlapped)


def test_overlapped_batches_hold_what_was_sent_while_the_gpu_is_busy() -> None:
    device, transfer = torch.device("cuda", 0), OverlappedTransfer()
    weight = torch.randn(2048, 2048, device=device)
    for number in range(50):
        sent = [torch.full((256, 2048), float(number)), {"n": torch.tensor([number])}, "name"]
        batch = transfer(sent, device)
        (batch[0] @ weight @ weight).sum()  # keeps the GPU behind this process
        assert batch[2] == "name"
        assert torch.equal(batch[0].min(), batch[0].max())
        expected = move_data_to_device(sent, device)
        assert torch.equal(batch[0], expected[0])
        assert torch.equal(batch[1]["n"], expected[1]["n"])
