"""Answers as one list: pages, weights, many questions at a time, and passages that several spaces hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivec.collection import searching
from omnivec.collection.collection import Collection
from omnivec.collection.ranking import Ranked, Ranking, depth_of, fused, in_rounds
from omnivec.collection.searching import HYBRID, WORDS, Options, Question, answers, in_order
from omnivec.errors import UsageError
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Hit

WORDED = ["fox", "dog", "cat", "engine", "oil", "rain", "night", "window"]
DIM = 3
ALL = 1_000


def document(chance: np.random.Generator, number: int) -> Document:
    """One to four passages of a few words, or an image without any; vectors of small whole numbers, so many tie."""
    passages = []
    for _ in range(chance.integers(1, 5)):
        text = "" if number % 5 == 0 else " ".join(chance.choice(WORDED, chance.integers(1, 6)))
        vectors = {"text": chance.integers(-2, 3, (1, DIM)).astype(np.float32)}
        if number % 2:
            vectors["further"] = chance.integers(-2, 3, (1, DIM)).astype(np.float32)
        passages.append(Passage(0, len(text), 1, text, "text", vectors))
    metadata = {"year": 2000 + number % 7} if number % 3 else {}
    return Document(str(number), "text", "", b"", None, None, 0, 0, 0, metadata, 0, tuple(passages))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Catalogue, Ranking]]:
    chance = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("searched")
    with Catalogue.open(folder, create=True) as catalogue:
        for name in ("text", "further"):
            catalogue.put_space(SpaceRecord(name, "model", DIM, "dot", {}, {}, ()))
        catalogue.write([document(chance, number) for number in range(90)])
        yield catalogue, Ranking(catalogue, folder)


def asked(searched: Any, questions: list[Question], **options: Any) -> list[list[Hit]]:
    catalogue, ranking = searched
    with catalogue.snapshot():
        return answers(catalogue, ranking, questions, Options(**options))


def named(found: list[Hit]) -> list[tuple[str, float, str]]:
    return [(hit.id, hit.score, hit.space) for hit in found]


vectors = st.lists(st.integers(-2, 2).map(float), min_size=DIM, max_size=DIM).map(
    lambda drawn: np.array(drawn, np.float32)
)
spaces = st.sampled_from([("text",), ("further",), ("text", "further")])
questions = st.builds(
    lambda words, names, drawn: Question(" ".join(words), dict(zip(names, drawn, strict=False))),
    st.lists(st.sampled_from(WORDED), min_size=1, max_size=3),
    spaces,
    st.lists(vectors, min_size=2, max_size=2),
)
weights = st.sampled_from([(1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.25, 3.0)])
modes = st.sampled_from(["vector", "text", "hybrid"])


@settings(max_examples=60, deadline=None)
@given(questions, modes, st.booleans(), st.integers(1, 40), st.integers(0, 250), weights)
def test_pages_are_the_slices_of_one_list(searched, question, mode, per_document, k, offset, weights) -> None:
    options = {"mode": mode, "per_document": per_document, "weights": weights}
    [whole] = asked(searched, [question], k=ALL, **options)
    names = [hit.document if per_document else hit.id for hit in whole]
    assert len(set(names)) == len(names)
    scores = [hit.score for hit in whole]
    assert scores == sorted(scores, reverse=True)
    for start in (offset, offset + k, 0):
        [page] = asked(searched, [question], k=k, offset=start, **options)
        assert named(page) == named(whole[start : start + k])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(questions, min_size=1, max_size=6), modes, st.booleans(), st.integers(0, 20), st.integers(1, 4)
)
def test_many_questions_are_answered_as_each_alone(searched, several, mode, per_document, offset, at_once):
    options = {"mode": mode, "per_document": per_document, "offset": offset, "k": 7}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "_QUERIES_AT_ONCE", at_once)
        together = asked(searched, several, **options)
    assert together == [asked(searched, [one], **options)[0] for one in several]


@settings(max_examples=30, deadline=None)
@given(questions)
def test_equal_weights_are_plain_fusion_and_a_weight_of_none_leaves_one_list(searched, question) -> None:
    catalogue, ranking = searched
    with catalogue.snapshot():
        near = ranking.nearest(question.vectors, 50)
        by_words = catalogue.text_search(question.text, 50)
        wordless = catalogue.wordless(np.array([one.key for one in near]))
        plain = fused(near, by_words, "text", wordless)[:12]
        documents = catalogue.passages(np.array([one.key for one in plain]))
    options: dict[str, Any] = {"mode": HYBRID, "k": 12, "space": "text"}
    expected = [(f"{documents[r.key].document}#{documents[r.key].ordinal}", r.score, r.space) for r in plain]
    assert named(asked(searched, [question], **options)[0]) == expected
    assert named(asked(searched, [question], weights=(1.0, 1.0), **options)[0]) == expected
    for one, mode in (((1.0, 0.0), "vector"), ((0.0, 1.0), WORDS)):
        [weighed], [alone] = (asked(searched, [question], k=ALL, mode=m, weights=one) for m in (HYBRID, mode))
        assert [hit.id for hit in weighed] == [hit.id for hit in alone]


@settings(max_examples=30, deadline=None)
@given(questions, st.booleans(), st.integers(-6, 6))
def test_a_least_score_cuts_the_list(searched, question, per_document, least) -> None:
    for mode in ("vector", "text"):
        options = {"mode": mode, "per_document": per_document}
        [whole] = asked(searched, [question], k=ALL, **options)
        [found] = asked(searched, [question], k=9, offset=2, least=least / 3, **options)
        assert found == [hit for hit in whole if hit.score >= least / 3][2:11]


def test_a_passage_in_two_spaces_is_found_once_and_ranks_are_fused(searched) -> None:
    catalogue, ranking = searched
    query = np.array([1, 2, 0], np.float32)
    with catalogue.snapshot():
        lists = {name: ranking.nearest({name: query}, ALL) for name in ("text", "further")}
        both = ranking.nearest({"text": query, "further": query}, ALL)
        shared = {one.key for one in lists["further"]}
        expected: dict[int, float] = {}
        for found in lists.values():
            for rank, one in enumerate(found, 1):
                times = 1 if one.key in shared else 2  # only one of the spaces holds it
                expected[one.key] = expected.get(one.key, 0) + times / (60 + rank)
    assert len(both) == len(expected) == len({one.key for one in both})
    depth = 50  # of the first round, in which a passage far down in one list counts in the other alone
    best = {one.key for found in lists.values() for one in found[:depth]}
    for one in both[:12]:
        assert one.key in best
        assert one.score <= expected[one.key] + 1e-12
        ranks = {
            name: [r.key for r in found].index(one.key)
            for name, found in lists.items()
            if one.key in {r.key for r in found}
        }
        assert one.space == min(ranks, key=lambda name: ranks[name])
    exact = [
        one
        for one in both[:12]
        if all(
            [r.key for r in found].index(one.key) < depth
            for found in lists.values()
            if one.key in {r.key for r in found}
        )
    ]
    assert len(exact) > 3
    assert [one.score for one in exact] == pytest.approx([expected[one.key] for one in exact])


def test_rounds_by_hand() -> None:
    lists = [list(range(100)), list(range(99, -1, -1))]

    def fuse(depth: int) -> list[Ranked]:
        scores: dict[int, float] = {}
        for keys in lists:
            for rank, key in enumerate(keys[:depth], 1):
                scores[key] = scores.get(key, 0) + 1 / (60 + rank)
        return [
            Ranked(key, score, "") for key, score in sorted(scores.items(), key=lambda one: (-one[1], one[0]))
        ]

    assert [depth_of(count) for count in (1, 12, 13, 50, 51, 200, 201)] == [50, 50, 200, 200, 800, 800, 3200]
    first = in_rounds(12, 50, fuse)
    assert [one.key for one in first] == [0, 99, 1, 98, 2, 97, 3, 96, 4, 95, 5, 94]
    more = in_rounds(40, 100, fuse)
    assert more[:12] == first
    assert [one.key for one in more[12:16]] == [
        6,
        93,
        7,
        92,
    ]  # the best of whole lists that are not there yet
    assert more[12].score == first[-1].score < fuse(200)[12].score


def test_hits_in_order_of_their_metadata() -> None:
    values: list[Any] = [3, None, "b", 1.5, "a", [1], True]
    hits = [
        Hit(
            str(i), str(i), (0, 1), None, "text", "text", -float(i), "", {} if value is None else {"n": value}
        )
        for i, value in enumerate(values)
    ]
    assert [hit.id for hit in in_order(hits, ["n"])] == ["3", "0", "4", "2", "5", "6", "1"]
    assert [hit.id for hit in in_order(hits, ["-n"])] == ["0", "3", "2", "4", "5", "6", "1"]
    equal = [replace(hit, metadata={"a": {"b": i // 2}, "c": -i}) for i, hit in enumerate(hits[:4])]
    assert [hit.id for hit in in_order(equal, ["a.b"])] == ["0", "1", "2", "3"]
    assert [hit.id for hit in in_order(equal, ["-a.b"])] == ["2", "3", "0", "1"]
    assert [hit.id for hit in in_order(equal, ["-a.b", "c"])] == ["3", "2", "1", "0"]
    assert [hit.id for hit in in_order(equal, ["none"])] == ["0", "1", "2", "3"]


def test_hits_and_documents_have_one_order(tmp_path: Path) -> None:
    values: list[Any] = [3, None, "b", 1.5, "a", [1], True, "é", -2, False, {"x": 1}, "B"]
    with Collection(tmp_path / "a.omni") as notes:
        ids = [f"d{i:02}" for i in range(len(values))]
        metadata = [{"n": value} if i % 5 else {} for i, value in enumerate(values)]
        notes.add(ids=ids, vectors=np.ones((len(values), 2)), metadata=metadata)
        for order in ("n", "-n", "+n"):
            hits = notes.search([1.0, 1.0], k=20, order_by=order)
            listed = [entry.id for entry in notes.documents(order_by=order)]
            assert [hit.document for hit in hits] == listed
        for unknown in ("", "-", "$id", "-$id"):
            with pytest.raises(UsageError, match="name a field of the metadata"):
                notes.search([1.0, 1.0], order_by=unknown)
