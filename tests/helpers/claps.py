"""Small CLAP models in their published format, and how each tower is held against transformers'."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

import checkpoints
from encoders import ENGINES
from omnivec.families import clap
from omnivec.inputs.audio.features.fixed_length import PICTURES
from omnivec.inputs.text.text import INPUTS
from omnivec.models import registry
from omnivec.models.model import check_shapes
from omnivec.ops.base import EngineSettings, Input
from omnivec.testing import check_close
from pictures import Read, read

VOCABULARY, LENGTH = 90, 24
TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH + 2, "num_hidden_layers": 3}
TEXT |= {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
AUDIO = {"patch_embeds_hidden_size": 16, "depths": [2, 1, 3, 2], "num_attention_heads": [2, 4, 4, 8]}
AUDIO |= {"hidden_size": 128, "mlp_ratio": 2.0}
# Kind -> what each tower has beside the sizes above, and the rest.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "unfused": ({}, {}, {"projection_dim": 48}),
    "fused": ({}, {"enable_fusion": True, "fusion_type": "aff_2d"}, {"projection_dim": 64}),
    "fused, overlapping": (
        {},
        {"enable_fusion": True, "patch_size": 8, "depths": [1, 2], "hidden_size": 32, "aff_block_r": 2}
        | {"num_attention_heads": [2, 2], "enable_patch_layer_norm": False},
        {"projection_dim": 32},
    ),
    "other sizes": (
        {"layer_norm_eps": 1e-5, "hidden_act": "relu"},
        {"num_mel_bins": 32, "patch_size": 8, "window_size": 4, "depths": [2, 2], "hidden_size": 32}
        | {"num_attention_heads": [2, 8], "patch_stride": [8, 8], "layer_norm_eps": 1e-4, "qkv_bias": False}
        | {"enable_patch_layer_norm": False},
        {"projection_dim": 40, "projection_hidden_act": "gelu"},
    ),
    "overlapping patches": (
        {},
        {"patch_size": 8, "depths": [1, 2], "hidden_size": 32, "num_attention_heads": [2, 2]},
        {"projection_dim": 32},
    ),
}
FRAMES = 1001


def spectrograms(model: Any, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Spectrograms of short sounds in decibels, padded to the four of a long one if the model fuses these."""
    sound = one_each(model, count, seed)
    pad = (PICTURES - 1) * FRAMES if model.config.audio_config.enable_fusion else 0
    padded = np.pad(sound, ((0, 0), (0, pad), (0, 0)))
    return {"sound": padded, "lengths": np.full(count, FRAMES, np.int32)}


def long_spectrograms(model: Any, longer: list[bool], seed: int = 0) -> dict[str, np.ndarray]:
    """A batch for a model with feature fusion: four spectrograms of each long sound, one of each short one."""
    batch = spectrograms(model, len(longer), seed)
    for i in np.flatnonzero(longer).tolist():
        batch["sound"][i] = np.concatenate(one_each(model, PICTURES, 100 * seed + i))
        batch["lengths"][i] = PICTURES * FRAMES
    return batch


def one_each(model: Any, count: int, seed: int = 0) -> np.ndarray:
    """Spectrograms in decibels: bands of their own level, slow and quick changes."""
    bands, rng = model.config.audio_config.num_mel_bins, np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.standard_normal((count, 1, 9, 5)))
    slow = torch.nn.functional.interpolate(coarse, (FRAMES, bands), mode="bicubic")[:, 0].numpy()
    level = np.linspace(-20, -60, bands)
    return (level + 12 * slow + 6 * rng.standard_normal((count, FRAMES, bands))).astype(np.float32)


def make(folder: Path, kind: str, vocabulary: int = VOCABULARY) -> Any:
    """A checkpoint as transformers publishes one, in `folder`, and transformers' model of it."""
    text, audio, rest = KINDS[kind]
    config = ClapConfig(
        text_config=TEXT | {"vocab_size": vocabulary} | text, audio_config=AUDIO | audio, **rest
    )
    model = ClapModel._from_config(config, attn_implementation="eager").eval()
    for i, tower in enumerate(model.children()):
        checkpoints.discriminate(tower, i)
    encoder, generator = model.audio_model.audio_encoder, torch.Generator().manual_seed(1)
    with torch.no_grad():
        encoder.patch_embed.proj.weight /= encoder.patch_embed.proj.weight.shape[-1] ** 0.5
        seen = torch.from_numpy(one_each(model, 6, 9))
        encoder.batch_norm.running_mean.copy_(seen.mean((0, 1)))
        encoder.batch_norm.running_var.copy_(seen.var((0, 1)))
        for name, value in encoder.named_parameters():
            if name.endswith("bias_table"):
                value.copy_(torch.randn(value.shape, generator=generator))
            elif name.endswith("output.dense.weight"):
                value /= 2  # about as training leaves the ends of branches: layers blow rounding up otherwise
        if config.audio_config.enable_fusion:
            learn_fusion(model)
        model.logit_scale_a.fill_(2.5)
        model.logit_scale_t.fill_(1.5)
    model.save_pretrained(folder)
    return model


