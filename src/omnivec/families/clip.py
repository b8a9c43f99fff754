"""CLIP, OpenCLIP, SigLIP and SigLIP 2: texts and images in one space.

Radford et al. 2021, arXiv:2103.00020; Cherti et al. 2022, arXiv:2212.07143; Zhai et al. 2023, arXiv:2303.15343;
Tschannen et al. 2025, arXiv:2502.14786, at a fixed resolution. Weights are named as transformers' `CLIPModel` and
`SiglipModel` save them, or a single tower as `CLIPTextModel`, `CLIPVisionModelWithProjection` and similar classes do.
OpenCLIP's own files are read too, if the image tower is a vision transformer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omnivec import weights
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.inputs.text.tokenizer import Tokenizer, load_tokenizer
from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Stored, Value
from omnivec.types import ModalityName
from omnivec.validation.json_files import read_json
from omnivec.validation.typed import Count, Index, Rate, Side, Size
from omnivec.weights.open_clip import LEGACY_EOS, from_open_clip

CLAIMS = {
    "model_type": [
        "clip",
        "siglip",
        "siglip2",
        "open_clip",
        "clip_text_model",
        "clip_vision_model",
        "siglip_text_model",
        "siglip_vision_model",
    ],
    "files": {"open_clip_config.json": {"model_type": "open_clip"}},
    "modality": "text",
}

# model_type of a single tower -> the model_type of the whole model, and the tower's modality.
_ALONE: Mapping[str, tuple[str, ModalityName]] = {
    "clip_text_model": ("clip", "text"),
    "clip_vision_model": ("clip", "image"),
    "siglip_text_model": ("siglip", "text"),
    "siglip_vision_model": ("siglip", "image"),
}

# SigLIP 2 with Gemma's vocabulary pads with token 0, which its configs do not state.
_GEMMA_VOCABULARY = 256000


class Tower(NamedTuple):
    """One of the two transformers, as the published config describes it."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str
    layer_norm_eps: float
    attention_dropout: float = 0.0


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward passes depend on.

    Attributes:
        model_type: "clip" or "siglip"; for a single tower, the model_type of transformers' class.
        dim: length of a vector.
        vocab_size: number of tokens of the text tower.
        max_position_embeddings: longest text in tokens.
        eos_token_id: for CLIP, the token whose state becomes the text's vector; 2 stands for the token of highest id.
        pad_token_id: for SigLIP, whose attention includes padding.
        image_size: width and height of an image in pixels.
        patch_size: width and height of a patch in pixels.
        text: the transformer for texts.
        vision: the transformer for images.
    """

    model_type: str
    dim: Size
    vocab_size: Size
    max_position_embeddings: Size
    eos_token_id: Index
    pad_token_id: Index
    image_size: Side
    patch_size: Side
    text: Tower
    vision: Tower

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self.max_position_embeddings

    @property
    def is_clip(self) -> bool:
        """Whether the model is CLIP, not SigLIP."""
        return self.model_type.startswith("clip")


@dataclass(frozen=True)
class Half:
    """The published keys that both towers have."""

    hidden_size: Size | None = None
    num_hidden_layers: Count | None = None
    num_attention_heads: Size | None = None
    hidden_act: Activation | None = None
    layer_norm_eps: Rate | None = None
    attention_dropout: Rate | None = None


@dataclass(frozen=True)
class Texts(Half):
    """The published keys of a text tower."""

    vocab_size: Size | None = None
    max_position_embeddings: Size | None = None
    eos_token_id: Index | None = None
    pad_token_id: Index | None = None


@dataclass(frozen=True)
class Pictures(Half):
    """The published keys of an image tower."""

    image_size: Side | tuple[Side, Side] | None = None
    patch_size: Side | tuple[Side, Side] | None = None
    vision_use_head: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Published(Texts, Pictures):
    """The keys of config.json that are read: the tables of both towers, or the keys of a single one."""

    model_type: str
    projection_dim: Size | None = None
    text_config: Texts | None = None
    vision_config: Pictures | None = None
    text_config_dict: Texts | None = None
    vision_config_dict: Pictures | None = None


# Defaults of keys that published configs leave out.
_DEFAULTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "clip": {
        "text_config": {
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "eos_token_id": 49407,
            "hidden_size": 512,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
        "vision_config": {
            "image_size": 224,
            "patch_size": 32,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
    },
    "siglip": {
        "text_config": {
            "vocab_size": 32000,
            "max_position_embeddings": 64,
            "eos_token_id": 1,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
        "vision_config": {
            "image_size": 224,
            "patch_size": 16,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
    },
}


def _part(published: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A tower's published config with defaults; "..._config_dict", which old files have, replaces "..._config"."""
    raw = published.get(f"{name}_dict") or published.get(name) or {}
    stated = {key: value for key, value in raw.items() if value is not None}
    return {"attention_dropout": 0.0} | dict(_DEFAULTS[published["model_type"]][name]) | stated


