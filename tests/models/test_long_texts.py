"""Texts beyond the limit: cut at either end, refused, read in parts, or chunked after the model has read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import checkpoints
import omnivec
from omnivec.errors import ItemErrors, UsageError
from omnivec.models.late_chunking import windows
from omnivec.testing import check_close, open_model

LIMIT = 96
LONG = " ".join(f"{checkpoints.TEXT.split()[i % 7]} engine {i}" for i in range(120))
PROMPT = "query: the "
CLS, SEP = "[CLS]", "[SEP]"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("model")
    return folder, checkpoints.bert(folder)


def with_head(folder: Path, **changes: object) -> Path:
    """Makes it a sentence-transformers folder with vectors of length 1."""
    (folder / "1_Pooling").mkdir()
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    pooling = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True} | changes
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def content(model: omnivec.Embedder, text: str) -> list[int]:
    return model.model.texts.tokenizer.ids([text], special=False)[0].tolist()


def states(model: omnivec.Embedder, reference: Any, ids: list[int]) -> np.ndarray:
    """transformers' last states of [CLS] ids [SEP], by themselves."""
    around = [model.model.texts.tokenizer.special_ids()[i].tolist() for i in (0, 1)]
    with torch.no_grad():
        out = reference(input_ids=torch.tensor([around[0] + ids + around[1]])).last_hidden_state
    return out[0].numpy()


def test_the_tail_or_the_head_is_dropped(made: tuple[Path, Any]) -> None:
    model, reference = open_model(made[0]), made[1]
    ids = content(model, LONG)
    assert len(ids) > 3 * LIMIT
    tail, head = ids[: LIMIT - 2], ids[-(LIMIT - 2) :]
    how: Any
    for how, kept in (("tail", tail), ("head", head)):
        got = model.run([LONG, "the engine"], truncate=how)
        check_close(got.vectors[0], states(model, reference, kept).mean(axis=0), how)
        check_close(got.vectors[1], model.encode("the engine"), "its neighbour")
        assert got.seen.tolist() == [LIMIT - 2, len(content(model, "the engine"))]
        assert got.lost.tolist() == [len(ids) - LIMIT + 2, 0]


def test_a_prompt_stays_where_the_head_goes(made: tuple[Path, Any]) -> None:
    model, reference = open_model(made[0]), made[1]
    prompt, ids = content(model, PROMPT), content(model, LONG)
    kept = prompt + ids[-(LIMIT - 2 - len(prompt)) :]
    got = model.encode(LONG, prompt=PROMPT, truncate="head")
    check_close(got, states(model, reference, kept).mean(axis=0), "prompt and end")


