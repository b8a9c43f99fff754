"""Ids are those of the publisher's tokenizer class: compared with transformers 4.57 (see golden/make_tokenizer_ids.py).

transformers 5 is no reference for this: beside a tokenizer.json it passes over add_eos_token, do_lower_case and others.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenizer_folders as folders
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.inputs.text.tokenizer import Tokenizer, load_tokenizer

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "tokenizer_ids.json").read_text())["cases"]


def written(folder: Path, files: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def ids(tokenizer: Tokenizer, special: bool = True) -> list[list[int]]:
    return [row.tolist() for row in tokenizer.ids(folders.TEXTS, special=special)]


def test_every_folder_has_its_published_ids() -> None:
    assert GOLDEN.keys() == folders.CASES.keys()


@pytest.mark.parametrize("case", folders.CASES)
def test_ids_are_those_of_the_published_class(tmp_path: Path, case: str) -> None:
    tokenizer = load_tokenizer(written(tmp_path, folders.CASES[case]))
    assert ids(tokenizer) == GOLDEN[case]["ids"]
    assert ids(tokenizer, special=False) == GOLDEN[case]["plain"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("the cat<s/>\u2581é", max_size=12), max_size=3))
def test_an_end_that_settings_ask_for_is_behind_every_text(tmp_path_factory: Any, texts: list[str]) -> None:
    files = folders.CASES["llama, add_eos_token"]
    tokenizer = load_tokenizer(written(tmp_path_factory.mktemp("llama"), files))
    for whole, plain in zip(tokenizer.ids(texts), tokenizer.ids(texts, special=False), strict=True):
        assert whole.tolist() == [1, *plain.tolist(), 2]
    assert [part.tolist() for part in tokenizer.special_ids()] == [[1], [2]]


def test_settings_of_the_call_win_over_the_file(tmp_path: Path) -> None:
    folder = written(tmp_path, folders.CASES["llama, as its file"])
    got = ids(load_tokenizer(folder, {"add_bos_token": True, "add_eos_token": True}))
    assert got == GOLDEN["llama, add_eos_token"]["ids"]


@pytest.mark.parametrize("case", ["llama, as its file", "gemma", "bert, generic class", "xlm-roberta", "t5"])
def test_what_a_file_already_says_changes_no_identity(tmp_path: Path, case: str) -> None:
    files = copy.deepcopy(folders.CASES[case])
    if case == "gemma":
        files["tokenizer.json"] = folders.llama(["<bos>", "$A"], False, folders.GEMMA)
    digest = load_tokenizer(written(tmp_path / "a", files)).digest()
    files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert digest == load_tokenizer(written(tmp_path / "b", files)).digest()


def test_every_setting_that_changes_ids_changes_the_identity(tmp_path: Path) -> None:
    digests: dict[str, str] = {}
    # Digests of before know no difference between strip_accents null and false; canary texts, with accents, do.
    cases = {case: files for case, files in folders.CASES.items() if case != "bert, keeps accents"}
    for i, (case, files) in enumerate(cases.items()):
        digest = load_tokenizer(written(tmp_path / str(i), files)).digest()
        other = digests.setdefault(digest, case)
        assert GOLDEN[other]["ids"] == GOLDEN[case]["ids"], f"{case} and {other} have one identity"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "code of the folder": (
        {"tokenizer_class": "Qwen2Tokenizer", "auto_map": {"AutoTokenizer": ["own.Qwen2Tokenizer", None]}},
        r"tokenizer_config\.json: auto_map names a tokenizer whose code is in the folder, .*own\.Qwen2Tokenizer",
    ),
    "code of the folder, the older form": (
        {"auto_map": ["own.Tokenizer", None]},
        r"auto_map names a tokenizer whose code is in the folder",
    ),
    "a class that cuts by a program": (
        {"tokenizer_class": "BertJapaneseTokenizer"},
        r"class 'BertJapaneseTokenizer', .* not covered .*PreTrainedTokenizerFast",
    ),
    "no such end": (
        {"tokenizer_class": "LlamaTokenizer", "bos_token": "[CLS]", "add_eos_token": True},
        r"tokenizer_config\.json: eos_token '</s>', which is put around each text, is not in the vocabulary",
    ),
    "no start": (
        {"tokenizer_class": "GemmaTokenizer", "bos_token": None},
        r"bos_token None, which is put around",
    ),
    "no such language": (
        {"tokenizer_class": "MBartTokenizer", "src_lang": "xx_XX", "eos_token": "[SEP]"},
        r"src_lang 'xx_XX', which is put around each text",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_obeyed_is_refused_by_name(tmp_path: Path, case: str) -> None:
    said, message = REFUSED[case]
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(written(tmp_path, folders.folder("bert", folders.bert(), said)))
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"x")
    with pytest.raises(
        ModelError, match=r"Its sentencepiece\.bpe\.model cannot be read here: save the tokenizer"
    ):
        load_tokenizer(tmp_path)


def test_own_code_is_refused_beside_vocabulary_files_too(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[PAD]\na\n")
    written(tmp_path, {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["own.T", None]}}})
    with pytest.raises(UnsupportedModel, match="auto_map"):
        load_tokenizer(tmp_path)


def test_the_older_name_of_the_limit(tmp_path: Path) -> None:
    assert (
        load_tokenizer(
            written(tmp_path, folders.folder("bert", folders.bert(), {"max_len": 128}))
        ).model_max_length
        == 128
    )
