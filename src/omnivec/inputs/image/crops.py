"""Finds where one image lies in another: all of it (resized or recompressed), or a crop.

Lewis 1995, "Fast Normalized Cross-Correlation": small grey versions are compared, the part at each size that it may
have in the whole, first on a coarse scale, then on a fine one near the best size. Two thresholds decide about the best
place: the share of the pixels' variance that the part explains, which distinguishes skies of different brightness, and
the correlation of its details, which distinguishes smooth images.

Example: `whole` is 640 x 480, `part` shows its columns 160 to 640 and rows 60 to 420, resized to 240 x 180.

    zooms       pixels of the whole for one of the part: at most min(640 / 240, 480 / 180) = 2.667, then 5 % less of
                this at a time; also 1 for a crop that was not resized, and None for the whole image, resized
    coarse      the whole as 48 x 36; the best zoom is 2.0: the part as 36 x 27 at column 12, row 5, correlation 0.965
    fine        the whole as 128 x 96; zooms of 1.92 to 2.08: again 2.0, 96 x 72 at column 32, row 12, correlation 1.0
    thresholds  0.999 of the variance is explained (0.66 needed), details correlate by 0.995 (0.62 needed)
    result      Place(left=0.25, upper=0.125, width=0.75, height=0.75, ...), shares of the sides of the whole
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
"""Longer side of a small grey version, in pixels."""

COARSE, FINE = 48, 128
"""Longer side of the whole in pixels, in the coarse and in the fine search."""

LEAST = 0.3
"""Smallest share of the whole's area that a part may have; smaller crops count as different pictures."""

FEWEST = 1000
"""Smallest number of pixels of a part: at 25 x 25 pixels, all faces look alike."""

EXPLAINED, DETAIL = 0.66, 0.62
"""Thresholds of explained variance and of correlated details; benchmarks/duplicates.py measures their errors."""

_MIN_COARSE_CORRELATION = 0.5  # smallest correlation of a coarse place for which the fine search is made
_MIN_COARSE_PIXELS = 64  # smallest number of pixels of a part in the coarse search
_MIN_STD = 2.0  # pixels of 0 to 255 with a smaller standard deviation show nothing
_DETAIL_FRACTION = 16  # details are finer than this fraction of the longer side


@dataclass(frozen=True, eq=False)
class Grey:
    """A small grey version of an image.

    Attributes:
        pixels: (h, w) uint8, at most KEPT on the longer side.
        height: height of the image itself in pixels.
        width: width of the image itself in pixels.
    """

    pixels: NDArray[np.uint8]
    height: int
    width: int


@dataclass(frozen=True)
class Place:
    """The area of the whole that the part shows.

    Attributes:
        left: left edge, as a share of the whole's width.
        upper: upper edge, as a share of the whole's height.
        width: width, as a share of the whole's width.
        height: height, as a share of the whole's height.
        explained: share of the variance of the pixels there that the part explains; 1 for equal pixels.
        detail: correlation of details, which are finer than a sixteenth of the whole's longer side.
    """

    left: float
    upper: float
    width: float
    height: float
    explained: float
    detail: float

    @property
    def holds(self) -> bool:
        """Whether it passes both thresholds."""
        return self.explained >= EXPLAINED and self.detail >= DETAIL


def grey(item: Any) -> Grey:
    """Makes the small grey version of a file, its bytes, a PIL image or an array; the EXIF orientation is applied.

    Raises:
        ItemError: it is not an image, or damaged.
    """
    from PIL import Image

    shown = decode_image(read_header(item), lambda height, width: (KEPT, KEPT))
    image = shown.image.convert("L")
    share = min(1.0, KEPT / max(image.size))
    width, height = (max(round(side * share), 1) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    return Grey(np.asarray(small), shown.height, shown.width)


def find(whole: Grey, part: Grey) -> Place | None:
    """Finds the area of `whole` that `part` shows; None if there is none.

    Args:
        whole: the image that may show more.
        part: a crop in its original proportions, or the whole image in any proportions.
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
    """The place in the whole with the best correlation, for one size of the part; in pixels of the search.

    Attributes:
        correlation: the correlation at this place.
        zoom: pixels of the whole for one of the part; None if the part is resized to the whole.
        whole: height and width of the whole.
        part: height and width of the part.
        top: first row in the whole.
        left: first column in the whole.
    """

    correlation: float
    zoom: float | None
    whole: tuple[int, int]
    part: tuple[int, int]
    top: int
    left: int


def _best(whole: Grey, part: Grey, side: int, zooms: Iterable[float | None], fewest: int) -> _Fit | None:
    """Finds the size and place of the part with the best correlation; None if nothing can be compared.

    Args:
        whole: the image to search.
        part: the image to find.
        side: longer side of the whole in the search, in pixels; less if the part has fewer pixels.
        zooms: pixels of the whole for one of the part, to be tried; None resizes the part to the whole.
        fewest: smallest number of pixels of the part in the search.
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
    """Yields each different size (h, w) of the part in a whole of (height, width), with its zoom."""
    seen = set()
    for zoom in zooms:
        h = height if zoom is None else min(round(part.height * zoom * shown), height)
        w = width if zoom is None else min(round(part.width * zoom * shown), width)
        if (h, w) not in seen and h * w >= max(LEAST * height * width, fewest):
            seen.add((h, w))
            yield zoom, h, w


def _correlated(below: Floats, above: Floats) -> tuple[float, int, int]:
    """Returns the highest normalised correlation of `above` (h, w) within `below` (H, W), and its row and column."""
    (rows, columns), (h, w) = below.shape, above.shape
    centred, template = below - below.mean(), above - above.mean()
    # Only places inside the image are used, which the circular convolution does not affect.
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
    """Returns the place of a fit, with the explained variance and the correlation of details there."""
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
    """Returns the mean of a square around each pixel; the edges are repeated."""
    wide = np.pad(pixels, (side // 2, side - 1 - side // 2), mode="edge")
    return (_boxes(wide, side, side) / side**2).astype(np.float32)


def _boxes(values: NDArray[np.floating[Any]], h: int, w: int) -> NDArray[np.float64]:
    """Returns the sums over all boxes of (h, w)."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.cumsum(0, dtype=np.float64).cumsum(1)
    sums: NDArray[np.float64] = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    return sums


def _resized(pixels: NDArray[Any], height: int, width: int) -> Floats:
    """Resizes pixels (h, w) to (height, width) by means over areas."""
    grown: Floats = pixels.astype(np.float32, copy=False)
    if grown.shape == (height, width):
        return grown
    resized = means(grown.shape[0], height) @ grown @ means(grown.shape[1], width).T
    return resized.astype(np.float32, copy=False)
