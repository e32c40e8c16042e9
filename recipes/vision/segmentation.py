"""Semantic segmentation: which class is each pixel of?

Data: batches of float images (batch, 3, size, size) and masks of class numbers (batch, size, size), as
`segmentation_data.py` gives them. Metrics: cross-entropy, the share of pixels that are right, and the mean
over the classes of intersection over union (Jaccard index), counted over the whole set and logged as
`val_iou` and `test_iou`, after a test also one by one. Pixels of `ignore_index` count for nothing.
After the fit `plots/curves.png`, after the test `plots/predictions.png` are in the run directory, and in
TensorBoard.

What to expect: see docs/recipes/vision_segmentation.md for what was measured on the synthetic default.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lightkit as lk
from lightkit.errors import ConfigError, did_you_mean, require
from recipes.classes import check_classes
from recipes.plots import Curves
from recipes.schedules import Schedule, adamw
from recipes.vision import raw
from recipes.vision.panels import Panels, color_of, colors_of, enlarged, to_bytes
from recipes.vision.pretrained import average_faster, check_weights, copy_pretrained


class Segmenter(lk.LightModule):
    """Train a segmentation model of torchvision, with AdamW under a one-cycle learning rate.

    Args:
        net: name of the model: "lraspp_mobilenet_v3_large" (the smallest), "deeplabv3_resnet50", "fcn_resnet50", ...
        num_classes: number of classes, the background included; it must be the data's.
        weights: pretrained weights: "DEFAULT", a name, or a file; None starts at random. They are read when a
            fit, or another run without a checkpoint, begins.
        lr: peak of the learning rate.
        weight_decay: AdamW's decoupled weight decay.
        schedule: "one_cycle" or "constant".
        label_smoothing: share of the target that is spread over all classes, in training only.
        ignore_index: mask value that counts for nothing; the data's.
        channels_last: keep images and convolutions in channels-last layout.

    Raises:
        ConfigError: an unknown `net` or `weights`, a one-cycle schedule for a fit without an end.
        DataError: the data has another number of classes.
    """

    raw_input = "image"

    def __init__(
        self,
        net: str = "lraspp_mobilenet_v3_large",
        num_classes: int = 4,
        weights: str | None = None,
        lr: float = 0.003,
        weight_decay: float = 0.01,
        schedule: Schedule = "one_cycle",
        label_smoothing: float = 0.0,
        ignore_index: int = 255,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        models = require("torchvision.models", "vision", needed_by="Segmenter")
        names = models.list_models(module=models.segmentation)
        if net not in names:
            raise ConfigError(f"Segmenter(net={net!r}): expected one of {', '.join(names)}{did_you_mean(net, names)}")
        check_weights("Segmenter", net, weights)
        # without weights_backbone torchvision would download some
        self.net = models.get_model(net, weights=None, weights_backbone=None, num_classes=num_classes)
        average_faster(self.net)
        if channels_last:
            self.net.to(memory_format=torch.channels_last)
        self.net_name = net
        self.num_classes = num_classes
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule: Schedule = schedule
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.channels_last = channels_last
        self.picture_input: raw.PictureInput | None = None
        self.example_input_array = raw.example(3, 64)
        self._weights_to_read = weights
        self._counts: Tensor | None = None  # pixels by true and predicted class

    def setup(self, stage: str) -> None:
        """Compare the data's classes with the network's, and read pretrained weights."""
        data = self.trainer.datamodule
        names = getattr(data, "class_names", None)
        if names is not None:
            check_classes("Segmenter", self.num_classes, names)
        self.picture_input = getattr(data, "picture_input", self.picture_input)
        if self._weights_to_read is not None:
            copy_pretrained(self.net, "Segmenter", self.net_name, self._weights_to_read)
            self._weights_to_read = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the names of the classes and what an image file needs to become an input."""
        raw.put(self.picture_input, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back; the checkpoint's weights take the place of pretrained ones."""
        self.picture_input = raw.take(checkpoint)
        self._weights_to_read = None

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and, of the test, images beside their masks."""
        curves = Curves({"loss": ("train_loss", "val_loss"), "mean IoU": ("val_iou",), "pixels right": ("val_acc",)})
        return [curves, Panels(("image", "truth", "prediction"))]

    def configure_optimizers(self) -> Any:
        """Return AdamW and, unless the rate is constant, its one-cycle schedule, stepped every batch."""
        return adamw(self, self.lr, self.weight_decay, self.schedule)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, 3, height, width) to logits (batch, classes, height, width)."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.net(images)["out"]
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the pixels, a 0-dim tensor; log it."""
        images, masks = batch
        loss = self._loss(self(images), masks, self.label_smoothing)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and count the pixels."""
        self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        """Log the loss and count the pixels; return the pictures of the first batch that `Panels` draws."""
        predicted = self._evaluate(batch, "test")
        rows = self._panels(batch, predicted) if batch_idx == 0 else []
        return {"panels": rows, "colors": colors_of(self.class_names[1:])}

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the class of every pixel, int64 (batch, height, width), for images with or without masks."""
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        return self(images).argmax(dim=1)

    @torch.no_grad()
    def predict_raw(self, path: str) -> list[tuple[str, float]]:
        """Return the name of every class and its expected share of the pixels of one image file, largest first.

        The model is in evaluation mode afterwards.
        """
        settings = raw.needed(self.picture_input, "Segmenter")
        self.eval()
        shares = self(settings.read(path, self.device)).softmax(dim=1).mean(dim=(0, 2, 3))
        ranked = shares.sort(descending=True)
        numbers, values = ranked.indices.tolist(), ranked.values.tolist()
        return [(settings.name(number), share) for number, share in zip(numbers, values, strict=True)]

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._counts = None

    def on_test_epoch_start(self) -> None:
        """Begin to count."""
        self._counts = None

    def on_validation_epoch_end(self) -> None:
        """Log the mean intersection over union and the share of pixels that are right."""
        self._log_counts("val")

    def on_test_epoch_end(self) -> None:
        """Log the same of the test, and each class by itself."""
        ious = self._log_counts("test")
        by_name = zip(self.class_names, ious, strict=True)
        self.log_dict({f"test_iou_{name}": iou for name, iou in by_name if iou >= 0})

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, or their numbers where the data has no names."""
        if self.picture_input is None:
            return [str(number) for number in range(self.num_classes)]
        return self.picture_input.class_names

    def _loss(self, logits: Tensor, masks: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(logits, masks, ignore_index=self.ignore_index, label_smoothing=label_smoothing)

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        images, masks = batch
        logits = self(images)
        self.log(f"{stage}_loss", self._loss(logits, masks), prog_bar=True)
        predicted = logits.argmax(dim=1)
        counts = pixel_counts(masks, predicted, self.num_classes, self.ignore_index)
        self._counts = counts if self._counts is None else self._counts + counts
        return predicted

    def _log_counts(self, stage: str) -> list[float]:
        assert self._counts is not None
        ious = intersection_over_union(self._counts)
        self.log(f"{stage}_iou", ious[ious >= 0].mean(), prog_bar=True)
        if stage == "val":
            self.log("hp_metric", ious[ious >= 0].mean())
        self.log(f"{stage}_acc", self._counts.diagonal().sum() / self._counts.sum().clamp(min=1))
        values: list[float] = ious.tolist()
        return values

    def _panels(self, batch: tuple[Tensor, Tensor], predicted: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        images, masks = batch
        rows = []
        for image, mask, guess in zip(images, masks, predicted, strict=True):
            picture = to_bytes(image)
            rows.append((picture, self._painted(picture, mask), self._painted(picture, guess)))
        return rows

    def _painted(self, picture: Tensor, mask: Tensor) -> Tensor:
        utils = require("torchvision.utils", "vision", needed_by="Segmenter")
        numbers = range(1, self.num_classes)
        regions = torch.stack([enlarged(mask.cpu()) == number for number in numbers])
        painted: Tensor = utils.draw_segmentation_masks(
            picture, regions, alpha=0.9, colors=[color_of(number) for number in numbers]
        )
        return painted


def pixel_counts(masks: Tensor, predicted: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column), int64 (classes, classes).

    Args:
        masks: int64, the true classes; those of `ignore_index` are not counted.
        predicted: int64 of the same shape.
        num_classes: number of classes.
        ignore_index: value of `masks` that counts for nothing.
    """
    counted = masks != ignore_index
    pairs = masks[counted] * num_classes + predicted[counted]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def intersection_over_union(counts: Tensor) -> Tensor:
    """Return each class's pixels that are right over all that are it or were taken for it, 0 to 1; -1 where none.

    Args:
        counts: int64 (classes, classes), as `pixel_counts` gives them.
    """
    right = counts.diagonal()
    either = counts.sum(dim=0) + counts.sum(dim=1) - right
    return torch.where(either > 0, right / either.clamp(min=1), -1.0)
