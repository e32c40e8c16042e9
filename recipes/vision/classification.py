"""Image classification: which of `num_classes` does the picture show?

Data: batches of float images (batch, channels, height, width) and class numbers (batch,), as the data
modules in `data.py` give them. Metrics: cross-entropy and accuracy, logged as `train_loss`, `train_acc`,
`val_loss`, `val_acc`, `test_loss`, `test_acc`; the losses of validation and test are without smoothing.
After the fit `plots/curves.png`, after the test `plots/confusion_matrix.png` and
`plots/worst_mistakes.png` are in the run directory, and in TensorBoard.

What to expect, on two CPU cores: handwritten digits (`vision/digits`) 0.994 to 1.0 test accuracy
in 10 s, MNIST (`vision/mnist`) 0.994 in 40 s, 2,700 small photographs of ten kinds (`vision/image_folder`
on part of CIFAR-10) 0.62 in a minute.
"""

from __future__ import annotations

from typing import Any

from lightkit.errors import DataError
from recipes.schedules import Schedule, adamw
from recipes.vision import raw
from recipes.vision.base import BaseClassifier, Views
from recipes.vision.networks import TorchvisionNet, build_network
from recipes.vision.pretrained import check_weights, copy_pretrained


class ImageClassifier(BaseClassifier):
    """Train a network to tell classes of images apart, with AdamW under a one-cycle learning rate.

    Args:
        net: "mlp", "small_cnn", or a classification model of torchvision by name ("resnet18", ...).
        num_classes: number of classes; it must be the data's.
        in_channels: 1 for grey images, 3 for colour; torchvision's models take both.
        image_size: height and width of the images; only "mlp" depends on it.
        width: channels of the first stage of "small_cnn", units of "mlp"; torchvision's models have theirs.
        dropout: share of features that "mlp" and "small_cnn" drop before their last layer.
        weights: pretrained weights of a torchvision model: "DEFAULT", a name, or a file; None starts at random.
            They are read when a fit, or another run without a checkpoint, begins.
        lr: peak of the learning rate.
        weight_decay: AdamW's decoupled weight decay (Loshchilov, Hutter 2019).
        schedule: "one_cycle" rises to `lr` and falls to nearly 0 over the whole fit (Smith, Topin 2018);
            "constant" stays at `lr`.
        label_smoothing: share of the target that is spread over all classes, in training only.
        channels_last: keep images and convolutions in channels-last layout, which is faster on CPUs, and on
            GPUs with tensor cores.
        test_time_augmentation: what tests and predictions average the logits of: "none" the image alone,
            "mirror" it and its mirror image, "mirror_shift" these, also moved by a pixel to either corner.

    Attributes:
        picture_input: how image files become inputs, and the names of the classes; travels in checkpoints.

    Raises:
        ConfigError: an unknown `net` or `weights`, a one-cycle schedule for a fit without an end.
        DataError: the data's classes, channels or size do not fit `num_classes`, `in_channels`, `image_size`.
    """

    def __init__(
        self,
        net: str = "small_cnn",
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        width: int = 32,
        dropout: float = 0.1,
        weights: str | None = None,
        lr: float = 0.01,
        weight_decay: float = 0.05,
        schedule: Schedule = "one_cycle",
        label_smoothing: float = 0.0,
        channels_last: bool = True,
        test_time_augmentation: Views = "none",
    ) -> None:
        own_networks = ("mlp", "small_cnn")
        super().__init__(
            num_classes,
            in_channels if net in own_networks else None,
            label_smoothing,
            channels_last,
            test_time_augmentation,
        )
        self.save_hyperparameters()
        self.use_network(
            build_network(
                net,
                num_classes=num_classes,
                in_channels=in_channels,
                image_size=image_size,
                width=width,
                dropout=dropout,
            )
        )
        check_weights("ImageClassifier", net, weights)
        self.net_name = net
        self.image_size = image_size
        self.example_input_array = raw.example(in_channels, image_size)
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule: Schedule = schedule
        # not read in __init__: a checkpoint brings its own, and must not need the network
        self._weights_to_read = weights

    def setup(self, stage: str) -> None:
        """Compare the data with the network, and read pretrained weights."""
        super().setup(stage)
        if self._weights_to_read is not None:
            assert isinstance(self.net, TorchvisionNet)
            copy_pretrained(self.net.model, "ImageClassifier", self.net_name, self._weights_to_read)
            self._weights_to_read = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the names and sizes that the checkpoint holds; its weights take the place of pretrained ones."""
        super().on_load_checkpoint(checkpoint)
        self._weights_to_read = None

    def check_data(self, names: list[str] | None, shape: tuple[int, int, int] | None) -> None:
        """Raise DataError where classes, channels or, for "mlp", the size are not the network's."""
        super().check_data(names, shape)
        if shape is not None and self.net_name == "mlp" and shape[1:] != (self.image_size, self.image_size):
            raise DataError(
                f"ImageClassifier(image_size={self.image_size}): the data is {shape[1]}x{shape[2]} pixels; "
                f"set model.image_size to {shape[1]}"
            )

    def configure_optimizers(self) -> Any:
        """Return AdamW and, unless the rate is constant, its one-cycle schedule, stepped every batch."""
        return adamw(self, self.lr, self.weight_decay, self.schedule)
