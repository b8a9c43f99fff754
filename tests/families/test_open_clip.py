"""OpenCLIP's own files: the vectors of transformers' form of the same model; what is not covered is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import checkpoints
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import clip
from omnivec.models import registry
from omnivec.models.model import read_config
from omnivec.weights.open_clip import LEGACY_EOS, from_open_clip
from towers import (
    LENGTH,
    SIZE,
    VOCABULARY,
    check,
    executable,
    expected,
    make,
    pixels,
    read,
    texts,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers' model whose tensors OpenCLIP's files hold."""
    return make(tmp_path_factory.mktemp("plain"), "clip")


def open_clip_names(model: Any, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors of a CLIPModel under OpenCLIP's names, as its converter writes them; `prefix` of the texts'."""
    own = model.state_dict()
    found = {"logit_scale": own["logit_scale"]}
    for ours, theirs, layers in (("vision_model", "visual.", 3), ("text_model", prefix, 3)):
        for i in range(layers):
            a, b = f"{ours}.encoder.layers.{i}.", f"{theirs}transformer.resblocks.{i}."
            for end in ("weight", "bias"):
                fused = [own[f"{a}self_attn.{name}.{end}"] for name in ("q_proj", "k_proj", "v_proj")]
                found[f"{b}attn.in_proj_{end}"] = torch.cat(fused)
                found[f"{b}attn.out_proj.{end}"] = own[f"{a}self_attn.out_proj.{end}"]
                found[f"{b}ln_1.{end}"] = own[f"{a}layer_norm1.{end}"]
                found[f"{b}ln_2.{end}"] = own[f"{a}layer_norm2.{end}"]
                found[f"{b}mlp.c_fc.{end}"] = own[f"{a}mlp.fc1.{end}"]
                found[f"{b}mlp.c_proj.{end}"] = own[f"{a}mlp.fc2.{end}"]
    for end in ("weight", "bias"):
        found[f"visual.ln_pre.{end}"] = own[f"vision_model.pre_layrnorm.{end}"]
        found[f"visual.ln_post.{end}"] = own[f"vision_model.post_layernorm.{end}"]
        found[f"{prefix}ln_final.{end}"] = own[f"text_model.final_layer_norm.{end}"]
    found["visual.class_embedding"] = own["vision_model.embeddings.class_embedding"]
    found["visual.conv1.weight"] = own["vision_model.embeddings.patch_embedding.weight"]
    found["visual.positional_embedding"] = own["vision_model.embeddings.position_embedding.weight"]
    found["visual.proj"] = own["visual_projection.weight"].T
    found[f"{prefix}token_embedding.weight"] = own["text_model.embeddings.token_embedding.weight"]
    found[f"{prefix}positional_embedding"] = own["text_model.embeddings.position_embedding.weight"]
    found[f"{prefix}text_projection"] = own["text_projection.weight"].T
    assert sum(value.numel() for value in found.values()) == sum(value.numel() for value in own.values())
    return {name: value.contiguous() for name, value in found.items()}


OPEN_CLIP = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIZE, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": 64, "heads": 4, "layers": 3},
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}


def publish(folder: Path, changes: dict[str, Any] | None = None) -> None:
    """OpenCLIP's config, and a tokenizer."""
    folder.mkdir(exist_ok=True)
    said = {"model_cfg": OPEN_CLIP | (changes or {}), "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    checkpoints.byte_level(folder)


@pytest.mark.parametrize("prefix", ["", "text."])
@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clips_own_files_make_the_same_vectors(
    plain: Any, tmp_path: Path, prefix: str, file: str
) -> None:
    model = plain
    publish(tmp_path, {"custom_text": bool(prefix)})
    tensors = open_clip_names(model, prefix)
    if file.endswith("bin"):
        torch.save(
            {"state_dict": {f"module.{name}": value for name, value in tensors.items()}}, tmp_path / file
        )
    else:
        save_file(tensors, tmp_path / file)
    assert registry.family_of_config(registry.config_of_files(tmp_path), tmp_path).name == "clip"
    for tower, batch in (("text", texts("clip", [12, 5])), ("image", pixels(model))):
        got = executable(tmp_path, "openvino", tower).run(batch)
        check("clip", got, expected("clip", model, tower, batch), batch, f"{file}, {tower}")
    found = clip.load_original(tmp_path, {"model_type": "open_clip"})
    assert found is not None and found[0]["preprocess_cfg"] == PREPROCESS
    assert clip.logits(*read(tmp_path)) == (pytest.approx(np.exp(2.5)), None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_cfg": {"layers": [3, 4, 6, 3], "width": 64, "image_size": 224}}, "is a ResNet"),
        ({"vision_cfg": {"timm_model_name": "vit_base_patch16_siglip_224"}}, "from another library"),
        ({"text_cfg": {"hf_model_name": "xlm-roberta-base"}}, "'xlm-roberta-base'"),
        ({"text_cfg": {"no_causal_mask": True}}, "no_causal_mask True"),
        ({"text_cfg": {"pool_type": "last"}}, "pool_type 'last'"),
        ({"vision_cfg": {"attentional_pool": True}}, "attentional_pool True"),
        ({"multimodal_cfg": {"width": 512}}, "CoCa"),
    ],
)
def test_other_towers_of_open_clip_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    publish(tmp_path, changes)
    with pytest.raises(UnsupportedModel, match=said) as caught:
        clip.load_original(tmp_path, {"model_type": "open_clip"})
    assert "\n" not in str(caught.value)


def test_open_clip_without_a_tokenizer_says_which_is_needed(tmp_path: Path) -> None:
    publish(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(
        ModelError, match=r"copy tokenizer\.json and tokenizer_config\.json of openai/clip-vit"
    ):
        clip.load_original(tmp_path, {"model_type": "open_clip"})


def test_open_clip_reads_clips_vocabulary_files(tmp_path: Path) -> None:
    """vocab.json and merges.txt as CLIP was first published with, and a tokenizer_config.json that names it."""
    publish(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    pieces = [
        "a",
        "c",
        "t",
        "a</w>",
        "c</w>",
        "t</w>",
        "at</w>",
        "cat</w>",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na t</w>\nc at</w>\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    save_file({"logit_scale": torch.tensor(1.0)}, tmp_path / "open_clip_model.safetensors")
    found = clip.load_original(tmp_path, {"model_type": "open_clip"})
    assert found is not None
    assert found[2].ids(["A  Cat"])[0].tolist() == [8, 3, 7, 9]


def test_neutral_words_of_open_clips_config_are_accepted() -> None:
    text = {"pool_type": "argmax", "no_causal_mask": False, "embed_cls": False, "norm_kwargs": {"eps": 1e-6}}
    vision = {"patch_dropout": 0.5, "pool_type": "tok", "ls_init_value": None, "layers": 12}
    said = from_open_clip(OPEN_CLIP | {"text_cfg": text, "vision_cfg": vision}, Path("file"))
    config = read_config(clip, said, Path())
    assert (config.text.layer_norm_eps, config.text.hidden_size, config.vision.num_attention_heads) == (
        1e-6,
        512,
        12,
    )
    assert config.eos_token_id == LEGACY_EOS
