"""Segmentation: the config runs, pictures and masks are paired, counted and drawn; data that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightkit.errors import ConfigError, DataError
from recipes.vision.segmentation import Segmenter, intersection_over_union, pixel_counts
from recipes.vision.segmentation_data import SegmentationData
from recipes.vision.shapes import SHAPES, draw, write_segmentation

SmallJob = Callable[..., Any]
NAMES = ["background", *SHAPES]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures and masks in parts: 6, 3 and 3, of 24 pixels."""
    write_segmentation(tmp_path / "data", counts=(6, 3, 3), size=24)
    return tmp_path / "data"


def data_of(folder: Path, **arguments: Any) -> SegmentationData:
    return SegmentationData(root=str(folder), **{"class_names": NAMES, "image_size": 24, "batch_size": 2, **arguments})


def run(job: Any) -> dict[str, float]:
    job.trainer.fit(job.model, datamodule=job.data)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, verbose=False)
    plots = Path(job.trainer.run_dir) / "plots"
    assert sorted(p.name for p in plots.iterdir()) == ["curves.png", "predictions.png"]
    return dict(metrics)


def test_config_trains_and_draws_without_any_data_and_predicts_a_file(small_job: SmallJob, folder: Path) -> None:
    sizes = ["--data.image_size=32", "--data.generated=[6, 3, 3]", "--data.batch_size=2"]
    job = small_job("vision/segmentation", *sizes)
    metrics = run(job)
    assert {"test_loss", "test_iou", "test_acc"} <= metrics.keys()
    assert {name for name in metrics if name.startswith("test_iou_")} <= {f"test_iou_{name}" for name in NAMES}
    path = folder.parent / "model.ckpt"
    job.trainer.save_checkpoint(path)
    picture = str(folder / "train" / "images" / "0000000.jpg")
    shares = Segmenter.load_from_checkpoint(path).predict_raw(picture)
    assert {name for name, _ in shares} == set(NAMES)
    assert sum(share for _, share in shares) == pytest.approx(1.0, abs=1e-5)
    assert shares == sorted(shares, key=lambda pair: -pair[1])


def test_the_drawings_are_the_same_for_the_same_number() -> None:
    one, again, other = draw(5), draw(5), draw(6)
    assert torch.equal(one.image, again.image) and torch.equal(one.mask, again.mask)
    assert not torch.equal(one.image, other.image)
    assert one.image.shape == (3, 64, 64) and set(one.mask.unique().tolist()) <= {0, 1, 2, 3}


def test_a_box_holds_its_shape() -> None:
    found = 0
    for number in range(20):
        drawing = draw(number, most=1)
        boxes, labels = drawing.boxes.int().tolist(), drawing.labels.tolist()
        for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
            inside = drawing.mask[top:bottom, left:right] == label
            assert int(inside.sum()) == int((drawing.mask == label).sum())
            assert inside.any(dim=0).all() and inside.any(dim=1).all()
            found += 1
    assert found == 20


def test_pictures_and_masks_are_cut_alike(folder: Path) -> None:
    data = data_of(folder, image_size=12, transforms=["RandomHorizontalFlip", "RandomVerticalFlip"])
    data.setup("fit")
    image, mask = data.sets["val"][0]
    assert image.shape == (3, 12, 12) and mask.shape == (12, 12) and mask.dtype == torch.int64
    torch.manual_seed(0)
    images, masks = data.sets["train"].__getitems__(range(6))
    torch.manual_seed(0)
    again = data.sets["train"].__getitems__(range(6))
    assert torch.equal(images, again[0]) and torch.equal(masks, again[1])
    # what is no background differs from the background's colour: the mask was turned with its picture
    for picture, number in zip(images, masks, strict=True):
        background = picture[:, number == 0].median(dim=1).values.view(3, 1)
        distance = (picture.flatten(1) - background).abs().sum(dim=0)
        assert distance[number.flatten() > 0].mean() > distance[number.flatten() == 0].mean()


def test_one_folder_is_split_by_the_seed_alone(folder: Path) -> None:
    flat = folder / "train"
    parts = {}
    for stage, part in (("fit", "train"), ("validate", "val"), ("test", "test")):
        data = data_of(flat, val_fraction=0.3, test_fraction=0.2)
        data.setup(stage)
        parts[part] = {image for image, _ in data.sets[part].items}
    assert [len(parts[part]) for part in ("train", "val", "test")] == [2, 2, 2]
    assert len(set.union(*parts.values())) == 6


