"""A collection on an approximate index: its candidates are compared exactly, and where they are too few all is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import forgetting_index
import small_models
from forgetting_index import Forgetting
from omnivec import Collection, UsageError
from omnivec.collection.ranking import Ranking
from omnivec.collection.searched import CANDIDATES
from omnivec.store import index_registry
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue

DIM, COUNT = 24, 1200


def write(catalogue, name, vectors, space="a"):
    """A document whose passages have these vectors."""
    passages = tuple(Passage(0, 0, None, "", "image", {space: row[None]}) for row in vectors)
    catalogue.write([Document(name, "image", "", b"", None, None, 0, 0, 0, {}, 0, passages)])


@pytest.fixture
def filled(tmp_path):
    """A catalogue of two spaces, of 1,200 vectors each."""
    rng = np.random.default_rng(1)
    with Catalogue.open(tmp_path / "made", create=True) as catalogue:
        for space in "ab":
            catalogue.put_space(SpaceRecord(space, "model", DIM, "cosine", {}, {}, ()))
            write(catalogue, f"first {space}", rng.standard_normal((COUNT, DIM)).astype(np.float32), space)
        yield catalogue


@pytest.fixture
def rankings(filled, monkeypatch):
    """The exact ranking, that of the approximate index, and the indexes that the latter has built."""
    made = []

    def build(*of):
        made.append(Forgetting(*of))
        return made[-1]

    return Ranking(filled, filled.folder), Ranking(filled, filled.folder, build), made


def queries(count, seed=7):
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def forgotten(keys):
    return Forgetting(DIM, "cosine").forgets(np.asarray(keys))


def test_hits_are_those_of_the_exact_index_but_for_what_was_forgotten(filled, rankings):
    exact, approximate, made = rankings
    missed = 0
    for query in queries(20):
        with filled.snapshot():
            right = exact.nearest({"a": query}, 30)
            got = approximate.nearest({"a": query}, 10)
        remembered = [one for one in right if not forgotten([one.key])[0]]
        assert got == remembered[:10]  # keys, order and scores
        missed += got != right[:10]
    assert len(made) == 1 and made[0].searches == [CANDIDATES * 10] * 20
    assert 0 < missed < 20  # the index is approximate, and not always wrong


def test_a_filter_that_leaves_few_is_searched_exactly(filled, rankings):
    exact, approximate, _ = rankings
    keys = filled.vector_keys("a")
    some = np.sort(np.concatenate([keys[forgotten(keys)][:30], keys[~forgotten(keys)][:25]]))
    for query in queries(5):
        for allowed, k in ((some, 30), (some, 50), (some[:12], 10), (some[:0], 10)):
            with filled.snapshot():
                got = approximate.nearest({"a": query}, k, allowed)
                assert got == exact.nearest({"a": query}, k, allowed)
                assert {one.key for one in got} <= set(allowed.tolist())


def test_a_wide_filter_is_obeyed(filled, rankings):
    exact, approximate, made = rankings
    allowed = filled.vector_keys("a")[::2]
    with filled.snapshot():
        for query in queries(5):
            right = exact.nearest({"a": query}, 30, allowed)
            got = approximate.nearest({"a": query}, 10, allowed)
            assert got == [one for one in right if not forgotten([one.key])[0]][:10]
    assert len(made[0].searches) == 5


def test_what_comes_later_is_found_before_the_index_is_built_anew(filled, rankings):
    exact, approximate, made = rankings
    query = queries(1)[0]
    with filled.snapshot():
        before = approximate.nearest({"a": query}, 3)
    near = (query + 0.01 * queries(40, seed=9)).astype(np.float32)
    write(filled, "later", near)
    with filled.snapshot():
        got = approximate.nearest({"a": query}, 3)
        assert got == exact.nearest({"a": query}, 3) and got != before
    assert len(made) == 1  # 40 of 1,240 came
    filled.delete(["later"])
    with filled.snapshot():
        assert approximate.nearest({"a": query}, 3) == before
    write(filled, "much", queries(400, seed=11))
    with filled.snapshot():
        approximate.nearest({"a": query}, 3)
    assert [index.built for index in made] == [COUNT, COUNT + 400]


def test_what_was_removed_is_never_found(filled, rankings):
    _, approximate, made = rankings
    query = queries(1)[0]
    write(filled, "near", (query + 0.01 * queries(30, seed=9)).astype(np.float32))
    with filled.snapshot():
        assert len(approximate.nearest({"a": query}, 10)) == 10
    filled.delete(["near"])
    with filled.snapshot():
        keys = set(filled.vector_keys("a").tolist())
        got = approximate.nearest({"a": query}, 10)
    assert len(got) == 10 and {one.key for one in got} <= keys and len(made) == 1


def test_the_background_of_a_query_is_not_searched_approximately(filled, rankings):
    exact, approximate, made = rankings
    pair = queries(2)
    with filled.snapshot():
        right = {one.key: one for one in exact.nearest({"a": pair[0], "b": pair[1]}, 60)}
        got = approximate.nearest({"a": pair[0], "b": pair[1]}, 10)
    assert [dataclasses.asdict(one) for one in got] == [dataclasses.asdict(right[one.key]) for one in got]
    assert [index.searches for index in made] == [[CANDIDATES * 10]] * 2


@pytest.fixture
def announced(tmp_path, monkeypatch):
    """An index of another package, by an entry point."""
    info = tmp_path / "forgetting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: forgetting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{index_registry.GROUP}]\nforgetting = {forgetting_index.__name__}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    index_registry.indexes.cache_clear()
    yield "forgetting"
    index_registry.indexes.cache_clear()


def test_a_collection_takes_an_index_of_another_package_by_its_name(announced, tmp_path):
    model = small_models.of_words(tmp_path / "model")
    texts = [
        f"{a} {b} {c}" for a in small_models.WORDS for b in small_models.WORDS for c in small_models.WORDS
    ]
    with Collection(tmp_path / "notes.omni", model=model, index=announced) as notes:
        notes.add(texts, metadata=[{"place": i} for i in range(len(texts))])
        got = notes.search("quick fox", k=5, mode="vector")
        few = notes.search("quick fox", k=5, mode="vector", where={"place": {"$lt": 8}})
    with Collection(tmp_path / "notes.omni") as notes:
        right = notes.search("quick fox", k=60, mode="vector")
        assert few == notes.search("quick fox", k=5, mode="vector", where={"place": {"$lt": 8}})
    places = {hit.id: i for i, hit in enumerate(right)}
    assert len(got) == 5 and [hit.score for hit in got] == [right[places[hit.id]].score for hit in got]
    assert sorted(places[hit.id] for hit in got) == [places[hit.id] for hit in got]


@pytest.mark.parametrize(
    ("modules", "why"),
    [
        (
            ["nowhere"],
            "cannot be imported from nowhere .ModuleNotFoundError: No module named 'nowhere'.",
        ),
        (["small_models:WORDS"], "from small_models .AttributeError: .* no attribute 'INDEX'."),
        (["first", "second"], "2 packages provide the index 'mine', in the modules first and second"),
    ],
)
def test_a_package_with_a_broken_index_is_named(tmp_path, monkeypatch, modules, why):
    for module in modules:
        info = tmp_path / f"package_{module.partition(':')[0]}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package-{module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[{index_registry.GROUP}]\nmine = {module}\nexact = nowhere\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    index_registry.indexes.cache_clear()
    try:
        with pytest.raises(UsageError, match=why):
            Collection(tmp_path / "notes.omni", index="mine")
        Collection(tmp_path / "notes.omni", index="exact").close()
    finally:
        index_registry.indexes.cache_clear()


def test_an_index_that_there_is_not_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UsageError, match=r"no index 'annoy'; there are: exact, faiss$"):
        Collection(tmp_path / "notes.omni", index="annoy")
    assert not (tmp_path / "notes.omni").exists()
