"""x-vectors of speakers: dilated convolutions, then mean and deviation over time; SpeechBrain's.

Snyder et al. 2018, doi:10.1109/ICASSP.2018.8461375. SpeechBrain adds random noise of about 1e-5 to the mean over time,
which is left out, so that a sound has one vector. Weights are named as published. A folder holds embedding_model.ckpt
and hyperparams.yaml, of which only plain values are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omnivec import weights
from omnivec.families._classes import refuse_settings
from omnivec.families._speechbrain import fbank, load_speechbrain
from omnivec.families._statistics import inside, mean_and_std
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Count, Filled, Length, Size

CLAIMS = {
    "model_type": ["xvector"],
    "files": {"hyperparams.yaml": {"model_type": "xvector"}},
    "contents": {"hyperparams.yaml": "lobes.models.Xvector.Xvector"},
    "modality": "audio",
}

POOLING = "cls"

_EPS = 1e-5


@dataclass(frozen=True)
class Config:
    """The arguments of SpeechBrain's class that the forward pass depends on, and its defaults."""

    in_channels: Size = 40
    tdnn_channels: Annotated[tuple[Size, ...], Filled()] = (512, 512, 512, 512, 1500)
    tdnn_kernel_sizes: Annotated[tuple[Count, ...], Length("tdnn_channels")] = (5, 3, 3, 1, 1)
    tdnn_dilations: Annotated[tuple[Count, ...], Length("tdnn_channels")] = (1, 2, 3, 1, 1)
    lin_neurons: Size = 512

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.lin_neurons

    @property
    def reach(self) -> int:
        """Largest number of frames by which a sound is mirrored at its ends."""
        return max(d * (k - 1) // 2 for k, d in zip(self.tdnn_kernel_sizes, self.tdnn_dilations, strict=True))


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """The config and weights of a folder of SpeechBrain; None for one written by `save`."""
    covered = {"tdnn_blocks": 5, "activation": {"!": "name:torch.nn.LeakyReLU"}}
    return load_speechbrain(folder, "xvector", Config, "in_channels", covered)


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """SpeechBrain's filter bank; a sound needs more frames than it is mirrored by, and two for a deviation."""
    refuse_settings(settings, "an x-vector")
    return fbank(config.in_channels, max(config.reach + 1, 2))


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t, in_channels) float32 and batch.lengths (n,) -> (n, 1, dim) float32."""
    x = ops.transpose(batch.sound, (0, 2, 1))
    layers = zip(config.tdnn_kernel_sizes, config.tdnn_dilations, strict=True)
    for i, (kernel, dilation) in enumerate(layers):
        reach = dilation * (kernel - 1) // 2
        if reach:
            x = ops.pad(x, reach, reach, "reflect", batch.lengths)
        x = ops.conv(x, p[f"blocks.{3 * i}.conv"], (1,), (0,), (dilation,))
        x = ops.batch_norm(ops.maximum(x, x * 0.01), p[f"blocks.{3 * i + 2}.norm"], _EPS)
        ops.state(ops.transpose(x, (0, 2, 1)))
    real = inside(ops, x, 2, batch.lengths)[:, None]
    mean, std = mean_and_std(ops, x, real, unbiased=True)
    pooled = ops.concat([mean, std + _EPS], 1)
    last = 3 * len(config.tdnn_channels) + 1
    return ops.linear(pooled, p[f"blocks.{last}.w"])[:, None]


SHAPES = {"blocks.0.conv.weight": ("", "in_channels", "")}

PREFIXES = ("module.",)

LAYOUTS: list[weights.Row] = [(r".*\.num_batches_tracked", None)]

KNOWN: dict[str, dict[str, Any]] = {}
