"""Reads and decodes image files; JPEG files can be decoded at a fraction of their size.

`read_header` only reads the header, so that the sizes of many images are known before one is decoded by `decode_image`.
Transparent images are composited over white, as by transformers' processors (timm and OpenCLIP ignore alpha); of 16
bits per channel the upper 8 are used; of an animation the first frame. Colour profiles are not applied, as in all
published preprocessing.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.inputs.files.regular import open_regular
from omnivec.inputs.items import shown
from omnivec.inputs.modality import misread
from omnivec.validation.reasons import LeftOut, decoding, file_name, one_line

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**28
"""Largest number of pixels, 1 GiB while decoding: more than cameras have, less than a small file can declare."""

MAX_SIDE = 2**20
"""Largest length of a side in pixels: the memory for resizing grows with it, even if the other side is short."""

_HEAD = 64
_READERS = {
    # format: first bytes of the file, module and class that read it. ISO media files are recognised by their brands.
    "JPEG": ((b"\xff\xd8\xff",), "PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ((b"\x89PNG\r\n\x1a\n",), "PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ((b"RIFF",), "PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ((b"GIF87a", b"GIF89a"), "PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ((b"BM",), "PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ((), "PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": ((), "pillow_heif.as_plugin", "HeifImageFile"),
}
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1"),
}

# EXIF orientation: number of Pillow's transposition that undoes it.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_SWAPS = frozenset((5, 6, 7, 8))
_STARTS_RIGHT, _STARTS_BELOW = frozenset((2, 3, 6, 7)), frozenset((3, 4, 7, 8))
_ORIENTATION = 0x0112
_TURNED_CHEAPLY = frozenset(("JPEG", "TIFF", "WEBP"))  # in other formats, EXIF is stored after the pixels

_LOADING = Lock()  # the same PIL image must not be loaded by two threads at the same time

MinSize = Callable[[int, int], tuple[int, int]]
"""Maps the (height, width) of an image to the (height, width) at which it may be decoded without a difference."""


@dataclass(frozen=True, eq=False)
class ImageSource:
    """An image whose header was read, but which is not decoded.

    Attributes:
        data: the file, its bytes, or the pixels: a PIL image or uint8 (h, w), (h, w, 3) or (h, w, 4).
        name: its name in error messages.
        width: width in pixels, after the EXIF orientation is applied.
        height: height in pixels, after the EXIF orientation is applied.
        key: equal for the same file or bytes; None for an image in memory.
        is_animated: whether there are more frames or pages after the first, which is the one that is used.
    """

    data: Any
    name: str
    width: int
    height: int
    key: Hashable
    is_animated: bool = False

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @property
    def held(self) -> int:
        """Bytes of memory that it takes while it waits to be decoded."""
        if isinstance(self.data, Path):
            return 0
        return len(self.data) if isinstance(self.data, bytes) else 3 * self.pixels


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image, with the EXIF orientation applied.

    Attributes:
        image: PIL image, mode RGB; smaller than in the file if it was decoded at a reduced size.
        height: height of the image in the file, in pixels.
        width: width of the image in the file, in pixels.
        box: left, upper, right and lower edge of the content, in pixels of `image`: if the size is not divisible by the
            reduction, the last row or column of a reduced image is only partly filled.
    """

    image: Image.Image
    height: int
    width: int
    box: tuple[float, float, float, float]


def read_header(item: Any, max_pixels: int = MAX_PIXELS, name: str = "") -> ImageSource:
    """Reads the header of an image.

    Args:
        item: a pathlib.Path, the bytes of a file, a PIL image, or uint8 (h, w), (h, w, 3) or (h, w, 4).
        max_pixels: largest number of pixels; larger images are refused.
        name: its name in error messages; by default its path or a description.

    Raises:
        ItemError: it is not an image, or cannot be read; one line that names it.
    """
    if isinstance(item, str):
        raise ItemError(f"a str is text, never an image: give pathlib.Path({item[:80]!r}) for the file")
    if not isinstance(item, Path | bytes | np.ndarray) and not hasattr(item, "getexif"):
        raise misread(item, ("image",)) or ItemError(
            f"{shown(item)} is not an image: give a pathlib.Path, a PIL image, or uint8 (h, w, 3)"
        )
    name = name or _name(item)
    with _border(name), _opened(item) as image:
        _refuse_size(image.size, max_pixels)
        width, height = image.size
        if getattr(image, "format", None) in _TURNED_CHEAPLY and _orientation(image) in _SWAPS:
            width, height = height, width
        is_animated = _is_animated(image)
        if isinstance(item, Path):
            status = item.stat()
            key: Hashable = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        else:
            key = item if isinstance(item, bytes) else None
    return ImageSource(item, name, width, height, key, is_animated)


