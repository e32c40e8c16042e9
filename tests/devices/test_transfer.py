"""Batches of any shape are moved, measured and kept; what is in place already is not touched."""

import collections
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from lightkit.devices.batch_size import batch_size_of
from lightkit.devices.transfer import move_data_to_device, to_cpu
from lightkit.errors import ConfigError

Pair = collections.namedtuple("Pair", "x y")


@dataclasses.dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    name: str = "n"


class Movable:
    """Moves itself, as torchtext's and transformers' batches do."""

    def __init__(self, x):
        self.x = x

    def to(self, device):
        return Movable(self.x.to(device))


class MovesInPlace(Movable):
    def to(self, device):
        self.x = self.x.to(device)


class TorchtextBatch:
    """The attributes of a batch of torchtext 0.6."""

    def __init__(self, text):
        self.text, self.fields, self.input_fields, self.target_fields = text, {"text": None}, ["text"], []


class Bag(collections.UserDict):
    pass


def example(x):
    return {
        "tensor": x,
        "list": [x, 1],
        "tuple": (x, "s"),
        "pair": Pair(x, None),
        "sample": Sample(x),
        "default": collections.defaultdict(list, a=x),
        "ordered": collections.OrderedDict(a=x),
        "bag": Bag(a=x),
        "array": np.ones(2),
        "text": TorchtextBatch(x),
        "movable": Movable(x),
        "in_place": MovesInPlace(x),
        "packed": pack_sequence([x]),
        "nested": [{"a": (x, [x])}],
        "empty": [(), {}, []],
    }


def test_every_tensor_in_a_batch_of_any_shape_is_moved():
    batch = example(torch.ones(3))
    moved = move_data_to_device(batch, "meta")
    types = {key: type(value) for key, value in moved.items()}
    assert types == {key: type(value) for key, value in batch.items()}
    for part in (
        moved["tensor"], moved["list"][0], moved["tuple"][0], moved["pair"].x, moved["sample"].x,
        moved["default"]["a"], moved["ordered"]["a"], moved["bag"]["a"], moved["text"].text,
        moved["movable"].x, moved["in_place"].x, moved["packed"].data,
        moved["nested"][0]["a"][0], moved["nested"][0]["a"][1][0],
    ):  # fmt: skip
        assert part.device.type == "meta"
    assert moved["sample"].name == "n"
    assert moved["default"].default_factory is list
    assert moved["array"] is batch["array"]
    assert moved["empty"] is batch["empty"]
    # the user's own objects are left as they were
    assert (
        batch["sample"].x.device.type
        == batch["text"].text.device.type
        == batch["bag"]["a"].device.type
        == "cpu"
    )


def test_what_is_on_the_device_already_is_the_same_object():
    batch = example(torch.ones(3))
    del batch["movable"]  # decides itself
    assert move_data_to_device(batch, "cpu") is batch
    for part in (
        [torch.ones(1), torch.ones(1)],
        (torch.ones(1),),
        torch.ones(1),
        [torch.ones(1), "a"],
        None,
        "text",
    ):
        assert move_data_to_device(part, torch.device("cpu")) is part


def test_a_flat_batch_with_one_tensor_elsewhere_is_moved():
    here, there = torch.ones(2), torch.ones(2, device="meta")
    moved = move_data_to_device([there, here], "meta")
    assert [tensor.device.type for tensor in moved] == ["meta", "meta"]
    assert moved[0] is there


@pytest.mark.gpu
def test_a_batch_reaches_the_gpu_and_comes_back_whole():
    device = "cuda:0" if torch.cuda.is_available() else "mps:0"
    batch = [
        torch.arange(4.0).pin_memory() if device == "cuda:0" else torch.arange(4.0),
        {"a": torch.ones(2)},
    ]
    moved = move_data_to_device(batch, device)
    assert [str(moved[0].device), str(moved[1]["a"].device)] == [device, device]
    assert move_data_to_device(moved, device) is moved
    assert move_data_to_device(moved, "cpu")[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.ones(5, 2), 5),
        (torch.tensor(3.0), 1),
        ([torch.ones(4, 2), torch.ones(9)], 4),
        ({"names": ["a", "b"], "x": torch.ones(3)}, 3),
        (("text", [None, {"x": torch.ones(6)}]), 6),
        (Sample(torch.ones(7)), 7),
        (Pair(None, torch.ones(8)), 8),
        (Bag(a=torch.ones(2)), 2),
        (TorchtextBatch(torch.ones(11)), 11),
        (pack_sequence([torch.ones(3, 1), torch.ones(2, 1)]), 2),
        (collections.deque([torch.ones(3)]), 3),
        (torch.ones(0, 2), 0),
    ],
)
def test_the_batch_size_is_dimension_0_of_the_first_tensor_or_what_the_batch_says(batch, size):
    assert batch_size_of(batch) == size


@pytest.mark.parametrize("batch", [["a", "b"], {}, None, 3, "text", np.ones(3), b"bytes"])
def test_a_batch_without_a_tensor_asks_for_its_size(batch):
    with pytest.raises(ConfigError) as caught:
        batch_size_of(batch)
    assert str(caught.value) == (
        f"self.log(...): the batch (a {type(batch).__name__}) holds no tensor that would tell its size; "
        "pass it: self.log(..., batch_size=...)"
    )


def test_what_is_kept_is_a_detached_copy_on_the_cpu():
    weight = torch.ones(2, requires_grad=True)
    output = {"loss": (weight * 2).sum(), "all": [weight], "name": "n"}
    kept = to_cpu(output)
    with torch.no_grad():
        weight.add_(5)
    assert kept["all"][0].tolist() == [1, 1]
    assert not kept["loss"].requires_grad and kept["loss"].grad_fn is None
    assert kept["name"] == "n"
    assert output["loss"].requires_grad
