"""ModernBERT against transformers: local and global attention, two rotary bases, gates, biases or none."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, ModernBertConfig, ModernBertForMaskedLM, ModernBertModel

import checkpoints
import encoders
from omnivec.errors import UnsupportedModel
from omnivec.families import modernbert
from omnivec.models.model import read_model
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model
from omnivec.weights import same_weights

SHAPE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
PLAIN: dict[str, Any] = {"local_attention": 8, "max_position_embeddings": 96}
BIASED = PLAIN | {"norm_bias": True, "mlp_bias": True, "attention_bias": True, "local_attention": 7}
BIASED |= {
    "hidden_activation": "silu",
    "layer_types": [modernbert._LOCAL, modernbert._GLOBAL, modernbert._LOCAL],
}
IDS = {"pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}


def make(folder: Path, seed: int = 0, **changes: Any) -> ModernBertModel:
    """A checkpoint with its tokenizer in `folder`, and transformers' model of it."""
    folder.mkdir(parents=True, exist_ok=True)
    size = checkpoints.wordpiece(folder)
    config = ModernBertConfig(vocab_size=size, **(SHAPE | IDS | PLAIN | changes), attn_implementation="eager")
    model = checkpoints.discriminate(ModernBertModel(config), seed)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module", params=["plain", "biased"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("modernbert")
    return folder, make(folder, **(BIASED if request.param == "biased" else {}))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("plain")
    return folder, make(folder)


