"""Weights are written and read as safetensors, whole or refused, with what the module is built from beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.checkpoint import files
from lightkit.errors import CheckpointError, ConfigError

safetensors = pytest.importorskip("safetensors.torch")


class Net(lk.LightModule):
    """An embedding that is also the last layer."""

    def __init__(self, width: int = 2, rates: tuple[float, ...] = (0.1,)) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.Embedding(5, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 5, bias=False)
        self.head.weight = self.embedding.weight

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.head(self.norm(self.embedding(batch))), batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data() -> DataLoader[Any]:
    return DataLoader(torch.arange(5).repeat(4), 10)  # type: ignore[arg-type]


def fit(folder: Path, **arguments: Any) -> lk.Trainer:
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, **arguments,
    )  # fmt: skip
    trainer.fit(Net(width=3, rates=(0.5, 0.1)), data())
    return trainer


@pytest.mark.parametrize("is_async", [False, True])
def test_a_module_is_built_from_the_weights_and_evaluated_with_them(tmp_path: Path, is_async: bool) -> None:
    trainer, path = fit(tmp_path, async_checkpoint=is_async), tmp_path / "weights.safetensors"
    trainer.save_checkpoint(path, weights_only=True)
    trained = trainer.lightning_module
    loaded = Net.load_from_checkpoint(path)
    assert (loaded.hparams.width, loaded.hparams.rates) == (3, (0.5, 0.1))
    assert list(loaded.state_dict()) == list(trained.state_dict())
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in trained.state_dict().items())
    assert loaded.head.weight is loaded.embedding.weight
    metrics = [
        trainer.validate(Net(width=3), data(), ckpt_path=path, verbose=False),
        trainer.validate(trained, data(), verbose=False),
    ]  # fmt: skip
    assert metrics[0] == metrics[1]
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["weights.safetensors"]


def test_other_programs_read_the_file_and_tied_weights_are_in_it_once(tmp_path: Path) -> None:
    net = Net()
    files.save({"state_dict": net.state_dict()}, tmp_path / "a.safetensors")
    read = safetensors.load_file(tmp_path / "a.safetensors")
    assert sorted(read) == [
        "embedding.weight", "norm.bias", "norm.num_batches_tracked", "norm.running_mean", "norm.running_var",
        "norm.weight",
    ]  # fmt: skip
    other = Net()
    safetensors.load_model(other, tmp_path / "a.safetensors")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())


def test_files_of_other_programs_are_read(tmp_path: Path) -> None:
    net = Net()
    safetensors.save_model(net, tmp_path / "tied.safetensors")
    safetensors.save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path / "plain.safetensors")
    loaded = Net.load_from_checkpoint(tmp_path / "tied.safetensors")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in net.state_dict().items())
    assert files.load(tmp_path / "plain.safetensors")["state_dict"]["weight"].tolist() == [[1.0] * 3] * 2


def test_what_weights_may_be_comes_back_as_it_was(tmp_path: Path) -> None:
    shared = torch.arange(12.0).reshape(3, 4)
    content: dict[str, Any] = {
        "state_dict": {
            "rows": shared[1:], "columns": shared.t(), "again": shared.t(), "scalar": torch.tensor(3),
            "empty": torch.empty(0), "half": torch.ones(2, dtype=torch.bfloat16), "flags": torch.tensor([True, False]),
            "complex": torch.tensor([1 + 2j]), "extra_state": {"seen": (1, "a")},
        },
        "epoch": 3, "global_step": 7, "hyper_parameters": {"sizes": (1, 2), "dtype": torch.float16, "b": b"x"},
    }  # fmt: skip
    files.save(content, tmp_path / "a.safetensors")
    found = files.load(tmp_path / "a.safetensors")
    weights, wanted = found.pop("state_dict"), content.pop("state_dict")
    assert found == content and list(weights) == list(wanted)
    assert weights.pop("extra_state") == wanted.pop("extra_state")
    for name, value in wanted.items():
        assert torch.equal(value, weights[name]) and value.dtype == weights[name].dtype, name
    assert weights["again"] is weights["columns"]


def test_a_state_dict_alone_is_written(tmp_path: Path) -> None:
    layer = nn.Linear(2, 1)
    files.save(layer.state_dict(), tmp_path / "a.safetensors")
    nn.Linear(2, 1).load_state_dict(files.load(tmp_path / "a.safetensors")["state_dict"])


def test_no_byte_of_a_file_changes_the_content_unnoticed(tmp_path: Path) -> None:
    content = {"state_dict": {"w": torch.arange(3.0), "v": torch.ones(2)}, "hyper_parameters": {"a": 1}}
    path = tmp_path / "a.safetensors"
    files.save(content, path)
    whole, noticed = path.read_bytes(), 0
    positions = range(0, len(whole), 3)
    for position in positions:
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            found = files.load(path)
        except CheckpointError as error:
            assert str(error).startswith(f"the checkpoint {path} is damaged: ")
            assert not files.is_whole(path)
            noticed += 1
        else:
            assert found["hyper_parameters"] == {"a": 1}
            assert all(torch.equal(value, found["state_dict"][name]) for name, value in content["state_dict"].items())
    assert noticed > 0.98 * len(positions)


@pytest.mark.parametrize("change", [lambda whole: whole[:-5], lambda whole: b"", lambda whole: b"PK\x03\x04" + whole])
def test_a_file_that_is_cut_or_none_is_damaged(tmp_path: Path, change: Any) -> None:
    files.save({"state_dict": {"w": torch.arange(3.0)}}, tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(change((tmp_path / "a.safetensors").read_bytes()))
    files.save({"w": torch.ones(1)}, tmp_path / "b.ckpt")
    with pytest.raises(CheckpointError) as caught:
        files.load(tmp_path / "a.safetensors")
    assert str(caught.value).startswith(f"the checkpoint {tmp_path}/a.safetensors is damaged: it cannot be read (")
    assert str(caught.value).endswith(f"; use the newest whole one, {tmp_path}/b.ckpt")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_checkpoint_to_train_from_is_not_written_as_safetensors(tmp_path: Path, is_async: bool) -> None:
    trainer = fit(tmp_path, async_checkpoint=is_async)
    with pytest.raises(CheckpointError) as caught:
        trainer.save_checkpoint(tmp_path / "all.safetensors")
    assert str(caught.value) == (
        "a .safetensors file holds weights alone: save with weights_only=True, or to a .ckpt to go on training from it"
    )
    trainer.save_checkpoint(tmp_path / "weights.safetensors", weights_only=True)
    with pytest.raises(CheckpointError, match="holds weights alone, training cannot go on from it"):
        trainer.fit(Net(width=3), data(), ckpt_path=tmp_path / "weights.safetensors")


def test_what_the_format_does_not_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        files.save({"state_dict": {"w": torch.eye(2).to_sparse()}}, tmp_path / "a.safetensors")
    assert str(caught.value) == (
        "state_dict['w']: .safetensors files hold no tensors of torch.sparse_coo; save to a .ckpt"
    )
    files.save({"state_dict": {"w": torch.ones(2)}}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError) as refused:
        files.load(tmp_path / "a.safetensors", map_location={"cuda": "cpu"})
    assert str(refused.value) == (
        f"{tmp_path}/a.safetensors: map_location={{'cuda': 'cpu'}}: expected a device, such as 'cuda:0'"
    )


def test_without_the_library_the_line_to_install_it_is_said(tmp_path: Path, repository: Path) -> None:
    code = (
        "import sys, torch\nsys.modules['safetensors'] = None\nfrom lightkit.checkpoint import files\n"
        "from lightkit.errors import MissingExtraError\n"
        f"for act in (lambda: files.save({{'state_dict': {{}}}}, 'a.safetensors'), lambda: files.load({str(tmp_path / 'a.safetensors')!r})):\n"  # noqa: E501
        "    try: act()\n    except MissingExtraError as error: print(error)\n"
    )
    (tmp_path / "a.safetensors").touch()
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    line = 'safetensors is needed by .safetensors files: pip install "lightkit[safetensors]"\n'
    assert result.stdout == line * 2
