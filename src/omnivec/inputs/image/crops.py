"""Where one image lies in another, in shares of its sides: whole (resized, recompressed) or cut off at its sides.

Lewis 1995, "Fast Normalized Cross-Correlation": of small grey versions, the part at each size that it may have in the
whole; first coarsely, then finely about the best. Two gates judge what was found: how much of the pixels' variance the
part explains, which tells skies of different light apart, and how its detail correlates, which tells smooth ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.image.hashes import means
from omnivec.inputs.image.pixels import decode_image, read_header
from omnivec.types import Floats

KEPT = 192
"""Longest side of a grey version, in pixels."""

COARSE, FINE = 48, 128
"""Longest side of the whole, in pixels, while it is searched."""

LEAST = 0.3
"""Least share of the whole's area that a part has: what keeps less is a picture of its own."""

FEWEST = 1000
"""Pixels that a part needs: faces of 25 x 25 pixels are all alike, and are no copies of each other."""

EXPLAINED, DETAIL = 0.66, 0.62
"""The gates; what they let through of photographs, of what they should: benchmarks/duplicates.py."""

_MIN_COARSE_CORRELATION = 0.5  # correlation of a coarse place that is worth a closer look
_MIN_COARSE_PIXELS = 64  # pixels of a part while it is searched coarsely
_MIN_STD = 2.0  # standard deviation, of 0 to 255, below which there is nothing to recognise
_DETAIL_FRACTION = 16  # of the longer side, the part that is too large to be a detail


@dataclass(frozen=True, eq=False)
class Grey:
    """A small grey version of an image.

    Attributes:
        pixels: (h, w) uint8, at most KEPT on the longer side.
        height: of the image itself, in pixels.
        width: of the image itself, in pixels.
    """

    pixels: NDArray[np.uint8]
    height: int
    width: int


@dataclass(frozen=True)
class Place:
    """Where a part lies in a whole.

    Attributes:
        left: of the whole's width, what is cut off there.
        upper: of its height.
        width: of the whole's width, what the part shows.
        height: of its height.
        explained: share of the variance of the whole's pixels there that the part's explain; 1 for the same pixels.
        detail: correlation of what is finer than a sixteenth of the whole's longer side.
    """

    left: float
    upper: float
    width: float
    height: float
    explained: float
    detail: float

    @property
    def holds(self) -> bool:
        """Whether both gates let it pass."""
        return self.explained >= EXPLAINED and self.detail >= DETAIL


