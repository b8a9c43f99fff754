"""Tokenizers that the library takes and then panics on, and tokens of which a model has no row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkpoints
import omnivec
from omnivec.errors import ItemError, ItemErrors, ModelError
from omnivec.inputs.text.tokenizer import load_tokenizer, tokenizer_of

TOKEN = "<image_soft_token>"


def template(**change: Any) -> dict[str, Any]:
    """The published form of "[CLS] text [SEP]", with something else in its place."""
    cls, text, sep = (
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    )
    known = {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in ((2, "[CLS]"), (3, "[SEP]"))}
    usual = {"single": [cls, text, sep], "pair": [cls, text, sep], "special_tokens": known}
    return {"type": "TemplateProcessing", **usual, **change}


UNKNOWN = [{"SpecialToken": {"id": "[NO]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
SECOND = [{"Sequence": {"id": "B", "type_id": 0}}]
HUGE = {"[CLS]": {"id": "[CLS]", "ids": [2**31], "tokens": ["[CLS]"]}}
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown token": ({"post_processor": template(single=UNKNOWN)}, r"for one text names '\[NO\]'"),
    "an unknown token of pairs": (
        {"post_processor": template(pair=UNKNOWN)},
        r"for two texts names '\[NO\]'",
    ),
    "nested": (
        {"post_processor": {"type": "Sequence", "processors": [template(single=UNKNOWN)]}},
        r"names '\[NO\]'",
    ),
    "two templates": (
        {"post_processor": {"type": "Sequence", "processors": [template(), template()]}},
        "two templates",
    ),
    "a second text": ({"post_processor": template(single=SECOND)}, "names the text 'B'"),
    "an id beyond int32": (
        {"post_processor": template(single=[], pair=[], special_tokens=HUGE)},
        "2147483648",
    ),
    "pieces of nothing": ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "pieces of length 0"),
}


def changed(folder: Path, change: dict[str, Any]) -> Path:
    """A BERT tokenizer's folder with other parts in its file."""
    folder.mkdir(exist_ok=True)
    checkpoints.wordpiece(folder)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    return folder


@pytest.mark.parametrize(("change", "why"), BROKEN.values(), ids=BROKEN)
def test_what_would_panic_on_every_text_is_refused_in_one_line_and_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any], why: str
) -> None:
    folder = changed(tmp_path / "model", change)
    with pytest.raises(ModelError, match=why) as caught:
        load_tokenizer(folder)
    assert str(folder) in str(caught.value)
    with pytest.raises(ModelError, match=why):
        tokenizer_of((folder / "tokenizer.json").read_bytes())
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_sound_template_is_taken(tmp_path: Path) -> None:
    folder = changed(tmp_path / "model", {"post_processor": template()})
    [ids] = load_tokenizer(folder).ids(["the fox"])
    assert (ids[0], ids[-1]) == (2, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}},
    ],
    ids=["normalizer", "merges"],
)
def test_a_panic_while_a_file_is_read_is_a_model_error(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = changed(tmp_path / "model", change)
    with pytest.raises(ModelError, match=r"no tokenizer can be made of tokenizer\.json"):
        load_tokenizer(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer has a token that its table lacks, as Gemma's have."""
    place = tmp_path_factory.mktemp("beyond")
    checkpoints.bert(place, width=32, layers=1)
    file = place / "tokenizer.json"
    said = json.loads(file.read_text())
    rows = json.loads((place / "config.json").read_text())["vocab_size"]
    said["added_tokens"].append({**said["added_tokens"][0], "id": rows, "content": TOKEN})
    file.write_text(json.dumps(said))
    return place


def test_a_token_without_a_row_costs_its_text_alone(folder: Path) -> None:
    model = omnivec.load(folder)
    encoded = model.run(["the fox", f"see {TOKEN} here", "a dog"])
    assert list(encoded.failures) == [1]
    assert TOKEN in encoded.failures[1] and "221 rows" in encoded.failures[1]
    assert np.array_equal(encoded.vectors, model.run(["the fox", "a dog"]).vectors)
    with pytest.raises(ItemErrors, match=f"item 1: .*{TOKEN}"):
        model.encode(["the fox", TOKEN])
    long = "the fox " * 300 + TOKEN
    assert not model.run([long]).failures, "what is cut off is not seen"
    assert TOKEN in model.run([long], chunk="pool").failures[0]


def test_what_looks_at_tokens_names_the_token_too(folder: Path) -> None:
    model = omnivec.load(folder)
    text = f"see {TOKEN} here"
    calls = (model.tokens, model.words, lambda text: model.encode_spans(text, [(0, 3)]))
    for call in calls:
        with pytest.raises(ItemError, match=TOKEN):
            call(text)


def test_a_load_says_once_what_the_table_lacks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    omnivec.load(folder)
    lines = [line for line in capsys.readouterr().err.splitlines() if "beyond the 221 rows" in line]
    assert len(lines) == 1 and f"{TOKEN!r} (221)" in lines[0]
    checkpoints.bert(tmp_path, width=32, layers=1)
    omnivec.load(tmp_path)
    assert "beyond" not in capsys.readouterr().err


def test_a_collection_takes_the_others(folder: Path, tmp_path: Path) -> None:
    with omnivec.Collection(tmp_path / "notes", model=folder) as notes:
        with pytest.raises(ItemErrors) as caught:
            notes.add(["the fox", f"see {TOKEN} here", "a dog"])
        assert caught.value.partial.kept == [0, 2]
        assert TOKEN in caught.value.failures[1]
        files = tmp_path / "files"
        files.mkdir()
        for name, text in (("a.txt", "the quick fox"), ("b.txt", f"see {TOKEN}"), ("c.txt", "lazy dog")):
            (files / name).write_text(text)
        report = notes.sync(files)
        assert report.new == 2
        [(path, why)] = report.failed.items()
        assert path.endswith("b.txt") and TOKEN in why
