"""The modality of images, measured in pixels: a file, its bytes, a PIL image, or uint8 (h, w) or (h, w, 3)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omnivec.inputs.modality import Canaries, Modality

if TYPE_CHECKING:
    from omnivec.inputs.content import Content
    from omnivec.inputs.preparer import Preparer, PreparerSource

_PREFIX = "picture:"

# A picture for each aspect in which resizing or precisions may differ: colours, fine grain, edges, proportions.
PICTURES: Mapping[str, tuple[int, int]] = {  # name: height and width
    "colours": (96, 128),
    "noise": (64, 64),
    "stripes": (224, 160),
    "checks": (75, 301),
}

TOLERANCE = 1e-2
"""Largest 1 - cosine of canaries; bfloat16 causes up to 3e-3 in a small convolutional network."""


def _accepts(item: Any) -> bool:
    if isinstance(item, np.ndarray):
        return item.dtype == np.uint8 and item.ndim in (2, 3)
    pillow = sys.modules.get("PIL.Image")  # a PIL image exists only if Pillow is imported
    pixels = sys.modules.get("omnivec.inputs.image.pixels")
    return (pillow is not None and isinstance(item, pillow.Image)) or (
        pixels is not None and isinstance(item, pixels.ImageSource)
    )


def _sniff(head: bytes) -> bool:
    from omnivec.inputs.image.pixels import is_image

    return is_image(head)


def _read(data: bytes, path: Path, encodings: Sequence[str]) -> Content:
    import hashlib

    from omnivec.validation.reasons import file_name

    return _of(data, file_name(path), hashlib.sha256(data).digest())


def _content(item: Any) -> Content:
    """Returns the content of an image in memory; the decoded pixels are hashed."""
    import hashlib

    from omnivec.inputs.image.pixels import ImageSource, decode_image, read_header

    picture = item if isinstance(item, ImageSource) else read_header(item)
    pixels = np.asarray(decode_image(picture).image)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
    return _of(pixels, "image in memory", digest)


def _of(source: Any, name: str, digest: bytes) -> Content:
    from omnivec.inputs.content import Content
    from omnivec.inputs.image.pixels import read_header

    picture = read_header(source, name=name)
    note = f"{name}: several frames or pages, of which the first is indexed" if picture.is_animated else None
    facts = {"width": picture.width, "height": picture.height}
    return Content("image", digest, picture, facts=facts, note=note, held=picture.held)


def _preparer(source: PreparerSource) -> Preparer:
    from omnivec.inputs.image.image import ImagePreparer
    from omnivec.inputs.image.published import read_processing

    usual, pretrained = getattr(source.family, "PREPROCESSING", None), source.published.get("pretrained_cfg")
    # A folder without config.json uses the default of its family; a pretrained_cfg is read and checked again.
    defaults = None if usual is None else {**usual, **(pretrained if isinstance(pretrained, Mapping) else {})}
    return ImagePreparer(read_processing(source.root, defaults), source.decode == "exact", source.threads)


def _canary(name: str) -> Any:
    from omnivec.inputs.image.canary import drawn

    name = name.removeprefix(_PREFIX)
    return drawn(name, *PICTURES[name])


def _thumbnail(path: Path, width: int, height: int) -> Any:
    from omnivec.inputs.image.thumbnail import thumbnail

    return thumbnail(path, width, height)


def _measure(metadata: Mapping[str, Any]) -> str:
    sides = [metadata.get(side) for side in ("width", "height")]
    return " x ".join(map(str, sides)) if all(type(side) is int for side in sides) else ""


def _input_size(facts: Mapping[str, Any]) -> str:
    length = facts["length"]
    height, width = facts.get("preprocessing", {}).get("input_size", [3, length, length])[1:]
    return f"{height}x{width} px"


MODALITY = Modality(
    name="image",
    one="an image",
    plural="images",
    given="an image as PIL or uint8 (h, w, 3) has it",
    unit="pixels",
    rank=1,
    accepts=_accepts,
    suffixes=frozenset(
        [
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".png",
            ".webp",
            ".gif",
            ".bmp",
            ".tif",
            ".tiff",
            ".avif",
            ".heic",
            ".heif",
        ]
    ),
    sniff=_sniff,
    read=_read,
    content=_content,
    pipeline="image/1",
    load_options=("decode",),
    preparer=_preparer,
    canaries=Canaries(tuple(_PREFIX + name for name in PICTURES), _canary, TOLERANCE, _PREFIX),
    default_model="efficientnet-lite0",
    joint_model="hf:openai/clip-vit-base-patch32",
    templates=("a photo of a {}.",),
    thumbnail=_thumbnail,
    measure=_measure,
    input_size=_input_size,
)
