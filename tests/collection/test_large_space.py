"""Search of a large space: a mapped base, deletions, a tail and an index give what comparing all vectors gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from omnivec.collection import ranking as ranking_module
from omnivec.collection import searched
from omnivec.collection.ranking import Ranking
from omnivec.collection.searched import LargeSpace, Proposing
from omnivec.store import matrix
from omnivec.store.indexes.exact import ExactIndex
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue

DIM = 12


class Proposer(ExactIndex):
    """An index that proposes twice as many keys as are wanted, out of order."""

    def candidates(self, k):
        return 2 * k

    def search(self, queries, k, allowed=None):
        keys, scores = super().search(queries, k, allowed)
        return np.random.default_rng(0).permuted(keys, axis=1), np.zeros_like(scores)


class NoBuilder:
    """Starts no process; counts how often one would be."""

    started = 0

    def __init__(self, *_):
        pass

    def start(self):
        type(self).started += 1

    def stop(self):
        type(self).started -= 1


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Spaces are large from 30 vectors on."""
    monkeypatch.setattr(matrix, "EXACT_ROWS", 30)
    monkeypatch.setattr(matrix, "_WORTHWHILE", 10)
    monkeypatch.setattr(searched, "FEW", 3)
    monkeypatch.setattr(ranking_module, "Builder", NoBuilder)
    monkeypatch.setattr(NoBuilder, "started", 0)


def write(catalogue, name, vectors, parts=1, space="a"):
    grouped = [vectors[i : i + parts] for i in range(0, len(vectors), parts)]
    passages = tuple(Passage(0, 0, None, "", "image", {space: rows}) for rows in grouped)
    catalogue.write([Document(name, "image", "", b"", None, None, 0, 0, 0, {}, 0, passages)])


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, DIM)).astype(np.float32)
    vectors[rng.random(count) < 0.05] = 0
    return np.repeat(vectors[::2], 2, axis=0)[:count]  # ties


def brute(catalogue, query, k, metric, allowed=None, space="a"):
    """The k nearest by a comparison of all vectors of the catalogue in float64."""
    keys, rows = catalogue.vectors(space)
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    distances = np.sqrt(((rows - query) ** 2).sum(1))
    scores = 0 - distances if metric == "euclidean" else (rows * query).sum(1)
    if metric == "cosine":
        norms = np.sqrt((rows**2).sum(1)) * np.sqrt((query**2).sum())
        scores = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
    best = {}
    for key, score in zip(keys.tolist(), scores.astype(np.float32).tolist(), strict=True):
        if allowed is None or key in set(allowed.tolist()):
            best[key] = max(score, best.get(key, -np.inf))
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))[:k]


def of(catalogue, ranking, query, k, allowed=None):
    with catalogue.snapshot():
        return [(one.key, one.score) for one in ranking.nearest({"a": query}, k, allowed)]


def space_of(ranking) -> Any:
    return ranking._searched["a"]


def opened(folder, metric="cosine", create=True):
    catalogue = Catalogue.open(folder, create=create)
    if create:
        catalogue.put_space(SpaceRecord("a", "model", DIM, metric, {}, {}, ()))
    return catalogue


def with_index(catalogue, ranking):
    """Gives the ranking an index of the present state, as one is read from a file."""
    with catalogue.snapshot():
        large = ranking._of("a")
    if isinstance(large, LargeSpace):
        keys, vectors = catalogue.vectors("a")
        index: Any = Proposer(DIM, large.metric, keys, vectors)
        proposing = Proposing(index, int(keys[-1]), large.state)
        ranking._searched["a"] = LargeSpace(large.rows, large.metric, large.base, proposing)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failure is short, and shrinking takes minutes
)
@given(
    data=st.data(), metric=st.sampled_from(["cosine", "dot", "euclidean"]), parts=st.sampled_from([1, 1, 2])
)
def test_any_sequence_of_changes_is_searched_as_all_vectors_are(tmp_path_factory, data, metric, parts):
    folder = tmp_path_factory.mktemp("c") / "c"
    catalogue = opened(folder, metric)
    ranking, names = Ranking(catalogue, folder), ["first"]
    write(catalogue, "first", drawn(80 * parts), parts)
    steps = st.lists(
        st.sampled_from(["add", "much", "delete", "replace", "touch", "reopen", "index", "index"]),
        min_size=1,
        max_size=7,
    )
    for seed, step in enumerate(data.draw(steps), 1):
        if step in ("add", "much"):
            write(catalogue, f"d{seed}", drawn((3 if step == "add" else 30) * parts, seed), parts)
            names.append(f"d{seed}")
        elif step == "delete" and names:
            catalogue.delete([names.pop(data.draw(st.integers(0, len(names) - 1)))])
        elif step == "replace" and names:
            write(catalogue, names[0], drawn(40 * parts, seed), parts)
        elif step == "touch":
            catalogue.touch({"first": (1, 2, 3)})
        elif step == "reopen":
            catalogue.close()
            catalogue = opened(folder, metric, create=False)
            ranking = Ranking(catalogue, folder)
        elif step == "index":
            with_index(catalogue, ranking)
        query = drawn(8, seed + 100)[data.draw(st.integers(0, 7))]
        keys = np.unique(catalogue.vector_keys("a"))
        share = data.draw(st.sampled_from([0.05, 0.5, 0.9]))
        some = keys[np.random.default_rng(seed).random(len(keys)) < share]
        for k in (1, 5, 200):
            for allowed in (None, some):
                right = brute(catalogue, query, k, metric, allowed)
                assert of(catalogue, ranking, query, k, allowed) == right
    catalogue.close()


