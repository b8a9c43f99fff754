"""Nomic Embed: BERT with rotary positions and gated feed-forward networks, for long texts.

Nussbaum et al. 2024, arXiv:2402.01613. Weights are named as published, which is also how transformers'
`NomicBertModel` saves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omnivec.errors import UnsupportedModel
from omnivec.families.modernbert import attention
from omnivec.ops import rotary
from omnivec.ops.activations import ACTIVATIONS
from omnivec.ops.base import Ops, Params, Value

CLAIMS = {"model_type": ["nomic_bert"], "modality": "text"}

# The auto_map of its configs names its makers' own code, which this family is written after.
OWN_CODE = True

GATES = {"swiglu": "silu", "geglu": "gelu"}

# What the published config.json can also ask for, each with the only value that is covered.
ONLY = {
    "prenorm": False,
    "parallel_block": False,
    "use_rms_norm": False,
    "causal": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "num_experts": 0,
}


@dataclass(frozen=True)
class Config:
    """The published config.json, as far as the forward depends on it.

    Attributes:
        rope_parameters: the rotary positions; see `ops.rotary`.
        max_trained_positions: longest text in training, in tokens.
        rotary_scaling_factor: how far positions are stretched behind those of the training; None for not at all.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    rope_parameters: Mapping[str, Any]
    hidden_act: str
    layer_norm_eps: float = 1e-12
    max_trained_positions: int = 2048
    rotary_scaling_factor: float | None = None
    hidden_dropout_prob: float = 0.0
    attention_dropout: float = 0.0

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included.

        Stretched positions end where training did: beyond, a vector would depend on the longest text of its batch.
        """
        if self.rotary_scaling_factor:
            return min(self.max_trained_positions, self.max_position_embeddings)
        return self.max_position_embeddings


# The published names are GPT-2's; transformers has BERT's.
ALIASES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "resid_pdrop": "hidden_dropout_prob",
    "attn_pdrop": "attention_dropout",
}


def canonical(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """The published config with the words of transformers for its rotary positions and the gate's activation."""
    rope = published.get("rope_parameters") or {"rope_theta": published["rotary_emb_base"]}
    longest = published.get("n_positions") or published["max_position_embeddings"]
    act = published.get("hidden_act") or GATES[published["activation_function"]]
    return {**published, "rope_parameters": rotary.canonical(rope, 0.0, longest), "hidden_act": act}


def refuse(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for the variants that compute something else."""
    for key, only in ONLY.items():
        if published.get(key, only) != only:
            raise UnsupportedModel(f"{key} {published[key]!r}: only {only!r} is covered")
    # The published code writes only what is not its default, and by default there are no rotary positions.
    if "n_embd" in published and "rotary_emb_fraction" not in published:
        raise UnsupportedModel("rotary_emb_fraction is not said: only 1.0 is covered")
    kind, act = published.get("activation_function", "swiglu"), published.get("hidden_act", "silu")
    if kind not in GATES:
        raise UnsupportedModel(f"activation_function {kind!r} is none of {', '.join(GATES)}")
    if act not in ACTIVATIONS:
        raise UnsupportedModel(f"hidden_act {act!r} is none of {', '.join(ACTIVATIONS)}")


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    x = ops.embedding(batch.ids, p["embeddings.word_embeddings.weight"])
    if "embeddings.token_type_embeddings" in p:
        x = x + p["embeddings.token_type_embeddings.weight"][0]
    x = ops.layer_norm(x, p["emb_ln"], config.layer_norm_eps)
    x = ops.state(ops.dropout(x, config.hidden_dropout_prob))
    bias, width = ops.padding_bias(batch.mask), config.hidden_size // config.num_attention_heads
    rotated = rotary.rotation(ops, batch.ids, config.rope_parameters, width, batch.limit)
    for i in range(config.num_hidden_layers):
        x = ops.state(layer(ops, p[f"encoder.layers.{i}"], config, x, bias, rotated))
    return x


def layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value, rotated: tuple[Value, Value]) -> Value:
    """One block: attention, then the feed-forward network, each added to its input and then normalised."""
    rate, eps = config.hidden_dropout_prob, config.layer_norm_eps
    y = ops.linear(attention(ops, p["attn"], config, x, bias, rotated), p["attn.out_proj"])
    x = ops.layer_norm(x + ops.dropout(y, rate), p["norm1"], eps)
    gate = ACTIVATIONS[config.hidden_act](ops, ops.linear(x, p["mlp.fc12"]))
    y = ops.linear(ops.linear(x, p["mlp.fc11"]) * gate, p["mlp.fc2"])
    return ops.layer_norm(x + ops.dropout(y, rate), p["norm2"], eps)


PREFIXES = ("bert.", "nomic_bert.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # Heads that no embedding uses.
    (r"(cls|pooler|classifier)\..*", None),
]

KNOWN: dict[str, dict[str, Any]] = {}
