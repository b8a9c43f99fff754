"""Wav2vec 1.0: convolutions over samples of speech, trained to predict what follows.

Schneider et al. 2019, arXiv:1904.05862. A checkpoint of fairseq is read as published, `wav2vec_large.pt`. Eight
convolutions make features z of the samples, 100 a second, and twelve causal ones a context c of the features; a vector
is the mean of c, or of z with `layer` "z". Group norms take their statistics over all channels and the real frames, so
that a vector does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from omnivec.errors import UnsupportedModel
from omnivec.families._classes import refuse_settings
from omnivec.families._fairseq import convolutions, read_checkpoint
from omnivec.families._frames import field_and_stride, frames, masked_norm, real
from omnivec.inputs.audio.features.waveform import Waveform
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.activations import ACTIVATIONS
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Among, Filled, Rate, Size
from omnivec.weights import Weights
from omnivec.weights.checkpoints import has_weights

CLAIMS = {
    "model_type": ["wav2vec"],
    "files": {"wav2vec_large.pt": {"model_type": "wav2vec"}},
    "modality": "audio",
}

_RATE = 16000
_SECONDS = 30.0
_EPS = 1e-5

_Layers = Annotated[tuple[tuple[Size, Size, Size], ...], Filled()]


@dataclass(frozen=True)
class Config:
    """The arguments of the training script that the forward pass depends on.

    Attributes:
        conv_feature_layers: channels, kernel and stride of each convolution over the samples.
        conv_aggregator_layers: the same of each convolution over the features.
        residual_scale: the square of the factor of a sum with its residual.
        layer: "c", the context, or "z", the features.
    """

    conv_feature_layers: _Layers
    conv_aggregator_layers: _Layers
    activation: Annotated[str, Among(("relu", "gelu"))] = "relu"
    log_compression: bool = True
    skip_connections_agg: bool = True
    residual_scale: Rate = 0.5
    agg_zero_pad: bool = False
    layer: Annotated[str, Among(("c", "z"))] = "c"

    @property
    def dim(self) -> int:
        """Width of the vector."""
        layers = self.conv_aggregator_layers if self.layer == "c" else self.conv_feature_layers
        return layers[-1][0]


@dataclass(frozen=True)
class Published:
    """Further settings, checked since other values would mean a different computation."""

    aggregator: Annotated[str, Among(("cnn",))] = "cnn"
    vq_type: Annotated[str, Among(("none",))] = "none"
    skip_connections_feat: Annotated[bool, Among((False,))] = False
    non_affine_group_norm: Annotated[bool, Among((False,))] = False


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for strides in the aggregator, whose frames would no longer be those of the features."""
    layers = published.get("conv_aggregator_layers")
    if isinstance(layers, list | tuple) and any(stride != 1 for *_, stride in layers):
        raise UnsupportedModel(f"conv_aggregator_layers {layers} is not covered, only strides of 1 are")


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Weights, None] | None:
    """Config and weights of a checkpoint of fairseq; None for a model that was saved here.

    Raises:
        ModelError, WeightsError: see `_fairseq.read_checkpoint`.
        UnsupportedModel: the checkpoint is of another model.
    """
    found = None if has_weights(folder) else read_checkpoint(folder)
    if found is None:
        return None
    file, settings, stored = found
    if settings.get("arch") not in ("wav2vec", None) or "conv_aggregator_layers" not in settings:
        raise UnsupportedModel(f"{file}: arch {settings.get('arch')!r} is not covered, only 'wav2vec' is")
    config = {key: settings[key] for key in _SETTINGS if settings.get(key) is not None}
    for key in ("conv_feature_layers", "conv_aggregator_layers"):
        config[key] = [list(layer) for layer in convolutions(str(settings[key]), file)]
    return {"model_type": "wav2vec", **published, **config}, stored, None


_SETTINGS = (*Config.__dataclass_fields__, *Published.__dataclass_fields__)


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Samples at 16 kHz, as they are."""
    refuse_settings(settings, "wav2vec")
    field, stride = _field(config)
    return SoundProcessing(
        rate=_RATE,
        features=Waveform(),
        seconds=_SECONDS,
        shortest=field,
        states=partial(frames, field=field, stride=stride),
    )


def _field(config: Config) -> tuple[int, int]:
    """The samples that a frame of the features sees, and the samples between two frames."""
    layers = config.conv_feature_layers
    return field_and_stride([kernel for _, kernel, _ in layers], [stride for *_, stride in layers])


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t) float32 and batch.lengths (n,) -> features or context (n, s, dim) float32."""
    x, field, stride = batch.sound[:, None], 1, 1
    for i, (channels, kernel, step) in enumerate(config.conv_feature_layers):
        layer = p[f"feature_extractor.conv_layers.{i}"]
        x = ops.conv(x, layer["0"], [step], [0])
        field, stride = field + (kernel - 1) * stride, stride * step
        keep = real(ops, x, 2, batch.lengths, field, stride)[:, None]
        x = ACTIVATIONS[config.activation](ops, masked_norm(ops, x, layer["2"], keep, channels, _EPS))
    if config.log_compression:
        x = ops.log(ops.maximum(x, -x) + 1.0)
    z = ops.state(ops.transpose(x, (0, 2, 1)))
    return z if config.layer == "z" else ops.state(_context(ops, p["feature_aggregator"], config, x, keep))


def _context(ops: Ops, p: Params, config: Config, x: Value, keep: Value) -> Value:
    """The context of features x (n, c, t), of which keep (n, 1, t) are real -> (n, t, dim).

    Each convolution sees a frame and those before it, where the first frame, or zeros, stand for those before the
    sound.
    """
    for i, (channels, kernel, _) in enumerate(config.conv_aggregator_layers):
        layer = p[f"conv_layers.{i}"]
        y = ops.pad(x, kernel - 1, 0, "zeros" if config.agg_zero_pad else "edge")
        y = ops.conv(y, layer["1"], [1], [0])
        y = ACTIVATIONS[config.activation](ops, masked_norm(ops, y, layer["3"], keep, channels, _EPS))
        if config.skip_connections_agg:
            same = f"residual_proj.{i}.weight" not in p
            x = x if same else ops.conv(x, p[f"residual_proj.{i}"], [1], [0])
            y = (y + x) * math.sqrt(config.residual_scale)
        x = y
    return ops.transpose(x, (0, 2, 1))


SHAPES = {"feature_extractor.conv_layers.0.0.weight": ("", "", "")}

PREFIXES = ("model.", "module.")

# What is only needed for training.
LAYOUTS = [(r"(wav2vec_predictions|project_features|vector_quantizer)\..*", None)]

KNOWN: dict[str, Any] = {}
