"""Llama, Mistral, Qwen, Gemma against transformers, every hidden state, both engines; wrong formulas are told apart."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoModel, AutoTokenizer

from causal import DECODERS, FULL, LLAMA3, batch_of, last_pooled
from encoders import ENGINES, LENGTHS, bfloat16_cosine, changed, expected_states, states, with_operation
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import decoder
from omnivec.inputs.text.text import INPUTS
from omnivec.models.model import read_config, read_model
from omnivec.ops import openvino, rotary
from omnivec.ops.base import EngineSettings
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model

Made = tuple[str, Path, Any]

# One checkpoint of each formula; the others differ from these in a setting.
MAIN = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3, both ways"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A checkpoint by its kind, made once."""

    @functools.cache
    def make(kind: str) -> Made:
        folder = tmp_path_factory.mktemp("decoder")
        return kind, folder, DECODERS[kind].make(folder)

    return make


@pytest.fixture(scope="module", params=DECODERS)
def made(request: pytest.FixtureRequest, checkpoint: Callable[[str], Made]) -> Made:
    return checkpoint(request.param)


@pytest.fixture(params=MAIN)
def main(request: pytest.FixtureRequest, checkpoint: Callable[[str], Made]) -> Made:
    return checkpoint(request.param)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@settings(max_examples=6, deadline=None)
