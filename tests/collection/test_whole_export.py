"""A whole collection goes into files and comes back: the same to the last bit, or one line says what is wrong."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kinds_of_model import toy
from omnivec import Collection
from omnivec.collection import whole_formats as layouts
from omnivec.errors import CollectionDamaged, CollectionError, IdentityError, OmnivecError, UsageError
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import SparseRow
from workbench import CommandLine, loaded, prose

DIM = 3
TEXTS = st.text(max_size=12).map(lambda text: text.replace("\0", "")) | st.sampled_from(
    ["", " ", "a \n\n ", "\t", "\r\n", "\u2028", "naïve 北京 ", '"', "null"]
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
ROWS = st.lists(NUMBERS, min_size=DIM, max_size=DIM)
PASSAGES = st.tuples(
    TEXTS,
    st.sampled_from(["text", "image", "audio"]),
    st.none() | ROWS,
    st.lists(ROWS, max_size=3),
    st.none() | st.dictionaries(st.integers(0, 99), NUMBERS, max_size=3),
    st.floats(0, 2**30),
)
DOCUMENTS = st.dictionaries(
    TEXTS.filter(bool),
    st.tuples(
        st.dictionaries(TEXTS.filter(lambda key: not key.startswith("$")), VALUES, max_size=3),
        st.lists(PASSAGES, max_size=3),
        st.none() | TEXTS,
        st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=5,
)
SPACES = [
    SpaceRecord(
        *("text", "./models/x", DIM, "cosine", {"weights": {"float32": "ab"}, "n": 0.1}, {"engine": "e"}),
        canaries=(("a canary", np.array([1e-45, -0.0, 3.1], np.float32)),),
        modalities=("text", "image"),
    ),
    SpaceRecord("a/b: ü", "org/multi", DIM, "euclidean", {"weights": {}}, {}, (), kind="multi"),
    SpaceRecord("terms", "org/sparse", 100, "dot", {"weights": {}}, {}, (), kind="sparse", state="retired"),
    SpaceRecord("vectors", "", DIM, "dot", {}, {}, ()),
]


def passage(text: str, kind: str, one: Any, many: Any, terms: Any, start: float) -> Passage:
    vectors: dict[str, Any] = {}
    if one is not None:
        vectors["text" if kind == "text" else "vectors"] = np.array([one], np.float32)
    if many:
        vectors["a/b: ü"] = np.array(many, np.float32)
    if terms is not None:
        indices = sorted(terms)
        weights = np.array([terms[index] for index in indices], np.float32)
        vectors["terms"] = SparseRow(np.array(indices, np.int64), weights)
    if kind == "text":
        return Passage(3, 3 + len(text), 2, text, kind, vectors, "characters")
    return Passage(start, start + 0.5, None, text, kind, vectors, "seconds" if kind == "audio" else "")


def filled(catalogue: Catalogue, made: dict[str, Any]) -> None:
    for space in SPACES:
        catalogue.put_space(replace(space, state="active"))
    catalogue.add_root("docs")
    catalogue.write(
        [
            Document(
                *(
                    name,
                    "text",
                    "p 1",
                    name.encode()[:3],
                    None,
                    path,
                    5,
                    number,
                    -number if number > -(2**63) else 0,
                ),
                facts,
                7,
                tuple(passage(*one) for one in passages),
            )
            for name, (facts, passages, path, number) in made.items()
        ]
    )
    for space in SPACES:
        catalogue.put_space(space)


TABLES = {
    "documents": "SELECT id, modality, how, digest, root, path, size, mtime_ns, device, metadata, lost, indexed_ns,"
    " checksum FROM documents ORDER BY key",
    "passages": "SELECT id, ordinal, start, end, typeof(start), line, passages.modality, text, unit, unspaced, searched"
    " FROM passages JOIN documents ON documents.key = document ORDER BY passages.key",
    "vectors": "SELECT id, ordinal, name, part, vector FROM vectors JOIN passages ON passages.key = passage"
    " JOIN documents ON documents.key = document JOIN spaces ON spaces.key = space ORDER BY passage, name, part",
    "spaces": "SELECT name, model, dim, metric, identity, provenance, modalities, kind, dtype, state FROM spaces"
    " ORDER BY key",
    "canaries": "SELECT name, ordinal, text, vector FROM canaries JOIN spaces ON spaces.key = space ORDER BY 1, 2",
    "roots": "SELECT path FROM roots ORDER BY path",
    "sum": "SELECT value FROM meta WHERE key = 'sum'",
}


def contents(catalogue: Catalogue) -> dict[str, list[Any]]:
    """All rows of a catalogue, without the keys that another one assigns."""
    with catalogue.connection() as connection:
        return {name: connection.execute(sql).fetchall() for name, sql in TABLES.items()}


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(made=DOCUMENTS)
def test_what_is_exported_comes_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, layout: str, made: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    with Collection(folder / "a.omni") as first, Collection(folder / "b.omni") as second:
        filled(first._catalogue, made)
        report = first.export_all(folder / "export", layout)
        assert report.documents == len(made) and report.vectors == first.counts().vectors
        imported = second.import_all(folder / "export")
        assert (imported.new, imported.changed, imported.unchanged) == (len(made), 0, 0)
        assert contents(first._catalogue) == contents(second._catalogue)
        assert second.check(deep=True) == []
        again = second.import_all(folder / "export")
        assert (again.new, again.changed, again.unchanged) == (0, 0, len(made))
        assert contents(first._catalogue) == contents(second._catalogue)
    shutil.rmtree(folder)


def lines_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


@pytest.fixture
def real(notes: Collection, tmp_path: Path) -> Collection:
    """A long text, texts that end in white space, a picture, and vectors of one's own."""
    notes.add([prose(1, 400), "apples are red  \n", "plums"], ["long", "b", "c"], {"year": 2024})
    notes.add(["own", ""], ["own", "bare"], vectors=np.eye(2, 5))
    return notes


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_an_imported_collection_knows_its_maker(
    real: Collection, tiny: Path, tmp_path: Path, layout: str
) -> None:
    real.export_all(tmp_path / "export", layout)
    with Collection(tmp_path / "new.omni", model=tiny) as new:
        assert new.import_all(tmp_path / "export").new == 5
        assert new.spaces()["text"].canaries and new.spaces()["text"].model == real.spaces()["text"].model
        hits = [(hit.id, hit.score, hit.span, hit.text) for hit in real.search("red apples", k=9)]
        assert [(hit.id, hit.score, hit.span, hit.text) for hit in new.search("red apples", k=9)] == hits
        added = new.add(["apples are red  \n", "plums"], ["b", "c"], {"year": 2024})
        assert added.unchanged == 2  # what was embedded there is not embedded again
    with Collection(tmp_path / "other.omni", model=toy("multi")) as other:
        other.add("some words", ids="x")
        with pytest.raises(
            UsageError, match=r"the space 'text' of .* has dim 16, that of .* 32: import into"
        ):
            other.import_all(tmp_path / "export")
        assert len(other) == 1


