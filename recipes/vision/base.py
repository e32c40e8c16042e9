"""What image classifiers share whatever their network and optimizer: steps, metrics, views, image files."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lightkit as lk
from lightkit.errors import DataError
from recipes.classes import accuracy, check_classes
from recipes.plots import ClassificationReport, Curves
from recipes.vision import raw

Views = Literal["none", "mirror", "mirror_shift"]


class BaseClassifier(lk.LightModule):
    """Tell classes of images apart; a subclass gives the network with `use_network` and the optimizer.

    Args:
        num_classes: number of classes; it must be the data's.
        in_channels: channels that the network takes; None takes the data's, whatever they are.
        label_smoothing: share of the target that is spread over all classes, in training only.
        channels_last: keep images and convolutions in channels-last layout.
        test_time_augmentation: what tests and predictions average the logits of: "none" the image alone,
            "mirror" it and its mirror image, "mirror_shift" these, also moved by a pixel to either corner.

    Attributes:
        picture_input: how image files become inputs, and the names of the classes; travels in checkpoints.
    """

    raw_input = "image"
    net: nn.Module

    def __init__(
        self,
        num_classes: int,
        in_channels: int | None,
        label_smoothing: float,
        channels_last: bool,
        test_time_augmentation: Views,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.label_smoothing = label_smoothing
        self.channels_last = channels_last
        self.test_time_augmentation = test_time_augmentation
        self.picture_input: raw.PictureInput | None = None
        self.example_input_array = raw.example(in_channels or 3)

    def use_network(self, net: nn.Module) -> None:
        """Take `net`, which maps images to logits (batch, classes)."""
        if self.channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net = net

    def setup(self, stage: str) -> None:
        """Compare the data's classes and shape with the network's, before the first batch."""
        data = self.trainer.datamodule
        self.check_data(getattr(data, "class_names", None), getattr(data, "image_shape", None))
        self._take_pictures(getattr(data, "picture_input", self.picture_input))

    def check_data(self, names: list[str] | None, shape: tuple[int, int, int] | None) -> None:
        """Raise DataError where the classes or the channels are not the network's; None is not known."""
        owner = type(self).__name__
        if names is not None:
            check_classes(owner, self.num_classes, names)
        if shape is not None and self.in_channels is not None and shape[0] != self.in_channels:
            raise DataError(
                f"{owner}(in_channels={self.in_channels}): the data has {shape[0]} channels; "
                f"set model.in_channels to {shape[0]}"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the names of the classes and what an image file needs to become an input."""
        raw.put(self.picture_input, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back."""
        self._take_pictures(raw.take(checkpoint))

    def _take_pictures(self, settings: raw.PictureInput | None) -> None:
        self.picture_input = settings
        if settings is not None:
            self.example_input_array = raw.example(settings.channels, settings.image_size)

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and the report on the test."""
        return [Curves(), ClassificationReport()]

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, channels, height, width) to logits (batch, classes)."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the smoothed cross-entropy of the batch, a 0-dim tensor; log it and the accuracy.

        The labels are numbers, int64 (batch,), or shares of the classes, float (batch, classes).
        """
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_acc", accuracy(logits, labels), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and accuracy of the validation images."""
        images, labels = batch
        self._log_evaluation(self(images), labels, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Log loss and accuracy of the test images; return what `ClassificationReport` draws from."""
        images, labels = batch
        logits = self._logits_of_views(images)
        self._log_evaluation(logits, labels, "test")
        return {"inputs": images, "logits": logits, "labels": labels}

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the probabilities of the classes, (batch, classes), for images with or without labels."""
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        return self._logits_of_views(images).softmax(dim=1)

    @torch.no_grad()
    def predict_raw(self, path: str) -> list[tuple[str, float]]:
        """Return the name and the probability of every class, most likely first, for one image file.

        The model is in evaluation mode afterwards.

        Raises:
            DataError: the file cannot be read as an image; names the file.
            CheckpointError: the model was trained without a data module that says what its images are.
        """
        settings = raw.needed(self.picture_input, type(self).__name__)
        self.eval()
        probabilities = self._logits_of_views(settings.read(path, self.device)).softmax(dim=1)[0]
        ranked = probabilities.sort(descending=True)
        return [
            (settings.name(number), probability)
            for number, probability in zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True)
        ]

    def _logits_of_views(self, images: Tensor) -> Tensor:
        """Return the mean of the logits of an image's views, (batch, classes)."""
        if self.test_time_augmentation == "none":
            logits: Tensor = self(images)
            return logits
        mean = self._logits_both_ways(images)
        if self.test_time_augmentation == "mirror_shift":
            wide = F.pad(images, [1, 1, 1, 1], mode="reflect")
            corners = self._logits_both_ways(wide[:, :, :-2, :-2]) + self._logits_both_ways(wide[:, :, 2:, 2:])
            # the image itself counts as much as its two shifted copies
            mean = mean / 2 + corners / 4
        return mean

    def _logits_both_ways(self, images: Tensor) -> Tensor:
        logits: Tensor = (self(images) + self(images.flip(-1))) / 2
        return logits

    def _log_evaluation(self, logits: Tensor, labels: Tensor, stage: str) -> None:
        self.log(f"{stage}_loss", F.cross_entropy(logits, labels), prog_bar=True, sync_dist=True)
        right = accuracy(logits, labels)
        self.log(f"{stage}_acc", right, prog_bar=True, sync_dist=True)
        if stage == "val":
            self.log("hp_metric", right, sync_dist=True)
