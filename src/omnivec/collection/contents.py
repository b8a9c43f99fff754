"""What a collection is given to keep or to look for, read once: a text or an image, and the hash of what was read."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omnivec.inputs.files.suffixes import kind_of
from omnivec.types import Modality
from omnivec.validation.reasons import file_name, item_error

if TYPE_CHECKING:
    from omnivec.inputs.image.pixels import Picture

MAX_BYTES = 64 * 2**20
IMAGE = "image/1"
"""How images become documents: each a passage, with one vector."""


@dataclass(frozen=True, eq=False)
class Content:
    """What was read of a file or an item.

    Attributes:
        modality: text or image.
        digest: SHA-256 of a file's bytes, of a text in UTF-8, or of an image's pixels.
        text: "" of an image.
        line: character -> line in the source, of a file of text.
        image: its bytes or pixels, the header read.
        facts: for filters: width and height of an image, in pixels.
        note: what of it is not in, though it is no failure; None where all is.
        encoding: the one of those given that a file of text was read with; None where it told by itself.
    """

    modality: Modality
    digest: bytes
    text: str = ""
    line: Callable[[int], int] | None = None
    image: Picture | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None
    encoding: str | None = None

    @property
    def held(self) -> int:
        """Bytes of memory that it takes, about."""
        return len(self.text) if self.image is None else self.image.held


def read(path: Path, *, encoding: str | Sequence[str] | None = None, max_bytes: int = MAX_BYTES) -> Content:
    """A file, by its name; where that says nothing, by how it begins.

    Raises:
        ItemError: neither a text nor an image that can be read; one line that begins with its path.
    """
    try:
        return _read(path, encoding, max_bytes)
    except BaseException as error:
        raise item_error(error, file_name(path)) from error


def _read(path: Path, encoding: str | Sequence[str] | None, max_bytes: int) -> Content:
    from omnivec.inputs.files.read import read_bytes, text_of

    data, kind = read_bytes(path, max_bytes), kind_of(path)
    if kind == "image" or (kind is None and _is_image(data)):
        return _image(data, file_name(path), hashlib.sha256(data).digest())
    source = text_of(data, path, encoding=encoding)
    chosen = source.encoding if source.given else None
    return Content("text", bytes.fromhex(source.digest), source.text, source.line, encoding=chosen)


def content_of(item: Any) -> Content:
    """An item: a str is a text, a pathlib.Path a file, a PIL image or uint8 (h, w, 3) an image.

    Raises:
        ItemError: it is none of these, or cannot be read.
    """
    from omnivec.inputs.text import text

    if isinstance(item, Path):
        return read(item)
    if is_pixels(item):
        return _pixels(item)
    said = text.decode(item)
    return Content("text", hashlib.sha256(said.encode("utf-8")).digest(), said)


def is_pixels(item: Any) -> bool:
    """Whether an item is an image in memory."""
    pillow = sys.modules.get("PIL.Image")  # Who has a PIL image has imported it.
    return isinstance(item, np.ndarray) or (pillow is not None and isinstance(item, pillow.Image))


def _is_image(data: bytes) -> bool:
    from omnivec.inputs.image.pixels import is_image

    return is_image(data[:64])


def _image(source: Any, name: str, digest: bytes) -> Content:
    from omnivec.inputs.image.pixels import look

    picture = look(source, name=name)
    note = f"{name}: several frames or pages, of which the first is indexed" if picture.moves else None
    facts = {"width": picture.width, "height": picture.height}
    return Content("image", digest, image=picture, facts=facts, note=note)


def _pixels(item: Any) -> Content:
    """An image in memory, decoded: what is hashed is what will be embedded."""
    from omnivec.inputs.image.pixels import look, upright

    pixels = np.asarray(upright(look(item)).image)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
    return _image(pixels, "image in memory", digest)
