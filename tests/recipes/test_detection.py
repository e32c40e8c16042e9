"""Detection: the config runs, boxes go with their pictures and are drawn; annotations that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lightkit.errors import ConfigError, DataError
from recipes.vision.detection import Detector
from recipes.vision.detection_data import DetectionData
from recipes.vision.shapes import SHAPES, write_detection

SmallJob = Callable[..., Any]
# few and small proposals, so that a step is short
FAST = ["--model.options.min_size=32", "--model.options.max_size=32", "--data.batch_size=2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures and annotations in parts: 6, 3 and 3, of 32 pixels."""
    write_detection(tmp_path / "data", counts=(6, 3, 3), size=32)
    return tmp_path / "data"


def run(job: Any) -> dict[str, float]:
    job.trainer.fit(job.model, datamodule=job.data)
    assert {"train_loss_classifier", "val_map", "val_map_50"} <= set(job.trainer.callback_metrics)
    [metrics] = job.trainer.test(job.model, datamodule=job.data, verbose=False)
    plots = Path(job.trainer.run_dir) / "plots"
    assert sorted(p.name for p in plots.iterdir()) == ["curves.png", "predictions.png"]
    return dict(metrics)


def test_config_trains_and_draws_without_any_data_and_predicts_a_file(small_job: SmallJob, folder: Path) -> None:
    job = small_job("vision/detection", *FAST, "--data.image_size=32", "--data.generated=[4, 4, 4]")
    metrics = run(job)
    assert {"test_map", "test_map_50"} <= metrics.keys()
    path = folder.parent / "model.ckpt"
    job.trainer.save_checkpoint(path)
    model = Detector.load_from_checkpoint(path, min_score=0.0)
    assert model.class_names == list(SHAPES)
    objects = model.predict_raw(str(folder / "train" / "images" / "0000000.jpg"))
    assert objects and all(name.split(" at ")[0] in SHAPES and 0 <= score <= 1 for name, score in objects)
    assert objects == sorted(objects, key=lambda pair: -pair[1])


def test_boxes_come_as_torchvision_takes_them(folder: Path) -> None:
    data = DetectionData(root=str(folder), batch_size=3, transforms=[{"RandomHorizontalFlip": {"p": 1.0}}])
    data.setup("fit")
    assert data.class_names == list(SHAPES)
    images, targets = next(iter(data.val_dataloader()))
    assert [image.shape for image in images] == [(3, 32, 32)] * 3
    assert all(float(image.min()) >= 0 and float(image.max()) <= 1 for image in images)
    plain = DetectionData(root=str(folder))
    plain.setup("fit")
    for index in range(6):
        (image, target), (mirrored, changed) = plain.sets["train"][index], data.sets["train"][index]
        assert torch.equal(mirrored, image.flip(-1)) and torch.equal(changed["labels"], target["labels"])
        left, top, right, bottom = target["boxes"].unbind(dim=1)
        assert torch.equal(changed["boxes"], torch.stack([32 - right, top, 32 - left, bottom], dim=1))
        assert target["boxes"].dtype == torch.float32 and target["labels"].dtype == torch.int64
    assert all(type(target["boxes"]) is torch.Tensor for target in targets)


def test_validation_is_split_off_where_there_is_none(folder: Path) -> None:
    (folder / "val" / "annotations.json").unlink()
    data = DetectionData(root=str(folder), val_fraction=0.3)
    data.setup("fit")
    parts = [{image.path for image in data.sets[part].items} for part in ("train", "val")]
    assert [len(part) for part in parts] == [4, 2] and not parts[0] & parts[1]


