"""CLAP: texts and sounds in one space, by RoBERTa and HTSAT, a Swin transformer.

Wu et al. 2022, arXiv:2211.06687; Chen et al. 2022, arXiv:2202.00874; Liu et al. 2021, arXiv:2103.14030. Weights are
named as transformers' `ClapModel` saves them; LAION's own files are read too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from omnivec import weights
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import bert
from omnivec.families._clap_fusion import all_pictures, fuse, is_longer
from omnivec.families._swin import Windows, merge_patches, window_attention
from omnivec.inputs.audio.features import settings as front_ends
from omnivec.inputs.audio.features.fixed_length import PICTURES, Fill
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.inputs.text.tokenizer import Tokenizer, load_tokenizer
from omnivec.ops import grid
from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Stored, Value
from omnivec.ops.maps import rows
from omnivec.types import ModalityName
from omnivec.validation import typed
from omnivec.validation.typed import Among, Between, Count, Divides, Filled, Index, Rate, Side, Size

# fmt: off
CLAIMS = {
    "model_type": ["clap"],
    # LAION's files: weights without a config.json.
    "files": {
        "630k-best.pt": {"model_type": "clap", "text_config": {"layer_norm_eps": 1e-5}},
        "630k-audioset-best.pt": {"model_type": "clap", "text_config": {"layer_norm_eps": 1e-5}},
        "630k-fusion-best.pt":
            {"model_type": "clap", "text_config": {"layer_norm_eps": 1e-5}, "audio_config": {"enable_fusion": True}},
        "630k-audioset-fusion-best.pt":
            {"model_type": "clap", "text_config": {"layer_norm_eps": 1e-5}, "audio_config": {"enable_fusion": True}},
        "music_audioset_epoch_15_esc_90.14.pt":
            {"model_type": "clap", "text_config": {"layer_norm_eps": 1e-5},
             "audio_config": {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2]}},
        "music_speech_epoch_15_esc_89.25.pt":
            {"model_type": "clap", "text_config": {"layer_norm_eps": 1e-5},
             "audio_config": {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2]}},
        "music_speech_audioset_epoch_15_esc_89.98.pt":
            {"model_type": "clap", "text_config": {"layer_norm_eps": 1e-5},
             "audio_config": {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2]}},
    },
    "modality": "text",
}
# fmt: on

# A frequency in Hz, up to half the sampling rate.
Frequency = Annotated[float, Between(0.0, 24000.0)]

# The largest height and width of a map of patches; those of the published models have 64.
_SIDE = 128

# Seconds up to which a long sound is fused: its samples and spectrogram are 130 MB in float32.
_WHOLE = 600.0

# The eps of all norms but those of the layers, which config.json states.
_EPS = 1e-5


class Text(NamedTuple):
    """The text tower, as the published config describes it; the fields of `bert.Config` of these names."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    hidden_act: str
    layer_norm_eps: float
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    pad_token_id: int


class Audio(NamedTuple):
    """The audio tower, as the published config describes it.

    Attributes:
        spec_size: height and width of the square into which a spectrogram is folded.
        num_mel_bins: bands of a spectrogram.
        patch_size: height and width of a patch.
        patch_stride: places from one patch to the next, on both axes.
        window_size: height and width, in patches, of the windows within which patches attend to each other.
        width: length of a patch's vector in the first stage; it doubles from stage to stage.
        depths: layers of each stage.
        heads: attention heads of each stage.
        hidden_act: activation of the feed-forward networks.
        layer_norm_eps: eps of the layers' norms.
        hidden_dropout_prob: dropout rate of the feed-forward networks.
        attention_probs_dropout_prob: dropout rate of the attention.
        enable_patch_layer_norm: whether a layer norm follows the convolution that makes patches.
        enable_fusion: whether the model reads a long sound by four spectrograms, on another scale of bands.
    """

    spec_size: int
    num_mel_bins: int
    patch_size: int
    patch_stride: int
    window_size: int
    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    hidden_act: str
    layer_norm_eps: float
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    enable_patch_layer_norm: bool
    enable_fusion: bool

    @property
    def folds(self) -> int:
        """Number of stretches of time that are stacked along the axis of bands."""
        return self.spec_size // self.num_mel_bins

    @property
    def side(self) -> int:
        """Height and width, in patches, of the first stage's map; they are halved from stage to stage."""
        return self.spec_size // self.patch_stride

    @property
    def offsets(self) -> int:
        """Rows of the tables of relative positions: one for each offset of two patches in a window."""
        return (2 * self.window_size - 1) ** 2

    @property
    def last_width(self) -> int:
        """Length of a patch's vector in the last stage."""
        return self.width << len(self.depths) - 1


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward passes depend on.

    Attributes:
        dim: length of a vector.
        text: the tower for texts.
        audio: the tower for sounds.
        projection_hidden_act: activation between the two linear maps after each tower.
        frames: frames of every spectrogram.
    """

    dim: Size
    text: Text
    audio: Audio
    projection_hidden_act: Activation = "relu"
    frames: Size = 1001

    @property
    def vocab_size(self) -> int:
        """Number of tokens of the text tower."""
        return self.text.vocab_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included."""
        return _roberta(self.text).max_length