def grey(item: Any) -> Grey:
    """The small version of a file, its bytes, a PIL image or an array, as it is seen upright.

    Raises:
        ItemError: it is no image, or a damaged one.
    """
    from PIL import Image

    shown = decode_image(read_header(item), lambda height, width: (KEPT, KEPT))
    image = shown.image.convert("L")
    share = min(1.0, KEPT / max(image.size))
    width, height = (max(round(side * share), 1) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    return Grey(np.asarray(small), shown.height, shown.width)


def find(whole: Grey, part: Grey) -> Place | None:
    """Where a part lies in a whole; None where it does not.

    Args:
        whole: that may show more.
        part: of the same sides' ratio but for what is cut off; squeezed only where nothing is.
    """
    if min(part.width * part.height, whole.width * whole.height) < FEWEST:
        return None
    widest = min(whole.width / part.width, whole.height / part.height)
    unscaled = (1.0,) if widest > 1 else ()
    zooms = [None, *unscaled, *(widest * np.arange(1, 0.54, -0.05))]
    rough = _best(whole, part, COARSE, zooms, _MIN_COARSE_PIXELS)
    if rough is None or rough.correlation < _MIN_COARSE_CORRELATION:
        return None
    about = rough.zoom
    fine = (None,) if about is None else (*unscaled, widest, *(about * np.arange(0.96, 1.041, 0.008)))
    best = _best(whole, part, FINE, fine, FEWEST)
    if best is None:
        return None
    place = _judged(whole, part, best)
    return place if place.holds else None


@dataclass(frozen=True)
class _Fit:
    """A size of the part, in a whole of a size, and where it correlates best; in pixels.

    Attributes:
        correlation: there.
        zoom: pixels of the whole image to one of the part; None where the part is squeezed to the whole.
        whole: height and width.
        part: height and width.
        top: row of the whole.
        left: column of the whole.
    """

    correlation: float
    zoom: float | None
    whole: tuple[int, int]
    part: tuple[int, int]
    top: int
    left: int


def _best(whole: Grey, part: Grey, side: int, zooms: Iterable[float | None], fewest: int) -> _Fit | None:
    """The size of the part that correlates best; None where nothing can be compared.

    Args:
        whole: to search, at most `side` on the longer side and no larger than shows the part's own pixels.
        part: to find.
        side: in pixels.
        zooms: pixels of the whole to one of the part; None squeezes the part to the whole.
        fewest: pixels that a size of the part needs.
    """
    longest = max(whole.width, whole.height)
    shown = min(side / longest, part.width / whole.width, part.height / whole.height, 1.0)
    height, width = max(round(whole.height * shown), 1), max(round(whole.width * shown), 1)
    below = _resized(whole.pixels, height, width)
    best: _Fit | None = None
    for zoom, h, w in _sizes(part, zooms, shown, height, width, fewest):
        above = _resized(part.pixels, h, w)
        if above.std() < _MIN_STD:
            continue
        correlation, top, left = _correlated(below, above)
        if best is None or correlation > best.correlation:
            best = _Fit(correlation, zoom, (height, width), (h, w), top, left)
    return best


def _sizes(
    part: Grey, zooms: Iterable[float | None], shown: float, height: int, width: int, fewest: int
) -> Iterator[tuple[float | None, int, int]]:
    """Each different size (h, w) of the part in a whole of (height, width), with its zoom."""
    seen = set()
    for zoom in zooms:
        h = height if zoom is None else min(round(part.height * zoom * shown), height)
        w = width if zoom is None else min(round(part.width * zoom * shown), width)
        if (h, w) not in seen and h * w >= max(LEAST * height * width, fewest):
            seen.add((h, w))
            yield zoom, h, w


def _correlated(below: Floats, above: Floats) -> tuple[float, int, int]:
    """The highest normalised correlation of `above` (h, w) within `below` (H, W), and its place: row and column."""
    (rows, columns), (h, w) = below.shape, above.shape
    centred, template = below - below.mean(), above - above.mean()
    # All places inside are free of the transform's wrapping around.
    spectrum = np.fft.rfft2(centred) * np.conj(np.fft.rfft2(template, below.shape))
    products = np.fft.irfft2(spectrum, below.shape)[: rows - h + 1, : columns - w + 1]
    sums, squares = _boxes(centred, h, w), _boxes(centred**2, h, w)
    spread = np.sqrt(np.maximum(squares - sums**2 / (h * w), 0.0))
    drawn = spread > _MIN_STD * np.sqrt(h * w)
    norm = np.sqrt((template**2).sum())
    correlations = np.where(drawn, products / np.where(drawn, spread * norm, 1.0), -1.0)
    top, left = np.unravel_index(int(correlations.argmax()), correlations.shape)
    return float(correlations[top, left]), int(top), int(left)


def _judged(whole: Grey, part: Grey, fit: _Fit) -> Place:
    """The place of a fit, and what the two pictures share there."""
    (height, width), (h, w) = fit.whole, fit.part
    above = _resized(part.pixels, h, w)
    below = _resized(whole.pixels, height, width)[fit.top : fit.top + h, fit.left : fit.left + w]
    variance = max(float(below.var()), float(above.var()))
    explained = 1.0 - float(((below - above) ** 2).mean()) / variance
    blur = max(round(max(height, width) / _DETAIL_FRACTION), 2)
    ours, theirs = (one - _smooth(one, blur) for one in (below, above))
    energy = float(np.sqrt((ours**2).mean() * (theirs**2).mean()))
    detail = float((ours * theirs).mean()) / energy if energy > 0 else 0.0
    return Place(fit.left / width, fit.top / height, w / width, h / height, explained, detail)


def _smooth(pixels: Floats, side: int) -> Floats:
    """The mean of a square about each pixel, the edges repeated."""
    wide = np.pad(pixels, (side // 2, side - 1 - side // 2), mode="edge")
    return (_boxes(wide, side, side) / side**2).astype(np.float32)


def _boxes(values: NDArray[np.floating[Any]], h: int, w: int) -> NDArray[np.float64]:
    """Sums of all boxes of (h, w)."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.cumsum(0, dtype=np.float64).cumsum(1)
    sums: NDArray[np.float64] = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    return sums


def _resized(pixels: NDArray[Any], height: int, width: int) -> Floats:
    """Pixels (h, w) as means over (height, width) areas."""
    grown: Floats = pixels.astype(np.float32, copy=False)
    if grown.shape == (height, width):
        return grown
    resized = means(grown.shape[0], height) @ grown @ means(grown.shape[1], width).T
    return resized.astype(np.float32, copy=False)
