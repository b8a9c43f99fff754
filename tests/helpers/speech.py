"""How a family of networks for samples of sound is compared with torch's own statement of one, sound by sound."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers

from encoders import ENGINES
from omnivec import weights
from omnivec.models.model import read_config
from omnivec.ops.base import EngineSettings, Executable, Input

INPUTS = [Input("sound", np.float32, (None, None)), Input("lengths", np.int32, (None,))]

Forward = Callable[..., Any]

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
SMALL |= {"conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
STABLE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
WAVLM: dict[str, Any] = {"num_buckets": 32, "max_bucket_distance": 80}
HEAD: dict[str, Any] = {
    "tdnn_dim": [24, 24, 24, 24, 40],
    "xvector_output_dim": 20,
    "use_weighted_layer_sum": True,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2, norms first": ("Wav2Vec2", STABLE | {"conv_bias": True, "hidden_act": "gelu_new"}),
    "wav2vec2, adapters": (
        "Wav2Vec2",
        STABLE | {"adapter_attn_dim": 8, "add_adapter": True, "output_hidden_size": 40},
    ),
    "hubert": ("Hubert", {"conv_bias": True}),
    "hubert, batch norm": (
        "Hubert",
        {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False, "num_conv_pos_embeddings": 15},
    ),
    "wavlm": ("WavLM", WAVLM),
    "wavlm, norms first": ("WavLM", WAVLM | STABLE | {"add_adapter": True, "num_adapter_layers": 1}),
    "data2vec": ("Data2VecAudio", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 9}),
}


def waveforms(lengths: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Sounds of these numbers of samples: tones that glide, each with a loudness of its own, and noise."""
    rng = np.random.default_rng(seed)
    sounds = []
    for length in lengths:
        time = np.arange(length) / 16000
        tones = [
            rng.uniform(0.1, 1)
            * np.sin(2 * np.pi * time * (rng.uniform(80, 3000) + rng.uniform(-300, 300) * time))
            for _ in range(5)
        ]
        sound = np.sum(tones, 0) + 0.2 * rng.standard_normal(length)
        sounds.append((rng.uniform(0.05, 0.5) * sound).astype(np.float32))
    return sounds


def discriminate(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights of standard deviation 2 / sqrt(fan-in), random norms, biases and statistics: defaults hide errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name.lower():
                p.copy_(1 + 0.3 * noise if name.endswith("weight") else 0.3 * noise)
            elif name.endswith(("original0", "gru_rel_pos_const")):
                p.copy_(1 + 0.3 * noise.abs())
            else:
                p.copy_(noise * 2 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.3 * noise)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm1d):
                part.running_mean += 0.3 * torch.randn(part.running_mean.shape, generator=generator)
                part.running_var *= 0.5 + torch.rand(part.running_var.shape, generator=generator)
    return model.eval()


def published(folder: Path, kind: str, task: str = "Model", **changes: Any) -> Any:
    """A checkpoint as transformers publishes one, and transformers' model of it."""
    name, settings = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **settings, **changes})
    model = discriminate(getattr(transformers, name + task)(config))
    model.save_pretrained(folder)
    return model


def expected_states(model: Any, sound: np.ndarray) -> list[np.ndarray]:
    """transformers' hidden states of one sound, then what the model returns."""
    with torch.no_grad():
        out = model(torch.from_numpy(sound)[None], output_hidden_states=True)
    return [state[0].numpy() for state in (*out.hidden_states, out.last_hidden_state)]


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """A family with a config and weights, as `read_model` makes them of a folder."""

    family: ModuleType
    config: Any
    tensors: Mapping[str, weights.Tensor]

    def with_config(self, **changes: Any) -> Read:
        """The same weights with another config."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    @functools.cache  # noqa: B019, one for each test
    def executable(self, engine: str, forward: Forward, precision: Any) -> Executable:
        """All hidden states, then what the forward returns."""

        def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
            batch = SimpleNamespace(sound=get("sound"), lengths=get("lengths"), mask=None)
            last = forward(ops, p, self.config, batch)
            return {str(i): state for i, state in enumerate([*ops.states, last])}

        return ENGINES[engine](program, INPUTS, self.tensors, EngineSettings(precision, threads=1))

    def states(
        self,
        engine: str,
        sounds: Sequence[np.ndarray],
        forward: Forward | None = None,
        precision: Any = "float32",
        padding: int = 0,
    ) -> list[np.ndarray]:
        """All hidden states of a padded batch, then what the forward returns; with padded states."""
        lengths = np.array([len(sound) for sound in sounds], np.int32)
        batch = np.zeros((len(sounds), max(lengths) + padding), np.float32)
        for row, sound in zip(batch, sounds, strict=True):
            row[: len(sound)] = sound
        run = self.executable(engine, forward or self.family.forward, precision).run
        found = run({"sound": batch, "lengths": lengths})
        return [found[str(i)] for i in range(len(found))]


def read(family: ModuleType, published: Mapping[str, Any], folder: Path) -> Read:
    """A published config, and the weights of a folder or file."""
    config = read_config(family, published, Path("folder"))
    stored = weights.strip_prefixes(weights.read(folder), family.PREFIXES)
    tensors = dict(weights.rename(stored, family.LAYOUTS))
    if hasattr(family, "adapt_weights"):
        tensors, config = family.adapt_weights(tensors, config)
    return Read(family, config, tensors)