def is_image(head: bytes) -> bool:
    """Whether the first bytes of a file, 64 or more, are those of a supported image format."""
    return _format(head) is not None


def _is_animated(image: Any) -> bool:
    """Whether there is more than one frame; False if the later frames are damaged."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:
        return False


def decode_image(
    source: ImageSource,
    min_size: MinSize | None = None,
    max_pixels: int = MAX_PIXELS,
    take: Callable[[int], None] | None = None,
) -> DecodedImage:
    """Decodes an image as RGB and applies the EXIF orientation.

    Args:
        source: result of `read_header`.
        min_size: returns a sufficient size; a JPEG file is then decoded at the smallest of 1/1, 1/2, 1/4 or 1/8 of its
            sides that is not below it (libjpeg's scaled inverse DCT). None decodes all pixels.
        max_pixels: largest number of pixels, checked again because the file may have changed.
        take: called before decoding with the bytes that it needs; see `ops.process.MemoryReservation`.

    Raises:
        ItemError: it is damaged, truncated, or its values are not colours; one line that names it.
    """
    from PIL import Image

    with _border(source.name), _opened(source.data) as image:
        _refuse_size(image.size, max_pixels)
        whole, part = _reduce(image, min_size) if isinstance(source.data, Path | bytes) else (None, None)
        if take is not None:
            take(_decoded(image))
        image.load()
        (width, height), (right, lower) = whole or image.size, part or image.size
        turn = _orientation(image)  # after loading, in which Pillow rotates a TIFF and removes the tag
        shown = _rgb(image)
        if turn in _TURNS:
            shown = shown.transpose(Image.Transpose(_TURNS[turn]))
    if turn in _SWAPS:
        width, height, right, lower = height, width, lower, right
    left = shown.width - right if turn in _STARTS_RIGHT else 0.0
    upper = shown.height - lower if turn in _STARTS_BELOW else 0.0
    return DecodedImage(shown, height, width, (left, upper, left + right, upper + lower))


def _reduce(
    image: Any, min_size: MinSize | None
) -> tuple[tuple[int, int], tuple[float, float]] | tuple[None, None]:
    """Sets a JPEG file to be decoded at a reduced size; returns (width, height) of the full and reduced image."""
    if min_size is None or image.format != "JPEG":
        return None, None
    width, height = whole = image.size
    swapped = _orientation(image) in _SWAPS
    wanted = min_size(width, height) if swapped else min_size(height, width)[::-1]
    drafted = image.draft(None, wanted)
    return (whole, drafted[1][2:]) if drafted else (None, None)


def _orientation(image: Any) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 if there is none that can be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken tag must not make the image fail
        return 1


def _rgb(image: Any) -> Image.Image:
    """Converts an image to RGB according to its mode."""
    from PIL import Image

    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image  # type: ignore[no-any-return]
    if mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if mode in ("I", "F"):
        raise ItemError(
            f"its pixels are 32-bit numbers (mode {mode}) without a defined white: save it with 8 or 16 bits"
        )
    try:
        if mode == "LAB":
            return _of_lab(image)
        if _is_see_through(image):
            # Pillow converts premultiplied grey to RGBA only in two steps.
            see_through = (image.convert("LA") if mode == "La" else image).convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, see_through).convert("RGB")
        return image.convert("RGB")  # type: ignore[no-any-return]
    except (ValueError, ImportError) as error:
        raise ItemError(
            f"its mode {mode} cannot be converted to colours ({one_line(error)}): save it as RGB"
        ) from error


def _is_see_through(image: Any) -> bool:
    return "transparency" in image.info or "A" in image.getbands() or "a" in image.getbands()


def _of_lab(image: Any) -> Image.Image:
    """Converts CIE L*a*b* to sRGB with the colour management of Pillow."""
    from PIL import ImageCms

    profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
    return ImageCms.buildTransform(*profiles, "LAB", "RGB").apply(image)


def _decoded(image: Any) -> int:
    """Returns the largest number of bytes for decoding an image: its pixels and intermediate copies of them."""
    each = 24 if _is_see_through(image) else 8 if image.mode == "RGB" else 12
    turned = 4 if _orientation(image) in _TURNS else 0
    return int(image.width * image.height * (each + turned))


def _refuse_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if not width or not height:
        raise ItemError(f"{width} x {height} pixels: there is nothing to see")
    if max(width, height) > MAX_SIDE:
        raise ItemError(
            f"{width:,} x {height:,} pixels: a side is over the limit of {MAX_SIDE:,}: cut it into several images"
        )
    if width * height > max_pixels:
        raise ItemError(
            f"{width:,} x {height:,} = {width * height:,} pixels, over the limit of {max_pixels:,}: "
            "a decompression bomb? else make it smaller"
        )


@contextmanager
def _opened(source: Any) -> Iterator[Any]:
    """Yields a PIL image whose header was read."""
    if isinstance(source, Path):
        with open_regular(source, "an image file") as file:
            yield _parsed(file)
    elif isinstance(source, bytes):
        with io.BytesIO(source) as file:
            yield _parsed(file)
    elif isinstance(source, np.ndarray):
        yield _of_array(source)
    else:
        with _LOADING:
            source.load()
        yield source


def _parsed(file: IO[bytes]) -> Any:
    """Makes a PIL image of a file, whose format is recognised by its first bytes.

    Image.open is not used, because it only warns about images that are too large.
    """
    head = file.read(_HEAD)
    file.seek(0)
    if not head:
        raise LeftOut("empty", "empty (0 bytes): there is no image in it")
    name = _format(head)
    if name is None:
        known = ", ".join(_READERS)
        raise LeftOut(
            "no image", f"not an image: it begins with {head[:12]!r}; supported formats are {known}"
        )
    _, module, reader = _READERS[name]
    try:
        return getattr(importlib.import_module(module), reader)(file)
    except ImportError as error:
        raise ItemError(f"{name} is read with pillow-heif: pip install pillow-heif") from error


def _format(head: bytes) -> str | None:
    """Returns the format of a file by its first bytes; None if it is not an image."""
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in (8, *range(16, min(int.from_bytes(head[:4], "big"), _HEAD), 4))}
        return next((name for name, codes in _BRANDS.items() if brands.intersection(codes)), None)
    for name, (beginnings, _, _) in _READERS.items():
        if head.startswith(beginnings):
            return name if name != "WebP" or head[8:12] == b"WEBP" else None
    return None


def _of_array(array: NDArray[Any]) -> Image.Image:
    from PIL import Image

    shape = array.shape
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and shape[2] in (3, 4))):
        raise ItemError(
            f"{array.dtype} {shape}: an image in memory must be uint8 (height, width, 3), or a PIL image"
        )
    if not array.size:
        raise ItemError(f"{shape[1]} x {shape[0]} pixels: there is nothing to see")
    return Image.fromarray(np.ascontiguousarray(array))


def _name(item: Any) -> str:
    """Returns the name of an item in error messages."""
    if isinstance(item, Path):
        return file_name(item)
    if isinstance(item, bytes):
        return f"image file of {len(item):,} bytes"
    if isinstance(item, np.ndarray):
        return "image array"
    return str(getattr(item, "filename", "") or "PIL image")


@contextmanager
def _border(name: str) -> Iterator[None]:
    """Converts exceptions of any class to an ItemError that names the image."""
    from PIL.Image import DecompressionBombError

    with decoding(name, "make it smaller"):
        try:
            yield
        except DecompressionBombError as error:  # of one tile of a TIFF, or a frame
            raise ItemError(one_line(error)) from error
