"""ViT, DeiT, MAE, MSN, I-JEPA and DINO 1 to 3: transformers over the patches of an image.

Dosovitskiy et al. 2020, arXiv:2010.11929; Touvron et al. 2020, arXiv:2012.12877, and 2022, arXiv:2204.07118; Caron et
al. 2021, arXiv:2104.14294; He et al. 2021, arXiv:2111.06377; Assran et al. 2022, arXiv:2204.07141, and 2023,
arXiv:2301.08243; Oquab et al. 2023, arXiv:2304.07193; Darcet et al. 2023, arXiv:2309.16588; Siméoni et al. 2025,
arXiv:2508.10104. Weights are named as transformers' `ViTModel` saves them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omnivec import weights
from omnivec.errors import UnsupportedModel
from omnivec.inputs.image.published import IMAGENET, Colours
from omnivec.ops import grid
from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import rows
from omnivec.validation.typed import Between, Count, Divides, Index, Rate, Side, Size

# fmt: off
CLAIMS = {
    "model_type": [
        "vit", "deit", "vit_mae", "vit_msn", "ijepa", "dinov2", "dinov2_with_registers", "dinov3_vit",
    ],
    # timm's config.json names an architecture and no model_type.
    "where": {
        "architecture": [
            "vit_tiny_patch16_224", "vit_tiny_patch16_384", "vit_small_patch32_224", "vit_small_patch32_384",
            "vit_small_patch16_224", "vit_small_patch16_384", "vit_small_patch8_224", "vit_base_patch32_224",
            "vit_base_patch32_384", "vit_base_patch16_224", "vit_base_patch16_384", "vit_base_patch8_224",
            "vit_base_patch16_224_miil", "vit_large_patch32_224", "vit_large_patch32_384",
            "vit_large_patch16_224", "vit_large_patch16_384", "vit_large_patch14_224", "vit_huge_patch14_224",
            "vit_giant_patch14_224", "vit_gigantic_patch14_224",
            "vit_huge_patch14_gap_224", "vit_huge_patch16_gap_448", "vit_giant_patch16_gap_224",
            "deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224",
            "deit_base_patch16_384", "deit_tiny_distilled_patch16_224", "deit_small_distilled_patch16_224",
            "deit_base_distilled_patch16_224", "deit_base_distilled_patch16_384",
            "deit3_small_patch16_224", "deit3_small_patch16_384", "deit3_medium_patch16_224",
            "deit3_base_patch16_224", "deit3_base_patch16_384", "deit3_large_patch16_224",
            "deit3_large_patch16_384", "deit3_huge_patch14_224",
            "vit_small_patch14_dinov2", "vit_base_patch14_dinov2", "vit_large_patch14_dinov2",
            "vit_giant_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_base_patch14_reg4_dinov2",
            "vit_large_patch14_reg4_dinov2", "vit_giant_patch14_reg4_dinov2",
            "vit_tiny_patch16_dinov3_qkvb", "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb",
            "vit_small_plus_patch16_dinov3", "vit_small_plus_patch16_dinov3_qkvb", "vit_base_patch16_dinov3",
            "vit_base_patch16_dinov3_qkvb", "vit_large_patch16_dinov3", "vit_large_patch16_dinov3_qkvb",
            "vit_huge_plus_patch16_dinov3", "vit_huge_plus_patch16_dinov3_qkvb", "vit_7b_patch16_dinov3",
        ],
    },
    # The files of DINO, MAE and DINOv2 as first published: weights without a config.json.
    "files": {
        "dino_deitsmall16_pretrain.pth":
            {"model_type": "vit", "hidden_size": 384, "patch_size": 16, "layer_norm_eps": 1e-6},
        "dino_deitsmall8_pretrain.pth":
            {"model_type": "vit", "hidden_size": 384, "patch_size": 8, "layer_norm_eps": 1e-6},
        "dino_vitbase16_pretrain.pth":
            {"model_type": "vit", "hidden_size": 768, "patch_size": 16, "layer_norm_eps": 1e-6},
        "dino_vitbase8_pretrain.pth":
            {"model_type": "vit", "hidden_size": 768, "patch_size": 8, "layer_norm_eps": 1e-6},
        "mae_pretrain_vit_base.pth":
            {"model_type": "vit_mae", "hidden_size": 768, "patch_size": 16, "layer_norm_eps": 1e-6},
        "mae_pretrain_vit_large.pth":
            {"model_type": "vit_mae", "hidden_size": 1024, "patch_size": 16, "layer_norm_eps": 1e-6},
        "mae_pretrain_vit_huge.pth":
            {"model_type": "vit_mae", "hidden_size": 1280, "patch_size": 14, "layer_norm_eps": 1e-6},
        "dinov2_vits14_pretrain.pth": {"model_type": "dinov2", "hidden_size": 384, "image_size": 518},
        "dinov2_vitb14_pretrain.pth": {"model_type": "dinov2", "hidden_size": 768, "image_size": 518},
        "dinov2_vitl14_pretrain.pth": {"model_type": "dinov2", "hidden_size": 1024, "image_size": 518},
        "dinov2_vitg14_pretrain.pth":
            {"model_type": "dinov2", "hidden_size": 1536, "image_size": 518, "use_swiglu_ffn": True},
        "dinov2_vits14_reg4_pretrain.pth":
            {"model_type": "dinov2_with_registers", "hidden_size": 384, "patch_size": 14, "image_size": 518},
        "dinov2_vitb14_reg4_pretrain.pth":
            {"model_type": "dinov2_with_registers", "hidden_size": 768, "patch_size": 14, "image_size": 518},
        "dinov2_vitl14_reg4_pretrain.pth":
            {"model_type": "dinov2_with_registers", "hidden_size": 1024, "patch_size": 14, "image_size": 518},
        "dinov2_vitg14_reg4_pretrain.pth":
            {"model_type": "dinov2_with_registers", "hidden_size": 1536, "patch_size": 14, "image_size": 518,
             "use_swiglu_ffn": True},
    },
    "modality": "image",
}
# fmt: on

# The preprocessing of images for folders that do not specify it.
PREPROCESSING = IMAGENET

_CLS, _DISTILLATION, _REGISTERS = "cls_token", "distillation_token", "register_tokens"

# Defaults of each model_type for keys that its config.json leaves out.
_KINDS: dict[str, dict[str, Any]] = {
    "vit": {},
    "deit": {"tokens": (_CLS, _DISTILLATION), "placed": 2},
    "vit_mae": {"pool": "mean"},
    "vit_msn": {"layer_norm_eps": 1e-6},
    "ijepa": {"tokens": (), "placed": 0, "pool": "mean"},
    "dinov2": {"layer_norm_eps": 1e-6, "patch_size": 14},
    "dinov2_with_registers": {
        "layer_norm_eps": 1e-6,
        "tokens": (_CLS, _REGISTERS),
        "num_register_tokens": 4,
        "antialias": True,
    },
    "dinov3_vit": {"layer_norm_eps": 1e-5, "tokens": (_CLS, _REGISTERS), "placed": 0, "rope_theta": 100.0},
}

# (layers, heads) by width, for models whose files state the width only.
_OF_WIDTH = {192: (12, 3), 384: (12, 6), 512: (12, 8), 768: (12, 12), 1024: (24, 16), 1280: (32, 16)}
_OF_WIDTH |= {1408: (40, 16), 1536: (40, 24), 1664: (48, 16), 4096: (40, 32)}


@dataclass(frozen=True)
class Config:
    """The published config.json, as far as the forward depends on it, in the spelling of `canonical`.

    Attributes:
        image_size: height and width in pixels of the images for which the learned positions were trained.
        tokens: names of the tokens before the patches, in order; "register_tokens" may be several.
        placed: how many of these, counted from the first, have learned positions.
        antialias: whether learned positions are resampled to other grids with antialiasing; see `ops.grid.resampled`.
        rope_theta: base of the rotary positions; 0 if positions are learned.
        pool: "cls", or "mean" over the patches.
    """

    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Annotated[Size, Divides("hidden_size")]
    image_size: tuple[Side, Side] = (224, 224)
    patch_size: tuple[Side, Side] = (16, 16)
    tokens: tuple[str, ...] = (_CLS,)
    placed: Index = 1
    num_register_tokens: Index = 0
    antialias: bool = False
    rope_theta: Annotated[float, Between(0.0, 1e12)] = 0.0
    hidden_act: Activation = "gelu"
    layer_norm_eps: Rate = 1e-12
    hidden_dropout_prob: Rate = 0.0
    attention_probs_dropout_prob: Rate = 0.0
    pool: str = "cls"

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def image_size_positions(self) -> int:
        """Rows of the table of learned positions, for an image of `image_size`."""
        return self.placed + math.prod(self.grid(self.image_size))

    @property
    def prefix(self) -> int:
        """Number of tokens before the patches, which mean pooling leaves out."""
        return sum(self.num_register_tokens if name == _REGISTERS else 1 for name in self.tokens)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of whole patches in an image of (height, width) pixels."""
        return size[0] // self.patch_size[0], size[1] // self.patch_size[1]


