"""Searches in spaces of several vectors or sparse ones, alone and beside the main space of the same passages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinds_of_model import DIM, TERMS, parts_of, toy, weights_of, word_vector
from omnivec.collection.collection import Collection
from omnivec.collection.searching import Mode
from omnivec.errors import ItemError, ItemErrors, UsageError
from omnivec.types import Hit
from workbench import WORDS, loaded, prose

TEXTS = ["a red fox", "the lazy dog sleeps", "red dog", "blue sky over the sea", "fox fox red"]
IDS = ["fox", "lazy", "dog", "sky", "twice"]
QUERY = "red fox"
MODES: tuple[Mode, ...] = ("vector", "text", "hybrid")


def by_parts(text: str, query: str) -> float:
    return float((parts_of(query).astype(float) @ parts_of(text).astype(float).T).max(axis=1).sum())


def by_terms(text: str, query: str) -> float:
    rows = [weights_of(text), weights_of(query)]
    own, asked = (dict(zip(row.indices.tolist(), row.weights.tolist(), strict=True)) for row in rows)
    return sum(own[term] * weight for term, weight in asked.items() if term in own)


def documents(found: list[Hit]) -> list[str]:
    return [hit.document for hit in found]


@pytest.mark.parametrize(("kind", "score"), [("multi", by_parts), ("sparse", by_terms)])
def test_the_scores_are_those_of_the_kind(tmp_path: Path, kind, score) -> None:
    with Collection(tmp_path / "a.omni", model=toy(kind)) as notes:
        notes.add(TEXTS, ids=IDS)
        found = notes.search(QUERY, 5, mode="vector")
        scored = [(score(text, QUERY), name) for text, name in zip(TEXTS, IDS, strict=True)]
        expected = sorted(scored, key=lambda pair: -round(pair[0], 5))  # ties in the order of their keys
        if kind == "sparse":  # what shares no term is not found
            expected = [pair for pair in expected if pair[0]]
        assert documents(found) == [name for _, name in expected]
        assert [hit.score for hit in found] == pytest.approx([value for value, _ in expected], rel=1e-6)
        queries = [QUERY, "sea", "lazy fox over"]
        assert notes.search_many(queries, 3) == [notes.search(query, 3) for query in queries]
        assert notes.search(QUERY, 2, {"none": 1}) == []
        least = found[1].score
        assert notes.search(QUERY, 5, mode="vector", min_score=least) == [
            one for one in found if one.score >= least
        ]
        with pytest.raises(ItemError, match="no words"):
            notes.search(" ", mode="vector")
        with pytest.raises(ItemErrors) as caught:
            notes.search_many(["sea", " "], 3)
        assert caught.value.partial.hits == [notes.search("sea", 3)]
        with pytest.raises(UsageError, match="no single vectors that could be averaged"):
            notes.recommend("sky", k=3)


def test_a_vector_is_one_part_or_the_weights_of_its_components(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni", models={"parts": toy("multi"), "terms": toy("sparse")}) as notes:
        notes.add(TEXTS, ids=IDS)
        assert documents(notes.search(word_vector("sky"), 1)) == ["sky"]
        weights = np.zeros(TERMS, np.float32)
        weights[weights_of("lazy").indices] = 1.0
        assert documents(notes.search(weights, 3)) == ["lazy"]
        with pytest.raises(UsageError, match=f"parts {DIM}, terms 1,000"):
            notes.search(np.ones(5))


def test_further_spaces_are_searched_when_named_and_passages_found_once(
    tmp_path: Path, cache: Path, tiny: Path
) -> None:
    texts = [*TEXTS, *(prose(i) for i in range(40))]
    with Collection(tmp_path / "plain.omni", models={"text": loaded(tiny)}) as plain:
        plain.add(texts)
        before = {mode: documents(plain.search(QUERY, 30, mode=mode)) for mode in MODES}
    models = {"text": loaded(tiny), "parts": toy("multi"), "terms": toy("sparse")}
    with Collection(tmp_path / "a.omni", models=models) as notes:
        notes.add(texts)
        for mode, names in before.items():
            assert documents(notes.search(QUERY, 30, mode=mode)) == names
        for space, score in (("parts", by_parts), ("terms", by_terms)):
            found = notes.search(QUERY, 3, mode="vector", space=space)
            assert {hit.space for hit in found} == {space}
            assert [hit.score for hit in found] == pytest.approx(
                sorted((score(text, QUERY) for text in texts), reverse=True)[: len(found)], rel=1e-6
            )
        names = ["text", "parts", "terms"]
        both = notes.search(QUERY, 100, mode="vector", space=names)
        assert len(both) == len(set(documents(both))) == len(texts)
        lists = [documents(notes.search(QUERY, 100, mode="vector", space=name)) for name in names]
        best = both[0].document
        assert both[0].score == pytest.approx(sum(1 / (61 + own.index(best)) for own in lists if best in own))
        hybrid = notes.search(QUERY, 20, space=names[1:])
        assert len(set(documents(hybrid))) == 20
        assert notes.search_many([QUERY, WORDS[0]], 20, space=names[1:])[0] == hybrid
        catalogue = notes._catalogue
        catalogue.put_space(replace(catalogue.spaces()["parts"], state="retired"))
        with pytest.raises(UsageError, match="space='parts': this space is retired"):
            notes.search(QUERY, space="parts")
        with pytest.raises(UsageError, match=r"5 components, which no space has; .*: text 32, terms 1,000"):
            notes.search(np.ones(5))
