"""A model's preprocessing as data: how an image of any size becomes the (h, w) pixels that the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from omnivec.media.pixels import Upright
from omnivec.types import Floats

Triple = tuple[float, float, float]
Filter = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Fit = Literal["shortest", "cover", "contain", "exact", "none"]

FILTERS: tuple[Filter, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""In the order of Pillow's numbers, which transformers' files write. All but nearest smooth what they make smaller."""

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

    def enough(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of an image (height, width) beyond which more pixels hardly change what the model is shown."""
        rows, columns = self.resized(height, width)
        return _SPARE * rows, _SPARE * columns

    def seen(self, height: int, width: int) -> int:
        """How many of an image's pixels the crop leaves, whatever their number after resizing."""
        rows, columns = self.resized(height, width)
        share = min(1.0, self.size[0] / rows) * min(1.0, self.size[1] / columns)
        return round(height * width * share)

    def apply(self, upright: Upright) -> NDArray[np.uint8]:
        """The model's pixels (h, w, 3) of an image, before they are normalised."""
        rows, columns = self.resized(upright.height, upright.width)
        image = upright.image
        if (columns, rows) != image.size:
            image = image.resize((columns, rows), FILTERS.index(self.filter), box=upright.box)
        pixels = np.asarray(image)[..., :: 1 if self.order == "RGB" else -1]
        return self._cropped(pixels)

    def _cropped(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels.shape[:2] == self.size:
            return np.ascontiguousarray(pixels)
        top, left = (self._start(*sides) for sides in zip(pixels.shape[:2], self.size, strict=True))
        inner = pixels[max(top, 0) : top + self.size[0], max(left, 0) : left + self.size[1]]
        out = np.empty((*self.size, 3), np.uint8)
        if inner.shape != out.shape:
            out[...] = self.fill
        out[max(-top, 0) :, max(-left, 0) :][: inner.shape[0], : inner.shape[1]] = inner
        return out

    def _start(self, length: int, kept: int) -> int:
        """Where a centred crop begins; below 0 where it is larger than the image."""
        if self.centre == "floor":
            return (length - kept) // 2
        return round((length - kept) / 2) if length >= kept else -((kept - length) // 2)

    def affine(self) -> tuple[Floats, Floats]:
        """Factor and addend (3,) float32 of each channel that normalise a pixel of 0 to 255."""
        mean, std = np.array(self.mean), np.array(self.std)
        return (self.scale / std).astype(np.float32), (-mean / std).astype(np.float32)
