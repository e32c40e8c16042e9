"""Image classification networks by name: `mlp`, `small_cnn`, or any classification model of torchvision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightkit.errors import ConfigError, DataError, did_you_mean, require


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
        # a third faster than the default on a CPU, and what tensor cores want
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, channels, height, width) to logits (batch, classes)."""
        features = self.features(images)  # (B, C, H, W) -> (B, 4 * width, H / 4, W / 4)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class TorchvisionNet(nn.Module):
    """Classify images with a classification model of torchvision, chosen by name.

    Grey images are repeated over the three channels that these models take. Pretrained `weights` keep
    all layers but the last, which is made anew for `num_classes`.

    Raises:
        ConfigError: torchvision has no such model, or the model no such weights.
        DataError: the weights cannot be downloaded; says which file to put where.
    """

    def __init__(self, name: str, num_classes: int, weights: str | None) -> None:
        super().__init__()
        models = require("torchvision.models", "vision", needed_by=f"ImageClassifier(net={name!r})")
        if weights is None:
            self.model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
            return
        available = models.get_model_weights(name)
        names = list(available.__members__)
        if weights not in names:
            raise ConfigError(
                f"ImageClassifier(net={name!r}, weights={weights!r}): expected one of {', '.join(names)}"
                f"{did_you_mean(weights, names)}"
            )
        try:
            self.model = models.get_model(name, weights=weights)
        except OSError as error:
            url = available[weights].url
            folder = f"{torch.hub.get_dir()}/checkpoints"
            raise DataError(
                f"ImageClassifier(net={name!r}, weights={weights!r}): {url} cannot be downloaded ({error}); "
                f"put the file into {folder}, or set weights to null"
            ) from None
        _replace_last_layer(self.model, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, 1 or 3, height, width) to logits (batch, classes)."""
        output: Any = self.model(images.expand(-1, 3, -1, -1))
        # GoogLeNet and Inception return (logits, auxiliary logits) while they train
        logits: Tensor = output if isinstance(output, Tensor) else output[0]
        return logits


def _replace_last_layer(model: nn.Module, num_classes: int) -> None:
    """Put a fresh layer with `num_classes` outputs in the place of the last one that classifies."""
    path, last = [(p, m) for p, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    parent = model.get_submodule(path.rpartition(".")[0])
    fresh: nn.Module
    if isinstance(last, nn.Linear):
        fresh = nn.Linear(last.in_features, num_classes)
    else:
        fresh = nn.Conv2d(last.in_channels, num_classes, kernel_size=1)  # SqueezeNet
    setattr(parent, path.rpartition(".")[2], fresh)


def build_network(
    net: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: int,
    dropout: float,
    weights: str | None,
) -> nn.Module:
    """Build the network called `net`; see `ImageClassifier` for the arguments.

    Raises:
        ConfigError: no network has this name; says the nearest one.
    """
    if net in ("mlp", "small_cnn") and weights is not None:
        raise ConfigError(
            f"ImageClassifier(net={net!r}, weights={weights!r}): only torchvision's models have weights"
        )
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
    return TorchvisionNet(net, num_classes, weights)
