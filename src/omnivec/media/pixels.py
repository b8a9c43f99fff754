"""Image files to pixels, in pixels: what is read, what is refused, and JPEG at a fraction of its size.

`look` reads a header, so that many images can be known before one is decoded; `upright` decodes. Alpha is laid over
white, as transformers' processors do; of 16 bits a channel the upper 8 are taken; of an animation the first frame.
"""

from __future__ import annotations

import importlib
import io
import os
import stat
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**28
"""Most pixels of an image, 1 GiB while it is decoded: above every camera's, below what a few bytes can ask for."""

_HEAD = 64
_READERS = {
    # format: what the file begins with, where Pillow reads it. ISO media files are told apart by their brands.
    "JPEG": ((b"\xff\xd8\xff",), "PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ((b"\x89PNG\r\n\x1a\n",), "PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ((b"RIFF",), "PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ((b"GIF87a", b"GIF89a"), "PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ((b"BM",), "PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ((), "PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": ((), "pillow_heif.as_plugin", "HeifImageFile"),
}
_BRANDS = {"AVIF": (b"avif", b"avis"), "HEIC": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1")}

# EXIF's orientation -> the number of Pillow's transposition that undoes it.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_SWAPS = frozenset((5, 6, 7, 8))
_STARTS_RIGHT, _STARTS_BELOW = frozenset((2, 3, 6, 7)), frozenset((3, 4, 7, 8))
_ORIENTATION = 0x0112

Enough = Callable[[int, int], tuple[int, int]]
"""(height, width) of a whole image -> the (height, width) from which on more pixels make no difference."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of which the header was read, and no more.

    Attributes:
        source: the file, its bytes, or the pixels: a PIL image or uint8 (h, w), (h, w, 3) or (h, w, 4).
        name: how errors call it.
        pixels: how many it has.
        key: equal for images that are the same file or the same bytes; None where that is not told cheaply.
    """

    source: Any
    name: str
    pixels: int
    key: Hashable


@dataclass(frozen=True, eq=False)
class Upright:
    """A decoded image, turned as it is to be seen.

    Attributes:
        image: PIL, mode RGB; smaller than the file's where fewer pixels were enough.
        height: of the whole image, in pixels.
        width: of the whole image, in pixels.
        box: left, upper, right and lower edge of what was photographed, in pixels of `image`: a reduced image whose
            sides do not divide evenly has a last row or column that is only partly filled.
    """

    image: Image.Image
    height: int
    width: int
    box: tuple[float, float, float, float]


def look(item: Any, max_pixels: int = MAX_PIXELS) -> Picture:
    """What can be known of an image without decoding it.

    Args:
        item: a pathlib.Path, the bytes of a file, a PIL image, or uint8 (h, w), (h, w, 3) or (h, w, 4).
        max_pixels: an image with more is refused.

    Raises:
        ItemError: it is no image, or one that cannot be read; one line that names it.
    """
    if isinstance(item, str):
        raise ItemError(f"a str is text, never an image: give pathlib.Path({item[:80]!r}) for the file")
    name = _name(item)
    with _border(name), _opened(item) as image:
        width, height = image.size
        _refuse_size(width, height, max_pixels)
        if isinstance(item, Path):
            status = item.stat()
            key: Hashable = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        else:
            key = item if isinstance(item, bytes) else None
    return Picture(item, name, width * height, key)


def upright(picture: Picture, enough: Enough | None = None, max_pixels: int = MAX_PIXELS) -> Upright:
    """The pixels of an image, RGB, turned by its EXIF orientation.

    Args:
        picture: what `look` has returned.
        enough: says which size is enough; a JPEG file is then decoded at 1/2, 1/4 or 1/8 of its sides, whichever is
            the least that is not below it (libjpeg's scaled inverse DCT). None decodes all pixels.
        max_pixels: an image with more is refused; files change.

    Raises:
        ItemError: damaged, cut off, or of a kind whose values are no colours; one line that names it.
    """
    with _border(picture.name), _opened(picture.source) as image:
        width, height = image.size
        _refuse_size(width, height, max_pixels)
        right, lower = float(width), float(height)
        if enough is not None and image.format == "JPEG" and not isinstance(picture.source, _images()):
            swapped = _orientation(image) in _SWAPS
            wanted = enough(width, height)[::-1] if swapped else enough(height, width)
            drafted = image.draft(None, wanted[::-1])
            right, lower = drafted[1][2:] if drafted else (right, lower)
        image.load()
        turn = _orientation(image)  # after loading: TIFF turns itself, and drops the tag
        shown = _rgb(image)
        if not drafted_fits(image.size, (right, lower)):
            right, lower = image.size
            width, height = image.size
        if turn in _TURNS:
            from PIL import Image

            shown = shown.transpose(Image.Transpose(_TURNS[turn]))
    if turn in _SWAPS:
        width, height, right, lower = height, width, lower, right
    left = shown.width - right if turn in _STARTS_RIGHT else 0.0
    upper = shown.height - lower if turn in _STARTS_BELOW else 0.0
    return Upright(shown, height, width, (left, upper, left + right, upper + lower))
