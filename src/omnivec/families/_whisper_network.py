"""The networks of Whisper: its encoder, and one step of its decoder.

Radford et al. 2022, arXiv:2212.04356, section 2.2. In shapes, n is the number of sounds, s that of the
encoder's states, h heads and d their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omnivec.ops.activations import ACTIVATIONS
from omnivec.ops.base import Ops, Params, Value

EPS = 1e-5

KeyValues = Sequence[tuple[Value, Value]]
"""Keys and values (n, h, s, d) of each layer."""


def encode(
    ops: Ops, p: Params, config: Any, frames: Value, mask: Value | None, bias: Value | None, depth: int
) -> Value:
    """The encoder up to hidden state `depth`, which is 0 for its first layer's input.

    Args:
        ops: the engine.
        p: weights of the encoder.
        config: see `whisper.Config`.
        frames: spectrogram (n, bands, 2 s).
        mask: (n, 1, 2 s), 0 for frames behind the end of each sound, so that the second convolution reads zeros there
            as it does at the end of the longest sound; None if there are none.
        bias: of attention, for states behind the end.
        depth: the last one, `config.encoder_layers`, is behind the final norm.

    Returns:
        (n, s, dim).
    """
    x = ops.gelu(ops.conv(frames, p["conv1"], [1], [1]))
    x = ops.gelu(ops.conv(x if mask is None else x * mask, p["conv2"], [2], [1]))
    x = ops.transpose(x, (0, 2, 1))
    # Padding may be longer than the table of positions.
    place = ops.clip(ops.cast(ops.arange(x, 1), "float32"), 0.0, config.max_source_positions - 1.0)
    x = x + ops.embedding(ops.cast(place, "int32"), p["embed_positions.weight"])
    x = ops.state(ops.dropout(x, config.dropout))
    for i in range(depth):
        x = _encoder_layer(ops, p[f"layers.{i}"], config, x, bias)
        x = ops.state(x if i < config.encoder_layers - 1 else ops.layer_norm(x, p["layer_norm"], EPS))
    return x


def spectrogram(ops: Ops, rows: Value) -> Value:
    """Rows (n, s, 2, bands) -> (n, bands, 2 s)."""
    x = ops.transpose(rows, (0, 3, 1, 2))
    return ops.reshape(x, (0, 0, -1))


def padded_spectrogram(ops: Ops, batch: Any) -> Value:
    """The spectrogram (n, bands, 2 s) of sounds that are padded with silence.

    The spectrogram of silence has the lowest value that the sound allows: 2 below its maximum (8 in log10, divided by
    4), but at least -1.5, for a power of 1e-10.

    Args:
        ops: the engine.
        batch: `sound` (n, s + 1, 2, bands) float32, zeros behind each sound; `lengths` (n,), its real rows.
    """
    place = ops.cast(ops.arange(batch.sound, 1), "float32")
    ahead = ops.cast(batch.lengths, "float32")[:, None] - place[None, :]
    real = ops.clip(ahead, 0.0, 1.0)[:, :, None, None]
    highest = ops.max(batch.sound + (real - 1.0) * 1e4, (1, 2, 3), keep=True)
    rows = batch.sound * real + ops.maximum(highest - 2.0, -1.5) * (1.0 - real)
    return spectrogram(ops, rows[:, :-1])


def keys_and_values(ops: Ops, p: Params, config: Any, states: Value) -> list[tuple[Value, Value]]:
    """Keys and values (n, h, s, d) of the encoder's states (n, s, dim), for each layer of the decoder `p`."""
    count = config.decoder_attention_heads
    layers = (p[f"layers.{i}.encoder_attn"] for i in range(config.decoder_layers))
    return [
        (_heads(ops, states, layer["k_proj"], count), _heads(ops, states, layer["v_proj"], count))
        for layer in layers
    ]


