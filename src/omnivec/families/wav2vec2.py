"""Wav2Vec 2.0, HuBERT, WavLM and Data2Vec: networks of speech, with x-vectors of voices.

Baevski et al. 2020, arXiv:2006.11477; Hsu et al. 2021, arXiv:2106.07447; Chen et al. 2021, arXiv:2110.13900; Baevski
et al. 2022, arXiv:2202.03555. Weights are named as transformers saves them. Convolutions make 50 frames of a second,
which a transformer reads; a vector is the mean over the frames of the last layer, or of the one that `layer` names.

The vector of a sound does not depend on its batch, as it does in the published libraries: the group norm takes its
statistics over the real frames alone, padded frames are zero before every later convolution over time, and attention
does not see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families._fairseq import read_checkpoint
from omnivec.families._frames import field_and_stride, frames, masked_norm, real
from omnivec.families._hooks import Transcriber, TranscriberSource
from omnivec.families._wav2vec2_encoder import transformer
from omnivec.families._wav2vec2_fairseq import LAYOUTS as _FAIRSEQ
from omnivec.families._wav2vec2_fairseq import config_of
from omnivec.families._wav2vec2_head import adapter, adapter_frames, tdnn_context, xvector
from omnivec.inputs.audio.features.waveform import Waveform
from omnivec.inputs.audio.preparer import front_end_settings
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Among, Count, Divides, Filled, Index, Length, Rate, Size, read
from omnivec.weights import Tensor, Weights
from omnivec.weights.checkpoints import has_weights

CLAIMS = {
    "model_type": ["wav2vec2", "hubert", "wavlm", "data2vec-audio"],
    # Checkpoints of fairseq and of WavLM's authors, under their published names.
    "files": {
        "wav2vec_small.pt": {"model_type": "wav2vec2"},
        "wav2vec_small_960h.pt": {"model_type": "wav2vec2"},
        "libri960_big.pt": {"model_type": "wav2vec2"},
        "wav2vec_vox_new.pt": {"model_type": "wav2vec2"},
        "xlsr_53_56k.pt": {"model_type": "wav2vec2"},
        "hubert_base_ls960.pt": {"model_type": "hubert"},
        "hubert_large_ll60k.pt": {"model_type": "hubert"},
        "WavLM-Base.pt": {"model_type": "wavlm"},
        "WavLM-Base+.pt": {"model_type": "wavlm"},
        "WavLM-Large.pt": {"model_type": "wavlm"},
    },
    "modality": "audio",
}

# The longest sound of one vector in seconds, 1,500 frames, and the seconds in a batch. Batches of five seconds are as
# fast as those of a minute, and the 3,200 frames that the first convolution makes of a second take 40 MB in float32.
_SECONDS, _BATCH = 30.0, 10.0

# The model types that have a key of config.json; others ignore it.
_KEYS_OF = {
    "feat_extract_norm": ("wav2vec2", "hubert", "wavlm"),
    "do_stable_layer_norm": ("wav2vec2", "hubert", "wavlm"),
    "feat_proj_layer_norm": ("hubert",),
    "conv_pos_batch_norm": ("hubert",),
    "num_buckets": ("wavlm",),
    "max_bucket_distance": ("wavlm",),
    "adapter_attn_dim": ("wav2vec2", "hubert"),
    "add_adapter": ("wav2vec2", "wavlm", "data2vec-audio"),
}

# What only adapters and x-vectors depend on.
_OF_ADAPTERS = ("adapter_kernel_size", "adapter_stride", "num_adapter_layers", "output_hidden_size")
_OF_XVECTORS = ("tdnn_dim", "tdnn_kernel", "tdnn_dilation", "xvector_output_dim")

_EPS = 1e-5

_Sizes = Annotated[tuple[Size, ...], Filled()]


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        positions_kernel: size of the convolutions for positions.
        positions_layers: number of these convolutions.
        xvector: whether the vector is the model's x-vector.
        layer: the hidden state that is pooled: 0 is the input of the first layer, k the output of the k-th; None for
            what the model returns.
        do_normalize: whether samples are standardised, if there is no preprocessor_config.json.
    """

    model_type: str
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Annotated[Size, Divides("hidden_size")] = 12
    intermediate_size: Size = 3072
    hidden_act: Activation = "gelu"
    layer_norm_eps: Rate = 1e-5
    conv_dim: _Sizes = (512,) * 7
    conv_kernel: Annotated[tuple[Size, ...], Length("conv_dim")] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: Annotated[tuple[Size, ...], Length("conv_dim")] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Annotated[str, Among(("group", "layer"))] = "group"
    feat_extract_activation: Activation = "gelu"
    feat_proj_layer_norm: bool = True
    positions_kernel: Size = 128
    positions_layers: Count = 1
    num_conv_pos_embedding_groups: Annotated[Size, Divides("hidden_size")] = 16
    conv_pos_batch_norm: bool = False
    do_stable_layer_norm: bool = False
    num_buckets: Size = 320
    max_bucket_distance: Size = 800
    adapter_attn_dim: Size | None = None
    add_adapter: bool = False
    adapter_kernel_size: Size = 3
    adapter_stride: Size = 2
    num_adapter_layers: Count = 3
    output_hidden_size: Size | None = None
    use_weighted_layer_sum: bool = False
    xvector: bool = False
    tdnn_dim: _Sizes = (512, 512, 512, 512, 1500)
    tdnn_kernel: Annotated[tuple[Size, ...], Length("tdnn_dim")] = (5, 3, 3, 1, 1)
    tdnn_dilation: Annotated[tuple[Size, ...], Length("tdnn_dim")] = (1, 2, 3, 1, 1)
    xvector_output_dim: Size = 512
    layer: Index | None = None
    do_normalize: bool = True
    hidden_dropout: Rate = 0.1
    activation_dropout: Rate = 0.1
    attention_dropout: Rate = 0.1
    feat_proj_dropout: Rate = 0.0

    @property
    def dim(self) -> int:
        """Width of the vector."""
        if self.layer is None and self.xvector:
            return self.xvector_output_dim
        return self.output_hidden_size or self.hidden_size if self.is_adapted else self.hidden_size

    @property
    def channels(self) -> int:
        """Channels of the last convolution."""
        return self.conv_dim[-1]

    @property
    def is_adapted(self) -> bool:
        """Whether an adapter changes the frames that are pooled."""
        return self.add_adapter and self.layer is None