def test_a_long_text_is_refused_alone(made: tuple[Path, Any]) -> None:
    model = open_model(made[0])
    total = len(content(model, LONG)) + 2
    with pytest.raises(ItemErrors) as caught:
        model.encode(["the engine", LONG, "a fox"], truncate="error")
    assert list(caught.value.failures) == [1]
    assert f"{total:,} tokens" in caught.value.failures[1]
    assert "96" in caught.value.failures[1]
    check_close(caught.value.partial.vectors, model.encode(["the engine", "a fox"]), "the others")
    fits = model.encode(LONG[: len(LONG) // 8], truncate="error")
    check_close(fits, model.encode(LONG[: len(LONG) // 8]), "what fits is not refused")


def test_parts_are_averaged_by_their_lengths(made: tuple[Path, Any]) -> None:
    model, reference = open_model(made[0]), made[1]
    ids = content(model, LONG)
    parts = np.array_split(ids, -(-len(ids) // (LIMIT - 2)))
    vectors = [states(model, reference, part.tolist()).mean(axis=0) for part in parts]
    expected = np.average(vectors, axis=0, weights=[len(part) for part in parts])
    got = model.run(["the engine", LONG, "a fox", LONG], chunk="pool")
    check_close(got.vectors[1], expected, "the mean of its parts")
    assert np.array_equal(got.vectors[1], got.vectors[3])
    check_close(got.vectors[[0, 2]], model.encode(["the engine", "a fox"]), "short ones")
    assert got.lost.tolist() == [0, 0, 0, 0]
    assert got.seen[1] == len(ids)


def test_vectors_of_length_one_stay_so(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path)
    model = open_model(with_head(tmp_path))
    pooled = model.encode([LONG, "a fox"], chunk="pool")
    check_close(np.linalg.norm(pooled, axis=1), np.ones(2), "length")
    check_close(np.linalg.norm(model.encode_spans(LONG, [(0, 50)]), axis=1), np.ones(1), "length of a span")
    whole = model.encode_spans("the engine and the fox", [(0, 22)])[0]
    check_close(whole, model.encode("the engine and the fox"), "a span over all")


@given(words=st.integers(0, 300), limit=st.integers(24, LIMIT), how=st.sampled_from(["tail", "head", "pool"]))
def test_nothing_goes_uncounted(made: tuple[Path, Any], words: int, limit: int, how: str) -> None:
    from dataclasses import replace

    from omnivec.inputs.preparer import ReadOptions
    from omnivec.models.model import read_model

    preparer = replace(read_model(made[0]).texts, limit=limit)
    text = " ".join(LONG.split()[:words])
    total = len(preparer.tokenizer.ids([text], special=False)[0])
    with_prompt = len(preparer.tokenizer.ids([PROMPT + text], special=False)[0])
    reading = {
        "pool": ReadOptions(chunk="pool"),
        "tail": ReadOptions(truncate="tail"),
        "head": ReadOptions(truncate="head"),
    }[how]
    prepared: Any = preparer.prepare([text], reading)
    [parts] = prepared
    assert sum(part.seen + part.lost for part in parts) == total
    assert all(len(part.arrays["ids"]) <= limit for part in parts)
    assert how != "pool" or not any(part.lost for part in parts)
    prompted = ReadOptions(PROMPT, truncate=reading.truncate, chunk=reading.chunk)
    prepared = preparer.prepare([text], prompted)
    [parts] = prepared
    assert sum(part.seen + part.lost for part in parts) == with_prompt


def test_what_cannot_be_asked_for(made: tuple[Path, Any]) -> None:
    model = open_model(made[0])
    with pytest.raises(UsageError, match="truncate='middle' is none of tail, head, error"):
        model.encode("x", truncate="middle")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="chunk='late' is none of pool"):
        model.encode("x", chunk="late")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="span 1"):
        model.encode_spans("the engine", [(0, 3), (5, 99)])
    with pytest.raises(UsageError, match="contains no token"):
        model.encode_spans("the   engine", [(4, 5)])


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_spans_are_pooled_after_one_pass(made: tuple[Path, Any], engine: str) -> None:
    model, reference = open_model(made[0], engine), made[1]
    text = " ".join(LONG.split()[:20])
    middle = text.index("engine 2")
    spans = [(0, len(text)), (middle, middle + 8), (0, 6), (len(text) - 8, len(text))]
    last = states(model, reference, content(model, text))
    places = model.model.texts.tokenizer.spans(text)

    def inside(start: int, end: int) -> np.ndarray:
        rows = [i + 1 for i, (a, b) in enumerate(places.tolist()) if a < end and b > start]
        rows = [0, *rows] if start == 0 else rows
        rows = [*rows, len(last) - 1] if end == len(text) else rows
        return last[rows].mean(axis=0)

    got = model.encode_spans(text, spans)
    check_close(got, np.array([inside(a, b) for a, b in spans]), "spans")
    check_close(got[0], model.encode(text), "the whole text")
    assert model.encode_spans(text, []).shape == (0, model.dim)


def test_a_span_knows_what_stands_around_it(made: tuple[Path, Any]) -> None:
    model = open_model(made[0])
    one, two = "the fox jumps over the engine", "a dog and the engine"
    [first] = model.encode_spans(one, [(one.index("engine"), len(one))])
    [second] = model.encode_spans(two, [(two.index("engine"), len(two))])
    assert not np.allclose(first, second, atol=1e-3)


def test_spans_of_a_text_beyond_the_limit(made: tuple[Path, Any]) -> None:
    model, reference = open_model(made[0]), made[1]
    ids, places = content(model, LONG), model.model.texts.tokenizer.spans(LONG)
    expected = np.zeros((len(ids), 64), np.float32)
    for window in windows(len(ids), LIMIT - 2):
        own = states(model, reference, ids[window.first : window.end])[1:-1]
        kept = slice(window.kept_from - window.first, window.kept_to - window.first)
        expected[window.kept_from : window.kept_to] = own[kept]
    picked = range(1, len(ids) - 1, 7)
    got = model.encode_spans(LONG, places[list(picked)])
    shared = [(places[:, 0] < places[i, 1]) & (places[:, 1] > places[i, 0]) for i in picked]
    check_close(got, np.array([expected[s].mean(axis=0) for s in shared]), "each token, from its window")


@given(tokens=st.integers(0, 5000), room=st.integers(4, 600))
def test_every_token_is_kept_once(tokens: int, room: int) -> None:
    made = list(windows(tokens, room))
    kept = [i for w in made for i in range(w.kept_from, w.kept_to)]
    assert kept == list(range(tokens))
    assert all(w.end - w.first <= room for w in made)
    assert all(w.first <= w.kept_from <= w.kept_to <= w.end for w in made)
    inner = [i for w in made[1:] for i in (w.kept_from - w.first,)]
    assert all(before >= (room // 4 + 1) // 2 - 1 for before in inner)


def test_spans_need_a_mean(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path)
    folder = with_head(tmp_path, pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    with pytest.raises(UsageError, match="this model uses cls"):
        open_model(folder).encode_spans("the engine", [(0, 3)])
