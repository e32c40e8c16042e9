"""DCGAN: two networks play against each other until one draws images that look like the data's.

The generator draws from noise, the discriminator tells drawn from real (Radford, Metz, Chintala 2016). Each has
an optimizer of its own, which `training_step` steps itself (`automatic_optimization = False`); so a batch is two
optimizer steps, and `global_step` counts both.

Data: the images of the data modules in `data.py`; labels are not used. Logged are `train_g_loss`, `train_d_loss`, and
after each epoch `val_frechet`: the Frechet distance between drawn and real images, shrunk to 8x8 pixels and each set
taken for a normal distribution (Dowson, Landau 1982; FID without the Inception network). Lower is better; small
sets of real images have a distance too, see below. `plots/samples.png` shows what the newest generator draws from
the same noise, `RUN_DIR/samples/epoch_001.png`, ... and TensorBoard how it got there.

What to expect: `vision/dcgan` on the digits of scikit-learn goes from 14 to a `val_frechet` of 0.53 and a
`test_frechet` of 0.42 in 20 s of one CPU core; as many real training images have 0.59 and 0.27.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lightkit as lk
from lightkit.errors import ConfigError
from recipes.plots import Curves
from recipes.vision.image_data import training_images
from recipes.vision.pictures import PictureGrid, PixelRange, check_shape


def generator(latent_dim: int, width: int, channels: int, image_size: int) -> nn.Sequential:
    """Build the network from noise (batch, latent_dim, 1, 1) to pixels (batch, channels, size, size), -1 to 1."""
    return nn.Sequential(
        nn.ConvTranspose2d(latent_dim, 2 * width, kernel_size=image_size // 4, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1),
        nn.Tanh(),
    )


def discriminator(width: int, channels: int, image_size: int) -> nn.Sequential:
    """Build the network from pixels, -1 to 1, to logits (batch, 1): above 0 for real."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, kernel_size=image_size // 4),
        nn.Flatten(),
    )


