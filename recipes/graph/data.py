"""Graphs whose nodes are to be classified: Zachary's karate club, and the citation networks of Planetoid.

One graph is one batch: a dict of the features of all nodes, float32 (nodes, features), sparse where most are 0
(a step on Cora then takes a third of the time: dropout draws no number for a zero), their links, int64
(2, links), both directions, their class numbers, int64 (nodes,), and the numbers of the nodes that the
stage may look at, int64. What a stage learns from or is judged by are the labels of these nodes alone;
the features and links of all the others are seen (transductive learning).
"""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.errors import ConfigError, DataError, MissingDataError, did_you_mean, require
from recipes.datamodule import RecipeData
from recipes.graph.geometric import geometric
from recipes.splits import stratified_split

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Graph:
    """A graph with the nodes of each stage.

    Attributes:
        features: float32 (nodes, features), dense or sparse (COO, coalesced).
        edge_index: int64 (2, links); each link is there in both directions.
        labels: int64 (nodes,).
        nodes: "train", "val" and "test" to the numbers of their nodes, int64.
    """

    features: Tensor
    edge_index: Tensor
    labels: Tensor
    nodes: dict[str, Tensor]

    def batch(self, nodes: Tensor) -> Batch:
        """Return the whole graph with the nodes that count."""
        return {"features": self.features, "edge_index": self.edge_index, "labels": self.labels, "nodes": nodes}