@dataclass(frozen=True)
class Texts:
    """The published keys of the text tower, those of `Text`, with transformers' defaults."""

    vocab_size: Size = 50265
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Annotated[Size, Divides("hidden_size")] = 12
    intermediate_size: Size = 3072
    max_position_embeddings: Size = 514
    hidden_act: Activation = "gelu"
    layer_norm_eps: Rate = 1e-12
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.1
    pad_token_id: Index = 1


@dataclass(frozen=True)
class Sounds:
    """The published keys of the audio tower, with transformers' defaults."""

    spec_size: Side = 256
    num_mel_bins: Side = 64
    patch_size: Side | tuple[Side, Side] = 4
    patch_stride: Side | tuple[Side, Side] = 4
    window_size: Side = 8
    patch_embeds_hidden_size: Size = 96
    depths: Annotated[tuple[Count, ...], Filled()] = (2, 2, 6, 2)
    num_attention_heads: Annotated[tuple[Size, ...], Filled()] = (4, 8, 16, 32)
    hidden_act: Activation = "gelu"
    layer_norm_eps: Rate = 1e-5
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.0
    enable_patch_layer_norm: bool = True
    enable_fusion: bool = False
    fusion_type: Annotated[str | None, Among((None, "aff_2d"))] = None
    patch_embed_input_channels: Annotated[int, Among((1,))] = 1
    flatten_patch_embeds: Annotated[bool, Among((True,))] = True


@dataclass(frozen=True)
class Published:
    """The keys of config.json that are read."""

    projection_dim: Size | None = None
    projection_hidden_act: Activation | None = None
    text_config: Texts | None = None
    audio_config: Sounds | None = None


def canonical(published: Mapping[str, Any]) -> dict[str, Any]:
    """The published config as the fields of `Config`."""
    text = typed.read(Texts, published.get("text_config") or {}, "text_config")
    audio = typed.read(Sounds, published.get("audio_config") or {}, "audio_config")
    named = {name: getattr(audio, name) for name in Audio._fields if hasattr(audio, name)}
    named |= {key: _square(key, named[key]) for key in ("patch_size", "patch_stride")}
    named |= {"width": audio.patch_embeds_hidden_size, "heads": audio.num_attention_heads}
    tower, frames = Audio(**named), published.get("frames") or Config.frames
    _check_geometry(tower, frames)
    return {
        "dim": published.get("projection_dim") or 512,
        "text": Text(*astuple(text)),
        "audio": tower,
        "projection_hidden_act": published.get("projection_hidden_act"),
        "frames": frames,
    }


def _square(key: str, size: int | tuple[int, int]) -> int:
    """A size that is stated as one number, or as two equal ones."""
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UnsupportedModel(f"audio_config.{key} {[height, width]}: only squares are covered")
    return height