# A side in pixels, or both: height and width.
Sides = Side | tuple[Side, Side]


@dataclass(frozen=True)
class Pretrained:
    """timm's pretrained_cfg, as far as the network depends on it."""

    input_size: tuple[Count, Side, Side] | None = None


@dataclass(frozen=True)
class Published:
    """Further keys of config.json that are read, of transformers and of timm."""

    model_type: str = ""
    image_size: Sides = 224
    patch_size: Sides = 16
    attention_dropout: Rate = 0.0
    use_swiglu_ffn: bool = False
    num_channels: Colours = 3
    architecture: str = ""
    num_features: Size | None = None
    global_pool: str | None = None
    model_args: Mapping[str, bool | Sides] | None = None
    pretrained_cfg: Pretrained | None = None


def canonical(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config.json of transformers or timm with the keys of `Config`."""
    config = (
        {**_KINDS[published["model_type"]], **published} if "model_type" in published else _timm(published)
    )
    if "num_hidden_layers" not in config:
        config |= _shape(config["hidden_size"])
    sizes = {
        name: _pair(config[name]) for name in ("image_size", "patch_size") if config.get(name) is not None
    }
    if config.get("use_swiglu_ffn"):
        config["hidden_act"] = "silu"
    if "attention_dropout" in config:
        config["attention_probs_dropout_prob"] = config["attention_dropout"]
    return {**config, **sizes}


def _shape(width: int) -> dict[str, int]:
    """Layers and heads of a published model of this width."""
    if width not in _OF_WIDTH:
        raise UnsupportedModel(f"hidden_size {width} without num_hidden_layers and num_attention_heads")
    layers, heads = _OF_WIDTH[width]
    return {"num_hidden_layers": layers, "num_attention_heads": heads}


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for variants that compute something else."""
    pool = published.get("global_pool") or "token"
    if "model_type" in published:
        return
    name = published["architecture"]
    if pool != "token" and not (pool == "avg" and _pools(name)):
        raise UnsupportedModel(f"global_pool {pool!r}: {name} is covered with 'token' only")
    if set(published.get("model_args") or ()) - {"img_size", "dynamic_img_size"}:
        raise UnsupportedModel(
            f"model_args {published['model_args']}: for {name} only img_size may be changed"
        )


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.pixels (n, 3, h, w) float32, normalised, and batch.size, the ints (h, w) -> (n, t, hidden) float32.

    The t tokens are config.prefix tokens and one for each patch, row by row. States are those before the last norm.
    """
    x = ops.state(_embeddings(ops, p["embeddings"], config, batch))
    turn = _rotation(ops, config, batch.size) if config.rope_theta else None
    for i in range(config.num_hidden_layers):
        x = ops.state(_layer(ops, p[f"encoder.layer.{i}"], config, x, turn))
    return ops.layer_norm(x, p["layernorm"], config.layer_norm_eps)


def _embeddings(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """The tokens before the patches, and the patches, with learned positions unless positions are rotary."""
    x = rows(ops, ops.conv(batch.pixels, p["patch_embeddings.projection"], config.patch_size, (0, 0)))
    before = [p[name] for name in config.tokens]
    if not config.rope_theta:
        table, first = p["position_embeddings"], config.placed
        before = [token + table[:, i : i + 1] if i < first else token for i, token in enumerate(before)]
        old, new = config.grid(config.image_size), config.grid(batch.size)
        x = x + grid.resampled(ops, table[:, first:], old, new, config.antialias)
    x = ops.concat([*(ops.expand(token, x) for token in before), x], 1)
    return ops.dropout(x, config.hidden_dropout_prob)


def _rotation(ops: Ops, config: Config, size: tuple[int, int]) -> tuple[Value, Value]:
    """Cosines and sines for every token, as `Ops.rotary` takes them; tokens before the patches are not rotated."""
    width = config.hidden_size // config.num_attention_heads
    cos, sin = grid.rotation(config.grid(size), config.prefix, config.rope_theta, width)
    return ops.constant(cos), ops.constant(sin)


def _layer(ops: Ops, p: Params, config: Config, x: Value, turn: tuple[Value, Value] | None) -> Value:
    """One pre-norm block: x + attention(norm(x)), then x + feed-forward(norm(x))."""
    rate, eps = config.hidden_dropout_prob, config.layer_norm_eps
    y = _attention(ops, p["attention.attention"], config, ops.layer_norm(x, p["layernorm_before"], eps), turn)
    y = ops.dropout(ops.linear(y, p["attention.output.dense"]), rate)
    x = x + _scaled(p, "layer_scale1", y)
    y = _feed_forward(ops, p, config, ops.layer_norm(x, p["layernorm_after"], eps))
    return x + _scaled(p, "layer_scale2", ops.dropout(y, rate))


def _scaled(p: Params, name: str, y: Value) -> Value:
    """LayerScale: y with each channel multiplied by a learned factor, if the model has them."""
    return y * p[f"{name}.lambda1"] if name in p else y


def _feed_forward(ops: Ops, p: Params, config: Config, x: Value) -> Value:
    """Two linear maps with an activation between them; if there is a gate, the activation is applied to it only."""
    act, y = ACTIVATIONS[config.hidden_act], ops.linear(x, p["intermediate.dense"])
    y = act(ops, ops.linear(x, p["gate.dense"])) * y if "gate" in p else act(ops, y)
    return ops.linear(y, p["output.dense"])


def _attention(ops: Ops, p: Params, config: Config, x: Value, turn: tuple[Value, Value] | None) -> Value:
    """Multi-head self-attention before its output projection: (n, t, hidden) -> (n, t, hidden)."""
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(x, p[name]), (0, 0, h, d)), (0, 2, 1, 3))
        for name in ("query", "key", "value")
    )
    if turn is not None:
        q, k = ops.rotary(q, *turn), ops.rotary(k, *turn)
    y = ops.attention(q, k, v, None, d**-0.5, config.attention_probs_dropout_prob)
    return ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d))


def pooling(config: Config) -> str:
    """How tokens are pooled if the folder does not specify it."""
    return config.pool


# Parts of the names of timm's architectures with a gate.
_GATED = ("vit_giant_patch14_dinov2", "vit_giant_patch14_reg4_dinov2", "plus_patch16_dinov3", "vit_7b_")


def _timm(published: Mapping[str, Any]) -> dict[str, Any]:
    """timm's config.json with the keys of `Config`, most of which follow from the architecture's name."""
    name, args = published["architecture"], published.get("model_args") or {}
    config = {
        "hidden_size": published["num_features"],
        **_shape(published["num_features"]),
        "patch_size": int(name.partition("_patch")[2].partition("_")[0]),
        "image_size": args.get("img_size") or list(published["pretrained_cfg"]["input_size"])[1:],
        "layer_norm_eps": 1e-6,
        "antialias": True,
        "hidden_act": "silu" if any(part in name for part in _GATED) else "gelu",
    }
    if "huge_plus" in name:
        config |= {"num_attention_heads": 20}
    if "dinov3" in name:
        config |= _KINDS["dinov3_vit"] | {"num_register_tokens": 4}
    elif "_reg4_" in name:
        config |= {"tokens": (_CLS, _REGISTERS), "placed": 0, "num_register_tokens": 4}
    elif "_distilled_" in name:
        config |= _KINDS["deit"]
    elif "_gap_" in name:
        config |= {"tokens": (), "placed": 0}
    elif name.startswith("deit3_"):
        config |= {"placed": 0}
    return config | {"pool": "mean" if _pools(name) and published.get("global_pool") == "avg" else "cls"}


def _pools(architecture: str) -> bool:
    """Whether timm takes an architecture's mean over patches after the last norm, as here, and not before it."""
    return "_gap_" in architecture or "_dinov3" in architecture


def adapt_weights(
    tensors: Mapping[str, weights.Tensor], config: Config
) -> tuple[dict[str, weights.Tensor], Config]:
    """The weights with separate matrices for the gate and what it multiplies, which timm stores as one, named fc1."""
    halves: list[weights.Row] = []
    for name, tensor in tensors.items():
        block, matched, end = name.partition(".intermediate.dense.")
        out = tensors.get(f"{block}.output.dense.weight")
        if matched and out is not None and tensor.shape[0] == 2 * out.shape[1]:
            halves.append((re.escape(name), (f"{block}.gate.dense.{end}", name)))
    return dict(weights.rename(weights.Weights(dict(tensors), (), {}), halves)), config


SHAPES = {
    "embeddings.position_embeddings": ("", "image_size_positions", "hidden_size"),
    "embeddings.patch_embeddings.projection.weight": ("hidden_size", "", "", ""),
    "embeddings.register_tokens": ("", "num_register_tokens", "hidden_size"),
}

PREFIXES = (
    *("vit.", "deit.", "ijepa.", "dinov2.", "dinov2_with_registers."),
    *("model.", "backbone.", "module."),
)

_BLOCK = r"(?:encoder\.layer|layers?|blocks(?:\.\d+)?)\.(\d+)\."
_END = r"\.(weight|bias)"
_PATCHES = r"embeddings.patch_embeddings.projection.\1"
_SELF = r"encoder.layer.\1.attention.attention."

# Published names -> the names that `forward` uses, which are transformers' `ViTModel`'s. The first row whose pattern
# matches a whole name applies; a name without a match stays. Worked examples, for a width of 4:
#
#     blocks.0.norm1.bias           (4,)     encoder.layer.0.layernorm_before.bias
#     blocks.0.attn.qkv.weight      (12, 4)  encoder.layer.0.attention.attention.query.weight  (4, 4), its rows 0 to 3
#                                            and ...key.weight (rows 4 to 7) and ...value.weight (rows 8 to 11)
#     layer.0.attention.q_proj.weight        encoder.layer.0.attention.attention.query.weight
#     blocks.0.mlp.w12.weight       (16, 4)  encoder.layer.0.gate.dense.weight  (8, 4)
#                                            and encoder.layer.0.intermediate.dense.weight  (8, 4)
#     blocks.0.ls1.gamma            (4,)     encoder.layer.0.layer_scale1.lambda1
#     pos_embed                     (1, 5, 4)  embeddings.position_embeddings
#     head.weight                            dropped: None
LAYOUTS: list[weights.Row] = [
    # The blocks, by the names of timm and DINO, of DINOv2 and 3, and of transformers' modules.
    (rf"{_BLOCK}(?:norm1|layernorm_before){_END}", r"encoder.layer.\1.layernorm_before.\2"),
    (rf"{_BLOCK}(?:norm2|layernorm_after){_END}", r"encoder.layer.\1.layernorm_after.\2"),
    (
        rf"{_BLOCK}attn\.qkv{_END}",
        (rf"{_SELF}query.\2", rf"{_SELF}key.\2", rf"{_SELF}value.\2"),
    ),
    (rf"{_BLOCK}(?:attn\.q_|attention\.q_proj\.)(weight|bias)", rf"{_SELF}query.\2"),
    (rf"{_BLOCK}(?:attn\.k_|attention\.k_proj\.)(weight|bias)", rf"{_SELF}key.\2"),
    (rf"{_BLOCK}(?:attn\.v_|attention\.v_proj\.)(weight|bias)", rf"{_SELF}value.\2"),
    (rf"{_BLOCK}(?:attn\.proj|attention\.o_proj){_END}", r"encoder.layer.\1.attention.output.dense.\2"),
    (
        rf"{_BLOCK}mlp\.(?:w12|weights_in){_END}",
        (r"encoder.layer.\1.gate.dense.\2", r"encoder.layer.\1.intermediate.dense.\2"),
    ),
    (rf"{_BLOCK}mlp\.(?:fc1_g|gate_proj){_END}", r"encoder.layer.\1.gate.dense.\2"),
    (rf"{_BLOCK}mlp\.(?:fc1|fc1_x|up_proj){_END}", r"encoder.layer.\1.intermediate.dense.\2"),
    (rf"{_BLOCK}mlp\.(?:fc2|w3|weights_out|down_proj){_END}", r"encoder.layer.\1.output.dense.\2"),
    (
        rf"{_BLOCK}(?:ls|layer_scale|gamma_)([12])(?:\.gamma|\.lambda1)?",
        r"encoder.layer.\1.layer_scale\2.lambda1",
    ),
    # Everything around the blocks.
    (r"cls_token", r"embeddings.cls_token"),
    (r"dist_token", r"embeddings.distillation_token"),
    (r"reg_token|register_tokens", r"embeddings.register_tokens"),
    (r"pos_embed", r"embeddings.position_embeddings"),
    (r"(?:patch_embed\.proj|embeddings\.patch_embeddings)\.(weight|bias)", _PATCHES),
    (r"norm\.(weight|bias)", r"layernorm.\1"),
    # Heads, decoders and mask tokens that embeddings do not need.
    (r"(pooler|classifier|cls_classifier|distillation_classifier|head|head_dist)\..*", None),
    (r"decoder.*|(embeddings\.)?mask_token", None),
]

KNOWN: dict[str, dict[str, Any]] = {}
