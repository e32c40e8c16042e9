"""One process on one device agrees with itself; other strategies are refused."""

import pytest
import torch
from torch import nn

from lightkit.devices.strategies import SingleDeviceStrategy, Strategy, choose_strategy
from lightkit.errors import ConfigError
from lightkit.trainer import Trainer


@pytest.mark.parametrize("value", ["auto", "single_device"])
def test_the_names_give_the_single_device_strategy(value):
    assert type(choose_strategy(value)) is SingleDeviceStrategy


def test_a_strategy_object_is_taken_as_it_is():
    own = Strategy()
    assert choose_strategy(own) is own


def test_a_strategy_of_several_devices_is_refused():
    with pytest.raises(ConfigError) as caught:
        choose_strategy("ddp")
    assert str(caught.value) == (
        "Trainer(strategy='ddp'): this version trains on one device; expected 'auto', 'single_device' or a "
        "Strategy object"
    )
    with pytest.raises(ConfigError, match=r"; did you mean 'single_device'\?$"):
        choose_strategy("single-device")


def test_a_strategy_object_of_several_processes_is_refused():
    class Two(Strategy):
        world_size = 2

    with pytest.raises(ConfigError) as caught:
        Trainer(accelerator="cpu", strategy=Two(), logger=False, enable_checkpointing=False)
    assert str(caught.value) == (
        "Trainer(strategy=Two(...)): its world_size is 2, and this version trains in one process, so nothing would be "
        "synchronized; use a strategy of world_size 1"
    )


def test_a_world_of_one_returns_what_it_is_given():
    strategy = SingleDeviceStrategy()
    module, tensor, data = nn.Linear(1, 1), torch.ones(2), {"a": torch.ones(1)}
    assert (strategy.world_size, strategy.global_rank, strategy.local_rank, strategy.is_global_zero) == (
        1,
        0,
        0,
        True,
    )
    assert strategy.wrap(module) is module
    assert strategy.reduce(tensor, "sum") is tensor
    assert strategy.all_gather(data, sync_grads=True) is data
    assert strategy.broadcast(data) is data
    strategy.barrier("here")
    strategy.teardown()


def test_setup_moves_the_module_in_place():
    strategy, module = SingleDeviceStrategy(), nn.Linear(1, 1)
    weight = module.weight
    strategy.setup(module, torch.device("cpu"))
    assert module.weight is weight
    assert strategy.root_device == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_setup_moves_the_module_to_the_gpu_and_makes_it_the_current_one():
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    module = nn.Linear(1, 1)
    SingleDeviceStrategy().setup(module, device)
    assert module.weight.device == device
    assert torch.cuda.current_device() == device.index
