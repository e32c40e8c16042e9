"""ThroughputMonitor and DeviceStatsMonitor: what they write, when, and at which step."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import lightkit as lk
from lightkit.callbacks import Callback, DeviceStatsMonitor, ThroughputMonitor
from lightkit.callbacks import throughput_monitor as module_of_monitor
from lightkit.errors import ConfigError
from lightkit.loggers import Logger


class Rows(Logger):
    """Keeps what is logged by the monitors, by step."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if "epoch" not in metrics:
            self.rows.append((step, dict(metrics)))


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).pow(2).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("v", 1.0)

    test_step = validation_step

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class WithFlops(Net):
    flops_per_batch = 1000


def data(count: int) -> DataLoader[torch.Tensor]:
    return DataLoader(torch.ones(count * 2, 3, 1), batch_size=2)  # type: ignore[arg-type]


def trainer_with(path: Path, *callbacks: Callback, **kwargs: Any) -> tuple[lk.Trainer, Rows]:
    rows = Rows()
    quiet: dict[str, Any] = {
        "logger": rows, "enable_checkpointing": False, "max_epochs": 1, "accelerator": "cpu", "log_every_n_steps": 2,
        "default_root_dir": path, "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    return lk.Trainer(callbacks=list(callbacks), **{**quiet, **kwargs}), rows


# ---------------------------------------------------------------- throughput


def test_rates_are_written_with_the_steps_that_are_logged(tmp_path: Path) -> None:
    monitor = ThroughputMonitor(length_fn=lambda batch: batch.numel(), window_size=3, available_flops=1e9)
    trainer, rows = trainer_with(tmp_path, monitor)
    trainer.fit(WithFlops(), data(5))
    totals = {"train/time", "train/batches", "train/samples", "train/lengths"}
    rates = {f"train/device/{name}_per_sec" for name in ("batches", "samples", "items", "flops")}
    assert [(step, set(row)) for step, row in rows.rows] == [
        (1, totals), (3, totals | rates | {"train/device/mfu", "train/data_wait_share"}),
    ]  # fmt: skip
    row = rows.rows[1][1]
    assert (row["train/batches"], row["train/samples"], row["train/lengths"]) == (4, 8, 24)
    assert row["train/device/items_per_sec"] == pytest.approx(6 * row["train/device/batches_per_sec"])
    assert row["train/device/flops_per_sec"] == pytest.approx(1000 * row["train/device/batches_per_sec"])
    assert row["train/device/mfu"] == pytest.approx(row["train/device/flops_per_sec"] / 1e9)
    assert 0 <= row["train/data_wait_share"] <= 1


def test_an_accumulation_window_is_written_when_it_is_full(tmp_path: Path) -> None:
    monitor = ThroughputMonitor(lambda batch: 7)
    trainer, rows = trainer_with(tmp_path, monitor, accumulate_grad_batches=2, log_every_n_steps=1)
    trainer.fit(Net(), data(5))
    assert [(step, row["train/batches"], row["train/samples"]) for step, row in rows.rows] == [
        (0, 2, 14), (1, 4, 28), (2, 5, 35),
    ]  # fmt: skip


def test_validations_test_and_prediction_have_rates_of_their_own(tmp_path: Path) -> None:
    monitor = ThroughputMonitor(window_size=2)
    trainer, rows = trainer_with(tmp_path, monitor, max_epochs=2, num_sanity_val_steps=2)
    trainer.fit(Net(), data(2), data(3))
    trainer.test(dataloaders=data(2), verbose=False)
    trainer.predict(dataloaders=data(2))
    seen = [(step, next(name for name in row if name.endswith("batches"))) for step, row in rows.rows]
    assert seen == [
        (1, "train/batches"), (2, "validate/batches"), (3, "train/batches"), (4, "validate/batches"),
        (6, "validate/batches"), (2, "test/batches"), (2, "predict/batches"),
    ]  # fmt: skip
    assert all(any("samples_per_sec" in name for name in row) for _, row in rows.rows)


class Clock:
    """Time that goes on only where a test lets it."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.001  # a reading takes its time, so that totals grow
        return self.now


class Slow(Dataset):  # type: ignore[type-arg]
    """Takes three seconds for each sample."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        self.clock.now += 3
        return torch.ones(1)


def test_the_share_of_time_that_data_takes_and_none_that_a_validation_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module_of_monitor, "time", clock)

    class Works(Net):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            clock.now += 1
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
            clock.now += 1000

    monitor = ThroughputMonitor(window_size=4)
    trainer, rows = trainer_with(tmp_path, monitor, val_check_interval=1, log_every_n_steps=8)
    trainer.fit(Works(), DataLoader(Slow(clock)), DataLoader(torch.ones(1, 1)))  # type: ignore[arg-type]
    row = next(row for step, row in rows.rows if "train/data_wait_share" in row)
    assert row["train/data_wait_share"] == pytest.approx(0.75, abs=0.01)
    assert row["train/device/batches_per_sec"] == pytest.approx(0.25, rel=0.01)
    assert row["train/time"] == pytest.approx(32, abs=0.5)


