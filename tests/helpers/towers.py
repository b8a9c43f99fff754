"""Small models of two towers in their published formats, and how each tower is held against transformers'."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

import checkpoints
from omnivec import weights
from omnivec.families import clip
from omnivec.inputs.text.text import INPUTS
from omnivec.models import registry
from omnivec.models.model import known_keys, read_config
from omnivec.ops import openvino
from omnivec.ops import torch as torch_ops
from omnivec.ops.base import EngineSettings, Input
from omnivec.testing import check_close

ENGINES = {"openvino": openvino.compile_program, "torch": torch_ops.compile_program}
VOCABULARY, LENGTH, SIZE = 90, 24, 24

TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "num_hidden_layers": 3}
TEXT |= {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
VISION = {"image_size": SIZE, "patch_size": 8, "num_hidden_layers": 3}
VISION |= {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}

# Kind -> transformers' config and model, what each tower has beside the sizes above, and the rest.
KINDS: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "clip": (CLIPConfig, CLIPModel, {"eos_token_id": 2}, {}, {"projection_dim": 64}),
    "clip, named end": (
        CLIPConfig,
        CLIPModel,
        {"eos_token_id": 7, "hidden_size": 48, "num_attention_heads": 3, "hidden_act": "gelu"},
        {"hidden_act": "gelu", "image_size": 27, "layer_norm_eps": 1e-6},
        {"projection_dim": 40},
    ),
    "siglip": (SiglipConfig, SiglipModel, {"pad_token_id": 1}, {}, {}),
    "siglip 2": (
        SiglipConfig,
        SiglipModel,
        {"pad_token_id": 0, "num_hidden_layers": 2},
        {"image_size": 29, "num_attention_heads": 2},
        {},
    ),
}
END = {"clip": VOCABULARY - 1, "clip, named end": 7, "siglip": 1, "siglip 2": 3}
Made = tuple[Path, str, Any]


def make(folder: Path, kind: str, seed: int = 0) -> Any:
    """A checkpoint in `folder`, and transformers' model of it."""
    config_class, model_class, text, vision, rest = KINDS[kind]
    config = config_class(text_config=TEXT | text, vision_config=VISION | vision, **rest)
    model = model_class._from_config(config, attn_implementation="eager").eval()
    for i, tower in enumerate(model.children()):
        checkpoints.discriminate(tower, seed + i)
    with torch.no_grad():
        model.vision_model.embeddings.patch_embedding.weight /= 7.0  # the root of 3 * 8 * 8, halved
        model.logit_scale.fill_(2.5)
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-1.25)
            model.vision_model.head.probe *= 4.0
    model.save_pretrained(folder)
    return model


@functools.cache
def read(folder: Path) -> tuple[Any, Any]:
    """Config and tensors of a folder, as a model reads them."""
    file = folder / "config.json"
    published = json.loads(file.read_text()) if file.exists() else registry.config_of_files(folder)
    published = known_keys(clip, published, folder)
    found = clip.load_original(folder, published)
    published, stored = (found[0], found[1]) if found else (published, weights.read(folder))
    stored = weights.strip_prefixes(stored, clip.PREFIXES)
    return read_config(clip, published, folder), dict(weights.rename(stored, clip.LAYOUTS))


@functools.cache
def executable(folder: Path, engine: str, tower: str, forward: Any = None, precision: str = "float32") -> Any:
    """A tower's hidden states and vector on an engine; compiled once."""
    config, tensors = read(folder)
    pixels = (Input("pixels", np.float32, (None, 3, config.image_size, config.image_size)),)
    inputs = INPUTS if tower == "text" else pixels

    def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
        batch = SimpleNamespace(**{one.name: get(one.name) for one in inputs})
        run = forward or getattr(clip, f"forward_{tower}")
        vector = run(ops, p, config, batch)
        return {str(i): state for i, state in enumerate(ops.states)} | {"vector": vector}

    return ENGINES[engine](program, inputs, tensors, EngineSettings(precision=precision))  # type: ignore[arg-type]


def texts(kind: str, lengths: list[int], padding: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Random ids that end as the kind's texts end, padded."""
    width = min(max(lengths) + padding, LENGTH)
    rng = np.random.default_rng(seed)
    ids = rng.integers(8, VOCABULARY - 1, (len(lengths), width))
    mask = np.arange(width) < np.array(lengths)[:, None]
    ids[np.arange(len(ids)), np.array(lengths) - 1] = END[kind]
    pad = KINDS[kind][2].get("pad_token_id", 0)
    return {"ids": np.where(mask, ids, pad).astype(np.int32), "mask": mask.astype(np.int32)}


def pixels(model: Any, count: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    size = model.config.vision_config.image_size
    values = np.random.default_rng(seed).standard_normal((count, 3, size, size))
    return {"pixels": values.astype(np.float32)}


def vector_of(found: Any) -> np.ndarray:
    return (found if torch.is_tensor(found) else found.pooler_output).numpy()


def expected(kind: str, model: Any, tower: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """transformers' hidden states and vector; SigLIP's texts padded to their length, as it was trained."""
    with torch.no_grad():
        if tower == "image":
            given = {"pixel_values": torch.from_numpy(batch["pixels"])}
            states = model.vision_model(**given, output_hidden_states=True).hidden_states
            vector = vector_of(model.get_image_features(**given))
        else:
            ids, mask = (torch.from_numpy(batch[name]).long() for name in ("ids", "mask"))
            given = {"input_ids": ids, "attention_mask": mask}
            if kind.startswith("siglip"):
                pad = (0, LENGTH - ids.shape[1])
                full = torch.nn.functional.pad(ids, pad, value=model.config.text_config.pad_token_id)
                given = {"input_ids": full}
            states = model.text_model(**given, output_hidden_states=True).hidden_states
            vector = vector_of(model.get_text_features(**given))
    return {str(i): state.numpy() for i, state in enumerate(states)} | {"vector": vector}


def check(kind: str, got: dict[str, np.ndarray], right: dict[str, np.ndarray], batch: Any, what: str) -> None:
    assert set(got) == set(right)
    assert got["vector"].shape == (len(right["vector"]), 1, right["vector"].shape[1])
    check_close(got["vector"][:, 0], right["vector"], f"{what}: vector")
    # What CLIP makes of padding, nothing reads.
    inside = batch["mask"] == 1 if "mask" in batch and kind.startswith("clip") else np.s_[:]
    for name in right.keys() - {"vector"}:
        check_close(got[name][inside], right[name][inside], f"{what}: hidden state {name}")