@pytest.fixture
def filled(tmp_path):
    with opened(tmp_path / "c") as catalogue:
        for i in range(20):
            write(catalogue, f"d{i}", drawn(20, i))
        yield catalogue


def read_all(catalogue, monkeypatch):
    """Counts the vectors and the keys that are read from the catalogue from now on."""
    read = []
    for name in ("vectors", "vector_keys", "vector_blocks"):
        original = getattr(Catalogue, name)

        def counted(self, *of, original=original, name=name, **options):
            read.append((name, options.get("after", 0)))
            return original(self, *of, **options)

        monkeypatch.setattr(Catalogue, name, counted)
    return read


def test_a_write_costs_what_it_changed(filled, monkeypatch):
    ranking = Ranking(filled, filled.folder)
    query = drawn(1, 50)[0]
    of(filled, ranking, query, 5)
    base = space_of(ranking).rows.base
    read = read_all(filled, monkeypatch)
    for step in range(6):
        write(filled, f"new{step}", drawn(2, 60 + step))
        filled.delete([f"new{step - 1}"])
        right = brute(filled, query, 5, "cosine")
        read.clear()
        assert of(filled, ranking, query, 5) == right
        assert read and all(name == "vectors" and after >= 400 for name, after in read)
        assert space_of(ranking).rows.base.keys is base.keys
        assert space_of(ranking).base._keys is base.keys  # nothing is copied


def test_opening_reads_no_vector_of_the_catalogue_and_few_of_the_file(filled, monkeypatch):
    query = drawn(1, 50)[0]
    of(filled, Ranking(filled, filled.folder), query, 5)
    read, ranking = read_all(filled, monkeypatch), Ranking(filled, filled.folder)
    with filled.snapshot():
        large: Any = ranking._of("a")
        assert read == [] and not large.rows.base.file._verified.any()
        ranking.nearest({"a": query}, 3, filled.vector_keys("a")[:3])
    assert 1 <= large.rows.base.file._verified.sum() <= 3


def test_only_what_is_asked_for_is_computed(filled):
    ranking = Ranking(filled, filled.folder)
    of(filled, ranking, drawn(1, 50)[0], 5)
    assert not {"sample", "passages"} & set(vars(space_of(ranking)))


@pytest.mark.parametrize("indexed", [False, True])
def test_a_damaged_block_costs_no_answer(filled, indexed):
    query = drawn(1, 50)[0]
    of(filled, Ranking(filled, filled.folder), query, 5)
    ranking = Ranking(filled, filled.folder)
    (file,) = filled.folder.glob("matrix-*.f32")
    whole = file.read_bytes()
    file.write_bytes(whole[:64] + bytes(400 * DIM * 4) + whole[64 + 400 * DIM * 4 :])
    if indexed:
        with_index(filled, ranking)
    for _ in range(2):
        assert of(filled, ranking, query, 5) == brute(filled, query, 5, "cosine")
    (file,) = filled.folder.glob("matrix-*.f32")
    assert file.read_bytes() == whole


def test_a_damaged_block_is_no_answer_to_a_reader_either(filled):
    query = drawn(1, 50)[0]
    of(filled, Ranking(filled, filled.folder), query, 5)
    (file,) = filled.folder.glob("matrix-*.f32")
    whole = file.read_bytes()
    damaged = whole[:64] + bytes(400 * DIM * 4) + whole[64 + 400 * DIM * 4 :]
    file.write_bytes(damaged)
    with Catalogue.open(filled.folder, create=False, readonly=True) as reader:
        assert of(reader, Ranking(reader, reader.folder), query, 5) == brute(reader, query, 5, "cosine")
    assert file.read_bytes() == damaged


