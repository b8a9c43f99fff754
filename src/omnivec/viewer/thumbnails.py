"""Encoding thumbnails as image files and as data URIs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_JPEG_QUALITY = 82


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
    """MIME type and bytes of the smaller of PNG (drawings of few colours) and JPEG (photographs)."""
    files = {"image/png": png(image), "image/jpeg": jpeg(image)}
    return min(files.items(), key=lambda file: len(file[1]))


def data_uri(image: Image.Image) -> str:
    """An image as a data URI."""
    kind, content = smallest(image)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