def _check_geometry(audio: Audio, frames: int) -> None:
    """Raises UnsupportedModel unless every stage's map is divided into whole windows, as in the published models."""
    last, overlap = audio.side // 2 ** (len(audio.depths) - 1), audio.patch_size - audio.patch_stride
    if overlap < 0 or overlap % 2:
        raise UnsupportedModel(
            f"audio_config: patch_size {audio.patch_size} with patch_stride {audio.patch_stride}; an even number more "
            "than the stride is covered"
        )
    if audio.spec_size % audio.num_mel_bins or audio.spec_size % audio.patch_stride:
        raise UnsupportedModel(
            f"audio_config: spec_size {audio.spec_size} is covered as a multiple of num_mel_bins "
            f"({audio.num_mel_bins}) and of patch_stride ({audio.patch_stride}) only"
        )
    if audio.side > _SIDE or frames > audio.spec_size * audio.folds:
        raise UnsupportedModel(
            f"audio_config: spec_size {audio.spec_size} gives {audio.side} x {audio.side} patches and room for "
            f"{audio.spec_size * audio.folds:,} frames; at most {_SIDE} x {_SIDE} are covered, and at least {frames:,}"
        )
    if not last or audio.side % 2 ** (len(audio.depths) - 1) or last % audio.window_size:
        raise UnsupportedModel(
            f"audio_config: {audio.side} x {audio.side} patches, halved {len(audio.depths) - 1} times, are covered if "
            f"they can be divided into windows of {audio.window_size} x {audio.window_size} each time"
        )
    if len(audio.heads) != len(audio.depths):
        raise ModelError(
            f"audio_config: {len(audio.heads)} num_attention_heads for {len(audio.depths)} stages (depths)"
        )
    for i, heads in enumerate(audio.heads):
        if (audio.width << i) % heads:
            raise ModelError(
                f"audio_config: num_attention_heads[{i}] is {heads}, where a divisor of {audio.width << i} is expected"
            )


def towers(published: Mapping[str, Any]) -> tuple[ModalityName, ...]:
    """The modalities that a model reads, texts first."""
    return ("text", "audio")


def forward_text(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, 1, dim) float32, projected but not normalised."""
    x = bert.forward(ops, p["text_model"], _roberta(config.text), batch)
    x = ops.tanh(ops.linear(x[:, 0], p["text_model.pooler.dense"]))
    return _projected(ops, p["text_projection"], config, x)


def forward_audio(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, frames, bands) float32, log-mel spectrograms in decibels -> (n, 1, dim) float32, as for texts.

    With feature fusion batch.sound is (n, 4 * frames, bands), where batch.lengths (n,) tells whether the last three
    quarters are of the sound, which then is long, or padding. States are the patches, and the output of each stage.
    """
    encoder, audio = p["audio_model.audio_encoder"], config.audio
    x = rows(ops, _patches(ops, encoder, config, batch))
    if audio.enable_patch_layer_norm:
        x = ops.layer_norm(x, encoder["patch_embed.norm"], _EPS)
    x = ops.state(x)
    for i, depth in enumerate(audio.depths):
        stage, side = encoder[f"layers.{i}"], audio.side >> i
        for j in range(depth):
            shift = audio.window_size // 2 if j % 2 and side > audio.window_size else 0
            place = Windows(side, audio.width << i, audio.heads[i], audio.window_size, shift)
            x = _layer(ops, stage[f"blocks.{j}"], audio, x, place)
        if i + 1 < len(audio.depths):
            x = merge_patches(ops, stage["downsample"], x, (side, audio.width << i), _EPS)
        x = ops.state(x)
    x = ops.mean(ops.layer_norm(x, encoder["norm"], _EPS), 1)
    return _projected(ops, p["audio_projection"], config, x)


def _roberta(text: Text) -> bert.Config:
    return bert.Config(model_type="roberta", **text._asdict())


def _projected(ops: Ops, p: Params, config: Config, x: Value) -> Value:
    """States (n, hidden) -> (n, 1, dim) in the common space."""
    y = ACTIVATIONS[config.projection_hidden_act](ops, ops.linear(x, p["linear1"]))
    return ops.linear(y, p["linear2"])[:, None]


def _patches(ops: Ops, encoder: Params, config: Config, batch: Any) -> Value:
    """Spectrograms -> maps of patches (n, width, side, side)."""
    audio, frames, count = config.audio, config.frames, PICTURES if config.audio.enable_fusion else 1
    x = ops.reshape(batch.sound, (0, count * frames, audio.num_mel_bins))
    longer = is_longer(ops, batch.lengths, frames)
    if audio.enable_fusion:
        x = all_pictures(ops, x, longer, frames)
    x = ops.batch_norm(ops.transpose(x, (0, 2, 1)), encoder["batch_norm"], _EPS)
    x = ops.transpose(x, (0, 2, 1))
    whole, *parts = [_folded(ops, audio, x[:, i * frames : (i + 1) * frames], frames) for i in range(count)]
    stride, margin = audio.patch_stride, (audio.patch_size - audio.patch_stride) // 2
    x = ops.conv(whole, encoder["patch_embed.proj"], [stride] * 2, [margin] * 2)
    return fuse(ops, encoder["patch_embed"], x, parts, longer, (audio.side, stride, margin)) if parts else x


