"""The catalogue against what was put into it, and against a dict through random histories."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import sqlite3
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from uuid import UUID

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from omnivec.errors import CollectionDamaged, CollectionError, UsageError
from omnivec.store import matrix, writing
from omnivec.store.records import Document, SpaceRecord
from omnivec.store.sqlite import Catalogue
from patience import PATIENCE
from store_samples import DIM, document, passage, space


def test_a_document_comes_back_as_it_went_in(catalogue):
    given = Document(
        id="notes/ä.md",
        modality="text",
        pipeline="markdown 2; 256 tokens",
        digest=b"\x00\xff",
        root="/home/me/notes",
        path="/home/me/notes/ä.md",
        size=2**40,
        mtime_ns=2**62,
        device=2**33,
        metadata={"year": 2024, "tags": ["a", None, True, 1.5], "in": {"deep": "ü\U0001f642"}},
        lost=17,
        passages=(passage("one", 1.0), passage("", 2.0, parts=3)),
    )
    catalogue.write([given])
    back = catalogue.document("notes/ä.md")
    simple = [name for name in Document.__dataclass_fields__ if name != "passages"]
    assert [getattr(back, name) for name in simple] == [getattr(given, name) for name in simple]
    assert [(p.start, p.end, p.line, p.text, p.modality) for p in back.passages] == [
        (0, 3, 1, "one", "text"),
        (0, 0, 1, "", "text"),
    ]
    for ours, theirs in zip(back.passages, given.passages, strict=True):
        np.testing.assert_array_equal(ours.vectors["text"], theirs.vectors["text"])
    assert catalogue.document("other") is None
    (entry,) = catalogue.documents()
    assert (entry.id, entry.passages, entry.metadata, entry.lost) == (given.id, 2, given.metadata, 17)


def test_passages_are_found_by_their_keys(catalogue):
    catalogue.write([document("a", ["first", "second"], metadata={"n": 1}), document("b", ["third"])])
    keys = catalogue.keys_of(["b", "a"])
    assert keys.tolist() == [1, 2, 3]
    found = catalogue.passages(np.array([3, 99, 1]))
    assert list(found) == [3, 1]
    assert (found[3].document, found[3].ordinal, found[3].text, found[3].metadata) == ("b", 0, "third", {})
    assert (found[1].document, found[1].ordinal, found[1].text, found[1].metadata) == (
        "a",
        0,
        "first",
        {"n": 1},
    )


def test_more_keys_than_sqlite_has_variables(catalogue):
    catalogue.write([document("a", ["x"] * 3)])
    assert list(catalogue.passages(np.arange(300_000))) == [1, 2, 3]
    assert len(catalogue.vectors("text", np.arange(300_000))[0]) == 3
    assert len(catalogue.text_search("x", 5, np.arange(300_000))) == 3


def test_replacing_gives_new_keys_and_leaves_nothing_behind(catalogue):
    catalogue.write([document("a", ["red apple", "green pear"])])
    catalogue.write([document("a", ["blue plum"])], remove=["a", "unknown"])
    assert catalogue.keys_of(["a"]).tolist() == [3]
    assert catalogue.text_search("apple", 5) == []
    assert [key for key, _ in catalogue.text_search("plum", 5)] == [3]
    assert catalogue.delete(["a", "a", "b"]) == 1
    catalogue.write([document("a", ["again"])])
    assert catalogue.keys_of(["a"]).tolist() == [4]
    assert catalogue.check() == []


def test_of_two_documents_with_one_id_the_later_is_kept(catalogue):
    catalogue.write([document("a", ["old"]), document("a", ["new"])])
    assert [found.text for found in catalogue.passages(catalogue.keys_of(["a"])).values()] == ["new"]


def test_vectors_are_read_whole_by_keys_and_from_a_key_on(catalogue):
    catalogue.write([document("a", ["x", "y"], 10, parts=2), document("b", ["z"], 50)])
    keys, rows = catalogue.vectors("text")
    assert keys.tolist() == [1, 1, 2, 2, 3]
    np.testing.assert_array_equal(rows[:, 0], [10, 14, 11, 15, 50])
    assert (keys.dtype, rows.dtype, rows.shape) == (np.int64, np.float32, (5, DIM))
    assert catalogue.vector_keys("text").tolist() == keys.tolist()
    keys, rows = catalogue.vectors("text", np.array([3, 1]))
    assert (keys.tolist(), rows[:, 0].tolist()) == ([1, 1, 3], [10, 14, 50])
    assert catalogue.vectors("text", after=2)[0].tolist() == [3]
    assert catalogue.vectors("text", np.zeros(0, np.int64))[1].shape == (0, DIM)
    with pytest.raises(UsageError, match=r"no space 'image'.*text"):
        catalogue.vectors("image")


def test_several_spaces_keep_apart(catalogue):
    catalogue.put_space(space("image", dim=2, metric="dot"))
    text = document("a", ["x"])
    vectors = {**text.passages[0].vectors, "image": np.ones((1, 2), np.float32)}
    both = replace(text, passages=(replace(text.passages[0], vectors=vectors),))
    catalogue.write([both, document("b", ["y"])])
    assert catalogue.vectors("image")[0].tolist() == [1]
    assert catalogue.vectors("text")[0].tolist() == [1, 2]
    assert set(catalogue.document("a").passages[0].vectors) == {"text", "image"}
    counts = catalogue.counts()
    assert (counts.documents, counts.passages, counts.lost) == (2, 2, 4)
    assert counts.vectors == {"text": 2, "image": 1}
    assert counts.bytes >= sum(f.stat().st_size for f in catalogue.folder.glob("*.sqlite"))


def test_a_space_comes_back_and_cannot_change_under_its_vectors(catalogue):
    canaries = (("hello", np.array([1, 2, 3, 4], np.float32)), ("world", np.zeros(4, np.float32)))
    given = SpaceRecord("text", "other/model", DIM, "cosine", {"a": [1]}, {"engine": "x"}, canaries)
    catalogue.put_space(given)
    back = catalogue.spaces()["text"]
    assert (back.model, back.dim, back.metric, back.identity, back.provenance) == (
        "other/model",
        DIM,
        "cosine",
        {"a": [1]},
        {"engine": "x"},
    )
    assert [text for text, _ in back.canaries] == ["hello", "world"]
    np.testing.assert_array_equal(back.canaries[0][1], canaries[0][1])
    catalogue.put_space(space(dim=9))
    assert catalogue.spaces()["text"].dim == 9
    catalogue.put_space(space())
    catalogue.write([document("a")])
    with pytest.raises(UsageError, match=r"dim 4, metric cosine.*dim 4, metric dot"):
        catalogue.put_space(space(metric="dot"))


def test_touch_and_signatures_and_roots(catalogue):
    catalogue.add_root("/b")
    catalogue.add_root("/a")
    catalogue.add_root("/b")
    assert catalogue.roots() == ("/a", "/b")
    catalogue.write([document("x", root="/a"), document("y", root="/b"), document("z")])
    catalogue.touch({"x": (11, 22, 33), "unknown": (1, 2, 3)})
    assert set(catalogue.signatures()) == {"x", "y", "z"}
    signature = catalogue.signatures("/a")["x"]
    assert (signature.mtime_ns, signature.size, signature.device) == (11, 22, 33)
    assert (signature.digest, signature.pipeline) == (b"x", "plain 1; 100 tokens")
    assert set(catalogue.signatures("/b")) == {"y"}


def test_every_write_counts_and_the_history_is_bounded(catalogue, monkeypatch):
    monkeypatch.setattr(writing, "HISTORY", 40)
    before, stamp = catalogue.changes()
    catalogue.write([document("a")])
    catalogue.touch({"a": (1, 2, 3)})
    catalogue.delete(["a"])
    catalogue.delete(["a"])
    catalogue.write([])
    after, other = catalogue.changes()
    assert after == before + 3
    assert other != stamp
    for i in range(40):
        catalogue.add_root(str(i))
    history = catalogue.history()
    assert len(history) == 40
    assert max(history) == after + 40
    assert history[after + 40] == catalogue.stamp(after + 40) == catalogue.changes()[1]
    assert catalogue.stamp(after) is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (document("bad", metadata={"x": float("inf")}), "an infinity"),
        (document("bad", metadata={"x": {1, 2}}), "metadata of 'bad': 'x' holds a set, {1, 2};"),
        (document("bad", metadata={1: "x"}), "key 1, a int"),
        (document("bad\ud800"), "cannot be encoded in UTF-8"),
        (document("bad", metadata={"x": [{"y": b"z"}]}), r": 'x'\[0\]\['y'\] holds a bytes, b'z'"),
        (document("bad", metadata={None: 1}), "key None, a NoneType"),
        (document("bad", metadata={"$v": 1}), r"key '\$v'; a key that begins"),
        (document("bad", metadata={"x": {10**5000}}), "holds a set, <set>"),
        (document("bad", metadata={"x": Decimal("-Infinity")}), "an infinity"),
    ],
)
def test_a_bad_document_costs_the_whole_write_and_nothing_else(catalogue, bad, message):
    catalogue.write([document("kept", ["old"])])
    state = catalogue.changes()
    with pytest.raises(UsageError, match=message) as caught:
        catalogue.write([document("new"), bad], remove=["kept"])
    assert "\n" not in str(caught.value)
    assert [entry.id for entry in catalogue.documents()] == ["kept"]
    assert catalogue.changes() == state
    assert catalogue.check() == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"text": np.zeros((1, 5), np.float32)}, r"\(1, 5\).*float32 \(parts, 4\)"),
        ({"text": np.zeros((1, 4))}, "float64"),
        ({"text": np.zeros(4, np.float32)}, r"\(4,\)"),
        ({"text": np.array([[1, np.nan, np.inf, 0]], np.float32)}, "2 of 4 numbers are NaN or infinite"),
        ({"image": np.zeros((1, 4), np.float32)}, "space 'image'.*text"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(catalogue, vectors, message):
    good = document("a")
    bad = replace(good, passages=(replace(good.passages[0], vectors=vectors),))
    with pytest.raises(UsageError, match=message):
        catalogue.write([bad])
    assert catalogue.counts().documents == 0


def test_numbers_beyond_64_bits_are_refused_in_one_line(catalogue):
    import dataclasses

    with pytest.raises(UsageError, match="64 bits"):
        catalogue.write([dataclasses.replace(document("a"), size=2**70)])


def test_texts_that_sqlite_cannot_hold_keep_their_length(catalogue):
    catalogue.write([document("a", ["a\0b\ud800c tail"], metadata={"k\0": "v\0w"})])
    (found,) = catalogue.passages(catalogue.keys_of(["a"])).values()
    assert (found.text, found.metadata) == ("a\ufffdb\ufffdc tail", {"k\ufffd": "v\ufffdw"})
    assert len(catalogue.text_search("tail", 3)) == 1
    assert len(catalogue.passage_keys({"k\0": "v\0w"})) == 1


def test_a_snapshot_sees_one_state(catalogue):
    catalogue.write([document("a")])
    with catalogue.snapshot():
        before = catalogue.changes()
        writer = threading.Thread(target=lambda: catalogue.write([document("b")]))
        writer.start()
        writer.join()
        with catalogue.snapshot():
            assert [entry.id for entry in catalogue.documents()] == ["a"]
        assert catalogue.changes() == before
        assert catalogue.counts().documents == 1
    assert catalogue.counts().documents == 2


def test_a_closed_catalogue_says_so(tmp_path):
    closed = Catalogue.open(tmp_path, create=True)
    closed.close()
    closed.close()
    with pytest.raises(CollectionError, match="was closed"):
        closed.changes()
    with pytest.raises(CollectionError, match="was closed"):
        closed.write([document("a")])


def test_threads_leave_no_open_connections(tmp_path):
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("needs /proc")
    with Catalogue.open(tmp_path, create=True) as catalogue:
        catalogue.changes()
        before = len(list(handles.iterdir()))
        for _ in range(20):
            thread = threading.Thread(target=catalogue.changes)
            thread.start()
            thread.join()
        gc.collect()
        assert len(list(handles.iterdir())) <= before + 1


def _read_after_fork(catalogue, answers):
    answers.put((os.getpid(), catalogue.counts().documents))
    catalogue.write([document("child")])
    answers.put((os.getpid(), catalogue.counts().documents))
    catalogue.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork_connections_are_opened_anew(catalogue):
    catalogue.write([document("parent")])
    with catalogue.snapshot():
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=_read_after_fork, args=(catalogue, answers))
        child.start()
        assert [answers.get(timeout=PATIENCE)[1], answers.get(timeout=PATIENCE)[1]] == [1, 2]
        child.join()
        assert child.exitcode == 0
        assert catalogue.counts().documents == 1
    assert [entry.id for entry in catalogue.documents()] == ["child", "parent"]
    catalogue.write([document("again")])
    assert catalogue.check() == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("INSERT INTO passages_words (passages_words) VALUES ('delete-all')", "passages_words"),
        ("INSERT INTO passages_trigrams (passages_trigrams) VALUES ('delete-all')", "passages_trigrams"),
        ("UPDATE vectors SET vector = x'00' WHERE passage = 1", "1 vectors of a wrong length"),
        ("DELETE FROM passages WHERE key = 1", "1 vectors without a passage"),
        ("DELETE FROM documents WHERE id = 'a'", "2 passages without a document"),
        ("UPDATE meta SET value = value + 1", "history"),
        ("UPDATE documents SET indexed_ns = 'never'", "documents.indexed_ns of 'a' holds 'never'"),
    ],
)
def test_check_finds_damage(catalogue, damage, message):
    catalogue.write([document("a", ["some words", "東京都の天気"]), document("b", ["more words"])])
    assert catalogue.check() == []
    foreign = sqlite3.connect(catalogue.folder / "catalogue.sqlite")
    with foreign:
        foreign.execute(damage)
    foreign.close()
    assert any(message in problem for problem in catalogue.check())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE roots SET path = '/home/other'", "table of roots"),
        ("INSERT INTO roots VALUES ('/more')", "table of roots"),
        ("DELETE FROM roots", "table of roots"),
        ("UPDATE spaces SET model = 'org/other'", "table of spaces"),
        ("UPDATE spaces SET metric = 'dot'", "table of spaces"),
        ("UPDATE spaces SET identity = '{}'", "table of spaces"),
        ("UPDATE spaces SET provenance = '{}'", "table of spaces"),
        ("UPDATE canaries SET text = 'another'", "table of canaries"),
        ("UPDATE canaries SET vector = x'0000803f000000000000000000000000'", "table of canaries"),
        ("UPDATE canaries SET ordinal = 7", "table of canaries"),
        ("DELETE FROM canaries", "table of canaries"),
        ("UPDATE documents SET size = size + 1", "'a' is not what was written"),
        ("UPDATE documents SET mtime_ns = mtime_ns + 1", "'a' is not what was written"),
        ("UPDATE documents SET device = device + 1", "'a' is not what was written"),
        ("UPDATE documents SET indexed_ns = indexed_ns + 1", "'a' is not what was written"),
    ],
)
def test_check_notices_that_a_value_of_the_right_type_is_another(catalogue, change, named):
    catalogue.put_space(replace(space(), canaries=(("a canary", np.array([0, 1, 2, 0], np.float32)),)))
    catalogue.write([document("a"), document("b")])
    catalogue.touch({"a": (1, 2, 3)})
    catalogue.add_root("/home/notes")
    assert catalogue.check() == []
    with closing(sqlite3.connect(catalogue.folder / "catalogue.sqlite")) as foreign, foreign:
        foreign.execute(change)
    assert any(named in problem for problem in catalogue.check())
    catalogue.write([document("c")])
    catalogue.touch({"a": (4, 5, 6)})
    catalogue.add_root("/home/more")
    assert any(named in problem for problem in catalogue.check())  # a later write hides nothing


NAMES = st.sampled_from("abcdefgh")
TEXTS = st.lists(
    st.sampled_from(["red fox", "blue whale", "東京都庁舎", "C++ code", "", "red 東京"]), max_size=3
)


class Histories(RuleBasedStateMachine):
    """Random writes against a dict; the matrix file is made at any size, so that its every path is taken."""

    @initialize()
    def begin(self):
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name)
        self.catalogue = Catalogue.open(self.folder, create=True)
        self.catalogue.put_space(space())
        self.model = {}
        self.number = 0.0
        self.keys_seen = set()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(matrix, "_WORTHWHILE", 1)

    def _new(self, name, texts):
        self.number += 10
        self.model.pop(name, None)
        self.model[name] = (texts, self.number)
        return document(name, texts, self.number, metadata={"name": name})

    @rule(items=st.lists(st.tuples(NAMES, TEXTS), max_size=4), remove=st.lists(NAMES, max_size=2))
    def write(self, items, remove):
        for name in remove:
            if name not in dict(items):
                self.model.pop(name, None)
        self.catalogue.write([self._new(name, texts) for name, texts in items], remove)

    @rule(names=st.lists(NAMES, max_size=3))
    def delete(self, names):
        assert self.catalogue.delete(names) == len({name for name in names if name in self.model})
        for name in names:
            self.model.pop(name, None)

    @rule()
    def reopen(self):
        self.catalogue.close()
        self.catalogue = Catalogue.open(self.folder, create=False)

    @rule(cut=st.integers(0, 200))
    def damage_a_matrix(self, cut):
        for file in self.folder.glob("matrix-*"):
            file.write_bytes(file.read_bytes()[:-cut] if cut else b"")

    @invariant()
    def everything_agrees(self):
        expected = {
            (name, i): (text, number + i)
            for name, (texts, number) in self.model.items()
            for i, text in enumerate(texts)
        }
        assert [entry.id for entry in self.catalogue.documents()] == sorted(self.model)
        keys = self.catalogue.passage_keys({})
        found = self.catalogue.passages(keys)
        place = {key: (passage.document, passage.ordinal) for key, passage in found.items()}
        assert sorted(place.values()) == sorted(expected)
        loaded = matrix.load(self.catalogue, self.folder, "text")
        for rows, vectors in (self.catalogue.vectors("text"), (loaded.keys, loaded.vectors)):
            assert rows.tolist() == sorted(place)
            np.testing.assert_array_equal(vectors[:, 0], [expected[place[key]][1] for key in rows.tolist()])
        for word in ("fox", "東京都", "東京", "C++"):
            hits = {place[key] for key, _ in self.catalogue.text_search(word, 100)}
            assert hits == {at for at, (text, _) in expected.items() if word in text}
        assert self.catalogue.check() == []

    def teardown(self):
        if hasattr(self, "catalogue"):
            self.catalogue.close()
            self.patch.undo()
            self.place.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (PurePosixPath("a/b"), "a/b"),
        (Path("c"), "c"),
        (Decimal("1.50"), 1.5),
        (Decimal("2E3"), 2000),
        (Decimal("1E30"), 1e30),
        (Decimal("0.1"), 0.1),
        (Decimal("sNaN"), None),
        (np.longdouble(0.25), 0.25),
        (np.datetime64("NaT"), None),
        (date(2020, 1, 2), "2020-01-02"),
        (float("nan"), None),
    ],
)
def test_values_of_libraries_are_stored_in_json_and_found_by_a_filter(catalogue, value, stored):
    catalogue.write([document("a", metadata={"x": value}), document("b", metadata={"x": ["other"]})])
    (entry,) = catalogue.documents(ids=["a"])
    assert entry.metadata == {"x": stored} and type(entry.metadata["x"]) is type(stored)
    assert [one.id for one in catalogue.documents({"x": value})] == ["a"]
    assert [one.id for one in catalogue.documents({"x": {"$in": [value]}})] == ["a"]


def test_arrays_are_lists_of_their_values(catalogue):
    days = np.array(["2020-01-02", "NaT"], "datetime64[D]")
    catalogue.write(
        [document("a", metadata={"days": days, "matrix": np.array([[1.5, np.nan]], np.longdouble)})]
    )
    assert catalogue.documents()[0].metadata == {"days": ["2020-01-02", None], "matrix": [[1.5, None]]}


def test_fractions_are_refused_with_their_value(catalogue):
    with pytest.raises(UsageError, match=r"'x'\['y'\] holds a Fraction, Fraction\(1, 3\); allowed"):
        catalogue.write([document("a", metadata={"x": {"y": Fraction(1, 3)}})])


def test_a_folder_above_the_collection_holds_its_files(catalogue):
    base = catalogue.folder.parent
    catalogue.write([document("x", root="docs"), document("y", root="/elsewhere")])
    under = {folder: len(catalogue.keys_under(folder)) for folder in (".", "docs", "doc", "/elsewhere", "/")}
    assert under == {".": 1, "docs": 1, "doc": 0, "/elsewhere": 1, "/": 2}
    assert len(catalogue.keys_under(str(base.parent))) == 1


def test_metadata_that_are_a_list_are_damage_to_every_reader(catalogue):
    catalogue.write([document("a", metadata={"x": 1})])
    with sqlite3.connect(catalogue.folder / "catalogue.sqlite") as foreign:
        foreign.execute("UPDATE documents SET metadata = '[1]'")
    foreign.close()
    for read in (catalogue.documents, lambda: catalogue.unmatched({"y": 1})):
        with pytest.raises(CollectionDamaged, match="JSON object"):
            read()


@pytest.mark.parametrize("key", ["king", 2.5, b"\x00\xff"], ids=str)
def test_a_vector_whose_passage_is_no_key_is_damage(catalogue, key):
    catalogue.write([document("a"), document("b")])
    with sqlite3.connect(catalogue.folder / "catalogue.sqlite") as foreign:
        foreign.execute("UPDATE vectors SET passage = ? WHERE rowid = 1", (key,))
    foreign.close()
    for read in (catalogue.vectors, catalogue.vector_keys):
        with pytest.raises(
            CollectionDamaged, match=r"the key of a passage is .*, not an integer|without a passage"
        ):
            read("text")


def test_a_folder_that_is_gone_cannot_be_made_smaller(catalogue):
    catalogue.write([document("a")])
    shutil.rmtree(catalogue.folder)
    with pytest.raises(CollectionError, match="was removed or replaced"):
        catalogue.vacuum()


def test_why_a_filter_passes_nothing(catalogue):
    assert catalogue.unmatched({"year": 2024}) == ()  # nothing is in yet
    catalogue.write(
        [
            document("a", metadata={"suffix": ".md", "size": 3, "dc": {"title": "x"}}),
            document("b", metadata={"dc.title": "y", "names": ["Ann"]}),
        ]
    )
    for where in (
        {"size": 4},
        {"dc.title": "z"},
        {"names": "Bob"},
        {"$not": {"x": 1}},
        {"x": {"$ne": 1}},
        {},
    ):
        assert catalogue.unmatched(where) == ()
    (line,) = catalogue.unmatched({"sufix": ".md"})
    assert line == "no document has the field 'sufix'; there are: suffix, dc, dc.title, names, size"
    (line,) = catalogue.unmatched({"$and": [{"size": {"$gt": "1k"}}, {"size": 4}]})
    assert line == "'size' is compared with '1k', a text, and no document has a text there"
    (line,) = catalogue.unmatched({"suffix": {"$in": [3, 4]}})
    assert "is compared with 3, a number" in line
    assert [one.id for one in catalogue.documents({"dc.title": {"$prefix": "y"}})] == ["b"]
    assert [one.id for one in catalogue.documents({"dc.title": {"$exists": True}})] == ["a", "b"]


def test_an_interruption_while_a_log_is_tidied_up_costs_no_later_write_its_patience(catalogue, monkeypatch):
    """A write that found the file locked would have failed at once ever after."""

    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("omnivec.store.replaced.Files.log_size", interrupted)
        with pytest.raises(KeyboardInterrupt):
            catalogue.write([document("a")])
    assert [entry.id for entry in catalogue.documents()] == ["a"]
    other = sqlite3.connect(
        catalogue.folder / "catalogue.sqlite", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    release.start()
    catalogue.write([document("b")])
    release.join()
    other.close()
