"""Transfer learning: a network that learned on other images learns to tell your classes apart.

The backbone, a classification model of torchvision without its last layer, is frozen at first, so that a new last
layer can learn on its features; `BackboneFinetuning` thaws it later, with a smaller learning rate. Data: the data
modules in `data.py`, mostly `ImageFolderData`. Metrics, curves and reports are those of `ImageClassifier`
(`classification.py`); `learning_parameters` is logged every epoch and printed when it changes.

What to expect: `vision/transfer` on 244 photographs of ants and bees (64x64 pixels), where the backbone starts at
random, reaches 0.68 validation accuracy (0.54 are bees) in 35 s of one CPU core; pretrained weights, which
need a download, are what transfer learning is for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightkit.errors import ConfigError, require
from recipes.schedules import adamw
from recipes.vision.base import BaseClassifier, Views
from recipes.vision.networks import TorchvisionNet
from recipes.vision.pretrained import check_weights, copy_pretrained


class TransferClassifier(BaseClassifier):
    """Train a new last layer on a torchvision backbone, with AdamW at a constant rate.

    Args:
        net: a classification model of torchvision whose last layer is linear ("resnet18", "vit_b_16", ...).
        num_classes: number of classes; it must be the data's.
        weights: pretrained weights of the backbone: "DEFAULT" or another name that torchvision downloads, a file
            with its `state_dict`, or None to start at random. They are read when a run without a checkpoint begins.
        dropout: share of features that are dropped before the last layer.
        lr: learning rate of the last layer; the backbone's is BackboneFinetuning's affair.
        weight_decay: AdamW's decoupled weight decay.
        label_smoothing: share of the target that is spread over all classes, in training only.
        channels_last: keep images and convolutions in channels-last layout.
        test_time_augmentation: see `ImageClassifier`.

    Attributes:
        backbone: maps images to features (batch, features).
        head: maps features to logits (batch, classes).

    Raises:
        ConfigError: an unknown `net` or `weights`, or a `net` that does not end in a linear layer.
        DataError: weights that cannot be had or read; data with another number of classes.
    """

    def __init__(
        self,
        net: str = "resnet18",
        num_classes: int = 2,
        weights: str | None = None,
        dropout: float = 0.2,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.0,
        channels_last: bool = True,
        test_time_augmentation: Views = "none",
    ) -> None:
        super().__init__(num_classes, None, label_smoothing, channels_last, test_time_augmentation)
        self.save_hyperparameters()
        models = require("torchvision.models", "vision", needed_by=f"TransferClassifier(net={net!r})")
        if net not in models.list_models(module=models):
            raise ConfigError(
                f"TransferClassifier(net={net!r}): expected a classification model of torchvision such as 'resnet18'"
            )
        check_weights("TransferClassifier", net, weights)
        self.net_name, self.lr, self.weight_decay = net, lr, weight_decay
        self.backbone = TorchvisionNet(net, num_classes)
        features = _take_last_layer(self.backbone.model, net)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes))
        if channels_last:
            self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # not read in __init__: a checkpoint brings its own, and must not need the network
        self._weights_to_read = weights
        self._learning = -1

    def setup(self, stage: str) -> None:
        """Compare the data with the network, and read pretrained weights."""
        super().setup(stage)
        if self._weights_to_read is not None:
            copy_pretrained(self.backbone.model, "TransferClassifier", self.net_name, self._weights_to_read)
            self._weights_to_read = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take what the checkpoint holds; its weights take the place of pretrained ones."""
        super().on_load_checkpoint(checkpoint)
        self._weights_to_read = None

    def configure_optimizers(self) -> Any:
        """Return AdamW over what learns from the start; a callback adds the backbone later."""
        # no schedule: most hold a rate for each parameter group, and take no group that is added later
        return adamw(self, self.lr, self.weight_decay, "constant")

    def on_train_epoch_start(self) -> None:
        """Log how many parameters learn, and print it when the number changes."""
        parameters = list(self.parameters())
        learning = sum(p.numel() for p in parameters if p.requires_grad)
        self.log("learning_parameters", float(learning), on_epoch=True)
        if learning != self._learning:
            total = sum(p.numel() for p in parameters)
            self.print(f"Epoch {self.current_epoch}: {learning:,} of {total:,} parameters learn")
            self._learning = learning

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, 1 or 3, height, width) to logits (batch, classes)."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.head(self.backbone(images))
        return logits


def _take_last_layer(model: nn.Module, net: str) -> int:
    """Put nothing in the place of the model's last layer, and return how many features it took.

    Raises:
        ConfigError: the last layer is not linear, as in SqueezeNet.
    """
    path, last = [(p, m) for p, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    if not isinstance(last, nn.Linear):
        raise ConfigError(
            f"TransferClassifier(net={net!r}): its last layer is a {type(last).__name__}, expected nn.Linear; "
            "take another network, such as 'resnet18'"
        )
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Identity())
    return last.in_features
