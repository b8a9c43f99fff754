"""GPT, GPT-2 and GPT-Neo against transformers, every hidden state, both engines; wrong formulas are told apart."""

from __future__ import annotations

import functools
import json
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

from causal import FULL, GPTS, batch_of, last_pooled
from encoders import ENGINES, LENGTHS, bfloat16_cosine, changed, expected_states, states, with_operation
from omnivec.errors import ItemErrors, UnsupportedModel
from omnivec.families import gpt
from omnivec.models.model import read_model
from omnivec.testing import check_close, check_family, check_rejected, open_model

Made = tuple[str, Path, Any]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A checkpoint by its kind, made once."""

    @functools.cache
    def make(kind: str) -> Made:
        folder = tmp_path_factory.mktemp("gpt")
        return kind, folder, GPTS[kind].make(folder)

    return make


@pytest.fixture(scope="module", params=GPTS)
def made(request: pytest.FixtureRequest, checkpoint: Callable[[str], Made]) -> Made:
    return checkpoint(request.param)


@settings(max_examples=8, deadline=None)
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
    return gpt.forward(ops, p, config, batch)


def shifted(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    right = ops.arange
    ops.arange = lambda x, axis: right(x, axis) + 1
    return gpt.forward(ops, p, config, batch)


def exact_gelu(right: Any, x: Any, *rest: Any) -> Any:
    return right(x)


def unscaled(right: Any, q: Any, k: Any, v: Any, bias: Any, scale: float, *rest: Any) -> Any:
    return right(q, k, v, bias, 1.0, *rest)


def keys_for_queries(right: Any, q: Any, k: Any, v: Any, *rest: Any) -> Any:
    return right(k, q, v, *rest)


VARIANTS = {
    "no causal mask": everywhere,
    "exact GELU for the tanh formula": with_operation(gpt, "gelu", exact_gelu),
    "half the heads": changed(gpt, num_attention_heads=2),
    "epsilon of 1e-3": changed(gpt, layer_norm_epsilon=1e-3),
    "queries and keys exchanged": with_operation(gpt, "attention", keys_for_queries),
    "positions from 1": shifted,
    "scale left out": with_operation(gpt, "attention", unscaled),
    "the last norm left out": changed(gpt, num_hidden_layers=0),
    "the window ignored": changed(gpt, attention_layers=("global",) * 4),
    "a window of one more": changed(gpt, window_size=6),
    "local layers for global ones": changed(gpt, attention_layers=("local", "global") * 2),
    "scaled by the width": changed(gpt, scale_attn_weights=True),
}
ONLY = {
    "scale left out": ["openai-gpt", "gpt2", "gpt2, scaled by layer"],
    "the last norm left out": [kind for kind in GPTS if kind != "openai-gpt"],
    "scaled by the width": ["gpt_neo", "gpt2, unscaled"],
    "the window ignored": ["gpt_neo"],
    "a window of one more": ["gpt_neo"],
    "local layers for global ones": ["gpt_neo"],
}


@pytest.mark.parametrize(("variant", "kind"), [(v, kind) for v in VARIANTS for kind in ONLY.get(v, GPTS)])
def test_wrong_variants_are_told_apart(checkpoint: Callable[[str], Made], variant: str, kind: str) -> None:
    _, folder, model = checkpoint(kind)
    batch = batch_of(model, [24, 9, 1])
    got = states(folder, "openvino", batch, VARIANTS[variant])[-1]
    check_rejected(got, expected_states(model, batch)[-1], variant)


def test_contract(made: Made) -> None:
    check_family(made[1], FULL)


@pytest.mark.parametrize("engine", ENGINES)
def test_text_to_vector_equals_transformers_padded_on_either_side(made: Made, engine: str) -> None:
    _, folder, model = made
    tokenizer = AutoTokenizer.from_pretrained(folder)
    got = open_model(folder, engine).encode(FULL)
    for side in ("right", "left"):
        check_close(got, last_pooled(model, tokenizer, FULL, side), f"padded on the {side}")


def test_what_is_in_the_padding_does_not_matter(made: Made) -> None:
    _, folder, model = made
    batch = batch_of(model, [12, 5, 1], padding=3)
    assert (
        read_model(folder).texts.tokenizer.pad_id == 0
    )  # It has no padding token: 0 is a token of the text.
    noise = np.random.default_rng(1).integers(0, model.config.vocab_size, batch["ids"].shape)
    noisy = batch | {"ids": np.where(batch["mask"] == 1, batch["ids"], noise).astype(np.int32)}
    for engine in ENGINES:
        check_close(states(folder, engine, noisy)[-1], states(folder, engine, batch)[-1], engine, 1e-6)


def test_a_text_without_tokens_is_named_and_costs_only_itself(made: Made) -> None:
    model = open_model(made[1])
    with pytest.raises(ItemErrors, match="item 1: this text has no tokens") as caught:
        model.encode(["one", "", "two"])
    assert list(caught.value.failures) == [1]
    check_close(caught.value.partial.vectors, model.encode(["one", "two"]), "its neighbours")
    assert model.encode(["", "one"], prompt="about ").shape == (2, model.dim)


@pytest.mark.parametrize("include", [True, False])
def test_mean_where_the_folder_says_so(tmp_path: Path, include: bool) -> None:
    GPTS["gpt2"].make(tmp_path / "base")
    transformer = modules.Transformer(str(tmp_path / "base"))
    transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    pooling = modules.Pooling(transformer.get_embedding_dimension(), "mean", include_prompt=include)
    reference = SentenceTransformer(modules=[transformer, pooling], prompts={"query": "query: "})
    reference.save(str(tmp_path / "saved"))
    model = open_model(tmp_path / "saved")
    assert model.model.head.pooling == ("mean",)
    check_close(model.encode(FULL), reference.encode(FULL), "mean")
    expected = reference.encode(FULL, prompt_name="query")
    check_close(model.encode(FULL, prompt_name="query"), expected, f"behind a prompt, pooled: {include}")


def test_the_last_token_is_the_default(made: Made) -> None:
    model = open_model(made[1])
    assert model.model.head.pooling == ("lasttoken",)
    assert model.card["pooling_stated"] is False
    assert model.max_length == 96


@pytest.mark.parametrize("kind", ["openai-gpt", "gpt2", "gpt_neo"])
def test_a_language_model_as_published(tmp_path: Path, kind: str) -> None:
    plain, whole = tmp_path / "plain", tmp_path / "whole"
    model = GPTS[kind].make(plain)
    GPTS[kind].make(whole)
    # As of 2019: under "transformer.", with triangles and a head beside the weights.
    tensors = {
        f"transformer.{name}": tensor for name, tensor in load_file(plain / "model.safetensors").items()
    }
    inner = "attn.attention" if kind == "gpt_neo" else "attn"
    tensors[f"transformer.h.0.{inner}.bias"] = torch.ones(1, 1, 96, 96).tril()
    tensors[f"transformer.h.0.{inner}.masked_bias"] = torch.tensor(-1e4)
    tensors["lm_head.weight"] = torch.ones(model.config.vocab_size, 64)
    save_file(tensors, whole / "model.safetensors", {"format": "pt"})
    a, b = open_model(plain), open_model(whole)
    assert set(a.model.tensors) == set(b.model.tensors)
    assert a.model.identity == b.model.identity
    check_close(b.encode(FULL), a.encode(FULL), "the same model", 1e-6)


def test_others_read_what_is_saved(made: Made, tmp_path: Path) -> None:
    _, folder, model = made
    open_model(folder).save(tmp_path / "saved")
    batch = batch_of(model, [12, 5])
    read = AutoModel.from_pretrained(tmp_path / "saved", attn_implementation="eager").eval()
    for a, b in zip(expected_states(read, batch), expected_states(model, batch), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("act", ["gelu", "relu", "silu"])
@pytest.mark.parametrize("kind", ["openai-gpt", "gpt2"])
def test_activations(tmp_path: Path, kind: str, act: str) -> None:
    change: dict[str, Any] = {"afn" if kind == "openai-gpt" else "activation_function": act}
    model = GPTS[kind].make(tmp_path, **change)
    batch = batch_of(model, [12, 7])
    check_close(states(tmp_path, "openvino", batch)[-1], expected_states(model, batch)[-1], act)


def test_bfloat16_stays_near(made: Made, tmp_path: Path) -> None:
    GPTS[made[0]].make(tmp_path, gain=1.0)
    for engine in ENGINES:
        assert bfloat16_cosine(tmp_path, engine, FULL).min() > 0.999


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"activation_function": "mish"}, "mish"),
        ({"model_type": "openai-gpt", "afn": "mish"}, "mish"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"is_causal": False}, "is_causal"),
        ({"model_type": "gpt_neo", "attention_types": [[["global", "sparse"], 2]]}, "sparse"),
    ],
)
def test_refused_variants(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    GPTS["gpt2"].make(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UnsupportedModel, match=named):
        open_model(tmp_path)


def test_the_oldest_config_is_read(tmp_path: Path) -> None:
    model = GPTS["gpt2"].make(tmp_path)
    keep = ("model_type", "vocab_size", "n_embd", "n_layer", "n_head", "n_positions", "layer_norm_epsilon")
    path = tmp_path / "config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({key: said[key] for key in keep} | {"n_ctx": 96, "n_special": 0}))
    batch = batch_of(model, [12, 7])
    check_close(states(tmp_path, "openvino", batch)[-1], expected_states(model, batch)[-1], "defaults")
    assert transformers.GPT2Config().activation_function == read_model(tmp_path).config.activation_function
