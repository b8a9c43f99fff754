"""Whose models the spaces of texts and images are: another is refused, and of two first writers one wins."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnivec import Collection
from omnivec.collection import identity
from omnivec.errors import CollectionError, IdentityError
from omnivec.inputs.image import MODALITY, PICTURES
from omnivec.inputs.text import CANARIES
from omnivec.store.sqlite import Catalogue
from workbench import image_model, loaded, picture


def test_another_model_of_images_is_refused_with_both_identities(
    tmp_path: Path, cache: Path, tiny: Path, vit: Path, clip: Path, docs: Path
) -> None:
    another = image_model(vit.parent, 1)
    with Collection(tmp_path / "a.omni", models={"text": tiny, "image": vit}) as notes:
        notes.sync(docs)
    for models in ({"image": another}, {"image": loaded(another)}, {"text": tiny, "image": clip}):
        with pytest.raises(IdentityError) as raised:
            Collection(tmp_path / "a.omni", models=models)
        said = str(raised.value)
        assert f"{tmp_path / 'a.omni'}: space 'image'" in said
        assert said.count("weights float32") == 2 and "\n" not in said
    with pytest.raises(IdentityError, match="space 'text'"):
        Collection(tmp_path / "a.omni", model=clip)
    same = Path(shutil.copytree(vit, tmp_path / "same"))
    for given in ({"model": tiny}, {"model": vit}, {"models": {"image": same}}, {}):
        with Collection(tmp_path / "a.omni", **given) as notes:
            assert notes.sync(docs).unchanged == 6
            assert notes.add([picture(70), "more"], ids=["p", "t"]).passages + len(notes) >= 8


def test_a_model_of_both_may_be_added_for_images_alone(
    tmp_path: Path, cache: Path, tiny: Path, clip: Path, docs: Path
) -> None:
    with Collection(tmp_path / "a.omni", model=tiny) as notes:
        notes.add("a text")
    with pytest.raises(IdentityError, match="or use it only for images: --model image=NAME"):
        Collection(tmp_path / "a.omni", model=clip)
    with Collection(tmp_path / "a.omni", models={"image": clip}) as notes:
        notes.sync(docs)
        assert notes.counts().vectors == {"text": 4, "image": 3}
    with Collection(tmp_path / "a.omni") as notes:  # the recorded ones
        assert {hit.space for hit in notes.search("fox", 20)} == {"text", "image"}


def test_a_recorded_model_of_images_that_is_gone_is_named(
    tmp_path: Path, cache: Path, tiny: Path, vit: Path, docs: Path
) -> None:
    own = Path(shutil.copytree(vit, tmp_path / "own"))
    with Collection(tmp_path / "a.omni", models={"text": tiny, "image": own}) as notes:
        notes.sync(docs)
    shutil.rmtree(own)
    with Collection(tmp_path / "a.omni") as notes:
        assert notes.search("fox")
        with pytest.raises(CollectionError, match=f"{own}.*cannot be loaded"):
            notes.search(docs / "sub/p000.png")


def test_a_folder_of_a_model_is_found_from_everywhere_and_moves_with_the_collection(
    tmp_path: Path, cache: Path, tiny: Path, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    shutil.copytree(tiny, here / "models" / "own")
    monkeypatch.chdir(here)
    with Collection("a.omni", models={"text": "models/own/", "image": vit}) as notes:
        notes.add(["a text", picture(1)])
        assert {name: one.model for name, one in notes.spaces().items()} == {
            "text": "./models/own",
            "image": str(vit),
        }
    monkeypatch.chdir(tmp_path)
    with Collection(here / "a.omni") as notes:
        assert notes.search("text", 1)
    here.rename(tmp_path / "there")
    for given in (None, "there/models/own", "path:there/models/own", loaded(tmp_path / "there/models/own")):
        with Collection("there/a.omni", given) as notes:
            assert notes.search("text", 1)
    Path("there/models").rename("there/moved")
    with (
        Collection("there/a.omni") as notes,
        pytest.raises(CollectionError, match="give its new path: --model"),
    ):
        notes.search("text")
    with Collection("there/a.omni", "there/moved/own") as notes:
        assert notes.search("text", 1)


def test_a_folder_that_is_recorded_is_not_loaded_to_know_it(
    tmp_path: Path, cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(tiny, tmp_path / "own"))
    with Collection(tmp_path / "a.omni", own) as notes:
        notes.add("a text")
    monkeypatch.setattr("omnivec.collection.spaces.load", None)
    monkeypatch.chdir(tmp_path)
    for given in ("own", "./own/", own):
        with Collection("a.omni", given) as notes:
            assert notes.search("text", 1, mode="text")


def test_canaries_of_each_kind_that_a_model_reads(both: Collection, joint: Collection, docs: Path) -> None:
    for collection in (both, joint):
        collection.sync(docs)
    pictures = {f"picture:{name}" for name in PICTURES}
    kinds = {
        name: {text for text, _ in one.canaries} for name, one in {**both.spaces(), **joint.spaces()}.items()
    }
    assert kinds["image"] == pictures and kinds["text"] == set(CANARIES)
    assert kinds["text+image"] == pictures | set(CANARIES)


def test_canary_pictures_are_the_same_everywhere() -> None:
    drawn = {name: MODALITY.canaries.make(f"picture:{name}") for name in PICTURES}
    assert {name: one.shape for name, one in drawn.items()} == {n: (*size, 3) for n, size in PICTURES.items()}
    sums = {name: zlib.crc32(one.tobytes()) for name, one in drawn.items()}
    assert sums == {
        "colours": 703587229,
        "noise": 3925297088,
        "stripes": 361577574,
        "checks": 2653365819,
    }
    assert all(one.std() > 20 for one in drawn.values())


def test_canaries_refuse_a_changed_model_of_images(
    tmp_path: Path, cache: Path, vit: Path, docs: Path
) -> None:
    """Weights changed behind the cache's back: their file has its size, its time and its place."""
    own = Path(shutil.copytree(vit, tmp_path / "own"))
    with Collection(tmp_path / "a.omni", models={"image": own}) as notes:
        notes.sync(docs / "sub" / "p000.png")
    with Collection(tmp_path / "a.omni") as notes:
        assert notes.search(docs / "sub" / "p000.png")  # the identity is kept in the cache now
    weights = own / "model.safetensors"
    then = weights.stat()
    weights.write_bytes((image_model(vit.parent, 1) / "model.safetensors").read_bytes())
    os.utime(weights, ns=(then.st_atime_ns, then.st_mtime_ns))
    with Collection(tmp_path / "a.omni") as notes:
        with pytest.raises(IdentityError, match=r"space 'image'.*other vectors than it did"):
            notes.sync(docs / "sub" / "p001.png")
        assert len(notes) == 1


