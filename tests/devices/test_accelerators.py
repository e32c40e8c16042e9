"""Which device `Trainer(accelerator=..., devices=...)` gives, and what a wrong value is told."""

import pytest
import torch

from lightkit.devices import accelerators
from lightkit.devices.accelerators import Accelerator, choose
from lightkit.devices.choice import choose_indices
from lightkit.errors import ConfigError

NO_GPU = not torch.cuda.is_available() and not torch.backends.mps.is_available()
needs_no_gpu = pytest.mark.skipif(not NO_GPU, reason="says what happens without a GPU")


@pytest.mark.parametrize("devices", ["auto", 1, "1", -1, "-1", [0], (0,), "0,", "0, "])
def test_every_way_to_ask_for_the_one_cpu(devices):
    accelerator, found = choose("cpu", devices)
    assert (accelerator.name, found) == ("cpu", [torch.device("cpu")])
    assert accelerator.is_available()
    assert accelerator.device_count() == 1


@needs_no_gpu
def test_auto_is_the_cpu_where_there_is_no_gpu():
    assert choose("auto", "auto") == (accelerators.CPU, [torch.device("cpu")])


@pytest.mark.gpu
def test_auto_and_gpu_are_the_gpu_where_there_is_one():
    for name in ("auto", "gpu"):
        for devices in ("auto", 1, [0], "0,"):
            accelerator, found = choose(name, devices)
            assert accelerator.name in ("cuda", "mps")
            assert found == [torch.device(accelerator.name, 0)]
    torch.ones(1, device=found[0])


class FourGPUs(Accelerator):
    """Four devices, to try indices on a machine that has none."""

    name = "cuda"

    def is_available(self):
        return True

    def device_count(self):
        return 4


def test_a_list_names_the_device_and_a_count_takes_the_first():
    kind = FourGPUs()
    for devices, index in (("auto", 0), (1, 0), ([3], 3), ("2,", 2), ("1", 0)):
        assert choose_indices(kind, devices) == [index]


@pytest.mark.parametrize(
    ("devices", "problem"),
    [
        (2, "2 devices are asked for"),
        ("2", "2 devices are asked for"),
        ([0, 1], "2 devices are asked for"),
        ("0,1", "2 devices are asked for"),
        (-1, "4 devices are asked for"),
    ],
)
def test_more_than_one_device_is_refused(devices, problem):
    with pytest.raises(ConfigError) as caught:
        choose_indices(FourGPUs(), devices)
    assert str(caught.value) == (
        f"Trainer(devices={devices!r}): {problem} and this version trains on one; write devices=1, or for "
        "example devices=[1] to choose which"
    )


@pytest.mark.parametrize(
    ("devices", "problem"),
    [
        (0, "no device is asked for; expected 1, [0] or 'auto'"),
        ([], "no device is asked for; expected 1, [0] or 'auto'"),
        ([4], "cuda has devices 0 to 3"),
        ([-1], "cuda has devices 0 to 3"),
        *(
            (bad, "expected a number of devices, a list of indices, -1 (all) or 'auto'")
            for bad in (-2, "two", "0,b", 1.5, True, None, [True], [None], {0})
        ),
    ],
)
def test_a_count_or_index_that_makes_no_sense_is_refused(devices, problem):
    with pytest.raises(ConfigError) as caught:
        choose_indices(FourGPUs(), devices)
    assert str(caught.value) == f"Trainer(devices={devices!r}): {problem}"


def test_the_cpu_is_one_device():
    with pytest.raises(ConfigError) as caught:
        choose("cpu", [1])
    assert str(caught.value) == "Trainer(devices=[1]): cpu has only device 0"


def test_an_unknown_accelerator_is_told_the_nearest():
    with pytest.raises(ConfigError) as caught:
        choose("CUDA", 1)
    assert str(caught.value) == (
        "Trainer(accelerator='CUDA'): expected one of 'auto', 'cpu', 'gpu', 'cuda', 'mps'; "
        "did you mean 'cuda'?"
    )
    with pytest.raises(ConfigError) as caught:
        choose("tpu", 1)
    assert str(caught.value).startswith(
        "Trainer(accelerator='tpu'): expected one of 'auto', 'cpu', 'gpu', 'cuda', "
    )
    with pytest.raises(ConfigError) as caught:
        choose(None, 1)
    assert str(caught.value) == (
        "Trainer(accelerator=None): expected one of 'auto', 'cpu', 'gpu', 'cuda', 'mps'"
    )


@needs_no_gpu
def test_a_gpu_that_is_not_there_is_refused_with_the_reason():
    cuda = (
        "torch finds no CUDA GPU (torch.cuda.is_available() is False)"
        if torch.backends.cuda.is_built()
        else f"this torch ({torch.__version__}) was built without CUDA"
    )
    mps = "torch finds no Apple GPU (torch.backends.mps.is_available() is False)"
    for name, reason in (("cuda", cuda), ("mps", mps), ("gpu", f"{cuda}, {mps}")):
        with pytest.raises(ConfigError) as caught:
            choose(name, 1)
        assert (
            str(caught.value) == f"Trainer(accelerator={name!r}): {reason}; use accelerator='auto' or 'cpu'"
        )