def test_a_monitor_without_a_logger_is_an_error(tmp_path: Path) -> None:
    for monitor in (ThroughputMonitor(), DeviceStatsMonitor()):
        trainer, _ = trainer_with(tmp_path, monitor, logger=False)
        with pytest.raises(ConfigError) as caught:
            trainer.fit(Net(), data(1))
        name = type(monitor).__name__
        assert str(caught.value) == f"{name}: no logger to write to; pass Trainer(logger=True)."


def test_arguments_of_the_window_are_checked_at_once() -> None:
    with pytest.raises(ConfigError, match=r"^Throughput\(window_size=1\): expected a whole number of at least 2$"):
        ThroughputMonitor(window_size=1)


def test_a_resumed_training_is_measured_anew(tmp_path: Path) -> None:
    trainer, _ = trainer_with(tmp_path, ThroughputMonitor(), max_steps=2)
    trainer.fit(Net(), data(4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    trainer, rows = trainer_with(tmp_path, ThroughputMonitor())
    trainer.fit(Net(), data(4), ckpt_path=tmp_path / "a.ckpt")
    assert [(step, row["train/batches"]) for step, row in rows.rows] == [(3, 2)]


# ---------------------------------------------------------------- the device

CPU = {"cpu_percent", "cpu_vm_percent", "cpu_swap_percent"}


def test_the_machines_load_is_written_before_and_after_the_steps_that_are_logged(tmp_path: Path) -> None:
    trainer, rows = trainer_with(tmp_path, DeviceStatsMonitor(), num_sanity_val_steps=2)
    trainer.fit(Net(), data(4), data(3))
    trainer.test(dataloaders=data(1), verbose=False)

    def of(hook: str) -> set[str]:
        return {f"DeviceStatsMonitor.{hook}/{name}" for name in CPU}

    train = [of("on_train_batch_start"), of("on_train_batch_end")]
    validation = [of("on_validation_batch_start"), of("on_validation_batch_end")]
    test = [of("on_test_batch_start"), of("on_test_batch_end")]
    assert [(step, set(row)) for step, row in rows.rows] == [
        *((1, names) for names in train), *((3, names) for names in train),
        *((4, names) for names in [*validation, *validation]), *((4, names) for names in test),
    ]  # fmt: skip
    assert all(0 <= value <= 100 * 1000 for _, row in rows.rows for value in row.values())


def test_the_cpu_is_not_asked_where_that_is_off(tmp_path: Path) -> None:
    trainer, rows = trainer_with(tmp_path, DeviceStatsMonitor(cpu_stats=False))
    trainer.fit(Net(), data(4))
    assert rows.rows == []


def test_accumulated_steps_are_written_once(tmp_path: Path) -> None:
    trainer, rows = trainer_with(tmp_path, DeviceStatsMonitor(), accumulate_grad_batches=2, log_every_n_steps=1)
    trainer.fit(Net(), data(5))
    assert [step for step, _ in rows.rows] == [0, 0, 1, 1, 2, 2]


@pytest.mark.gpu
def test_a_gpu_tells_its_memory(tmp_path: Path) -> None:
    trainer, rows = trainer_with(tmp_path, DeviceStatsMonitor(cpu_stats=True), accelerator="gpu")
    trainer.fit(Net(), data(2))
    names = {name.rsplit("/", 1)[1] for name in rows.rows[0][1]}
    assert CPU | {"allocated_bytes.all.current", "reserved_bytes.all.peak"} <= names


WITHOUT = """
import sys
sys.modules["psutil"] = None
import torch, lightkit as lk
from lightkit.callbacks.device_stats_monitor import cpu_stats
try:
    cpu_stats()
except lk.errors.MissingExtraError as error:
    print(error)
"""


def test_without_psutil_it_is_said_what_to_install() -> None:
    root = Path(lk.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == 'psutil is needed by DeviceStatsMonitor: pip install "lightkit[stats]"\n'
