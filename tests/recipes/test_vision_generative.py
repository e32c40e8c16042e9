"""The autoencoder and the DCGAN: their configs train and draw, resume exactly, and refuse what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lightkit as lk
from lightkit.callbacks import EMAWeightAveraging
from lightkit.cli.job import prepare_job
from lightkit.errors import ConfigError, DataError
from recipes.vision.autoencoder import Autoencoder
from recipes.vision.data import DigitsData
from recipes.vision.dcgan import DCGAN, frechet_distance
from recipes.vision.pictures import PixelRange, grid

MakeTrainer = Callable[..., lk.Trainer]


def job_of(config: str, folder: Path, *options: str) -> Any:
    small = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--trainer.enable_progress_bar=false"]
    where = [f"--trainer.default_root_dir={folder}", "--trainer.accelerator=cpu", "--model.width=4"]
    return prepare_job("fit", [config, *small, *where, *options])


def size_of(path: Path, tones: int = 10) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG" and len(np.unique(np.asarray(image.convert("L")))) >= tones
        return image.size


def test_autoencoder_config_trains_tests_and_draws(tmp_path: Path) -> None:
    job = job_of("vision/autoencoder", tmp_path)
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, verbose=False)
    assert metrics["test_psnr"] == pytest.approx(-10 * torch.tensor(metrics["test_loss"]).log10().item())
    plots = job.trainer.run_dir / "plots"
    assert sorted(p.name for p in plots.iterdir()) == ["curves.png", "reconstructions.png"]
    # two rows of twelve, each above its reconstructions, with 4 pixels between
    assert size_of(plots / "reconstructions.png") == (12 * 60 + 4, 4 * 60 + 4)
    codes = job.trainer.predict(job.model, datamodule=job.data)
    assert torch.cat(codes).shape == (360, 8)


def test_dcgan_config_trains_with_averaged_weights_and_draws_every_epoch(tmp_path: Path) -> None:
    job = job_of("vision/dcgan", tmp_path)
    assert [type(c).__name__ for c in job.trainer.callbacks].count("EMAWeightAveraging") == 1
    job.trainer.fit(job.model, datamodule=job.data)
    assert job.trainer.global_step == 2 * 2 * 3
    [metrics] = job.trainer.test(job.model, datamodule=job.data, verbose=False)
    assert metrics["test_frechet"] > 0
    run = job.trainer.run_dir
    assert sorted(p.name for p in (run / "plots").iterdir()) == ["curves.png", "samples.png"]
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["epoch_001.png", "epoch_002.png"]
    # after six steps the average is nearly grey
    assert size_of(run / "samples" / "epoch_002.png", tones=3) == (8 * 60 + 4, 8 * 60 + 4)
    drawn = torch.cat(job.trainer.predict(job.model, datamodule=job.data))
    assert drawn.shape == (360, 1, 8, 8) and 0 <= drawn.min() and drawn.max() <= 1


def test_both_take_mnist_by_overrides(tmp_path: Path, mnist_files: Callable[..., None]) -> None:
    mnist_files(tmp_path / "data", "MNIST")
    options = ["--data=recipes.vision.data.TorchvisionData", "--data.name=MNIST", f"--data.root={tmp_path / 'data'}"]
    for config in ("vision/autoencoder", "vision/dcgan"):
        job = job_of(config, tmp_path, *options, "--model.image_size=28", "--trainer.max_epochs=1")
        job.trainer.fit(job.model, datamodule=job.data)
        assert (job.trainer.run_dir / "plots" / "curves.png").is_file()


class StopAt(lk.Callback):
    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.parametrize("make, step", [
    (lambda: Autoencoder(width=4), 7), (lambda: DCGAN(width=4, latent_dim=4, num_samples=16), 14),
])  # fmt: skip
def test_a_run_killed_in_mid_epoch_and_resumed_ends_bit_for_bit_the_same(
    make: Callable[[], lk.LightModule], step: int, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    def run(seed: int, *callbacks: lk.Callback, ckpt_path: Path | None = None) -> lk.LightModule:
        lk.seed_everything(seed, verbose=False)
        module = make()
        limits = {"limit_train_batches": 5, "limit_val_batches": 1, "logger": False, "enable_checkpointing": False}
        trainer = make_trainer(callbacks=[EMAWeightAveraging(decay=0.9), *callbacks], **limits)
        trainer.fit(module, datamodule=DigitsData(), ckpt_path=ckpt_path)
        return module

    whole = run(1)
    with pytest.raises(KeyboardInterrupt):
        run(1, StopAt(step, tmp_path / "stop.ckpt"))
    parts = run(2, ckpt_path=tmp_path / "stop.ckpt").state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.state_dict().items())


def test_pixels_run_from_black_to_white_whatever_the_normalisation() -> None:
    data = DigitsData()
    data.setup("fit")
    pixels = PixelRange(1)
    pixels.measure(data.sets["train"])
    stored, _ = data.sets["train"].stored(range(5))
    images, _ = data.sets["train"].__getitems__(range(5))
    torch.testing.assert_close(pixels.to_pixels(images), stored / 16)


def test_a_grid_enlarges_small_pictures_by_whole_factors() -> None:
    image = grid(torch.zeros(3, 1, 8, 8), columns=2)
    assert image.shape == (3, 2 * 60 + 4, 2 * 60 + 4) and image.dtype == torch.uint8
    assert grid(torch.zeros(2, 3, 64, 64), columns=2).shape == (3, 72, 140)


def test_frechet_distance_of_known_distributions() -> None:
    torch.manual_seed(0)
    images = torch.randn(4000, 1, 8, 8)
    assert frechet_distance(images, images) < 1e-6
    # the same shape moved by 1 in 64 dimensions; twice as wide: (2 - 1)**2 in each
    assert frechet_distance(images, images + 1) == pytest.approx(64)
    assert frechet_distance(images, 2 * images).item() == pytest.approx(64, rel=0.05)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: Autoencoder(image_size=30), "Autoencoder(image_size=30): expected a multiple of 4"),
    (lambda: DCGAN(image_size=4), "DCGAN(image_size=4): expected a multiple of 4 from 8 up"),
])  # fmt: skip
def test_wrong_size(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", [Autoencoder, DCGAN])
def test_data_of_another_shape(kind: Any, make_trainer: MakeTrainer) -> None:
    with pytest.raises(DataError) as caught:
        make_trainer().fit(kind(in_channels=3, image_size=32), datamodule=DigitsData())
    assert str(caught.value) == (
        f"{kind.__name__}(in_channels=3, image_size=32): the data has 1 channels of 8x8 pixels; set model.in_channels "
        "to 1 and model.image_size to 8"
    )
