"""The images of the vision recipes: splits, batches, augmentation, and data that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import lightkit as lk
from lightkit.errors import DataError, MissingDataError
from recipes.splits import stratified_split
from recipes.vision.augment import RandomAffine
from recipes.vision.data import DigitsData, ImageFolderData, TorchvisionData

Write = Callable[..., None]
MakeTrainer = Callable[..., lk.Trainer]


def test_split_gives_each_class_its_share_and_depends_on_the_seed_alone() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    rest, part = stratified_split(labels, 0.2, seed=1)
    assert torch.bincount(labels[part]).tolist() == [10, 6, 4]
    assert sorted([*rest.tolist(), *part.tolist()]) == list(range(100))
    torch.rand(3)
    assert torch.equal(part, stratified_split(labels, 0.2, seed=1)[1])
    assert not torch.equal(part, stratified_split(labels, 0.2, seed=2)[1])


def test_digits_are_split_into_70_10_20_without_overlap() -> None:
    data = DigitsData()
    data.setup("fit")
    sets = list(data.sets.values())
    assert [len(s) for s in sets if s is not None] == [1257, 180, 360]
    from sklearn.datasets import load_digits

    everything = torch.cat([s.images for s in sets]).flatten(1)  # type: ignore[union-attr, attr-defined]
    original = torch.tensor(load_digits().images, dtype=torch.uint8).flatten(1)
    assert sorted(everything.tolist()) == sorted(original.tolist())


def test_batches_are_normalised_and_augmented_from_torchs_generator() -> None:
    data = DigitsData(augment=RandomAffine(rotate=10, shift=0.1))
    data.setup("fit")
    plain, _ = data.sets["val"].__getitems__(range(180))
    assert abs(float(plain.mean())) < 0.05 and abs(float(plain.std()) - 1) < 0.05
    torch.manual_seed(0)
    first, labels = data.sets["train"].__getitems__([0, 1, 2])
    again, _ = data.sets["train"].__getitems__([0, 1, 2])
    torch.manual_seed(0)
    replayed, _ = data.sets["train"].__getitems__([0, 1, 2])
    assert first.shape == (3, 1, 8, 8) and labels.shape == (3,) and labels.dtype == torch.int64
    assert torch.equal(first, replayed) and not torch.equal(first, again)


def test_augmentation_without_amounts_changes_nothing_and_flip_mirrors() -> None:
    images = torch.rand(8, 3, 5, 5)
    torch.testing.assert_close(RandomAffine()(images), images)
    torch.manual_seed(0)
    flipped = RandomAffine(flip=True)(images)
    mirrored = [torch.allclose(f, i.flip(-1), atol=1e-5) for f, i in zip(flipped, images, strict=True)]
    same = [torch.allclose(f, i, atol=1e-5) for f, i in zip(flipped, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert any(mirrored) and any(same)


def test_worker_processes_give_the_same_validation_batches() -> None:
    alone, helped = DigitsData(batch_size=100), DigitsData(batch_size=100, num_workers=1)
    for data in (alone, helped):
        data.setup("fit")
    for a, b in zip(alone.val_dataloader(), helped.val_dataloader(), strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_image_folder_splits_validation_off_where_it_has_none(tmp_path: Path, image_folders: Write) -> None:
    image_folders(tmp_path, {"train": 10, "test": 2})
    data = ImageFolderData(root=str(tmp_path), image_size=16, val_fraction=0.2)
    data.setup("fit")
    assert (len(data.sets["train"]), len(data.sets["val"])) == (24, 6)
    train, val = ({path for path, _ in s.files} for s in (data.sets["train"], data.sets["val"]))
    assert not train & val
    images, labels = next(iter(data.val_dataloader()))
    assert images.shape == (6, 3, 16, 16) and sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]


def test_image_folder_with_validation_uses_it_and_cannot_test_without_test_images(
    tmp_path: Path, image_folders: Write
) -> None:
    image_folders(tmp_path, {"train": 4, "val": 2})
    data = ImageFolderData(root=str(tmp_path), image_size=16, channels=1)
    data.setup("fit")
    assert (len(data.sets["train"]), len(data.sets["val"])) == (12, 6)
    assert data.class_names == ["ant", "bee", "cat"] and data.image_shape == (1, 16, 16)
    with pytest.raises(DataError) as caught:
        data.setup("test")
    assert str(caught.value) == (
        f"ImageFolderData: no folder {tmp_path}/test; this stage needs the images {tmp_path}/test/CLASS/*.jpg"
    )


def test_image_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        ImageFolderData(root=f"{tmp_path}/nowhere").setup("fit")
    assert str(caught.value) == (
        f"ImageFolderData: no folder {tmp_path}/nowhere/train; expected one folder per class there, "
        f"{tmp_path}/nowhere/train/CLASS/*.jpg (set data.root, or data.train_dir)"
    )


def test_image_folder_with_an_empty_class(tmp_path: Path, image_folders: Write) -> None:
    image_folders(tmp_path, {"train": 1})
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(DataError) as caught:
        ImageFolderData(root=str(tmp_path)).setup("fit")
    assert str(caught.value) == (
        f"ImageFolderData: no images in {tmp_path}/train/dog; read are .jpg, .jpeg, .png, .ppm, .bmp, .pgm, "
        ".tif, .tiff, .webp"
    )


def test_image_folder_with_other_classes_to_validate(tmp_path: Path, image_folders: Write) -> None:
    image_folders(tmp_path, {"train": 1})
    image_folders(tmp_path, {"val": 1}, classes=("ant", "cow"))
    with pytest.raises(DataError) as caught:
        ImageFolderData(root=str(tmp_path)).setup("fit")
    assert str(caught.value) == (
        f"ImageFolderData: {tmp_path}/val has classes that {tmp_path}/train has not: cow"
    )


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_image_is_named(num_workers: int, tmp_path: Path, image_folders: Write) -> None:
    image_folders(tmp_path, {"train": 2, "val": 1})
    broken = tmp_path / "val" / "bee" / "0.jpg"
    broken.write_bytes(b"not a picture")
    data = ImageFolderData(root=str(tmp_path), image_size=16, num_workers=num_workers)
    data.setup("fit")
    message = (
        f"{broken}: cannot be read as an image; replace or remove it (cannot identify image file '{broken}')"
    )
    with pytest.raises(DataError) as caught:
        list(data.val_dataloader())
    # torch puts the worker's traceback before the message
    assert str(caught.value).strip().endswith(message)


def test_truncated_image_is_named(tmp_path: Path, image_folders: Write) -> None:
    image_folders(tmp_path, {"train": 2})
    broken = tmp_path / "train" / "ant" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    data = ImageFolderData(root=str(tmp_path), image_size=16, val_fraction=0.5)
    data.setup("fit")
    with pytest.raises(DataError) as caught:
        [*data.train_dataloader(), *data.val_dataloader()]
    assert str(caught.value).startswith(f"{broken}: cannot be read as an image; replace or remove it (")


def test_broken_images_are_skipped_and_counted_on_request(tmp_path: Path, image_folders: Write) -> None:
    image_folders(tmp_path, {"train": 5, "val": 2})
    broken = [tmp_path / "train" / "ant" / f"{i}.jpg" for i in range(4)]
    for path in broken:
        path.write_bytes(b"not a picture")
    data = ImageFolderData(root=str(tmp_path), image_size=16, on_bad_file="skip")
    with pytest.warns(UserWarning) as caught:
        data.setup("fit")
    reason = "cannot be read as an image; replace or remove it (cannot identify image file"
    problems = [f"{path}: {reason} '{path}')" for path in broken]
    assert [str(warning.message) for warning in caught] == [
        f"ImageFolderData(on_bad_file='skip'): skipped 4 of 15 files: {'; '.join(problems[:3])}; and 1 more"
    ]
    assert len(data.sets["train"]) == 11
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 11


def test_a_class_of_which_nothing_can_be_read_is_an_error_even_when_skipping(
    tmp_path: Path, image_folders: Write
) -> None:
    image_folders(tmp_path, {"train": 1})
    (tmp_path / "train" / "bee" / "0.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped 1 of 3 files"), pytest.raises(DataError) as caught:
        ImageFolderData(root=str(tmp_path), on_bad_file="skip").setup("fit")
    assert str(caught.value).startswith(f"ImageFolderData: no images in {tmp_path}/train/bee; ")


def test_a_label_out_of_range_is_named_with_its_file_and_row(tmp_path: Path, mnist_files: Write) -> None:
    mnist_files(tmp_path, "MNIST")
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[8 + 17] = content[8 + 40] = 12  # 8 bytes of header
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        TorchvisionData(root=str(tmp_path), download=False).setup("fit")
    assert str(caught.value) == (
        f"{path}, row 17: label 12, but the classes are numbered 0 to 9 (2 of 60 labels are wrong)"
    )


MNIST_FILES = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"
)


def test_missing_mnist_says_which_files_belong_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        TorchvisionData(root=str(tmp_path), download=False).setup("fit")
    assert str(caught.value) == (
        f"TorchvisionData(name='MNIST', root='{tmp_path}', download=False): no {MNIST_FILES} in "
        f"{tmp_path}/MNIST/raw; put the unpacked files there, or set data.download to true"
    )


def test_packed_mnist_says_how_to_unpack_it(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in MNIST_FILES.split(", "):
        (folder / f"{name}.gz").write_bytes(b"")
    packed = ", ".join(f"{name}.gz" for name in MNIST_FILES.split(", "))
    with pytest.raises(DataError) as caught:
        TorchvisionData(root=str(tmp_path), download=False).setup("fit")
    assert str(caught.value) == (
        f"TorchvisionData(name='MNIST', root='{tmp_path}', download=False): found only {packed} in {folder}: "
        f"unpack with `gunzip {folder}/*.gz`"
    )


def test_failed_download_says_which_files_belong_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    # nothing listens on port 9 of this machine
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataError) as caught:
        TorchvisionData(name="FashionMNIST", root=str(tmp_path)).prepare_data()
    assert str(caught.value) == (
        f"TorchvisionData(name='FashionMNIST', root='{tmp_path}', download=True): no {MNIST_FILES} in "
        f"{tmp_path}/FashionMNIST/raw and the download failed (Error downloading train-images-idx3-ubyte.gz: "
        "Tried http://127.0.0.1:9/, got: <urlopen error [Errno 111] Connection refused>); "
        "put the unpacked files there"
    )


def test_broken_mnist_file_is_reported(tmp_path: Path, mnist_files: Write) -> None:
    mnist_files(tmp_path, "MNIST")
    folder = tmp_path / "MNIST" / "raw"
    (folder / "train-images-idx3-ubyte").write_bytes(b"\0\0")
    with pytest.raises(DataError) as caught:
        TorchvisionData(root=str(tmp_path)).setup("fit")
    start = f"TorchvisionData(name='MNIST', root='{tmp_path}', download=True): the files in {folder} "
    assert str(caught.value).startswith(start + "cannot be read; delete them and get them again (")


@pytest.mark.parametrize("name", ["MNIST", "CIFAR100"])
def test_made_up_images_have_the_set_s_shape_and_classes(name: str, tmp_path: Path) -> None:
    data = TorchvisionData(name=name, root=str(tmp_path), download=False, batch_size=16)
    with pytest.raises(MissingDataError):
        data.setup("fit")
    data.generate(tmp_path, lk.LightModule())
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (16, *data.image_shape) and int(labels.max()) < len(data.class_names)
    assert (data.image_shape, len(data.class_names)) == (((1, 28, 28), 10) if name == "MNIST" else ((3, 32, 32), 100))


def test_made_up_folders_have_the_model_s_classes(tmp_path: Path) -> None:
    from recipes.vision.classification import ImageClassifier

    data = ImageFolderData(root=str(tmp_path / "nowhere"), image_size=16)
    with pytest.raises(MissingDataError):
        data.setup("fit")
    data.generate(tmp_path / "made_up", ImageClassifier(num_classes=3, width=4))
    for stage in ("fit", "test"):
        data.setup(stage)
    assert data.class_names == ["class0000", "class0001", "class0002"]
    assert [len(data.sets[part]) for part in ("train", "val", "test")] == [12, 12, 12]


def test_made_up_masks_and_boxes_have_the_classes_asked_for(tmp_path: Path) -> None:
    from recipes.vision.detection import Detector
    from recipes.vision.detection_data import DetectionData
    from recipes.vision.segmentation_data import SegmentationData

    masks = SegmentationData(root=str(tmp_path / "nowhere"), class_names=["road", "car"], image_size=24)
    boxes = DetectionData(root=str(tmp_path / "nowhere"), image_size=24)
    for data in (masks, boxes):
        with pytest.raises(MissingDataError):
            data.setup("fit")
    masks.generate(tmp_path / "masks", lk.LightModule())
    boxes.generate(tmp_path / "boxes", Detector(net="ssdlite320_mobilenet_v3_large", num_classes=5))
    for data in (masks, boxes):
        data.setup("fit")
    numbers = torch.stack([mask for _, mask in (masks.sets["train"][i] for i in range(8))])
    assert numbers.unique().tolist() == [0, 1]
    assert boxes.class_names == ["disc", "square", "triangle", "class3", "class4"]
