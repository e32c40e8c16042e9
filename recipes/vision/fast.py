"""CIFAR-10 as fast as a recipe gets it: the most accuracy per second of training, meant for one GPU.

Data: 32x32 colour images of `TorchvisionData(on_device=True)`: the 50,000 images lie on the device as bytes, a
batch is moved as its positions, and normalising, shifting, mirroring and blanking happen there. Metrics as in
`classification.py`. The network is small and wide for its depth, after Page's ResNet-9 (2018) and Jordan's
airbench (2024, arXiv:2404.00498): its first layer whitens 2x2 patches with filters computed from the training
images and does not learn; batch norm learns biases alone, with a learning rate of their own; convolutions
start near the identity.

What to expect: airbench's paper reports 94 % in about ten epochs with such a network, in seconds on an A100. That
is the paper's figure; this recipe has not been run on the whole set or on a GPU yet, see
docs/recipes/vision_cifar10_fast.md for what was tried on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightkit.errors import DataError
from recipes.schedules import total_steps
from recipes.vision.base import BaseClassifier, Views
from recipes.vision.image_data import training_images
from recipes.vision.images import TensorImages

_PATCH = 2  # pixels, height and width of what the first layer whitens
_SMALLEST = 16  # pixels, height and width, of which three poolings leave one
_LOGIT_SCALE = 1 / 9  # keeps the first losses near log(classes) although the features are not normalised


class Norm(nn.BatchNorm2d):
    """Batch norm that learns a bias and no scale: the convolution that follows can scale."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=0.4)
        self.weight.requires_grad_(False)


class Stage(nn.Module):
    """Convolve, halve height and width, convolve again; norm and GELU after each convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _near_identity(in_channels, out_channels),
            nn.MaxPool2d(2),
            Norm(out_channels),
            nn.GELU(),
            _near_identity(out_channels, out_channels),
            Norm(out_channels),
            nn.GELU(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height / 2, width / 2)."""
        changed: Tensor = self.layers(features)
        return changed


def _near_identity(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Build a 3x3 convolution whose first outputs are its inputs."""
    layer = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[:in_channels].data)
    return layer


class FastNet(nn.Module):
    """Classify small images: whitened patches, three stages, the maximum over positions, a linear layer."""

    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(in_channels, 2 * in_channels * _PATCH**2, kernel_size=_PATCH)
        self.whiten.weight.requires_grad_(False)
        self.stages = nn.Sequential(
            Stage(self.whiten.out_channels, width), Stage(width, 4 * width), Stage(4 * width, 4 * width)
        )
        self.head = nn.Linear(4 * width, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, channels, height, width) to logits (batch, classes)."""
        features = self.stages(F.gelu(self.whiten(images)))
        logits: Tensor = self.head(features.amax(dim=(2, 3))) * _LOGIT_SCALE
        return logits

    @torch.no_grad()
    def whiten_from(self, images: Tensor) -> None:
        """Set the first layer to the principal directions of patches, each scaled to variance 1, and their negatives.

        Args:
            images: normalised float images (images, channels, height, width).
        """
        patches = F.unfold(images, _PATCH).transpose(1, 2).flatten(0, 1)  # (patches, channels * 4)
        patches = patches - patches.mean(dim=0)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        scaled = (vectors / (values + 5e-4).sqrt()).T.flip(0)  # largest variance first
        filters = scaled.view(-1, images.shape[1], _PATCH, _PATCH)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))


class FastClassifier(BaseClassifier):
    """Train `FastNet` with SGD under a rate that rises and falls linearly, weights and biases at rates of their own.

    Args:
        num_classes: number of classes; it must be the data's.
        in_channels: 1 for grey images, 3 for colour.
        width: channels of the first stage; the other two have four times as many.
        lr: peak of the learning rate of the weights, for the mean loss of a batch.
        bias_lr_factor: how much higher the rate of batch norm's biases is.
        momentum: of SGD in Nesterov's form.
        weight_decay: what each step takes off the weights, as a share of the rate; biases lose as much a step.
        label_smoothing: share of the target that is spread over all classes, in training only.
        whiten_images: so many training images give the first layer.
        test_time_augmentation: see `BaseClassifier`.

    Raises:
        ConfigError: a fit without an end.
        DataError: the data's classes or channels do not fit, or its images are not in memory.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        lr: float = 1.5,
        bias_lr_factor: float = 64.0,
        momentum: float = 0.85,
        weight_decay: float = 1.3e-3,
        label_smoothing: float = 0.2,
        whiten_images: int = 5000,
        test_time_augmentation: Views = "mirror_shift",
    ) -> None:
        super().__init__(num_classes, in_channels, label_smoothing, True, test_time_augmentation)
        self.save_hyperparameters()
        self.use_network(FastNet(num_classes, in_channels, width))
        self.lr = lr
        self.bias_lr_factor = bias_lr_factor
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.whiten_images = whiten_images

    def setup(self, stage: str) -> None:
        """Compare the data with the network and, before a fit, compute the first layer from training images."""
        super().setup(stage)
        if stage != "fit":
            return
        data = training_images(self.trainer)
        if not isinstance(data, TensorImages):
            raise DataError(
                "FastClassifier: the training images must be in memory; use recipes.vision.data.TorchvisionData "
                "or DigitsData"
            )
        assert isinstance(self.net, FastNet)
        self.net.whiten_from(data.normalised(data.images[: self.whiten_images]))

    def check_data(self, names: list[str] | None, shape: tuple[int, int, int] | None) -> None:
        """Raise DataError where classes or channels are not the network's, or the images too small for it."""
        super().check_data(names, shape)
        if shape is not None and min(shape[1:]) < _SMALLEST:
            raise DataError(
                f"FastClassifier: the data is {shape[1]}x{shape[2]} pixels; the network needs at least "
                f"{_SMALLEST}x{_SMALLEST}"
            )

    def configure_optimizers(self) -> Any:
        """Return SGD with one group for batch norm's biases and one for the rest, and their linear rise and fall."""
        biases = [module.bias for module in self.net.modules() if isinstance(module, Norm)]
        of_norm = {id(bias) for bias in biases}
        weights = [p for p in self.parameters() if p.requires_grad and id(p) not in of_norm]
        bias_lr = self.lr * self.bias_lr_factor
        groups: list[dict[str, Any]] = [
            {"params": weights, "lr": self.lr, "weight_decay": self.weight_decay},
            {"params": biases, "lr": bias_lr, "weight_decay": self.weight_decay / self.bias_lr_factor},
        ]
        optimizer = torch.optim.SGD(groups, momentum=self.momentum, nesterov=True)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[self.lr, bias_lr],
            total_steps=total_steps(self, "a linear schedule"),
            pct_start=0.23,
            anneal_strategy="linear",
            cycle_momentum=False,
            div_factor=5,
            final_div_factor=3,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
