"""Image files to pixels, in pixels: what is read, what is refused, and JPEG at a fraction of its size.

`read_header` reads a header, so that many images can be known before one is decoded; `decode_image` decodes. Alpha is
laid over white, as transformers' processors do (timm and OpenCLIP show the colours beneath); of 16 bits a channel the
upper 8 are taken; of an animation the first frame. Colour profiles are not applied: no published preprocessing does.
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
from threading import Lock
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.inputs.items import shown
from omnivec.inputs.modality import misread
from omnivec.validation.reasons import PASSING, LeftOut, file_name, is_of_system, named, of_system, one_line

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**28
"""Most pixels of an image, 1 GiB while it is decoded: above every camera's, below what a few bytes can ask for."""

MAX_SIDE = 2**20
"""Most pixels along one side: what resizing takes grows with a side, however few pixels the other has."""

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
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1"),
}

# EXIF's orientation -> the number of Pillow's transposition that undoes it.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_SWAPS = frozenset((5, 6, 7, 8))
_STARTS_RIGHT, _STARTS_BELOW = frozenset((2, 3, 6, 7)), frozenset((3, 4, 7, 8))
_ORIENTATION = 0x0112
_TURNED_CHEAPLY = frozenset(("JPEG", "TIFF", "WEBP"))  # of others EXIF stands behind the pixels

_LOADING = Lock()  # one PIL image may be given twice, and is not to be loaded by two threads at a time

MinSize = Callable[[int, int], tuple[int, int]]
"""(height, width) of a whole image -> the (height, width) from which on more pixels make no difference."""


@dataclass(frozen=True, eq=False)
class ImageSource:
    """An image of which the header was read, and no more.

    Attributes:
        data: the file, its bytes, or the pixels: a PIL image or uint8 (h, w), (h, w, 3) or (h, w, 4).
        name: how errors call it.
        width: in pixels, as it is to be seen.
        height: in pixels, as it is to be seen.
        key: equal for images that are the same file or the same bytes; None where that is not told cheaply.
        is_animated: whether other frames or pages follow the first, which is the one that is read.
    """

    data: Any
    name: str
    width: int
    height: int
    key: Hashable
    is_animated: bool = False

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.width * self.height

    @property
    def held(self) -> int:
        """Bytes of memory that it takes while it waits to be decoded."""
        if isinstance(self.data, Path):
            return 0
        return len(self.data) if isinstance(self.data, bytes) else 3 * self.pixels


@dataclass(frozen=True, eq=False)
class DecodedImage:
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