class GraphData(RecipeData):
    """Base of the data modules: one batch a stage from the graph that `setup` of a subclass makes.

    Attributes:
        class_names: the names of the classes, by number; known after `setup`.
        num_features: features a node; known after `setup`.
    """

    class_names: list[str]
    num_features: int

    def __init__(self) -> None:
        super().__init__(batch_size=1)
        self.graph: Graph | None = None

    def _take(self, graph: Graph, class_names: list[str]) -> None:
        self.graph, self.class_names, self.num_features = graph, class_names, graph.features.shape[1]
        parts = {**graph.nodes, "predict": torch.arange(len(graph.labels))}
        self.sets = {part: [graph.batch(nodes)] for part, nodes in parts.items()}

    def loading(self, part: str) -> dict[str, Any]:
        """Return the arguments of the `DataLoader` over a part, whose one item is a batch already."""
        return {"batch_size": None}

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the graph with all nodes."""
        return self.loader("predict")


class KarateData(GraphData):
    """Zachary's karate club (1977): 34 members, 78 friendships, 4 groups; comes with torch_geometric.

    One member of each group is labelled to train, as Kipf and Welling (2017) have it; of the other 30, a
    third of each group validates and the rest tests. A node has no features but its own number (one-hot).

    Args:
        split_seed: seed of the split into validation and test.
    """

    def __init__(self, split_seed: int = 42) -> None:
        super().__init__()
        self.split_seed = split_seed
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """Read the graph and split its nodes; the same for every stage."""
        club = geometric("datasets", "KarateData").KarateClub()[0]
        rest = (~club.train_mask).nonzero().flatten()
        test, val = (rest[part] for part in stratified_split(club.y[rest], 1 / 3, self.split_seed))
        nodes = {"train": club.train_mask.nonzero().flatten(), "val": val, "test": test}
        names = [f"group {number}" for number in range(int(club.y.max()) + 1)]
        self._take(Graph(club.x, club.edge_index, club.y, nodes), names)


# what each class is about, in the order of the numbers in the files
_PLANETOID: dict[str, list[str]] = {
    "Cora": [
        "Theory", "Reinforcement Learning", "Genetic Algorithms", "Neural Networks",
        "Probabilistic Methods", "Case Based", "Rule Learning",
    ],
    "CiteSeer": ["Agents", "AI", "Databases", "Information Retrieval", "Machine Learning", "HCI"],
    "PubMed": ["Diabetes Experimental", "Diabetes Type 1", "Diabetes Type 2"],
}  # fmt: skip
_PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
# all that the files of the source are made of: arrays, sparse matrices, dicts of lists
_PLAIN = {
    ("numpy", "dtype"), ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("scipy.sparse.csr", "csr_matrix"), ("scipy.sparse._csr", "csr_matrix"),
    ("collections", "defaultdict"), ("__builtin__", "list"), ("builtins", "list"), ("_codecs", "encode"),
}  # fmt: skip


class PlanetoidData(GraphData):
    """A citation network in Planetoid's form (Yang, Cohen, Salakhutdinov 2016): which field is a paper of?

    Features are the words of the papers (scaled to sum 1 a paper), links are citations, without direction.
    The public split: 20 papers a class to train, 500 to validate, 1,000 to test.

    Layout: `ROOT/NAME/raw/ind.NAME.{x,tx,allx,y,ty,ally,graph,test.index}`, NAME in small letters in the
    file names, as torch_geometric's `Planetoid` has it. The files are read, nothing is written beside them.
    They are pickles: before torch_geometric's reader opens one, it is checked to hold arrays, sparse
    matrices and lists alone, so that a file with code in it is refused, not run.

    Args:
        name: "Cora" (2,708 papers), "CiteSeer" (3,327) or "PubMed" (19,717).
        root: folder that holds, or gets, `NAME/raw`.
        download: fetch the files that are missing.

    Raises:
        ConfigError: `name` is none of these.
        DataError: the files are not there and cannot be downloaded, or cannot be read; names the file.
    """

    def __init__(self, name: str = "Cora", root: str = "data/planetoid", download: bool = True) -> None:
        super().__init__()
        if name not in _PLANETOID:
            raise ConfigError(
                f"PlanetoidData(name={name!r}): expected one of {', '.join(_PLANETOID)}{did_you_mean(name, _PLANETOID)}"
            )
        self.dataset = name
        self.root = Path(root)
        self.download = download
        self.save_hyperparameters()

    @property
    def _files(self) -> list[Path]:
        folder = self.root / self.dataset / "raw"
        return [folder / f"ind.{self.dataset.lower()}.{part}" for part in _PARTS]

    def _missing(self) -> list[Path]:
        return [path for path in self._files if not path.is_file()]

    def prepare_data(self) -> None:
        """Download the files that are missing, where `download` says so."""
        if not self.download or not self._missing():
            return
        source = geometric("datasets", "PlanetoidData").Planetoid.url
        for path in self._missing():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(f"{source}/{path.name}", str(path), progress=False)
            except OSError as error:
                raise self._not_there(f" and the download failed ({error})") from None

    def _not_there(self, reason: str) -> MissingDataError:
        who = f"PlanetoidData(name={self.dataset!r}, root={str(self.root)!r}, download={self.download})"
        names = ", ".join(path.name for path in self._missing())
        advice = "" if self.download else ", or set data.download to true"
        return MissingDataError(f"{who}: no {names} in {self._files[0].parent}{reason}; put the files there{advice}")

    def setup(self, stage: str) -> None:
        """Read the graph; the same for every stage."""
        if self.graph is not None:
            return
        if self._missing():
            raise self._not_there("")
        reader = geometric("io", "PlanetoidData").read_planetoid_data
        require("scipy.sparse", "graph", needed_by="PlanetoidData")
        for path in self._files[:-1]:
            _check_pickle(path)
        folder = self._files[0].parent
        try:
            with warnings.catch_warnings():  # the reader changes the filters of the whole process
                warnings.simplefilter("ignore", DeprecationWarning)  # scipy on the old name of its matrices
                found = reader(str(folder), self.dataset)
        except (ValueError, RuntimeError, IndexError, TypeError, KeyError, OSError) as error:
            raise DataError(
                f"PlanetoidData: the files in {folder} do not fit together ({' '.join(str(error).split())}); "
                "delete them and get them again"
            ) from None
        features = found.x / found.x.sum(dim=1, keepdim=True).clamp(min=1)
        masks = {"train": found.train_mask, "val": found.val_mask, "test": found.test_mask}
        nodes = {part: mask.nonzero().flatten() for part, mask in masks.items()}
        features = features.to_sparse_coo().coalesce()
        self._take(Graph(features, found.edge_index, found.y, nodes), list(_PLANETOID[self.dataset]))

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write a small made-up network below `root`, and read that one from now on; for `lightkit check`."""
        import numpy as np

        csr_matrix = require("scipy.sparse", "graph", needed_by="PlanetoidData").csr_matrix
        self.root, self.download, self.graph = root, False, None
        self._files[0].parent.mkdir(parents=True, exist_ok=True)
        classes, features, test = len(_PLANETOID[self.dataset]), 32, 40
        rest = 20 * classes + 500
        rng = np.random.default_rng(0)
        words = csr_matrix((rng.random((rest + test, features)) < 0.2).astype(np.float32))
        labels = np.eye(classes, dtype=np.int32)[np.arange(rest + test) % classes]
        links = {node: [(node + classes) % (rest + test)] for node in range(rest + test)}
        for node, (other, *_) in list(links.items()):
            links[other].append(node)
        train = 20 * classes
        parts = [words[:train], words[rest:], words[:rest], labels[:train], labels[rest:], labels[:rest], links]
        for path, content in zip(self._files, parts, strict=False):
            path.write_bytes(pickle.dumps(content, protocol=2))
        self._files[-1].write_text("".join(f"{node}\n" for node in range(rest, rest + test)))


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles arrays, sparse matrices and lists; every other name in a file is refused before it is imported."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _PLAIN:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return super().find_class(module_name, global_name)


def _check_pickle(path: Path) -> None:
    """Raise DataError where the file holds anything but plain data, or is damaged; no code in it is run."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # unpickling raises nearly everything for bytes that it cannot make sense of
        raise DataError(
            f"{path}: not one of Planetoid's files ({' '.join(str(error).split())}); "
            "they hold arrays, sparse matrices and lists alone: delete it and get it again"
        ) from None
