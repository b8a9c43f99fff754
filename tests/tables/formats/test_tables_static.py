"""model2vec's and sentence-transformers' folders, equal to their libraries both ways."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

import omnivec
from omnivec.errors import ModelError, UsageError
from omnivec.tables.formats.static import (
    read_model2vec,
    read_static_embedding,
    write_model2vec,
    write_static_embedding,
)
from omnivec.tables.io import sniff
from omnivec.tables.record import Table

TOKENS = ["[PAD]", "[UNK]", "the", "cat", "dog", "Zürich", "日本", "##s"]
TEXTS = ["the cat", "dogs Zürich 日本", "cat cat the"]
DIM = 6


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordPiece({t: i for i, t in enumerate(TOKENS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def vectors(rows=8) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(rows, DIM)).astype(np.float32)


def encode(table: Table) -> np.ndarray:
    """The mean of weighted rows, as both libraries define it."""
    rows = table.vectors if table.weights is None else table.vectors * table.weights[:, None]
    find = Tokenizer.from_str(table.tokenizer.decode())
    means = [rows[find.encode(text, add_special_tokens=False).ids].mean(0) for text in TEXTS]
    norms = np.linalg.norm(means, axis=1, keepdims=True) if table.settings["normalize"] else 1
    return np.array(means) / norms


def save_model2vec(folder, **options):
    model = StaticModel(tokenizer=tokenizer(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("config", [None, {"model_type": "model2vec", "architectures": ["StaticModel"]}])
def test_what_model2vec_wrote_leaves_unknown_words_out_as_it_does(tmp_path, config):
    """Its modules.json names sentence-transformers, which would take the unknown token's row."""
    model = save_model2vec(tmp_path / "m", vectors=vectors(), config=config, normalize=False)
    texts = ["the bird cat", "the cat", "a ☃ dog"]
    assert sniff(tmp_path / "m") == "model2vec"
    np.testing.assert_allclose(omnivec.load(tmp_path / "m").encode(texts), model.encode(texts), rtol=1e-5)
    found = omnivec.load(tmp_path / "m").run(["☃", "cat"])
    assert found.kept.tolist() == [1] and list(found.failures) == [0]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", ["plain", "weights", "mapping", "half"])
def test_we_read_what_model2vec_writes(tmp_path, kind, normalize):
    weights, mapping = np.linspace(0.1, 2, 8, dtype=np.float32), np.array([0, 1, 2, 2, 1, 0, 2, 1])
    options = {
        "plain": {"vectors": vectors()},
        "weights": {"vectors": vectors(), "weights": weights},
        "mapping": {"vectors": vectors(3), "weights": weights, "token_mapping": mapping},
        "half": {"vectors": vectors().astype(np.float16)},
    }[kind]
    model = save_model2vec(tmp_path / "m", normalize=normalize, **options)
    table = read_model2vec(tmp_path / "m")
    assert (
        table.keys == TOKENS
        and table.vectors.dtype == np.float32
        and table.settings["normalize"] == normalize
    )
    np.testing.assert_allclose(
        encode(table), model.encode(TEXTS), rtol=2e-3 if kind == "half" else 1e-5, atol=1e-6
    )
    # sentence-transformers reads the same folder, and so do we by its modules.json.
    np.testing.assert_allclose(
        encode(read_static_embedding(tmp_path / "m")), encode(table), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_model2vec_reads_what_we_write(tmp_path, normalize, weighted):
    weights = np.linspace(0.1, 2, 8, dtype=np.float32) if weighted else None
    saved = tokenizer().to_str().encode()
    table = Table(TOKENS, vectors(), weights=weights, tokenizer=saved, settings={"normalize": normalize})
    write_model2vec(tmp_path / "m", table)
    model = StaticModel.from_pretrained(tmp_path / "m")
    np.testing.assert_allclose(model.encode(TEXTS), encode(table), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(TEXTS),
        encode(table),
        rtol=1e-5,
        atol=1e-6,
    )
    again = read_model2vec(tmp_path / "m")
    assert again.keys == TOKENS and again.tokenizer == saved
    np.testing.assert_array_equal(again.vectors, table.vectors)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("layout", ["new", "old, in a folder", "old, torch"])
def test_we_read_what_sentence_transformers_writes(tmp_path, normalize, layout):
    modules = [
        StaticEmbedding(tokenizer(), embedding_weights=vectors()),
        *([Normalize()] if normalize else []),
    ]
    model = SentenceTransformer(modules=modules, device="cpu")
    folder = tmp_path / "m"
    model.save(str(folder), safe_serialization=layout != "old, torch")
    if layout.startswith("old"):
        move_to_old_layout(folder)
    table = read_static_embedding(folder)
    assert table.keys == TOKENS and table.settings["normalize"] == normalize
    np.testing.assert_array_equal(table.vectors, vectors())
    np.testing.assert_allclose(encode(table), model.encode(TEXTS), rtol=1e-5, atol=1e-6)


def move_to_old_layout(folder):
    """A folder for each module, and the names of the classes before they moved."""
    modules = json.loads((folder / "modules.json").read_text())
    inner = folder / "0_StaticEmbedding"
    inner.mkdir(exist_ok=True)
    for name in ("model.safetensors", "pytorch_model.bin", "tokenizer.json"):
        source = folder / modules[0]["path"] / name
        if source.exists() and source.parent != inner:
            source.rename(inner / name)
    for module, kind in zip(modules, ("StaticEmbedding", "Normalize"), strict=False):
        module["type"] = f"sentence_transformers.models.{kind}"
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_reads_what_we_write(tmp_path, normalize):
    weights = np.linspace(0.1, 2, 8, dtype=np.float32)
    saved = tokenizer().to_str().encode()
    table = Table(TOKENS, vectors(), weights=weights, tokenizer=saved, settings={"normalize": normalize})
    write_static_embedding(tmp_path / "m", table)
    model = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), encode(table), rtol=1e-5, atol=1e-6)
    again = read_static_embedding(tmp_path / "m")
    np.testing.assert_allclose(encode(again), encode(table), rtol=1e-5, atol=1e-6)


