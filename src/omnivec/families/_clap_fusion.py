"""Attentional feature fusion, by which CLAP reads a long sound: its whole and three of its parts in one map of patches.

Wu et al. 2022, arXiv:2211.06687, section 3.2; Dai et al. 2020, arXiv:2009.14082. Weights are named as transformers'
`ClapAudioPatchEmbed` names them.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnivec.inputs.audio.features.fixed_length import PICTURES
from omnivec.ops.base import Ops, Params, Value

# The eps of the batch norms, which is torch's default.
_EPS = 1e-5


def is_longer(ops: Ops, lengths: Value, frames: int) -> Value:
    """lengths (n,), the rows of each sound -> (n, 1, 1): 1.0 for a sound of more than one spectrogram, else 0.0."""
    return ops.clip(ops.cast(lengths, "float32") - float(frames), 0.0, 1.0)[:, None, None]


def all_pictures(ops: Ops, x: Value, longer: Value, frames: int) -> Value:
    """Fills the places of a short sound's missing spectrograms with its only one, as transformers does.

    What is made of them is not used; in training the statistics of the bands are those of sounds, not of padding.

    Args:
        ops: the engine.
        x: (n, 4 * frames, bands), of which a short sound fills the first quarter.
        longer: what `is_longer` returns.
        frames: rows of one spectrogram.

    Returns:
        (n, 4 * frames, bands).
    """
    return ops.where(longer, x, ops.concat([x[:, :frames]] * PICTURES, 1))


def fuse(
    ops: Ops,
    p: Params,
    whole: Value,
    parts: Sequence[Value],
    longer: Value,
    cut: tuple[int, int, int],
) -> Value:
    """Joins the patches of the whole of each long sound with those of three parts of it.

    Args:
        ops: the engine.
        p: the weights of `patch_embed`.
        whole: patches of the whole (n, width, side, side).
        parts: the spectrograms of the three parts, folded to squares (n, 1, spec_size, spec_size).
        longer: what `is_longer` returns.
        cut: side of the map in patches, stride and margin of patches.

    Returns:
        Maps of patches (n, width, side, side); for a short sound `whole`.
    """
    side, stride, margin = cut
    # Patches of parts are three times as wide, so that three maps side by side are as wide as one, but for the rest of
    # the division, which is filled with zeros: one column of 64 in the published models.
    steps, margins = [stride, 3 * stride], [margin] * 2
    maps = [ops.conv(square, p["mel_conv2d"], steps, margins) for square in parts]
    columns = (side * stride - 3 * stride - 4 * margin) // (3 * stride) + 1
    joined = ops.pad(ops.concat(maps, 3), 0, side - 3 * columns)
    return ops.where(longer[..., None], _attended(ops, p["fusion_model"], whole, joined), whole)


def _attended(ops: Ops, p: Params, whole: Value, parts: Value) -> Value:
    """Two maps (n, width, h, w), weighted against each other at each place and channel: 2 (a x + (1 - a) y)."""
    both = whole + parts
    local = _bottleneck(ops, p["local_att"], both, 0)
    overall = _bottleneck(ops, p["global_att"], ops.mean(both, (2, 3), keep=True), 1)
    share = ops.sigmoid(local + overall)
    return 2.0 * whole * share + 2.0 * parts * (1.0 - share)


def _bottleneck(ops: Ops, p: Params, x: Value, first: int) -> Value:
    """Two convolutions of 1 x 1 with batch norms; the modules are numbered from `first`."""
    x = ops.conv(x, p[f"{first}"], [1, 1], [0, 0])
    x = ops.relu(ops.batch_norm(x, p[f"{first + 1}"], _EPS))
    x = ops.conv(x, p[f"{first + 3}"], [1, 1], [0, 0])
    return ops.batch_norm(x, p[f"{first + 4}"], _EPS)
