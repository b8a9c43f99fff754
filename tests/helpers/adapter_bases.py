"""Small models that adapters are trained on, the same each time: NumPy's weights in transformers' networks.

`tests/golden/make_adapters.py` puts peft's adapters on them; the test merges these and compares.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

VOCABULARY, WIDTH = 120, 16
BATCH = {
    "ids": np.array([[2, 5, 9, 40, 17, 3], [2, 60, 61, 3, 0, 0]], np.int32),
    "mask": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], np.int32),
}
LAYERS = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
LAYERS |= {"vocab_size": VOCABULARY, "max_position_embeddings": 32}

# Name -> transformers' class of the network that an adapter is put on, and its config.
BASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", LAYERS),
    "bert with a head": ("BertForMaskedLM", "BertConfig", LAYERS),
    "gpt2": (
        "GPT2Model",
        "GPT2Config",
        {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": VOCABULARY},
    ),
    "mistral with a head": (
        "MistralForCausalLM",
        "MistralConfig",
        LAYERS | {"num_key_value_heads": 1, "head_dim": 8},
    ),
}


def network(base: str) -> Any:
    """A base with its weights."""
    kind, config, settings = BASES[base]
    model = getattr(transformers, kind)._from_config(
        getattr(transformers, config)(**settings, attn_implementation="eager")
    )
    fill(model, 0)
    return model.eval()


def fill(model: Any, seed: int) -> None:
    """Numbers for all that can be trained, by the order of their names."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.requires_grad:
                noise = rng.standard_normal(tuple(p.shape)).astype(np.float32) * 0.3
                p.copy_(torch.from_numpy(noise + ("orm" in name or "ln_" in name or "magnitude" in name)))


def states(model: Any) -> np.ndarray:
    """The last hidden states of the batch, of its real tokens."""
    ids, mask = (torch.from_numpy(BATCH[name]).long() for name in ("ids", "mask"))
    with torch.no_grad():
        last = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    found: np.ndarray = last.numpy()[BATCH["mask"] == 1]
    return found