def test_more_rows_than_tokens_and_fewer(tmp_path):
    saved = tokenizer().to_str().encode()
    write_static_embedding(tmp_path / "m", Table([*TOKENS, "x", "y"], vectors(10), tokenizer=saved))
    assert read_static_embedding(tmp_path / "m").keys == [*TOKENS, "[row 8]", "[row 9]"]
    write_static_embedding(tmp_path / "n", Table(TOKENS[:5], vectors(5), tokenizer=saved))
    with pytest.raises(ModelError, match="tokens with ids 0 to 7 for 5 rows"):
        read_static_embedding(tmp_path / "n")


def test_unigram_and_added_tokens(tmp_path):
    made = Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], unk_id=0))
    made.add_tokens(["c"])
    write_model2vec(tmp_path / "m", Table(["a", "b", "c"], vectors(3), tokenizer=made.to_str().encode()))
    assert read_model2vec(tmp_path / "m").keys == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("tokenizer.json", "{}", "the vocabulary in tokenizer.json cannot be read"),
        ("tokenizer.json", None, "tokenizer.json cannot be read"),
        ("config.json", "{", "not valid JSON"),
        ("model.safetensors", None, "has no weights"),
        ("model.safetensors", "short", "truncated"),
    ],
)
def test_damage(tmp_path, file, content, named):
    write_model2vec(tmp_path / "m", Table(TOKENS, vectors(), tokenizer=tokenizer().to_str().encode()))
    (tmp_path / "m" / file).unlink()
    if content is not None:
        (tmp_path / "m" / file).write_text(content)
    with pytest.raises(ModelError, match=named):
        read_model2vec(tmp_path / "m")


def test_a_path_out_of_the_folder_and_other_modules(tmp_path):
    write_static_embedding(tmp_path / "m", Table(TOKENS, vectors(), tokenizer=tokenizer().to_str().encode()))
    listed = tmp_path / "m" / "modules.json"
    listed.write_text(json.dumps([{"type": "x.StaticEmbedding", "path": "../other"}]))
    with pytest.raises(ModelError, match="leads out of"):
        read_static_embedding(tmp_path / "m")
    listed.write_text(
        json.dumps([{"type": "x.StaticEmbedding", "path": ""}, {"type": "x.Dense", "path": "1"}])
    )
    with pytest.raises(ModelError, match="lists StaticEmbedding, Dense"):
        read_static_embedding(tmp_path / "m")


def test_a_table_without_a_tokenizer_and_a_limit(tmp_path):
    with pytest.raises(UsageError, match="a table of 8 keys has no tokenizer"):
        write_model2vec(tmp_path / "m", Table(TOKENS, vectors()))
    assert list(tmp_path.iterdir()) == []
    write_model2vec(tmp_path / "m", Table(TOKENS, vectors(), tokenizer=tokenizer().to_str().encode()))
    with pytest.raises(UsageError, match="limit=3 of 8 rows"):
        read_model2vec(tmp_path / "m", 3)
