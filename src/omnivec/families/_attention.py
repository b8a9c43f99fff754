"""Attention that more than one family computes."""

from __future__ import annotations

from typing import Any

from omnivec.ops.base import Ops, Params, Value


def packed_attention(
    ops: Ops, p: Params, config: Any, x: Value, bias: Value, rotated: tuple[Value, Value]
) -> Value:
    """Multi-head self-attention with rotary positions and one matrix "Wqkv", before its output projection.

    x (n, t, hidden) -> (n, t, hidden). Of `config` it reads num_attention_heads, hidden_size and attention_dropout.
    """
    h, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    heads = ops.transpose(ops.reshape(ops.linear(x, p["Wqkv"]), (0, 0, 3 * h, d)), (0, 2, 1, 3))
    q, k = ops.rotary(heads[:, :h], *rotated), ops.rotary(heads[:, h : 2 * h], *rotated)
    y = ops.attention(q, k, heads[:, 2 * h :], bias, d**-0.5, config.attention_dropout)
    return ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (0, 0, h * d))
