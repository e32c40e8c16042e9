"""Node classification: figures on real graphs, exact resume, and files that cannot be used."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lightkit as lk
from lightkit.cli.job import prepare_job
from lightkit.errors import ConfigError, DataError, MissingDataError
from recipes.graph.classification import NodeClassifier
from recipes.graph.data import KarateData, PlanetoidData

MakeTrainer = Callable[..., lk.Trainer]
PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")


def accuracy_of(config: str, folder: Path, *options: str) -> float:
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
    job = prepare_job("fit", [config, f"--trainer.default_root_dir={folder}", *quiet, *options])
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(datamodule=job.data, verbose=False)
    return metrics["test_acc"]


def test_karate_club_reaches_its_documented_accuracy(tmp_path: Path) -> None:
    assert accuracy_of("graph/karate", tmp_path, "--trainer.logger=false") >= 0.85
    plots = next((tmp_path / "runs").rglob("plots"))
    assert sorted(path.name for path in plots.iterdir()) == ["confusion_matrix.png", "curves.png"]


@pytest.mark.shared_data
@pytest.mark.slow
def test_cora_s_public_split_reaches_080(tmp_path: Path, shared_data: Path) -> None:
    options = [f"--data.root={shared_data / 'planetoid'}", "--data.download=false", "--trainer.max_epochs=60"]
    assert accuracy_of("graph/planetoid", tmp_path, *options, "--trainer.logger=false") >= 0.80
    assert not (shared_data / "planetoid" / "Cora" / "processed").exists()


@pytest.mark.shared_data
def test_cora_is_read_as_its_pickle_free_form_says(shared_data: Path) -> None:
    import numpy as np

    data = PlanetoidData("Cora", str(shared_data / "planetoid"))
    data.setup("fit")
    assert data.graph is not None
    plain = np.load(shared_data / "planetoid" / "cora.npz", allow_pickle=False)
    assert torch.equal(data.graph.labels, torch.from_numpy(plain["y"].astype(np.int64)))
    for part in ("train", "val", "test"):
        assert sorted(plain[f"{part}_idx"].tolist()) == data.graph.nodes[part].tolist()
    links = {tuple(pair) for pair in data.graph.edge_index.T.tolist()}
    assert links == {tuple(pair) for pair in plain["edge_index"].T.tolist()} and len(links) == 10556
    features = data.graph.features.to_dense()
    assert int((features > 0).sum()) == 49216
    torch.testing.assert_close(features.sum(dim=1)[features.sum(dim=1) > 0], torch.ones(2708))


def test_karate_s_nodes_are_split_without_overlap() -> None:
    data = KarateData()
    data.setup("fit")
    assert data.graph is not None
    nodes = {part: found.tolist() for part, found in data.graph.nodes.items()}
    assert {part: len(found) for part, found in nodes.items()} == {"train": 4, "val": 10, "test": 20}
    assert sorted(sum(nodes.values(), [])) == list(range(34))
    assert sorted(data.graph.labels[nodes["train"]].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("conv", ["gcn", "sage"])
def test_sparse_features_give_what_dense_ones_give(conv: Any, make_trainer: MakeTrainer, tmp_path: Path) -> None:
    data = PlanetoidData("Cora")
    data.generate(tmp_path / "data", NodeClassifier())
    model = NodeClassifier(conv=conv, hidden=8)
    make_trainer(fast_dev_run=1).fit(model, datamodule=data)
    batch = next(iter(data.test_dataloader()))
    assert batch["features"].is_sparse
    model.eval()
    dense = model(batch["features"].to_dense(), batch["edge_index"])
    torch.testing.assert_close(model(batch["features"], batch["edge_index"]), dense)


def test_resumed_run_reaches_the_same_weights(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def train(epochs: int, name: str, ckpt_path: Any = None) -> NodeClassifier:
        lk.seed_everything(1)
        data, model = PlanetoidData("Cora"), NodeClassifier(hidden=8)
        data.generate(tmp_path / name / "data", model)
        run = make_trainer(max_epochs=epochs, run_dir=tmp_path / name / "run")
        run.fit(model, datamodule=data, ckpt_path=ckpt_path)
        return model

    whole = train(6, "whole")
    train(3, "part")
    [saved] = (tmp_path / "part" / "run" / "checkpoints").glob("*.ckpt")
    resumed = train(6, "resumed", saved)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_the_network_travels_in_the_checkpoint(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    run = make_trainer(max_epochs=1, run_dir=tmp_path / "run")
    run.fit(NodeClassifier(hidden=8), datamodule=KarateData())
    [saved] = (tmp_path / "run" / "checkpoints").glob("*.ckpt")
    model = NodeClassifier.load_from_checkpoint(saved)
    assert model.class_names == ["group 0", "group 1", "group 2", "group 3"]
    probabilities = torch.cat(make_trainer().predict(model, datamodule=KarateData()))
    assert probabilities.shape == (34, 4)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(34))
    other = PlanetoidData("Cora")
    other.generate(tmp_path / "data", model)
    with pytest.raises(DataError) as caught:
        make_trainer().test(model, datamodule=other)
    assert str(caught.value) == (
        "NodeClassifier: made for 34 features and 4 classes, the data has 32 and 7; use the data that it was trained on"
    )


def raw_folder(root: Path) -> Path:
    return root / "Cora" / "raw"


def test_missing_files_are_named(tmp_path: Path) -> None:
    names = ", ".join(f"ind.cora.{part}" for part in PARTS)
    with pytest.raises(MissingDataError) as caught:
        PlanetoidData("Cora", str(tmp_path), download=False).setup("fit")
    assert str(caught.value) == (
        f"PlanetoidData(name='Cora', root='{tmp_path}', download=False): no {names} in {raw_folder(tmp_path)}; "
        "put the files there, or set data.download to true"
    )


def test_missing_files_are_downloaded_from_torch_geometric_s_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recipes.graph.geometric import geometric

    source = PlanetoidData("Cora")
    source.generate(tmp_path / "source", NodeClassifier())
    monkeypatch.setattr(geometric("datasets", "a test").Planetoid, "url", raw_folder(tmp_path / "source").as_uri())
    data = PlanetoidData("Cora", str(tmp_path / "data"))
    data.prepare_data()
    data.setup("fit")
    assert sorted(path.name for path in raw_folder(tmp_path / "data").iterdir()) == sorted(
        f"ind.cora.{part}" for part in PARTS
    )
    # nothing listens on port 9 of this machine
    monkeypatch.setattr(geometric("datasets", "a test").Planetoid, "url", "http://127.0.0.1:9")
    with pytest.raises(MissingDataError) as caught:
        PlanetoidData("PubMed", str(tmp_path)).prepare_data()
    names = ", ".join(f"ind.pubmed.{part}" for part in PARTS)
    assert str(caught.value) == (
        f"PlanetoidData(name='PubMed', root='{tmp_path}', download=True): no {names} in {tmp_path}/PubMed/raw and the "
        "download failed (<urlopen error [Errno 111] Connection refused>); put the files there"
    )


class Evil:
    """Touches a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("was_here"),)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    data = PlanetoidData("Cora")
    data.generate(tmp_path, NodeClassifier())
    path = raw_folder(tmp_path) / "ind.cora.allx"
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(DataError) as caught:
        PlanetoidData("Cora", str(tmp_path)).setup("fit")
    start, end = str(caught.value).split("it asks for ")
    assert start == f"{path}: not one of Planetoid's files ("
    assert end.endswith("); they hold arrays, sparse matrices and lists alone: delete it and get it again")
    assert not Path("was_here").exists()


