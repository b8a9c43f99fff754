"""An image file made small: upright, RGB, in pixels, and with nothing of the file but what is seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omnivec.inputs.image.pixels import decode_image, read_header
from omnivec.validation.reasons import item_error

if TYPE_CHECKING:
    from PIL import Image

# Of a huge PNG, blocks of pixels are averaged first: as good to the eye, and much quicker.
_REDUCING_GAP = 3.0


def thumbnail(path: Path, width: int, height: int) -> Image.Image:
    """The picture of a file, RGB, within `width` x `height` pixels; one that is smaller keeps its size.

    It is what a model is shown: turned as EXIF says, transparent places white. Place, camera and comments of the file
    are not in it. A big JPEG is decoded at a fraction of its size.

    Raises:
        ItemError: the file is gone, damaged, no image or too large to be decoded; one line that names it.
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
