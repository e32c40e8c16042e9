"""Images and their classes for `ImageClassifier`: handwritten digits, torchvision's sets, image folders.

Every batch is `(images, labels)`: float32 (batch, channels, height, width), normalised by `mean` and
`std`, and int64 (batch,). The sets fetch whole batches at once, and random changes are made to the
batch, so that the input of a small network costs little beside its step. All randomness of the batches
comes from torch's default generator; the splits depend on `split_seed` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.errors import ConfigError, DataError, did_you_mean, require
from recipes.vision.augment import RandomAffine
from recipes.vision.images import Batch, FileImages, ImageSet, TensorImages, stratified_split


def _as_fetched(batch: Any) -> Any:
    """Return the batch: `__getitems__` has collated it already."""
    return batch


class ImageData(lk.LightDataModule):
    """Base of the data modules: the loaders over the three sets, which `setup` of a subclass makes.

    Args:
        batch_size: images a batch.
        num_workers: processes that prepare batches; 0 is the fastest for images in memory.
        augment: random changes to the training images; None for none.

    Attributes:
        class_names: the names of the classes, by number; known after `setup`.
        image_shape: (channels, height, width) of every image; known after `setup`.
    """

    class_names: list[str]
    image_shape: tuple[int, int, int]

    def __init__(self, batch_size: int, num_workers: int, augment: RandomAffine | None) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"{type(self).__name__}(batch_size={batch_size}): expected at least 1")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augment = augment
        self.train_set: ImageSet | None = None
        self.val_set: ImageSet | None = None
        self.test_set: ImageSet | None = None

    def _loader(self, images: ImageSet | None, *, shuffle: bool = False) -> DataLoader[Batch]:
        assert images is not None, "setup() comes before the loaders"
        return DataLoader(
            images,
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            collate_fn=_as_fetched,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training images, shuffled and changed at random."""
        return self._loader(self.train_set, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation images, in order."""
        return self._loader(self.val_set)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test images, in order."""
        return self._loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the test images, in order."""
        return self.test_dataloader()


def _check_fraction(owner: str, name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{owner}({name}={value}): expected a share between 0 and 1, such as 0.1")


class DigitsData(ImageData):
    """Real handwritten digits, 8x8 grey, 10 classes: the 1,797 that scikit-learn brings along.

    Nothing is downloaded. Split by class: 70 % to train (1,257), 10 % to validate (180), 20 % to test (360).
    The images are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin 1998).

    Args:
        batch_size: images a batch.
        num_workers: processes that prepare batches; 0 is the fastest here.
        augment: random changes to the training images; None for none.
        split_seed: seed of the split; another one gives other parts of the same sizes.
    """

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: RandomAffine | None = None,
        split_seed: int = 42,
    ) -> None:
        super().__init__(batch_size, num_workers, augment)
        self.split_seed = split_seed
        self.save_hyperparameters(ignore=["augment"])

    def setup(self, stage: str) -> None:
        """Read the images and split them; the same for every stage."""
        load_digits = lk.errors.require("sklearn.datasets", "vision", needed_by="DigitsData").load_digits
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.uint8).unsqueeze(1)  # (1797, 1, 8, 8), 0 to 16
        labels = torch.tensor(digits.target)
        rest, test = stratified_split(labels, 0.2, self.split_seed)
        # an eighth of the remaining 80 % is 10 % of the whole
        train, val = (rest[part] for part in stratified_split(labels[rest], 0.125, self.split_seed))
        self.class_names = [str(name) for name in digits.target_names]
        self.image_shape = (1, 8, 8)

        def images_at(where: Tensor, augment: RandomAffine | None = None) -> TensorImages:
            return TensorImages(
                images[where], labels[where], mean=[0.305], std=[0.376], full_scale=16, augment=augment
            )

        self.train_set, self.val_set, self.test_set = (
            images_at(train, self.augment),
            images_at(val),
            images_at(test),
        )


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
        batch_size: images a batch.
        num_workers: processes that prepare batches; 0 is the fastest here.
        augment: random changes to the training images; None for none.
        split_seed: seed of the choice of validation images.

    Raises:
        ConfigError: `name` is none of these, or `val_fraction` is not between 0 and 1.
        DataError: the files are not there and cannot be downloaded; says which to put where.
    """

    def __init__(
        self,
        name: str = "MNIST",
        root: str = "data",
        download: bool = True,
        val_fraction: float = 0.1,
        batch_size: int = 128,
        num_workers: int = 0,
        augment: RandomAffine | None = None,
        split_seed: int = 42,
    ) -> None:
        super().__init__(batch_size, num_workers, augment)
        if name not in _TORCHVISION_SETS:
            known = ", ".join(_TORCHVISION_SETS)
            raise ConfigError(
                f"TorchvisionData(name={name!r}): expected one of {known}"
                f"{did_you_mean(name, _TORCHVISION_SETS)}"
            )
        _check_fraction("TorchvisionData", "val_fraction", val_fraction)
        self.dataset = name
        self.root = Path(root)
        self.download = download
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.save_hyperparameters(ignore=["augment"])

    def prepare_data(self) -> None:
        """Download the files that are missing, where `download` says so; needs the network for that alone."""
        if self.download:
            self._read(train=True, download=True)

    def setup(self, stage: str) -> None:
        """Read the images that the stage needs, and split off the validation images."""
        mean, std = _TORCHVISION_SETS[self.dataset]
        if stage in ("fit", "validate") and self.train_set is None:
            images, labels = self._read(train=True)
            train, val = stratified_split(labels, self.val_fraction, self.split_seed)
            scale: dict[str, Any] = {"mean": mean, "std": std, "full_scale": 255}
            self.train_set = TensorImages(images[train], labels[train], augment=self.augment, **scale)
            self.val_set = TensorImages(images[val], labels[val], augment=None, **scale)
        elif stage in ("test", "predict") and self.test_set is None:
            images, labels = self._read(train=False)
            self.test_set = TensorImages(images, labels, mean=mean, std=std, full_scale=255, augment=None)

    def _read(self, *, train: bool, download: bool = False) -> tuple[Tensor, Tensor]:
        """Return images, uint8 (images, channels, height, width), and labels; sets names and shape."""
        who = f"TorchvisionData(name={self.dataset!r})"
        datasets = require("torchvision.datasets", "vision", needed_by=who)
        source = getattr(datasets, self.dataset)
        try:
            found = source(str(self.root), train=train, download=download)
        except (RuntimeError, OSError, ValueError, EOFError, AssertionError) as error:
            raise DataError(self._missing(source, error)) from None
        images = torch.as_tensor(found.data)
        # MNIST's kind has no channel, CIFAR's has it last
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        self.class_names = [name.partition(" - ")[0] for name in found.classes]  # MNIST: "7 - seven"
        self.image_shape = (images.shape[1], images.shape[2], images.shape[3])
        return images, torch.as_tensor(found.targets)

    def _missing(self, source: Any, error: Exception) -> str:
        """Say which files belong where, and what is the matter with those that are there."""
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
            return (
                message + f"the files in {folder} cannot be read; delete them and get them again ({reason})"
            )
        if packed:
            return message + f"found only {', '.join(packed)} in {folder}: unpack with `gunzip {folder}/*.gz`"
        failed = f" and the download failed ({reason})" if self.download else ""
        advice = "" if self.download else ", or set data.download to true"
        return message + f"no {', '.join(missing)} in {folder}{failed}; put the unpacked files there{advice}"


