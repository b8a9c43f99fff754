"""A collection knows its maker: the same model in any dress is let in, another is refused with both identities."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import omnivec
from omnivec import Collection
from omnivec.collection.identity import check_same
from omnivec.errors import CollectionError, IdentityError
from omnivec.store.sqlite import Catalogue
from workbench import CommandLine, loaded, prose, say_pooling, write_files

TEXTS = [prose(i) for i in range(12)]


@pytest.fixture
def own(tmp_path: Path, tiny: Path) -> Path:
    """A copy of the model, to be changed."""
    return Path(shutil.copytree(tiny, tmp_path / "own"))


@pytest.fixture
def made(tmp_path: Path, cache: Path, tiny: Path) -> Path:
    """A collection that the model in `tiny` made in float32."""
    folder = tmp_path / "made.omni"
    with Collection(folder, model=omnivec.load(tiny, precision="float32")) as notes:
        notes.add(TEXTS, ids=[str(i) for i in range(12)])
    return folder


def as_it_is(own: Path) -> None:
    os.utime(own / "model.safetensors", (1, 1))


def in_bfloat16(own: Path) -> None:
    tensors = load_file(own / "model.safetensors")
    save_file({name: t.to(torch.bfloat16) for name, t in tensors.items()}, own / "model.safetensors")


def in_float16(own: Path) -> None:
    tensors = load_file(own / "model.safetensors")
    save_file({name: t.to(torch.float16) for name, t in tensors.items()}, own / "model.safetensors")


def as_a_torch_file(own: Path) -> None:
    torch.save(load_file(own / "model.safetensors"), own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()


def under_a_prefix(own: Path) -> None:
    tensors = load_file(own / "model.safetensors")
    save_file({f"bert.{name}": t for name, t in reversed(tensors.items())}, own / "model.safetensors")


def with_a_card(own: Path) -> None:
    (own / "README.md").write_text("# The same model")
    (own / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": ""}}))


def by_sentence_transformers(own: Path) -> None:
    moved = omnivec.load(own)
    moved.save(own.parent / "saved")
    shutil.rmtree(own)
    (own.parent / "saved").rename(own)


@pytest.mark.parametrize(
    "dress",
    [
        as_it_is,
        in_bfloat16,
        in_float16,
        as_a_torch_file,
        under_a_prefix,
        with_a_card,
        by_sentence_transformers,
    ],
)
def test_the_same_weights_in_another_dress_are_the_same_model(
    made: Path, own: Path, dress: Callable[[Path], None]
) -> None:
    dress(own)
    with Collection(made, model=own) as notes:
        assert notes.search(TEXTS[3], 1)[0].document == "3"
        assert notes.add("one more").new == 1
    with Collection(made) as notes:  # the recorded name still leads to the first folder
        assert len(notes.search("one more", 20)) == 13


@pytest.mark.parametrize(("first", "then"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_another_precision_is_the_same_model(
    tmp_path: Path, cache: Path, tiny: Path, first: Any, then: Any
) -> None:
    with Collection(tmp_path / "a.omni", model=omnivec.load(tiny, precision=first)) as notes:
        notes.add(TEXTS, ids=[str(i) for i in range(12)])
        space = notes.space()
        assert space is not None and space.provenance["precision"] == first
    with Collection(tmp_path / "a.omni", model=omnivec.load(tiny, precision=then)) as notes:
        assert notes.search(TEXTS[5], 1)[0].document == "5"
        assert notes.add(prose(77)).new == 1


def test_a_half_precision_maker_knows_its_original(
    tmp_path: Path, cache: Path, tiny: Path, own: Path
) -> None:
    in_bfloat16(own)
    with Collection(tmp_path / "a.omni", model=own) as notes:
        notes.add(TEXTS)
    with Collection(tmp_path / "a.omni", model=tiny) as notes:
        assert notes.add(prose(77)).new == 1


def another_tokenizer(own: Path) -> None:
    settings = json.loads((own / "tokenizer.json").read_text())
    settings["normalizer"]["lowercase"] = False
    (own / "tokenizer.json").write_text(json.dumps(settings))
    settings = json.loads((own / "tokenizer_config.json").read_text())
    (own / "tokenizer_config.json").write_text(json.dumps(settings | {"do_lower_case": False}))


def another_word(own: Path) -> None:
    settings = json.loads((own / "tokenizer.json").read_text())
    vocabulary = settings["model"]["vocab"]
    vocabulary["foxes"] = vocabulary.pop(max(vocabulary, key=vocabulary.__getitem__))
    (own / "tokenizer.json").write_text(json.dumps(settings))


def another_pooling(own: Path) -> None:
    say_pooling(own, "cls_token")


def another_end(own: Path) -> None:
    say_pooling(own, "mean_tokens", "Normalize")


def a_prompt(own: Path) -> None:
    card = {"prompts": {"query": "query: ", "document": "passage: "}}
    (own / "config_sentence_transformers.json").write_text(json.dumps(card))


def a_shorter_limit(own: Path) -> None:
    (own / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))


def another_metric(own: Path) -> None:
    (own / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "dot"}))


def another_epsilon(own: Path) -> None:
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))


def other_weights(own: Path) -> None:
    tensors = load_file(own / "model.safetensors")
    tensors["encoder.layer.0.output.dense.weight"][0, 0] += 1e-4
    save_file(tensors, own / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (other_weights, "weights differ"),
        (another_tokenizer, "tokenizer"),
        (another_word, "tokenizer"),
        (another_pooling, "pooling"),
        (another_end, "steps"),
        (a_prompt, "prompts"),
        (a_shorter_limit, "preprocessing"),
        (another_metric, "metric"),
        (another_epsilon, "config"),
    ],
)
def test_what_makes_other_vectors_is_refused_by_name(
    made: Path, own: Path, tiny: Path, change: Callable[[Path], None], part: str
) -> None:
    change(own)
    for given in (own, loaded(own)):
        with pytest.raises(IdentityError) as raised:
            Collection(made, model=given)
        said = str(raised.value)
        assert part in said and "\n" not in said
        assert said.count("weights float32") == 2, "not both identities"
    with Collection(made, model=tiny) as notes:
        assert len(notes.search("fox", 20)) == 12


def test_another_model_of_the_same_size_is_refused(made: Path, other: Path, omni: CommandLine) -> None:
    with pytest.raises(IdentityError, match=r"weights differ\. Recorded: bert, 32 .* Current: bert, 32 "):
        Collection(made, model=other)
    write_files(omni.folder, {"a.txt": prose(50)})
    for arguments in (("index", "a.txt"), ("search", "fox"), ("search", "fox", "--mode", "hybrid")):
        done = omni(*arguments, "-c", made, "-m", other)
        assert (done.code, done.out) == (1, "")
        [line] = done.errors
        assert line.count("weights float32") == 2
    with Collection(made, create=False) as notes:
        assert len(notes) == 12


def test_weights_replaced_under_the_same_path_are_noticed(
    tmp_path: Path, cache: Path, own: Path, other: Path
) -> None:
    with Collection(tmp_path / "a.omni", model=own) as notes:
        notes.add(TEXTS)
        assert notes.search("fox", 3)
    shutil.copy(other / "model.safetensors", own / "model.safetensors")
    for given in (None, own):
        with Collection(tmp_path / "a.omni", model=given) as notes:
            for _ in range(2):  # once refused, refused again
                with pytest.raises(IdentityError):
                    notes.search("fox")
                with pytest.raises(IdentityError):
                    notes.add("x")
            assert len(notes.search("fox", mode="text")) == len(notes.search("fox", 50, mode="text"))


def test_files_replaced_while_their_model_is_in_memory(
    tmp_path: Path, cache: Path, own: Path, other: Path
) -> None:
    """The model in memory is the old one; what is in its folder now must not pass for it."""
    old = omnivec.load(own)
    replacement = own.with_name("new.safetensors")
    shutil.copy(other / "model.safetensors", replacement)
    replacement.replace(own / "model.safetensors")
    with Collection(tmp_path / "a.omni", model=old) as notes:
        notes.add(TEXTS, ids=[str(i) for i in range(12)])
        assert notes.search(TEXTS[2], 1)[0].document == "2"
    with Collection(tmp_path / "a.omni") as notes, pytest.raises(IdentityError):
        notes.search("fox")


def test_canaries_refuse_what_the_identity_does_not_show(
    tmp_path: Path, cache: Path, own: Path, other: Path
) -> None:
    """Weights changed behind the cache's back: their file has its size, its time and its place."""
    with Collection(tmp_path / "a.omni", model=own) as notes:
        notes.add(TEXTS)
    with Collection(tmp_path / "a.omni", model=own) as notes:
        assert notes.search("fox")  # the identity is kept in the cache now
    weights = own / "model.safetensors"
    then = weights.stat()
    weights.write_bytes((other / "model.safetensors").read_bytes())
    os.utime(weights, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_ino) == (then.st_size, then.st_ino)
    with Collection(tmp_path / "a.omni", model=own) as notes:
        for _ in range(2):
            with pytest.raises(
                IdentityError, match=r"other vectors than it did \(1 - cosine up to .*allowed 2e-03"
            ):
                notes.add("x")
        assert len(notes) == 12


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "5", '{"a": 1}', '{"1": 2}', "null", '{"x": {"state": 1}}', "\xff\xfe"]
)
def test_a_broken_identity_cache_costs_time_only(made: Path, tiny: Path, cache: Path, content: str) -> None:
    (cache / "identities.json").write_bytes(content.encode("latin-1"))
    with Collection(made, model=tiny) as notes:
        assert notes.add("x").new == 1
    kept = json.loads((cache / "identities.json").read_text())
    kept = dict.fromkeys(kept, content and 3)
    (cache / "identities.json").write_text(json.dumps(kept))
    with Collection(made, model=tiny) as notes:
        assert notes.search("x", 1)


