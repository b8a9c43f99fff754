"""Token ids equal transformers', from tokenizer.json and from the older vocabulary files."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from omnivec.errors import ItemError, ModelError, UsageError
from omnivec.inputs.text.tokenizer import load_tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't care at all.",
    "Éclairs, naïve cafés and Ångström; 北京 is a city, 東京 too. 12,345.67 + 8 = ?",
    "hello world, Hello World! unbelievable unhappiness tokenization emoji 😀😀 👍🏽",
] * 3

HOSTILE = [
    "",
    " ",
    "\n\t \r",
    "Hello, World!",
    "  leading and   inner  runs \t of space ",
    "Éclair naïve ÅNGSTRÖM ﬁne ½ İstanbul ẞ",
    "e\u0301 composed and é",
    "北京和東京 mixed 漢字kana カナ",
    "😀👍🏽 family 👩‍👩‍👧 flags 🇩🇪",
    "control \x00 \x07 \x7f \u200b \ufeff \u2028 \u00ad end",
    "x" * 500,
    "un" * 60 + " believable",
    "don't we'll I'M they've 3's",
    "[CLS] hello [SEP] [MASK] [PAD][UNK]",
    "<s> hello </s><mask> <mask> <pad><unk>",
    "<|endoftext|>hello<|startoftext|>",
    "[cls] <S> <|ENDOFTEXT|>",
    "<new> <New>word <special>",
    "12,345.67 -8e9 0x1F",
    "\U0010ffff \ufffd private \ue000",
    "مرحبا שלום नमस्ते ไทย",
    "tab\tnew\nline\r\nreturn",
]


def train(model, trainer, normalizer=None, pre_tokenizer=None):
    backend = Backend(model)
    backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizer
    backend.train_from_iterator(CORPUS, trainer)
    return backend


@cache
def wordpiece_vocabulary():
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = train(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=220, special_tokens=specials, show_progress=False),
        normalizers.BertNormalizer(lowercase=False),
        pre_tokenizers.BertPreTokenizer(),
    )
    return [token for token, _ in sorted(backend.get_vocab().items(), key=lambda item: item[1])]


@cache
def merges(specials, suffix=""):
    backend = train(
        models.BPE(end_of_word_suffix=suffix),
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=list(specials),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            end_of_word_suffix=suffix,
            show_progress=False,
        ),
        normalizers.Lowercase() if suffix else None,
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    model = json.loads(backend.to_str())["model"]
    if suffix:  # CLIP's alphabet has every byte at the end of a word, too
        for letter in pre_tokenizers.ByteLevel.alphabet():
            model["vocab"].setdefault(letter + suffix, len(model["vocab"]))
    return model["vocab"], [" ".join(pair) for pair in model["merges"]]


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return folder


def bert_files(config=None, **more):
    return {
        "config.json": {"model_type": "bert"},
        "vocab.txt": "\n".join(wordpiece_vocabulary()) + "\n",
        "tokenizer_config.json": config or {},
        **more,
    }


def merges_files(model_type, specials, config=None, suffix="", **more):
    vocabulary, pairs = merges(specials, suffix)
    return {
        "config.json": {"model_type": model_type},
        "vocab.json": vocabulary,
        "merges.txt": "#version: 0.2\n" + "\n".join(pairs) + "\n",
        "tokenizer_config.json": config or {},
        **more,
    }


S = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
END = ("<|endoftext|>",)
MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
ADDED = {
    "5000": {"content": "<special>", "special": True, "lstrip": True, "rstrip": True, "normalized": False},
    "4000": {"content": "<New>", "special": False, "normalized": True, "single_word": True},
    "1": {"content": "[UNK]", "special": True, "normalized": False},
    "4": {"content": "[MASK]", "special": True, "normalized": False, "lstrip": True, "rstrip": True},
}

FOLDERS = {
    "bert": lambda: bert_files(),
    "bert by class": lambda: bert_files({"tokenizer_class": "BertTokenizerFast", "model_max_length": 512}),
    "bert cased": lambda: bert_files({"do_lower_case": False}),
    "bert keeps accents": lambda: bert_files({"strip_accents": False}),
    "bert strips accents, cased": lambda: bert_files({"do_lower_case": False, "strip_accents": True}),
    "bert without chinese words": lambda: bert_files({"tokenize_chinese_chars": False}),
    "bert with added tokens": lambda: bert_files(
        {"added_tokens_decoder": ADDED, "additional_special_tokens": ["<new>"]}
    ),
    "bert with added_tokens.json": lambda: bert_files(
        **{"added_tokens.json": {"<new>": 4001, "hello world": 4000, "[ENT]": 4002}}
    ),
    "bert with other specials": lambda: bert_files(
        **{"special_tokens_map.json": {"cls_token": "[MASK]", "sep_token": {**MASK, "content": "<new>"}}}
    ),
    "bert with new specials": lambda: bert_files(
        {"pad_token": "<new>", "cls_token": "<special>", "mask_token": "<s>"}
    ),
    "distilbert": lambda: bert_files(**{"config.json": {"model_type": "distilbert"}}),
    "roberta": lambda: merges_files("roberta", S),
    "roberta with a leading space": lambda: merges_files("roberta", S, {"add_prefix_space": True}),
    "roberta by class": lambda: merges_files("unheard_of", S, {"tokenizer_class": "RobertaTokenizer"}),
    "roberta with a map": lambda: merges_files(
        "roberta", S, **{"special_tokens_map.json": {"mask_token": MASK, "pad_token": "<pad>"}}
    ),
    "gpt2": lambda: merges_files("gpt2", END),
    "gpt2 with a leading space": lambda: merges_files("gpt2", END, {"add_prefix_space": True}),
    "gpt2 with ends": lambda: merges_files(
        "gpt2", END, {"add_bos_token": True, "add_eos_token": True, "eos_token": "<new>", "pad_token": None}
    ),
    "opt": lambda: merges_files(
        "opt", S, {"add_bos_token": True, "bos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    ),
    "clip": lambda: merges_files("clip", ("<|startoftext|>", "<|endoftext|>"), suffix="</w>"),
}


@pytest.fixture(params=FOLDERS)
def folder(request, tmp_path):
    return write(tmp_path / "model", FOLDERS[request.param]())


def check(folder, texts=HOSTILE):
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for special in (True, False):
        expected = theirs(list(texts), add_special_tokens=special)["input_ids"]
        found = ours.ids(texts, special=special)
        assert all(row.dtype == np.int32 for row in found)
        assert [row.tolist() for row in found] == expected
    for limit in (2, 3, 7, 20):
        cut = [ours.truncate(row, limit).tolist() for row in ours.ids(texts)]
        assert cut == theirs(list(texts), truncation=True, max_length=limit)["input_ids"]
    theirs.truncation_side = "left"
    cut = [ours.truncate(row, 7, side="head").tolist() for row in ours.ids(texts)]
    assert cut == theirs(list(texts), truncation=True, max_length=7)["input_ids"]
    for text in texts:
        offsets = theirs(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        spans = ours.spans(text)
        assert spans.dtype == np.int64 and spans.shape == (len(offsets), 2)
        assert spans.tolist() == [list(pair) for pair in offsets]
    assert ours.special_count == theirs.num_special_tokens_to_add()
    assert ours.vocab_size == len(theirs)
    assert ours.pad_id == (theirs.pad_token_id or 0)
    assert ours.unknown_id == theirs.unk_token_id
    return ours, theirs


def test_vocabulary_files_give_the_ids_of_transformers(folder):
    ours, _ = check(folder)
    assert {file.name for file in ours.files()} == {file.name for file in folder.iterdir()} - {"config.json"}


def test_tokenizer_json_gives_the_ids_of_transformers(folder, tmp_path):
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    write(tmp_path / "saved", {"config.json": (folder / "config.json").read_text()})
    written, _ = check(tmp_path / "saved")
    assert [file.name for file in written.files()] == ["tokenizer.json", "tokenizer_config.json"]
    built = load_tokenizer(folder)
    texts = HOSTILE + CORPUS
    for a, b in zip(written.ids(texts), built.ids(texts), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_gives_the_ids_of_transformers(pair, texts):
    ours, theirs = pair
    expected = theirs(texts)["input_ids"] if texts else []
    assert [row.tolist() for row in ours.ids(texts)] == expected
    for text in texts:
        for begin, end in ours.spans(text).tolist():
            assert 0 <= begin <= end <= len(text)


@pytest.fixture(scope="module", params=["bert", "roberta", "gpt2", "clip"])
def pair(request, tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("pair") / "model", FOLDERS[request.param]())
    return load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)


def saved_backend(folder, config=None, truncation=False, lowercase=True, **more):
    """A tokenizer.json as training scripts leave it behind."""
    vocabulary = {token: i for i, token in enumerate(wordpiece_vocabulary())}
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    if truncation:
        backend.enable_truncation(4)
        backend.enable_padding(length=16, pad_id=9, pad_token=wordpiece_vocabulary()[9])
    files = {"config.json": {"model_type": "bert"}, "tokenizer.json": backend.to_str(), **more}
    if config is not None:
        files["tokenizer_config.json"] = config
    return write(folder, files)


def test_truncation_and_padding_of_the_file_are_off(tmp_path):
    tokenizer = load_tokenizer(saved_backend(tmp_path / "a", truncation=True))
    short, long = tokenizer.ids(["a", "the dog and the fox and the dog"])
    assert short.tolist()[0] == 2 and short.tolist()[-1] == 3 and len(short) == 3
    assert len(long) == 10
    assert tokenizer.pad_id == 9
    assert tokenizer.digest() == load_tokenizer(saved_backend(tmp_path / "b")).digest()


@pytest.mark.parametrize(
    ("config", "lowercase"),
    [({"do_lower_case": False}, True), ({"do_lower_case": True}, False), ({"strip_accents": True}, True)],
)
def test_settings_of_a_bert_class_win_over_its_file(tmp_path, config, lowercase):
    check(saved_backend(tmp_path / "a", {"tokenizer_class": "BertTokenizer", **config}, lowercase=lowercase))


def test_a_class_without_settings_leaves_the_file_as_it_is(tmp_path):
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}
    tokenizer = load_tokenizer(saved_backend(tmp_path / "a", config, lowercase=False))
    upper, lower = tokenizer.ids(["THE", "the"])
    assert upper.tolist() != lower.tolist()


def test_special_ids_and_what_stays_when_a_text_is_cut(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path / "a", bert_files()))
    before, behind = tokenizer.special_ids()
    assert (before.tolist(), behind.tolist(), tokenizer.special_count) == ([2], [3], 2)
    ids = np.array([2, 10, 11, 12, 13, 3], np.int32)
    assert tokenizer.truncate(ids, 4).tolist() == [2, 10, 11, 3]
    assert tokenizer.truncate(ids, 4, side="head").tolist() == [2, 12, 13, 3]
    assert tokenizer.truncate(ids, 2).tolist() == tokenizer.truncate(ids, 2, side="head").tolist() == [2, 3]
    assert tokenizer.truncate(ids, 6).tolist() == ids.tolist()
    assert tokenizer.truncate(ids, 4, side="head", keep=2).tolist() == [2, 10, 13, 3]
    assert [row.tolist() for row in tokenizer.windows(ids, 5)] == [[2, 10, 11, 3], [2, 12, 13, 3]]
    assert [row.tolist() for row in tokenizer.windows(ids, 4, keep=2)] == [
        [2, 10, 11, 3],
        [2, 10, 12, 3],
        [2, 10, 13, 3],
    ]
    with pytest.raises(
        UsageError, match="limit of 3 tokens has no room for 3 special and prompt tokens and a"
    ):
        tokenizer.windows(ids, 3, keep=2)
    with pytest.raises(UsageError, match="limit of 1 tokens has no room for 2 special"):
        tokenizer.truncate(ids, 1)


def test_spans_are_characters_not_bytes(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path / "a", bert_files()))
    text = "😀 the 北京 Dog"
    pieces = [text[begin:end] for begin, end in tokenizer.spans(text).tolist()]
    assert pieces[0] == "😀" and pieces[1] == "the" and pieces[2:4] == ["北", "京"]
    assert tokenizer.spans("").shape == (0, 2)


@pytest.mark.parametrize(
    ("said", "limit"),
    [(512, 512), (1e30, None), (int(1e30), None), (None, None), (128.0, 128)],
)
def test_the_limit_that_is_said(tmp_path, said, limit):
    assert (
        load_tokenizer(write(tmp_path / "a", bert_files({"model_max_length": said}))).model_max_length
        == limit
    )


@pytest.mark.parametrize("said", ["512", 0, -1, True, [512]])
def test_a_limit_that_is_none_is_refused_by_its_key(tmp_path, said):
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: model_max_length is .* is expected"):
        load_tokenizer(write(tmp_path / "a", bert_files({"model_max_length": said})))


def test_threads_get_the_same_ids(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path / "a", bert_files()))
    expected = [row.tolist() for row in tokenizer.ids(CORPUS)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: tokenizer.ids(CORPUS), range(40)):
            assert [row.tolist() for row in found] == expected


def test_the_digest_is_of_what_ids_hang_on(tmp_path):
    plain = saved_backend(tmp_path / "plain")
    first = load_tokenizer(plain).digest()
    parts = json.loads((plain / "tokenizer.json").read_text())

    def digest(name, **changes):
        text = json.dumps({**dict(reversed(parts.items())), **changes}, indent=7)
        return load_tokenizer(write(tmp_path / name, {"tokenizer.json": text})).digest()

    assert len(first) == 64 and digest("formatted") == first and digest("decoder", decoder=None) == first
    zeroth = [
        load_tokenizer(write(tmp_path / word, bert_files(**{"vocab.txt": f"{word}\n[UNK]\n[CLS]\n[SEP]\n"})))
        for word in ("apple", "pear")
    ]
    assert zeroth[0].digest() != zeroth[1].digest()
    assert digest("lowercase", normalizer={**parts["normalizer"], "lowercase": False}) != first
    assert digest("specials", post_processor=None) != first


@pytest.mark.parametrize("text", ["half \ud83d of a pair", 3, None, b"bytes"])
def test_what_is_no_text_is_named(tmp_path, text):
    tokenizer = load_tokenizer(write(tmp_path / "a", bert_files()))
    with pytest.raises(ItemError, match="text 1 "):
        tokenizer.ids(["fine", text])
    with pytest.raises(ItemError, match="text 0 "):
        tokenizer.spans(text)


def test_a_vocabulary_without_its_unknown_token(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path / "a", bert_files(**{"vocab.txt": "a\n[CLS]\n[SEP]\n"})))
    with pytest.raises(ModelError, match=r"cannot encode 1 texts: .*\[UNK\]"):
        tokenizer.ids(["z"])


DAMAGED = {
    "nothing": ({}, r"looked for tokenizer.json, vocab.txt, vocab.json \+ merges.txt"),
    "half of two files": ({"vocab.json": {"a": 0}}, "looked for"),
    "cut": ({"tokenizer.json": '{"version": "1.0", "mod'}, "no tokenizer can be made of tokenizer.json"),
    "no model": ({"tokenizer.json": {}}, "no tokenizer can be made of tokenizer.json"),
    "cut settings": (
        {"vocab.txt": "a\n", "tokenizer_config.json": '{"do_'},
        "tokenizer_config.json is not valid JSON",
    ),
    "a list of settings": ({"vocab.txt": "a\n", "tokenizer_config.json": [1]}, "holds a list"),
    "cut merges": (
        {"config.json": {"model_type": "gpt2"}, "vocab.json": '{"a"', "merges.txt": ""},
        "vocab.json and merges.txt",
    ),
    "an unknown merge": (
        {"config.json": {"model_type": "gpt2"}, "vocab.json": {"a": 0}, "merges.txt": "a b\n"},
        "vocab.json and merges.txt",
    ),
    "another kind": (
        {"vocab.txt": "a\n", "tokenizer_config.json": {"tokenizer_class": "BertJapaneseTokenizer"}},
        "bertjapanese tokenizer.*add its tokenizer.json",
    ),
    "no kind": ({"vocab.json": {"a": 0}, "merges.txt": "#\n"}, "an unnamed tokenizer"),
    "files of another kind": (
        {"config.json": {"model_type": "gpt2"}, "vocab.txt": "a\n"},
        "of gpt2 tokenizer",
    ),
    "odd added tokens": (
        bert_files({"added_tokens_decoder": {"one": {"content": "a"}}}),
        "tokenizer_config.json: added_tokens_decoder.'one' is",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_missing_or_damaged_is_said_in_one_line(tmp_path, case):
    files, message = DAMAGED[case]
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(write(tmp_path / "model", files))
    assert "\n" not in str(caught.value) and str(tmp_path / "model") in str(caught.value)


def test_the_module_loads_no_library_until_it_is_used():
    code = "import sys, omnivec.inputs.text.tokenizer; print('tokenizers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
