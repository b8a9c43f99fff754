"""Vision transformers under other names: timm's and DINO's makers', with heads and decoders, transformers' modules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from encoders import ENGINES
from omnivec.errors import UnsupportedModel
from omnivec.families import vit
from omnivec.models import registry
from omnivec.models.model import known_keys, read_config
from omnivec.testing import check_close
from vits import KINDS, SMALL, discriminate, expected, pictures, read, states

Tensors = dict[str, torch.Tensor]

BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
}
AROUND = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}
QKV = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
)


def as_timm(tensors: Tensors) -> Tensors:
    """A checkpoint of transformers, key for key in timm's names; DINOv3 has other names there."""
    renamed: Tensors = {"head.weight": torch.zeros(7, 64), "head.bias": torch.zeros(7)}
    for name, tensor in tensors.items():
        if name in AROUND:
            renamed[AROUND[name]] = tensor
        elif name.startswith("embeddings.patch_embeddings."):
            renamed[f"patch_embed.proj.{name.rpartition('.')[2]}"] = tensor
        elif "layer." in name:
            layer, _, part = name.partition("layer.")[2].partition(".")
            part, _, end = part.rpartition(".")
            if part in BLOCK:
                renamed[f"blocks.{layer}.{BLOCK[part]}.{end}"] = tensor
            elif part.startswith("layer_scale"):
                scale = f"gamma_{part[-1]}" if "norm.weight" in tensors else f"ls{part[-1]}.gamma"
                renamed[f"blocks.{layer}.{scale}"] = tensor
    for number in range(SMALL["num_hidden_layers"]):
        for end in ("weight", "bias"):
            parts = [_one(tensors, number, names, end) for names in QKV]
            if all(part is not None for part in parts):
                renamed[f"blocks.{number}.attn.qkv.{end}"] = torch.cat(parts)
            else:  # DINOv3's keys have no bias.
                renamed |= {
                    f"blocks.{number}.attn.{letter}_bias": part
                    for letter, part in zip("qkv", parts, strict=True)
                    if part is not None
                }
    return {name: tensor.clone() for name, tensor in renamed.items()}


def _one(tensors: Tensors, number: int, names: tuple[str, ...], end: str) -> torch.Tensor | None:
    found = [t for name in names for k, t in tensors.items() if k.endswith(f"layer.{number}.{name}.{end}")]
    return found[0] if found else None


