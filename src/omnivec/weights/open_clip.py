"""Converts OpenCLIP's model_cfg to the config that transformers has for the same model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivec.errors import UnsupportedModel
from omnivec.validation import typed
from omnivec.validation.typed import Count, Rate, Side, Size

# eos_token_id in all configs from before 2023, whatever the end token is: it then is the token of the highest id.
LEGACY_EOS = 2

# Keys of OpenCLIP's configs whose other values would mean a different computation, with the supported values; and keys
# that may have any value, since they are sizes or concern training only.
OPEN_CLIP_NEUTRAL: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "text_cfg": {
        "pool_type": ("argmax",),
        "proj_type": ("linear",),
        "no_causal_mask": (False,),
        "embed_cls": (False,),
        "ls_init_value": (None,),
        "act_kwargs": ({}, None),
    },
    "vision_cfg": {
        "pool_type": ("tok",),
        "no_ln_pre": (False,),
        "final_ln_after_pool": (False,),
        "attentional_pool": (False,),
        "global_average_pool": (False,),
        "input_patchnorm": (False,),
        "pos_embed_type": ("learnable",),
        "ls_init_value": (None,),
        "act_kwargs": ({}, None),
    },
}
OPEN_CLIP_FREE = (
    *("context_length", "vocab_size", "width", "heads", "layers", "head_width", "mlp_ratio", "norm_kwargs"),
    *("image_size", "patch_size", "patch_dropout", "output_tokens", "proj_bias", "pad_id", "eos_id"),
    *("hf_tokenizer_name", "tokenizer_kwargs"),
)


@dataclass(frozen=True)
class Norm:
    """OpenCLIP's norm_kwargs of a tower."""

    eps: Rate | None = None


@dataclass(frozen=True)
class OpenHalf:
    """The keys that are read of a tower in OpenCLIP's config."""

    width: Size | None = None
    layers: Count | tuple[Count, ...] | None = None
    heads: Size | None = None
    head_width: Size | None = None
    norm_kwargs: Norm | None = None
    context_length: Size | None = None
    vocab_size: Size | None = None
    image_size: Side | tuple[Side, Side] | None = None
    patch_size: Side | tuple[Side, Side] | None = None
    timm_model_name: str | None = None
    hf_model_name: str | None = None


@dataclass(frozen=True)
class OpenClip:
    """The keys of OpenCLIP's model_cfg that are read."""

    embed_dim: Size
    text_cfg: OpenHalf
    vision_cfg: OpenHalf
    multimodal_cfg: Any = None
    quick_gelu: bool = False


def from_open_clip(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """OpenCLIP's model_cfg as transformers' config of the same model; `file` is its file, for messages.

    Raises:
        ModelError: a value is missing, or not allowed.
        UnsupportedModel: a tower that is not a plain transformer.
    """
    typed.read(OpenClip, config, file)
    known = typed.checked([OpenClip], config, file)
    text, vision = (
        {key: value for key, value in known[name].items() if value is not None}
        for name in ("text_cfg", "vision_cfg")
    )
    if vision.get("timm_model_name") or text.get("hf_model_name"):
        named = vision.get("timm_model_name") or text.get("hf_model_name")
        raise UnsupportedModel(
            f"OpenCLIP's tower {named!r} is from another library; only OpenCLIP's own transformers are covered: look "
            "for the same model in transformers' layout (config.json)"
        )
    if not isinstance(vision.get("layers", 12), int):
        raise UnsupportedModel(
            f"OpenCLIP's image tower with layers {vision['layers']} is a ResNet; only vision transformers are "
            "covered, such as ViT-B-32"
        )
    for name in ("text_cfg", "vision_cfg"):
        _refuse_parts(name, config[name])
    if config.get("multimodal_cfg"):
        raise UnsupportedModel("OpenCLIP's multimodal_cfg: captioning models (CoCa) are not covered")
    act = "quick_gelu" if config.get("quick_gelu") else "gelu"
    width = vision.get("width", 768)
    return {
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "text_config": {
            "vocab_size": text.get("vocab_size", 49408),
            "max_position_embeddings": text.get("context_length", 77),
            "eos_token_id": LEGACY_EOS,
            "hidden_size": text.get("width", 512),
            "num_hidden_layers": text.get("layers", 12),
            "num_attention_heads": text.get("heads", 8),
            "hidden_act": act,
            "layer_norm_eps": (text.get("norm_kwargs") or {}).get("eps") or 1e-5,
        },
        "vision_config": {
            "image_size": vision.get("image_size", 224),
            "patch_size": vision.get("patch_size", 16),
            "hidden_size": width,
            "num_hidden_layers": vision.get("layers", 12),
            "num_attention_heads": width // vision.get("head_width", 64),
            "hidden_act": act,
            "layer_norm_eps": (vision.get("norm_kwargs") or {}).get("eps") or 1e-5,
        },
    }


def _refuse_parts(name: str, cfg: Mapping[str, Any]) -> None:
    neutral = OPEN_CLIP_NEUTRAL[name]
    for key, value in cfg.items():
        if key not in OPEN_CLIP_FREE and value not in neutral.get(key, (None, False)):
            raise UnsupportedModel(f"OpenCLIP's {name} has {key} {value!r}, which is not covered")
