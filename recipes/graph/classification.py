"""Node classification: of which class is each node of a graph, told from its features and its neighbours?

Data: one batch a stage, the whole graph with the nodes that count, as the data modules in `data.py` give
it. Metrics: cross-entropy and accuracy over these nodes, logged as `train_loss`, `train_acc`, `val_loss`,
`val_acc`, `test_loss`, `test_acc`. After the fit `plots/curves.png`, after the test
`plots/confusion_matrix.png` are in the run directory, and in TensorBoard.

What to expect, on two CPU cores: Cora with its public split (`graph/planetoid`) 0.823 test accuracy (mean of
seeds 0 to 4, 0.81 to 0.83) in 15 s, GraphSAGE 0.81; the karate club (`graph/karate`) 0.82 of 20 members (mean
of seeds 0 to 4 and 42, 0.70 to 0.95) in 6 s.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lightkit as lk
from lightkit.errors import ConfigError, DataError
from recipes.classes import accuracy
from recipes.graph.data import Batch
from recipes.graph.geometric import geometric
from recipes.plots import ClassificationReport, Curves


class GraphNet(nn.Module):
    """Graph convolutions with ReLU and dropout between them; the last gives the logits.

    Args:
        conv: "gcn" (Kipf, Welling 2017) or "sage" (Hamilton, Ying, Leskovec 2017, mean of the neighbours).
        num_features: features a node.
        hidden: units of the layers between.
        num_classes: number of classes.
        num_layers: number of convolutions; a node sees so many links far.
        dropout: share of features that is dropped before each convolution.
    """

    def __init__(
        self, conv: str, num_features: int, hidden: int, num_classes: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        layers = geometric("nn", "NodeClassifier")
        kind = {"gcn": layers.GCNConv, "sage": layers.SAGEConv}[conv]
        sizes = [num_features, *[hidden] * (num_layers - 1), num_classes]
        self.convs = nn.ModuleList(kind(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.dropout = dropout

    def forward(self, features: Tensor, edge_index: Tensor) -> Tensor:
        """Map features (nodes, features), also sparse, and links (2, links) to logits (nodes, classes)."""
        for number, conv in enumerate(self.convs):
            if number:
                features = F.relu(features)
            features = conv(self._drop(features), edge_index)
        return features

    def _drop(self, features: Tensor) -> Tensor:
        """Drop a share of the features; of sparse ones only those that are not zero have to be drawn."""
        if not features.is_sparse:
            return F.dropout(features, self.dropout, self.training)
        values = F.dropout(features.values(), self.dropout, self.training)
        return values.new_zeros(features.shape).index_put_(tuple(features.indices()), values)


class NodeClassifier(lk.LightModule):
    """Train graph convolutions to classify the nodes of one graph, full-batch, with Adam.

    The number of features and the classes are the data's; they travel in the checkpoint.

    Args:
        conv: kind of convolution, "gcn" or "sage".
        hidden: units of the hidden layers.
        num_layers: number of convolutions.
        dropout: share of features that is dropped before each convolution.
        lr: learning rate.
        weight_decay: Adam's L2 penalty.

    Raises:
        ConfigError: fewer than one layer.
        DataError: the data has other classes or features than the checkpoint that was loaded.
    """

    def __init__(
        self,
        conv: Literal["gcn", "sage"] = "gcn",
        hidden: int = 64,
        num_layers: int = 2,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ConfigError(f"NodeClassifier(num_layers={num_layers}): expected at least 1")
        if conv not in ("gcn", "sage"):
            raise ConfigError(f"NodeClassifier(conv={conv!r}): expected 'gcn' or 'sage'")
        self.save_hyperparameters()
        self.net: GraphNet | None = None
        self.num_features = 0
        self.class_names: list[str] = []

    def setup(self, stage: str) -> None:
        """Make the network for the data's features and classes, unless a checkpoint or an earlier stage did."""
        data = self.trainer.datamodule
        num_features, class_names = getattr(data, "num_features", None), getattr(data, "class_names", None)
        if num_features is None or class_names is None:
            raise DataError("NodeClassifier: expected a data module with num_features and class_names, as GraphData")
        if self.net is None:
            self._build(num_features, list(class_names))
        elif (self.num_features, len(self.class_names)) != (num_features, len(class_names)):
            raise DataError(
                f"NodeClassifier: made for {self.num_features} features and {len(self.class_names)} classes, the data "
                f"has {num_features} and {len(class_names)}; use the data that it was trained on"
            )

    def _build(self, num_features: int, class_names: list[str]) -> None:
        hp = self.hparams
        self.num_features, self.class_names = num_features, class_names
        # three nodes and two links
        features = torch.linspace(-1, 1, 3 * num_features).view(3, num_features)
        self.example_input_array = (features, torch.tensor([[0, 1], [1, 2]]))
        self.net = GraphNet(hp.conv, num_features, hp.hidden, len(class_names), hp.num_layers, hp.dropout)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the network was made for."""
        checkpoint["graph"] = {"num_features": self.num_features, "class_names": self.class_names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the network of the checkpoint, before its weights are loaded."""
        if self.net is None and "graph" in checkpoint:
            self._build(checkpoint["graph"]["num_features"], list(checkpoint["graph"]["class_names"]))

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and the confusion matrix of the test."""
        return [Curves(), ClassificationReport()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam with an L2 penalty, as the papers have it."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)

    def forward(self, features: Tensor, edge_index: Tensor) -> Tensor:
        """Map features (nodes, features) and links (2, links) to logits (nodes, classes)."""
        assert self.net is not None, "setup() or a checkpoint makes the network"
        logits: Tensor = self.net(features, edge_index)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy over the training nodes, a 0-dim tensor; log it and the accuracy."""
        return self._judge(batch, "train")["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and accuracy of the validation nodes."""
        self._judge(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Log loss and accuracy of the test nodes; return what `ClassificationReport` draws from."""
        return self._judge(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the probabilities of the classes, (nodes, classes), for the nodes that are asked for."""
        return self(batch["features"], batch["edge_index"])[batch["nodes"]].softmax(dim=1)

    def _judge(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        nodes = batch["nodes"]
        logits, labels = self(batch["features"], batch["edge_index"])[nodes], batch["labels"][nodes]
        loss = F.cross_entropy(logits, labels)
        where: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(nodes), "prog_bar": True}
        self.log(f"{stage}_loss", loss, **where)
        right = accuracy(logits, labels)
        self.log(f"{stage}_acc", right, **where)
        if stage == "val":
            self.log("hp_metric", right, batch_size=len(nodes))
        return {"loss": loss, "logits": logits, "labels": labels}
