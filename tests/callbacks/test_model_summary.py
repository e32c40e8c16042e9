import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.callbacks import ModelSummary, RichModelSummary
from lightkit.errors import ConfigError
from lightkit.utilities.model_summary import LayerSummary, get_formatted_model_size, get_human_readable_count, summarize
from lightkit.utilities.model_summary import ModelSummary as ModelSummaryClass


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


def test_the_table_has_names_types_parameters_modes_operations_and_sizes() -> None:
    net = Net()
    net.body[1].eval()
    assert str(summarize(net)) == "\n".join(
        [
            "  | Name         | Type       | Params | Mode  |  FLOPs | In sizes     | Out sizes",
            "-" * 82,
            "0 | body         | Sequential |     48 | train |  9.2 K | [2, 1, 8, 8] | [2, 256]",
            "1 | head         | Linear     |  2,570 | train | 10.2 K | [2, 256]     | [2, 10]",
            "  | other params | n/a        |      3 | n/a   |    n/a | n/a          | n/a",
            "-" * 82,
            " 2,611  trainable parameters",
            "    10  non-trainable parameters",
            " 2,621  parameters in all",
            " 0.010  MB of parameters",
            "     5  modules in train mode",
            "     1  modules in eval mode",
            "19.5 K  FLOPs for the example",
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
    assert [layer.out_size for layer in summary.layers] == [[2, 100], "?"]


def test_it_is_printed_when_fit_begins(fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    fit([ModelSummary()], max_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "  | Name  | Type   | Params | Mode",
        "-----------------------------------",
        "0 | layer | Linear |      2 | train",
    ]
    assert len(lines) == 10


# ---------------------------------------------------------------- as a class, by Lightning's names


def test_the_summary_says_by_lightnings_names_what_lightning_says() -> None:
    summary = ModelSummaryClass(Net(), max_depth=-1)
    assert summary.layer_names == ["body", "body.0", "body.1", "body.2", "body.3", "head"]
    assert summary.layer_types == ["Sequential", "Conv2d", "BatchNorm2d", "Dropout", "Flatten", "Linear"]
    assert summary.param_nums == [48, 40, 8, 0, 0, 2570]
    image, maps, row = [2, 1, 8, 8], [2, 4, 8, 8], [2, 256]
    assert summary.in_sizes == [image, image, maps, maps, maps, row]
    assert summary.out_sizes == [row, maps, maps, maps, row, [2, 10]]
    assert {name: sum(ops.values()) for name, ops in summary.flop_counts.items()} == {
        "body": 9216, "body.0": 9216, "body.1": 0, "body.2": 0, "body.3": 0, "head": 10240,
    }  # fmt: skip
    assert summary.training_modes == [True] * 6
    assert summary.total_training_modes == {"train": 6, "eval": 0}
    assert (summary.total_parameters, summary.trainable_parameters, summary.total_layer_params) == (2621, 2611, 2666)
    assert (summary.total_flops, summary.model_size, summary.max_depth) == (19456, pytest.approx(0.010484), -1)
    assert repr(summary) == str(summary)
    assert [name for name, _ in summary.named_modules] == summary.layer_names


def test_without_an_example_sizes_and_operations_are_not_known() -> None:
    net = Net()
    del net.example_input_array
    summary = ModelSummaryClass(net)
    assert (summary.in_sizes, summary.out_sizes, summary.total_flops) == (["?", "?"], ["?", "?"], 0)
    assert "FLOPs" not in str(summary) and "sizes" not in str(summary)


@pytest.mark.parametrize("depth", [-2, 1.5, True, "1"])
def test_a_depth_that_is_none_is_an_error(depth: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelSummaryClass(Net(), depth)
    assert str(caught.value) == f"ModelSummary(max_depth={depth!r}): expected -1 (all layers), 0 (none) or a depth"


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.lazy = nn.LSTM(3, 4), nn.LazyLinear(2)

    def forward(self, x: torch.Tensor, *, options: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"y": self.lazy(self.recurrent(x)[0])}


def test_lazy_layers_are_marked_and_an_example_fills_them() -> None:
    net = Lazy()
    assert "1 | lazy      | LazyLinear | 0 + lazy | train" in str(ModelSummaryClass(net))
    net.example_input_array = {"x": torch.zeros(2, 1, 3), "options": {"k": torch.zeros(1)}}
    summary = ModelSummaryClass(net)
    assert summary.param_nums == [144, 10]
    assert summary.in_sizes == [[2, 1, 3], [2, 1, 4]]
    assert summary.out_sizes == [[[2, 1, 4], [[1, 1, 4], [1, 1, 4]]], [2, 1, 2]]


def test_a_layer_that_takes_keywords_and_returns_a_dict_has_sizes() -> None:
    inner, outer = Lazy(), nn.Module()
    outer.inner = inner
    outer.example_input_array = torch.zeros(2, 1, 3)
    outer.forward = lambda x: inner(x, options={"k": torch.zeros(1)})
    summary = ModelSummaryClass(outer)
    assert summary.in_sizes == [[[2, 1, 3], {"k": [1]}]]
    assert summary.out_sizes == [{"y": [2, 1, 2]}]


def test_a_module_whose_operations_cannot_be_counted_still_has_sizes() -> None:
    class Refuses(Net):
        num_calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.num_calls += 1
            if self.num_calls == 1:
                raise RuntimeError("no dispatch modes, please")
            return super().forward(x)

    summary = ModelSummaryClass(Refuses())
    assert summary.out_sizes == [[2, 256], [2, 10]]
    assert summary.total_flops == 0


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_the_example_is_run_in_the_trainers_precision(
    precision: str, trainer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    class Module(lk.LightModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.example_input_array = self.net.example_input_array

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            return self(batch).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.001)

    made = trainer([ModelSummary()], max_epochs=1, precision=precision)
    made.fit(Module(), DataLoader(torch.zeros(4, 1, 8, 8), batch_size=2))
    assert "[2, 1, 8, 8] | [2, 10]" in capsys.readouterr().out


def test_a_layer_alone_can_be_summarized() -> None:
    conv = nn.Conv2d(3, 8, 3)
    layer = LayerSummary(conv)
    assert (layer.num_parameters, layer.layer_type, layer.in_size, layer.training) == (224, "Conv2d", "?", True)
    conv(torch.zeros(1, 3, 5, 5))
    assert (layer.in_size, layer.out_size) == ([1, 3, 5, 5], [1, 8, 3, 3])
    assert conv._forward_hooks == {}
    other = LayerSummary(conv)
    other.detach_hook()
    conv(torch.zeros(1, 3, 5, 5))
    assert other.in_size == "?"


def test_scripted_layers_have_parameters_and_no_sizes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Linear(2, 2))
    net = nn.Sequential(scripted)
    net.example_input_array = torch.zeros(1, 2)
    summary = ModelSummaryClass(net)
    assert (summary.param_nums, summary.in_sizes) == ([6], ["?"])


def test_counts_are_readable() -> None:
    counts = (0, 123, 1234, 2e6, 3e9, 4e14, 5e15)
    assert [get_human_readable_count(n) for n in counts] == [
        "0  ", "123  ", "1.2 K", "2.0 M", "3.0 B", "400 T", "5,000 T",
    ]  # fmt: skip
    assert get_formatted_model_size(1234.5678) == "1,234.568"
    with pytest.raises(ConfigError) as caught:
        get_human_readable_count(-1)
    assert str(caught.value) == "get_human_readable_count(-1): expected a number of at least 0"


# ---------------------------------------------------------------- the callbacks


def test_the_rich_summary_is_a_table_of_richs_also_in_a_pipe(
    fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    fit([RichModelSummary(header_style="bold red")], max_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in lines[3].split("│")[1:-1]] == ["0", "layer", "Linear", "2", "train"]
    assert "2 parameters in all" in lines


def test_whoever_overrides_summarize_gets_what_lightning_gives(fit: Callable[..., Any]) -> None:
    class Notes(ModelSummary):
        seen: ClassVar[list[Any]] = []

        @staticmethod
        def summarize(
            summary_data: Any, total_parameters: int, trainable_parameters: int, model_size: float,
            total_training_modes: dict[str, int], total_flops: int, **summarize_kwargs: Any,
        ) -> None:  # fmt: skip
            args = (summary_data, total_parameters, trainable_parameters, model_size, total_training_modes, total_flops)
            Notes.seen.extend([*args, summarize_kwargs])

    callback = Notes(max_depth=2, mine=1)
    fit([callback], max_epochs=1)
    columns = [(" ", ["0"]), ("Name", ["layer"]), ("Type", ["Linear"]), ("Params", ["2"]), ("Mode", ["train"])]
    assert callback.max_depth == 2
    assert Notes.seen == [columns, 2, 2, pytest.approx(8e-6), {"train": 1, "eval": 0}, 0, {"mine": 1}]


def test_a_depth_of_nothing_prints_nothing(fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    fit([RichModelSummary(max_depth=0)], max_epochs=1)
    assert capsys.readouterr().out == ""
