"""Pooling, Dense, LayerNorm, Normalize and prompts against sentence-transformers, from folders that it saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st

import checkpoints
from omnivec import Collection
from omnivec.errors import ModelError, UnsupportedModel, UsageError
from omnivec.models.model import read_model
from omnivec.testing import TEXTS, check_close, check_family, open_model

MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
FULL = [text for text in TEXTS if text.strip()]


def saved(
    folder: Path, *tail: Any, pooling: Any = "mean", include_prompt: bool = True, **card: Any
) -> SentenceTransformer:
    """A sentence-transformers model over a small BERT, saved to `folder` by sentence-transformers itself."""
    checkpoints.bert(folder / "base")
    transformer = st.Transformer(str(folder / "base"))
    width = transformer.get_embedding_dimension()
    pool = st.Pooling(width, pooling_mode=pooling, include_prompt=include_prompt)
    model = SentenceTransformer(modules=[transformer, pool, *tail], **card)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.save(str(folder / "saved"))
    return model


def dense(inner: int, outer: int, seed: int, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(seed)
    return st.Dense(inner, outer, **settings)


@pytest.mark.parametrize("mode", [*MODES, ("cls", "mean"), ("max", "weightedmean", "lasttoken")])
def test_every_pooling(tmp_path: Path, mode: Any) -> None:
    reference = saved(tmp_path, pooling=mode)
    for engine in ("openvino", "torch"):
        got = open_model(tmp_path / "saved", engine).encode(FULL)
        check_close(got, reference.encode(FULL, batch_size=3), f"{mode}, {engine}")


@pytest.mark.parametrize("mode", MODES)
def test_old_spelling_of_pooling(tmp_path: Path, mode: str) -> None:
    reference = saved(tmp_path, pooling=mode)
    keys = {
        m: f"pooling_mode_{k}"
        for m, k in zip(
            MODES,
            (
                "cls_token",
                "max_tokens",
                "mean_tokens",
                "mean_sqrt_len_tokens",
                "weightedmean_tokens",
                "lasttoken",
            ),
            strict=True,
        )
    }
    config = {"word_embedding_dimension": 64} | {key: m == mode for m, key in keys.items()}
    (tmp_path / "saved" / "1_Pooling" / "config.json").write_text(json.dumps(config))
    check_close(open_model(tmp_path / "saved").encode(FULL), reference.encode(FULL), mode)


@pytest.mark.parametrize(
    "activation",
    [
        torch.nn.Tanh(),
        torch.nn.Identity(),
        torch.nn.ReLU(),
        torch.nn.GELU(),
        torch.nn.SiLU(),
        torch.nn.Sigmoid(),
    ],
)
def test_dense_and_normalize(tmp_path: Path, activation: torch.nn.Module) -> None:
    reference = saved(
        tmp_path, dense(64, 48, 0, activation_function=activation), dense(48, 20, 1), st.Normalize()
    )
    model = open_model(tmp_path / "saved")
    assert model.dim == 20
    check_close(model.encode(FULL), reference.encode(FULL), str(activation))
    check_family(tmp_path / "saved")


def test_dense_with_residual_and_without_bias(tmp_path: Path) -> None:
    reference = saved(
        tmp_path, dense(64, 64, 0, use_residual=True, bias=False), dense(64, 12, 1, use_residual=True)
    )
    check_close(open_model(tmp_path / "saved").encode(FULL), reference.encode(FULL), "residual")


def test_layer_norm(tmp_path: Path) -> None:
    norm = st.LayerNorm(64)
    torch.nn.init.normal_(norm.norm.weight)
    torch.nn.init.normal_(norm.norm.bias)
    reference = saved(tmp_path, norm, st.Normalize())
    check_close(open_model(tmp_path / "saved").encode(FULL), reference.encode(FULL), "LayerNorm")


def test_dense_runs_in_float32_beside_bfloat16(tmp_path: Path) -> None:
    saved(tmp_path, dense(64, 32, 0), st.Normalize())
    exact = open_model(tmp_path / "saved").encode(FULL)
    half = open_model(tmp_path / "saved", precision="bfloat16").encode(FULL)
    assert (exact * half).sum(1).min() > 0.999


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("include", [True, False])
def test_prompts(tmp_path: Path, mode: str, include: bool) -> None:
    prompts = {"query": "the quick question: ", "document": "passage: "}
    reference = saved(tmp_path, st.Normalize(), pooling=mode, include_prompt=include, prompts=prompts)
    model = open_model(tmp_path / "saved")
    check_close(
        model.encode(FULL, prompt_name="query"), reference.encode(FULL, prompt_name="query"), "prompt_name"
    )
    check_close(model.encode(FULL, prompt="as said: "), reference.encode(FULL, prompt="as said: "), "prompt")
    check_close(model.encode_query(FULL), reference.encode_query(FULL), "query")
    check_close(model.encode_document(FULL), reference.encode_document(FULL), "document")
    check_close(model.encode(FULL), reference.encode(FULL), "no prompt")
    assert not np.allclose(model.encode(FULL), model.encode_query(FULL))


def test_default_prompt(tmp_path: Path) -> None:
    reference = saved(tmp_path, prompts={"a": "one: ", "b": "two: "}, default_prompt_name="b")
    model = open_model(tmp_path / "saved")
    check_close(model.encode(FULL), reference.encode(FULL), "default prompt")
    check_close(model.encode_query(FULL), reference.encode_query(FULL), "a question has none of its own")
    check_close(model.encode_document(FULL), reference.encode_document(FULL), "nor has a document")


def test_an_empty_prompt_is_the_prompt_of_its_task(tmp_path: Path) -> None:
    prompts = {"query": "", "document": "", "passage": "passage: ", "b": "two: "}
    reference = saved(tmp_path, prompts=prompts, default_prompt_name="b")
    model = open_model(tmp_path / "saved")
    check_close(model.encode_query(FULL), reference.encode_query(FULL), "query")
    check_close(model.encode_document(FULL), reference.encode_document(FULL), "document")


def test_unknown_prompt_names_those_there_are(tmp_path: Path) -> None:
    saved(tmp_path, prompts={"query": "q: "})
    with pytest.raises(UsageError, match="query"):
        open_model(tmp_path / "saved").encode("x", prompt_name="question")


def test_max_seq_length(tmp_path: Path) -> None:
    reference = saved(tmp_path)
    reference.max_seq_length = 12
    reference.save(str(tmp_path / "saved"))
    model = open_model(tmp_path / "saved")
    assert model.max_length == 12
    check_close(model.encode(FULL), reference.encode(FULL), "12 tokens")
    (tmp_path / "saved" / "sentence_bert_config.json").write_text(
        '{"max_seq_length": 9, "do_lower_case": true}'
    )
    assert open_model(tmp_path / "saved").max_length == 9


def test_similarity_function_is_the_metric(tmp_path: Path) -> None:
    for name in ("cosine", "dot", "euclidean"):
        saved(tmp_path / name, similarity_fn_name=name)
        assert open_model(tmp_path / name / "saved").metric == name
    saved(tmp_path / "m", similarity_fn_name="manhattan")
    model = open_model(tmp_path / "m" / "saved")
    reference = SentenceTransformer(str(tmp_path / "m" / "saved"))
    check_close(model.encode(FULL), reference.encode(FULL), "vectors do not depend on the metric")
    assert model.metric == "manhattan"
    with Collection(tmp_path / "c.omni", model=model) as notes:
        with pytest.raises(
            UnsupportedModel, match="is 'manhattan'; a collection supports cosine, dot, euclidean"
        ):
            notes.add(["a text"])
        assert len(notes) == 0


def test_matryoshka_truncates_and_renormalises(tmp_path: Path) -> None:
    saved(tmp_path, st.Normalize())
    model = open_model(tmp_path / "saved")
    whole, cut = model.encode(FULL), model.encode(FULL, dim=10)
    expected = whole[:, :10] / np.linalg.norm(whole[:, :10], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, rtol=1e-5)
    with pytest.raises(UsageError, match="1 to 64"):
        model.encode(FULL, dim=65)


def test_normalize_embeddings(tmp_path: Path) -> None:
    reference = saved(tmp_path)
    model = open_model(tmp_path / "saved")
    check_close(
        model.encode(FULL, normalize_embeddings=True),
        reference.encode(FULL, normalize_embeddings=True),
        "unit",
    )


def test_sentence_transformers_reads_what_is_saved(tmp_path: Path) -> None:
    saved(tmp_path, dense(64, 20, 0), st.Normalize(), pooling=("cls", "mean")[1], prompts={"query": "q: "})
    model = open_model(tmp_path / "saved")
    again = SentenceTransformer(str(model.save(tmp_path / "ours")))
    check_close(again.encode(FULL), model.encode(FULL), "read by sentence-transformers")
    check_close(again.encode_query(FULL), model.encode_query(FULL), "prompts")
    assert again.max_seq_length == model.max_length


def test_half_precision_is_saved_as_what_it_is(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path / "base").bfloat16().save_pretrained(tmp_path / "base")
    model = open_model(tmp_path / "base")
    assert json.loads((tmp_path / "base" / "config.json").read_text())["dtype"] == "bfloat16"
    again = SentenceTransformer(str(model.save(tmp_path / "ours")))
    check_close(again.encode(FULL), model.encode(FULL), "bfloat16 weights, saved as float32")


def test_saving_refuses_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    saved(tmp_path)
    model = open_model(tmp_path / "saved")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ModelError, match="holds no model"):
        model.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    model.save(tmp_path / "out")
    model.save(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "mine", "out", "saved"]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([{"type": "x.Transformer", "path": ""}], "no Pooling"),
        ([{"type": "x.Transformer", "path": ""}, {"type": "x.WordWeights", "path": "1"}], "WordWeights"),
        ([{"type": "x.Transformer", "path": "../elsewhere"}], "leads out"),
        ([{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "../1"}], "leads out"),
    ],
)
def test_modules_that_cannot_be_run_are_refused(
    tmp_path: Path, modules: list[dict[str, str]], message: str
) -> None:
    checkpoints.bert(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=message):
        read_model(tmp_path)


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is not valid JSON"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="lacks vocab_size"):
        read_model(tmp_path)
