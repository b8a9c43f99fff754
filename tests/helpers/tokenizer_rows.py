"""The rows of docs/load.md's table about tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tokenizer_folders as folders
from folder_rows import change, equal, published_ids, refused, row, same
from omnivec.errors import ModelError
from omnivec.inputs.text.tokenizer import load_tokenizer
from omnivec.models.model import read_model
from omnivec.testing import TEXTS, open_model


@row("tokenizer.json")
def _tokenizer(folder: Path) -> None:
    said = json.loads((folder / "tokenizer.json").read_text())
    same(folder, lambda: change(folder / "tokenizer.json", decoder=None, padding=None))
    before = read_model(folder).texts.tokenizer.ids(["the cat"])[0].tolist()
    change(folder / "tokenizer.json", post_processor=None)
    assert read_model(folder).texts.tokenizer.ids(["the cat"])[0].tolist() == before[1:-1]
    assert said["post_processor"] is not None


@row("vocab.txt vocab.json merges.txt")
def _vocabulary(folder: Path) -> None:
    model = read_model(folder)
    vocabulary = model.texts.tokenizer.backend.get_vocab()
    listed = sorted(vocabulary, key=lambda token: vocabulary[token])
    same(folder, lambda: (folder / "vocab.txt").write_text("[UNK]\n"))
    (folder / "vocab.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    ids = [row.tolist() for row in model.texts.tokenizer.ids(TEXTS)]
    (folder / "tokenizer.json").unlink()
    assert [row.tolist() for row in read_model(folder).texts.tokenizer.ids(TEXTS)] == ids


@row("tokenizer.model sentencepiece.bpe.model spiece.model unigram.json")
def _sentencepiece(folder: Path) -> None:
    names = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "unigram.json")
    same(folder, lambda: [(folder / name).write_bytes(b"{}") for name in names])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"sentencepiece\.bpe\.model and .* cannot be read here"):
        read_model(folder)


@row("tokenizer_config.json tokenizer_class")
def _class(folder: Path) -> None:
    published_ids(
        folder, "bert, generic class", "llama, generic class", "gemma", "cohere", "mpnet", "electra"
    )
    change(folder / "tokenizer_config.json", tokenizer_class="PhobertTokenizer")
    refused(folder, r"class 'PhobertTokenizer'.* splits texts with its own code")


@row("tokenizer_config.json auto_map")
def _tokenizer_code(folder: Path) -> None:
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.T", None]})
    refused(folder, r"tokenizer_config\.json: auto_map names a tokenizer whose code is in the folder")


@row("tokenizer_config.json add_bos_token add_eos_token")
def _ends(folder: Path) -> None:
    published_ids(
        folder,
        "llama, add",
        "llama, neither",
        "gpt-neox",
        "qwen2 heeds no",
        "xlm-roberta heeds no",
        "gpt2 heeds no",
    )


@row("tokenizer_config.json add_prefix_space legacy")
def _prefix(folder: Path) -> None:
    published_ids(folder, "gpt2", "generic", "roberta", "bloom")
    file = folder / "prefixed" / "tokenizer_config.json"
    file.parent.mkdir()
    (file.parent / "tokenizer.json").write_text(json.dumps(folders.MISTRAL))
    whole = {}
    for said in (None, True, False):  # As transformers 4.57 builds it anew from tokenizer.model.
        file.write_text(json.dumps(folders.LLAMA | ({} if said is None else {"add_prefix_space": said})))
        tokenizer = load_tokenizer(file.parent)
        whole[said] = [tokenizer.backend.id_to_token(i) for i in tokenizer.ids(["the cat"])[0]]
    assert whole[None] == whole[True] == ["<s>", "\u2581the", "\u2581cat"]
    assert whole[False] == ["<s>", "the", "\u2581cat"]


@row("tokenizer_config.json do_lower_case strip_accents tokenize_chinese_chars")
def _lower(folder: Path) -> None:
    published_ids(folder, "bert, ", "distilbert", "electra", "mpnet")


@row("tokenizer_config.json src_lang legacy_behaviour")
def _language(folder: Path) -> None:
    published_ids(folder, "mbart", "mbart50", "nllb")


@row("tokenizer_config.json bos_token to mask_token, additional_special_tokens extra_special_tokens")
def _specials(folder: Path) -> None:
    published_ids(folder, "additional", "extra", "a special token", "llama, another end")


@row("tokenizer_config.json added_tokens_decoder")
def _decoder(folder: Path) -> None:
    published_ids(folder, "added_tokens_decoder")


@row("tokenizer_config.json split_special_tokens")
def _split(folder: Path) -> None:
    published_ids(folder, "split_special_tokens")


@row("tokenizer_config.json model_max_length max_len")
def _limit(folder: Path) -> None:
    for key in ("model_max_length", "max_len"):
        said = json.loads((folder / "tokenizer_config.json").read_text())
        said.pop("model_max_length", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(said | {key: 17}))
        assert read_model(folder).preparer.limit == 17
    change(folder / "sentence_bert_config.json", max_seq_length=9)
    assert read_model(folder).preparer.limit == 9
    equal(folder)


@row("tokenizer_config.json truncation_side")
def _truncation(folder: Path) -> None:
    change(folder / "sentence_bert_config.json", max_seq_length=8)
    before = read_model(folder).identity
    change(folder / "tokenizer_config.json", truncation_side="left")
    equal(folder)
    assert read_model(folder).identity != before
    model = open_model(folder)
    long = "the quick brown fox jumps over the lazy dog"
    assert np.array_equal(model.encode(long), model.encode(long, truncate="head"))
    assert not np.allclose(model.encode(long), model.encode(long, truncate="tail"))


@row("tokenizer_config.json padding_side chat_template clean_up_tokenization_spaces and the like")
def _irrelevant(folder: Path) -> None:
    published_ids(folder, "irrelevant settings")
    same(
        folder, lambda: change(folder / "tokenizer_config.json", padding_side="left", chat_template="{{ x }}")
    )
    same(folder, lambda: (folder / "chat_template.jinja").write_text("{{ messages }}"))


@row("special_tokens_map.json added_tokens.json")
def _older(folder: Path) -> None:
    published_ids(folder, "special_tokens_map.json", "added_tokens.json", "additional_special_tokens in both")
