"""The small sets of images that torchvision reads and downloads, held in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lightkit as lk
from lightkit.errors import ConfigError, DataError, MissingDataError, did_you_mean, require
from recipes.splits import check_fraction, stratified_split
from recipes.vision.image_data import ImageData, check_labels
from recipes.vision.images import TensorImages

# per set: mean and standard deviation of each channel of the training images, from 0 to 1
_TORCHVISION_SETS: dict[str, tuple[list[float], list[float]]] = {
    "MNIST": ([0.1307], [0.3081]),
    "FashionMNIST": ([0.2860], [0.3530]),
    "KMNIST": ([0.1918], [0.3483]),
    "CIFAR10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "CIFAR100": ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
}


class TorchvisionData(ImageData):
    """MNIST, FashionMNIST, KMNIST (28x28 grey), CIFAR10 or CIFAR100 (32x32 colour), read by torchvision.

    The set's own test part is the test set; `val_fraction` of its training part, an equal share of each
    class, is the validation set. All images are held in memory as bytes.

    Args:
        name: the class in `torchvision.datasets`.
        root: folder that holds, or gets, the set: `ROOT/MNIST/raw/...`, `ROOT/cifar-10-batches-py/...`.
        download: fetch the files where they are missing.
        val_fraction: share of the training images to validate with.
        **settings: the arguments of `ImageData`.

    Raises:
        ConfigError: `name` is none of these, or `val_fraction` is not between 0 and 1.
        MissingDataError: the files are not there and cannot be downloaded; says which to put where.
        DataError: a label is no number of a class, names file and row.
    """

    def __init__(
        self,
        name: str = "MNIST",
        root: str = "data",
        download: bool = True,
        val_fraction: float = 0.1,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if name not in _TORCHVISION_SETS:
            known = ", ".join(_TORCHVISION_SETS)
            raise ConfigError(
                f"TorchvisionData(name={name!r}): expected one of {known}"
                f"{did_you_mean(name, _TORCHVISION_SETS)}"
            )
        check_fraction("TorchvisionData", "val_fraction", val_fraction)
        self.dataset = name
        self.root = Path(root)
        self.download = download
        self.val_fraction = val_fraction
        self._made_up = False
        self.save_hyperparameters(ignore=["augment", "mix"])

    def prepare_data(self) -> None:
        """Download the files that are missing, where `download` says so; needs the network for that alone."""
        if self.download:
            self._read(train=True, download=True)

    def setup(self, stage: str) -> None:
        """Read the images that the stage needs, and split off the validation images."""
        self.mean, self.std = _TORCHVISION_SETS[self.dataset]
        if stage in ("fit", "validate") and "train" not in self.sets:
            images, labels = self._read(train=True)
            train, val = stratified_split(labels, self.val_fraction, self.split_seed)
            for part, where in (("train", train), ("val", val)):
                self.sets[part] = TensorImages(images[where], labels[where], **self.treatment(part))
        elif stage in ("test", "predict") and "test" not in self.sets:
            self.sets["test"] = TensorImages(*self._read(train=False), **self.treatment("test"))

    def _read(self, *, train: bool, download: bool = False) -> tuple[Tensor, Tensor]:
        """Return images, uint8 (images, channels, height, width), and labels; sets names and shape."""
        if self._made_up:
            return self._noise()
        who = f"TorchvisionData(name={self.dataset!r})"
        datasets = require("torchvision.datasets", "vision", needed_by=who)
        source = getattr(datasets, self.dataset)
        try:
            found = source(str(self.root), train=train, download=download)
        except (RuntimeError, OSError, ValueError, EOFError, AssertionError) as error:
            raise self._not_read(source, error) from None
        images = torch.as_tensor(found.data)
        # MNIST's kind has no channel, CIFAR's has it last
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        self.class_names = [name.partition(" - ")[0] for name in found.classes]  # MNIST: "7 - seven"
        self.image_shape = (images.shape[1], images.shape[2], images.shape[3])
        labels = torch.as_tensor(found.targets)
        check_labels(labels, self.class_names, str(self._labels_file(source, train=train)))
        return images, labels

    def _noise(self) -> tuple[Tensor, Tensor]:
        """Return images of noise, at least four of each class and two batches; sets names and shape."""
        self.image_shape = (3, 32, 32) if self.dataset.startswith("CIFAR") else (1, 28, 28)
        self.class_names = [str(number) for number in range(100 if self.dataset == "CIFAR100" else 10)]
        labels = torch.arange(max(4 * len(self.class_names), 2 * self.batch_size)) % len(self.class_names)
        generator = torch.Generator().manual_seed(0)
        shape = (len(labels), *self.image_shape)
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), labels

    def _labels_file(self, source: Any, *, train: bool) -> Path:
        """Return the file that holds the labels; the folder of CIFAR's, which are spread over several files."""
        if hasattr(source, "base_folder"):
            return self.root / str(source.base_folder)
        return self.root / self.dataset / "raw" / f"{'train' if train else 't10k'}-labels-idx1-ubyte"

    def _not_read(self, source: Any, error: Exception) -> DataError:
        """Return the error that says which files belong where, or what is the matter with those that are there."""
        if hasattr(source, "base_folder"):
            folder = self.root / source.base_folder
            names = [name for name, _ in (*source.train_list, *source.test_list)] + [source.meta["filename"]]
        else:
            folder = self.root / self.dataset / "raw"
            names = [Path(name).stem for name, _ in source.resources]
        missing = [name for name in names if not (folder / name).is_file()]
        packed = [f"{name}.gz" for name in missing if (folder / f"{name}.gz").is_file()]
        reason = " ".join(str(error).split())
        root = str(self.root)
        message = f"TorchvisionData(name={self.dataset!r}, root={root!r}, download={self.download}): "
        if not missing:
            return DataError(
                message + f"the files in {folder} cannot be read; delete them and get them again ({reason})"
            )
        if packed:
            return MissingDataError(
                message + f"found only {', '.join(packed)} in {folder}: unpack with `gunzip {folder}/*.gz`"
            )
        failed = f" and the download failed ({reason})" if self.download else ""
        advice = "" if self.download else ", or set data.download to true"
        return MissingDataError(
            message + f"no {', '.join(missing)} in {folder}{failed}; put the unpacked files there{advice}"
        )

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Read made-up images of the set's shape and number of classes from now on; for `lightkit check`."""
        self._made_up = True
