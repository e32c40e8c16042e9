"""How many samples a batch holds: never told by a 0-dim tensor, told by what knows it, and doubtful only aloud."""

from __future__ import annotations

import collections
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.devices.batch_size import BatchSizes, batch_size_of


@dataclass
class Sample:
    scale: Tensor
    x: Tensor


class Sized:
    """A batch of some library, which says its size."""

    batch_size = 6
    x = torch.ones(3)


class Encoding(collections.UserDict[str, Any]):
    """As transformers' BatchEncoding: its keys are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


def of_texts() -> list[str]:
    return ["a"] * 9


JAGGED = [torch.ones(2, 1), torch.ones(5, 1), torch.ones(3, 1)]


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        ({"scale": torch.tensor(2.0), "x": torch.ones(4, 3)}, 4),
        ([torch.tensor(1), torch.tensor(2), torch.ones(5)], 5),
        (Sample(torch.tensor(0.5), torch.ones(7, 2)), 7),
        ({"a": torch.tensor(1.0), "b": [torch.tensor(2.0)]}, 1),
        ({"texts": of_texts(), "y": torch.ones(9)}, 9),
        ([of_texts(), torch.ones(9)], 9),
        (Encoding(input_ids=torch.ones(3, 8), attention_mask=torch.ones(3, 8)), 3),
        (collections.OrderedDict(x=torch.ones(2)), 2),
        (pack_sequence(JAGGED, enforce_sorted=False), 3),
        ((pack_sequence(JAGGED, enforce_sorted=False), torch.ones(3)), 3),
        (torch.nested.nested_tensor(JAGGED, layout=torch.jagged), 3),
        ({"x": torch.nested.nested_tensor(JAGGED, layout=torch.jagged), "y": torch.ones(3)}, 3),
        (Sized(), 6),
        ([Sized(), torch.ones(6)], 6),
        (torch.ones(0, 2), 0),
    ],
)
def test_what_a_batch_counts(batch: Any, size: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert batch_size_of(batch) == BatchSizes()(batch) == size


def test_a_nested_tensor_of_the_older_layout_counts_its_tensors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it may change
        nested = torch.nested.nested_tensor(JAGGED)
    assert batch_size_of([nested, torch.ones(3)]) == 3


@pytest.mark.parametrize(
    ("batch", "size", "where"),
    [
        (
            (torch.ones(4, 2), torch.ones(9)), 4,
            "a tuple) tells no single size: batch[0] has 4, which is taken, batch[1] has 9",
        ),
        (
            {"x": {"y": torch.ones(3)}, "z": [torch.tensor(1), torch.ones(5)]}, 3,
            "a dict) tells no single size: batch['x']['y'] has 3, which is taken, batch['z'][1] has 5",
        ),
        (
            Sample(torch.ones(2), torch.ones(8)), 2,
            "a Sample) tells no single size: batch.scale has 2, which is taken, batch.x has 8",
        ),
        (
            [pack_sequence(JAGGED, enforce_sorted=False), torch.ones(10)], 3,
            "a list) tells no single size: batch[0] has 3, which is taken, batch[1] has 10",
        ),
    ],
)  # fmt: skip
def test_a_batch_that_says_two_things_warns_once_with_what_was_taken(batch: Any, size: int, where: str) -> None:
    sizes = BatchSizes()
    with pytest.warns(UserWarning) as caught:
        assert [sizes(batch), sizes(batch)] == [size, size]
    assert [str(warning.message) for warning in caught] == [
        f"the batch ({where}. Means weigh each batch by it; say it with self.log(..., batch_size=...), and with "
        "accumulate_grad_batches by returning {'loss': ..., 'num_items': ...}"
    ]


# ------------------------------------------------------------------ graphs


def graphs() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        data = pytest.importorskip("torch_geometric.data", reason="torch_geometric comes with the recipes' extras")
    edges = torch.zeros(2, 1, dtype=torch.long)
    return [data.Data(x=torch.ones(n, 2), edge_index=edges, y=torch.ones(1)) for n in (3, 4, 5, 6, 7)]


def test_a_batch_of_graphs_counts_its_graphs() -> None:
    made = graphs()
    from torch_geometric.data import Batch, HeteroData, TemporalData

    several = Batch.from_data_list(made)
    many = HeteroData()
    many["node"].x = torch.ones(4, 2)
    asked = graphs()[0]
    asked.batch_size = 2  # as NeighborLoader says how many nodes were asked for
    asked_of_kind = many.clone()
    asked_of_kind["node"].batch_size = 3
    events = TemporalData(src=torch.zeros(6), dst=torch.zeros(6), t=torch.zeros(6), msg=torch.zeros(6, 2))
    found = [several, [several, several], Batch.from_data_list([many] * 2), graphs()[0], asked, asked_of_kind, events]
    assert [BatchSizes()(batch) for batch in found] == [5, 5, 2, 1, 2, 3, 6]


class OnGraphs(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("x", float(batch_idx), on_step=False, on_epoch=True)
        return self.layer(batch.x).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def quiet(root: Path, **arguments: Any) -> lk.Trainer:
    return lk.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=root, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, logger=False, **arguments,
    )  # fmt: skip


def test_a_mean_over_batches_of_graphs_weighs_by_graphs(tmp_path: Path) -> None:
    made = graphs()
    from torch_geometric.loader import DataLoader as GraphLoader

    t = quiet(tmp_path)
    t.fit(OnGraphs(), GraphLoader(made, batch_size=2))
    assert float(t.callback_metrics["x"]) == pytest.approx((0 * 2 + 1 * 2 + 2 * 1) / 5)


# ------------------------------------------------------------------ in a run


def scaled(samples: list[int]) -> dict[str, Tensor]:
    return {"scale": torch.tensor(2.0), "x": torch.ones(len(samples), 2)}


def test_a_mean_is_never_weighed_by_a_0_dim_tensor(tmp_path: Path) -> None:
    class Net(OnGraphs):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.log("x", float(batch_idx), on_step=False, on_epoch=True)
            return self.layer(batch["x"]).mean()

    t = quiet(tmp_path)
    t.fit(Net(), DataLoader([*range(5)], batch_size=2, collate_fn=scaled))
    assert float(t.callback_metrics["x"]) == pytest.approx((0 * 2 + 1 * 2 + 2 * 1) / 5)


def ragged(samples: list[int]) -> tuple[Tensor, Tensor]:
    return torch.ones(len(samples), 2), torch.ones(3 * len(samples))


@pytest.mark.parametrize("says", [None, "batch_size", "num_items"])
def test_a_run_with_ambiguous_batches_warns_once_unless_the_size_is_said(tmp_path: Path, says: str | None) -> None:
    class Net(OnGraphs):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            size = None if says is None else len(batch[0])
            self.log("x", float(batch_idx), on_step=False, on_epoch=True, batch_size=size)
            self.log("y", 1.0, on_step=False, on_epoch=True, batch_size=size)
            loss = self.layer(batch[0]).mean()
            return {"loss": loss, "num_items": len(batch[0])} if says == "num_items" else loss

    t = quiet(tmp_path, accumulate_grad_batches=2 if says == "num_items" else 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t.fit(Net(), DataLoader([*range(5)], batch_size=2, collate_fn=ragged))
    told = [str(warning.message) for warning in caught if "tells no single size" in str(warning.message)]
    assert len(told) == (1 if says is None else 0)
    assert float(t.callback_metrics["x"]) == pytest.approx((0 * 2 + 1 * 2 + 2 * 1) / 5)


def test_the_size_of_a_batch_is_found_once_however_much_is_logged(tmp_path: Path) -> None:
    class Counting(Tensor):
        asked = 0

        def size(self, *args: Any) -> Any:
            type(self).asked += 1
            return super().size(*args)

    class Net(OnGraphs):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.log_dict(dict.fromkeys("abcd", 1.0), on_step=False, on_epoch=True)
            return self.layer(torch.ones(1, 2)).mean()

    quiet(tmp_path).fit(Net(), [[torch.ones(2, 2).as_subclass(Counting)] for _ in range(3)])
    assert Counting.asked == 3