def read_header(item: Any, max_pixels: int = MAX_PIXELS, name: str = "") -> ImageSource:
    """What can be known of an image without decoding it.

    Args:
        item: a pathlib.Path, the bytes of a file, a PIL image, or uint8 (h, w), (h, w, 3) or (h, w, 4).
        max_pixels: an image with more is refused.
        name: how errors call it; by default its path, or what it is.

    Raises:
        ItemError: it is no image, or one that cannot be read; one line that names it.
    """
    if isinstance(item, str):
        raise ItemError(f"a str is text, never an image: give pathlib.Path({item[:80]!r}) for the file")
    if not isinstance(item, Path | bytes | np.ndarray) and not hasattr(item, "getexif"):
        raise misread(item, ("image",)) or ItemError(
            f"{shown(item)} is no image: give a pathlib.Path, a PIL image, or uint8 (h, w, 3)"
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
    """Whether the first bytes of a file, 64 or more, are those of an image that can be read."""
    return _format(head) is not None


def _is_animated(image: Any) -> bool:
    """Whether there are frames behind the first; what is damaged there is no reason to lose it."""
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
    """The pixels of an image, RGB, turned by its EXIF orientation.

    Args:
        source: what `read_header` has returned.
        min_size: says which size is enough; a JPEG file is then decoded at 1/2, 1/4 or 1/8 of its sides, whichever is
            the least that is not below it (libjpeg's scaled inverse DCT). None decodes all pixels.
        max_pixels: an image with more is refused; files change.
        take: is told how many bytes decoding takes, before it does; see `ops.process.MemoryReservation`.

    Raises:
        ItemError: damaged, cut off, or of a kind whose values are no colours; one line that names it.
    """
    from PIL import Image

    with _border(source.name), _opened(source.data) as image:
        _refuse_size(image.size, max_pixels)
        whole, part = _reduce(image, min_size) if isinstance(source.data, Path | bytes) else (None, None)
        if take is not None:
            take(_decoded(image))
        image.load()
        (width, height), (right, lower) = whole or image.size, part or image.size
        turn = _orientation(image)  # after loading: TIFF turns itself, and drops the tag
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
    """Has a JPEG file decoded at a part of its size; (width, height) of the whole, and of it in the reduced one."""
    if min_size is None or image.format != "JPEG":
        return None, None
    width, height = whole = image.size
    swapped = _orientation(image) in _SWAPS
    wanted = min_size(width, height) if swapped else min_size(height, width)[::-1]
    drafted = image.draft(None, wanted)
    return (whole, drafted[1][2:]) if drafted else (None, None)


def _orientation(image: Any) -> int:
    """How EXIF says that an image lies, 1 to 8; 1 where it says nothing that can be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken tag is no reason to lose the pixels
        return 1


def _rgb(image: Any) -> Image.Image:
    """An image in RGB, by what its mode means."""
    from PIL import Image

    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image  # type: ignore[no-any-return]
    if mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if mode in ("I", "F"):
        raise ItemError(
            f"its pixels are 32-bit numbers (mode {mode}) of which none is white: save it with 8 or 16 bits"
        )
    try:
        if mode == "LAB":
            return _of_lab(image)
        if _is_see_through(image):
            # Pillow knows the way from multiplied grey to colours in two steps only.
            see_through = (image.convert("LA") if mode == "La" else image).convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, see_through).convert("RGB")
        return image.convert("RGB")  # type: ignore[no-any-return]
    except (ValueError, ImportError) as error:
        raise ItemError(
            f"its mode {mode} has no way to colours ({one_line(error)}): save it as RGB"
        ) from error


def _is_see_through(image: Any) -> bool:
    return "transparency" in image.info or "A" in image.getbands() or "a" in image.getbands()


def _of_lab(image: Any) -> Image.Image:
    """CIE L*a*b* in sRGB, by the library of colour profiles that Pillow brings."""
    from PIL import ImageCms

    profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
    return ImageCms.buildTransform(*profiles, "LAB", "RGB").apply(image)


def _decoded(image: Any) -> int:
    """Bytes that decoding an image takes at most: its pixels, and those of the forms that it goes through."""
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
    """A PIL image whose header was read."""
    if isinstance(source, Path):
        with _file(source) as file:
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


def _file(path: Path) -> IO[bytes]:
    # Without O_NONBLOCK a FIFO would hold us for ever.
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    )
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ItemError("a folder, not an image file")
    if not stat.S_ISREG(mode):
        raise ItemError("not a regular file (a FIFO, socket or device), which is never read")
    return open(os.open(path, flags), "rb")  # noqa: PTH123, a descriptor that the caller closes


def _parsed(file: IO[bytes]) -> Any:
    """A PIL image of a file, told by its first bytes. Pillow's `open` is passed by: its limit warns, ours refuses."""
    head = file.read(_HEAD)
    file.seek(0)
    if not head:
        raise LeftOut("empty", "empty (0 bytes): there is no image in it")
    name = _format(head)
    if name is None:
        known = ", ".join(_READERS)
        raise LeftOut("no image", f"no image: it begins with {head[:12]!r}; what can be read is {known}")
    _, module, reader = _READERS[name]
    try:
        return getattr(importlib.import_module(module), reader)(file)
    except ImportError as error:
        raise ItemError(f"{name} is read with pillow-heif: pip install pillow-heif") from error


def _format(head: bytes) -> str | None:
    """The format of a file by its first bytes; None where it is no image."""
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
            f"{array.dtype} {shape}: an image in memory is uint8 (height, width, 3), or a PIL image"
        )
    if not array.size:
        raise ItemError(f"{shape[1]} x {shape[0]} pixels: there is nothing to see")
    return Image.fromarray(np.ascontiguousarray(array))


def _name(item: Any) -> str:
    """How errors call an item that may be an image."""
    if isinstance(item, Path):
        return file_name(item)
    if isinstance(item, bytes):
        return f"image file of {len(item):,} bytes"
    if isinstance(item, np.ndarray):
        return "image array"
    return str(getattr(item, "filename", "") or "PIL image")


@contextmanager
def _border(name: str) -> Iterator[None]:
    """What decoders and the system raise, in one line that names the image. They raise anything on damaged files."""
    from PIL.Image import DecompressionBombError

    try:
        yield
    except ItemError as error:
        raise named(error, name) from error.__cause__
    except DecompressionBombError as error:  # of one tile of a TIFF, or a frame
        raise ItemError(f"{name}: {one_line(error)}") from error
    except MemoryError as error:
        raise ItemError(f"{name}: not enough memory to decode it; make it smaller") from error
    except BaseException as error:
        if isinstance(error, PASSING):
            raise
        if is_of_system(error):
            raise ItemError(f"{name}: {of_system(error)}") from error
        raise ItemError(
            f"{name}: damaged or cut off ({one_line(error)}); copy it again from where it came"
        ) from error