@given(lengths=LENGTHS, padding=st.integers(0, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("engine", ENGINES)
def test_every_hidden_state_equals_transformers(
    made: Made, engine: str, lengths: list[int], padding: int, seed: int
) -> None:
    _, folder, model = made
    batch = batch_of(model, lengths, padding, seed)
    expected, got = expected_states(model, batch), states(folder, engine, batch)
    assert len(got) == len(expected) == model.config.num_hidden_layers + 1
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        check_close(a, b, f"{engine}, hidden state {i}")


def everywhere(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    ops.causal_bias = ops.padding_bias
    return decoder.forward(ops, p, config, batch)


def interleaved(right: Any, x: Any, cos: Any, sin: Any) -> Any:
    """Neighbours turn together instead of halves."""
    apart = torch.cat([x[..., ::2], x[..., 1::2]], -1)
    return right(apart, cos, sin).unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def in_turns(right: Any, x: Any, times: int) -> Any:
    """Heads 0 1 0 1 for 0 0 1 1."""
    return torch.cat([x] * times, 1)


def unscaled(right: Any, q: Any, k: Any, v: Any, bias: Any, scale: float, *rest: Any) -> Any:
    return right(q, k, v, bias, 1.0, *rest)


def unturned(right: Any, x: Any, cos: Any, sin: Any) -> Any:
    return x


def shifted_keys(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    """Queries and keys are counted from different places."""
    right, calls = ops.rotary, []

    def turn(x: Any, cos: Any, sin: Any) -> Any:
        calls.append(x)
        return right(x, cos.roll(len(calls) % 2, 0), sin.roll(len(calls) % 2, 0))

    ops.rotary = turn
    return decoder.forward(ops, p, config, batch)


def other_base(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    ropes = {kind: {**rope, "rope_theta": 7e4} for kind, rope in config.rope_parameters.items()}
    return changed(decoder, rope_parameters=ropes)(ops, p, config, batch)


def exchanged_bases(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    kinds = list(config.rope_parameters)
    ropes = dict(zip(kinds, reversed(config.rope_parameters.values()), strict=True))
    return changed(decoder, rope_parameters=ropes)(ops, p, config, batch)


def plain_norm(right: Any, x: Any, weight: Any, eps: float) -> Any:
    return right(x, weight - 1.0, eps)


def uncapped(right: Any, *args: Any) -> Any:
    return right(*args[:6])


def inner_norms_left_out(right: Any, x: Any, weight: Any, eps: float) -> Any:
    return x if x.ndim == 4 else right(x, weight, eps)


WINDOWED = ["mistral", "mistral, both ways", "qwen2, windows", "qwen3, windows", "gemma2", "gemma3"]
GEMMAS = ["gemma", "gemma2", "gemma3"]

VARIANTS: dict[str, tuple[Any, list[str]]] = {
    "no causal mask": (everywhere, [kind for kind in DECODERS if "both ways" not in kind]),
    "causal where both ways are meant": (
        changed(decoder, bidirectional=False),
        ["llama, both ways", "mistral, both ways", "gemma3, both ways"],
    ),
    "neighbours turned for halves": (with_operation(decoder, "rotary", interleaved), MAIN),
    "no rotary positions": (with_operation(decoder, "rotary", unturned), MAIN),
    "keys a place further": (shifted_keys, MAIN),
    "another base": (other_base, MAIN),
    "key heads in turns": (
        with_operation(decoder, "repeat_heads", in_turns),
        ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"],
    ),
    "scale left out": (with_operation(decoder, "attention", unscaled), MAIN),
    "exact GELU or SiLU for the other": (changed(decoder, hidden_act="gelu"), MAIN),
    "epsilon of 1e-3": (changed(decoder, rms_norm_eps=1e-3), ["llama", "qwen3", "gemma3"]),
    "the window ignored": (changed(decoder, sliding_window=97), WINDOWED),
    "a window of one more": (changed(decoder, sliding_window=9), ["gemma3, both ways"]),
    "the window in every layer": (
        lambda ops, p, config, batch: changed(
            decoder,
            layer_types=("sliding_attention",) * config.num_hidden_layers,
            sliding_window=6,
            rope_parameters=dict.fromkeys(
                ("sliding_attention", "full_attention"), next(iter(config.rope_parameters.values()))
            ),
        )(ops, p, config, batch),
        ["llama", "qwen2, windows", "qwen3, windows", "gemma2"],
    ),
    "norm by w for 1 + w": (with_operation(decoder, "rms_norm", plain_norm), GEMMAS),
    "embeddings not scaled": (changed(decoder, model_type="llama"), ["gemma"]),
    "one base for all layers": (exchanged_bases, ["gemma3", "gemma3, both ways"]),
    "scores not capped": (with_operation(decoder, "attention", uncapped), ["gemma2"]),
    "scaled by the width": (changed(decoder, attention_scale=24**-0.5), ["gemma2", "gemma3"]),
    "queries and keys not normalised": (
        with_operation(decoder, "rms_norm", inner_norms_left_out),
        ["qwen3", "gemma3"],
    ),
    "frequencies not scaled": (
        lambda ops, p, config, batch: changed(
            decoder, rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 5e5}}
        )(ops, p, config, batch),
        ["llama, biases"],
    ),
}


@pytest.mark.parametrize(("variant", "kind"), [(v, kind) for v in VARIANTS for kind in VARIANTS[v][1]])
def test_wrong_variants_are_told_apart(checkpoint: Callable[[str], Made], variant: str, kind: str) -> None:
    _, folder, model = checkpoint(kind)
    batch = batch_of(model, [24, 9, 1])
    got = states(folder, "torch", batch, VARIANTS[variant][0])[-1]
    check_rejected(got, expected_states(model, batch)[-1], variant)


def test_contract(main: Made) -> None:
    kind, folder, _ = main
    check_family(folder, TEXTS if DECODERS[kind].around != "$A" else FULL)


@pytest.mark.parametrize("engine", ENGINES)
def test_text_to_vector_equals_transformers_padded_on_either_side(main: Made, engine: str) -> None:
    _, folder, model = main
    tokenizer = AutoTokenizer.from_pretrained(folder)
    got = open_model(folder, engine).encode(FULL)
    for side in ("right", "left"):
        check_close(got, last_pooled(model, tokenizer, FULL, side), f"padded on the {side}")


@pytest.mark.parametrize("kind", ["mistral", "qwen3, windows", "gemma3, both ways"])
def test_a_window_bites_beyond_itself_only(checkpoint: Callable[[str], Made], kind: str) -> None:
    _, folder, model = checkpoint(kind)
    reach = read_model(folder).config.sliding_window
    wide = changed(decoder, sliding_window=97)
    for length, bites in ((reach, False), (reach + 1, True)):
        batch = batch_of(model, [length])
        got, open_wide = (states(folder, "openvino", batch, forward)[-1] for forward in (None, wide))
        if bites:
            check_rejected(got, open_wide, f"a window of {reach} over {length} tokens")
        else:
            check_close(got, open_wide, f"a window of {reach} over {length} tokens")


ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "llama3": LLAMA3,
    "llama3 of Llama 3.1": LLAMA3 | {"original_max_position_embeddings": 8192},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 24},
    "yarn of Qwen3": {"factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1e6},
    "yarn with a factor of its own": {
        "factor": 8.0,
        "attention_factor": 1.3,
        "beta_fast": 16,
        "beta_slow": 2,
    },
    "yarn, weighed": {"factor": 8.0, "mscale": 0.7, "mscale_all_dim": 1.1, "truncate": False},
    "dynamic": {"factor": 2.0},
}


@pytest.mark.parametrize("name", ROPES)
def test_rotary_positions_equal_transformers(tmp_path: Path, name: str) -> None:
    rope = {"rope_theta": 10000.0, **ROPES[name], "rope_type": name.split(" ")[0].strip(",")}
    model = DECODERS["llama"].make(tmp_path, rope_parameters=dict(rope))
    frequency, scale = rotary.frequencies(read_model(tmp_path).config.rope_parameters["full_attention"], 16)
    np.testing.assert_allclose(frequency, model.rotary_emb.inv_freq.numpy(), rtol=2e-7)
    assert scale == pytest.approx(model.rotary_emb.attention_scaling)
    batch = batch_of(model, [96, 40])
    for engine in ENGINES:
        check_close(
            states(tmp_path, engine, batch)[-1], expected_states(model, batch)[-1], f"{name}, {engine}"
        )


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("theta", [1e4, 5e5, 1e6, 1e7])
def test_far_places_turn_as_in_transformers(theta: float, width: int) -> None:
    config = transformers.Qwen3Config(
        head_dim=width, rope_parameters={"rope_type": "default", "rope_theta": theta}
    )
    reference = transformers.models.qwen3.modeling_qwen3.Qwen3RotaryEmbedding(config)
    cos, sin = (t[0].numpy() for t in reference(torch.zeros(1), torch.arange(40_000)[None]))
    rope = rotary.canonical({}, theta, 40_000)
    frequency, _ = rotary.frequencies(rope, width)
    theirs = reference.inv_freq.numpy()
    np.testing.assert_allclose(frequency, theirs, rtol=1.2e-7)
    # A power in float32 is off by a last digit here and there, in torch too; no more than one such pair.
    same = frequency == theirs
    assert (~same).sum() <= 1
    for table, expected in zip(rotary.tables(tuple(rope.items()), width, 40_000), (cos, sin), strict=True):
        np.testing.assert_allclose(table[:, same], expected[:, : width // 2][:, same], atol=2e-7)
        np.testing.assert_array_equal(expected[:, : width // 2], expected[:, width // 2 :])


def test_tables_are_as_long_as_texts_may_be(tmp_path: Path) -> None:
    DECODERS["qwen3"].make(tmp_path, max_position_embeddings=131_072)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512}))
    model = read_model(tmp_path)
    graph, _ = openvino.trace(model.hidden, INPUTS, model.tensors)
    sizes = [node.get_output_shape(0) for node in graph.get_ops() if node.get_type_name() == "Constant"]
    assert sizes.count([512, 12]) == 2
    assert max(int(np.prod(list(size))) for size in sizes) <= model.config.vocab_size * 64


def test_old_and_new_spelling_are_one_model(tmp_path: Path) -> None:
    def old(said: dict[str, Any]) -> dict[str, Any]:
        rope = said.pop("rope_parameters")
        return said | {
            "rope_theta": rope.pop("rope_theta"),
            "rope_scaling": rope | {"type": rope.pop("rope_type")},
        }

    def old_gemma(said: dict[str, Any]) -> dict[str, Any]:
        ropes = said.pop("rope_parameters")
        bases = {kind: rope["rope_theta"] for kind, rope in ropes.items()}
        said |= {"rope_theta": bases["full_attention"], "rope_local_base_freq": bases["sliding_attention"]}
        return said | {"sliding_window_pattern": 2, "layer_types": None}

    for kind, spell in (("llama, biases", old), ("gemma3", old_gemma)):
        new, folder = tmp_path / f"{kind} new", tmp_path / f"{kind} old"
        DECODERS[kind].make(new)
        DECODERS[kind].make(folder)
        rewrite(folder, spell)
        assert read_model(folder).config == read_model(new).config
        assert open_model(folder).identity == open_model(new).identity


def test_a_mistral_with_layer_types_is_a_ministral(tmp_path: Path) -> None:
    DECODERS["mistral"].make(tmp_path)
    count = read_model(tmp_path).config.num_hidden_layers
    listed = ["full_attention" if i % 2 else "sliding_attention" for i in range(count)]
    rewrite(tmp_path, lambda said: said | {"layer_types": listed, "sliding_window": 4})
    ids = torch.arange(5, 25)[None]
    reference = transformers.AutoModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = reference(ids).last_hidden_state[0].numpy()
    model = read_model(tmp_path)
    run = openvino.compile_program(model.last, INPUTS, model.tensors, EngineSettings()).run
    batch = {"ids": ids.numpy().astype(np.int32), "mask": np.ones((1, 20), np.int32)}
    check_close(run(batch)["states"][0], expected, "alternating windows")


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"])
def test_what_a_config_leaves_out_means_what_transformers_takes(kind: str) -> None:
    name = DECODERS[kind].name
    whole = getattr(transformers, f"{name}Config")(num_hidden_layers=4).to_dict()
    stated = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    short = {key: whole[key] for key in (*stated, "max_position_embeddings")}
    assert read_config(decoder, short, Path()) == read_config(decoder, whole, Path())


def test_a_language_model_as_published(main: Made, tmp_path: Path) -> None:
    kind, folder, model = main
    DECODERS[kind].make(tmp_path)
    tensors = {f"model.{name}": t for name, t in load_file(folder / "model.safetensors").items()}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    tensors["lm_head.weight"] = torch.ones(model.config.vocab_size, 64)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    a, b = open_model(folder), open_model(tmp_path)
    assert a.model.identity == b.model.identity
    check_close(b.encode(FULL), a.encode(FULL), "the same model", 1e-6)


def test_bfloat16_in_shards(tmp_path: Path) -> None:
    model = DECODERS["qwen3"].make(tmp_path / "one")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "shards" / name).write_text((tmp_path / "one" / name).read_text())
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 3
    assert {t.dtype for t in read_model(tmp_path / "shards").tensors.values()} == {"BF16"}
    exact = AutoModel.from_pretrained(
        tmp_path / "shards", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    batch = batch_of(exact, [24, 9, 1])
    for engine in ENGINES:
        for i, (a, b) in enumerate(
            zip(states(tmp_path / "shards", engine, batch), expected_states(exact, batch), strict=True)
        ):
            check_close(a, b, f"{engine}, hidden state {i}")


def test_others_read_what_is_saved(main: Made, tmp_path: Path) -> None:
    _, folder, model = main
    open_model(folder).save(tmp_path / "saved")
    batch = batch_of(model, [12, 5])
    read = AutoModel.from_pretrained(tmp_path / "saved", attn_implementation="eager").eval()
    np.testing.assert_array_equal(expected_states(read, batch)[-1], expected_states(model, batch)[-1])


INSTRUCT = "Instruct: Given a web search query, retrieve passages that answer it\nQuery:"


def test_a_folder_of_sentence_transformers_with_prompts(tmp_path: Path) -> None:
    """As Qwen3-Embedding is published: the last token's vector, of length 1, queries behind an instruction."""
    DECODERS["qwen3"].make(tmp_path / "base")
    transformer = modules.Transformer(str(tmp_path / "base"), processor_kwargs={"padding_side": "left"})
    transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    pooling = modules.Pooling(transformer.get_embedding_dimension(), "lasttoken")
    reference = SentenceTransformer(
        modules=[transformer, pooling, modules.Normalize()],
        prompts={"query": INSTRUCT, "document": ""},
        similarity_fn_name="cosine",
    )
    reference.save(str(tmp_path / "saved"))
    for engine in ENGINES:
        model = open_model(tmp_path / "saved", engine)
        assert model.task_prompt("query") == INSTRUCT
        check_close(model.encode_query(TEXTS), reference.encode_query(list(TEXTS)), f"queries, {engine}")
        check_close(
            model.encode_document(TEXTS), reference.encode_document(list(TEXTS)), f"documents, {engine}"
        )
    check_family(tmp_path / "saved")


def test_bfloat16_stays_near(main: Made, tmp_path: Path) -> None:
    DECODERS[main[0]].make(tmp_path, gain=1.0)
    for engine in ENGINES:
        assert bfloat16_cosine(tmp_path, engine, FULL).min() > 0.999


@pytest.mark.parametrize("kind", MAIN)
def test_norms_and_rotary_positions_are_one_node_each(checkpoint: Callable[[str], Made], kind: str) -> None:
    _, folder, model = checkpoint(kind)
    nodes = open_model(folder).encoder._body._compiled.get_runtime_model().get_ops()  # type: ignore[attr-defined]
    count = Counter(node.get_rt_info()["layerType"].astype(str) for node in nodes)
    layers = model.config.num_hidden_layers
    norms = 2 + 2 * (kind.startswith(("gemma2", "gemma3"))) + 2 * (kind.startswith(("qwen3", "gemma3")))
    assert count["RoPE"] == 2 * layers
    assert count["RMS"] == norms * layers + 1


def scaled(kind: str) -> dict[str, Any]:
    return {"rope_scaling": {"rope_type": kind, "factor": 2.0}}


@pytest.mark.parametrize(
    ("kind", "change", "named"),
    [
        ("llama", {"hidden_act": "mish"}, "mish"),
        ("llama", scaled("longrope"), "longrope"),
        ("llama", scaled("llama3"), "low_freq_factor, high_freq_factor"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "without factor"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary",
        ),
        ("llama", {"auto_map": {"AutoModel": "modeling_x.LlamaEncoderModel"}}, "LlamaEncoderModel"),
        ("qwen2", {"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
        ("gemma2", {"use_bidirectional_attention": True}, "gemma3_text only"),
        ("llama", {"use_bidirectional_attention": True}, "gemma3_text only"),
        ("mistral", {"use_bidirectional_attention": True}, "gemma3_text only"),
        ("qwen3", {"use_bidirectional_attention": True}, "gemma3_text only"),
    ],
)
def test_refused_variants(tmp_path: Path, kind: str, change: dict[str, Any], named: str) -> None:
    DECODERS[kind].make(tmp_path)
    rewrite(tmp_path, lambda said: said | change)
    with pytest.raises(UnsupportedModel, match=named):
        open_model(tmp_path)


def test_a_config_that_lacks_a_value_is_named(tmp_path: Path) -> None:
    DECODERS["llama"].make(tmp_path)
    rewrite(tmp_path, lambda said: {key: value for key, value in said.items() if key != "num_hidden_layers"})
    with pytest.raises(ModelError, match="num_hidden_layers"):
        open_model(tmp_path)
