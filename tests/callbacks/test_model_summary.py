from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lightkit.callbacks import ModelSummary
from lightkit.callbacks.model_summary import summarize


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
        self.head = nn.Linear(4 * 8 * 8, 10)
        self.scale = nn.Parameter(torch.ones(3))
        self.head.bias.requires_grad = False
        self.example_input_array = torch.zeros(2, 1, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def test_the_table_has_names_types_parameters_modes_and_sizes() -> None:
    net = Net()
    net.body[1].eval()
    assert str(summarize(net)) == "\n".join(
        [
            "  | Name      | Type       | Params | Mode  | In sizes     | Out sizes",
            "-" * 70,
            "0 | body      | Sequential |     48 | train | [2, 1, 8, 8] | [2, 256]",
            "1 | head      | Linear     |  2,570 | train | [2, 256]     | [2, 10]",
            "  | (its own) |            |      3 |       |              |",
            "-" * 70,
            "2,611  trainable parameters",
            "   10  non-trainable parameters",
            "2,621  parameters in all",
            "0.010  MB of parameters",
            "    5  modules in train mode",
            "    1  modules in eval mode",
        ]
    )


@pytest.mark.parametrize(("depth", "names"), [(0, 0), (1, 2), (2, 6), (-1, 6)])
def test_depth_says_how_many_layers_are_listed(depth: int, names: int) -> None:
    assert len(summarize(Net(), depth).layers) == names


def test_the_module_and_the_random_state_are_left_as_they_were() -> None:
    net = Net().train()
    net.body[2].eval()
    modes = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rng = torch.get_rng_state()
    summarize(net)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert [len(module._forward_hooks) for module in net.modules()] == [0] * 7


def test_shared_parameters_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    summary = summarize(Tied())
    assert [layer.num_parameters for layer in summary.layers] == [12, 12]
    assert summary.total_parameters == 15


def test_lazy_layers_count_nothing_yet() -> None:
    assert summarize(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))).total_parameters == 4


def test_an_example_that_does_not_fit_costs_only_the_sizes() -> None:
    net = Net()
    net.example_input_array = torch.zeros(2, 1, 5, 5)
    with pytest.warns(UserWarning) as caught:
        summary = summarize(net)
    assert [str(w.message) for w in caught] == [
        "ModelSummary: cannot run the module on its example_input_array: "
        "mat1 and mat2 shapes cannot be multiplied (2x100 and 256x10)"
    ]
    assert [layer.out_size for layer in summary.layers] == [[2, 100], None]


def test_it_is_printed_when_fit_begins(fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    fit([ModelSummary()], max_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "  | Name  | Type   | Params | Mode",
        "-----------------------------------",
        "0 | layer | Linear |      2 | train",
    ]
    assert len(lines) == 10
