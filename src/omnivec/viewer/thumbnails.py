"""Pictures made small: upright, RGB, in pixels, and with nothing of the file but what is seen."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnivec.inputs.image.pixels import look, upright
from omnivec.validation.reasons import item_error

if TYPE_CHECKING:
    from PIL import Image

_JPEG_QUALITY = 82
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
        shown = upright(look(path), fitted)
        rows, columns = fitted(shown.height, shown.width)
        small = shown.image.resize((columns, rows), Image.Resampling.LANCZOS, shown.box, _REDUCING_GAP)
    except BaseException as error:
        raise item_error(error, str(path)) from error
    small.info = {}
    return small


def pixel_size(metadata: Mapping[str, Any]) -> str:
    """Width and height, "4032 x 3024", of an image whose metadata say them; else ""."""
    sides = [metadata.get(side) for side in ("width", "height")]
    return " x ".join(map(str, sides)) if all(type(side) is int for side in sides) else ""


def png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def jpeg(image: Image.Image) -> bytes:
    """An image as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def smallest(image: Image.Image) -> tuple[str, bytes]:
    """MIME type and bytes of an image's file: PNG for a drawing of few colours, JPEG for a photograph."""
    files = {"image/png": png(image), "image/jpeg": jpeg(image)}
    return min(files.items(), key=lambda file: len(file[1]))


def data_uri(image: Image.Image) -> str:
    """An image as a data URI."""
    kind, content = smallest(image)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
