"""What the pixels of a picture file mean, by its mode, and which way up it is.

A picture is brought to 8 bits a channel, "RGB" or "L", black 0 and white 255. A mask keeps its numbers.

| in the file | PIL's mode | as a picture | as a mask |
| --- | --- | --- | --- |
| grey, colour, 8 bits | L, RGB, YCbCr, HSV | as it is | grey: the numbers; colour is refused |
| grey of 1, 2 or 4 bits | 1, L | stretched to 0 to 255 | the numbers 0 to 1, 3 or 15 |
| palette | P | the palette's colours | the numbers, not their colours |
| transparent, also a palette's colour or one colour | LA, La, PA, RGBA, RGBa | laid on white | one colour of a palette or of grey: the numbers; others are refused |
| grey of 16 bits | I;16 and the like; I in some formats | 65535 is white | the numbers |
| whole numbers of 32 bits | I | 65535 is white; above, below 0, or all below 256 is refused | the numbers |
| floating point | F | 0 is black, 1 is white; all else is refused | refused |
| colour of 16 bits | RGB, RGBA (Pillow reads the upper 8 bits) | as it is | refused |
| print colours | CMYK | by its ICC profile, where it has one that can be used, else by the plain formula | refused |
| CIE L*a*b* | LAB | as sRGB | refused |

What is refused has no agreed white: guessing one for each file would make a dark picture of a set as light as the others.

The EXIF orientation is followed: the picture is as a viewer shows it, and so are masks and the pixels of boxes. Of several
pictures in a file the first counts.
"""  # fmt: skip  # noqa: E501

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["RGB", "L"]

_ORIENTATION = 0x0112  # EXIF's number for it
_WHITE_16 = 65535
_STEP_OF = {"1": 255, "L;2": 85, "L;4": 17}  # how Pillow stretches the numbers of grey of few bits


def stored_as(picture: Image) -> str:
    """Return how the file of a picture, opened and not yet loaded, holds a pixel, such as "L;4" or "I;32S"."""
    tiles = getattr(picture, "tile", None)
    if not tiles:
        return picture.mode
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def orientation_of(picture: Image) -> int:
    """Return EXIF's orientation, 1 (upright) to 8; 1 where there is none that can be read."""
    found: object = 1
    with suppress(Exception):  # a block that is damaged; viewers show such a picture as it is stored
        found = picture.getexif().get(_ORIENTATION, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def turned(picture: Image, orientation: int) -> Image:
    """Return a picture as EXIF's orientation says that it is to be shown."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    turn = turns.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def in_bytes(picture: Image, mode: Mode, stored: str) -> Image:
    """Return a loaded picture as 8 bits a channel; see the table above. `stored` is as `stored_as` gave it.

    Raises:
        ValueError: its values have no agreed white; says which they are.
    """
    from PIL import Image

    if picture.mode.startswith(("I", "F")):
        picture = _scaled(picture, stored)
    elif picture.has_transparency_data:
        plain = picture.convert("LA" if picture.mode == "La" else "RGBA").convert("RGBA")
        paper = Image.new("RGBA", plain.size, "white")
        picture = Image.alpha_composite(paper, plain).convert("RGB")
    elif picture.mode in ("CMYK", "LAB"):
        picture = _as_srgb(picture)
    return picture if picture.mode == mode else picture.convert(mode)


def as_numbers(picture: Image, stored: str) -> Image:
    """Return a loaded picture whose pixels are the numbers in the file; `stored` likewise."""
    import numpy as np
    from PIL import Image

    if picture.mode.startswith("I;"):  # of either byte order
        return Image.fromarray(np.asarray(picture).astype(np.int32))
    step = _STEP_OF.get("1" if picture.mode == "1" else stored if picture.mode == "L" else "")
    if step is None:
        return picture
    return picture.convert("L").point([value // step for value in range(256)])


def _scaled(picture: Image, stored: str) -> Image:
    """Return grey of more than 8 bits as 8 bits."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if picture.mode == "F":
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise ValueError(
                f"floating-point values from {low:g} to {high:g}; expected 0 (black) to 1 (white), so scale them"
            )
        shares = values.astype(np.float64)
    else:
        if low < 0 or high > _WHITE_16:
            raise ValueError(
                f"32-bit values from {low} to {high}; expected 0 (black) to {_WHITE_16} (white), so scale them"
            )
        if picture.mode == "I" and 0 < high < 256 and "32" in stored:
            raise ValueError(
                f"32-bit values up to {high}, which may be black ({_WHITE_16} is white) or an 8-bit picture; save it "
                "with 8 or 16 bits"
            )
        shares = values / _WHITE_16
    return Image.fromarray((shares * 255 + 0.5).astype(np.uint8))


def _as_srgb(picture: Image) -> Image:
    """Return CMYK or LAB as RGB: through the profiles of their colours, where there are such."""
    from PIL import ImageCms

    try:
        if picture.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(BytesIO(picture.info["icc_profile"]))
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        found = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
        assert found is not None  # it is None where a picture is changed in place
        return found
    except (KeyError, OSError, ImageCms.PyCMSError):  # no profile, or one of other colours
        return picture.convert("RGB")