class ImageFolderData(ImageData):
    """Images of any size in one folder per class, each brought to a square of `image_size` pixels.

    Layouts, seen from `root`; any depth below the class folder, JPEG, PNG and what else torchvision reads:

        train/CLASS/*.jpg  val/CLASS/*.jpg  test/CLASS/*.jpg
        train/CLASS/*.jpg  test/CLASS/*.jpg     `val_fraction` of each class of train validates
        train/CLASS/*.jpg  val/CLASS/*.jpg      no test: asking for one is an error

    Classes are numbered in the alphabetical order of the folders of train.

    Args:
        root: folder of the three parts.
        train_dir: another folder than `root/train`; the same for `val_dir` and `test_dir`.
        val_dir: folder of validation images.
        test_dir: folder of test images.
        image_size: height and width of what the network sees, pixels.
        channels: 3 for colour, 1 for grey; images are converted.
        mean: what to take off each channel, of 0 to 1; ImageNet's, as torchvision's weights expect.
        std: what to divide each channel by after that.
        val_fraction: share of the training images that validates where there is no validation folder.
        batch_size: images a batch.
        num_workers: processes that read images.
        augment: random changes to the training images; None for none.
        split_seed: seed of the choice of validation images.

    Raises:
        DataError: no such folder, a class without images, classes that differ between the parts, or a
            file that is no image; names the folder or file.
    """

    def __init__(
        self,
        root: str = "data/images",
        train_dir: str | None = None,
        val_dir: str | None = None,
        test_dir: str | None = None,
        image_size: int = 64,
        channels: Literal[1, 3] = 3,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        val_fraction: float = 0.1,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: RandomAffine | None = None,
        split_seed: int = 42,
    ) -> None:
        super().__init__(batch_size, num_workers, augment)
        _check_fraction("ImageFolderData", "val_fraction", val_fraction)
        self.train_dir = Path(train_dir or Path(root) / "train")
        self.val_dir = Path(val_dir or Path(root) / "val")
        self.test_dir = Path(test_dir or Path(root) / "test")
        # a folder that was named must be there; the usual one may be missing
        self.has_val = val_dir is not None or self.val_dir.is_dir()
        self.image_size = image_size
        self.channels = channels
        self.mean = mean or ([0.485, 0.456, 0.406] if channels == 3 else [0.449])
        self.std = std or ([0.229, 0.224, 0.225] if channels == 3 else [0.226])
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        # not to the loggers: image_size is a hyperparameter of the model too, where only "mlp" needs it
        self.save_hyperparameters(ignore=["augment"], logger=False)

    def setup(self, stage: str) -> None:
        """List the files of the parts that the stage needs; images are read batch by batch."""
        self.class_names = self._classes()
        self.image_shape = (self.channels, self.image_size, self.image_size)
        if stage in ("test", "predict"):
            self.test_set = self._images(self._files(self.test_dir))
            return
        train = self._files(self.train_dir)
        if self.has_val:
            val = self._files(self.val_dir)
        else:
            labels = torch.tensor([label for _, label in train])
            kept, held_out = stratified_split(labels, self.val_fraction, self.split_seed)
            train, val = [train[i] for i in kept.tolist()], [train[i] for i in held_out.tolist()]
        self.train_set, self.val_set = self._images(train, self.augment), self._images(val)

    def _images(self, files: list[tuple[str, int]], augment: RandomAffine | None = None) -> FileImages:
        return FileImages(
            files,
            self.image_size,
            self.channels,
            mean=self.mean,
            std=self.std,
            full_scale=255,
            augment=augment,
        )

    def _classes(self) -> list[str]:
        """Return the names of the class folders of train, in alphabetical order."""
        if not self.train_dir.is_dir():
            raise DataError(
                f"ImageFolderData: no folder {self.train_dir}; expected one folder per class there, "
                f"{self.train_dir}/CLASS/*.jpg (set data.root, or data.train_dir)"
            )
        names = sorted(entry.name for entry in self.train_dir.iterdir() if entry.is_dir())
        if not names:
            raise DataError(
                f"ImageFolderData: no class folders in {self.train_dir}; "
                f"expected {self.train_dir}/CLASS/*.jpg"
            )
        return names

    def _files(self, folder: Path) -> list[tuple[str, int]]:
        """Return path and class number of every image of a part."""
        torchvision_folder = require("torchvision.datasets.folder", "vision", needed_by="ImageFolderData")
        if not folder.is_dir():
            raise DataError(
                f"ImageFolderData: no folder {folder}; this stage needs the images {folder}/CLASS/*.jpg"
            )
        unknown = sorted({e.name for e in folder.iterdir() if e.is_dir()} - set(self.class_names))
        if unknown:
            raise DataError(
                f"ImageFolderData: {folder} has classes that {self.train_dir} has not: {', '.join(unknown)}"
            )
        numbers = {name: number for number, name in enumerate(self.class_names)}
        extensions = torchvision_folder.IMG_EXTENSIONS
        files: list[tuple[str, int]] = torchvision_folder.make_dataset(
            str(folder), numbers, extensions, allow_empty=True
        )
        counts = torch.bincount(
            torch.tensor([label for _, label in files], dtype=torch.long), minlength=len(numbers)
        )
        empty = [str(folder / name) for name, number in numbers.items() if counts[number] == 0]
        if empty:
            raise DataError(
                f"ImageFolderData: no images in {', '.join(empty)}; read are {', '.join(extensions)}"
            )
        return files
