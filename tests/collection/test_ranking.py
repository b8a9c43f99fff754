"""Several spaces in one ranking: what surprises as much ranks as high, whatever the cosines of a space are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omnivec.collection.ranking import Ranked, Ranking, fused, target
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats
from omnivec.vectors.calibration import background, surprise

PLAIN, NARROW = "plain", "narrow"
DIMS = {PLAIN: 96, NARROW: 128}
QUERIES, RELEVANT, AT_RANDOM = 40, 5, 3_000


def unit(x: np.ndarray) -> Floats:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def vectors_of(space: str, count: int, chance: np.random.Generator) -> Floats:
    """Directions: in one space all around, in the other in a narrow cone, as of many text models."""
    around = chance.standard_normal((count, DIMS[space]))
    return unit(around + (12.0 * np.eye(1, DIMS[space]) if space == NARROW else 0.0))


def with_cosine(query: Floats, cosine: float, chance: np.random.Generator) -> Floats:
    """A direction whose cosine with a query is given."""
    beside = chance.standard_normal(len(query))
    beside -= (beside @ query) * query
    return (cosine * query + np.sqrt(1 - cosine**2) * unit(beside)).astype(np.float32)


def write(catalogue: Catalogue, space: str, vectors: Floats) -> None:
    """A space, and one document whose passages have these vectors."""
    catalogue.put_space(SpaceRecord(space, "model", vectors.shape[1], "cosine", {}, {}, ()))
    passages = tuple(Passage(0, 0, None, "", "image", {space: row[None]}) for row in vectors)
    catalogue.write([Document(space, "image", "", b"", None, None, 0, 0, 0, {}, 0, passages)])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory):
    """Two spaces and queries, each with as many relevants in both, equally far above what is there at random."""
    chance = np.random.default_rng(5)
    heights = chance.uniform(4.0, 5.5, (QUERIES, RELEVANT))  # in standard deviations above the mean
    queries, everything = {}, {}
    for space in DIMS:
        others = vectors_of(space, AT_RANDOM, chance)
        queries[space] = vectors_of(space, QUERIES, chance)
        scores = queries[space] @ others.T
        means, spreads = scores.mean(1), scores.std(1)
        relevant = [
            with_cosine(queries[space][i], float(means[i] + spreads[i] * heights[i, j]), chance)
            for i in range(QUERIES)
            for j in range(RELEVANT)
        ]
        everything[space] = np.concatenate([others, np.stack(relevant)])
    folder = tmp_path_factory.mktemp("planted")
    with Catalogue.open(folder, create=True) as catalogue:
        first = {}
        for space in DIMS:
            write(catalogue, space, everything[space])
            first[space] = int(catalogue.vector_keys(space)[AT_RANDOM])
        yield catalogue, Ranking(catalogue, folder), queries, first


def test_equal_relevants_of_two_spaces_interleave(planted) -> None:
    catalogue, ranking, queries, first = planted
    found = dict.fromkeys(DIMS, 0)
    alone = []
    for i in range(QUERIES):
        with catalogue.snapshot():
            hits = ranking.nearest({space: own[i] for space, own in queries.items()}, 2 * RELEVANT)
            raw = [ranking.nearest({space: own[i]}, 2 * RELEVANT) for space, own in queries.items()]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            own = first[hit.space] + i * RELEVANT
            found[hit.space] += own <= hit.key < own + RELEVANT
        together = sorted((hit for one in raw for hit in one), key=lambda hit: -hit.score)[: 2 * RELEVANT]
        alone += [hit.space == NARROW for hit in together]
    wanted = QUERIES * RELEVANT  # 200 in each space
    assert all(count >= 0.9 * wanted for count in found.values()), found
    assert abs(found[PLAIN] - found[NARROW]) <= 0.1 * wanted, found
    assert np.mean(alone) > 0.95, "raw cosines would do: the spaces are too alike to show anything"


def test_equal_relevants_interleave_when_words_are_looked_for_too(planted) -> None:
    """The texts among them have the words of the question; the images have none, and are not pushed down for it."""
    catalogue, ranking, queries, first = planted
    found = dict.fromkeys(DIMS, 0)
    best = 0
    for i in range(QUERIES):
        with catalogue.snapshot():
            near = ranking.nearest({space: own[i] for space, own in queries.items()}, 50)
        texts = [one for one in near if one.space == PLAIN]
        images = {one.key for one in near if one.space == NARROW}
        by_words = [(one.key, 9.0 - place) for place, one in enumerate(texts)]
        hits = fused(near, by_words, PLAIN, images)[: 2 * RELEVANT]
        for hit in hits:
            own = first[hit.space] + i * RELEVANT
            found[hit.space] += own <= hit.key < own + RELEVANT
        best += near[0].space == NARROW and hits[0] == Ranked(near[0].key, 2 / 61, NARROW)
    wanted = QUERIES * RELEVANT
    assert all(count >= 0.85 * wanted for count in found.values()), found
    assert abs(found[PLAIN] - found[NARROW]) <= 0.15 * wanted, found
    assert best >= 0.4 * QUERIES


def test_the_score_is_the_surprise_against_a_sample_of_the_space(planted, monkeypatch) -> None:
    catalogue, _, queries, _ = planted
    monkeypatch.setattr("omnivec.collection.searched.SAMPLE", 10_000)  # all of them
    ranking = Ranking(catalogue, catalogue.folder)
    with catalogue.snapshot():
        hits = ranking.nearest({space: own[0] for space, own in queries.items()}, 50)
        assert {hit.space for hit in hits} == set(DIMS)
        for hit in hits:
            _, vectors = catalogue.vectors(hit.space)
            scores = vectors.astype(np.float64) @ queries[hit.space][0]
            _, [own] = catalogue.vectors(hit.space, np.array([hit.key]))
            expected = surprise(own.astype(np.float64) @ queries[hit.space][0], background(scores))
            assert hit.score == pytest.approx(float(expected), abs=1e-3)


def test_only_what_is_allowed_is_found_and_the_background_is_the_whole(planted) -> None:
    catalogue, ranking, queries, first = planted
    asked = {space: own[3] for space, own in queries.items()}
    with catalogue.snapshot():
        whole = {hit.key: hit.score for hit in ranking.nearest(asked, 5_000)}
        some = np.array([first[PLAIN] + 15, first[NARROW] + 16, first[NARROW] - 1], np.int64)
        hits = ranking.nearest(asked, 10, np.sort(some))
        assert {hit.key for hit in hits} == set(some.tolist())
        assert all(whole[hit.key] == hit.score for hit in hits)
        [only] = ranking.nearest(asked, 10, some[:1])
        assert only.score == whole[only.key]  # also where one space alone has something


def test_of_small_spaces_hits_are_taken_in_turns(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    with Catalogue.open(tmp_path / "small", create=True) as catalogue:
        many, few = vectors_of(PLAIN, 100, chance), vectors_of(NARROW, 4, chance)
        write(catalogue, PLAIN, many)
        write(catalogue, NARROW, few)
        ranking = Ranking(catalogue, catalogue.folder)
        queries = {space: vectors_of(space, 1, chance)[0] for space in DIMS}
        with catalogue.snapshot():
            hits = ranking.nearest(queries, 12)
            alone = {space: ranking.nearest({space: query}, 12) for space, query in queries.items()}
        assert [hit.space for hit in hits] == [PLAIN, NARROW] * 4 + [PLAIN] * 4
        assert [hit.score for hit in hits[::2]][:4] == pytest.approx([1 / 61, 1 / 62, 1 / 63, 1 / 64])
        for space, own in alone.items():
            assert [h.key for h in hits if h.space == space] == [h.key for h in own][
                : 8 if space == PLAIN else 4
            ]
        write(catalogue, "empty", np.zeros((0, 5), np.float32))
        with catalogue.snapshot():  # a space without vectors answers nothing: the other's scores are its own
            assert (
                ranking.nearest({PLAIN: queries[PLAIN], "empty": np.ones(5, np.float32)}, 3)
                == alone[PLAIN][:3]
            )


def test_fusion_keeps_the_space_in_which_a_hit_was_near() -> None:
    near = [Ranked(7, 3.0, "image"), Ranked(2, 2.5, "text")]
    ranked = fused(near, [(2, 9.0), (5, 1.0)], "text")
    assert [(one.key, one.space) for one in ranked] == [(2, "text"), (7, "image"), (5, "text")]
    assert [one.score for one in ranked] == pytest.approx([1 / 61 + 1 / 62, 1 / 61, 1 / 62])


def test_the_target_is_rocchios() -> None:
    like, unlike = np.array([[1, 0], [0, 1]], np.float32), np.array([[1, 1]], np.float32)
    np.testing.assert_allclose(target(like, unlike), [0, 0])
    np.testing.assert_allclose(target(like, unlike[:0]), [0.5, 0.5])
