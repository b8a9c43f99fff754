"""Small vision transformers in their published formats, and how the family is held against transformers' models."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers

from encoders import ENGINES
from omnivec.families import vit
from omnivec.models import registry
from omnivec.ops.base import EngineSettings, Executable, Input, Ops, Params, Value
from pictures import Read
from pictures import read as read_as

EXACT = EngineSettings()
Pixels = np.ndarray
Forward = Callable[..., Any]

SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
SMALL |= {"image_size": 40, "patch_size": 8}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A model as transformers publishes it: the name of its classes, and its settings."""

    name: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    asks: bool = False  # Whether its forward must be asked to interpolate positions.

    def make(self, folder: Path, seed: int = 0, gain: float = 2.0, **changes: Any) -> Any:
        """A checkpoint in `folder`, and transformers' model of it."""
        config = getattr(transformers, f"{self.name}Config")(
            **SMALL | dict(self.settings) | changes, attn_implementation="eager"
        )
        model = discriminate(getattr(transformers, f"{self.name}Model")(config), seed, gain)
        model.save_pretrained(folder)
        return model


KINDS = {
    "vit": Kind("ViT", {"layer_norm_eps": 1e-6}, asks=True),
    "vit without biases": Kind("ViT", {"qkv_bias": False, "hidden_act": "gelu_pytorch_tanh"}, asks=True),
    "deit": Kind("DeiT", asks=True),
    "mae": Kind("ViTMAE", {"mask_ratio": 0.0, "decoder_num_hidden_layers": 2}, asks=True),
    "msn": Kind("ViTMSN", asks=True),
    "ijepa": Kind("IJepa", asks=True),
    "dinov2": Kind("Dinov2", {"mlp_ratio": 2}),
    "dinov2, gated": Kind("Dinov2", {"use_swiglu_ffn": True}),
    "dinov2, registers": Kind("Dinov2WithRegisters", {"num_register_tokens": 3}),
    "dinov2, registers, gated": Kind("Dinov2WithRegisters", {"use_swiglu_ffn": True}),
    "dinov3": Kind("DINOv3ViT", {"num_register_tokens": 4}),
    "dinov3, gated": Kind("DINOv3ViT", {"use_gated_mlp": True, "hidden_act": "silu", "key_bias": True}),
}


def discriminate(model: torch.nn.Module, seed: int, gain: float) -> torch.nn.Module:
    """Weights with a standard deviation of gain / sqrt(fan-in), random norms, scales, tokens and positions."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if ("norm" in name or "lambda" in name) and not name.endswith("bias"):
                p.copy_(1 + 0.3 * noise)
            elif p.ndim == 1:
                p.copy_(0.3 * noise)
            elif "token" in name or "position" in name:
                p.copy_(noise)
            else:
                p.copy_(noise * gain / p[0].numel() ** 0.5)
    return model.eval()


@functools.cache
def made(kind: str, root: Path) -> tuple[Path, Any]:
    folder = root / re.sub(r"\W+", "_", kind)
    return folder, KINDS[kind].make(folder)


def pictures(size: tuple[int, int], count: int = 2, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).standard_normal((count, 3, *size)).astype(np.float32)


def expected(kind: Kind, model: Any, pixels: Pixels) -> list[np.ndarray]:
    """transformers' hidden states, and what follows its last norm."""
    asked: dict[str, Any] = {"interpolate_pos_encoding": True} if kind.asks else {}
    if kind.name == "ViTMAE":
        patches = (pixels.shape[2] // 8) * (pixels.shape[3] // 8)
        asked["noise"] = torch.arange(patches).expand(len(pixels), -1)  # in their order, none left out
    with torch.no_grad():
        out = model(torch.from_numpy(pixels), output_hidden_states=True, **asked)
    return [state.numpy() for state in (*out.hidden_states, out.last_hidden_state)]


def read(folder: Path) -> Read:
    """The family's config and tensors of a folder, which must be this family's."""
    published = json.loads((folder / "config.json").read_text())
    assert registry.family_of_config(published, folder).name == "vit"
    return read_as(vit, published, folder)


def compiled(
    folder: Path,
    engine: str,
    size: tuple[int, int],
    forward: Forward = vit.forward,
    settings: EngineSettings = EXACT,
) -> Executable:
    model = read(folder)

    def program(ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        last = forward(ops, p, model.config, SimpleNamespace(pixels=get("pixels"), size=size))
        return {str(i): state for i, state in enumerate([*ops.states, last])}

    inputs = [Input("pixels", np.float32, (None, 3, *size))]
    return ENGINES[engine](program, inputs, model.tensors, settings)


def states(
    folder: Path,
    engine: str,
    pixels: Pixels,
    forward: Forward = vit.forward,
    settings: EngineSettings = EXACT,
) -> list[np.ndarray]:
    height, width = pixels.shape[2:]
    found = compiled(folder, engine, (height, width), forward, settings).run({"pixels": pixels})
    return [found[str(i)] for i in range(len(found))]
