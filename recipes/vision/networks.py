"""Image classification networks by name: `mlp`, `small_cnn`, or any classification model of torchvision."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lightkit.errors import ConfigError, did_you_mean, require


class MLP(nn.Module):
    """Classify flattened images, `image_size` pixels square, with two hidden layers of `width` units."""

    def __init__(
        self, num_classes: int, in_channels: int, image_size: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * image_size**2, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, channels, size, size) to logits (batch, classes)."""
        logits: Tensor = self.layers(images)
        return logits


def _stage(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Build two 3x3 convolutions, each with batch norm and ReLU; height and width stay."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            # the bias would be taken out again by the batch norm's mean
            nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return layers


class SmallCNN(nn.Module):
    """Classify small images with three stages of two 3x3 convolutions, in the manner of VGG.

    The stages have `width`, 2 and 4 times `width` channels; pooling halves height and width between
    them; the mean over positions goes into one linear layer, so that any size from 4 pixels up fits.
    """

    def __init__(self, num_classes: int, in_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(in_channels, width),
            nn.MaxPool2d(2),
            *_stage(width, 2 * width),
            nn.MaxPool2d(2),
            *_stage(2 * width, 4 * width),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, channels, height, width) to logits (batch, classes)."""
        features = self.features(images)  # (B, C, H, W) -> (B, 4 * width, H / 4, W / 4)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class TorchvisionNet(nn.Module):
    """Classify images with a classification model of torchvision, chosen by name, started at random.

    Grey images are repeated over the three channels that these models take. `copy_pretrained` gives the
    model pretrained weights.
    """

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        models = require("torchvision.models", "vision", needed_by=f"ImageClassifier(net={name!r})")
        options: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            options = {"aux_logits": False, "init_weights": True}
        self.model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, 1 or 3, height, width) to logits (batch, classes)."""
        logits: Tensor = self.model(images.expand(-1, 3, -1, -1))
        return logits


def build_network(
    net: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: int,
    dropout: float,
) -> nn.Module:
    """Build the network called `net`, started at random; see `ImageClassifier` for the arguments.

    Raises:
        ConfigError: no network has this name; says the nearest one.
    """
    if net == "mlp":
        return MLP(num_classes, in_channels, image_size, width, dropout)
    if net == "small_cnn":
        return SmallCNN(num_classes, in_channels, width, dropout)
    models = require("torchvision.models", "vision", needed_by=f"ImageClassifier(net={net!r})")
    names = models.list_models(module=models)
    if net not in names:
        raise ConfigError(
            f"ImageClassifier(net={net!r}): expected 'mlp', 'small_cnn' or a classification model of "
            f"torchvision such as 'resnet18'{did_you_mean(net, ['mlp', 'small_cnn', *names])}"
        )
    return TorchvisionNet(net, num_classes)
