"""A model's preprocessing as data: how an image of any size becomes the (h, w) pixels that the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.image.pixels import DecodedImage
from omnivec.types import Floats

if TYPE_CHECKING:
    from PIL import Image

Triple = tuple[float, float, float]
Filter = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Fit = Literal["shortest", "cover", "contain", "exact", "none"]

FILTERS: tuple[Filter, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""In the order of Pillow's numbers, which transformers' files write. All but nearest smooth what they make smaller."""

_REACH = (1.0, 3.0, 1.0, 2.0, 0.5, 1.0)
"""By filter, how many pixels beside the one it makes it reads: of those asked for where it makes smaller."""

_CUT_FIRST = 16
"""A resized image that would have more than so many times the crop's pixels is cropped before it is resized."""

_WHOLE = 2**24
"""Pixels up to which it is not, with a filter that reads a pixel or does not: rounding decides at its edges."""

_SPARE = 2
"""A reduced image has at least so many pixels for each that is asked for, along each side."""


@dataclass(frozen=True)
class Processing:
    """Resize, crop about the centre, rescale and normalise: (pixel * scale - mean) / std.

    Attributes:
        size: (h, w) of the model's input.
        target: (h, w) that resizing aims at, before the crop.
        fit: how. "exact" takes the target as it is. The others keep the proportions: "shortest" brings the shorter
            side to the target, a square one, and cuts the other to whole pixels; "cover" fills the target and rounds;
            "contain" fits into it and rounds. "none" does not resize.
        filter: of the resize, as Pillow computes it.
        centre: where half a pixel goes when the crop is centred: "floor" up and left (transformers), "even" to the
            even number (torchvision).
        fill: colour of what lies outside of an image smaller than the crop.
        mean: by channel, after rescaling.
        std: by channel, after rescaling.
        scale: what pixels of 0 to 255 are multiplied by.
        order: of the channels that the model takes; mean, std and fill have it too.
    """

    size: tuple[int, int]
    target: tuple[int, int]
    fit: Fit = "shortest"
    filter: Filter = "bicubic"
    centre: Literal["floor", "even"] = "floor"
    fill: tuple[int, int, int] = (0, 0, 0)
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    scale: float = 1 / 255
    order: Literal["RGB", "BGR"] = "RGB"

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) after resizing, of an image (height, width)."""
        if self.fit == "none":
            return height, width
        if self.fit == "exact":
            return self.target
        if self.fit == "shortest":
            edge, short = self.target[0], min(height, width)
            return (
                edge if height == short else int(edge * height / width),
                edge if width == short else int(edge * width / height),
            )
        ratios = height / self.target[0], width / self.target[1]
        ratio = min(ratios) if self.fit == "cover" else max(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def min_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of an image (height, width) beyond which more pixels hardly change what the model is shown."""
        rows, columns = self.resized(height, width)
        return _SPARE * rows, _SPARE * columns

    def seen(self, height: int, width: int) -> int:
        """How many of an image's pixels the crop leaves, whatever their number after resizing."""
        rows, columns = self.resized(height, width)
        share = min(1.0, self.size[0] / rows) * min(1.0, self.size[1] / columns)
        return round(height * width * share)

    def apply(self, decoded: DecodedImage) -> NDArray[np.uint8]:
        """The model's pixels (h, w, 3) of an image, before they are normalised.

        Of a long thin image what the crop leaves out is not resized, since it may have any number of pixels. Each
        pixel is within 2 of 255 of resizing all of it (bilinear, bicubic, lanczos), since positions are rounded
        otherwise, and equal wherever the crop leaves a sixteenth of the resized image or more.
        """
        rows, columns = self.resized(decoded.height, decoded.width)
        top, left = self._start(rows, self.size[0]), self._start(columns, self.size[1])
        inner = (max(left, 0), max(top, 0), min(left + self.size[1], columns), min(top + self.size[0], rows))
        image = decoded.image
        most = _CUT_FIRST * self.size[0] * self.size[1]
        if self.filter not in ("lanczos", "bilinear", "bicubic"):
            most = max(most, _WHOLE)
        if rows * columns > most and self.fit != "none":
            image = part_resized(image, decoded.box, (columns, rows), inner, FILTERS.index(self.filter))
        else:
            if (columns, rows) != image.size:
                image = image.resize((columns, rows), FILTERS.index(self.filter), box=decoded.box)
            if inner != (0, 0, *image.size):
                image = image.crop(inner)
        pixels = np.asarray(image)[..., :: 1 if self.order == "RGB" else -1]
        if pixels.shape[:2] == self.size:
            return np.ascontiguousarray(pixels)
        out = np.empty((*self.size, 3), np.uint8)
        out[...] = self.fill
        out[max(-top, 0) :, max(-left, 0) :][: pixels.shape[0], : pixels.shape[1]] = pixels
        return out

    def _start(self, length: int, window: int) -> int:
        """Where a centred crop begins; below 0 where it is larger than the image."""
        if self.centre == "floor":
            return (length - window) // 2
        return round((length - window) / 2) if length >= window else -((window - length) // 2)

    def affine(self) -> tuple[Floats, Floats]:
        """Factor and addend (3,) float32 of each channel that normalise a pixel of 0 to 255."""
        mean, std = np.array(self.mean), np.array(self.std)
        return (self.scale / std).astype(np.float32), (-mean / std).astype(np.float32)


def part_resized(
    image: Image.Image,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    inner: tuple[int, int, int, int],
    resample: int,
) -> Image.Image:
    """What resizing an image and then cropping it gives, without resizing what the crop leaves out.

    Args:
        image: to resize.
        box: what of it is resized: left, upper, right and lower edge, in its pixels.
        size: width and height that the whole would have.
        inner: left, upper, right and lower edge of the crop, in pixels of that size.
        resample: Pillow's number of the filter.
    """
    scales = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
    edges = [box[side % 2] + inner[side] * scales[side % 2] for side in range(4)]
    # Pillow takes a box in single precision: it is counted from near its own edge, beyond what the filter reads.
    reach = [ceil(_REACH[resample] * max(scale, 1.0)) + 1 for scale in scales]
    first = [max(floor(edges[axis]) - reach[axis], 0) for axis in (0, 1)]
    last = [min(ceil(edges[axis + 2]) + reach[axis], image.size[axis]) for axis in (0, 1)]
    near = image.crop((first[0], first[1], last[0], last[1]))
    x0, y0, x1, y1 = (min(max(edges[side] - first[side % 2], 0.0), near.size[side % 2]) for side in range(4))
    width, height = inner[2] - inner[0], inner[3] - inner[1]
    # One side after the other: as Pillow does it with the whole, since each is rounded to 8 bits.
    if image.height <= 2 * image.width or size[1] >= image.height:
        return near.resize((width, near.height), resample, (x0, 0, x1, near.height)).resize(
            (width, height), resample, (0, y0, width, y1)
        )
    return near.resize((near.width, height), resample, (0, y0, near.width, y1)).resize(
        (width, height), resample, (x0, 0, x1, height)
    )