@dataclass(frozen=True)
class Published:
    """Further keys of config.json that are read."""

    architectures: tuple[str, ...] = ()
    num_conv_pos_embeddings: Size | None = None
    conv_pos_kernel_size: Size = 19


def canonical(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """The published config without keys that the model type ignores, and with its convolutions for positions."""
    model_type, count = published["model_type"], published.get("num_conv_pos_embeddings")
    config = {k: v for k, v in published.items() if model_type in _KEYS_OF.get(k, (model_type,))}
    config["xvector"] = _is_xvector(published)
    if model_type == "data2vec-audio":
        config["feat_extract_norm"] = "layer"
        config["positions_layers"] = count or 5
        config["positions_kernel"] = published.get("conv_pos_kernel_size") or Published.conv_pos_kernel_size
    else:
        config["positions_kernel"] = count or Config.positions_kernel
    unused = (
        *(() if config.get("do_stable_layer_norm") else ("adapter_attn_dim",)),
        *(() if config.get("add_adapter") else _OF_ADAPTERS),
        *(() if config["xvector"] else _OF_XVECTORS),
    )
    return {key: value for key, value in config.items() if key not in unused}


def _is_xvector(published: Mapping[str, Any]) -> bool:
    return any(name.endswith("ForXVector") for name in published.get("architectures") or ())


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for a layer that the model does not have, and for x-vectors behind an adapter."""
    layers = published.get("num_hidden_layers") or Config.num_hidden_layers
    if (published.get("layer") or 0) > layers:
        raise UnsupportedModel(f"layer {published['layer']}: the model has the hidden states 0 to {layers}")
    if _is_xvector(published) and published.get("add_adapter"):
        raise UnsupportedModel("add_adapter true is not covered for models of x-vectors")


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Weights, None] | None:
    """Config and weights of a checkpoint of fairseq; None if the folder has weights of transformers.

    Raises:
        ModelError, WeightsError: see `_fairseq.read_checkpoint`.
        UnsupportedModel: the checkpoint is of another model.
    """
    found = None if has_weights(folder) else read_checkpoint(folder)
    if found is None:
        return None
    file, settings, stored = found
    return {**published, **config_of(settings, file)}, stored, None


def adapt_weights(tensors: dict[str, Tensor], config: Config) -> tuple[dict[str, Tensor], Config]:
    """Weights and config; layers are weighted if the config wants it and there are weights for it.

    Raises:
        ModelError: the config and the weights have different convolutions, from which frames are counted.
    """
    names = [f"feature_extractor.conv_layers.{i}.conv" for i in range(len(config.conv_dim))]
    sizes = zip(config.conv_dim, (1, *config.conv_dim), config.conv_kernel, strict=False)
    for name, size in zip(names, sizes, strict=True):
        stored = tensors.get(f"{name}.weight")
        if stored is not None and stored.shape != size:
            raise ModelError(
                f"config.json: conv_dim and conv_kernel give {name}.weight {size}, not {stored.shape}"
            )
        if stored is not None and config.conv_bias != (f"{name}.bias" in tensors):
            raise ModelError(
                f"config.json: conv_bias is {config.conv_bias}, which the weights of {name} are not"
            )
    weighted = config.use_weighted_layer_sum and (config.xvector or "layer_weights" in tensors)
    return tensors, replace(config, use_weighted_layer_sum=weighted)


def pooling(config: Config) -> str:
    """The mean over the frames; none for x-vectors, which are pooled by the model."""
    return "cls" if config.xvector and config.layer is None else "mean"


@dataclass(frozen=True)
class _Extractor:
    """The keys of preprocessor_config.json that are read, with transformers' defaults."""

    feature_extractor_type: Annotated[str, Among(("Wav2Vec2FeatureExtractor",))] = "Wav2Vec2FeatureExtractor"
    feature_size: Annotated[int, Among((1,))] = 1
    sampling_rate: Size = 16000
    do_normalize: bool = True


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Samples at the rate of preprocessor_config.json, standardised if it says so.

    Raises:
        ModelError: a setting has the wrong type.
        UnsupportedModel: the folder's extractor is not that of wav2vec 2.0.
    """
    extractor = read(_Extractor, settings, "preprocessor_config.json")
    field, stride = field_and_stride(config.conv_kernel, config.conv_stride)
    is_xvector = config.xvector and config.layer is None
    # Standard deviations of x-vectors need two frames.
    shortest = field + (tdnn_context(config) + 1) * stride if is_xvector else field
    return SoundProcessing(
        rate=extractor.sampling_rate,
        features=Waveform(normalised=extractor.do_normalize if settings else config.do_normalize),
        seconds=_SECONDS,
        shortest=shortest,
        states=None if is_xvector else partial(_states, config),
        batch=_BATCH,
    )


def transcriber(source: TranscriberSource) -> Transcriber | None:
    """What writes down speech with the model's head of letters; None if it has none."""
    if "lm_head.weight" not in source.tensors:
        return None
    from omnivec.families._wav2vec2_ctc import (
        CtcTranscriber,  # imported here, since embedding does not need it
    )

    config = replace(source.config, layer=None, xvector=False, use_weighted_layer_sum=False)
    settings = front_end_settings(source.folder)
    stride = field_and_stride(config.conv_kernel, config.conv_stride)[1]
    if config.add_adapter:
        stride *= config.adapter_stride**config.num_adapter_layers
    return CtcTranscriber(
        source,
        sound(config, settings),
        stride,
        lambda ops, p, batch: forward(ops, p, config, batch),
    )


def _states(config: Config, samples: int) -> int:
    """The number of states that the forward function returns."""
    count = frames(samples, *field_and_stride(config.conv_kernel, config.conv_stride))
    return adapter_frames(config, count) if config.is_adapted else count


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t) float32 and batch.lengths (n,) -> states (n, s, dim) float32, or x-vectors (n, 1, dim)."""
    x = _extract(ops, p["feature_extractor"], config, batch.sound, batch.lengths)
    keep = real(ops, x, 1, batch.lengths, *field_and_stride(config.conv_kernel, config.conv_stride))
    if config.feat_proj_layer_norm:
        x = ops.layer_norm(x, p["feature_projection.layer_norm"], config.layer_norm_eps)
    x = ops.dropout(ops.linear(x, p["feature_projection.projection"]), config.feat_proj_dropout)
    count = config.num_hidden_layers if config.layer is None else config.layer
    states = [ops.state(state) for state in transformer(ops, p["encoder"], config, x, keep, count)]
    if config.layer is not None:
        return states[-1]
    x = _weighted(ops, p, states) if config.use_weighted_layer_sum else _last(ops, p, config, states)
    if config.xvector:
        return xvector(ops, p, config, x, keep)
    return adapter(ops, p["adapter"], config, x, keep) if config.add_adapter else x


def _extract(ops: Ops, p: Params, config: Config, samples: Value, lengths: Value) -> Value:
    """The frames that convolutions make of samples: (n, t) -> (n, s, channels)."""
    x, act = samples[:, None], ACTIVATIONS[config.feat_extract_activation]
    for i, (kernel, stride) in enumerate(zip(config.conv_kernel, config.conv_stride, strict=True)):
        layer = p[f"conv_layers.{i}"]
        x = ops.conv(x, layer["conv"], [stride], [0])
        if config.feat_extract_norm == "layer":
            x = ops.transpose(
                ops.layer_norm(ops.transpose(x, (0, 2, 1)), layer["layer_norm"], _EPS), (0, 2, 1)
            )
        elif i == 0:
            keep = real(ops, x, 2, lengths, kernel, stride)
            x = masked_norm(ops, x, layer["layer_norm"], keep[:, None], 1, _EPS)
        x = act(ops, x)
    return ops.transpose(x, (0, 2, 1))


def _last(ops: Ops, p: Params, config: Config, states: list[Value]) -> Value:
    """What the transformer returns: the last state, normed if the layers norm their inputs."""
    if not config.do_stable_layer_norm:
        return states[-1]
    return ops.layer_norm(states[-1], p["encoder.layer_norm"], config.layer_norm_eps)


def _weighted(ops: Ops, p: Params, states: list[Value]) -> Value:
    """The mean of the states with learned weights, as in SUPERB (Yang et al. 2021, arXiv:2105.01051)."""
    shares = ops.softmax(p["layer_weights"])
    x = states[0] * shares[:1]
    for i, state in enumerate(states[1:], 1):
        x = x + state * shares[i : i + 1]
    return x


SHAPES = {
    "feature_projection.projection.weight": ("hidden_size", "channels"),
    "encoder.pos_conv_embed.conv.parametrizations.weight.original1": ("hidden_size", "", "positions_kernel"),
    "encoder.pos_conv_embed.conv.weight": ("hidden_size", "", "positions_kernel"),
    "encoder.pos_conv_embed.layers.0.conv.weight": ("hidden_size", "", "positions_kernel"),
    "encoder.layers.0.attention.rel_attn_embed.weight": ("num_buckets", "num_attention_heads"),
    "encoder.layers.0.feed_forward.intermediate_dense.weight": ("intermediate_size", "hidden_size"),
}

PREFIXES = (
    "w2v_encoder.w2v_model.",
    "wav2vec2.",
    "hubert.",
    "wavlm.",
    "data2vec_audio.",
    "model.",
    "module.",
)

LAYOUTS = [
    *_FAIRSEQ,
    # The names of weight norms before torch 2.1.
    (r"(encoder\.pos_conv_embed\.conv)\.weight_g", r"\1.parametrizations.weight.original0"),
    (r"(encoder\.pos_conv_embed\.conv)\.weight_v", r"\1.parametrizations.weight.original1"),
    # What is only needed for training, and heads of classes.
    (r"(quantizer|project_hid|project_q|classifier|objective)\..*|masked_spec_embed", None),
    (r".*\.num_batches_tracked", None),
]

KNOWN: dict[str, Any] = {}