def test_files_that_do_not_fit_together_are_an_error(tmp_path: Path) -> None:
    PlanetoidData("Cora").generate(tmp_path, NodeClassifier())
    folder = raw_folder(tmp_path)
    shutil.copy(folder / "ind.cora.x", folder / "ind.cora.y")
    shutil.copy(folder / "ind.cora.tx", folder / "ind.cora.ally")
    with pytest.raises(DataError) as caught:
        PlanetoidData("Cora", str(tmp_path)).setup("fit")
    assert str(caught.value).startswith(f"PlanetoidData: the files in {folder} do not fit together (")


@pytest.mark.parametrize(("build", "message"), [
    (lambda: PlanetoidData("cora"),
     "PlanetoidData(name='cora'): expected one of Cora, CiteSeer, PubMed; did you mean 'Cora'?"),
    (lambda: NodeClassifier(num_layers=0), "NodeClassifier(num_layers=0): expected at least 1"),
    (lambda: NodeClassifier(conv="gat"), "NodeClassifier(conv='gat'): expected 'gcn' or 'sage'"),  # type: ignore[arg-type]
])  # fmt: skip
def test_wrong_argument(build: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def test_data_of_another_kind_is_refused(make_trainer: MakeTrainer) -> None:
    from recipes.vision.data import DigitsData

    with pytest.raises(DataError) as caught:
        make_trainer().fit(NodeClassifier(), datamodule=DigitsData())
    assert str(caught.value) == (
        "NodeClassifier: expected a data module with num_features and class_names, as GraphData"
    )
