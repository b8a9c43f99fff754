"""What parts words and ends lines: one rule, fastText's own, for all that trains tables and asks them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import omnivec
from omnivec.errors import UsageError
from omnivec.inputs.text.whitespace import END, is_blank, lines, split_words, why_not_utf8

pytest.importorskip("numba")
fasttext = pytest.importorskip("fasttext")

ODD = "\t\v\f\r\0\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2003\u200b\u2028\u2029\u3000\ufeff"
TEXTS = st.text(st.one_of(st.sampled_from(ODD + " ab"), st.characters(codec="utf-8")), max_size=40)
PARTING = "\t\v\f\r\0 "
KEPT = [character for character in ODD if character not in PARTING]


@settings(deadline=None)
@given(TEXTS)
@example("a\u00a0b c\x85d\x0be\0f")
def test_words_are_those_of_fasttext(text: str) -> None:
    text = text.replace("\n", " ")  # fastText puts "</s>" in its place
    assert split_words(text) == fasttext.tokenize(text)
    assert is_blank(text) == (fasttext.tokenize(text) == [])


def test_only_a_line_feed_ends_a_line() -> None:
    odd = "a\x0bb\x0cc\x1cd\x85e\u2028f\rg"
    assert lines(f"{odd}\r\n\n x\n") == [odd, "", " x"]
    assert lines("") == [] and lines("a\n\n") == ["a", ""]


@pytest.mark.parametrize("recipe", ["word2vec", "fasttext", "glove", "doc2vec"])
def test_a_word_that_was_trained_is_found_in_a_text(recipe: str) -> None:
    words = [f"a{space}b" for space in KEPT]
    model = omnivec.train(recipe, [" ".join(words)] * 30, dim=8, epochs=1, min_count=1, threads=1)
    found = model.run([f"\t{word}\0" for word in words])
    assert found.seen.tolist() == [1] * len(words)
    if recipe == "doc2vec":
        return
    assert sorted(model.keys) == sorted(words)
    for word, pooled in zip(words, found.vectors, strict=True):
        own = model.vector(word)
        np.testing.assert_allclose(pooled / np.linalg.norm(pooled), own / np.linalg.norm(own), atol=1e-5)


def test_words_that_are_no_key_are_looked_for_in_their_parts() -> None:
    model = omnivec.train("word2vec", ["prix bas"] * 30, dim=8, epochs=1, min_count=1, threads=1)
    np.testing.assert_array_equal(model.encode("prix\u00a0bas"), model.encode("prix bas"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fasttext")
    shop = ["prix bas bon", "prix\u00a0bas super", "cher nul", "mauvais\u2028cher triste"]
    text = "\n".join(f"__label__{'no' if i % 4 > 1 else 'yes'} {shop[i % 4]}" for i in range(400))
    (folder / "train.txt").write_bytes(text.encode())
    # Ten threads initialise a tenth of the matrix each; with fewer the rest stays as it was, and may be NaN.
    model = fasttext.train_supervised(
        str(folder / "train.txt"),
        dim=10,
        minn=2,
        maxn=3,
        wordNgrams=2,
        bucket=500,
        epoch=3,
        thread=10,
        verbose=0,
    )
    model.save_model(str(folder / "model.bin"))
    return folder


TOLD = [
    *(f"prix{character}bas" for character in ODD),
    "prix </s> cher nul",
    "bon __label__no",
    "</s>",
    "nul __label__",
]


def test_a_classifier_says_what_fasttext_says(classifier: Path) -> None:
    own, theirs = omnivec.load(classifier / "model.bin"), fasttext.load_model(str(classifier / "model.bin"))
    for text in TOLD:
        [(label, probability)] = own.predict([text])[0]
        [(expected, known)] = theirs.f.predict(f"{text}\n", 1, 0.0, "strict")
        assert label.removeprefix("__label__") == known.removeprefix("__label__"), text
        assert probability == pytest.approx(expected, abs=1e-4), text


def test_texts_that_train_a_classifier_are_parted_as_its_questions() -> None:
    data = [("prix\u00a0bas", "yes"), ("cher nul", "no")] * 20
    model = omnivec.train("fasttext_supervised", data, dim=4, epochs=2, threads=1)
    assert set(model.keys) == {END, "prix\u00a0bas", "cher", "nul"}
    assert model.run(["prix\u00a0bas", "prix bas"]).seen.tolist() == [2, 1]


@pytest.mark.parametrize("recipe", ["word2vec", "fasttext", "glove", "doc2vec"])
def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_a_word(tmp_path: Path, recipe: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"king queen\r\nman woman\r\n" * 20)
    model = omnivec.train(recipe, path, dim=4, epochs=1, min_count=1, threads=1)
    words = model.table.words.keys if recipe == "doc2vec" else model.keys
    assert sorted(words) == ["king", "man", "queen", "woman"]


def test_marked_lines_with_odd_spaces(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeff__label__a x\u00a0y z\r\n__label__b w\x85v\r\n".encode())
    model = omnivec.train("fasttext_supervised", path, dim=4, epochs=1, threads=1)
    assert set(model.keys) == {END, "x\u00a0y", "z", "w\x85v"}


def test_phrases_of_words_with_odd_spaces_are_saved(tmp_path: Path) -> None:
    found = omnivec.train(
        "phrases", ["new\u2028york is big"] * 9 + ["old\u2028york", "a b c"] * 9, threshold=0
    )
    found.save(tmp_path / "phrases.txt")
    from omnivec.training.recipes.phrases import load

    assert load(tmp_path / "phrases.txt") == found
    assert "new\u2028york_is" in found.words("new\u2028york is big")


def test_documents_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    bad = {"a b".encode("utf-16"): "is UTF-16", b"a b\nc\xe9 d": "not UTF-8 at byte 5", b"a\0b": "zero bytes"}
    for content, why in bad.items():
        path.write_bytes(content)
        with pytest.raises(UsageError, match=why):
            omnivec.train("doc2vec", path)
    assert why_not_utf8(b"ab") is None
