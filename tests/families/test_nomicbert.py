"""Nomic's BERT against transformers; the published names and config, and those of transformers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, NomicBertConfig, NomicBertModel

import checkpoints
import encoders
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import nomicbert
from omnivec.models.model import read_model
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model
from omnivec.weights import same_weights

SHAPE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
# config.json of nomic-embed-text-v1.5, with another shape.
PUBLISHED = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "bos_token_id": None,
    "causal": False,
    "embd_pdrop": 0.0,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 64,
    "n_head": 4,
    "n_inner": 96,
    "n_layer": 3,
    "n_positions": 96,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "type_vocab_size": 2,
    "use_rms_norm": False,
}
NAMES = [
    *("emb_ln.bias", "emb_ln.weight"),
    *("embeddings.token_type_embeddings.weight", "embeddings.word_embeddings.weight"),
    *("encoder.layers.0.attn.Wqkv.weight", "encoder.layers.0.attn.out_proj.weight"),
    *(f"encoder.layers.0.mlp.{name}.weight" for name in ("fc11", "fc12", "fc2")),
    *(f"encoder.layers.0.{name}.{end}" for name in ("norm1", "norm2") for end in ("bias", "weight")),
]


def make(folder: Path, seed: int = 0, **changes: Any) -> NomicBertModel:
    """A checkpoint with its tokenizer in `folder`, and transformers' model of it."""
    folder.mkdir(parents=True, exist_ok=True)
    size = checkpoints.wordpiece(folder)
    settings = SHAPE | {"vocab_size": size, "max_position_embeddings": 96, "pad_token_id": 0} | changes
    config = NomicBertConfig(**settings, attn_implementation="eager")
    model = checkpoints.discriminate(NomicBertModel(config), seed)
    model.save_pretrained(folder)
    return model


def publish(folder: Path, **changes: Any) -> Path:
    """The folder with the published config.json instead of transformers'."""
    file = folder / "config.json"
    size = json.loads(file.read_text())["vocab_size"]
    file.write_text(json.dumps(PUBLISHED | {"vocab_size": size} | changes))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("nomicbert")
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


