"""Attention that more than one family computes."""

from __future__ import annotations

from typing import Any

from omnivec.ops.base import Ops, Params, Value


def packed_attention(
    ops: Ops, p: Params, config: Any, x: Value, bias: Value, rotated: tuple[Value, Value]
) -> Value:
    """Multi-head self-attention with rotary positions and one matrix "Wqkv", before its output projection.

    A worked example with hidden_size 8 and h = 2 heads, so d = 4: the map gives 24 numbers for each token, the queries
    of both heads, then their keys, then their values. As (n, 6, t, 4), `heads` has these along its second axis:

        0      1      2      3      4        5
        q 0    q 1    k 0    k 1    v 0      v 1
        heads[:, :h]  heads[:, h:2h]  heads[:, 2h:]

    Args:
        ops: the engine.
        p: the weights, "Wqkv.weight" (3 * hidden, hidden) and perhaps "Wqkv.bias".
        config: has num_attention_heads, hidden_size and attention_dropout.
        x: (n, t, hidden).
        bias: added to the attention scores; see `Ops.attention`.
        rotated: cosines and sines of the positions; see `Ops.rotary`.

    Returns:
        (n, t, hidden).
    """
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    heads = ops.transpose(ops.reshape(ops.linear(x, p["Wqkv"]), (0, 0, 3 * h, d)), (0, 2, 1, 3))
    q, k = ops.rotary(heads[:, :h], *rotated), ops.rotary(heads[:, h : 2 * h], *rotated)
    y = ops.attention(q, k, heads[:, 2 * h :], bias, d**-0.5, config.attention_dropout)
    return ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d))
