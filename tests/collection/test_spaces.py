"""Texts and images in one collection: which goes where, what a query reaches, and whose models they are."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnivec import Collection, Embedder
from omnivec.collection.indexing import Indexer
from omnivec.collection.syncing import Event
from omnivec.errors import ItemError, ItemErrors, ModelNotFound, UsageError
from omnivec.inputs.image import MODALITY
from omnivec.store.indexes.exact import ExactIndex
from omnivec.vectors.calibration import background, surprise
from workbench import contents, loaded, picture, prose, whole, write_files, write_pictures

# What goes where.


def test_each_modality_goes_into_the_space_of_its_model(
    both: Collection, docs: Path, tiny: Path, vit: Path
) -> None:
    events: list[Event] = []
    report = both.sync(docs, on_event=events.append)
    assert (report.new, report.passages, report.failed, report.lost) == (6, 6, {}, 0)
    assert {event.status for event in events} == {"new"}
    assert both.counts().vectors == {"text": 3, "image": 3}
    assert {name: (one.model, one.dim) for name, one in both.spaces().items()} == {
        "text": (str(tiny), 32),
        "image": (str(vit), 32),
    }
    assert (both.model, dict(both.models)) == (loaded(tiny), {"text": loaded(tiny), "image": loaded(vit)})
    assert both.space() == both.spaces()["text"] or both.space().name == "text"
    for entry in both.documents({"suffix": ".png"}):
        assert (entry.modality, entry.pipeline, entry.lost) == ("image", "image/1", 0)
        assert (entry.metadata["width"], entry.metadata["height"]) == (64, 48)
        file = both.path_of(entry.id)
        assert entry.digest == hashlib.sha256(file.read_bytes()).digest()
        document = both._catalogue.document(entry.id)
        assert document is not None
        [passage] = document.passages
        assert (passage.start, passage.end, passage.line, passage.text) == (0, 0, None, "")
        np.testing.assert_allclose(passage.vectors["image"][0], loaded(vit).encode(file), atol=1e-5)
    whole(both)
    again = both.sync(docs)
    assert (again.unchanged, again.new, again.changed) == (6, 0, 0)


def test_images_come_change_go_and_are_kept_as_texts_are(both: Collection, docs: Path) -> None:
    both.sync(docs)
    before = contents(both)
    os.utime(docs / "sub/p000.png", ns=(10**18, 10**18))
    assert both.sync(docs).unchanged == 6
    contents(both).same_as(before)
    picture(9).save(docs / "sub/p000.png")
    (docs / "sub/p001.png").unlink()
    dry = both.sync(docs, dry_run=True)
    assert (dry.changed, dry.removed, dry.unchanged) == (1, 1, 4)
    contents(both).same_as(before)
    report = both.sync(docs)
    assert (report.changed, report.removed, report.unchanged) == (1, 1, 4)
    assert both.search(docs / "sub/p000.png", 1)[0].score == pytest.approx(1, abs=1e-5)
    shutil.rmtree(docs)
    docs.mkdir()
    report = both.sync(docs)
    assert (report.removed, len(report.kept)) == (0, 5)
    assert both.delete("docs/sub/p000.png") == 1
    whole(both)


def test_one_model_of_both_is_one_space(joint: Collection, docs: Path, clip: Path) -> None:
    joint.sync(docs)
    assert list(joint.spaces()) == ["text+image"] and joint.counts().vectors == {"text+image": 6}
    assert joint.unreached("text") == joint.unreached("image") == ()
    assert joint.model is joint.models["text+image"] is loaded(clip)
    model = loaded(clip)
    for query, item in (("lazy fox", "lazy fox"), (docs / "sub/p001.png",) * 2):
        hits = joint.search(query, mode="vector")
        assert {hit.modality for hit in hits} == {"text", "image"} and len(hits) == 6
        assert {hit.space for hit in hits} == {"text+image"}
        asked = model.encode_query(item)
        for hit in hits:  # one space: its own scores
            own = joint._catalogue.document(hit.document).passages[0].vectors["text+image"][0]
            assert hit.score == pytest.approx(float(own @ asked), abs=1e-4)
    assert joint.search(docs / "sub/p001.png", 1)[0].document == "docs/sub/p001.png"


@pytest.mark.parametrize("loaded_first", [True, False])
def test_the_same_model_named_twice_is_one_space(
    tmp_path: Path, cache: Path, clip: Path, docs: Path, loaded_first: bool
) -> None:
    model: Any = loaded(clip) if loaded_first else clip
    with Collection(tmp_path / "a.omni", models={"text": model, "image": model}) as notes:
        notes.sync(docs)
        assert notes.counts().vectors == {"text+image": 6}


def test_a_model_that_cannot_take_what_it_is_named_for(
    tmp_path: Path, cache: Path, tiny: Path, vit: Path, docs: Path
) -> None:
    for i, (models, file) in enumerate(
        [
            ({"text": vit}, "a.txt"),
            ({"image": tiny}, "sub/p000.png"),
            ({"text": tiny, "image": tiny}, "a.txt"),
        ]
    ):
        with Collection(tmp_path / f"{i}.omni", models=models) as notes:
            with pytest.raises(UsageError, match=r"embeds (texts|images): it cannot be the model of"):
                notes.sync(docs / file)
            assert notes.spaces() == {}


def test_a_space_that_does_not_say_what_its_model_reads(both: Collection, docs: Path) -> None:
    """As those that were made before there were images."""
    both.sync(docs)
    text = both.spaces()["text"]
    both._catalogue.put_space(replace(text, provenance={"precision": "float32"}))
    assert [hit.modality for hit in both.search("fox", 9)] == ["text"] * 3
    with Collection(both.folder) as again:
        assert again.unreached("image")[0].startswith("the space 'text' (3 vectors)")
        assert again.add("one more").new == 1
    joint = replace(text, identity={**text.identity, "towers": {"image": {}}}, provenance={})
    both._catalogue.put_space(joint)
    assert both.unreached("image") == ()


# Models are loaded when they are needed.


def only(monkeypatch: pytest.MonkeyPatch, tiny: Path, vit: Path, *absent: str) -> list[str]:
    """Has the default models stand for the small ones, less those that are absent; the names that are loaded."""
    asked: list[str] = []

    def load(name: str) -> Embedder:
        asked.append(name)
        if name in absent:
            raise ModelNotFound(f"{name}: no source has it; offline")
        return loaded({"all-MiniLM-L6-v2": tiny, "efficientnet-lite0": vit}[name])

    monkeypatch.setattr("omnivec.collection.spaces.load", load)
    return asked


def test_a_folder_of_one_kind_loads_one_model(
    tmp_path: Path, cache: Path, tiny: Path, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = only(monkeypatch, tiny, vit)
    write_files(tmp_path / "texts", [prose(1)])
    images = write_pictures(tmp_path / "images", 2)
    with Collection(tmp_path / "a.omni") as notes:
        notes.sync(tmp_path / "images")
        assert asked == ["efficientnet-lite0"]
        assert notes.search(images[1], 1)[0].document == "images/p001.png"
        assert notes.space().name == "image"
    with Collection(tmp_path / "b.omni") as notes:
        assert notes.sync([tmp_path / "texts", tmp_path / "images"], dry_run=True).new == 3
        notes.sync(tmp_path / "texts")
    assert asked == ["efficientnet-lite0", "all-MiniLM-L6-v2"]


def test_without_the_default_model_of_images_texts_are_in_all_the_same(
    tmp_path: Path, cache: Path, tiny: Path, vit: Path, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = only(monkeypatch, tiny, vit, "efficientnet-lite0")
    with Collection(tmp_path / "a.omni") as notes:
        report = notes.sync(docs)
        assert (report.new, len(report.failed), len(notes)) == (3, 3, 3)
        for path, why in report.failed.items():
            assert why.startswith(f"{path}: efficientnet-lite0, ") and "\n" not in why
            assert "--model image=NAME" in why and "offline" in why
        assert asked.count("efficientnet-lite0") == 1
        with pytest.raises(ItemErrors) as raised:
            notes.add([picture(1), "a text"])
        assert list(raised.value.failures) == [0] and raised.value.partial.new == 1
    only(monkeypatch, tiny, vit, "another")
    with Collection(tmp_path / "b.omni", models={"image": "another"}) as notes, pytest.raises(ModelNotFound):
        notes.sync(docs)  # It was asked for: the run ends.
    with Collection(tmp_path / "a.omni") as notes:
        assert (notes.sync(docs).new, len(notes)) == (3, 7)


# What a query reaches.


def test_a_query_of_words_where_no_model_reads_it(tmp_path: Path, cache: Path, vit: Path, docs: Path) -> None:
    with Collection(tmp_path / "a.omni", model=vit) as notes:
        notes.sync(docs / "sub" / "p000.png")
        for mode in ("vector", "hybrid"):
            with pytest.raises(UsageError) as raised:
                notes.search("a fox", mode=mode)
            said = str(raised.value)
            assert f"{vit} does not read text" in said and "\n" not in said
            for part in ("'image' (1 vector)", "omnivec train align", "--model image=hf:openai/clip"):
                assert part in said
        assert notes.search("a fox", mode="text") == []
        assert len(notes.unreached("text")) == 1 and notes.unreached("image") == ()
        notes.delete("docs/sub/p000.png")
        assert notes.search("a fox") == [] and notes.unreached("text") == ()


def test_an_image_as_a_query(both: Collection, docs: Path) -> None:
    both.add("only a text so far")
    with pytest.raises(UsageError, match=r"'text' \(1 vector\) .* does not read image.*--model hf:openai"):
        both.search(docs / "sub/p001.png")
    both.sync(docs)
    for query in (
        docs / "sub/p001.png",
        picture(1),
        np.asarray(picture(1)),
    ):
        hits = both.search(query)
        assert [hit.modality for hit in hits] == ["image"] * 3
        assert (hits[0].document, hits[0].space, hits[0].span, hits[0].line, hits[0].text) == (
            "docs/sub/p001.png",
            "image",
            (0, 0),
            None,
            "",
        )
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        for mode in ("text", "hybrid"):
            with pytest.raises(UsageError, match="the query is an image"):
                both.search(query, mode=mode)
    [line] = both.unreached("image")
    assert "'text' (4 vectors)" in line
    [line] = both.unreached("text")
    assert "'image' (3 vectors)" in line
    assert {hit.modality for hit in both.search("fox", 20, mode="hybrid")} == {"text"}
    with pytest.raises(ItemError):
        both.search(docs / "none.png")
    with pytest.raises(UsageError, match=r"\(2, 2\) is 2 vectors: .*search_many"):
        both.search(np.zeros((2, 2), np.float32))


def test_two_spaces_are_searched_together(tmp_path: Path, cache: Path, tiny: Path, clip: Path) -> None:
    write_files(tmp_path / "docs", [prose(i) for i in range(30)])
    write_pictures(tmp_path / "docs", 25)
    with Collection(tmp_path / "a.omni", models={"text": tiny, "image": clip}) as notes:
        notes.sync(tmp_path / "docs")
        assert notes.counts().vectors == {"text": 30, "image": 25}
        assert notes.unreached("text") == ()
        hits = notes.search("the quick brown fox", 55, mode="vector")
        assert len(hits) == 55 and {hit.space for hit in hits} == {"text", "image"}
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for space in ("text", "image"):
            query = notes.models[space].encode_query("the quick brown fox")
            keys, vectors = notes._catalogue.vectors(space)
            index = ExactIndex(vectors.shape[1], "cosine", keys, vectors)
            found, scores = index.search(query[None], len(keys))
            expected = surprise(scores[0], background(scores[0]))
            own = [hit for hit in hits if hit.space == space]
            names = {key: one.document for key, one in notes._catalogue.passages(found[0]).items()}
            assert [hit.document for hit in own] == [names[key] for key in found[0].tolist()]
            np.testing.assert_allclose([hit.score for hit in own], expected, rtol=1e-5)
        assert notes.search("the quick brown fox", 7, mode="vector") == hits[:7]
        shown = notes.search("fox", 5, {"suffix": ".png"})
        assert {hit.modality for hit in shown} == {"image"}
        hybrid = notes.search("the quick brown fox", 55, mode="hybrid")
        assert {hit.modality for hit in hybrid} == {"text", "image"}
        images = notes.search(tmp_path / "docs" / "p003.png", 3)  # one space reads it: its own scores
        assert images[0].score == pytest.approx(1, abs=1e-5)


def test_recommend_in_the_spaces_of_what_is_liked(both: Collection, docs: Path) -> None:
    both.sync(docs)
    images = [hit.document for hit in both.recommend("docs/sub/p000.png")]
    assert set(images) == {"docs/sub/p001.png", "docs/sub/p002.png"}
    assert {hit.space for hit in both.recommend("docs/a.txt")} == {"text"}
    mixed = both.recommend(["docs/a.txt", "docs/sub/p000.png"], "docs/b.md")
    assert {hit.document for hit in mixed} == {"docs/sub/c.txt", "docs/sub/p001.png", "docs/sub/p002.png"}
    assert [hit.document for hit in mixed if hit.space == "image"] == images


# Adding.


def test_images_in_memory(both: Collection, tmp_path: Path) -> None:
    one = picture(1)
    added = both.add([one, np.asarray(one), "a text", picture(2)], metadata={"width": 3})
    assert added.ids[0] == added.ids[1] and (added.new, added.kept) == (3, [0, 1, 2, 3])
    assert [entry.metadata for entry in both.documents({"height": 48})] == [{"width": 3, "height": 48}] * 2
    assert both.add(np.asarray(one), metadata={"width": 3}).unchanged == 1
    grey = both.add(np.full((8, 9), 7, np.uint8), ids="grey")
    assert (grey.new, both.documents({"width": 9})[0].id) == (1, "grey")
    turned = Image.Exif()
    turned[0x0112] = 6
    one.save(tmp_path / "turned.jpg", exif=turned, quality=95)
    both.add([tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")], ids=["file", "memory"])
    facts = {
        entry.id: (entry.metadata["width"], entry.metadata["height"])
        for entry in both.documents()
        if entry.id in ("file", "memory")
    }
    assert facts == {"file": (48, 64), "memory": (48, 64)}
    assert [hit.score for hit in both.search(one.transpose(Image.Transpose.ROTATE_270), 2)][1] > 0.99
    with pytest.raises(ItemErrors) as raised:
        both.add([np.zeros((3, 3), np.float32), picture(5)])
    assert list(raised.value.failures) == [0] and "uint8" in raised.value.failures[0]
    whole(both)


def test_an_image_whose_name_says_nothing_is_known_by_its_content(both: Collection, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "scan", format="PNG")
    write_files(tmp_path, {"notes": "a text whose name says nothing"})
    assert both.add([tmp_path / "scan", tmp_path / "notes"]).new == 2
    assert both.counts().vectors == {"image": 1, "text": 1}
    assert both.sync([tmp_path / "scan", tmp_path / "notes"]).unchanged == 2
    assert both.search(tmp_path / "scan", 1)[0].document == "scan"


def test_what_is_hashed_is_what_is_embedded(
    both: Collection, docs: Path, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.add([picture(50), "both spaces are made"])
    expected, run = loaded(vit).encode(docs / "sub/p000.png"), Embedder.run

    def meanwhile(*arguments: Any, **settings: Any) -> Any:
        picture(77).save(docs / "sub/p000.png")
        return run(*arguments, **settings)

    monkeypatch.setattr(Embedder, "run", meanwhile)
    digest = hashlib.sha256((docs / "sub/p000.png").read_bytes()).digest()
    both.sync(docs / "sub")
    monkeypatch.undo()
    found = both._catalogue.document("docs/sub/p000.png")
    assert found is not None and found.digest == digest
    np.testing.assert_allclose(found.passages[0].vectors["image"][0], expected, atol=1e-5)
    assert both.sync(docs / "sub").changed == 1


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def huge(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says to be large."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    parts = [(b"IHDR", size), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_bad_images_cost_only_themselves_and_each_is_named(both: Collection, docs: Path) -> None:
    picture(5, 300, 200).save(docs / "whole.jpg")
    bad = {
        "cut.jpg": ((docs / "whole.jpg").read_bytes()[:2000], "damaged or cut off"),
        "text.jpg": (b"this is no image", "not an image: it begins with"),
        "empty.gif": (b"", "empty"),
        "bomb.png": (huge(30_000, 30_000), "900,000,000 pixels"),
    }
    for name, (data, _) in bad.items():
        (docs / name).write_bytes(data)
    frames = [picture(i) for i in (1, 2, 3)]
    frames[0].save(docs / "moving.gif", save_all=True, append_images=frames[1:])
    events: list[Event] = []
    report = both.sync(docs, on_event=events.append)
    assert report.left_out == {str(docs / "text.jpg"): "no image", str(docs / "empty.gif"): "empty"}
    assert (report.new, set(report.failed)) == (8, {str(docs / name) for name in ("cut.jpg", "bomb.png")})
    named = both.sync([docs / name for name in bad])
    assert set(named.failed) == {str(docs / name) for name in bad} and not named.left_out
    report.failed |= named.failed
    for name, (_, part) in bad.items():
        why = report.failed[str(docs / name)]
        assert part in why and why.count(name) == 1 and "\n" not in why, why
    [line] = report.notes.values()
    assert list(report.notes) == [str(docs / "moving.gif")] and "the first is indexed" in line
    assert [event.note for event in events if event.note] == [line]
    found = both.search(frames[0].quantize().convert("RGB"), 1)[0]
    assert found.document in ("docs/moving.gif", "docs/sub/p001.png")
    assert not both.sync(docs).notes  # said when it is indexed
    whole(both)


def test_memory_is_bounded_by_the_bytes_that_wait(
    both: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_pictures(tmp_path / "many", 20)
    size = max(file.stat().st_size for file in files)
    monkeypatch.setattr("omnivec.collection.indexing.BYTES", 5 * size)
    monkeypatch.setattr("omnivec.collection.adding.BYTES", 5 * size)
    waiting, put = [], Indexer.put

    def watched(self: Indexer, draft: Any) -> None:
        put(self, draft)
        waiting.append(sum(one.content.held for one in self._waiting))

    monkeypatch.setattr(Indexer, "put", watched)
    both.sync(tmp_path / "many")
    assert len(waiting) == 20 and 0 < max(waiting) < 5 * size and waiting.count(0) >= 3
    waiting.clear()
    assert both.add([picture(i) for i in range(100, 120)]).new == 20
    assert max(waiting) < 5 * size


def test_suffixes_of_images_are_known_in_one_place() -> None:
    assert {
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".heic",
        ".heif",
    } <= MODALITY.suffixes
    assert not {".txt", ".md", ".py"} & MODALITY.suffixes


@pytest.mark.parametrize("model", [3, ["a"], b"folder"])
def test_a_model_of_a_wrong_type_is_refused_and_nothing_is_made(tmp_path: Path, model: Any) -> None:
    with pytest.raises(UsageError, match=r"model is .*: give a name or a folder"):
        Collection(tmp_path / "c.omni", model=model)
    assert not (tmp_path / "c.omni").exists()


@pytest.mark.parametrize(
    ("models", "named"),
    [
        ({"text": 3}, "the model of 'text' is 3, an int"),
        ({"text": "tiny", "large": None}, "the model of 'large' is None"),
        ({"large": ["a"]}, "the model of 'large' is a list"),
        ({"large": b"folder"}, "the model of 'large' is bytes"),
    ],
)
def test_models_of_wrong_types_are_refused_and_nothing_is_made(
    tmp_path: Path, models: Any, named: str
) -> None:
    with pytest.raises(UsageError, match=f"{named}: give a name, a folder or a loaded model"):
        Collection(tmp_path / "c.omni", models=models)
    assert not (tmp_path / "c.omni").exists()