def test_another_model_of_the_same_size_is_refused(real: Collection, other: Path, tmp_path: Path) -> None:
    real.export_all(tmp_path / "export")
    with Collection(tmp_path / "other.omni", model=other) as foreign:
        foreign.add("some words", ids="x")
        with pytest.raises(IdentityError, match="which is another one: import into a collection of its own"):
            foreign.import_all(tmp_path / "export")
        assert len(foreign) == 1


def test_pictures_and_further_spaces(tiny: Path, vit: Path, tmp_path: Path) -> None:
    models = {"text": loaded(tiny), "image": loaded(vit), "many": toy("multi"), "terms": toy("sparse")}
    with Collection(tmp_path / "a.omni", models=models) as first:
        first.add(["apples are red", Image.new("RGB", (40, 30), "red")], ["text", "picture"])
        assert len(first.spaces()) == 4
        for layout in layouts.LAYOUTS:
            first.export_all(tmp_path / layout, layout)
            with Collection(tmp_path / f"{layout}.omni") as second:
                assert second.import_all(tmp_path / layout).new == 2
                assert contents(first._catalogue) == contents(second._catalogue)


def test_other_programs_read_the_files(real: Collection, tmp_path: Path) -> None:
    record = real.get(["long", "b"], vectors=True)
    wanted = np.concatenate([one.vectors["text"] for one in record])
    for layout in layouts.LAYOUTS:
        real.export_all(tmp_path / layout, layout)
    lines = lines_of(tmp_path / "jsonl" / "documents.jsonl")
    assert [line["id"] for line in lines] == ["long", "b", "c", "own", "bare"]
    assert lines[1]["metadata"] == {"year": 2024} and lines[1]["passages"][0]["text"].startswith(
        "apples are red"
    )
    vectors = np.load(tmp_path / "numpy" / "vectors-text.npy")
    rows = lines_of(tmp_path / "numpy" / "rows-text.jsonl")
    assert len(rows) == len(vectors) and rows[len(wanted) - 1 :] == [["b", 0, 0], ["c", 0, 0]]
    np.testing.assert_array_equal(vectors[: len(wanted)], wanted)
    faiss = pytest.importorskip("faiss")
    index = faiss.read_index(str(tmp_path / "faiss" / "vectors-text.faiss"))
    scores, found = index.search(wanted[-1:], 1)
    assert rows[found[0, 0]] == ["b", 0, 0] and scores[0, 0] == pytest.approx(
        (wanted[-1] ** 2).sum(), rel=1e-5
    )
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "parquet" / "passages.parquet").to_pylist()
    np.testing.assert_array_equal(
        np.array([row["_vector.text"] for row in table[: len(wanted)]], np.float32), wanted
    )
    assert table[-1]["_vector.text"] is None and len(table[-1]["_vector.vectors"]) == 5


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_every_change_of_a_file_is_said_and_nothing_is_written(
    real: Collection, tmp_path: Path, layout: str
) -> None:
    real.export_all(tmp_path / "export", layout)
    draws = random.Random(layout)
    names = sorted(file.name for file in (tmp_path / "export").iterdir())
    assert names == sorted([*layouts.files_of(layout, list(real.spaces().values())), "manifest.json"])
    with Collection(tmp_path / "new.omni") as new:
        for name in names:
            file = tmp_path / "export" / name
            whole = file.read_bytes()
            place = draws.randrange(len(whole))
            changed = bytearray(whole)
            changed[place] ^= 1 << draws.randrange(8)
            for content in (bytes(changed), whole[:place], whole + b"\n"):
                if content.strip() == whole.strip() and name == "manifest.json":
                    continue
                file.write_bytes(content)
                with pytest.raises(CollectionError) as caught:
                    new.import_all(tmp_path / "export")
                assert str(file) in str(caught.value) and "\n" not in str(caught.value)
            file.unlink()
            with pytest.raises(
                CollectionError, match=r"is missing: copy the folder|is no export of a collection"
            ):
                new.import_all(tmp_path / "export")
            file.write_bytes(whole)
        assert len(new) == 0 and new.spaces() == {}


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_files_that_lie_in_agreement_are_still_not_believed(
    real: Collection, tmp_path: Path, layout: str
) -> None:
    """The digests are made to fit again, so that only the content itself can tell."""
    from omnivec.collection import whole_manifest as manifest

    real.export_all(tmp_path / "export", layout)
    facts = manifest.read(tmp_path / "export")
    draws = random.Random(layout)
    for name in list(facts.files):
        file = tmp_path / "export" / name
        whole = file.read_bytes()
        for _ in range(6):
            changed = bytearray(whole)
            changed[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
            file.write_bytes(changed if draws.random() < 0.7 else whole[: draws.randrange(len(whole))])
            (tmp_path / "export" / manifest.NAME).unlink()
            manifest.write(tmp_path / "export", facts)
            shutil.rmtree(tmp_path / "new.omni", ignore_errors=True)
            with Collection(tmp_path / "new.omni") as new:
                try:
                    new.import_all(tmp_path / "export")
                except OmnivecError as error:
                    assert "\n" not in str(error)
                    theirs = contents(new._catalogue)
                    ours = contents(real._catalogue)
                    assert set(theirs["documents"]) <= set(ours["documents"])
                    assert set(theirs["vectors"]) <= set(ours["vectors"])
                else:  # bytes without a meaning, such as padding
                    assert contents(new._catalogue) == contents(real._catalogue)
        file.write_bytes(whole)


def test_what_is_there_is_not_replaced_and_damage_is_not_exported(real: Collection, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="taken exists already"):
        real.export_all(tmp_path / "taken")
    with pytest.raises(CollectionError, match="lies in the collection"):
        real.export_all(real.folder / "export")
    with pytest.raises(UsageError, match="format"):
        real.export_all(tmp_path / "export", "xml")
    with pytest.raises(
        CollectionError, match=r"taken is no export of a collection: it has no manifest\.json"
    ):
        real.import_all(tmp_path / "taken")
    with real._catalogue._connections.transaction() as connection:
        connection.execute("UPDATE passages SET text = 'pluma' WHERE text = 'plums'")
    with pytest.raises(CollectionDamaged, match="document 'c' is not what was written"):
        real.export_all(tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_versions_of_the_format(real: Collection, tmp_path: Path) -> None:
    real.export_all(tmp_path / "export")
    file = tmp_path / "export" / "manifest.json"
    record = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**record, "version": 2}))
    with pytest.raises(CollectionError, match="has version 2 of the format of exports, this omnivec reads 1"):
        real.import_all(tmp_path / "export")


def test_the_commands(real: Collection, omni: CommandLine, tmp_path: Path) -> None:
    real.close()
    done = omni("collection", "export", tmp_path / "export", "--format", "numpy", "-c", real.folder)
    assert done.code == 0, done.err
    assert done.out.startswith("5 documents, ") and done.out.endswith(f" written to {tmp_path / 'export'}\n")
    done = omni("collection", "import", tmp_path / "export", "-c", tmp_path / "new.omni")
    assert (done.code, done.out) == (
        0,
        f"5 documents of {tmp_path / 'export'}: 5 new, 0 changed, 0 unchanged; {tmp_path / 'new.omni'}\n",
    )
    [row] = omni("collection", "import", tmp_path / "export", "-c", tmp_path / "new.omni", "--json").rows
    assert row["unchanged"] == 5
    assert (
        omni("collection", "import", tmp_path / "export", "--id", "x", "-c", tmp_path / "new.omni").code == 2
    )
    assert (
        omni("collection", "export", tmp_path / "e", "--format", "numpy", "--vectors", "-c", real.folder).code
        == 2
    )