def test_counted_pixels_give_intersection_over_union() -> None:
    masks = torch.tensor([[0, 0, 1, 1, 255]])
    predicted = torch.tensor([[0, 1, 1, 1, 0]])
    counts = pixel_counts(masks, predicted, num_classes=3, ignore_index=255)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert intersection_over_union(counts).tolist() == pytest.approx([1 / 2, 2 / 3, -1.0])


def break_mask(folder: Path, pixels: np.ndarray) -> Path:
    path = folder / "train" / "masks" / "0000001.png"
    Image.fromarray(pixels).save(path)
    return path


def error_of(data: SegmentationData, stage: str = "fit") -> str:
    with pytest.raises(DataError) as caught:
        data.setup(stage)
        list(data.train_dataloader())
    return str(caught.value)


def test_a_mask_of_another_size_is_named(folder: Path) -> None:
    path = break_mask(folder, np.zeros((20, 24), dtype=np.uint8))
    assert error_of(data_of(folder)) == (
        f"{path}: 24x20 pixels, but {folder}/train/images/0000001.jpg has 24x24; a mask must have the size of its "
        "picture"
    )


def test_a_mask_with_an_unknown_class_is_named(folder: Path) -> None:
    path = break_mask(folder, np.full((24, 24), 9, dtype=np.uint8))
    assert error_of(data_of(folder)) == (
        f"{path}: class 9, but the classes are numbered 0 to 3 (background, disc, square, triangle), and 255 is "
        "ignored; add its name to data.class_names, or correct the mask"
    )


def test_a_coloured_mask_is_named(folder: Path) -> None:
    path = break_mask(folder, np.zeros((24, 24, 3), dtype=np.uint8))
    assert error_of(data_of(folder)) == (
        f"{path}: a mask of mode RGB; expected one class number a pixel, a grey or palette image"
    )


def test_bad_pictures_are_skipped_and_counted_on_request(folder: Path) -> None:
    path = break_mask(folder, np.zeros((20, 24), dtype=np.uint8))
    (folder / "train" / "images" / "0000002.jpg").write_bytes(b"no picture")
    data = data_of(folder, on_bad_file="skip")
    with pytest.warns(UserWarning) as caught:
        data.setup("fit")
    assert len(data.sets["train"]) == 4
    [message] = [str(warning.message) for warning in caught]
    assert message.startswith(f"SegmentationData(on_bad_file='skip'): skipped 2 of 6 files: {path}: 24x20 pixels, but ")
    assert f"; {folder}/train/images/0000002.jpg: cannot be read as an image" in message


def test_a_picture_without_mask_and_folders_that_are_missing(folder: Path) -> None:
    (folder / "train" / "masks" / "0000003.png").unlink()
    assert error_of(data_of(folder)) == (
        f"{folder}/train/images/0000003.jpg: no mask; expected {folder}/train/masks/0000003.png"
    )
    assert error_of(data_of(folder / "nowhere")) == (
        f"SegmentationData: no folder {folder}/nowhere/images; expected {folder}/nowhere/images/NAME.jpg and "
        f"{folder}/nowhere/masks/NAME.png (set data.root)"
    )
    for part in ("images", "masks"):
        (folder / "test" / part).rename(folder / part)
    (folder / "test").rmdir()
    assert error_of(data_of(folder), "test") == (
        f"SegmentationData: no folder {folder}/test; this stage needs {folder}/test/images and masks"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Segmenter(net="lraspp_mobilenet"),
            "Segmenter(net='lraspp_mobilenet'): expected one of deeplabv3_mobilenet_v3_large, deeplabv3_resnet101, "
            "deeplabv3_resnet50, fcn_resnet101, fcn_resnet50, lraspp_mobilenet_v3_large; did you mean "
            "'lraspp_mobilenet_v3_large'?",
        ),
        (
            lambda: SegmentationData(root="data"),
            "SegmentationData(root='data'): set class_names, the names of the masks' classes 0, 1, ...",
        ),
        (
            lambda: SegmentationData(on_bad_file="ignore"),  # type: ignore[arg-type]
            "SegmentationData(on_bad_file='ignore'): expected 'error' or 'skip'",
        ),
    ],
)
def test_wrong_argument(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def test_another_number_of_classes_is_refused(small_job: SmallJob) -> None:
    job = small_job("vision/segmentation", "--model.num_classes=3", "--data.generated=[2, 2, 2]")
    with pytest.raises(DataError) as caught:
        job.trainer.fit(job.model, datamodule=job.data)
    assert str(caught.value) == (
        "Segmenter(num_classes=3): the data has 4 classes (background, disc, square, triangle); "
        "set model.num_classes to 4"
    )
