"""One tower of CLIP or SigLIP as a model of its own: the vectors of transformers' classes, projected or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

import checkpoints
import omnivec
import photographs
from omnivec.errors import ModelError
from omnivec.inputs.image.published import read_processing
from omnivec.testing import check_close, check_family

SIZE, LENGTH = 32, 20
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXTS = ["the quick brown fox", "a dog", "", "the engine compiles it once and once again"]
PICTURES = {"image_size": SIZE, "patch_size": 8}
WORDS = {"max_position_embeddings": LENGTH, "pad_token_id": 0}
# transformers' class -> its config and what it says, and where its vector is.
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "CLIPTextModel": ("CLIPTextConfig", {**WORDS, "eos_token_id": 3, "projection_dim": 24}, "pooler_output"),
    "CLIPTextModelWithProjection": (
        "CLIPTextConfig",
        {**WORDS, "eos_token_id": 2, "projection_dim": 24},
        "text_embeds",
    ),
    "SiglipTextModel": ("SiglipTextConfig", {**WORDS, "projection_size": 24}, "pooler_output"),
    "CLIPVisionModel": ("CLIPVisionConfig", {**PICTURES, "projection_dim": 24}, "pooler_output"),
    "CLIPVisionModelWithProjection": (
        "CLIPVisionConfig",
        {**PICTURES, "projection_dim": 24},
        "image_embeds",
    ),
    "SiglipVisionModel": ("SiglipVisionConfig", PICTURES, "pooler_output"),
}
PREPARED = {
    "do_resize": True,
    "size": {"height": SIZE, "width": SIZE},
    "do_center_crop": False,
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.25],
}


def made(folder: Path, kind: str) -> Any:
    """A random checkpoint as transformers saves it, with the files beside it."""
    config_class, said, _ = KINDS[kind]
    size = checkpoints.wordpiece(folder) if "Text" in kind else 0
    words = {"vocab_size": size} if size else {}
    config = getattr(transformers, config_class)(**SMALL, **said, **words)
    model = getattr(transformers, kind)._from_config(config, attn_implementation="eager")
    checkpoints.discriminate(model, 3)
    if "Siglip" in kind and "Vision" in kind:
        with torch.no_grad():
            next(p for name, p in model.named_parameters() if name.endswith("head.probe")).mul_(4.0)
    model.save_pretrained(folder)
    if not size:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPARED))
    return model.eval()


def expected(model: Any, kind: str, loaded: omnivec.Embedder) -> np.ndarray:
    with torch.no_grad():
        if "Text" not in kind:
            preparer: Any = loaded.model.preparer
            factor, addend = preparer.processing.affine()
            shown = [preparer.prepare([preparer.decode(one)])[0][0].arrays["pixels"] for one in pictures()]
            pixels = np.stack([(one * factor + addend).transpose(2, 0, 1) for one in shown]).astype(
                np.float32
            )
            return model(pixel_values=torch.from_numpy(pixels))[KINDS[kind][2]].numpy()
        rows = []
        for ids in loaded.model.texts.tokenizer.ids(TEXTS):
            if "Siglip" in kind:
                ids = np.pad(ids, (0, LENGTH - len(ids)))
            rows.append(model(input_ids=torch.from_numpy(ids[None].astype(np.int64)))[KINDS[kind][2]][0])
        return torch.stack(rows).numpy()


def pictures() -> list[Any]:
    return [photographs.rgb(name) for name in ("coffee", "astronaut")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_alone_makes_the_vectors_of_its_class(kind: str, tmp_path: Path) -> None:
    model = made(tmp_path, kind)
    items: list[Any] = TEXTS if "Text" in kind else pictures()
    loaded = omnivec.load(tmp_path)
    want = expected(model, kind, loaded)
    assert loaded.modalities == (("text",) if "Text" in kind else ("image",))
    assert loaded.dim == want.shape[1]
    check_close(loaded.encode(items), want, kind)
    assert not np.allclose(np.linalg.norm(want, axis=1), 1.0), (
        "vectors are as they are published, of any length"
    )


@pytest.mark.parametrize("kind", ["CLIPTextModelWithProjection", "CLIPVisionModel", "SiglipVisionModel"])
def test_a_tower_alone_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    made(tmp_path / "model", kind)
    check_family(tmp_path / "model", TEXTS if "Text" in kind else pictures())


@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPVisionModel", "SiglipVisionModel"])
def test_older_files_name_the_tower_before_each_weight(kind: str, tmp_path: Path) -> None:
    model = made(tmp_path, kind)
    file = tmp_path / "model.safetensors"
    prefix = "text_model." if "Text" in kind else "vision_model."
    save_file({prefix + name: value for name, value in load_file(file).items()}, file)
    loaded = omnivec.load(tmp_path)
    check_close(loaded.encode(TEXTS if "Text" in kind else pictures()), expected(model, kind, loaded), kind)


def test_weights_of_the_other_tower_are_missed_by_name(tmp_path: Path) -> None:
    made(tmp_path, "CLIPVisionModel")
    config = json.loads((tmp_path / "config.json").read_text())
    checkpoints.wordpiece(tmp_path)
    said = {**config, "model_type": "clip_text_model", "vocab_size": 221, **WORDS}
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="text_model"):
        omnivec.load(tmp_path)


# model_type -> image_processor_type, as transformers' AutoImageProcessor pairs them.
USUAL = {
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "vit": "ViTImageProcessor",
    "vit_mae": "ViTImageProcessor",
    "ijepa": "ViTImageProcessor",
    "deit": "DeiTImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov3_vit": "DINOv3ViTImageProcessorFast",
    "efficientnet": "EfficientNetImageProcessor",
    "resnet": "ConvNextImageProcessor",
}


@pytest.mark.parametrize("model_type", USUAL)
def test_a_processor_without_a_type_is_that_of_its_model(model_type: str, tmp_path: Path) -> None:
    auto = pytest.importorskip("transformers.models.auto.image_processing_auto")
    published = auto.IMAGE_PROCESSOR_MAPPING_NAMES[model_type]
    assert USUAL[model_type].removesuffix("Fast") in published.values()
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    guessed = read_processing(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({**said, "image_processor_type": USUAL[model_type]})
    )
    assert guessed == read_processing(tmp_path)


def test_config_json_may_name_the_processor_and_an_unknown_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{}")
    (tmp_path / "config.json").write_text(
        '{"model_type": "new", "image_processor_type": "CLIPImageProcessor"}'
    )
    assert read_processing(tmp_path).target == (224, 224)
    (tmp_path / "config.json").write_text('{"model_type": "new"}')
    with pytest.raises(ModelError, match="of no stated type"):
        read_processing(tmp_path)