def test_a_reader_goes_on_while_the_file_is_written_anew(filled):
    query = drawn(1, 50)[0]
    of(filled, Ranking(filled, filled.folder), query, 5)
    with Catalogue.open(filled.folder, create=False, readonly=True) as reader:
        ranking = Ranking(reader, reader.folder)
        with reader.snapshot():
            before = ranking.nearest({"a": query}, 5)
            write(filled, "much", drawn(200, 70))
            of(filled, Ranking(filled, filled.folder), query, 5)
            assert ranking.nearest({"a": query}, 5) == before
        assert of(reader, ranking, query, 5) == brute(reader, query, 5, "cosine")


def test_a_space_that_takes_the_name_of_another_takes_nothing_else_of_it(filled):
    query = drawn(1, 50)[0]
    ranking = Ranking(filled, filled.folder)
    with_index(filled, ranking)
    of(filled, ranking, query, 5)
    (file,) = filled.folder.glob("matrix-*.f32")
    filled.put_space(SpaceRecord("b", "model", DIM, "cosine", {}, {}, ()))
    for i in range(4):
        write(filled, f"b{i}", drawn(20, 80 + i), space="b")
    with filled._connections.transaction() as connection:
        connection.execute("UPDATE spaces SET name = 'old' WHERE name = 'a'")
        connection.execute("UPDATE spaces SET name = 'a' WHERE name = 'b'")
        connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'changes'")
        connection.execute("INSERT INTO history SELECT value, 7 FROM meta WHERE key = 'changes'")
        connection.execute("UPDATE meta SET value = 7 WHERE key = 'stamp'")
    filled._known_spaces = None
    assert of(filled, ranking, query, 5) == brute(filled, query, 5, "cosine")
    assert of(filled, Ranking(filled, filled.folder), query, 5) == brute(filled, query, 5, "cosine")
    assert not file.exists()  # no space of this name and key is left


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_the_greatest_and_the_smallest_numbers(tmp_path, metric):
    vectors = drawn(60, 5) * np.float32(10.0) ** np.repeat([-30, 0, 18], 20)[:, None].astype(np.float32)
    with opened(tmp_path / "c", metric) as catalogue:
        write(catalogue, "all", vectors)
        ranking = Ranking(catalogue, catalogue.folder)
        for indexed in (False, True):
            if indexed:
                with_index(catalogue, ranking)
            for query in (drawn(3, 8)[2], drawn(3, 8)[2] * np.float32(1e-30), vectors[45]):
                assert of(catalogue, ranking, query, 6) == brute(catalogue, query, 6, metric)


def test_several_spaces_are_ranked_as_small_ones_are(filled, monkeypatch):
    filled.put_space(SpaceRecord("b", "model", DIM, "dot", {}, {}, ()))
    write(filled, "other", drawn(100, 90), space="b")
    queries = {"a": drawn(1, 50)[0], "b": drawn(1, 51)[0]}
    with filled.snapshot():
        got = Ranking(filled, filled.folder).nearest(queries, 20)
        monkeypatch.setattr(matrix, "EXACT_ROWS", 10_000)
        assert got == Ranking(filled, filled.folder).nearest(queries, 20)


def test_a_build_is_started_where_there_is_no_index_and_not_by_a_reader(filled):
    query = drawn(1, 50)[0]
    of(filled, Ranking(filled, filled.folder, ExactIndex), query, 5)
    with Catalogue.open(filled.folder, create=False, readonly=True) as reader:
        of(reader, Ranking(reader, reader.folder), query, 5)
    assert NoBuilder.started == 0
    ranking = Ranking(filled, filled.folder)
    of(filled, ranking, query, 5)
    assert NoBuilder.started == 1
    ranking.close()
    assert NoBuilder.started == 0


def test_a_removed_document_leaves_room_for_others(filled):
    query, ranking = drawn(1, 50)[0], Ranking(filled, filled.folder)
    write(filled, "near", np.tile(query, (60, 1)) + drawn(60, 51) / 100)
    of(filled, ranking, query, 1)
    with_index(filled, ranking)
    filled.delete(["near"])
    write(filled, "far", -drawn(60, 51))
    for k in (1, 5, 20):
        assert of(filled, ranking, query, k) == brute(filled, query, k, "cosine")


def test_an_index_file_is_used_when_it_appears(filled, monkeypatch):
    from omnivec.store import index_builder

    monkeypatch.setattr(ranking_module, "LOOK_SECONDS", 0.0)
    ranking, query = Ranking(filled, filled.folder), drawn(1, 50)[0]
    right = of(filled, ranking, query, 5)
    assert space_of(ranking).proposing is None
    index_builder.build(filled, filled.folder, "a", "faiss")
    assert of(filled, ranking, query, 5) == right
    assert space_of(ranking).proposing.last == 400
    write(filled, "new", query[None])
    assert of(filled, ranking, query, 1)[0][0] == 401
    filled.delete(["new"])
    assert of(filled, ranking, query, 5) == right
