"""Nomic Embed: BERT with rotary positions and gated feed-forward networks, for long texts.

Nussbaum et al. 2024, arXiv:2402.01613. Weights are named as published, which is also how transformers'
`NomicBertModel` saves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.errors import UnsupportedModel
from omnivec.families._attention import packed_attention
from omnivec.ops import rotary
from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Among, Base, Count, Divides, Positions, Positive, Rate, Size

CLAIMS = {"model_type": ["nomic_bert"], "modality": "text"}

# The auto_map of its configs names the publisher's own code, whose computation this family repeats.
OWN_CODE = True

_GATES = {"swiglu": "silu", "geglu": "gelu"}


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        rope_parameters: the rotary positions; see `ops.rotary`.
        max_trained_positions: longest text in training, in tokens.
        rotary_scaling_factor: by how much positions beyond those of the training are stretched; None for no stretching.
    """

    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Annotated[Size, Divides("hidden_size")]
    intermediate_size: Size
    max_position_embeddings: Positions
    rope_parameters: Mapping[str, Any]
    hidden_act: Activation
    layer_norm_eps: Rate = 1e-12
    max_trained_positions: Positions = 2048
    rotary_scaling_factor: Positive | None = None
    hidden_dropout_prob: Rate = 0.0
    attention_dropout: Rate = 0.0

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included.

        With stretched positions the limit is that of the training: beyond it, the stretching depends on the longest
        text of a batch, and so would every vector in it.
        """
        if self.rotary_scaling_factor:
            return min(self.max_trained_positions, self.max_position_embeddings)
        return self.max_position_embeddings


# The published configs have GPT-2's names; those of transformers have BERT's.
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


@dataclass(frozen=True)
class Published:
    """Further keys of config.json, checked since other values would mean a different computation."""

    prenorm: Annotated[bool, Among((False,))] = False
    parallel_block: Annotated[bool, Among((False,))] = False
    use_rms_norm: Annotated[bool, Among((False,))] = False
    causal: Annotated[bool, Among((False,))] = False
    rotary_emb_fraction: Annotated[float, Among((1.0,))] = 1.0
    rotary_emb_interleaved: Annotated[bool, Among((False,))] = False
    rotary_emb_scale_base: Annotated[float | None, Among((None,))] = None
    scale_attn_weights: Annotated[bool, Among((True,))] = True
    scale_attn_by_inverse_layer_idx: Annotated[bool, Among((False,))] = False
    num_experts: Annotated[int, Among((0,))] = 0
    activation_function: Annotated[str, Among(_GATES)] = "swiglu"
    rotary_emb_base: Base | None = None
    rope_parameters: rotary.Published | None = None


def canonical(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """The published config with transformers' keys for the rotary positions and the gate's activation."""
    rope = published.get("rope_parameters") or {"rope_theta": published["rotary_emb_base"]}
    longest = published.get("n_positions") or published["max_position_embeddings"]
    act = published.get("hidden_act") or _GATES[published["activation_function"]]
    return {**published, "rope_parameters": rotary.canonical(rope, 0.0, longest), "hidden_act": act}


def check_supported(published: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for variants that compute something else."""
    # The published code leaves out keys that have their defaults, and by default there are no rotary positions.
    if "n_embd" in published and "rotary_emb_fraction" not in published:
        raise UnsupportedModel("rotary_emb_fraction is missing, which means 0.0: only 1.0 is covered")


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
        x = ops.state(_layer(ops, p[f"encoder.layers.{i}"], config, x, bias, rotated))
    return x


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value, rotated: tuple[Value, Value]) -> Value:
    """One post-norm block: norm(x + attention(x)), then norm(x + feed-forward(x))."""
    rate, eps = config.hidden_dropout_prob, config.layer_norm_eps
    y = ops.linear(packed_attention(ops, p["attn"], config, x, bias, rotated), p["attn.out_proj"])
    x = ops.layer_norm(x + ops.dropout(y, rate), p["norm1"], eps)
    gate = ACTIVATIONS[config.hidden_act](ops, ops.linear(x, p["mlp.fc12"]))
    y = ops.linear(ops.linear(x, p["mlp.fc11"]) * gate, p["mlp.fc2"])
    return ops.layer_norm(x + ops.dropout(y, rate), p["norm2"], eps)


SHAPES = {
    "embeddings.word_embeddings.weight": ("vocab_size", "hidden_size"),
    "encoder.layers.0.mlp.fc11.weight": ("intermediate_size", "hidden_size"),
    "encoder.layers.0.mlp.fc2.weight": ("hidden_size", "intermediate_size"),
}

PREFIXES = ("bert.", "nomic_bert.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # Heads that embeddings do not need.
    (r"(cls|pooler|classifier)\..*", None),
]

KNOWN: dict[str, dict[str, Any]] = {}
