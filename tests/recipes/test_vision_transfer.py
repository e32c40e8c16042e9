"""Transfer learning: the config freezes and thaws, resumes exactly, reads weights, and predicts from a file alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lightkit as lk
from lightkit.callbacks import BackboneFinetuning
from lightkit.cli.job import prepare_job
from lightkit.errors import ConfigError, DataError
from recipes.vision.data import ImageFolderData
from recipes.vision.transfer import TransferClassifier

Write = Callable[..., None]
MakeTrainer = Callable[..., lk.Trainer]
SMALL = "mobilenet_v3_small"


@pytest.fixture
def pictures(tmp_path: Path, image_folders: Write) -> Path:
    image_folders(tmp_path / "data", {"train": 6, "val": 2}, ("ant", "bee"))
    return tmp_path / "data"


def job_of(folder: Path, data: Path, *options: str) -> Any:
    small = ["--trainer.max_epochs=3", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    where = [f"--trainer.default_root_dir={folder}", f"--data.root={data}", "--data.image_size=32"]
    return prepare_job("fit", ["vision/transfer", *small, *where, *options])


def test_the_config_trains_the_head_first_then_the_backbone_too(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(tmp_path, pictures, f"--model.net={SMALL}", "--trainer.max_epochs=4")
    head = sum(p.numel() for p in job.model.head.parameters())
    norms = [m for m in job.model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    before = head + sum(p.numel() for m in norms for p in m.parameters())
    total = sum(p.numel() for p in job.model.parameters())
    job.trainer.fit(job.model, datamodule=job.data)
    told = [line for line in capsys.readouterr().out.splitlines() if line.endswith("parameters learn")]
    assert told == [
        f"Epoch 0: {before:,} of {total:,} parameters learn", f"Epoch 3: {total:,} of {total:,} parameters learn"
    ]  # fmt: skip
    assert [len(g["params"]) > 0 for g in job.trainer.optimizers[0].param_groups] == [True, True]
    assert job.trainer.callback_metrics["learning_parameters"] == total
    assert (job.trainer.run_dir / "plots" / "curves.png").is_file()


class StopAt(lk.Callback):
    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def test_a_run_killed_after_the_thaw_and_resumed_ends_bit_for_bit_the_same(
    tmp_path: Path, pictures: Path, make_trainer: MakeTrainer
) -> None:
    def run(seed: int, *callbacks: lk.Callback, ckpt_path: Path | None = None) -> dict[str, torch.Tensor]:
        lk.seed_everything(seed, verbose=False)
        module = TransferClassifier(net=SMALL)
        data = ImageFolderData(root=str(pictures), image_size=16, batch_size=4)
        trainer = make_trainer(
            callbacks=[BackboneFinetuning(unfreeze_backbone_at_epoch=1), *callbacks], logger=False,
            enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
        return module.state_dict()

    whole = run(1)
    with pytest.raises(KeyboardInterrupt):
        run(1, StopAt(4, tmp_path / "stop.ckpt"))  # in the second of two epochs of three steps
    parts = run(2, ckpt_path=tmp_path / "stop.ckpt")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_picture_is_named_from_the_checkpoint_alone(
    tmp_path: Path, pictures: Path, make_trainer: MakeTrainer
) -> None:
    data = ImageFolderData(root=str(pictures), image_size=16, mean=[0.4, 0.4, 0.4], std=[0.2, 0.2, 0.2])
    module = TransferClassifier(net=SMALL)
    trainer = make_trainer(max_epochs=1, logger=False, enable_checkpointing=False)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = TransferClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    path = pictures / "val" / "bee" / "0.jpg"
    ranked = loaded.predict_raw(str(path))
    assert loaded.raw_input == "image"
    assert sorted(name for name, _ in ranked) == ["ant", "bee"]
    assert sum(probability for _, probability in ranked) == pytest.approx(1)
    assert ranked[0][1] >= ranked[1][1]
    module.eval()
    files = [Path(file).relative_to(pictures / "val") for file, _ in data.sets["val"].files]
    images, _ = data.sets["val"].__getitems__([files.index(path.relative_to(pictures / "val"))])
    expected = module(images).softmax(1)[0]
    assert dict(ranked) == pytest.approx({"ant": expected[0].item(), "bee": expected[1].item()})


def test_weights_of_the_backbone_come_from_a_file(tmp_path: Path, pictures: Path, make_trainer: MakeTrainer) -> None:
    from torchvision.models import get_model

    source = get_model(SMALL, weights=None)  # of 1,000 classes
    torch.save(source.state_dict(), tmp_path / "source.pth")
    module = TransferClassifier(net=SMALL, weights=str(tmp_path / "source.pth"))
    data = ImageFolderData(root=str(pictures), image_size=16)
    make_trainer(max_epochs=0, logger=False, enable_checkpointing=False).fit(module, datamodule=data)
    theirs = source.state_dict()
    mine = module.backbone.model.state_dict()
    assert len(mine) == len(theirs) - 2
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize("net", ["resnet18", "shufflenet_v2_x0_5"])
def test_features_of_any_network_that_ends_in_a_linear_layer(net: str) -> None:
    module = TransferClassifier(net=net, num_classes=3).eval()
    assert module(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: TransferClassifier(net="resnet81"),
     "TransferClassifier(net='resnet81'): expected a classification model of torchvision such as 'resnet18'"),
    (lambda: TransferClassifier(net="squeezenet1_1"),
     "TransferClassifier(net='squeezenet1_1'): its last layer is a Conv2d, expected nn.Linear; take another network, "
     "such as 'resnet18'"),
    (lambda: TransferClassifier(weights="IMAGENET_V1"),
     "TransferClassifier(net='resnet18', weights='IMAGENET_V1'): expected one of IMAGENET1K_V1, DEFAULT, or a file "
     ".pth; did you mean 'IMAGENET1K_V1'?"),
])  # fmt: skip
def test_wrong_argument(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def test_data_of_other_classes(pictures: Path, make_trainer: MakeTrainer) -> None:
    with pytest.raises(DataError) as caught:
        data = ImageFolderData(root=str(pictures), image_size=16)
        make_trainer().fit(TransferClassifier(net=SMALL, num_classes=5), datamodule=data)
    assert str(caught.value) == (
        "TransferClassifier(num_classes=5): the data has 2 classes (ant, bee); set model.num_classes to 2"
    )


@pytest.mark.shared_data
@pytest.mark.slow
def test_hymenoptera_runs_through_freeze_and_thaw(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=2", "--data.batch_size=8"]
    job = job_of(tmp_path, shared_data / "hymenoptera", *small, "--trainer.limit_val_batches=1")
    job.trainer.callbacks[0].unfreeze_backbone_at_epoch = 1
    job.trainer.fit(job.model, datamodule=job.data)
    told = [line for line in capsys.readouterr().out.splitlines() if line.endswith("parameters learn")]
    assert told == [
        "Epoch 0: 10,626 of 11,177,538 parameters learn", "Epoch 1: 11,177,538 of 11,177,538 parameters learn"
    ]  # fmt: skip
