"""`Processing`: the preprocessing of a model, from an image of any size to its (h, w) input pixels."""

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
"""In the order of Pillow's numbers, which the files of transformers use. All but nearest average when they reduce."""

_REACH = (1.0, 3.0, 1.0, 2.0, 0.5, 1.0)
"""For each filter, the support in pixels: of the source when it enlarges, of the result when it reduces."""

_CUT_FIRST = 16
"""An image is cropped before it is resized if the resized image would have this many times the crop's pixels."""

_WHOLE = 2**24
"""Pixels up to which this is not done for filters with hard edges, where rounding may select other pixels."""

_SPARE = 2
"""A JPEG image is decoded with at least this many pixels for each pixel of the resized image, along each side."""


@dataclass(frozen=True)
class Processing:
    """Resize, crop about the centre, rescale and normalise: (pixel * scale - mean) / std.

    Attributes:
        size: (h, w) of the model's input.
        target: (h, w) of resizing, before the crop.
        fit: how the image is resized. "exact" resizes to the target. The others keep the proportions: "shortest" scales
            the shorter side to the target, which is square, and rounds the other side down; "cover" scales to fill the
            target, "contain" to fit into it, and both round. "none" does not resize.
        filter: resampling filter of Pillow.
        centre: how the start of a centred crop is rounded: "floor" down (transformers), "even" to the nearest even
            number (torchvision).
        fill: colour around an image that is smaller than the crop.
        mean: mean of each channel, after rescaling.
        std: standard deviation of each channel, after rescaling.
        scale: factor of pixels of 0 to 255.
        order: order of the channels of the model, also in mean, std and fill.
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
        """Returns the size (h, w) of an image (height, width) after resizing."""
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
        """Returns the size (h, w) at which an image (height, width) may be decoded without a relevant difference."""
        rows, columns = self.resized(height, width)
        return _SPARE * rows, _SPARE * columns

    def seen(self, height: int, width: int) -> int:
        """Returns the number of pixels of an image that are in the crop, counted before resizing."""
        rows, columns = self.resized(height, width)
        share = min(1.0, self.size[0] / rows) * min(1.0, self.size[1] / columns)
        return round(height * width * share)

    def apply(self, decoded: DecodedImage) -> NDArray[np.uint8]:
        """Returns the model's pixels (h, w, 3) of an image, before normalisation.

        Of a very long and thin image, only the crop is resized, to limit memory. Its pixels then differ by at most 2 of
        255 from resizing the whole image (bilinear, bicubic, lanczos), because positions are rounded differently; they
        are equal if the crop is at least a sixteenth of the resized image.
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
        """Returns the start of a centred crop; negative if the crop is larger than the image."""
        if self.centre == "floor":
            return (length - window) // 2
        return round((length - window) / 2) if length >= window else -((window - length) // 2)

    def affine(self) -> tuple[Floats, Floats]:
        """Returns the factor and addend (3,) float32 of each channel that normalise pixels of 0 to 255."""
        mean, std = np.array(self.mean), np.array(self.std)
        return (self.scale / std).astype(np.float32), (-mean / std).astype(np.float32)


def part_resized(
    image: Image.Image,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    inner: tuple[int, int, int, int],
    resample: int,
) -> Image.Image:
    """Resizes and crops an image, but only resizes the part that is in the crop.

    Args:
        image: the image.
        box: left, upper, right and lower edge of the area to resize, in pixels of the image.
        size: width and height of the whole area after resizing.
        inner: left, upper, right and lower edge of the crop, in pixels after resizing.
        resample: Pillow's number of the filter.
    """
    scales = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
    edges = [box[side % 2] + inner[side] * scales[side % 2] for side in range(4)]
    # Pillow uses single precision for boxes, so the image is first cropped to the surroundings of the box.
    reach = [ceil(_REACH[resample] * max(scale, 1.0)) + 1 for scale in scales]
    first = [max(floor(edges[axis]) - reach[axis], 0) for axis in (0, 1)]
    last = [min(ceil(edges[axis + 2]) + reach[axis], image.size[axis]) for axis in (0, 1)]
    near = image.crop((first[0], first[1], last[0], last[1]))
    x0, y0, x1, y1 = (min(max(edges[side] - first[side % 2], 0.0), near.size[side % 2]) for side in range(4))
    width, height = inner[2] - inner[0], inner[3] - inner[1]
    # The sides are resized one after the other, in the order of Pillow, since each step rounds to 8 bits.
    if image.height <= 2 * image.width or size[1] >= image.height:
        return near.resize((width, near.height), resample, (x0, 0, x1, near.height)).resize(
            (width, height), resample, (0, y0, width, y1)
        )
    return near.resize((near.width, height), resample, (0, y0, near.width, y1)).resize(
        (width, height), resample, (x0, 0, x1, height)
    )
