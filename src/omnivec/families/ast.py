"""AST: the Audio Spectrogram Transformer, a ViT over overlapping patches of a log-mel spectrogram.

Gong et al. 2021, arXiv:2104.01778. Weights are named as transformers' `ASTModel` and `ASTForAudioClassification` save
them; the authors' own names are read too. The layers are those of `vit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omnivec import weights
from omnivec.errors import ModelError
from omnivec.families import vit
from omnivec.families._classes import class_names
from omnivec.families.vit import _layer
from omnivec.inputs.audio.features import FixedFramesMel
from omnivec.inputs.audio.features.settings import kaldi_fbank
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.activations import Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import rows
from omnivec.validation import typed
from omnivec.validation.typed import Among, Count, Divides, Positive, Rate, Side, Size
from omnivec.vectors.class_scores import LinearClassifier

# fmt: off
CLAIMS = {
    "model_type": ["audio-spectrogram-transformer"],
    # The authors' files: weights without a config.json, named after their strides and their accuracy.
    "files": {
        "audioset_10_10_0.4593.pth": {"model_type": "audio-spectrogram-transformer", "layer_norm_eps": 1e-6},
        "audioset_10_10_0.4495.pth": {"model_type": "audio-spectrogram-transformer", "layer_norm_eps": 1e-6},
        "audioset_10_10_0.4483.pth": {"model_type": "audio-spectrogram-transformer", "layer_norm_eps": 1e-6},
        "audioset_10_10_0.4475.pth": {"model_type": "audio-spectrogram-transformer", "layer_norm_eps": 1e-6},
        "audioset_12_12_0.4467.pth":
            {"model_type": "audio-spectrogram-transformer", "layer_norm_eps": 1e-6,
             "frequency_stride": 12, "time_stride": 12},
        "audioset_14_14_0.4431.pth":
            {"model_type": "audio-spectrogram-transformer", "layer_norm_eps": 1e-6,
             "frequency_stride": 14, "time_stride": 14},
        "audioset_16_16_0.4422.pth":
            {"model_type": "audio-spectrogram-transformer", "layer_norm_eps": 1e-6,
             "frequency_stride": 16, "time_stride": 16},
    },
    "modality": "audio",
}
# fmt: on

POOLING = "cls"

ALIASES = {"max_length": "frames"}


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        patch_size: height and width of a patch, in bands and frames.
        frequency_stride: bands from one patch to the next.
        time_stride: frames from one patch to the next.
        frames: frames of every spectrogram, for which the positions were trained; `max_length` in config.json.
        num_mel_bins: bands of a spectrogram.
    """

    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Annotated[Size, Divides("hidden_size")] = 12
    patch_size: Side = 16
    frequency_stride: Side = 10
    time_stride: Side = 10
    frames: Side = 1024
    num_mel_bins: Side = 128
    hidden_act: Activation = "gelu"
    layer_norm_eps: Rate = 1e-12
    hidden_dropout_prob: Rate = 0.0
    attention_probs_dropout_prob: Rate = 0.0

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.hidden_size

    @property
    def positions(self) -> int:
        """Rows of the table of positions: two tokens, and the patches."""
        places = (
            (size - self.patch_size) // stride + 1
            for size, stride in (
                (self.num_mel_bins, self.frequency_stride),
                (self.frames, self.time_stride),
            )
        )
        bands, frames = places
        return 2 + bands * frames


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, frames, bands) float32, normalised log-mel spectrograms -> (n, 1, hidden) float32.

    The vector is the mean of the states of the class token and the distillation token, after the last norm.
    """
    x = ops.state(_embeddings(ops, p["embeddings"], config, batch.sound))
    layers = _layers(config)
    for i in range(config.num_hidden_layers):
        x = ops.state(_layer(ops, p[f"encoder.layer.{i}"], layers, x, None))
    return ops.mean(ops.layer_norm(x[:, :2], p["layernorm"], config.layer_norm_eps), 1, keep=True)


def _embeddings(ops: Ops, p: Params, config: Config, sound: Value) -> Value:
    """Class token, distillation token and the patches, band by band, with their positions."""
    image = ops.transpose(ops.reshape(sound, (0, 1, config.frames, config.num_mel_bins)), (0, 1, 3, 2))
    strides = (config.frequency_stride, config.time_stride)
    x = rows(ops, ops.conv(image, p["patch_embeddings.projection"], strides, (0, 0)))
    before = [ops.expand(p[name], x) for name in ("cls_token", "distillation_token")]
    x = ops.concat([*before, x], 1) + p["position_embeddings"]
    return ops.dropout(x, config.hidden_dropout_prob)


def _layers(config: Config) -> vit.Config:
    """The config of the layers, as `vit` takes it."""
    return vit.Config(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        hidden_act=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
        hidden_dropout_prob=config.hidden_dropout_prob,
        attention_probs_dropout_prob=config.attention_probs_dropout_prob,
    )


def labels(published: Mapping[str, Any], tensors: Mapping[str, weights.Tensor]) -> LinearClassifier | None:
    """The classes of `ASTForAudioClassification`, of AudioSet several of which may hold at once; None without names."""
    dense, norm = "classifier.dense", "classifier.layernorm"
    parts = [tensors.get(f"{module}.{part}") for module in (norm, dense) for part in ("weight", "bias")]
    scale, shift, weight, bias = (None if part is None else part.float32() for part in parts)
    if scale is None or shift is None or weight is None or bias is None:
        return None
    if not (names := class_names(published, len(weight))):
        return None
    eps = published.get("layer_norm_eps")
    return LinearClassifier(
        names=names,
        weight=weight * scale,
        bias=bias + weight @ shift,
        independent=published.get("problem_type") != "single_label_classification",
        norm_eps=Config.layer_norm_eps if eps is None else eps,
    )


@dataclass(frozen=True)
class _Settings:
    """The keys of preprocessor_config.json; the mean and standard deviation are AudioSet's where it states none."""

    sampling_rate: Annotated[int, Among((16000,))] = 16000
    num_mel_bins: Size | None = None
    max_length: Size | None = None
    do_normalize: bool = True
    mean: float = -4.2677393
    std: Positive = 4.5689974
    return_attention_mask: Annotated[bool, Among((False,))] = False


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Kaldi's filter banks of samples in [-1, 1]; (x - mean) / (2 std), where x is 0 behind the sound."""
    file = "preprocessor_config.json"
    stated = typed.read(_Settings, settings, file)
    for key, value, wanted in (
        ("num_mel_bins", stated.num_mel_bins, config.num_mel_bins),
        ("max_length", stated.max_length, config.frames),
    ):
        if value not in (None, wanted):
            raise ModelError(f"{file}: {key} is {value}, but config.json has {wanted}")
    mel = kaldi_fbank(
        config.num_mel_bins,
        window="hann symmetric",
        scale=1.0,
        shift=-stated.mean if stated.do_normalize else 0.0,
        divisor=2 * stated.std if stated.do_normalize else 1.0,
    )
    return SoundProcessing(
        rate=stated.sampling_rate,
        features=FixedFramesMel(mel=mel, length=config.frames),
        seconds=mel.frames.needed(config.frames) / stated.sampling_rate,
        shortest=mel.frames.length,
    )


SHAPES = {
    "embeddings.position_embeddings": ("", "positions", "hidden_size"),
    "embeddings.patch_embeddings.projection.weight": ("hidden_size", "", "patch_size", "patch_size"),
}

PREFIXES = ("audio_spectrogram_transformer.", "module.v.", "module.", "v.")

LAYOUTS: list[weights.Row] = [
    # The classifier, which `vit` drops, and the authors' names of it.
    (r"classifier\.(dense|layernorm)\.(weight|bias)", r"classifier.\1.\2"),
    (r"(?:module\.)?mlp_head\.0\.(weight|bias)", r"classifier.layernorm.\1"),
    (r"(?:module\.)?mlp_head\.1\.(weight|bias)", r"classifier.dense.\1"),
    *vit.LAYOUTS,
]

KNOWN: dict[str, Mapping[str, Any]] = {}
