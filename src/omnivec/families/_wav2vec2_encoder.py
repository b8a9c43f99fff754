"""The transformer of wav2vec 2.0 and its relatives: convolutions for positions, and layers of attention."""

from __future__ import annotations

from typing import Any

from omnivec.families._frames import zeroed
from omnivec.ops.activations import ACTIVATIONS
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.relative import relative_bias

# Epsilon of norms to which the config's does not apply.
_EPS = 1e-5


def transformer(ops: Ops, p: Params, config: Any, x: Value, keep: Value, count: int) -> list[Value]:
    """The hidden states before the first layer and after each of the first `count`.

    Args:
        ops: the engine.
        p: the weights of the encoder.
        config: of the family.
        x: projected frames (n, t, hidden).
        keep: 1.0 for real frames (n, t), else 0.0.
        count: number of layers that are computed.

    Returns:
        `count` + 1 states (n, t, hidden).
    """
    x = zeroed(ops, x, keep[:, :, None])
    x = x + _positions(ops, p["pos_conv_embed"], config, x, keep[:, None])
    if not config.do_stable_layer_norm:
        x = ops.layer_norm(x, p["layer_norm"], config.layer_norm_eps)
    states = [ops.dropout(x, config.hidden_dropout)]
    padding, distances = ops.padding_bias(keep), None
    if config.model_type == "wavlm":
        table = p["layers.0.attention.rel_attn_embed.weight"]
        distances = relative_bias(ops, table, x, config.num_buckets, config.max_bucket_distance)
    for i in range(count):
        states.append(_layer(ops, p[f"layers.{i}"], config, states[-1], padding, distances))
    return states


def _positions(ops: Ops, p: Params, config: Any, x: Value, keep: Value) -> Value:
    """What convolutions over neighbouring frames add: x (n, t, hidden), keep (n, 1, t) -> (n, t, hidden)."""
    x = ops.transpose(x, (0, 2, 1))
    kernel = config.positions_kernel
    around = [
        (kernel // 2, (kernel - 1) // 2)
    ]  # of an even number of zeros and frames, the last frame is dropped
    groups, act = config.num_conv_pos_embedding_groups, ACTIVATIONS[config.feat_extract_activation]
    if config.model_type == "data2vec-audio":
        for i in range(config.positions_layers):
            x = ops.conv(zeroed(ops, x, keep), p[f"layers.{i}.conv"], [1], around, groups=groups)
            x = act(ops, _standardized(ops, x))
        return ops.transpose(x, (0, 2, 1))
    if config.conv_pos_batch_norm:
        x = zeroed(ops, ops.batch_norm(x, p["batch_norm"], _EPS), keep)
    x = act(ops, ops.conv(x, _weight_norm(ops, p["conv"]), [1], around, groups=groups))
    return ops.transpose(x, (0, 2, 1))


def _weight_norm(ops: Ops, p: Params) -> Params:
    """The weight and bias of a convolution whose weight (out, in, k) is stored as a direction and k lengths.

    Salimans and Kingma 2016, arXiv:1602.07868, with one length for each place of the kernel.
    """
    if "weight" in p:
        return p
    length, direction = p["parametrizations.weight.original0"], p["parametrizations.weight.original1"]
    weight = direction * (length / ops.sqrt(ops.sum(direction * direction, (0, 1), keep=True)))
    return Params(("weight", "bias"), {"weight": weight, "bias": p["bias"]}.__getitem__)


def _standardized(ops: Ops, x: Value) -> Value:
    """Layer norm over the channels of x (n, c, t), without weights."""
    x = x - ops.mean(x, 1, keep=True)
    return x / ops.sqrt(ops.mean(x * x, 1, keep=True) + _EPS)


def _layer(ops: Ops, p: Params, config: Any, x: Value, padding: Value, distances: Value | None) -> Value:
    """One block: norms come before attention and feed-forward if `do_stable_layer_norm`, else after each is added."""
    eps = config.layer_norm_eps
    if not config.do_stable_layer_norm:
        y = _attention(ops, p["attention"], config, x, padding, distances)
        x = ops.layer_norm(x + y, p["layer_norm"], eps)
        return ops.layer_norm(
            x + _feed_forward(ops, p["feed_forward"], config, x), p["final_layer_norm"], eps
        )
    y = ops.layer_norm(x, p["layer_norm"], eps)
    x = x + _attention(ops, p["attention"], config, y, padding, distances)
    x = x + _feed_forward(ops, p["feed_forward"], config, ops.layer_norm(x, p["final_layer_norm"], eps))
    if config.adapter_attn_dim is not None:
        q = p["adapter_layer"]
        y = ops.relu(ops.linear(ops.layer_norm(x, q["norm"], _EPS), q["linear_1"]))
        x = x + ops.linear(y, q["linear_2"])
    return x


def _attention(ops: Ops, p: Params, config: Any, x: Value, padding: Value, distances: Value | None) -> Value:
    """Multi-head self-attention (n, t, hidden) -> (n, t, hidden), with WavLM's gated bias if there are distances."""
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(x, p[name]), (0, 0, h, d)), (0, 2, 1, 3))
        for name in ("q_proj", "k_proj", "v_proj")
    )
    bias = padding if distances is None else _gate(ops, p, config, x) * distances + padding
    y = ops.attention(q, k, v, bias, d**-0.5, config.attention_dropout)
    y = ops.linear(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d)), p["out_proj"])
    return ops.dropout(y, config.hidden_dropout)


def _gate(ops: Ops, p: Params, config: Any, x: Value) -> Value:
    """The factor of the bias for distances, from the attention's input: (n, t, hidden) -> (n, heads, t, 1).

    Eight numbers of each head are added in two groups of four, whose sigmoids a and b give a (b c - 1) + 2, with a
    learned c for each head.
    """
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    x = ops.transpose(ops.reshape(x, (0, 0, h, d)), (0, 2, 1, 3))
    groups = ops.sigmoid(ops.sum(ops.reshape(ops.linear(x, p["gru_rel_pos_linear"]), (0, 0, 0, 2, 4)), -1))
    a, b = groups[..., :1], groups[..., 1:]
    return a * (b * p["gru_rel_pos_const"] - 1.0) + 2.0


def _feed_forward(ops: Ops, p: Params, config: Any, x: Value) -> Value:
    """The feed-forward network: (n, t, hidden) -> (n, t, hidden)."""
    y = ACTIVATIONS[config.hidden_act](ops, ops.linear(x, p["intermediate_dense"]))
    y = ops.linear(ops.dropout(y, config.activation_dropout), p["output_dense"])
    return ops.dropout(y, config.hidden_dropout)
