"""Thumbnails of image files, without their metadata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omnivec.inputs.image.pixels import decode_image, read_header
from omnivec.validation.reasons import item_error

if TYPE_CHECKING:
    from PIL import Image

# Pillow averages blocks of a large image before resizing, which looks the same and is much faster.
_REDUCING_GAP = 3.0


def thumbnail(path: Path, width: int, height: int) -> Image.Image:
    """Makes an RGB image of a file that fits into `width` x `height` pixels; a smaller one keeps its size.

    The EXIF orientation is applied, and transparent areas are white, as for a model. Location, camera and comments of
    the file are not included. A large JPEG is decoded at a fraction of its size.

    Raises:
        ItemError: the file is gone, damaged, not an image or too large to be decoded; one line that names it.
    """
    from PIL import Image

    def fitted(rows: int, columns: int) -> tuple[int, int]:
        scale = min(1.0, height / rows, width / columns)
        return max(1, round(rows * scale)), max(1, round(columns * scale))

    try:
        shown = decode_image(read_header(path), fitted)
        rows, columns = fitted(shown.height, shown.width)
        small = shown.image.resize((columns, rows), Image.Resampling.LANCZOS, shown.box, _REDUCING_GAP)
    except BaseException as error:
        raise item_error(error, str(path)) from error
    small.info = {}
    return small