@settings(max_examples=10, deadline=None)
@given(lengths=encoders.LENGTHS, padding=st.integers(0, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("engine", encoders.ENGINES)
def test_every_hidden_state_equals_transformers(
    made: tuple[Path, Any], engine: str, lengths: list[int], padding: int, seed: int
) -> None:
    folder, model = made
    batch = encoders.batch_of(model, lengths, padding, seed)
    expected, got = encoders.expected_states(model, batch), encoders.states(folder, engine, batch)
    assert len(got) == len(expected) == model.config.num_hidden_layers + 1
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        check_close(a, b, f"{engine}, hidden state {i}")


def turned(changes: Mapping[str, float]) -> encoders.Forward:
    """The forward with other bases of the rotary positions."""

    def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
        rope = {
            kind: {**table, "rope_theta": changes.get(kind, table["rope_theta"])}
            for kind, table in config.rope_parameters.items()
        }
        return modernbert.forward(ops, p, dataclasses.replace(config, rope_parameters=rope), batch)

    return forward


class Without:
    """Weights that lack a part, in this part of them or in any below."""

    def __init__(self, p: Any, lacking: str) -> None:
        self.p, self.lacking = p, lacking

    def __getitem__(self, name: str) -> Any:
        found = self.p[name]
        return Without(found, self.lacking) if type(found) is type(self.p) else found

    def __contains__(self, name: str) -> bool:
        return name != self.lacking and name in self.p


def last_first(right: Any, x: Any, p: Any) -> Any:
    """A product whose halves are exchanged where it is the gated one."""
    y = right(x, p)
    if y.shape[-1] != 2 * SHAPE["intermediate_size"]:
        return y
    half = SHAPE["intermediate_size"]
    return torch.cat([y[..., half:], y[..., :half]], -1)


# Forwards with one mistake each, as they are made in practice.
WRONG = {
    "the window a place too wide": encoders.changed(modernbert, local_attention=10),
    "the window a place too narrow": encoders.changed(modernbert, local_attention=5),
    "attention global everywhere": encoders.changed(modernbert, layer_types=(modernbert._GLOBAL,) * 3),
    "local and global exchanged": encoders.changed(
        modernbert, layer_types=(modernbert._LOCAL, modernbert._GLOBAL, modernbert._LOCAL)
    ),
    "one rotary base for both": turned({modernbert._LOCAL: 160_000.0}),
    "no rotary positions": encoders.with_operation(modernbert, "rotary", lambda right, x, cos, sin: x),
    "neighbours as rotary pairs": encoders.with_operation(
        modernbert, "rotary", lambda right, x, cos, sin: right(x, cos, -sin)
    ),
    "tanh for erf GELU": encoders.changed(modernbert, hidden_activation="gelu_new"),
    "gate and value exchanged": encoders.with_operation(modernbert, "linear", last_first),
    "epsilon of 1e-3": encoders.changed(modernbert, norm_eps=1e-3),
    "mask ignored": encoders.with_operation(
        modernbert, "padding_bias", lambda right, mask: right(mask * 0 + 1)
    ),
    "scale left out": encoders.with_operation(
        modernbert, "attention", lambda right, q, k, v, bias, scale, *rest: right(q, k, v, bias, 1.0, *rest)
    ),
    "later layers without their first norm": lambda ops, p, config, batch: modernbert.forward(
        ops, Without(p, "attn_norm"), config, batch
    ),
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(plain: tuple[Path, Any], variant: str) -> None:
    folder, model = plain
    batch = encoders.batch_of(model, [24, 9, 1])
    expected = encoders.expected_states(model, batch)[-1]
    got = encoders.states(folder, "torch", batch, WRONG[variant])[-1]
    check_rejected(got, expected, variant)


def test_contract(made: tuple[Path, Any]) -> None:
    check_family(made[0])


def test_text_to_vector_equals_transformers(made: tuple[Path, Any]) -> None:
    folder, model = made
    expected = encoders.mean_pooled(model, AutoTokenizer.from_pretrained(folder), list(TEXTS), 96)
    check_close(open_model(folder).encode(list(TEXTS)), expected, "mean over tokens")


@pytest.mark.parametrize("engine", encoders.ENGINES)
def test_bfloat16_stays_near(tmp_path: Path, engine: str) -> None:
    """With weights of a trained model's size: those of the other tests make attention jump at every rounding."""
    model = make(tmp_path)
    with torch.no_grad():
        for layer in model.layers:
            layer.attn.Wqkv.weight *= 0.5
    model.save_pretrained(tmp_path)
    assert encoders.bfloat16_cosine(tmp_path, engine, list(TEXTS)).min() > 0.999


def test_published_forms_are_one_model(tmp_path: Path) -> None:
    """The config of 2024 and the one of transformers 5, the plain model and the one with its head."""
    model = make(tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    whole = ModernBertForMaskedLM(model.config)
    whole.model.load_state_dict(model.state_dict())
    whole.save_pretrained(tmp_path / "old")
    file = tmp_path / "old" / "config.json"
    said = json.loads(file.read_text())
    del said["layer_types"], said["rope_parameters"]
    said |= {"global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    file.write_text(json.dumps(said))
    new, old = read_model(tmp_path / "new"), read_model(tmp_path / "old")
    assert new.config == old.config and same_weights(new.hashes, old.hashes)
    assert {**new.identity, "weights": 0} == {**old.identity, "weights": 0}
    vectors = open_model(tmp_path / "new").encode(list(TEXTS))
    check_close(open_model(tmp_path / "old").encode(list(TEXTS)), vectors, "the older form")


def test_long_texts_see_their_window_only(tmp_path: Path) -> None:
    """One local layer: what lies beyond half a window changes nothing."""
    model = make(tmp_path, num_hidden_layers=2, layer_types=[modernbert._LOCAL] * 2)
    batch = encoders.batch_of(model, [90])
    other = {**batch, "ids": batch["ids"].copy()}
    other["ids"][0, 60:] = 7
    a, b = (encoders.states(tmp_path, "openvino", one) for one in (batch, other))
    np.testing.assert_array_equal(a[1][:56], b[1][:56])
    assert np.abs(a[1][56:60] - b[1][56:60]).max(axis=1).min() > 1e-3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_activation": "mish"}, "mish"),
        ({"layer_types": ["chunked_attention"]}, "chunked_attention"),
        ({"rope_scaling": {"type": "longrope"}}, "longrope"),
    ],
)
def test_refused_variants(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    make(tmp_path)
    file = tmp_path / "config.json"
    said = json.loads(file.read_text())
    del said["rope_parameters"]
    file.write_text(json.dumps(said | change))
    with pytest.raises(UnsupportedModel, match=named):
        read_model(tmp_path)
