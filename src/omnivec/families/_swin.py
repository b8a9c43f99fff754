"""The parts of a Swin transformer: attention within windows that are shifted from layer to layer, and patch merging.

Liu et al. 2021, arXiv:2103.14030.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.ops.base import Ops, Params, Value

# What is added to the score of two patches that the shift brings into one window but that are no neighbours: as
# published, although scores that differ by more than 100 still win over it.
_APART = -100.0


class Windows(NamedTuple):
    """A map of patches and its windows, within which patches attend to each other.

    Attributes:
        side: height and width of the map, in patches.
        width: length of a patch's vector.
        heads: attention heads.
        window: height and width of a window, in patches; a divisor of `side`.
        shift: rows and columns by which the windows are shifted down and to the right; 0 for none.
    """

    side: int
    width: int
    heads: int
    window: int
    shift: int


def window_attention(ops: Ops, p: Params, x: Value, at: Windows, dropout: float) -> Value:
    """Multi-head attention within windows, with learned relative positions: (n, side * side, width) -> the same.

    Args:
        ops: the engine.
        p: the weights, named as transformers' `SwinAttention` names them.
        x: the patches, row by row.
        at: the map and its windows.
        dropout: share of attention weights that are dropped in training.
    """
    across, size, d = at.side // at.window, at.window**2, at.width // at.heads
    count = across**2
    x = _partitioned(ops, _rolled(ops, ops.reshape(x, (0, at.side, at.side, at.width)), at.shift), at)
    # The heads of all windows are heads of one attention, so that the bias may differ from window to window.
    q, k, v = (
        ops.reshape(
            ops.transpose(
                ops.reshape(ops.linear(x, p[f"self.{name}"]), (0, 0, 0, at.heads, d)), (0, 1, 3, 2, 4)
            ),
            (0, count * at.heads, size, d),
        )
        for name in ("query", "key", "value")
    )
    positions = ops.embedding(ops.constant(_offsets(at.window)), p["self.relative_position_bias_table"])
    apart = ops.constant(_apart(at.side, at.window, at.shift))
    bias = ops.reshape(
        ops.transpose(positions, (2, 0, 1))[None, None] + apart, (1, count * at.heads, size, size)
    )
    y = ops.attention(q, k, v, bias, d**-0.5, dropout)
    y = ops.transpose(ops.reshape(y, (0, count, at.heads, size, d)), (0, 1, 3, 2, 4))
    y = ops.linear(ops.reshape(y, (0, 0, 0, at.width)), p["output.dense"])
    y = ops.transpose(ops.reshape(y, (0, across, across, at.window, at.window, at.width)), (0, 1, 3, 2, 4, 5))
    y = _rolled(ops, ops.reshape(y, (0, at.side, at.side, at.width)), (at.side - at.shift) % at.side)
    return ops.reshape(y, (0, at.side**2, at.width))


def _partitioned(ops: Ops, x: Value, at: Windows) -> Value:
    """A map (n, side, side, width) as windows (n, windows, patches of a window, width)."""
    across = at.side // at.window
    x = ops.transpose(ops.reshape(x, (0, across, at.window, across, at.window, at.width)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (0, across**2, at.window**2, at.width))


def _rolled(ops: Ops, x: Value, shift: int) -> Value:
    """A map (n, h, w, c) whose first `shift` rows and columns are moved to the end."""
    if not shift:
        return x
    x = ops.concat([x[:, shift:], x[:, :shift]], 1)
    return ops.concat([x[:, :, shift:], x[:, :, :shift]], 2)


def _offsets(window: int) -> NDArray[np.int32]:
    """For each pair of patches in a window, the row of the table of relative positions: (window ** 2, window ** 2).

    For a window of 2 x 2 there are 3 x 3 offsets of rows and columns, from (-1, -1) to (1, 1); row 4 of the table is
    that of a patch to itself:

        patches   0 1      rows of patch 0: 4 3 1 0    of patch 1: 5 4 2 1
                  2 3           of patch 2: 7 6 4 3    of patch 3: 8 7 5 4
    """
    row, column = np.divmod(np.arange(window * window), window)
    rows_apart, columns_apart = (place[:, None] - place[None] + window - 1 for place in (row, column))
    return np.asarray(rows_apart * (2 * window - 1) + columns_apart, np.int32)


def _apart(side: int, window: int, shift: int) -> NDArray[np.float32]:
    """The mask of each window, in order: (1, windows, 1, window ** 2, window ** 2), 0 or `_APART`.

    After the shift, the last windows hold patches from opposite edges of the map, which must not attend to each other.
    The places of an axis have three regions: whole windows, what comes before the edge, and what lies beyond it. With
    8 places, windows of 4 and a shift of 2, they are 0 0 0 0 1 1 2 2.
    """
    place = np.arange(side)
    region = ((place >= side - window) & (shift > 0)).astype(int) + ((place >= side - shift) & (shift > 0))
    square = (3 * region[:, None] + region).reshape(side // window, window, side // window, window)
    windows = square.transpose(0, 2, 1, 3).reshape(-1, window * window)
    differs = windows[:, :, None] != windows[:, None]
    return np.where(differs, np.float32(_APART), np.float32(0))[None, :, None]


def merge_patches(ops: Ops, p: Params, x: Value, size: tuple[int, int], eps: float) -> Value:
    """Patch merging: (n, side * side, width) -> (n, side * side / 4, 2 * width), where `size` is (side, width).

    Each square of 2 x 2 patches becomes one, in the order upper left, lower left, upper right, lower right.
    """
    half, width = size[0] // 2, size[1]
    x = ops.transpose(ops.reshape(x, (0, half, 2, half, 2, width)), (0, 1, 3, 4, 2, 5))
    x = ops.reshape(x, (0, half * half, 4 * width))
    return ops.linear(ops.layer_norm(x, p["norm"], eps), p["reduction"])
