"""Rates over a window of updates; operations of a call, and of what a device can do at best."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from lightkit.errors import ConfigError
from lightkit.throughput import flops_of
from lightkit.utilities.throughput import Throughput, get_available_flops, measure_flops


def test_rates_are_taken_over_the_window_once_it_is_full() -> None:
    throughput = Throughput(available_flops=400, window_size=3)
    throughput.update(time=1.0, batches=1, samples=2, lengths=20, flops=100)
    throughput.update(time=3.0, batches=2, samples=4, lengths=40, flops=100)
    assert throughput.compute() == {"time": 3.0, "batches": 2, "samples": 4, "lengths": 40}
    throughput.update(time=5.0, batches=3, samples=6, lengths=60, flops=300)
    assert throughput.compute() == {
        "time": 5.0, "batches": 3, "samples": 6, "lengths": 60, "device/batches_per_sec": 0.5,
        "device/samples_per_sec": 1.0, "device/items_per_sec": 10.0, "device/flops_per_sec": 100.0, "device/mfu": 0.25,
    }  # fmt: skip
    throughput.update(time=5.5, batches=13, samples=26, lengths=90, flops=150)
    assert throughput.compute()["device/batches_per_sec"] == 11 / 2.5
    throughput.reset()
    throughput.update(time=0.5, batches=1, samples=1)
    assert throughput.compute() == {"time": 0.5, "batches": 1, "samples": 1}


def test_several_devices_have_rates_of_their_own_and_together() -> None:
    throughput = Throughput(world_size=4, window_size=2, separator=".")
    for second in (1, 2):
        throughput.update(time=second, batches=second, samples=2 * second, flops=8)
    assert throughput.compute() == {
        "time": 2, "batches": 2, "samples": 4, "device.batches_per_sec": 1.0, "batches_per_sec": 4.0,
        "device.samples_per_sec": 2.0, "samples_per_sec": 8.0, "device.flops_per_sec": 8.0, "flops_per_sec": 32.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("update", "told"),
    [
        ({"time": 1.0}, "time=1.0): expected more than the last total, 1.0"),
        ({"batches": 1}, "batches=1): expected more than the last total, 1"),
        ({"samples": 2}, "samples=2): expected more than the last total, 2"),
        ({"batches": 4}, "samples=3): expected at least as many as batches, 4"),
        ({"lengths": 2}, "lengths=2): expected at least as many as samples, 3"),
        ({"lengths": 9}, "lengths=...): give it with every update, or with none"),
    ],
)
def test_totals_that_cannot_be_are_errors(update: dict[str, Any], told: str) -> None:
    throughput = Throughput()
    with pytest.raises(ConfigError) as caught:
        throughput.compute()
    assert str(caught.value) == "Throughput.compute(): nothing was measured yet; call update() first"
    throughput.update(time=1.0, batches=1, samples=2)
    with pytest.raises(ConfigError) as caught:
        throughput.update(**{"time": 2.0, "batches": 2, "samples": 3, **update})
    assert str(caught.value) == f"Throughput.update({told}"
    assert throughput.compute() == {"time": 1.0, "batches": 1, "samples": 2}  # nothing of it was taken


@pytest.mark.parametrize(("argument", "least"), [("world_size", 1), ("window_size", 2)])
def test_windows_and_worlds_have_a_least_size(argument: str, least: int) -> None:
    with pytest.raises(ConfigError) as caught:
        Throughput(**{argument: least - 1})  # type: ignore[arg-type]
    assert str(caught.value) == f"Throughput({argument}={least - 1}): expected a whole number of at least {least}"


def test_operations_of_forward_and_backward_are_counted_on_the_meta_device() -> None:
    with torch.device("meta"):
        model, x = nn.Linear(32, 4, bias=False), torch.randn(2, 32)
    assert measure_flops(model, lambda: model(x)) == 2 * 2 * 32 * 4
    assert measure_flops(model, lambda: model(x), lambda y: y.sum()) == 2 * (2 * 2 * 32 * 4)


def test_what_a_device_can_do_is_known_by_its_name() -> None:
    assert get_available_flops(torch.device("cpu"), torch.float32) is None
    assert flops_of("NVIDIA A100-SXM4-80GB", torch.bfloat16) == 312e12
    assert flops_of("NVIDIA A100-SXM4-80GB", torch.float32) == 19.5e12
    assert flops_of("NVIDIA A100-SXM4-80GB", torch.float32, may_use_tf32=True) == 156e12
    assert flops_of("Tesla T4", torch.float32, may_use_tf32=True) == 8.1e12
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H200", "NVIDIA L4", "NVIDIA L40S", "NVIDIA L40")
    assert [flops_of(name, torch.float16) for name in names] == [989.4e12, 756e12, 989.4e12, 121e12, 362e12, 181e12]


def test_what_is_not_known_of_a_device_is_said() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert flops_of("NVIDIA GeForce 256", torch.float32) is None
        assert flops_of("Tesla T4", torch.bfloat16) is None
    assert [str(w.message) for w in caught] == [
        "get_available_flops: not known for 'NVIDIA GeForce 256' in torch.float32; give available_flops",
        "get_available_flops: 'Tesla T4' has no fast torch.bfloat16; give available_flops",
    ]


@pytest.mark.parametrize("name", ["NVIDIA RTX A4000", "NVIDIA RTX A3000 Laptop GPU", "NVIDIA T400 4GB"])
def test_a_chip_whose_name_begins_like_a_known_one_is_not_that_one(name: str) -> None:
    with pytest.warns(UserWarning, match=f"not known for '{name}'"):
        assert flops_of(name, torch.float16) is None
    assert flops_of("NVIDIA A40", torch.float16) is not None