def test_unknown_canary_pictures_of_a_later_version_are_passed_by(vit: Path) -> None:
    recorded = identity.canaries_of(loaded(vit))
    later = (*recorded, ("picture:of a later version", recorded[0][1]))
    assert identity.check_canaries(later, loaded(vit), "image") < 1e-5


def as_before(record: dict[str, Any]) -> dict[str, Any]:
    """An identity as earlier versions wrote it: of images the hash of their preprocessing is a "tokenizer"."""
    old = {**record}
    if "towers" in record:
        old["towers"] = {name: as_before(own) for name, own in record["towers"].items()}
    if "preprocessing" in record and "tokenizer" not in record:
        text = json.dumps(record["preprocessing"], sort_keys=True)
        old["tokenizer"] = hashlib.sha256(text.encode()).hexdigest()
    return old


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_identities_of_images_that_had_a_tokenizer_still_match(
    name: str, request: pytest.FixtureRequest
) -> None:
    now = identity.json_of(loaded(request.getfixturevalue(name)).identity)
    before = as_before(now)
    assert before != now
    identity.check_same(before, now, "image")
    identity.check_same(now, before, "image")  # hashes that a cache holds are older than the collection
    own = before["towers"]["image"] if "towers" in before else before
    own["preprocessing"] = {**own["preprocessing"], "another": 3}
    with pytest.raises(IdentityError, match=r"preprocessing|towers"):
        identity.check_same(before, now, "image")


def test_a_tokenizer_of_texts_is_compared(tiny: Path) -> None:
    now = identity.json_of(loaded(tiny).identity)
    with pytest.raises(IdentityError, match="tokenizer differ"):
        identity.check_same(now | {"tokenizer": "0" * 64}, now, "text")


def test_of_two_first_writers_who_divide_otherwise_one_wins(
    tmp_path: Path, cache: Path, tiny: Path, clip: Path
) -> None:
    one = Collection(tmp_path / "a.omni", loaded(clip))
    two = Collection(tmp_path / "a.omni", models={"text": loaded(tiny)})
    three = Collection(tmp_path / "a.omni", models={"text": loaded(clip)})
    with one, two, three:
        assert two.model is loaded(tiny)  # all looked when there was no space yet
        one.add(picture(1))
        with pytest.raises(IdentityError):
            two.add("by another model")
        three.add("by the same")
        assert one.counts().vectors == {"text+image": 2}


def test_which_spaces_there_are_is_decided_in_one_transaction(tmp_path: Path, both: Collection) -> None:
    both.add("x")
    text = both.spaces()["text"]
    with Catalogue.open(tmp_path / "c.omni", create=True) as catalogue:
        whole_space = replace(text, name="text+image")
        assert catalogue.claim_space(whole_space, ["text", "image"]).name == "text+image"
        assert catalogue.claim_space(text, ["text+image"]).name == "text+image"
        assert list(catalogue.spaces()) == ["text+image"]
