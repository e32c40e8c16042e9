"""Image files in one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

import lightkit as lk
from lightkit.errors import DataError, MissingDataError, require
from recipes.listing import entries, is_data
from recipes.splits import check_fraction, stratified_split
from recipes.vision.files import OnBadFile, check_on_bad_file, keep_usable, open_picture
from recipes.vision.image_data import ImageData
from recipes.vision.images import FileImages


class ImageFolderData(ImageData):
    """Images of any size in one folder per class, each brought to a square of `image_size` pixels.

    Layouts, seen from `root`; any depth below the class folder, JPEG, PNG and what else torchvision reads:

        train/CLASS/*.jpg  val/CLASS/*.jpg  test/CLASS/*.jpg
        train/CLASS/*.jpg  test/CLASS/*.jpg     `val_fraction` of each class of train validates
        train/CLASS/*.jpg  val/CLASS/*.jpg      no test: asking for one is an error

    Classes are numbered in the alphabetical order of the folders of train. Files and folders that programs leave behind
    (`.ipynb_checkpoints`, `__MACOSX`, whatever begins with a dot) are passed over.

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
        on_bad_file: "error" ends the run at the first file that cannot be read; "skip" reads every file once
            at the start, leaves those out and warns with their number.
        **settings: the arguments of `ImageData`.

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
        on_bad_file: OnBadFile = "error",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_on_bad_file("ImageFolderData", on_bad_file)
        check_fraction("ImageFolderData", "val_fraction", val_fraction)
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
        self.on_bad_file: OnBadFile = on_bad_file
        # not to the loggers: image_size is a hyperparameter of the model too, where only "mlp" needs it
        self.save_hyperparameters(ignore=["augment", "mix"], logger=False)

    def setup(self, stage: str) -> None:
        """List the files of the parts that the stage needs; images are read batch by batch."""
        self.class_names = self._classes()
        self.image_shape = (self.channels, self.image_size, self.image_size)
        if stage in ("test", "predict"):
            self.sets["test"] = self._images("test", self._files(self.test_dir))
            return
        train = self._files(self.train_dir)
        if self.has_val:
            val = self._files(self.val_dir)
        else:
            labels = torch.tensor([label for _, label in train])
            kept, held_out = stratified_split(labels, self.val_fraction, self.split_seed)
            train, val = [train[i] for i in kept.tolist()], [train[i] for i in held_out.tolist()]
        self.sets |= {"train": self._images("train", train), "val": self._images("val", val)}

    def _images(self, part: str, files: list[tuple[str, int]]) -> FileImages:
        return FileImages(files, self.image_size, self.channels, **self.treatment(part))

    def _classes(self) -> list[str]:
        """Return the names of the class folders of train, in alphabetical order."""
        if not self.train_dir.is_dir():
            raise MissingDataError(
                f"ImageFolderData: no folder {self.train_dir}; expected one folder per class there, "
                f"{self.train_dir}/CLASS/*.jpg (set data.root, or data.train_dir)"
            )
        names = [entry.name for entry in entries(self.train_dir) if entry.is_dir()]
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
            raise MissingDataError(
                f"ImageFolderData: no folder {folder}; this stage needs the images {folder}/CLASS/*.jpg"
            )
        unknown = sorted({e.name for e in entries(folder) if e.is_dir()} - set(self.class_names))
        if unknown:
            raise DataError(
                f"ImageFolderData: {folder} has classes that {self.train_dir} has not: {', '.join(unknown)}"
            )
        numbers = {name: number for number, name in enumerate(self.class_names)}
        extensions = torchvision_folder.IMG_EXTENSIONS
        files: list[tuple[str, int]] = torchvision_folder.make_dataset(
            str(folder), numbers, extensions, allow_empty=True
        )
        files = keep_usable(
            [item for item in files if is_data(item[0], folder)],
            lambda item: open_picture(item[0], "RGB", self.image_size),
            owner="ImageFolderData",
            on_bad_file=self.on_bad_file,
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

    def generate(self, root: Path, model: lk.LightModule) -> None:
        """Write pictures of noise in as many class folders as the model has classes; for `lightkit check`."""
        from PIL import Image

        self.train_dir, self.val_dir, self.test_dir = (root / part for part in ("train", "val", "test"))
        self.has_val = True
        generator = torch.Generator().manual_seed(0)
        for folder in (self.train_dir, self.val_dir, self.test_dir):
            for number in range(int(getattr(model, "num_classes", 2))):
                place = folder / f"class{number:04d}"
                place.mkdir(parents=True)
                for picture in range(4):
                    pixels = torch.randint(0, 256, (40, 48, 3), generator=generator, dtype=torch.uint8)
                    Image.fromarray(pixels.numpy()).save(place / f"{picture}.png")
