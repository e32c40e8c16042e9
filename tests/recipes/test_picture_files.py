"""Pictures of every mode and orientation keep what they show; masks keep their numbers."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from lightkit.errors import DataError
from recipes.vision.coco import LabelledImage
from recipes.vision.data import ImageFolderData
from recipes.vision.files import open_picture
from recipes.vision.segmentation_data import SegmentationData

# a picture with a different colour in each corner, so that every way to turn it can be told
CORNERS = np.array([[[250, 0, 0], [0, 250, 0], [9, 9, 9]], [[0, 0, 250], [90, 90, 90], [250, 250, 0]]], np.uint8)
# what undoes EXIF's orientation 1 to 8: how a picture that is to be shown as CORNERS is stored
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}  # fmt: skip


def save(path: Path, values: np.ndarray, orientation: int = 1, **options: Any) -> str:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(values)).save(path, exif=exif, **options)
    return str(path)


def few_bits(path: Path, rows: list[bytes], width: int, bits: int) -> str:
    """Write a grey PNG of 2 or 4 bits, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b""))
    return str(path)


def pixels(path: str, mode: Any) -> list[Any]:
    return np.asarray(open_picture(path, mode)).tolist()


@pytest.mark.parametrize("end", ["png", "tif", "pgm"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_of_16_bits_keeps_its_range(end: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{end}"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(path)
    grey = np.asarray(open_picture(str(path), mode)).reshape(4, -1)[:, 0].tolist()  # type: ignore[arg-type]
    assert grey == [0, 1, 128, 255]


def test_a_picture_of_32_bits_or_floats_keeps_its_range_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"

    def said(values: list[Any], dtype: Any) -> list[Any] | str:
        Image.fromarray(np.array([values], dtype)).save(path)
        try:
            return list(pixels(str(path), "L")[0])
        except DataError as error:
            return str(error).removeprefix(f"{path}: cannot be read as an image; replace or remove it ")

    assert said([0, 257, 65535], np.int32) == [0, 1, 255]
    assert said([0, 70000], np.int32) == (
        "(32-bit values from 0 to 70000; expected 0 (black) to 65535 (white), so scale them)"
    )
    assert said([-1, 255], np.int32) == (
        "(32-bit values from -1 to 255; expected 0 (black) to 65535 (white), so scale them)"
    )
    assert said([0, 200], np.int32) == (
        "(32-bit values up to 200, which may be black (65535 is white) or an 8-bit picture; save it with 8 or 16 bits)"
    )
    assert said([0.0, 0.5, 1.0], np.float32) == [0, 128, 255]
    assert said([0.0, 255.0], np.float32) == (
        "(floating-point values from 0 to 255; expected 0 (black) to 1 (white), so scale them)"
    )
    assert said([0.0, float("nan")], np.float32) == (
        "(floating-point values from nan to nan; expected 0 (black) to 1 (white), so scale them)"
    )


def test_what_is_transparent_is_laid_on_white(tmp_path: Path) -> None:
    path = str(tmp_path / "clear.png")
    # black below: what an editor left under the transparent part must not be seen
    Image.fromarray(np.array([[[0, 0, 0, 0], [200, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)).save(path)
    assert pixels(path, "RGB") == [[[255, 255, 255], [200, 0, 0], [204, 204, 204]]]
    Image.fromarray(np.array([[[0, 0], [7, 255]]], np.uint8), "LA").save(path)
    assert pixels(path, "L") == [[255, 7]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(path, transparency=0)
    assert pixels(path, "RGB") == [[[255, 255, 255], [40, 50, 60]]]
    Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)).save(path, transparency=(1, 2, 3))
    assert pixels(path, "RGB") == [[[255, 255, 255], [4, 5, 6]]]


def test_lab_is_shown_as_srgb(tmp_path: Path) -> None:
    path = str(tmp_path / "lab.tif")
    grey = Image.fromarray(np.full((2, 2, 3), 119, np.uint8))
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(grey, srgb, lab, outputMode="LAB")
    assert converted is not None
    converted.save(path)
    assert np.abs(np.asarray(open_picture(path, "RGB")).astype(int) - 119).max() <= 1


def cmyk_profile() -> bytes:
    """An ICC profile (version 2) by which all ink is black, cyan alone grey (L*=50), and other pure inks are white."""
    corners = b"".join(bytes([{8: 128, 15: 0}.get(i, 255), 128, 128]) for i in range(16))
    ramps = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramps * 4 + corners + ramps * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags, place, body = [(b"A2B0", table), (b"wtpt", white)], 132 + 12 * 2, b""
    entries = struct.pack(">I", len(tags))
    for name, data in tags:
        padded = data + bytes(-len(data) % 4)
        entries += name + struct.pack(">II", place + len(body), len(data))
        body += padded
    size = 128 + len(entries) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + entries + body


def test_print_colours_follow_their_profile(tmp_path: Path) -> None:
    path = str(tmp_path / "print.tif")
    inks = Image.fromarray(np.array([[[255, 0, 0, 0], [0, 0, 0, 0]]], np.uint8), "CMYK")
    inks.save(path)
    assert pixels(path, "RGB") == [[[0, 255, 255], [255, 255, 255]]]
    inks.save(path, icc_profile=cmyk_profile())
    cyan, bare = pixels(path, "RGB")[0]
    assert max(abs(value - 119) for value in cyan) <= 2  # sRGB's grey of L*=50
    assert min(bare) >= 253
    inks.save(path, icc_profile=b"no profile")
    assert pixels(path, "RGB") == [[[0, 255, 255], [255, 255, 255]]]


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("end", ["png", "jpg", "tif", "webp"])
def test_a_picture_is_read_as_it_is_shown(orientation: int, end: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(end, {})
    large = CORNERS.repeat(16, axis=0).repeat(16, axis=1)
    path = save(tmp_path / f"turned.{end}", STORED[orientation](large), orientation, **options)
    shown = np.asarray(open_picture(path, "RGB")).astype(int)
    assert shown.shape == (32, 48, 3)
    assert np.abs(shown[8::16, 8::16] - CORNERS.astype(int)).max() < 12
    assert np.asarray(open_picture(path, "RGB", at_least=2)).shape[0] < 33  # a JPEG in part, turned all the same


def test_a_damaged_exif_block_leaves_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    save(path, CORNERS, 6)
    before = path.read_bytes()
    path.write_bytes(before.replace(b"Exif\0\0MM", b"Exif\0\0QQ"))
    assert path.read_bytes() != before
    assert open_picture(str(path), "RGB").size == (3, 2)


def test_a_mask_keeps_its_numbers_whatever_its_mode(tmp_path: Path) -> None:
    path = str(tmp_path / "mask.png")

    def numbers(image: Image.Image) -> list[Any]:
        image.save(path)
        return pixels(path, None)

    palette = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8), "P")
    palette.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    assert numbers(palette) == [[0, 1, 2, 3]]
    assert numbers(Image.fromarray(np.array([[0, 1, 255]], np.uint8))) == [[0, 1, 255]]
    assert numbers(Image.fromarray(np.array([[False, True]]))) == [[0, 1]]
    assert numbers(Image.fromarray(np.array([[0, 300, 65535]], np.uint16))) == [[0, 300, 65535]]
    assert pixels(few_bits(tmp_path / "two.png", [bytes([0b00011011])], 4, 2), None) == [[0, 1, 2, 3]]
    assert pixels(few_bits(tmp_path / "four.png", [bytes([0x01, 0x2F])], 4, 4), None) == [[0, 1, 2, 15]]
    assert pixels(str(tmp_path / "four.png"), "L") == [[0, 17, 34, 255]]
    big = tmp_path / "big.tif"
    Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 1, 700)).save(big)
    assert pixels(str(big), None) == [[1, 700]]


def masked(root: Path, picture: np.ndarray, mask: np.ndarray, orientation: int) -> SegmentationData:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    save(root / "images" / "a.jpg", picture, orientation, quality=100, subsampling=0)
    Image.fromarray(np.ascontiguousarray(mask)).save(root / "masks" / "a.png")
    return SegmentationData(root=str(root), class_names=["no", "yes"], image_size=2)


def test_a_mask_lies_on_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    shown = np.zeros((32, 32), np.uint8)
    shown[:16, 16:] = 1
    picture = (shown * 250)[..., None].repeat(3, axis=2)
    data = masked(tmp_path / "square", STORED[3](picture), shown, 3)
    image, mask = data.load_pair((f"{tmp_path}/square/images/a.jpg", f"{tmp_path}/square/masks/a.png"))
    assert mask.tolist() == [[0, 1], [0, 0]]
    assert torch.equal((image[0] > 99).long(), mask)


def test_a_mask_of_the_picture_as_it_is_stored_is_named(tmp_path: Path) -> None:
    mask = np.zeros((2, 3), np.uint8)
    data = masked(tmp_path / "long", CORNERS, mask, 6)
    files = f"{tmp_path}/long/images/a.jpg", f"{tmp_path}/long/masks/a.png"
    with pytest.raises(DataError) as caught:
        data.load_pair(files)
    assert str(caught.value) == (
        f"{files[1]}: 3x2 pixels, but {files[0]} has 2x3 as it is shown, by its EXIF orientation; a mask must have the "
        "size of its picture"
    )


def test_boxes_are_in_the_pixels_of_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", STORED[6](CORNERS), 6)

    def labelled(width: int, height: int) -> LabelledImage:
        return LabelledImage(path, (width, height), torch.zeros(0, 4), torch.zeros(0), "boxes.json")

    assert np.array_equal(labelled(3, 2).read().permute(1, 2, 0).numpy(), CORNERS)
    with pytest.raises(DataError) as caught:
        labelled(2, 3).read()
    assert str(caught.value) == (
        f"{path}: 3x2 pixels, as it is shown, by its EXIF orientation, but boxes.json says 2x3; the boxes would not fit"
    )


def test_what_programs_leave_in_a_folder_is_no_picture_and_no_class(
    tmp_path: Path, image_folders: Callable[..., None]
) -> None:
    image_folders(tmp_path, {"train": 2, "val": 1})
    for part in ("train", "val"):
        for folder in (".ipynb_checkpoints", "__MACOSX", "ant/.ipynb_checkpoints", "ant/__MACOSX"):
            (tmp_path / part / folder).mkdir()
            (tmp_path / part / folder / "0-checkpoint.jpg").write_bytes(b"none")
        (tmp_path / part / "bee" / "._0.jpg").write_bytes(b"none")
    data = ImageFolderData(root=str(tmp_path), image_size=8)
    data.setup("fit")
    assert data.class_names == ["ant", "bee", "cat"]
    assert len(data.sets["train"]) == 6 and len(data.sets["val"]) == 3
    assert next(iter(data.train_dataloader()))[0].shape == (6, 3, 8, 8)


def test_hidden_files_beside_pictures_with_masks_are_passed_over(tmp_path: Path) -> None:
    masked(tmp_path, CORNERS, np.zeros((2, 3), np.uint8), 1)
    (tmp_path / "images" / "._a.jpg").write_bytes(b"none")
    (tmp_path / "masks" / "._a.png").write_bytes(b"none")
    for name in "bcdef":
        Image.new("RGB", (3, 2)).save(tmp_path / "images" / f"{name}.jpg")
        Image.new("L", (3, 2)).save(tmp_path / "masks" / f"{name}.png")
    data = SegmentationData(root=str(tmp_path), class_names=["no", "yes"], image_size=2, val_fraction=0.2)
    data.setup("fit")
    data.setup("test")
    found = sorted(Path(picture).name for part in data.sets.values() for picture, _ in part.items)
    assert found == [f"{name}.jpg" for name in "abcdef"]