def change(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the content of the training annotations."""
    path = folder / "train" / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def error_of(data: DetectionData) -> str:
    with pytest.raises(DataError) as caught:
        data.setup("fit")
        list(data.train_dataloader())
    return str(caught.value)


ADVICE = "; correct the row, or set data.on_bad_file to skip"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"bbox": [20, 4, 20, 8]},
            "bbox [20, 4, 20, 8] lies outside the image 0000000.jpg of 32x32 pixels",
        ),
        ({"bbox": [4, 4, 0, 8]}, "bbox [4, 4, 0, 8] is empty; width and height must be above 0"),
        (
            {"bbox": [32, 4, 0.5, 8]},
            "bbox [32, 4, 0.5, 8] is empty inside the image 0000000.jpg of 32x32 pixels",
        ),
        ({"bbox": [4, 4, 8]}, "bbox [4, 4, 8]; expected four numbers: left, top, width, height"),
        ({"category_id": 7}, "no category has the id 7 (category_id; there are 1, 2, 3)"),
        ({"image_id": 99}, "no image has the id 99 (image_id)"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_or_skipped(row: dict[str, Any], problem: str, folder: Path) -> None:
    path = change(folder, lambda content: content["annotations"][0].update(row))
    where = f"{path}: annotations[0] (id 1): {problem}"
    assert error_of(DetectionData(root=str(folder))) == where + ADVICE
    rows = len(json.loads(path.read_text())["annotations"])
    data = DetectionData(root=str(folder), on_bad_file="skip")
    with pytest.warns(UserWarning) as caught:
        data.setup("fit")
    [message] = [str(warning.message) for warning in caught]
    assert message == f"DetectionData(on_bad_file='skip'): skipped 1 of {rows} annotations: {where}"
    assert sum(len(image.labels) for image in data.sets["train"].items) == rows - 1


def test_a_box_that_rounding_put_over_the_border_is_cut_off(folder: Path) -> None:
    change(folder, lambda content: content["annotations"][0].update(bbox=[20.5, -0.5, 12, 8.5]))
    data = DetectionData(root=str(folder))
    data.setup("fit")
    assert data.sets["train"].items[0].boxes[0].tolist() == [20.5, 0.0, 32.0, 8.0]


def test_crowds_are_left_out(folder: Path) -> None:
    path = change(folder, lambda content: content["annotations"][0].update(iscrowd=1))
    data = DetectionData(root=str(folder))
    data.setup("fit")
    rows = len(json.loads(path.read_text())["annotations"])
    assert sum(len(image.labels) for image in data.sets["train"].items) == rows - 1


def test_a_picture_of_another_size_is_named_or_skipped(folder: Path) -> None:
    picture = folder / "train" / "images" / "0000002.jpg"
    Image.new("RGB", (40, 32)).save(picture)
    message = f"{picture}: 40x32 pixels, but {folder}/train/annotations.json says 32x32; the boxes would not fit"
    assert error_of(DetectionData(root=str(folder))) == message
    data = DetectionData(root=str(folder), on_bad_file="skip")
    with pytest.warns(UserWarning) as caught:
        data.setup("fit")
    assert [str(w.message) for w in caught] == [
        f"DetectionData(on_bad_file='skip'): skipped 1 of 6 files: {message}"
    ]
    assert len(data.sets["train"]) == 5


def test_files_that_are_missing_or_broken_are_named(folder: Path) -> None:
    picture = folder / "train" / "images" / "0000002.jpg"
    picture.unlink()
    assert error_of(DetectionData(root=str(folder))).startswith(f"{picture}: cannot be read as an image; ")
    annotations = folder / "train" / "annotations.json"
    annotations.write_text('{"images": [}')
    assert error_of(DetectionData(root=str(folder))) == (
        f"{annotations}: cannot be read as JSON (Expecting value: line 1 column 13 (char 12))"
    )
    annotations.write_text('{"images": [{"id": 1}]}')
    assert error_of(DetectionData(root=str(folder))) == (
        f"{annotations}: images[0] has no 'file_name', 'width', 'height'"
    )
    annotations.write_text("[]")
    form = (
        '{"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}], "annotations": '
        '[{"image_id", "category_id", "bbox": [left, top, width, height]}]}'
    )
    assert error_of(DetectionData(root=str(folder))) == (
        f"{annotations}: no list 'images'; expected COCO's form, {form}"
    )
    annotations.unlink()
    assert error_of(DetectionData(root=str(folder))) == (
        f"DetectionData: no file {annotations}; expected COCO's form, {form}"
    )
    assert error_of(DetectionData(root=str(folder / "nowhere"))) == (
        f"DetectionData: no folder {folder}/nowhere/train/images; expected the images that "
        f"{folder}/nowhere/train/annotations.json lists there"
    )


def test_parts_must_have_the_same_classes(folder: Path) -> None:
    path = change(folder, lambda content: content["categories"][0].update(name="circle"))
    assert error_of(DetectionData(root=str(folder))) == (
        f"{folder}/val/annotations.json: the categories are disc, square, triangle, but another part has circle, "
        "square, triangle"
    )
    assert path.is_file()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Detector(net="fasterrcnn_resnet50"),
            "Detector(net='fasterrcnn_resnet50'): expected one of fasterrcnn_mobilenet_v3_large_320_fpn, "
            "fasterrcnn_mobilenet_v3_large_fpn, fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2, "
            "fcos_resnet50_fpn, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2, ssd300_vgg16, "
            "ssdlite320_mobilenet_v3_large; did you mean 'fasterrcnn_resnet50_fpn'?",
        ),
        (
            lambda: DetectionData(batch_size=0),
            "DetectionData(batch_size=0): expected at least 1",
        ),
    ],
)
def test_wrong_argument(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Detector(options={"minsize": 3})
    message = str(caught.value)
    assert message.startswith(
        "Detector(net='fasterrcnn_mobilenet_v3_large_320_fpn', options=...): the model has no argument 'minsize' "
        "(it has: backbone, bbox_reg_weights, "
    )
    assert message.endswith("; did you mean 'min_size'?")


def test_another_number_of_classes_is_refused(small_job: SmallJob) -> None:
    job = small_job("vision/detection", *FAST, "--model.num_classes=2", "--data.generated=[2, 2, 2]")
    with pytest.raises(DataError) as caught:
        job.trainer.fit(job.model, datamodule=job.data)
    assert str(caught.value) == (
        "Detector(num_classes=2): the data has 3 classes (disc, square, triangle); set model.num_classes to 3"
    )