def decode(
    ops: Ops,
    p: Params,
    config: Any,
    tokens: Value,
    positions: Value,
    bias: Value,
    past: KeyValues,
    sound: KeyValues,
) -> tuple[Value, list[tuple[Value, Value]]]:
    """The decoder for some tokens, given the keys and values of those before them.

    Args:
        ops: the engine.
        p: weights of the decoder.
        config: see `whisper.Config`.
        tokens: ids (n, t) integer.
        positions: (t,) integer, positions of the tokens.
        bias: (n, 1, t, past + t) float32, added to the scores of attention: -1e4 for what a token must not see.
        past: keys and values of the tokens before.
        sound: keys and values of the encoder's states.

    Returns:
        The scores (n, vocab_size) of the token after the last, and the keys and values (n, h, t, d) of these tokens.
    """
    x = ops.embedding(tokens, p["embed_tokens.weight"]) + ops.embedding(
        positions, p["embed_positions.weight"]
    )
    added = []
    for i, (before, heard) in enumerate(zip(past, sound, strict=True)):
        x, new = _decoder_layer(ops, p[f"layers.{i}"], config, x, bias, before, heard)
        added.append(new)
    x = ops.layer_norm(x[:, -1], p["layer_norm"], EPS)
    return ops.linear(x, p["embed_tokens"]), added


def _encoder_layer(ops: Ops, p: Params, config: Any, x: Value, bias: Value | None) -> Value:
    """One pre-norm block: x + attention(norm(x)), then x + feed-forward(norm(x))."""
    count, rate = config.encoder_attention_heads, config.attention_dropout
    y = ops.layer_norm(x, p["self_attn_layer_norm"], EPS)
    qkv = [_heads(ops, y, p[f"self_attn.{name}_proj"], count) for name in "qkv"]
    x = x + ops.dropout(_attend(ops, p["self_attn"], config.dim // count, qkv, bias, rate), config.dropout)
    return x + ops.dropout(_feed_forward(ops, p, config, x), config.dropout)


def _decoder_layer(
    ops: Ops,
    p: Params,
    config: Any,
    x: Value,
    bias: Value,
    past: tuple[Value, Value],
    sound: tuple[Value, Value],
) -> tuple[Value, tuple[Value, Value]]:
    """One block, with attention to the sound between the other two parts; and its keys and values of these tokens."""
    count, width = config.decoder_attention_heads, config.dim // config.decoder_attention_heads
    y = ops.layer_norm(x, p["self_attn_layer_norm"], EPS)
    q, k, v = (_heads(ops, y, p[f"self_attn.{name}_proj"], count) for name in "qkv")
    whole = [ops.concat([before, new], 2) for before, new in zip(past, (k, v), strict=True)]
    x = x + _attend(ops, p["self_attn"], width, [q, *whole], bias)
    y = ops.layer_norm(x, p["encoder_attn_layer_norm"], EPS)
    q = _heads(ops, y, p["encoder_attn.q_proj"], count)
    x = x + _attend(ops, p["encoder_attn"], width, [q, *sound], None)
    return x + _feed_forward(ops, p, config, x), (k, v)


def _feed_forward(ops: Ops, p: Params, config: Any, x: Value) -> Value:
    """The feed-forward network of a block, after its norm: (n, t, dim) -> (n, t, dim)."""
    y = ops.linear(ops.layer_norm(x, p["final_layer_norm"], EPS), p["fc1"])
    return ops.linear(ACTIVATIONS[config.activation_function](ops, y), p["fc2"])


def _heads(ops: Ops, x: Value, p: Params, count: int) -> Value:
    """Queries, keys or values of states: (n, t, dim) -> (n, count, t, dim / count); keys have no bias."""
    return ops.transpose(ops.reshape(ops.linear(x, p), (0, 0, count, -1)), (0, 2, 1, 3))


def _attend(
    ops: Ops, p: Params, width: int, qkv: Sequence[Value], bias: Value | None, dropout: float = 0.0
) -> Value:
    """Queries (n, h, t, width), keys and values (n, h, s, width) -> (n, t, dim), after the output projection."""
    q, k, v = qkv
    y = ops.transpose(ops.attention(q, k, v, bias, width**-0.5, dropout), (0, 2, 1, 3))
    return ops.linear(ops.reshape(y, (0, 0, -1)), p["out_proj"])
