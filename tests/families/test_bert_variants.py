"""The kin of BERT against transformers, every hidden state, both engines; wrong formulas are told apart.

XLM-RoBERTa, CamemBERT and ELECTRA are the family `bert`; DistilBERT, MPNet and ALBERT have files of their own.
"""

from __future__ import annotations

import copy
import shutil
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
    KINDS,
    LENGTHS,
    Forward,
    batch_of,
    bfloat16_cosine,
    changed,
    cosines,
    expected_states,
    mean_pooled,
    states,
    with_operation,
)
from omnivec.errors import UnsupportedModel
from omnivec.families import albert, bert, distilbert, mpnet
from omnivec.models.model import known_keys, read_model
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model

LISTED = list(TEXTS)
PLAIN = [kind for kind in KINDS if "," not in kind]


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("variant")
    return folder, KINDS[request.param].make(folder)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(lengths=LENGTHS, padding=st.integers(0, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("engine", ENGINES)
def test_every_hidden_state_equals_transformers(
    made: tuple[Path, Any], engine: str, lengths: list[int], padding: int, seed: int
) -> None:
    folder, model = made
    batch = batch_of(model, lengths, padding, seed)
    got, expected = states(folder, engine, batch), expected_states(model, batch)
    assert len(got) == len(expected) > 3
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        check_close(a, b, f"{engine}, hidden state {i}")


def shared_mistakes(family: Any) -> dict[str, Forward]:
    """What can go wrong in all of them."""
    return {
        "the other GELU": with_operation(
            family, "gelu", lambda right, x, kind="none": right(x, "tanh" if kind == "none" else "none")
        ),
        "epsilon of 1e-3": with_operation(family, "layer_norm", lambda right, x, p, eps: right(x, p, 1e-3)),
        "scale left out": with_operation(
            family, "attention", lambda right, q, k, v, bias, scale, *rest: right(q, k, v, bias, 1.0, *rest)
        ),
        "mask ignored": with_operation(family, "padding_bias", lambda right, mask: right(mask) * 0.0),
        "one head fewer to the eye": with_operation(
            family,
            "attention",
            lambda right, q, k, v, *rest: right(q, k, torch.cat([v[:, 1:], v[:, :1]], 1), *rest),
        ),
    }


LATER = {"positions one later": lambda right, x, axis: right(x, axis) + 1}
FAMILIES = {
    "xlm-roberta": bert,
    "camembert": bert,
    "electra": bert,
    "distilbert": distilbert,
    "mpnet": mpnet,
    "albert": albert,
}
ROBERTAS_MISTAKES = {
    "positions of BERT": changed(bert, model_type="bert"),
    "positions behind another padding": changed(bert, pad_token_id=0),
    "a layer left out": changed(bert, num_hidden_layers=2),
}
OWN_MISTAKES: dict[str, dict[str, Forward]] = {
    "xlm-roberta": ROBERTAS_MISTAKES,
    "camembert": ROBERTAS_MISTAKES,
    "electra": {
        "positions of RoBERTa": changed(bert, model_type="roberta", pad_token_id=1),
        "projection's bias left out": with_operation(
            bert, "linear", lambda right, x, p: right(x, p) - (p["bias"] if x.shape[-1] == 24 else 0.0)
        ),
        "a layer left out": changed(bert, num_hidden_layers=2),
    },
    "distilbert": {
        "positions one later": with_operation(distilbert, "arange", LATER["positions one later"]),
        "relu for GELU": changed(distilbert, activation="relu"),
        "a layer left out": changed(distilbert, n_layers=2),
    },
    "mpnet": {
        "absolute positions one later": with_operation(
            mpnet, "cumsum", lambda right, x, axis: right(x, axis) + 1.0
        ),
        "distances left out": with_operation(
            mpnet,
            "transpose",
            lambda right, x, order: right(x, order) * (0.0 if order == (2, 0, 1) else 1.0),
        ),
        "distances turned round": with_operation(
            mpnet, "transpose", lambda right, x, order: right(x, (2, 1, 0) if order == (2, 0, 1) else order)
        ),
        "a layer left out": changed(mpnet, num_hidden_layers=2),
    },
    "albert": {
        "positions one later": with_operation(albert, "arange", LATER["positions one later"]),
        "relu for GELU": changed(albert, hidden_act="relu"),
        "a layer left out": changed(albert, num_hidden_layers=2),
    },
}
MISTAKES = [
    (kind, name) for kind in FAMILIES for name in {**shared_mistakes(FAMILIES[kind]), **OWN_MISTAKES[kind]}
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    folder = tmp_path_factory.mktemp("kept")
    return {kind: (folder / kind, KINDS[kind].make(folder / kind)) for kind in FAMILIES}


@pytest.mark.parametrize(("kind", "variant"), MISTAKES)
def test_wrong_variants_are_told_apart(kept: dict[str, tuple[Path, Any]], kind: str, variant: str) -> None:
    folder, model = kept[kind]
    forward = {**shared_mistakes(FAMILIES[kind]), **OWN_MISTAKES[kind]}[variant]
    batch = batch_of(model, [90, 24, 1])
    expected = expected_states(model, batch)[-1]
    check_close(states(folder, "torch", batch)[-1], expected, "the right one")
    check_rejected(states(folder, "torch", batch, forward)[-1], expected, variant)


@pytest.mark.parametrize("changes", [{"num_hidden_groups": 1}, {"inner_group_num": 1}])
def test_groups_of_albert_are_told_apart(tmp_path: Path, changes: dict[str, int]) -> None:
    model = KINDS["albert, two groups"].make(tmp_path)
    batch = batch_of(model, [30, 9])
    got = states(tmp_path, "torch", batch, changed(albert, **changes))[-1]
    check_rejected(got, expected_states(model, batch)[-1], str(changes))


@pytest.mark.parametrize("kind", PLAIN)
def test_contract(tmp_path: Path, kind: str) -> None:
    KINDS[kind].make(tmp_path)
    check_family(tmp_path)


def test_text_to_vector_equals_transformers(made: tuple[Path, Any]) -> None:
    folder, model = made
    embedder = open_model(folder)
    expected = mean_pooled(model, AutoTokenizer.from_pretrained(folder), LISTED, int(embedder.max_length))
    check_close(embedder.encode(LISTED), expected, "mean over tokens")


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_saved_is_read_by_sentence_transformers(tmp_path: Path, kind: str) -> None:
    KINDS[kind].make(tmp_path / "base")
    tail = [modules.Pooling(64, pooling_mode="cls"), modules.Normalize()]
    reference = SentenceTransformer(modules=[modules.Transformer(str(tmp_path / "base")), *tail])
    reference.max_seq_length = 90
    reference.requires_grad_(False).save(str(tmp_path / "saved"))
    model = open_model(tmp_path / "saved")
    check_close(model.encode(LISTED), reference.encode(LISTED), "read")
    again = SentenceTransformer(str(model.save(tmp_path / "again"))).requires_grad_(False)
    check_close(again.encode(LISTED), reference.encode(LISTED), "saved")


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(made: tuple[Path, Any], engine: str) -> None:
    """Within 1e-3, or within twice what transformers itself loses where the weights lose more than that."""
    folder, model = made
    tokenizer, limit = AutoTokenizer.from_pretrained(folder), int(open_model(folder).max_length)
    exact = mean_pooled(model, tokenizer, LISTED, limit)
    half = mean_pooled(copy.deepcopy(model).bfloat16(), tokenizer, LISTED, limit)
    bar = max(1e-3, 2 * (1 - cosines(exact, half).min()))
    assert 1 - bfloat16_cosine(folder, engine, LISTED).min() < bar < 0.01


def test_lengths_are_the_models(kept: dict[str, tuple[Path, Any]]) -> None:
    behind_padding = ("xlm-roberta", "camembert", "mpnet")
    found = {kind: int(open_model(folder).max_length) for kind, (folder, _) in kept.items()}
    assert found == {kind: 96 if kind in behind_padding else 98 for kind in kept}


@pytest.mark.parametrize("kind", ["xlm-roberta", "mpnet"])
@pytest.mark.parametrize("engine", ENGINES)
def test_padding_inside_a_text_counts_as_transformers_counts(
    kept: dict[str, tuple[Path, Any]], kind: str, engine: str
) -> None:
    folder, model = kept[kind]
    # 1 is the padding: once as a token of the text, twice as padding.
    ids = np.array([[0, 9, 1, 8, 7, 2, 1, 1]], np.int32)
    batch = {"ids": ids, "mask": (np.arange(8) < 6).astype(np.int32)[None]}
    check_close(states(folder, engine, batch)[-1], expected_states(model, batch)[-1], kind)


WITH_HEADS = {
    "xlm-roberta": "XLMRobertaForMaskedLM",
    "camembert": "CamembertForSequenceClassification",
    "electra": "ElectraForPreTraining",
    "distilbert": "DistilBertForMaskedLM",
    "mpnet": "MPNetForMaskedLM",
    "albert": "AlbertForPreTraining",
}
SECOND_HEADS = {
    "electra": "ElectraForMaskedLM",
    "distilbert": "DistilBertForSequenceClassification",
    "mpnet": "MPNetForSequenceClassification",
    "albert": "AlbertForSequenceClassification",
}


@pytest.mark.parametrize(("kind", "name"), [*WITH_HEADS.items(), *SECOND_HEADS.items()])
def test_heads_that_no_embedding_uses_are_dropped(tmp_path: Path, kind: str, name: str) -> None:
    bare = KINDS[kind].make(tmp_path / "bare")
    whole = getattr(transformers, name)(bare.config)
    getattr(whole, whole.base_model_prefix).load_state_dict(bare.state_dict(), strict=False)
    whole.save_pretrained(tmp_path)
    for file in (tmp_path / "bare").glob("tokenizer*.json"):
        shutil.copy(file, tmp_path)
    assert set(read_model(tmp_path).tensors) == set(read_model(tmp_path / "bare").tensors)
    expected = open_model(tmp_path / "bare").encode(LISTED)
    check_close(open_model(tmp_path).encode(LISTED), expected, name)


ACTIVATIONS = [
    ("distilbert", {"activation": "relu"}),
    ("albert", {"hidden_act": "gelu"}),
    ("albert", {"hidden_act": "relu"}),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("kind", "change"), ACTIVATIONS)
def test_activations(tmp_path: Path, kind: str, change: dict[str, Any], engine: str) -> None:
    model = KINDS[kind].make(tmp_path, **change)
    batch = batch_of(model, [20, 7])
    check_close(states(tmp_path, engine, batch)[-1], expected_states(model, batch)[-1], str(change))


REFUSED = [
    (bert, {"hidden_act": "mish"}),
    (bert, {"position_embedding_type": "relative_key"}),
    (bert, {"is_decoder": True}),
    (distilbert, {"activation": "mish"}),
    (mpnet, {"hidden_act": "relu"}),
    (mpnet, {"relative_attention_num_buckets": 64}),
    (albert, {"hidden_act": "mish"}),
    (albert, {"position_embedding_type": "relative_key"}),
]


@pytest.mark.parametrize(("family", "change"), REFUSED)
def test_refused_variants_are_named(family: Any, change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel, match=next(iter(change))):
        known_keys(family, change, Path("folder"))


def test_names_of_2019_are_read(tmp_path: Path) -> None:
    model = KINDS["electra"].make(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in held.items()
    }
    assert old.keys() != held.keys()
    save_file({f"electra.{name}": value for name, value in old.items()}, tmp_path / "model.safetensors")
    batch = batch_of(model, [20, 7])
    check_close(states(tmp_path, "openvino", batch)[-1], expected_states(model, batch)[-1], "gamma and beta")