def learn_fusion(model: Any) -> None:
    """Weights of a feature fusion that weighs both maps at each place, and statistics of what comes in."""
    embed = model.audio_model.audio_encoder.patch_embed
    embed.mel_conv2d.weight /= embed.mel_conv2d.weight.shape[-1] ** 0.5
    norms = [part for part in embed.fusion_model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.abs_().mul_(2)
        norm.momentum = None  # the plain mean of what it sees
        norm.train()
    batch = long_spectrograms(model, [True] * 6, 9)
    features = torch.from_numpy(batch["sound"].reshape(6, PICTURES, FRAMES, -1))
    model.audio_model(input_features=features, is_longer=torch.ones(6, 1, dtype=torch.bool))
    model.eval()


@functools.cache
def made(kind: str, root: Path) -> tuple[Path, Any]:
    """A checkpoint by itself, made once."""
    return root / kind, make(root / kind, kind)


def complete(folder: Path, kind: str) -> Any:
    """A checkpoint with its tokenizer and the settings of its front end, and transformers' model of it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = make(folder, kind, checkpoints.byte_level(folder))
    extractor(model).save_pretrained(folder)
    return model


def extractor(model: Any) -> ClapFeatureExtractor:
    """The front end of transformers, with the settings of the published models."""
    fused = model.config.audio_config.enable_fusion
    return ClapFeatureExtractor(frequency_min=50, truncation="fusion" if fused else "rand_trunc")


@functools.cache
def ours(folder: Path) -> Read:
    published = json.loads((folder / "config.json").read_text())
    assert registry.family_of_config(published, folder).name == "clap"
    found = read(clap, published, folder)
    check_shapes(clap.SHAPES, found.config, found.tensors, folder)
    return found


@functools.cache
def executable(folder: Path, engine: str, tower: str, forward: Any = None, precision: Any = "float32") -> Any:
    """A tower's hidden states and vector on an engine; compiled once."""
    model = ours(folder)
    arrays = (
        Input("sound", np.float32, (None, None, model.config.audio.num_mel_bins)),
        Input("lengths", np.int32, (None,)),
    )
    inputs = INPUTS if tower == "text" else arrays

    def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
        batch = SimpleNamespace(**{one.name: get(one.name) for one in inputs})
        vector = (forward or getattr(clap, f"forward_{tower}"))(ops, p, model.config, batch)
        return {str(i): state for i, state in enumerate(ops.states)} | {"vector": vector}

    return ENGINES[engine](program, inputs, model.tensors, EngineSettings(precision, threads=1))


def texts(lengths: list[int], padding: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Random ids, padded."""
    width = max(lengths) + padding
    ids = np.random.default_rng(seed).integers(4, VOCABULARY, (len(lengths), width))
    mask = np.arange(width) < np.array(lengths)[:, None]
    return {"ids": np.where(mask, ids, 1).astype(np.int32), "mask": mask.astype(np.int32)}


INTERPOLATE = torch.nn.functional.interpolate


def in_float32(x: torch.Tensor, size: tuple[int, int], **how: Any) -> torch.Tensor:
    """torch's interpolation of the axis of frames, whose places it computes in float32 for sounds in float32."""
    unit = torch.eye(x.shape[2])[None, None]
    return INTERPOLATE(unit, (size[0], x.shape[2]), **how)[0, 0].to(x.dtype) @ x


def expected(model: Any, tower: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """transformers' hidden states and projected vector.

    In float64, as its own rounding in float32 takes up most of what is allowed, or more.
    """
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "interpolate", in_float32)
        try:
            return _expected(model.double(), tower, batch)
        finally:
            model.float()


def _expected(model: Any, tower: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if tower == "text":
        ids, mask = (torch.from_numpy(batch[name]).long() for name in ("ids", "mask"))
        out = model.text_model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        states, vector = out.hidden_states, model.text_projection(out.pooler_output)
    else:
        sound = torch.from_numpy(batch["sound"]).double().unflatten(1, (-1, FRAMES))
        is_longer = torch.from_numpy(batch["lengths"] > FRAMES)[:, None]
        out = model.audio_model(input_features=sound, is_longer=is_longer, output_hidden_states=True)
        states = [state.flatten(2).transpose(1, 2) for state in out.hidden_states]
        vector = model.audio_projection(out.pooler_output)
    return {str(i): state.numpy() for i, state in enumerate(states)} | {"vector": vector.numpy()}


def check(got: dict[str, np.ndarray], right: dict[str, np.ndarray], batch: Any, what: str) -> None:
    assert set(got) == set(right)
    assert got["vector"].shape == (len(right["vector"]), 1, right["vector"].shape[1])
    check_close(got["vector"][:, 0], right["vector"], f"{what}: vector")
    inside = batch["mask"] == 1 if "mask" in batch else np.s_[:]
    for name in right.keys() - {"vector"}:
        check_close(got[name][inside], right[name][inside], f"{what}: hidden state {name}")
