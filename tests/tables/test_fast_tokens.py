"""Flat token ids equal the tokenizer's own, whatever the text, whichever way is taken."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from omnivec.errors import ItemError, UsageError
from omnivec.inputs.text.tokenizer import Tokenizer, load_tokenizer
from omnivec.tables import fast_tokens
from omnivec.tables.fast_tokens import FastTokenizer, FlatIds

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't care at all.",
    "Éclairs, naïve cafés and Ångström; 北京 is a city, 東京 too. 12,345.67 + 8 = ?",
    "unbelievable unhappiness tokenization emoji 😀😀 👍🏽 привет мир aa aaa aaaa [ ] # ##",
] * 3

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert(normalizer=None, cut=None, added=(), longest=100, prefix="##"):
    """WordPiece as BERT has it, its vocabulary trained on the corpus."""
    backend = Backend(
        models.WordPiece(
            unk_token="[UNK]", max_input_chars_per_word=longest, continuing_subword_prefix=prefix
        )
    )
    backend.normalizer = normalizer or normalizers.BertNormalizer()
    backend.pre_tokenizer = cut or pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=250, special_tokens=SPECIALS, show_progress=False, continuing_subword_prefix=prefix
    )
    backend.train_from_iterator(CORPUS, trainer)
    if longest != 100:  # the trainer sets its own
        backend.model.max_input_chars_per_word = longest
    backend.add_tokens(list(added))
    vocabulary = backend.get_vocab()
    backend.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return backend


def bpe(cut, normalizer=None, added=()):
    backend = Backend(models.BPE(unk_token=None if "ByteLevel" in repr(cut) else "[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, cut
    alphabet = pre_tokenizers.ByteLevel.alphabet() if "ByteLevel" in repr(cut) else []
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, show_progress=False, initial_alphabet=alphabet
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens(list(added))
    return backend


def unigram(cut, normalizer=None):
    backend = Backend(models.Unigram())
    backend.normalizer, backend.pre_tokenizer = normalizer, cut
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def word_level():
    words = {"[UNK]": 0, "the": 1, "dog": 2, ",": 3, "café": 4, "cafe": 5, "a": 6}
    backend = Backend(models.WordLevel(words, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def sequence(*cuts):
    return pre_tokenizers.Sequence(list(cuts))


Norm, Cut = normalizers, pre_tokenizers
TAKEN = {
    "uncased": lambda: bert(),
    "cased": lambda: bert(Norm.BertNormalizer(lowercase=False)),
    "cased without accents": lambda: bert(Norm.BertNormalizer(lowercase=False, strip_accents=True)),
    "uncased with accents": lambda: bert(Norm.BertNormalizer(strip_accents=False)),
    "not cleaned": lambda: bert(Norm.BertNormalizer(clean_text=False)),
    "not Chinese": lambda: bert(Norm.BertNormalizer(handle_chinese_chars=False)),
    "short words": lambda: bert(longest=7),
    "no prefix": lambda: bert(prefix=""),
    "added": lambda: bert(added=[AddedToken("<new>", normalized=False), AddedToken("[X ", lstrip=True)]),
    "added, normalised": lambda: bert(added=[AddedToken("New Ö", normalized=True, single_word=True)]),
    "parts": lambda: bert(
        Norm.Sequence([Norm.NFD(), Norm.Lowercase(), Norm.StripAccents()]),
        sequence(Cut.WhitespaceSplit(), Cut.Punctuation(), Cut.Digits(individual_digits=True)),
    ),
    "only blanks": lambda: bert(Norm.NFKC(), Cut.WhitespaceSplit()),
    "numbers whole": lambda: bert(cut=sequence(Cut.WhitespaceSplit(), Cut.Digits(individual_digits=False))),
    "words": lambda: word_level(),
    "bytes": lambda: bpe(Cut.ByteLevel(add_prefix_space=False), added=["<new>"]),
    "bytes, prefixed": lambda: bpe(Cut.ByteLevel(add_prefix_space=True), Norm.NFC()),
    "bytes within blanks": lambda: bpe(sequence(Cut.WhitespaceSplit(), Cut.ByteLevel())),
    "metaspace": lambda: bpe(Cut.Metaspace()),
    "metaspace, never": lambda: bpe(Cut.Metaspace(prepend_scheme="never"), Norm.Lowercase()),
    "metaspace, first": lambda: bpe(Cut.Metaspace(prepend_scheme="first")),
    "unigram": lambda: unigram(sequence(Cut.WhitespaceSplit(), Cut.Metaspace()), Norm.NFKC()),
    "unigram, glued": lambda: unigram(Cut.Metaspace()),
}
REFUSED = {
    "looks across": lambda: bpe(Cut.Metaspace(split=False)),
    "first within blanks": lambda: unigram(
        sequence(Cut.WhitespaceSplit(), Cut.Metaspace(prepend_scheme="first"))
    ),
    "any pattern": lambda: bpe(Cut.Split(Regex(r"\w+ \w+"), behavior="isolated")),
    "any normaliser": lambda: bert(Norm.Replace(Regex(r"a b"), "c")),
    "no cut": lambda: unigram(None),
}


@cache
def fast(name, drops=False):
    backend = (TAKEN | REFUSED)[name]()
    return FastTokenizer(Tokenizer(backend, {"unk_token": "[UNK]", "drop_unknown": drops}))


def plain(tokenizer, texts, special=True, limit=None):
    """What the tokenizer itself says, text by text."""
    rows = tokenizer.ids(texts, special=special)
    if limit is None:
        return rows, [0] * len(rows)
    cut = [tokenizer.truncate(row, limit) if special else row[:limit] for row in rows]
    return cut, [len(row) - len(kept) for row, kept in zip(rows, cut, strict=True)]


def assert_equal(flat: FlatIds, expected):
    rows, lost = expected
    assert flat.ids.dtype == np.int32 and flat.offsets.dtype == flat.lost.dtype == np.int64
    assert flat.offsets.tolist() == np.cumsum([0, *map(len, rows)]).tolist()
    assert flat.ids.tolist() == [int(one) for row in rows for one in row]
    assert flat.lost.tolist() == lost


FRAGMENTS = [
    *(
        "the dog",
        "The",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\x00",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x7f",
        "\x85",
        "\u00a0",
    ),
    *("[CLS]", "[cls]", "[UNK]", "[MASK", "]", "<new>", "<NEW>", "New Ö", "new o\u0308", "[X ", "[x"),
    *(
        "café",
        "cafe\u0301",
        "\u0301",
        "Å",
        "İ",
        "ẞ",
        "ﬁ",
        "½",
        "´",
        "北京",
        "한국",
        "ア\uff9e",
        "привет",
        "😀",
        "👍🏽",
        "👩‍👧",
    ),
    *(
        "\u200b",
        "\u200d",
        "\u00ad",
        "\ufeff",
        "\ufffd",
        "\u2003",
        "\u2028",
        "\u3000",
        "\u1680",
        "▁",
        "Ġ",
        "##",
        "'s",
        "'ll",
    ),
    *(
        "a" * 99,
        "a" * 100,
        "a" * 101,
        "é" * 100,
        "é" * 101,
        "unbelievable",
        "aaaaaaa",
        "aaaaaaaa",
        "3.14",
        "12,345",
        "-",
        "...",
    ),
    *("x" * 70, "é" * 40, "\u0600", "\u0e33", "\U000e0001", "\uffff"),
]
TEXT = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join),
    st.lists(st.sampled_from(FRAGMENTS), max_size=8).map(" ".join),
    st.text(st.characters(max_codepoint=127), max_size=60),
    st.text(max_size=30),
)


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("name", [*TAKEN, *REFUSED])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(texts=st.lists(TEXT, max_size=6), special=st.booleans(), limit=st.none() | st.integers(2, 12))
def test_ids_are_the_tokenizers(name, drops, texts, special, limit):
    tokenizer = fast(name, drops)
    flat = tokenizer.flat_ids(texts, special=special, limit=limit)
    assert_equal(flat, plain(tokenizer.tokenizer, texts, special, limit))


@pytest.mark.parametrize("name", TAKEN)
def test_the_kernels_do_the_work(name):
    assert fast(name).is_compiled


@pytest.mark.parametrize("name", REFUSED)
def test_a_tokenizer_that_may_look_across_blanks_does_it_itself(name):
    assert not fast(name).is_compiled


def test_without_numba_the_tokenizer_does_it_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "omnivec.tables.kernels", None)
    tokenizer = FastTokenizer(fast("uncased").tokenizer)
    assert not tokenizer.is_compiled
    assert_equal(tokenizer.flat_ids(FRAGMENTS, limit=5), plain(tokenizer.tokenizer, FRAGMENTS, limit=5))


def test_a_library_that_cuts_otherwise_is_found_out(monkeypatch):
    tokenizer = FastTokenizer(fast("uncased").tokenizer)
    monkeypatch.setattr(tokenizer, "_plain", lambda *given: fast("cased").flat_ids(["a"]))
    assert not tokenizer.is_compiled


@pytest.mark.parametrize("threads", [1, 3])
def test_many_slices_and_threads_change_nothing(monkeypatch, threads):
    monkeypatch.setattr(fast_tokens, "SLICE", 200)
    texts = [*FRAGMENTS, " ".join(FRAGMENTS), *CORPUS] * 3
    tokenizer = FastTokenizer(fast("uncased").tokenizer)
    assert_equal(tokenizer.flat_ids(texts, threads=threads), plain(tokenizer.tokenizer, texts))


@pytest.mark.parametrize("name", ["uncased", "bytes"])
def test_a_memory_that_overflows_is_emptied(monkeypatch, name):
    for limit, size in {"SLICE": 300, "ENTRIES": 16, "LETTERS": 60, "LONGEST": 12}.items():
        monkeypatch.setattr(fast_tokens, limit, size)
    texts = [f"caf{letter}{i} mot{letter} {letter * 20} a" for i in range(40) for letter in "éñ北"]
    tokenizer = FastTokenizer(fast(name).tokenizer)
    for _ in range(2):
        assert_equal(tokenizer.flat_ids(texts), plain(tokenizer.tokenizer, texts))


def test_callers_on_several_threads_do_not_disturb_each_other():
    tokenizer = FastTokenizer(fast("bytes").tokenizer)
    texts = [" ".join(FRAGMENTS[i : i + 3]) + f" new{i}" for i in range(len(FRAGMENTS))]
    expected = plain(tokenizer.tokenizer, texts)
    with ThreadPoolExecutor(4) as pool:
        for flat in pool.map(lambda _: tokenizer.flat_ids(texts), range(16)):
            assert_equal(flat, expected)


def test_no_texts():
    flat = fast("uncased").flat_ids([])
    assert (len(flat.ids), flat.offsets.tolist(), len(flat.lost)) == (0, [0], 0)


@pytest.mark.parametrize(("wrong", "said"), [("\ud800", "text 1 contains half"), (3, "text 1 is a int")])
def test_what_is_no_text_is_named(wrong, said):
    with pytest.raises(ItemError, match=said):
        fast("uncased").flat_ids(["good", wrong])


@pytest.mark.parametrize("name", ["uncased", "no cut"])
def test_a_limit_below_the_special_tokens_is_refused(name):
    special = fast(name).tokenizer.special_count
    with pytest.raises(UsageError, match=f"no room for {special} special"):
        fast(name).flat_ids(["a"], limit=special - 1)


def test_real_texts(minilm, data_folder):
    """Every tenth text of real data sets, with the real model's tokenizer."""
    tokenizer = FastTokenizer(load_tokenizer(minilm))
    assert tokenizer.is_compiled
    found = [*data_folder.glob("banking77/*.csv"), *data_folder.glob("sentence_classification/*.*")]
    found += data_folder.glob("stsbenchmark/*.csv")
    texts = [line for path in found for line in path.read_text("utf-8", "replace").splitlines()[::10]]
    assert any(not text.isascii() for text in texts)
    assert_equal(tokenizer.flat_ids(texts, threads=2), plain(tokenizer.tokenizer, texts))