def _folded(ops: Ops, audio: Audio, x: Value, frames: int) -> Value:
    """Spectrograms (n, frames, bands) -> squares (n, 1, spec_size, spec_size).

    Time is stretched to spec_size * folds frames and cut into `folds` stretches, which are stacked along the axis of
    bands: with 1001 frames, 64 bands and a square of 256, to 1024 frames, of which the first 256 give the rows 0 to 63
    of the square, the next 256 the rows 64 to 127, and so on.
    """
    wide = audio.spec_size * audio.folds
    if frames != wide:
        x = ops.mix_tokens(x, grid.aligned(frames, wide))
    x = ops.reshape(x, (0, audio.folds, audio.spec_size, audio.num_mel_bins))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2)), (0, 1, audio.spec_size, audio.spec_size))


def _layer(ops: Ops, p: Params, audio: Audio, x: Value, place: Windows) -> Value:
    """One pre-norm block: x + attention(norm(x)) within windows, then x + feed-forward(norm(x))."""
    eps = audio.layer_norm_eps
    rate = audio.attention_probs_dropout_prob
    y = window_attention(ops, p["attention"], ops.layer_norm(x, p["layernorm_before"], eps), place, rate)
    x = x + ops.dropout(y, rate)
    y = ops.linear(ops.layer_norm(x, p["layernorm_after"], eps), p["intermediate.dense"])
    y = ops.linear(ACTIVATIONS[audio.hidden_act](ops, y), p["output.dense"])
    return x + ops.dropout(y, audio.hidden_dropout_prob)


# transformers' name of how a short sound is extended -> the front end's.
_FILLS: Mapping[str, Fill] = {"repeatpad": "repeat whole", "repeat": "repeat", "pad": "zeros"}


@dataclass(frozen=True)
class _Settings:
    """The keys of preprocessor_config.json, with transformers' defaults."""

    sampling_rate: Annotated[int, Among((48000,))] = 48000
    fft_window_size: Annotated[int, Among((1024,))] = 1024
    hop_length: Annotated[int, Among((480,))] = 480
    feature_size: Size | None = None
    max_length_s: Count = 10
    frequency_min: Frequency = 0.0
    frequency_max: Frequency = 14000.0
    top_db: Annotated[float | None, Among((None,))] = None
    padding: Annotated[str, Among(_FILLS)] = "repeatpad"
    truncation: Annotated[str, Among(("fusion", "rand_trunc"))] = "fusion"


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Log-mel spectrograms of ten seconds; a shorter sound is repeated as often as it fits.

    The published models cut a longer sound at random places. Here it is read from its beginning, in windows, or with
    feature fusion whole, up to ten minutes.
    """
    file, fused = "preprocessor_config.json", config.audio.enable_fusion
    usual = {
        "frequency_min": 50,
        "truncation": "fusion" if fused else "rand_trunc",
    }  # as in the published models
    stated = typed.read(_Settings, settings or usual, file)
    if stated.truncation == "fusion" and not fused:
        raise UnsupportedModel(f"{file}: truncation 'fusion', but config.json has enable_fusion false")
    features = front_ends.clap(
        fused=stated.truncation == "fusion",
        low=stated.frequency_min,
        high=stated.frequency_max,
        seconds=stated.max_length_s,
        bands=config.audio.num_mel_bins,
    )
    features = replace(features, fill=_FILLS[stated.padding])
    for key, value, wanted in (
        ("feature_size", stated.feature_size, config.audio.num_mel_bins),
        ("frames of max_length_s", features.count(1), config.frames),
    ):
        if value not in (None, wanted):
            raise UnsupportedModel(f"{file}: {key} {value}: only {wanted} is covered")
    return SoundProcessing(
        rate=stated.sampling_rate,
        features=features,
        seconds=float(stated.max_length_s),
        whole=_WHOLE if stated.truncation == "fusion" else 0.0,
        padded=PICTURES * config.frames if fused else 0,
    )


def logits(config: Config, tensors: Mapping[str, Stored]) -> tuple[float, float | None]:
    """The scale by which a cosine becomes a logit of a softmax over texts, and no bias; see `clip.logits`."""
    name = "logit_scale_a"
    learned = float(tensors[name].float32().reshape(-1)[0]) if name in tensors else -math.log(0.07)
    return math.exp(learned), None


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, Tokenizer] | None:
    """The config, weights and tokenizer of a folder with one of LAION's files; None for others."""
    claims: Any = CLAIMS
    place = next((folder / name for name in claims["files"] if (folder / name).is_file()), None)
    if place is None or (folder / "config.json").is_file():
        return None
    try:
        tokenizer = load_tokenizer(folder)
    except ModelError as error:
        raise ModelError(
            f"{error} LAION's models have RoBERTa's tokenizer: copy tokenizer.json and tokenizer_config.json of "
            "FacebookAI/roberta-base into the folder"
        ) from error
    return {"model_type": "clap", **published}, weights.read(place), tokenizer


