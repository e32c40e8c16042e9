"""Batches of torch_geometric need no ceremony: their device, their size, and `lk.supervised` on graphs and nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lightkit as lk
from lightkit.devices.transfer import move_data_to_device
from lightkit.errors import DataError

geometric = pytest.importorskip("torch_geometric")
from torch_geometric.data import Batch, Data, HeteroData  # noqa: E402
from torch_geometric.loader import DataLoader  # noqa: E402
from torch_geometric.nn import GCNConv, Sequential, global_mean_pool  # noqa: E402

QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False,
                         "accelerator": "cpu", "max_epochs": 1, "enable_checkpointing": False}  # fmt: skip


def graph(nodes: int, **more: Any) -> Data:
    generator = torch.Generator().manual_seed(nodes)
    ring = torch.arange(nodes)
    edges = torch.stack([torch.cat([ring, (ring + 1) % nodes]), torch.cat([(ring + 1) % nodes, ring])])
    return Data(x=torch.randn(nodes, 3, generator=generator), edge_index=edges, **more)


def graphs() -> list[Data]:
    return [graph(nodes, y=torch.tensor([nodes % 2])) for nodes in (3, 4, 5, 6, 7)]


def whole(data: Any) -> Any:
    """A loader of one batch, the graph itself."""
    return torch.utils.data.DataLoader([data], batch_size=None)  # type: ignore[arg-type]


class OfGraphs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = GCNConv(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.head(global_mean_pool(self.conv(x, edge_index).relu(), batch))


class OfTheWhole(OfGraphs):
    """Takes the batch itself."""

    def forward(self, data: Data) -> Tensor:  # type: ignore[override]
        return super().forward(data.x, data.edge_index, data.batch)


class OfNodes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = GCNConv(3, 2)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.conv(x, edge_index, edge_weight)


class NeedsMore(OfNodes):
    def forward(self, x: Tensor, edge_index: Tensor, degree: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, edge_index) * degree


def in_sequence() -> nn.Module:
    torch.manual_seed(0)
    layers = [(GCNConv(3, 4), "x, edge_index -> x"), nn.ReLU(), (global_mean_pool, "x, batch -> x"), nn.Linear(4, 2)]
    return Sequential("x, edge_index, batch", layers)  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [OfGraphs, OfTheWhole, in_sequence])
def test_graphs_are_classified_and_each_counts_once(make: Any) -> None:
    net = make()
    every = Batch.from_data_list(graphs())
    arguments = (every.x, every.edge_index, every.batch)
    output = OfGraphs.forward(net, *arguments) if isinstance(net, OfGraphs) else net(*arguments)
    expected = F.cross_entropy(output, every.y).item()
    model = lk.supervised(net, loss="cross_entropy", metrics="accuracy", lr=0.01)
    found = lk.Trainer(**QUIET).validate(model, DataLoader(graphs(), batch_size=2), verbose=False)
    assert found[0]["val_loss"] == pytest.approx(expected)  # the last batch has one graph, and weighs as one
    before = [parameter.clone() for parameter in net.parameters()]
    trainer = lk.Trainer(**QUIET)
    trainer.fit(model, DataLoader(graphs(), batch_size=2, shuffle=True))
    assert trainer.global_step == 3 and {"train_loss", "train_accuracy"} == set(trainer.callback_metrics)
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    predicted = lk.Trainer(**QUIET).predict(model, DataLoader(graphs(), batch_size=2))
    assert [len(part) for part in predicted or ()] == [2, 2, 1]


def test_nodes_of_each_stage_are_those_of_its_mask() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    masks = {f"{stage}_mask": torch.zeros(6, dtype=torch.bool) for stage in ("train", "val", "test")}
    masks["train_mask"][:3], masks["val_mask"][3:5], masks["test_mask"][5:] = True, True, True
    data = graph(6, y=labels, **masks)
    net = OfNodes()
    model = lk.supervised(net, loss="cross_entropy", metrics="accuracy", optimizer="SGD", lr=0.1)
    output = net(data.x, data.edge_index).detach()
    found = lk.Trainer(**QUIET).validate(model, whole(data), verbose=False)
    assert found == [{
        "val_loss": pytest.approx(F.cross_entropy(output[3:5], labels[3:5]).item()),
        "val_accuracy": pytest.approx((output[3:5].argmax(1) == labels[3:5]).float().mean().item()),
    }]  # fmt: skip
    trainer = lk.Trainer(**QUIET)
    trainer.fit(model, whole(data))
    expected = F.cross_entropy(output[:3], labels[:3]).item()
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(expected)
    (predicted,) = lk.Trainer(**QUIET).predict(model, whole(data)) or ()
    assert predicted.shape == (6, 2)  # of all, where nothing says which


def test_a_list_of_graphs_is_a_loader_of_batches() -> None:
    ring = graph(6, y=torch.tensor([0, 1, 0, 1, 0, 1]))
    trainer = lk.Trainer(**QUIET)
    trainer.fit(lk.supervised(OfNodes(), loss="cross_entropy"), [ring, ring], [ring])
    assert trainer.global_step == 2 and {"train_loss", "val_loss"} == set(trainer.callback_metrics)


def test_a_sampled_graph_counts_the_nodes_that_were_asked_for() -> None:
    # as NeighborLoader gives it: those come first
    data = graph(6, y=torch.tensor([0, 1, 0, 1, 0, 1]), batch_size=2, input_id=torch.tensor([4, 1]),
                 train_mask=torch.ones(6, dtype=torch.bool), val_mask=torch.ones(6, dtype=torch.bool))  # fmt: skip
    net = OfNodes()
    found = lk.Trainer(**QUIET).validate(lk.supervised(net, loss="cross_entropy"), whole(data), verbose=False)
    output = net(data.x, data.edge_index).detach()
    assert found == [{"val_loss": pytest.approx(F.cross_entropy(output[:2], data.y[:2]).item())}]
    (predicted,) = lk.Trainer(**QUIET).predict(lk.supervised(net, loss="cross_entropy"), whole(data)) or ()
    assert torch.equal(predicted, output[:2])


def test_a_graph_of_several_kinds_is_taken_by_its_dicts() -> None:
    class OfKinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[Any, Tensor]) -> Tensor:
            return self.layer(x_dict["paper"])

    data = HeteroData()
    data["paper"].x, data["author"].x = torch.randn(4, 3), torch.randn(2, 3)
    data["author", "writes", "paper"].edge_index = torch.tensor([[0, 1], [2, 3]])
    data.y = torch.tensor([0, 1, 0, 1])
    net = OfKinds()
    found = lk.Trainer(**QUIET).validate(lk.supervised(net, loss="cross_entropy"), whole(data), verbose=False)
    assert found == [{"val_loss": pytest.approx(F.cross_entropy(net(data.x_dict, {}), data.y).item())}]


@pytest.mark.parametrize("data, message", [
    (graph(3), "supervised(...): a batch with the attributes 'edge_index', 'x': none is the target; say which, "
     "supervised(..., target='...')"),
    (graph(3, y=torch.tensor([1])), "supervised(...): the network takes 'degree', which the graph does not have (it "
     "has "
     "'edge_index', 'x', 'y')"),
])  # fmt: skip
def test_what_a_graph_lacks_is_said(data: Data, message: str) -> None:
    with pytest.raises(DataError) as caught:
        lk.Trainer(**QUIET).validate(lk.supervised(NeedsMore(), loss="cross_entropy"), whole(data), verbose=False)
    assert str(caught.value) == message


def test_graphs_go_to_the_device_alone_or_inside_a_batch() -> None:
    batch = Batch.from_data_list(graphs())
    moved = move_data_to_device((batch, {"weight": torch.ones(5)}), "meta")
    assert moved[0].x.device.type == moved[0].batch.device.type == moved[1]["weight"].device.type == "meta"
    assert moved[0].num_graphs == 5


def test_a_module_by_hand_logs_means_over_graphs_without_a_batch_size() -> None:
    class Counts(lk.LightModule):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("nodes", batch.num_nodes / batch.num_graphs)

    found = lk.Trainer(**QUIET).validate(Counts(), DataLoader(graphs(), batch_size=2), verbose=False)
    assert found == [{"nodes": pytest.approx(5.0)}]  # 25 nodes in 5 graphs
