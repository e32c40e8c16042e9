"""Image files: read to tensors, with an error that names the file, or checked first and skipped where they are bad."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from lightkit.errors import ConfigError, DataError
from recipes.vision.modes import Mode, as_numbers, in_bytes, orientation_of, stored_as, turned

OnBadFile = Literal["error", "skip"]
Item = TypeVar("Item")

_SHOWN = 3  # so many skipped files are named, the others counted


def open_picture(path: str, mode: Mode | None, at_least: int | None = None) -> Any:
    """Read an image file wholly and return it as a PIL image, upright; `modes.py` says what becomes of which pixels.

    Args:
        path: the file.
        mode: "RGB" or "L", 8 bits a channel, to convert to; None for a mask, whose pixels are numbers: they are kept.
        at_least: height and width, pixels, below which a JPEG need not be decoded in full.

    Raises:
        DataError: the file cannot be read as an image, or its values have no agreed white; names the file.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            if at_least is not None and mode is not None:
                # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is still large enough
                file.draft(mode, (at_least, at_least))
            stored = stored_as(file)
            file.load()
            picture = in_bytes(file, mode, stored) if mode is not None else as_numbers(file, stored)
            # the orientation is read from the file: not every conversion hands it on
            return turned(picture, orientation_of(file)).copy()
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders fail in as many ways as files can be broken
        raise DataError(f"{path}: cannot be read as an image; replace or remove it ({error})") from None


def is_turned(path: str) -> bool:
    """Whether the file holds the picture in another way than it is shown, by its EXIF orientation."""
    from PIL import Image

    with Image.open(path) as file:
        return orientation_of(file) != 1


def mode_of(channels: int) -> Mode:
    """Return the mode of pictures with so many channels, 1 or 3."""
    return "RGB" if channels == 3 else "L"


def to_tensor(picture: Any) -> Tensor:
    """Return a PIL image as uint8 (channels, height, width)."""
    import numpy as np

    pixels = torch.from_numpy(np.array(picture))
    return pixels.view(*pixels.shape[:2], -1).permute(2, 0, 1)


def fit_square(picture: Any, image_size: int, *, smooth: bool = True) -> Any:
    """Scale the shorter side to `image_size` and cut off evenly what stands over; masks without smoothing."""
    from PIL import Image, ImageOps

    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return ImageOps.fit(picture, (image_size, image_size), how)


def read_square(path: str, image_size: int, channels: int) -> Tensor:
    """Return an image file as a square, uint8 (channels, image_size, image_size).

    Raises:
        DataError: the file cannot be read as an image; names the file.
    """
    return to_tensor(fit_square(open_picture(path, mode_of(channels), image_size), image_size))


def keep_usable(
    items: Sequence[Item], check: Callable[[Item], Any], *, owner: str, on_bad_file: OnBadFile
) -> list[Item]:
    """Return the items that can be read; under "skip" each is read once, now, and what fails is counted.

    Under "error" nothing is read here: the error comes when the file is needed. Files are left out before
    the training and not in it, so that epochs, batches and a resumed run stay what they were.

    Args:
        items: files, or whatever `check` takes.
        check: reads one item and raises DataError where it cannot be used.
        owner: whose files these are, for the warning.
        on_bad_file: "error" or "skip".
    """
    if on_bad_file == "error":
        return list(items)

    def problem_of(item: Item) -> str | None:
        try:
            check(item)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:  # decoding does not hold Python's lock
        problems = list(pool.map(problem_of, items))
    warn_of_skipped([problem for problem in problems if problem], len(items), owner=owner, what="files")
    return [item for item, problem in zip(items, problems, strict=True) if problem is None]


def warn_of_skipped(problems: Sequence[str], total: int, *, owner: str, what: str) -> None:
    """Warn once, with the count and the first few, that something was left out; nothing where nothing was."""
    if problems:
        more = f"; and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        warnings.warn(
            f"{owner}(on_bad_file='skip'): skipped {len(problems):,} of {total:,} {what}: "
            f"{'; '.join(problems[:_SHOWN])}{more}",
            stacklevel=3,
        )


def check_on_bad_file(owner: str, value: str) -> None:
    """Raise ConfigError unless `value` is one of the two ways."""
    if value not in ("error", "skip"):
        raise ConfigError(f"{owner}(on_bad_file={value!r}): expected 'error' or 'skip'")
