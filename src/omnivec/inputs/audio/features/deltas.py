"""Deltas: derivatives over time of the rows of a front end."""

from __future__ import annotations

import numpy as np

from omnivec.errors import UsageError
from omnivec.types import Floats


def regression_deltas(rows: Floats, reach: int = 2) -> Floats:
    """The slope of a line fitted to each row and its neighbours, the first and last row being repeated at the ends.

    d_t = sum over n = 1..reach of n (x[t+n] - x[t-n]) / (2 sum of n^2), as in HTK, Kaldi, python_speech_features and
    SpeechBrain (Young et al., The HTK Book, section 5.9).

    Args:
        rows: (t, ...) float32.
        reach: number of neighbours on each side.

    Returns:
        (t, ...) float32.

    Raises:
        UsageError: reach is less than 1.
    """
    if reach < 1:
        raise UsageError(f"reach={reach}: give at least 1")
    rows = np.asarray(rows, np.float32)
    result = np.zeros_like(rows)
    last = len(rows) - 1
    if last < 0:
        return result
    places = np.arange(len(rows))
    for n in range(1, reach + 1):
        ahead, behind = rows[np.minimum(places + n, last)], rows[np.maximum(places - n, 0)]
        result += np.float32(n) * (ahead - behind)
    result /= np.float32(2 * sum(n * n for n in range(1, reach + 1)))
    return result


def savitzky_golay_deltas(rows: Floats, width: int = 9, order: int = 1) -> Floats:
    """Derivatives of polynomials fitted to `width` rows, as librosa.feature.delta computes them.

    A polynomial of degree `order` is fitted by least squares to each row and (width - 1) / 2 neighbours on each side,
    and its derivative of this order is taken there. The first and the last (width - 1) / 2 rows use the polynomial of
    the first and last `width` rows (mode "interp" of scipy.signal.savgol_filter). For order 1 this equals
    `regression_deltas` with a reach of (width - 1) / 2, except at these ends (Savitzky and Golay 1964).

    Args:
        rows: (t, ...) float32, t at least `width`.
        width: odd number of rows, at least 3.
        order: order of the derivative, less than `width`.

    Returns:
        (t, ...) float32.

    Raises:
        UsageError: invalid width or order, or fewer rows than `width`.
    """
    if width < 3 or width % 2 == 0 or not 1 <= order < width:
        raise UsageError(
            f"width={width}, order={order}: give an odd width of at least 3, and a smaller order"
        )
    rows = np.asarray(rows, np.float32)
    if len(rows) < width:
        raise UsageError(f"{len(rows)} rows are fewer than the width of {width}")
    half = width // 2
    powers = np.arange(-half, half + 1.0)[:, None] ** np.arange(order + 1)
    # The highest coefficient of the polynomial is derivative / order!, and the same anywhere along the polynomial.
    weights = np.linalg.pinv(powers)[order] * np.prod(np.arange(1.0, order + 1))
    flat = rows.reshape(len(rows), -1)
    result = np.zeros_like(flat)
    inner = result[half : len(rows) - half]
    for i, weight in enumerate(weights.astype(np.float32)):
        inner += weight * flat[i : i + len(inner)]
    result[:half], result[len(rows) - half :] = inner[0], inner[-1]
    return result.reshape(rows.shape)
