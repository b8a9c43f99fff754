"""T5, mT5 and UMT5 against transformers, every hidden state, both engines; wrong formulas are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoTokenizer

from encoders import (
    ENGINES,
    LENGTHS,
    T5_KINDS,
    batch_of,
    bfloat16_cosine,
    changed,
    expected_states,
    mean_pooled,
    states,
    with_operation,
)
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families import t5
from omnivec.models.model import known_keys, read_model
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model
from omnivec.training.trainable import Trainable

LISTED = list(TEXTS)


@pytest.fixture(scope="module", params=T5_KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("t5")
    return folder, T5_KINDS[request.param].make(folder)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("gated")
    return folder, T5_KINDS["t5, gated"].make(folder)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(lengths=LENGTHS, padding=st.integers(0, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("engine", ENGINES)
def test_every_hidden_state_equals_transformers(
    made: tuple[Path, Any], engine: str, lengths: list[int], padding: int, seed: int
) -> None:
    folder, model = made
    batch = batch_of(model, lengths, padding, seed)
    got, expected = states(folder, engine, batch), expected_states(model, batch)
    assert len(got) == len(expected) == model.config.num_layers + 1
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        check_close(a, b, f"{engine}, hidden state {i}")


@pytest.mark.parametrize("engine", ENGINES)
def test_lengths_beyond_every_bucket_stay_exact(made: tuple[Path, Any], engine: str) -> None:
    folder, model = made
    batch = batch_of(model, [700, 333])
    check_close(states(folder, engine, batch)[-1], expected_states(model, batch)[-1], "700 tokens")


WRONG = {
    "attention scaled": with_operation(
        t5, "attention", lambda right, q, k, v, bias, scale, *rest: right(q, k, v, bias, 12**-0.5, *rest)
    ),
    "mask ignored": with_operation(t5, "padding_bias", lambda right, mask: right(mask) * 0.0),
    "mean taken out in the norms": with_operation(
        t5, "rms_norm", lambda right, x, w, eps: right(x - x.mean(-1, keepdim=True), w, eps)
    ),
    "epsilon of 1e-3": changed(t5, layer_norm_epsilon=1e-3),
    "exact for tanh GELU": with_operation(t5, "gelu", lambda right, x, kind: right(x)),
    "gate left out": changed(t5, feed_forward_proj="gated-relu"),
    "buckets up to 64": changed(t5, relative_attention_max_distance=64),
    "16 buckets": changed(t5, relative_attention_num_buckets=16),
    "distances turned round": with_operation(
        t5, "transpose", lambda right, x, order: right(x, (2, 1, 0) if order == (2, 0, 1) else order)
    ),
    "a block left out": changed(t5, num_layers=2),
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(gated: tuple[Path, Any], variant: str) -> None:
    folder, model = gated
    batch = batch_of(model, [90, 24, 1])
    expected = expected_states(model, batch)[-1]
    check_close(states(folder, "torch", batch)[-1], expected, "the right one")
    check_rejected(states(folder, "torch", batch, WRONG[variant])[-1], expected, variant)


def test_each_block_of_umt5_has_distances_of_its_own(tmp_path: Path) -> None:
    model = T5_KINDS["umt5"].make(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    for later in (1, 2):
        held[f"encoder.block.{later}.{t5._TABLE}"] = held[f"encoder.block.0.{t5._TABLE}"].copy()
    save_file(held, tmp_path / "model.safetensors")
    batch = batch_of(model, [30, 9])
    got, expected = states(tmp_path, "torch", batch), expected_states(model, batch)
    check_close(got[1], expected[1], "behind the first block")
    check_rejected(got[-1], expected[-1], "the first block's table for all")
    del held[f"encoder.block.2.{t5._TABLE}"]
    save_file(held, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="relative_attention_bias"):
        open_model(tmp_path).encode("x")


@pytest.mark.parametrize("kind", ["t5", "umt5"])
def test_contract(tmp_path: Path, kind: str) -> None:
    T5_KINDS[kind].make(tmp_path)
    check_family(tmp_path)


def test_text_to_vector_equals_transformers(made: tuple[Path, Any]) -> None:
    folder, model = made
    embedder = open_model(folder)
    expected = mean_pooled(model, AutoTokenizer.from_pretrained(folder), LISTED, int(embedder.max_length))
    check_close(embedder.encode(LISTED), expected, "mean over tokens")


def test_the_end_of_the_text_is_its_last_token(made: tuple[Path, Any]) -> None:
    prepared = read_model(made[0]).texts.rows(["the engine", ""])
    assert [row.arrays["ids"][-1] for row in prepared] == [1, 1]
    assert len(prepared[1].arrays["ids"]) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sentence_transformers_folder(tmp_path: Path, engine: str) -> None:
    T5_KINDS["t5"].make(tmp_path / "base")
    transformer = modules.Transformer(str(tmp_path / "base"))
    torch.manual_seed(0)
    dense = modules.Dense(64, 20, bias=False, activation_function=torch.nn.Identity())
    tail = [modules.Pooling(64, pooling_mode="mean"), dense, modules.Normalize()]
    reference = SentenceTransformer(modules=[transformer, *tail]).requires_grad_(False)
    reference.save(str(tmp_path / "saved"))
    model = open_model(tmp_path / "saved", engine)
    check_close(model.encode(LISTED), reference.encode(LISTED), "Dense and Normalize")
    again = SentenceTransformer(str(model.save(tmp_path / "again"))).requires_grad_(False)
    check_close(again.encode(LISTED), reference.encode(LISTED), "saved and read by sentence-transformers")


def test_limits_are_the_folders(tmp_path: Path) -> None:
    T5_KINDS["t5"].make(tmp_path)
    assert open_model(tmp_path).max_length == 512
    tokenizer = tmp_path / "tokenizer_config.json"
    tokenizer.write_text(json.dumps({**json.loads(tokenizer.read_text()), "model_max_length": 64}))
    assert open_model(tmp_path).max_length == 64
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 2048}')
    model = open_model(tmp_path)
    assert model.max_length == 2048
    assert model.run(["the " * 3000, "the"]).lost.tolist() == [3001 - 2048, 0]


def test_a_whole_model_gives_its_encoders_vectors(tmp_path: Path) -> None:
    encoder = T5_KINDS["t5"].make(tmp_path / "encoder")
    whole = transformers.T5ForConditionalGeneration(encoder.config)
    whole.encoder.load_state_dict(encoder.encoder.state_dict())
    whole.shared.load_state_dict(encoder.shared.state_dict())
    T5_KINDS["t5"].tokenizer(tmp_path)
    whole.save_pretrained(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("decoder.") for name in held)
    # Checkpoints of 2020 hold the table a second time.
    held["encoder.embed_tokens.weight"] = held["shared.weight"].copy()
    save_file(held, tmp_path / "model.safetensors")
    assert set(read_model(tmp_path).tensors) == set(read_model(tmp_path / "encoder").tensors)
    expected = open_model(tmp_path / "encoder").encode(LISTED)
    check_close(open_model(tmp_path).encode(LISTED), expected, "the encoder of a whole model")


def test_a_config_of_2020_is_read(tmp_path: Path) -> None:
    model = T5_KINDS["t5"].make(tmp_path)
    path = tmp_path / "config.json"
    later = ("feed_forward_proj", "dense_act_fn", "is_gated_act", "relative_attention_max_distance")
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in later}))
    batch = batch_of(model, [20, 7])
    check_close(states(tmp_path, "openvino", batch)[-1], expected_states(model, batch)[-1], "relu")
    assert t5.Config("umt5", 1, 1, 1, 1, 1, 1).network == "gated-gelu"


@pytest.mark.parametrize("kind", ["relu", "gelu", "gated-relu", "gated-silu"])
def test_feed_forwards(tmp_path: Path, kind: str) -> None:
    model = T5_KINDS["t5"].make(tmp_path, feed_forward_proj=kind)
    batch = batch_of(model, [20, 7])
    for engine in ENGINES:
        check_close(states(tmp_path, engine, batch)[-1], expected_states(model, batch)[-1], kind)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(made: tuple[Path, Any], engine: str) -> None:
    assert bfloat16_cosine(made[0], engine, LISTED).min() > 0.999


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_beyond_float16_is_finite_and_near(tmp_path: Path, engine: str) -> None:
    model = T5_KINDS["t5"].make(tmp_path)
    with torch.no_grad():
        for block in model.encoder.block:
            block.layer[1].DenseReluDense.wo.weight *= 30_000
    model.save_pretrained(tmp_path)
    batch = batch_of(model, [40, 9])
    expected = expected_states(model, batch)
    assert np.abs(expected[-2]).max() > np.finfo(np.float16).max
    for a, b in zip(states(tmp_path, engine, batch), expected, strict=True):
        check_close(a, b, "float32")
    assert bfloat16_cosine(tmp_path, engine, LISTED).min() > 0.999


def test_the_table_of_distances_learns_as_under_transformers(tmp_path: Path) -> None:
    model = T5_KINDS["t5"].make(tmp_path)
    trainable = Trainable(read_model(tmp_path))
    trainable.vectors(LISTED, training=False).square().sum().backward()
    batch = AutoTokenizer.from_pretrained(tmp_path)(LISTED, padding=True, return_tensors="pt")
    mask = batch["attention_mask"][:, :, None]
    hidden = model(**batch).last_hidden_state
    ((hidden * mask).sum(1) / mask.sum(1)).square().sum().backward()
    expected = {name: value.grad for name, value in model.named_parameters()}
    assert set(expected) == set(trainable.weights)
    for name, gradient in expected.items():
        check_close(trainable.weights[name].grad.numpy(), gradient.numpy(), f"gradient of {name}")
    assert expected["encoder.block.0." + t5._TABLE].abs().max() > 0


def test_refused_variants() -> None:
    for change in (
        {"feed_forward_proj": "gated-mish"},
        {"is_decoder": True},
        {"dense_act_fn": "silu"},
        {"is_gated_act": True},
        {"is_gated_act": False, "model_type": "umt5"},
    ):
        with pytest.raises(UnsupportedModel, match=next(iter(change))):
            known_keys(t5, change, Path("folder"))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    T5_KINDS["t5"].make(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    del held["encoder.block.0." + t5._TABLE]
    save_file(held, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="relative_attention_bias"):
        open_model(tmp_path).encode("x")