def publish(folder: Path, tensors: Tensors, config: Mapping[str, Any]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def timm_config(architecture: str, size: int, pool: str = "token") -> dict[str, Any]:
    return {
        "architecture": architecture,
        "num_classes": 7,
        "num_features": 64,
        "global_pool": pool,
        "pretrained_cfg": {"input_size": [3, size, size], "crop_pct": 0.9},
    }


def without_place_of_cls(model: Any) -> None:
    """timm adds the position of CLS to CLS, and keeps those of the patches."""
    with torch.no_grad():
        embeddings = model.embeddings
        embeddings.cls_token += embeddings.position_embeddings[:, :1]
        embeddings.position_embeddings[:, :1] = 0


@pytest.mark.parametrize(
    ("architecture", "kind", "changes", "size"),
    [
        ("vit_tiny_patch16_224", "vit", {"image_size": 64, "patch_size": 16}, (64, 64)),
        ("deit_tiny_distilled_patch16_224", "deit", {"image_size": 64, "patch_size": 16}, (64, 64)),
        ("deit3_small_patch16_224", "dinov2", {"image_size": 64, "patch_size": 16}, (64, 64)),
        ("vit_small_patch14_dinov2", "dinov2", {"image_size": 70, "patch_size": 14}, (70, 70)),
        ("vit_giant_patch14_dinov2", "dinov2, gated", {"image_size": 70, "patch_size": 14}, (70, 70)),
        ("vit_huge_patch14_gap_224", "ijepa", {"image_size": 70, "patch_size": 14}, (70, 70)),
        *[
            (
                "vit_base_patch14_reg4_dinov2",
                "dinov2, registers",
                {"image_size": 70, "patch_size": 14, "num_register_tokens": 4},
                size,
            )
            for size in [(70, 70), (42, 56), (140, 98)]
        ],
        ("vit_small_patch16_dinov3", "dinov3", {"image_size": 64, "patch_size": 16}, (64, 80)),
    ],
)
def test_timm_folders(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    kind: str,
    changes: dict[str, int],
    size: tuple[int, int],
) -> None:
    monkeypatch.setitem(vit._OF_WIDTH, 64, (3, 4))
    eps = 1e-5 if kind == "dinov3" else 1e-6
    model = KINDS[kind].make(tmp_path / "plain", **changes, layer_norm_eps=eps)
    unplaced = architecture.startswith("deit3") or "_reg4_" in architecture
    if unplaced:
        without_place_of_cls(model)
        model.save_pretrained(tmp_path / "plain")
    tensors = as_timm(load_file(tmp_path / "plain" / "model.safetensors"))
    if unplaced:
        tensors["pos_embed"] = tensors["pos_embed"][:, 1:].clone()
    config = timm_config(architecture, changes["image_size"], "avg" if kind == "ijepa" else "token")
    folder = publish(tmp_path / "timm", tensors, config)
    pixels = pictures(size)
    reference = expected(KINDS[kind], model, pixels)
    for engine in ENGINES:
        for i, (a, b) in enumerate(zip(states(folder, engine, pixels), reference, strict=True)):
            check_close(a, b, f"{engine}, hidden state {i}")
    assert vit.pooling(read(folder).config) == ("mean" if kind == "ijepa" else "cls")


def test_every_architecture_of_timm_that_is_claimed_has_a_config() -> None:
    widths = {"tiny": 192, "small": 384, "medium": 512, "base": 768, "large": 1024, "huge": 1280}
    widths |= {"giant": 1408, "gigantic": 1664, "7b": 4096}
    claims: Any = vit.CLAIMS
    for name in claims["where"]["architecture"]:
        width = 1536 if "giant" in name and "dinov2" in name else widths[name.split("_")[1]]
        published = timm_config(name, 224) | {"num_features": width}
        said = vit.canonical(known_keys(vit, published, Path("folder")))
        assert said["patch_size"] in {(8, 8), (14, 14), (16, 16), (32, 32)}
        assert width % said["num_attention_heads"] == 0
        assert said["image_size"] == (224, 224)
    heads = {
        name: vit.canonical(timm_config(name, 224) | {"num_features": 1280})["num_attention_heads"]
        for name in ("vit_huge_patch14_224", "vit_huge_plus_patch16_dinov3")
    }
    larger = timm_config("vit_base_patch16_224", 224) | {"num_features": 768, "model_args": {"img_size": 384}}
    assert vit.canonical(larger)["image_size"] == (384, 384)
    assert heads == {"vit_huge_patch14_224": 16, "vit_huge_plus_patch16_dinov3": 20}


@pytest.mark.parametrize("name", vit.CLAIMS["files"])
def test_files_of_the_makers_imply_a_config(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    published = registry.config_of_files(tmp_path)
    assert registry.family_of_config(published, tmp_path).name == "vit"
    known_keys(vit, published, Path("folder"))
    config = read_config(vit, published, tmp_path)
    assert config.hidden_size == config.num_attention_heads * (80 if "huge" in name else 64)
    assert config.layer_norm_eps == 1e-6
    assert str(config.patch_size[0]) in name or "mae" in name
    assert config.prefix == (5 if "_reg4_" in name else 1)
    assert config.image_size == ((518, 518) if "dinov2" in name else (224, 224))
    assert config.pool == ("mean" if "mae" in name else "cls")


MAKERS = {"cls_token": "cls_token", "reg_token": "register_tokens"}


def as_the_makers(tensors: Tensors, gated: bool) -> Tensors:
    """DINOv2's own names, its blocks in chunks, gate and what it opens in one matrix."""
    renamed = {"mask_token": torch.zeros(1, 64)}
    for name, tensor in as_timm(tensors).items():
        if name.startswith("head"):
            continue
        name = MAKERS.get(name, name).replace("blocks.", "blocks.0.")
        renamed[name.replace("fc1", "w12").replace("fc2", "w3") if gated else name] = tensor
    return renamed


@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov2, gated", "dinov2, registers"])
def test_names_of_the_makers(tmp_path: Path, kind: str) -> None:
    """DINO's files hold timm's names beside any config; so do MAE's, whose decoder nobody asks for."""
    KINDS[kind].make(tmp_path / "plain")
    tensors = as_the_makers(load_file(tmp_path / "plain" / "model.safetensors"), "gated" in kind)
    tensors["decoder_pos_embed"] = torch.zeros(1, 26, 32)
    tensors["decoder_blocks.0.attn.qkv.weight"] = torch.zeros(96, 32)
    published = json.loads((tmp_path / "plain" / "config.json").read_text())
    same(read(publish(tmp_path / "makers", tensors, published)).tensors, read(tmp_path / "plain").tensors)


def same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name].data, tensor.data, err_msg=name)


