"""Image classification: every config builds, trains and draws; what the classifier does and refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lightkit as lk
from lightkit.cli.job import Job, prepare_job
from lightkit.errors import ConfigError, DataError
from recipes.vision.classification import ImageClassifier
from recipes.vision.data import DigitsData, TorchvisionData

Write = Callable[..., None]
MakeTrainer = Callable[..., lk.Trainer]


def job_of(config: str, folder: Path, *options: str) -> Job:
    """Build model, data and trainer of a config, for two short epochs that write below `folder`."""
    small = [
        "--trainer.max_epochs=2",
        "--trainer.limit_train_batches=2",
        "--trainer.enable_progress_bar=false",
    ]
    where = [f"--trainer.default_root_dir={folder}", "--trainer.accelerator=cpu"]
    return prepare_job("fit", [config, *small, *where, "--data.batch_size=16", "--model.width=4", *options])


def assert_is_picture(path: Path) -> None:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        pixels = np.asarray(image.convert("L"))
    assert pixels.std() > 5, f"{path} is empty"


def run_and_check(job: Job) -> None:
    job.trainer.fit(job.model, datamodule=job.data)
    job.trainer.test(job.model, datamodule=job.data)
    plots = Path(job.trainer.run_dir) / "plots"
    assert sorted(p.name for p in plots.iterdir()) == [
        "confusion_matrix.png",
        "curves.png",
        "worst_mistakes.png",
    ]
    for path in plots.iterdir():
        assert_is_picture(path)
    assert {"test_loss", "test_acc"} <= set(job.trainer.callback_metrics)


def test_every_config_says_what_it_is_and_has_a_page(repository: Path) -> None:
    from lightkit.cli.shipped import describe

    configs = sorted((repository / "configs" / "vision").glob("*.yaml"))
    names = {c.stem for c in configs}
    assert names >= {
        "cifar10", "cifar10_fast", "detection", "digits", "fashion_mnist", "image_folder", "mnist", "segmentation",
    }  # fmt: skip
    pages = repository / "docs" / "recipes"
    assert [name for name in sorted(names) if not (pages / f"vision_{name}.md").is_file()] == []
    for name in names:
        assert f"lightkit fit vision/{name}" in (pages / f"vision_{name}.md").read_text(encoding="utf-8")
    lines = [describe(config) for config in configs]
    assert all(20 < len(line) <= 120 for line in lines)
    assert len(set(lines)) == len(lines)


def test_digits_config_trains_and_draws(tmp_path: Path) -> None:
    run_and_check(job_of("vision/digits", tmp_path))


@pytest.mark.parametrize(
    ("config", "name"), [("vision/mnist", "MNIST"), ("vision/fashion_mnist", "FashionMNIST")]
)
def test_mnist_like_config_trains_and_draws(
    config: str, name: str, tmp_path: Path, mnist_files: Write
) -> None:
    mnist_files(tmp_path / "data", name)
    run_and_check(job_of(config, tmp_path, f"--data.root={tmp_path / 'data'}"))


def test_cifar10_config_trains_and_draws(tmp_path: Path, cifar10_files: Write) -> None:
    cifar10_files(tmp_path / "data")
    run_and_check(job_of("vision/cifar10", tmp_path, f"--data.root={tmp_path / 'data'}"))


def test_cifar10_fast_config_trains_and_draws(tmp_path: Path, cifar10_files: Write) -> None:
    cifar10_files(tmp_path / "data")
    options = [f"--data.root={tmp_path / 'data'}", "--data.val_fraction=0.2", "--trainer.check_val_every_n_epoch=1"]
    run_and_check(job_of("vision/cifar10_fast", tmp_path, *options))


def test_image_folder_config_trains_and_draws(tmp_path: Path, image_folders: Write) -> None:
    image_folders(tmp_path / "data", {"train": 12, "test": 4})
    options = [f"--data.root={tmp_path / 'data'}", "--data.image_size=16", "--model.num_classes=3"]
    run_and_check(job_of("vision/image_folder", tmp_path, *options))


@pytest.mark.parametrize("net", ["mlp", "small_cnn", "mobilenet_v3_small"])
def test_every_kind_of_network_takes_grey_images(net: str) -> None:
    model = ImageClassifier(net=net, num_classes=7, in_channels=1, image_size=32, width=8).eval()
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


def test_a_pretrained_network_keeps_all_but_its_last_layer(tmp_path: Path) -> None:
    from torchvision.models import get_model

    from recipes.vision.pretrained import copy_pretrained

    for name in ("resnet18", "mobilenet_v3_small", "squeezenet1_1"):
        pretrained, model = get_model(name, weights=None).state_dict(), get_model(name, weights=None, num_classes=3)
        torch.save(pretrained, tmp_path / f"{name}.pth")
        before = {key: value.clone() for key, value in model.state_dict().items()}
        copy_pretrained(model, "ImageClassifier", name, str(tmp_path / f"{name}.pth"))
        kept = [key for key, value in model.state_dict().items() if value.shape != pretrained[key].shape]
        assert len(kept) == 2 and all(torch.equal(model.state_dict()[key], before[key]) for key in kept)
        taken = [key for key in before if key not in kept]
        assert all(torch.equal(model.state_dict()[key], pretrained[key]) for key in taken)


def test_pretrained_weights_are_read_when_a_fit_begins_and_not_to_load_a_checkpoint(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    from torchvision.models import get_model

    weights = tmp_path / "resnet18.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), weights)
    model = ImageClassifier(net="resnet18", weights=str(weights), lr=0.0, schedule="constant", weight_decay=0.0)
    trainer = make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(model, datamodule=DigitsData(batch_size=4))
    taken = torch.load(weights, weights_only=True)["layer1.0.conv1.weight"]
    assert torch.equal(model.net.model.layer1[0].conv1.weight, taken)  # type: ignore[union-attr, index]
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    weights.unlink()
    again = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    assert torch.equal(again.net.model.layer1[0].conv1.weight, taken)  # type: ignore[union-attr, index]


def test_a_file_that_holds_other_weights_is_refused(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    fit = make_trainer().fit
    call = f"ImageClassifier(net='resnet18', weights='{tmp_path}/other.pth')"
    with pytest.raises(DataError) as caught:
        fit(ImageClassifier(net="resnet18", weights=f"{tmp_path}/other.pth"), datamodule=DigitsData())
    assert str(caught.value) == (
        f"{call}: only 1 of the model's 122 tensors are there in this size; these are not weights of resnet18"
    )
    with pytest.raises(DataError) as caught:
        fit(ImageClassifier(net="resnet18", weights=f"{tmp_path}/broken.pth"), datamodule=DigitsData())
    assert f"{tmp_path}/broken.pth cannot be read as weights saved by torch (" in str(caught.value)


def test_weights_that_cannot_be_downloaded_say_where_to_put_them(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import ResNet18_Weights

    url = "http://127.0.0.1:9/resnet18-f37072fd.pth"  # nothing listens there
    monkeypatch.setitem(vars(ResNet18_Weights.DEFAULT.value), "url", url)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError) as caught:
        make_trainer().fit(ImageClassifier(net="resnet18", weights="DEFAULT"), datamodule=DigitsData())
    assert str(caught.value) == (
        f"ImageClassifier(net='resnet18', weights='DEFAULT'): {url} cannot be downloaded (<urlopen error [Errno "
        f"111] Connection refused>); put the file into {tmp_path}/hub/checkpoints, or set weights to its path, or "
        "to null"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: TorchvisionData(name="FasionMNIST"),
            "TorchvisionData(name='FasionMNIST'): expected one of MNIST, FashionMNIST, KMNIST, CIFAR10, "
            "CIFAR100; did you mean 'FashionMNIST'?",
        ),
        (
            lambda: TorchvisionData(val_fraction=1.5),
            "TorchvisionData(val_fraction=1.5): expected a share between 0 and 1, such as 0.1",
        ),
        (lambda: DigitsData(batch_size=0), "DigitsData(batch_size=0): expected at least 1"),
        (
            lambda: ImageClassifier(net="resnet81"),
            "ImageClassifier(net='resnet81'): expected 'mlp', 'small_cnn' or a classification model of "
            "torchvision such as 'resnet18'; did you mean 'resnet18'?",
        ),
        (
            lambda: ImageClassifier(net="mlp", weights="DEFAULT"),
            "ImageClassifier(net='mlp', weights='DEFAULT'): only torchvision's models have weights",
        ),
        (
            lambda: ImageClassifier(net="resnet18", weights="IMAGENET_V1"),
            "ImageClassifier(net='resnet18', weights='IMAGENET_V1'): expected one of IMAGENET1K_V1, DEFAULT, or "
            "a file .pth; did you mean 'IMAGENET1K_V1'?",
        ),
    ],
)
def test_wrong_argument(build: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"num_classes": 3, "image_size": 8},
            "ImageClassifier(num_classes=3): the data has 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9); "
            "set model.num_classes to 10",
        ),
        (
            {"in_channels": 3},
            "ImageClassifier(in_channels=3): the data has 1 channels; set model.in_channels to 1",
        ),
        (
            {"net": "mlp", "image_size": 28},
            "ImageClassifier(image_size=28): the data is 8x8 pixels; set model.image_size to 8",
        ),
    ],
)
def test_data_that_does_not_fit_the_network(
    arguments: dict[str, Any], message: str, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(DataError) as caught:
        make_trainer().fit(ImageClassifier(**arguments), datamodule=DigitsData())
    assert str(caught.value) == message


def test_one_cycle_needs_an_end(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ConfigError) as caught:
        make_trainer(max_epochs=-1).fit(ImageClassifier(image_size=8, width=4), datamodule=DigitsData())
    assert str(caught.value) == (
        "ImageClassifier(schedule='one_cycle'): the fit has no end to fall towards; "
        "set trainer.max_epochs or max_steps, or model.schedule to 'constant'"
    )


class Rates(lk.Callback):
    """Notes the learning rate of every step."""

    def __init__(self) -> None:
        self.used: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.used.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_learning_rate_rises_to_lr_and_falls_to_nothing_under_one_cycle(make_trainer: MakeTrainer) -> None:
    rates = Rates()
    run = make_trainer(limit_train_batches=10, limit_val_batches=1, callbacks=[rates])
    run.fit(ImageClassifier(image_size=8, width=4, lr=0.02), datamodule=DigitsData())
    assert len(rates.used) == 20
    assert rates.used[0] == pytest.approx(0.02 / 25)
    assert max(rates.used) > 0.019
    assert rates.used[-1] < 1e-6


def test_learning_rate_stays_under_a_constant_schedule(make_trainer: MakeTrainer) -> None:
    rates = Rates()
    run = make_trainer(limit_train_batches=3, limit_val_batches=1, callbacks=[rates])
    run.fit(ImageClassifier(image_size=8, width=4, lr=0.02, schedule="constant"), datamodule=DigitsData())
    assert rates.used == [0.02] * 6


def test_predictions_are_probabilities(make_trainer: MakeTrainer) -> None:
    predictions = make_trainer().predict(ImageClassifier(image_size=8, width=4), datamodule=DigitsData())
    probabilities = torch.cat(predictions)
    assert probabilities.shape == (360, 10)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(360))


@pytest.mark.slow
def test_digits_reach_097_on_the_test_part(tmp_path: Path) -> None:
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    job = prepare_job("fit", ["vision/digits", f"--trainer.default_root_dir={tmp_path}", *quiet])
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, ckpt_path="best", verbose=False)
    assert metrics["test_acc"] >= 0.97


@pytest.mark.shared_data
@pytest.mark.slow
def test_image_folder_learns_on_real_pictures_by_overrides_alone(tmp_path: Path, shared_data: Path) -> None:
    options = [
        f"--data.root={shared_data / 'cifar10_images'}",
        "--data.image_size=32",
    ]
    quiet = [
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
        "--model.width=16",
        "--trainer.max_epochs=3",
    ]
    where = f"--trainer.default_root_dir={tmp_path}"
    job = prepare_job("fit", ["vision/image_folder", where, *options, *quiet])
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, verbose=False)
    # 3,000 small pictures, three passes: well above the 0.1 of guessing
    assert metrics["test_acc"] > 0.3