def towers(published: Mapping[str, Any]) -> tuple[ModalityName, ...]:
    """The modalities that a model reads, texts first."""
    alone = _ALONE.get(published["model_type"])
    return (alone[1],) if alone else ("text", "image")


def _whole(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of a single tower as that of a model of both; the other tower is never used."""
    alone = _ALONE.get(published["model_type"])
    if alone is None:
        return published
    model_type, modality = alone
    return {"model_type": model_type, "text_config" if modality == "text" else "vision_config": published}


def adapt_weights(
    tensors: dict[str, weights.Tensor], config: Config
) -> tuple[dict[str, weights.Tensor], Config]:
    """For a single tower: weights by the names of the whole model, and the config with the dim of its weights."""
    if config.model_type not in _ALONE:
        return tensors, config
    part, tower, last = (
        ("text_model.", config.text, ("text_projection.weight", "text_model.head.weight"))
        if _ALONE[config.model_type][1] == "text"
        else ("vision_model.", config.vision, ("visual_projection.weight",))
    )
    named = {
        name if name.startswith((part, *last)) else part + name: tensor for name, tensor in tensors.items()
    }
    rows = [named[name].shape[0] for name in last if name in named]
    return named, replace(config, dim=rows[0] if rows else tower.hidden_size)


def canonical(published: Mapping[str, Any]) -> dict[str, Any]:
    """The published config as the fields of `Config`."""
    model_type, published = published["model_type"], _whole(published)
    text, vision = _part(published, "text_config"), _part(published, "vision_config")
    padding = 0 if text["vocab_size"] == _GEMMA_VOCABULARY else 1
    is_clip = published["model_type"] == "clip"
    return {
        "model_type": model_type,
        "dim": (published.get("projection_dim") or 512) if is_clip else vision["hidden_size"],
        **{key: text[key] for key in ("vocab_size", "max_position_embeddings", "eos_token_id")},
        "pad_token_id": text.get("pad_token_id", padding),
        **{key: vision[key] for key in ("image_size", "patch_size")},
        "text": _tower(text, "text_config"),
        "vision": _tower(vision, "vision_config"),
    }


def _tower(config: Mapping[str, Any], name: str) -> Tower:
    tower = Tower(*(config[key] for key in Tower._fields))
    if tower.hidden_size % tower.num_attention_heads:
        raise ModelError(
            f"config.json: {name}.num_attention_heads is {tower.num_attention_heads}, where a divisor of hidden_size "
            f"({tower.hidden_size}) is expected"
        )
    return tower


def with_tokenizer(config: Config, tokenizer: Tokenizer) -> Config:
    """The config with the padding token of the model's tokenizer, which configs of SigLIP do not state."""
    return replace(config, pad_token_id=tokenizer.pad_id)


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for variants that compute something else."""
    model_type = published["model_type"]
    if model_type == "open_clip":
        return  # `load_original` checks open_clip_config.json.
    if model_type == "siglip2":
        raise UnsupportedModel(
            "siglip2 (NaFlex) takes images of any shape, which is not covered; take a SigLIP 2 of fixed resolution, "
            "as google/siglip2-base-patch16-224, whose model_type is 'siglip'"
        )
    vision = _part(_whole(published), "vision_config")
    for key in ("image_size", "patch_size"):
        if not isinstance(vision[key], int):
            raise UnsupportedModel(f"vision_config.{key} {vision[key]}: only squares are covered")
    if vision.get("vision_use_head") is False:
        raise UnsupportedModel(
            "vision_use_head false: this image tower does not pool its patches into a vector"
        )


def forward_text(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, 1, dim) float32, projected but not normalised."""
    tower_weights, tower, is_clip = p["text_model"], config.text, config.is_clip
    ids = batch.ids if is_clip else _padded(ops, config, batch)
    x = ops.embedding(ids, tower_weights["embeddings.token_embedding.weight"])
    x = x + ops.embedding(ops.arange(ids, 1), tower_weights["embeddings.position_embedding.weight"])
    x = _encoder(ops, tower_weights["encoder"], tower, x, ops.causal_bias(batch.mask) if is_clip else None)
    x = ops.layer_norm(x, tower_weights["final_layer_norm"], tower.layer_norm_eps)
    if is_clip:
        return _projected(ops, p, config, ops.take(x, _end(ops, config, batch)), "text_projection")
    return ops.linear(x[:, -1], tower_weights["head"])[:, None]


def forward_image(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.pixels (n, 3, image_size, image_size) float32, normalised -> (n, 1, dim) float32, as for texts."""
    tower_weights, tower, is_clip = p["vision_model"], config.vision, config.is_clip
    x = ops.conv(batch.pixels, tower_weights["embeddings.patch_embedding"], [config.patch_size] * 2, [0, 0])
    x = ops.transpose(ops.reshape(x, (0, 0, -1)), (0, 2, 1))
    if is_clip:
        x = ops.concat([ops.expand(tower_weights["embeddings.class_embedding"][None, None], x), x], 1)
    x = x + tower_weights["embeddings.position_embedding.weight"]
    if is_clip:
        x = ops.layer_norm(x, tower_weights["pre_layrnorm"], tower.layer_norm_eps)
    x = _encoder(ops, tower_weights["encoder"], tower, x, None)
    if is_clip:
        x = ops.layer_norm(x[:, 0], tower_weights["post_layernorm"], tower.layer_norm_eps)
        return _projected(ops, p, config, x, "visual_projection")
    return _look(
        ops,
        tower_weights["head"],
        tower,
        ops.layer_norm(x, tower_weights["post_layernorm"], tower.layer_norm_eps),
    )


def _projected(ops: Ops, p: Params, config: Config, x: Value, name: str) -> Value:
    """States (n, hidden) -> (n, 1, dim) in the common space; unchanged for a single tower without a projection."""
    alone = config.model_type in _ALONE and name not in p
    return x[:, None] if alone else ops.linear(x, p[name])[:, None]


def _padded(ops: Ops, config: Config, batch: Any) -> Value:
    """Ids (n, max_position_embeddings): SigLIP was trained on texts padded to one length, without a mask."""
    length, token = config.max_position_embeddings, config.pad_token_id
    ids = ops.where(batch.mask, batch.ids, ops.constant(np.full(1, token, np.int32)))
    rest = ops.expand(ops.constant(np.full((1, length), token, np.int32)), ids)
    return ops.concat([ids, rest], 1)[:, :length]


def _end(ops: Ops, config: Config, batch: Any) -> Value:
    """Position (n,) of the first end token of each text; 0 for a text without one.

    For the ids 9 4 7 7 and eos_token_id 7: hit is 0 0 1 1, its running sum 0 0 1 2, so before is 1 1 0 0: position 2.
    """
    ids = batch.ids * batch.mask
    if config.eos_token_id == LEGACY_EOS:
        hit = 1.0 - ops.not_equal(ids - ops.max(ids, 1, keep=True), 0)
    else:
        hit = 1.0 - ops.not_equal(ids, config.eos_token_id)
    before = 1.0 - ops.not_equal(ops.cumsum(hit, 1), 0)
    return ops.cast(ops.sum(before, 1) * ops.max(hit, 1), "int32")


def _encoder(ops: Ops, p: Params, tower: Tower, x: Value, bias: Value | None) -> Value:
    """The layers: (n, t, hidden) -> (n, t, hidden)."""
    x = ops.state(x)
    for i in range(tower.num_hidden_layers):
        x = ops.state(_layer(ops, p[f"layers.{i}"], tower, x, bias))
    return x


def _layer(ops: Ops, p: Params, tower: Tower, x: Value, bias: Value | None) -> Value:
    """One pre-norm block: x + attention(norm(x)), then x + feed-forward(norm(x))."""
    y = ops.layer_norm(x, p["layer_norm1"], tower.layer_norm_eps)
    x = x + _attention(ops, p["self_attn"], tower, y, y, bias)
    return x + _network(ops, p["mlp"], tower, ops.layer_norm(x, p["layer_norm2"], tower.layer_norm_eps))


def _attention(ops: Ops, p: Params, tower: Tower, x: Value, source: Value, bias: Value | None) -> Value:
    """Multi-head attention of x (n, t, hidden) to the source (n, s, hidden) -> (n, t, hidden)."""
    h, d = tower.num_attention_heads, tower.hidden_size // tower.num_attention_heads
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(of, p[name]), (0, 0, h, d)), (0, 2, 1, 3))
        for name, of in (("q_proj", x), ("k_proj", source), ("v_proj", source))
    )
    y = ops.attention(q, k, v, bias, d**-0.5, tower.attention_dropout)
    return ops.linear(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d)), p["out_proj"])


def _network(ops: Ops, p: Params, tower: Tower, x: Value) -> Value:
    """The feed-forward network: (n, t, hidden) -> (n, t, hidden)."""
    return ops.linear(ACTIVATIONS[tower.hidden_act](ops, ops.linear(x, p["fc1"])), p["fc2"])


def _look(ops: Ops, p: Params, tower: Tower, x: Value) -> Value:
    """SigLIP's pooling: a learned probe attends to all patches, (n, t, hidden) -> (n, 1, hidden)."""
    y = _attention(ops, p["attention"], tower, ops.expand(p["probe"], x), x, None)
    return y + _network(ops, p["mlp"], tower, ops.layer_norm(y, p["layernorm"], tower.layer_norm_eps))


def logits(config: Config, tensors: Mapping[str, Stored]) -> tuple[float, float | None]:
    """The scale and the bias by which a cosine becomes a logit.

    A model with a bias was trained with a sigmoid for each pair (SigLIP); one without, None, with a softmax over the
    candidates (CLIP): see `vectors.labels.zero_shot`.

    Args:
        config: of the model.
        tensors: its weights; if they have no scale, it is CLIP's maximum, 100.
    """
    learned = {
        name: float(tensors[name].float32().reshape(-1)[0])
        for name in ("logit_scale", "logit_bias")
        if name in tensors
    }
    return math.exp(learned.get("logit_scale", math.log(100.0))), learned.get("logit_bias")


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, Tokenizer] | None:
    """The config, as transformers would state it, weights and tokenizer of OpenCLIP's own files; None for others.

    Raises:
        ModelError: open_clip_config.json or the tokenizer is missing.
        UnsupportedModel: a tower that is not covered, or weights of another kind of model.
    """
    if published["model_type"] != "open_clip":
        return None
    file = folder / "open_clip_config.json"
    raw = read_json(file, {}, dict)
    if not isinstance(raw.get("model_cfg"), dict):
        raise ModelError(f"{file} has no model_cfg, so it does not describe a model")
    config = from_open_clip(raw["model_cfg"], file) | {"preprocess_cfg": raw.get("preprocess_cfg") or {}}
    files = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    place = next((folder / name for name in files if (folder / name).is_file()), folder)
    try:
        tokenizer = load_tokenizer(folder)
    except ModelError as error:
        raise ModelError(
            f"{error} OpenCLIP's models share CLIP's tokenizer: copy tokenizer.json and tokenizer_config.json of "
            "openai/clip-vit-base-patch32 into the folder"
        ) from error
    return config, weights.read(place), tokenizer


SHAPES = {
    "text_projection.weight": ("dim", "text.hidden_size"),
    "visual_projection.weight": ("dim", "vision.hidden_size"),
    "text_model.embeddings.token_embedding.weight": ("vocab_size", "text.hidden_size"),
    "text_model.embeddings.position_embedding.weight": ("max_position_embeddings", "text.hidden_size"),
    "vision_model.embeddings.patch_embedding.weight": ("vision.hidden_size", "", "patch_size", "patch_size"),
}

PREFIXES = ("module.", "clip.", "siglip.")

_QKV = ("q_proj", "k_proj", "v_proj")


def _open_clip(prefix: str, tower: str) -> list[weights.Row]:
    """The rows for OpenCLIP's and OpenAI's names of a transformer."""
    block, layer = rf"{prefix}transformer\.resblocks\.(\d+)\.", rf"{tower}.encoder.layers.\1."
    return [
        (block + r"attn\.in_proj_(weight|bias)", tuple(rf"{layer}self_attn.{name}.\2" for name in _QKV)),
        (block + r"attn\.out_proj\.(weight|bias)", layer + r"self_attn.out_proj.\2"),
        (block + r"ln_(1|2)\.(weight|bias)", layer + r"layer_norm\2.\3"),
        (block + r"mlp\.c_fc\.(weight|bias)", layer + r"mlp.fc1.\2"),
        (block + r"mlp\.c_proj\.(weight|bias)", layer + r"mlp.fc2.\2"),
    ]


LAYOUTS: list[weights.Row] = [
    *_open_clip(r"visual\.", "vision_model"),
    *_open_clip(r"(?:text\.)?", "text_model"),
    (r"visual\.class_embedding", "vision_model.embeddings.class_embedding"),
    (r"visual\.conv1\.weight", "vision_model.embeddings.patch_embedding.weight"),
    (r"visual\.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    (r"visual\.ln_pre\.(weight|bias)", r"vision_model.pre_layrnorm.\1"),
    (r"visual\.ln_post\.(weight|bias)", r"vision_model.post_layernorm.\1"),
    (r"visual\.proj", "visual_projection.weight", "transpose"),
    (r"(?:text\.)?token_embedding\.weight", "text_model.embeddings.token_embedding.weight"),
    (r"(?:text\.)?positional_embedding", "text_model.embeddings.position_embedding.weight"),
    (r"(?:text\.)?ln_final\.(weight|bias)", r"text_model.final_layer_norm.\1"),
    (r"(?:text\.)?text_projection", "text_projection.weight", "transpose"),
    (r"text\.text_projection\.(weight|bias)", r"text_projection.\1"),
    # SigLIP's pooling, as torch fuses its attention.
    (
        r"(?:vision_model\.)?head\.attention\.in_proj_(weight|bias)",
        tuple(rf"vision_model.head.attention.{name}.\1" for name in _QKV),
    ),
    # Buffers, and the sizes that OpenAI stores among the weights.
    (r".*\.position_ids|(?:text\.)?attn_mask|input_resolution|context_length|vocab_size", None),
]

KNOWN: dict[str, Any] = {}