def exchanged(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    """The activation on fc11 and not on fc12."""
    right, seen = ops.silu, []
    linear = ops.linear

    def product(x: Any, part: Any) -> Any:
        y = linear(x, part)
        if y.shape[-1] == SHAPE["intermediate_size"]:
            seen.append(y)
            return right(y) if len(seen) % 2 == 0 else y
        return y

    ops.linear, ops.silu = product, lambda x: x
    return nomicbert.forward(ops, p, config, batch)


def turned(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    """BERT's usual base of rotary positions."""
    rope = {**config.rope_parameters, "rope_theta": 10_000.0}
    return nomicbert.forward(ops, p, dataclasses.replace(config, rope_parameters=rope), batch)


# Forwards with one mistake each, as they are made in practice.
WRONG = {
    "rotary base of 10000": turned,
    "no rotary positions": encoders.with_operation(nomicbert, "rotary", lambda right, x, cos, sin: x),
    "turned the other way": encoders.with_operation(
        nomicbert,
        "rotary",
        lambda right, x, cos, sin: right(x.flip(-1), cos.flip(-1), sin.flip(-1)).flip(-1),
    ),
    "gate and value exchanged": exchanged,
    "GELU for SiLU": encoders.changed(nomicbert, hidden_act="gelu"),
    "half the heads": encoders.changed(nomicbert, num_attention_heads=2),
    "epsilon of 1e-3": encoders.changed(nomicbert, layer_norm_eps=1e-3),
    "mask ignored": encoders.with_operation(
        nomicbert, "padding_bias", lambda right, mask: right(mask * 0 + 1)
    ),
    "scale left out": encoders.with_operation(
        nomicbert, "attention", lambda right, q, k, v, bias, scale, *rest: right(q, k, v, bias, 1.0, *rest)
    ),
    "a layer left out": encoders.changed(nomicbert, num_hidden_layers=2),
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(made: tuple[Path, Any], variant: str) -> None:
    folder, model = made
    batch = encoders.batch_of(model, [24, 9, 2])
    expected = encoders.expected_states(model, batch)[-1]
    check_rejected(encoders.states(folder, "torch", batch, WRONG[variant])[-1], expected, variant)


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
            layer.self_attn.q_proj.weight *= 0.5
            layer.self_attn.k_proj.weight *= 0.5
    model.save_pretrained(tmp_path)
    assert encoders.bfloat16_cosine(tmp_path, engine, list(TEXTS)).min() > 0.999


def test_the_published_form_is_the_same_model(made: tuple[Path, Any], tmp_path: Path) -> None:
    """The names of nomic-embed-text-v1.5, its config, and a checkpoint with the head of its pre-training."""
    folder, _ = made
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert set(NAMES) < set(file.keys())
    published = publish(shutil.copytree(folder, tmp_path / "published"))
    native, other = read_model(folder), read_model(published)
    assert native.config == other.config and native.identity == other.identity
    whole = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    whole["cls.predictions.decoder.weight"] = whole["bert.embeddings.word_embeddings.weight"].clone()
    save_file(whole, published / "model.safetensors", {"format": "pt"})
    assert same_weights(native.hashes, read_model(published).hashes)
    check_close(
        open_model(published).encode(list(TEXTS)), open_model(folder).encode(list(TEXTS)), "published"
    )


def test_biases_count_where_there_are_some(made: tuple[Path, Any], tmp_path: Path) -> None:
    """As in models of other makers on the same code: with zeros nothing changes, with others the vector does."""
    published = publish(
        shutil.copytree(made[0], tmp_path / "published"), qkv_proj_bias=True, mlp_fc1_bias=True
    )
    expected = open_model(made[0]).encode(list(TEXTS))
    weights = load_file(published / "model.safetensors")
    sizes = {"attn.Wqkv": 192, "attn.out_proj": 64, "mlp.fc11": 96, "mlp.fc12": 96, "mlp.fc2": 64}
    biases = {
        f"encoder.layers.{i}.{name}.bias": torch.zeros(n) for i in range(3) for name, n in sizes.items()
    }
    save_file(weights | biases, published / "model.safetensors", {"format": "pt"})
    check_close(open_model(published).encode(list(TEXTS)), expected, "biases of zero")
    for name in sizes:
        one = {f"encoder.layers.1.{name}.bias": torch.linspace(-1, 1, sizes[name])}
        save_file(weights | biases | one, published / "model.safetensors", {"format": "pt"})
        check_rejected(open_model(published).encode(list(TEXTS)), expected, f"bias of {name} left out")


def test_stretched_positions_end_where_training_did(made: tuple[Path, Any], tmp_path: Path) -> None:
    copy = shutil.copytree(made[0], tmp_path / "copy")
    assert open_model(publish(copy, rotary_scaling_factor=None, max_trained_positions=48)).max_length == 96
    model = open_model(publish(copy, rotary_scaling_factor=2, max_trained_positions=48))
    assert model.max_length == 48
    encoded = model.run(["one " * 200])
    assert encoded.seen[0] == 46 and encoded.lost[0] >= 200 - 46
    # Within that length, nothing is stretched.
    check_close(model.encode("one"), open_model(made[0]).encode("one"), "a short text")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prenorm": True}, "prenorm True"),
        ({"rotary_emb_interleaved": True}, "rotary_emb_interleaved True"),
        ({"rotary_emb_fraction": 0.5}, "rotary_emb_fraction 0.5"),
        ({"rotary_emb_scale_base": 512}, "rotary_emb_scale_base 512"),
        ({"activation_function": "gelu"}, "activation_function 'gelu'"),
        ({"num_experts": 8}, "num_experts 8"),
        ({"causal": True}, "causal True"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "longrope"),
    ],
)
def test_refused_variants(made: tuple[Path, Any], tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        read_model(publish(shutil.copytree(made[0], tmp_path / "copy"), **change))


def test_what_is_not_said_is_not_guessed(made: tuple[Path, Any], tmp_path: Path) -> None:
    copy = publish(shutil.copytree(made[0], tmp_path / "copy"))
    for key, error in (("rotary_emb_fraction", UnsupportedModel), ("rotary_emb_base", ModelError)):
        publish(copy)
        said = json.loads((copy / "config.json").read_text())
        del said[key]
        (copy / "config.json").write_text(json.dumps(said))
        with pytest.raises(error, match=key):
            read_model(copy)
