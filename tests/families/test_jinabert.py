"""Jina's BERT against the formulas of its papers in plain torch; claimed by what config.json says beside "bert"."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer

import checkpoints
import encoders
from omnivec.errors import UnsupportedModel
from omnivec.families import jinabert
from omnivec.models import registry
from omnivec.models.model import read_model
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model

SHAPE = {"hidden_size": 60, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 96}
CONFIG = {
    "_name_or_path": "jinaai/jina-bert-implementation",
    "architectures": ["JinaBertForMaskedLM"],
    "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"},
    "attention_probs_dropout_prob": 0.0,
    "emb_pooler": "mean",
    "feed_forward_type": "geglu",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 96,
    "model_type": "bert",
    "pad_token_id": 0,
    "position_embedding_type": "alibi",
    "type_vocab_size": 2,
    **SHAPE,
}
# The published forms: English, Chinese and German; code; a German BERT that was given linear biases.
FORMS = {
    "gated": {},
    "code": {},
    "relu": {"feed_forward_type": "reglu"},
    "ungated": {"feed_forward_type": "original"},
}
Weights = dict[str, torch.Tensor]


def names(form: str, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a published checkpoint and their shapes."""
    width, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    found: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (vocabulary, width)}
    found |= {"embeddings.token_type_embeddings.weight": (2, width)} | norm("embeddings.LayerNorm")
    for i in range(SHAPE["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            found |= linear(f"{layer}.{part}", width, width)
        found |= linear(f"{layer}.attention.output.dense", width, width)
        found |= norm(f"{layer}.attention.output.LayerNorm")
        if form == "code":
            found |= norm(f"{layer}.attention.self.layer_norm_q") | norm(
                f"{layer}.attention.self.layer_norm_k"
            )
            found |= norm(f"{layer}.layer_norm_1") | norm(f"{layer}.layer_norm_2")
            found |= {f"{layer}.mlp.up_gated_layer.weight": (2 * inner, width)}
            found |= linear(f"{layer}.mlp.down_layer", width, inner)
        elif form == "ungated":
            found |= linear(f"{layer}.intermediate.dense", inner, width) | norm(f"{layer}.output.LayerNorm")
            found |= linear(f"{layer}.output.dense", width, inner)
        else:
            found |= {f"{layer}.mlp.gated_layers.weight": (2 * inner, width)}
            found |= linear(f"{layer}.mlp.wo", width, inner) | norm(f"{layer}.mlp.layernorm")
    return found | linear("pooler.dense", width, width)


def linear(name: str, out: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{end}": (SHAPE["hidden_size"],) for end in ("weight", "bias")}


def make(folder: Path, form: str = "gated", seed: int = 0, logits: float = 1.0) -> Weights:
    """A checkpoint in `folder`; `logits` is a factor on queries and keys."""
    folder.mkdir(parents=True, exist_ok=True)
    size = checkpoints.wordpiece(folder)
    config = CONFIG | FORMS[form] | {"vocab_size": size}
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in names(form, size).items():
        noise = torch.randn(shape, generator=generator)
        if "norm" in name.lower():
            weights[name] = 1 + 0.3 * noise if name.endswith("weight") else 0.3 * noise
        elif len(shape) == 1:
            weights[name] = 0.3 * noise
        else:
            weights[name] = noise if "embeddings" in name else noise * 2 / shape[-1] ** 0.5
        if "query" in name or "key" in name:
            weights[name] *= logits
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return weights


def statement(weights: Weights, form: str, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """All hidden states, row by row over the real tokens, in float64, as the papers write it.

    Press et al. 2021, section 3 (slopes; both sides: Günther et al. 2023, section 3.1); Shazeer 2020, equation 5.
    """
    p = {name: tensor.double() for name, tensor in weights.items()}
    rows = [row(p, form, one[keep.bool()]) for one, keep in zip(ids, mask, strict=True)]
    return [torch.cat(parts) for parts in zip(*rows, strict=True)]


def row(p: Weights, form: str, ids: torch.Tensor) -> list[torch.Tensor]:
    heads = SHAPE["num_attention_heads"]
    x = p["embeddings.word_embeddings.weight"][ids] + p["embeddings.token_type_embeddings.weight"][0]
    states = [x := normal(p, "embeddings.LayerNorm", x)]
    # Six heads: the four slopes of four heads, then the first and the third of eight.
    slopes = [2.0 ** -(8 * k / 4) for k in (1, 2, 3, 4)] + [2.0 ** -(8 * k / 8) for k in (1, 3)]
    for i in range(SHAPE["num_hidden_layers"]):
        here = f"encoder.layer.{i}."
        q, k, v = (affine(p, f"{here}attention.self.{name}", x) for name in ("query", "key", "value"))
        if form == "code":
            q = normal(p, f"{here}attention.self.layer_norm_q", q)
            k = normal(p, f"{here}attention.self.layer_norm_k", k)
        seen = []
        for head, (a, b, c) in enumerate(zip(*(part.chunk(heads, -1) for part in (q, k, v)), strict=True)):
            score = torch.empty(len(ids), len(ids), dtype=torch.float64)
            for m in range(len(ids)):
                for n in range(len(ids)):
                    score[m, n] = a[m] @ b[n] / math.sqrt(a.shape[1]) - slopes[head] * abs(m - n)
            seen.append(score.softmax(-1) @ c)
        y = affine(p, f"{here}attention.output.dense", torch.cat(seen, -1))
        y = normal(p, f"{here}attention.output.LayerNorm", x + y)
        x = normal(p, f"{here}layer_norm_1", x + y) if form == "code" else y
        states.append(x := behind(p, here, form, x))
    return states


def behind(p: Weights, here: str, form: str, x: torch.Tensor) -> torch.Tensor:
    """The feed-forward network, its residual and its norm."""
    if form == "ungated":
        y = torch.nn.functional.gelu(affine(p, f"{here}intermediate.dense", x))
        return normal(p, f"{here}output.LayerNorm", x + affine(p, f"{here}output.dense", y))
    if form == "code":
        up, gate = (x @ p[f"{here}mlp.up_gated_layer.weight"].T).chunk(2, -1)
        y = affine(p, f"{here}mlp.down_layer", up * torch.nn.functional.gelu(gate))
        return normal(p, f"{here}layer_norm_2", x + y)
    gate, up = (x @ p[f"{here}mlp.gated_layers.weight"].T).chunk(2, -1)
    act = torch.relu if form == "relu" else torch.nn.functional.gelu
    return normal(p, f"{here}mlp.layernorm", x + affine(p, f"{here}mlp.wo", act(gate) * up))


def affine(p: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def normal(p: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    variance = x.var(-1, keepdim=True, unbiased=False)
    return (x - x.mean(-1, keepdim=True)) / (variance + 1e-12).sqrt() * p[f"{name}.weight"] + p[
        f"{name}.bias"
    ]


def expected_states(weights: Weights, form: str, batch: encoders.Batch) -> list[np.ndarray]:
    ids, mask = (torch.from_numpy(batch[name]).long() for name in ("ids", "mask"))
    return [state.numpy().astype(np.float32) for state in statement(weights, form, ids, mask)]


def batch_of(weights: Weights, lengths: list[int], padding: int = 0, seed: int = 0) -> encoders.Batch:
    size = len(weights["embeddings.word_embeddings.weight"])
    config = SimpleNamespace(vocab_size=size, pad_token_id=0)
    return encoders.batch_of(SimpleNamespace(config=config), lengths, padding, seed)


@pytest.fixture(scope="module", params=FORMS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, Weights]:
    folder = tmp_path_factory.mktemp("jinabert")
    return folder, request.param, make(folder, request.param)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    padding=st.integers(0, 9),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("engine", encoders.ENGINES)
def test_every_hidden_state_equals_the_papers(
    made: tuple[Path, str, Weights], engine: str, lengths: list[int], padding: int, seed: int
) -> None:
    folder, form, weights = made
    batch = batch_of(weights, lengths, padding, seed)
    expected, got = expected_states(weights, form, batch), encoders.states(folder, engine, batch)
    assert len(got) == len(expected) == SHAPE["num_hidden_layers"] + 1
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        check_close(a, b, f"{engine}, hidden state {i}")


def sloped(change: Any) -> encoders.Forward:
    """The forward with other slopes."""
    return encoders.with_operation(
        jinabert,
        "alibi_attention",
        lambda right, q, k, v, bias, slopes, *rest: right(q, k, v, bias, change(slopes), *rest),
    )


def one_sided(right: Any, q: Any, k: Any, v: Any, bias: Any, slopes: Any, *rest: Any) -> Any:
    """ALiBi as of decoders: what comes later is not held further away."""
    ahead = torch.arange(bias.shape[-1])[None, :] > torch.arange(bias.shape[-2])[:, None]
    return right(q, k, v, torch.where(ahead & (bias > -1e3), 0.0, bias), slopes, *rest)


# Forwards with one mistake each, as they are made in practice.
WRONG = {
    "slopes as of eight heads": sloped(lambda slopes: np.exp2(-8 * np.arange(1, 7) / 6).astype(np.float32)),
    "the odd slopes first": sloped(lambda slopes: np.sort(slopes)[::-1].copy()),
    "one slope for all": sloped(lambda slopes: np.full_like(slopes, slopes.mean())),
    "no biases": sloped(lambda slopes: slopes * 1e-6),
    "one side only": encoders.with_operation(jinabert, "alibi_attention", one_sided),
    "slope also on the scores": encoders.with_operation(
        jinabert,
        "alibi_attention",
        lambda right, q, k, v, bias, slopes, *rest: right(
            q * torch.from_numpy(slopes)[:, None, None], k, v, bias, slopes, *rest
        ),
    ),
    "tanh for erf GELU": encoders.with_operation(jinabert, "gelu", lambda right, x: right(x, "tanh")),
    "ReLU for GELU": encoders.changed(jinabert, feed_forward_type="reglu"),
    "mask ignored": encoders.with_operation(
        jinabert, "padding_bias", lambda right, mask: right(mask * 0 + 1)
    ),
    "epsilon of 1e-3": encoders.changed(jinabert, layer_norm_eps=1e-3),
    "half the heads": encoders.changed(jinabert, num_attention_heads=3),
}


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    folder = tmp_path_factory.mktemp("gated")
    return folder, make(folder)


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(gated: tuple[Path, Weights], variant: str) -> None:
    folder, weights = gated
    batch = batch_of(weights, [24, 9, 1])
    expected = expected_states(weights, "gated", batch)[-1]
    check_rejected(encoders.states(folder, "torch", batch, WRONG[variant])[-1], expected, variant)


def test_the_gate_is_where_its_form_has_it(tmp_path: Path) -> None:
    """The code model's fused matrix has the gate last, the others' first: each in the other's place is wrong."""
    for form, name in (("gated", "gated_layers"), ("code", "up_gated_layer")):
        weights = make(tmp_path / form, form)
        batch = batch_of(weights, [12])
        for key in [key for key in weights if name in key]:
            weights[key] = weights[key].roll(SHAPE["intermediate_size"], 0)
        got = encoders.states(tmp_path / form, "torch", batch)[-1]
        check_rejected(got, expected_states(weights, form, batch)[-1], f"{form}: halves exchanged")


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (8, [2.0**-k for k in range(1, 9)]),  # the paper's own example
        (4, [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]),
        (12, [2.0**-k for k in range(1, 9)] + [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]),
    ],
)
def test_slopes(heads: int, expected: list[float]) -> None:
    np.testing.assert_allclose(jinabert._slopes(heads), expected, rtol=1e-6)


def test_contract(made: tuple[Path, str, Weights]) -> None:
    check_family(made[0])


def test_text_to_vector_equals_the_papers(made: tuple[Path, str, Weights]) -> None:
    folder, form, weights = made
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS[:4]:
        ids = torch.tensor([tokenizer.encode(text).ids])
        expected = statement(weights, form, ids, torch.ones_like(ids))[-1].mean(0).numpy().astype(np.float32)
        check_close(open_model(folder).encode(text), expected, text)


@pytest.mark.parametrize("engine", encoders.ENGINES)
def test_bfloat16_stays_near(tmp_path: Path, engine: str) -> None:
    make(tmp_path, logits=0.5)
    assert encoders.bfloat16_cosine(tmp_path, engine, list(TEXTS)).min() > 0.999


def test_claims_say_more_than_the_model_type(tmp_path: Path) -> None:
    plain = {"model_type": "bert"}
    assert registry.family_of_config(plain, tmp_path).name == "bert"
    assert registry.family_of_config(plain | {"position_embedding_type": "absolute"}, tmp_path).name == "bert"
    assert (
        registry.family_of_config(plain | {"position_embedding_type": "alibi"}, tmp_path).name == "jinabert"
    )
    assert registry.family_of_config({"model_type": "jina_bert"}, tmp_path).name == "jinabert"
    other = {"model_type": "roberta-x", "position_embedding_type": "alibi"}
    assert registry.family_of_config(other, tmp_path).name == "transformers"


def test_remote_code_is_never_run(tmp_path: Path) -> None:
    make(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_bert.JinaBertModel"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling_bert.py").write_text("raise SystemExit('run')")
    assert open_model(tmp_path).dim == SHAPE["hidden_size"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"feed_forward_type": "swiglu"}, "swiglu"),
        ({"model_type": "jina_bert", "position_embedding_type": "absolute"}, "absolute"),
        ({"hidden_act": "mish"}, "mish"),
        ({"is_decoder": True}, "decoder"),
    ],
)
def test_refused_variants(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    make(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UnsupportedModel, match=named):
        read_model(tmp_path)