def start_small(module: nn.Module) -> None:
    """Draw the weights of a layer as the DCGAN paper does: convolutions around 0, batch norms around 1, by 0.02."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def frechet_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the Frechet distance between the normal distributions of two sets of images, a 0-dim tensor.

    Args:
        first: pixels (images, channels, height, width), shrunk to 8x8 before.
        second: the same for the other set.
    """
    flat = [F.adaptive_avg_pool2d(images.double(), 8).flatten(1) for images in (first, second)]
    (mean1, cov1), (mean2, cov2) = ((x.mean(dim=0), x.T.cov()) for x in flat)
    # the trace of the root of cov1 @ cov2; its eigenvalues are real and not negative, up to rounding
    root = torch.linalg.eigvals(cov1 @ cov2).real.clamp(min=0).sqrt().sum()
    return (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * root


class DCGAN(lk.LightModule):
    """Train a generator and a discriminator of small images against each other.

    Args:
        latent_dim: numbers of noise for an image.
        in_channels: 1 for grey images, 3 for colour; it must be the data's.
        image_size: height and width of the images, a multiple of 4 from 8; it must be the data's.
        width: channels next to the image, in both networks; the inner layers have twice as many.
        lr: Adam's learning rate of both.
        beta1: Adam's decay of the mean gradient; the paper's 0.5 keeps the game from swinging.
        real_label: what the discriminator aims at for real images; below 1 it stays less sure (Salimans et al. 2016).
        num_samples: images that are drawn after each epoch.

    Raises:
        ConfigError: `image_size` is not a multiple of 4.
        DataError: the data has other channels or another size.
    """

    fixed_noise: Tensor

    def __init__(
        self,
        latent_dim: int = 32,
        in_channels: int = 1,
        image_size: int = 8,
        width: int = 32,
        lr: float = 1e-3,
        beta1: float = 0.5,
        real_label: float = 0.9,
        num_samples: int = 64,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if image_size < 8 or image_size % 4:
            raise ConfigError(f"DCGAN(image_size={image_size}): expected a multiple of 4 from 8 up")
        self.automatic_optimization = False
        self.latent_dim, self.in_channels, self.image_size = latent_dim, in_channels, image_size
        self.lr, self.beta1, self.real_label = lr, beta1, real_label
        self.example_input_array = torch.linspace(-2, 2, 2 * latent_dim).view(2, latent_dim, 1, 1)
        self.pixels = PixelRange(in_channels)
        self.generator = generator(latent_dim, width, in_channels, image_size).apply(start_small)
        self.discriminator = discriminator(width, in_channels, image_size).apply(start_small)
        self.register_buffer("fixed_noise", torch.randn(num_samples, latent_dim, 1, 1))
        self.real: list[Tensor] = []  # of the running evaluation
        self.drawn: list[Tensor] = []

    def setup(self, stage: str) -> None:
        """Compare the data's shape with the networks', and measure the range of its pixels."""
        check_shape("DCGAN", self.trainer, self.in_channels, self.image_size)
        images = training_images(self.trainer)
        if stage == "fit" and images is not None:
            self.pixels.measure(images)

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and the samples."""
        charts = {"loss": ("train_g_loss", "train_d_loss"), "Frechet distance": ("val_frechet",)}
        return [Curves(charts), PictureGrid("samples", keeps_all=True)]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and Adam for the discriminator."""
        betas = (self.beta1, 0.999)
        return [torch.optim.Adam(net.parameters(), self.lr, betas) for net in (self.generator, self.discriminator)]

    def forward(self, noise: Tensor) -> Tensor:
        """Return images, pixels from 0 to 1 (batch, channels, height, width), for noise (batch, latent_dim, 1, 1)."""
        images: Tensor = (self.generator(noise) + 1) / 2
        return images

    def draw(self, count: int) -> Tensor:
        """Return `count` new images, pixels from 0 to 1."""
        drawn: Tensor = self(torch.randn(count, self.latent_dim, 1, 1, device=self.device))
        return drawn

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Step the discriminator on real and drawn images, then the generator on the discriminator's answer."""
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        g_optimizer, d_optimizer = optimizers
        real = self.pixels.to_pixels(batch[0]) * 2 - 1
        fake = self.generator(torch.randn(len(real), self.latent_dim, 1, 1, device=real.device))

        with self.toggled_optimizer(d_optimizer):
            of_real, of_fake = self.discriminator(real), self.discriminator(fake.detach())
            d_loss = _against(of_real, self.real_label) + _against(of_fake, 0.0)
            d_optimizer.zero_grad()
            self.manual_backward(d_loss)
            d_optimizer.step()

        # without toggling: `fake` was drawn before, and the discriminator's gradients are freed before its next use
        g_loss = _against(self.discriminator(fake), 1.0)
        g_optimizer.zero_grad()
        self.manual_backward(g_loss)
        g_optimizer.step()
        losses = {"train_g_loss": g_loss, "train_d_loss": d_loss}
        self.log_dict(losses, prog_bar=True, on_step=False, on_epoch=True)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Keep real images and as many drawn ones; return what `PictureGrid` draws."""
        return self._evaluate(batch[0])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Keep real images and as many drawn ones; return what `PictureGrid` draws."""
        return self._evaluate(batch[0])

    def on_validation_epoch_end(self) -> None:
        """Log the distance between the two."""
        self._log_distance("val")

    def on_test_epoch_end(self) -> None:
        """Log the distance between the two."""
        self._log_distance("test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return as many new images as the batch has, pixels from 0 to 1."""
        return self.draw(len(batch[0] if isinstance(batch, (tuple, list)) else batch))

    def _evaluate(self, images: Tensor) -> dict[str, Tensor]:
        self.real.append(self.pixels.to_pixels(images))
        self.drawn.append(self.draw(len(images)))
        return {"pictures": self(self.fixed_noise)}

    def _log_distance(self, stage: str) -> None:
        real, drawn = torch.cat(self.real), torch.cat(self.drawn)
        self.real, self.drawn = [], []
        distance = frechet_distance(real, drawn).float()
        self.log(f"{stage}_frechet", distance, prog_bar=True)
        if stage == "val":
            self.log("hp_metric", distance)


def _against(logits: Tensor, target: float) -> Tensor:
    """Return the cross-entropy of logits against one target for all, a 0-dim tensor."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