HEADS = {
    "vit": ("ViTForImageClassification", "vit"),
    "deit": ("DeiTForImageClassificationWithTeacher", "deit"),
    "mae": ("ViTMAEForPreTraining", "vit"),
    "ijepa": ("IJepaForImageClassification", "ijepa"),
    "dinov2": ("Dinov2ForImageClassification", "dinov2"),
    "dinov2, registers, gated": ("Dinov2WithRegistersForImageClassification", "dinov2_with_registers"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_heads_and_decoders_are_left_out(tmp_path: Path, kind: str) -> None:
    model = KINDS[kind].make(tmp_path / "plain")
    name, part = HEADS[kind]
    whole = discriminate(getattr(transformers, name)(model.config), 5, 2.0)
    getattr(whole, part).load_state_dict(model.state_dict(), strict=False)
    whole.save_pretrained(tmp_path / "whole")
    found = read(tmp_path / "whole").tensors
    same(found, read(tmp_path / "plain").tensors)
    assert all(name.startswith(("embeddings.", "encoder.layer.", "layernorm.")) for name in found)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_transformers_modules(tmp_path: Path, kind: str) -> None:
    """What `state_dict` has, which is not what `save_pretrained` writes."""
    model = KINDS[kind].make(tmp_path / "plain")
    published = json.loads((tmp_path / "plain" / "config.json").read_text())
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    same(read(publish(tmp_path / "modules", tensors, published)).tensors, read(tmp_path / "plain").tensors)


def test_half_precision_positions_are_interpolated_exactly(tmp_path: Path) -> None:
    model = KINDS["vit"].make(tmp_path)
    model.bfloat16().save_pretrained(tmp_path)
    pixels = pictures((64, 48))
    reference = expected(KINDS["vit"], model.float(), pixels)
    for engine in ENGINES:
        check_close(states(tmp_path, engine, pixels)[0], reference[0], engine)


def test_refused_variants() -> None:
    for published in (
        {"model_type": "vit", "hidden_act": "mish"},
        timm_config("vit_base_patch16_224", 224, "avg"),
        timm_config("vit_base_patch16_224", 224, "map"),
        timm_config("vit_base_patch16_224", 224) | {"model_args": {"qk_norm": True}},
        {"model_type": "dinov2", "num_channels": 4},
    ):
        with pytest.raises(UnsupportedModel):
            known_keys(vit, published, Path("folder"))
    for published in (
        timm_config("vit_base_patch16_dinov3", 256, "avg"),
        timm_config("vit_base_patch16_224", 224) | {"model_args": {"img_size": 256}},
    ):
        known_keys(vit, published, Path("folder"))