def test_a_model_that_is_gone_is_named(tmp_path: Path, cache: Path, own: Path) -> None:
    with Collection(tmp_path / "a.omni", model=own) as notes:
        notes.add(TEXTS)
    shutil.rmtree(own)
    with Collection(tmp_path / "a.omni") as notes:
        with pytest.raises(CollectionError) as raised:
            notes.search("fox")
        assert str(own) in str(raised.value) and "\n" not in str(raised.value)
        assert notes.search("fox", mode="text")


def test_what_is_recorded(made: Path, tiny: Path) -> None:
    with Catalogue.open(made, create=False) as catalogue:
        space = catalogue.spaces()["text"]
    model = omnivec.load(tiny, precision="float32")
    assert (space.model, space.dim, space.metric) == (str(tiny), 32, "cosine")
    assert set(space.identity["weights"]) == {"float32", "float16", "bfloat16"}
    assert space.provenance["precision"] == "float32" and space.provenance["engine"].startswith("openvino")
    assert len(space.canaries) >= 6
    for text, vector in space.canaries:
        np.testing.assert_allclose(vector, model.encode(text), atol=1e-5)


def test_of_two_first_writers_with_two_models_one_is_refused(tmp_path: Path, cache: Path, tiny: Path) -> None:
    import checkpoints

    checkpoints.bert(tmp_path / "other", seed=7, width=32, layers=1)
    one = Collection(tmp_path / "notes.omni", omnivec.load(tiny))
    two = Collection(tmp_path / "notes.omni", omnivec.load(tmp_path / "other"))
    with one, two:
        assert two.model is not None  # both looked when there was no space yet
        one.add("the first")
        with pytest.raises(IdentityError, match="weights"):
            two.add("the second")
        assert [entry.passages for entry in one.documents()] == [1]


def test_a_sync_leaves_the_matrix_that_readers_use(
    tmp_path: Path, cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnivec.store.matrix._WORTHWHILE", 10)
    write_files(tmp_path / "docs", [prose(i) for i in range(20)])
    with Collection(tmp_path / "notes.omni", model=loaded(tiny)) as notes:
        notes.sync(tmp_path / "docs")
    assert len(list((tmp_path / "notes.omni").glob("matrix-*"))) == 1


def test_settings_that_differ_are_shown(tiny: Path) -> None:
    made = omnivec.load(tiny).identity
    other = {**made, "config": {**made["config"], "layer": 3, "fast": False}}
    made = {**made, "config": {**made["config"], "layer": 2, "fast": True}}
    with pytest.raises(
        IdentityError, match=r"config \(fast True, now False; layer 2, now 3\) differ\. Recorded"
    ):
        check_same(made, other, "text")
    with pytest.raises(IdentityError, match=r"family, config differ"):
        check_same(made, {**other, "family": "gpt"}, "text")
