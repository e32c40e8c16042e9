"""Object detection: which objects are in the picture, and where?

Data: batches of images of any sizes and of their boxes and labels, as `detection_data.py` gives them, from
annotations in COCO's form. Metric: COCO's mean average precision, by torchmetrics with pycocotools, logged as
`val_map` (mean over overlaps from 0.5 to 0.95), `val_map_50` (overlap 0.5), `test_map`, `test_map_50` and, after
a test, `test_map_CLASS`. These models give losses in training only, so there is no `val_loss`.
After the fit `plots/curves.png`, after the test `plots/predictions.png` are in the run directory, and in
TensorBoard.

What to expect: see docs/recipes/vision_detection.md for what was measured on the synthetic default.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

import lightkit as lk
from lightkit.errors import CheckpointError, ConfigError, did_you_mean, require
from recipes.classes import check_classes
from recipes.plots import Curves
from recipes.schedules import Schedule, adamw
from recipes.vision.files import open_picture, to_tensor
from recipes.vision.panels import Panels, color_of, colors_of, enlargement, to_bytes
from recipes.vision.pretrained import average_faster, check_weights, copy_pretrained

Target = dict[str, Tensor]
_NEED_MORE_THAN_BOXES = ("maskrcnn", "keypointrcnn")


class Detector(lk.LightModule):
    """Train a detection model of torchvision, with AdamW under a one-cycle learning rate.

    Args:
        net: name of the model: "fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large",
            "fasterrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2", ...
        num_classes: number of classes of objects; it must be the data's.
        weights: pretrained weights: "DEFAULT", a name, or a file; None starts at random. They are read when a
            fit, or another run without a checkpoint, begins.
        options: further arguments of the model's builder in torchvision, such as `min_size: 320`.
        lr: peak of the learning rate.
        weight_decay: AdamW's decoupled weight decay.
        schedule: "one_cycle" or "constant".
        min_score: predictions below it are not drawn, nor returned by `predict_raw`; the metric counts all.

    Raises:
        ConfigError: an unknown `net`, `weights` or option, a one-cycle schedule for a fit without an end.
        DataError: the data has another number of classes.
    """

    raw_input = "image"

    def __init__(
        self,
        net: str = "fasterrcnn_mobilenet_v3_large_320_fpn",
        num_classes: int = 3,
        weights: str | None = None,
        options: dict[str, Any] | None = None,
        lr: float = 0.001,
        weight_decay: float = 0.01,
        schedule: Schedule = "one_cycle",
        min_score: float = 0.5,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        models = require("torchvision.models", "vision", needed_by="Detector")
        names = [n for n in models.list_models(module=models.detection) if not n.startswith(_NEED_MORE_THAN_BOXES)]
        if net not in names:
            raise ConfigError(f"Detector(net={net!r}): expected one of {', '.join(names)}{did_you_mean(net, names)}")
        check_weights("Detector", net, weights)
        # one class more than the data's: 0 is the background; without weights_backbone some would be downloaded
        self.net = models.get_model(
            net, weights=None, weights_backbone=None, num_classes=num_classes + 1, **(options or {})
        )
        average_faster(self.net)
        _check_options(net, options or {}, models.get_model_builder(net), type(self.net))
        self.net_name = net
        self.num_classes = num_classes
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule: Schedule = schedule
        self.min_score = min_score
        self.class_names: list[str] | None = None
        self._weights_to_read = weights
        # a metric as attribute would be a submodule: in the summary, and moved to the device
        self._precision: dict[str, Any] = {}

    def setup(self, stage: str) -> None:
        """Compare the data's classes with the network's, and read pretrained weights."""
        names = getattr(self.trainer.datamodule, "class_names", None)
        if names is not None:
            check_classes("Detector", self.num_classes, names)
        self.class_names = names or self.class_names
        if self._weights_to_read is not None:
            copy_pretrained(self.net, "Detector", self.net_name, self._weights_to_read)
            self._weights_to_read = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the names of the classes."""
        if self.class_names is not None:
            checkpoint["class_names"] = list(self.class_names)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back; the checkpoint's weights take the place of pretrained ones."""
        self.class_names = checkpoint.get("class_names")
        self._weights_to_read = None

    def configure_callbacks(self) -> list[lk.Callback]:
        """Return the callbacks that draw the curves and, of the test, images with their boxes."""
        curves = Curves({"loss": ("train_loss",), "mean average precision": ("val_map", "val_map_50")})
        return [curves, Panels(("truth", "prediction"))]

    def configure_optimizers(self) -> Any:
        """Return AdamW and, unless the rate is constant, its one-cycle schedule, stepped every batch."""
        return adamw(self, self.lr, self.weight_decay, self.schedule)

    def forward(self, images: list[Tensor]) -> list[Target]:
        """Map float images (3, height, width), 0 to 1, to `boxes`, `labels` and `scores` each, best first."""
        found: list[Target] = self.net(images)
        return found

    def training_step(self, batch: tuple[list[Tensor], list[Target]], batch_idx: int) -> Tensor:
        """Return the sum of the model's losses, a 0-dim tensor; log it and each of them."""
        images, targets = batch
        losses: dict[str, Tensor] = self.net(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images))
        for name, value in losses.items():
            self.log(f"train_{name}", value, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: tuple[list[Tensor], list[Target]], batch_idx: int) -> None:
        """Give the predictions to the metric."""
        self._evaluate(batch, "val")

    def test_step(self, batch: tuple[list[Tensor], list[Target]], batch_idx: int) -> dict[str, Any]:
        """Give the predictions to the metric; return the pictures of the first batch that `Panels` draws."""
        found = self._evaluate(batch, "test")
        rows = []
        if batch_idx == 0:
            for image, target, guess in zip(*batch, found, strict=True):
                rows.append((self._drawn(image, target), self._drawn(image, guess)))
        return {"panels": rows, "colors": colors_of(self._names)}

    def predict_step(self, batch: Any, batch_idx: int) -> list[Target]:
        """Return boxes, labels and scores of every image, for batches with or without targets."""
        # pinning turns the tuple of images and targets into a list
        return self(batch if isinstance(batch[0], Tensor) else batch[0])

    @torch.no_grad()
    def predict_raw(self, path: str) -> list[tuple[str, float]]:
        """Return the objects in one image file, best first: class with the box's corners in pixels, and score.

        The model is in evaluation mode afterwards.

        Raises:
            DataError: the file cannot be read as an image; names the file.
            CheckpointError: the model was trained without a data module that names the classes.
        """
        if self.class_names is None:
            raise CheckpointError(
                "Detector.predict_raw(...): the model does not know the names of its classes; train it with "
                "DetectionData, or set model.class_names"
            )
        self.eval()
        [found] = self([to_tensor(open_picture(path, "RGB")).to(self.device) / 255])
        objects = []
        for box, label, score in zip(*(found[key].tolist() for key in ("boxes", "labels", "scores")), strict=True):
            if score >= self.min_score:
                left, top, right, bottom = (round(edge) for edge in box)
                objects.append((f"{self.class_names[label - 1]} at {left},{top} to {right},{bottom}", score))
        return objects

    def on_validation_epoch_start(self) -> None:
        """Begin to collect predictions."""
        self._begin("val")

    def on_test_epoch_start(self) -> None:
        """Begin to collect predictions."""
        self._begin("test")

    def on_validation_epoch_end(self) -> None:
        """Log the mean average precision."""
        self._log_precision("val")

    def on_test_epoch_end(self) -> None:
        """Log the same of the test, and each class by itself."""
        result = self._log_precision("test")
        numbers, values = result["classes"].view(-1).tolist(), result["map_per_class"].view(-1).tolist()
        self.log_dict({f"test_map_{self._names[n - 1]}": v for n, v in zip(numbers, values, strict=True) if v >= 0})

    @property
    def _names(self) -> list[str]:
        return self.class_names or [str(number) for number in range(1, self.num_classes + 1)]

    def _begin(self, stage: str) -> None:
        detection = require("torchmetrics.detection", "vision", needed_by="Detector")
        require("pycocotools", "vision", needed_by="Detector")
        self._precision[stage] = detection.MeanAveragePrecision(class_metrics=stage == "test")
        self._precision[stage].warn_on_many_detections = False  # the models are asked for up to 100 and more

    def _evaluate(self, batch: tuple[list[Tensor], list[Target]], stage: str) -> list[Target]:
        images, targets = batch
        found = self(images)
        on_cpu = [[{k: v.detach().cpu() for k, v in each.items()} for each in part] for part in (found, targets)]
        self._precision[stage].update(*on_cpu)
        return found

    def _log_precision(self, stage: str) -> dict[str, Tensor]:
        result: dict[str, Tensor] = self._precision.pop(stage).compute()
        # -1 where the set holds no object at all
        self.log(f"{stage}_map", result["map"].clamp(min=0), prog_bar=True)
        self.log(f"{stage}_map_50", result["map_50"].clamp(min=0), prog_bar=True)
        if stage == "val":
            self.log("hp_metric", result["map"].clamp(min=0))
        return result

    def _drawn(self, image: Tensor, objects: Target) -> Tensor:
        utils = require("torchvision.utils", "vision", needed_by="Detector")
        sure = slice(None) if "scores" not in objects else objects["scores"].cpu() >= self.min_score
        boxes, labels = objects["boxes"].cpu()[sure], objects["labels"].cpu()[sure].tolist()
        if not labels:
            return to_bytes(image)
        colors = [color_of(label) for label in labels]
        drawn: Tensor = utils.draw_bounding_boxes(to_bytes(image), boxes * enlargement(image), colors=colors, width=3)
        return drawn


def _check_options(net: str, options: dict[str, Any], *takers: Any) -> None:
    """Raise ConfigError for an option that none of `takers` names; torchvision's models swallow any."""
    known = {name for taker in takers for name in inspect.signature(taker).parameters} - {"kwargs"}
    for name in options:
        if name not in known:
            raise ConfigError(
                f"Detector(net={net!r}, options=...): the model has no argument {name!r} (it has: "
                f"{', '.join(sorted(known))}){did_you_mean(name, known)}"
            )