SHAPES = {
    "text_projection.linear1.weight": ("dim", "text.hidden_size"),
    "audio_projection.linear1.weight": ("dim", "audio.last_width"),
    "text_model.embeddings.word_embeddings.weight": ("text.vocab_size", "text.hidden_size"),
    "text_model.embeddings.position_embeddings.weight": ("text.max_position_embeddings", "text.hidden_size"),
    "text_model.encoder.layer.0.intermediate.dense.weight": ("text.intermediate_size", "text.hidden_size"),
    "audio_model.audio_encoder.patch_embed.proj.weight": (
        "audio.width",
        "",
        "audio.patch_size",
        "audio.patch_size",
    ),
    "audio_model.audio_encoder.patch_embed.mel_conv2d.weight": ("audio.width", "", "audio.patch_size", ""),
    "audio_model.audio_encoder.layers.0.blocks.0.attention.self.relative_position_bias_table": (
        "audio.offsets",
        "",
    ),
    "audio_model.audio_encoder.batch_norm.weight": ("audio.num_mel_bins",),
}

PREFIXES = ("clap.", "module.")

_ENCODER, _BLOCK = "audio_model.audio_encoder.", r"audio_branch\.layers\.(\d+)\.blocks\.(\d+)\."
_OURS, _SELF = rf"{_ENCODER}layers.\1.blocks.\2.", rf"{_ENCODER}layers.\1.blocks.\2.attention.self."

LAYOUTS = [
    # Buffers, and LAION's spectrograms, classifiers and further layers of training.
    (r".*\.(num_batches_tracked|relative_position_index|position_ids|token_type_ids|attn_mask)", None),
    (r"audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\..*", None),
    (r"(text|audio)_transform\..*", None),
    # LAION's names.
    (rf"{_BLOCK}norm1\.(weight|bias)", rf"{_OURS}layernorm_before.\3"),
    (rf"{_BLOCK}norm2\.(weight|bias)", rf"{_OURS}layernorm_after.\3"),
    (
        rf"{_BLOCK}attn\.qkv\.(weight|bias)",
        (rf"{_SELF}query.\3", rf"{_SELF}key.\3", rf"{_SELF}value.\3"),
    ),
    (rf"{_BLOCK}attn\.proj\.(weight|bias)", rf"{_OURS}attention.output.dense.\3"),
    (rf"{_BLOCK}attn\.relative_position_bias_table", rf"{_SELF}relative_position_bias_table"),
    (rf"{_BLOCK}mlp\.fc1\.(weight|bias)", rf"{_OURS}intermediate.dense.\3"),
    (rf"{_BLOCK}mlp\.fc2\.(weight|bias)", rf"{_OURS}output.dense.\3"),
    (r"audio_branch\.bn0\.(.*)", rf"{_ENCODER}batch_norm.\1"),
    (r"audio_branch\.(.*)", rf"{_ENCODER}\1"),
    (r"text_branch\.(.*)", r"text_model.\1"),
    (r"(text|audio)_projection\.0\.(.*)", r"\1_projection.linear1.\2"),
    (r"(text|audio)_projection\.2\.(.*)", r"\1_projection.linear2.\2"),
]

KNOWN: dict[str, Mapping[str, Any]] = {}
