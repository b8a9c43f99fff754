from __future__ import annotations

import re
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.files import cut as module
from omnivec.inputs.files.cut import TextPiece, cut

Spans = NDArray[np.int64]


def words(text: str) -> Spans:
    """A token for each word and each sign."""
    return np.array([m.span() for m in re.finditer(r"\w+|[^\w\s]", text)], np.int64).reshape(-1, 2)


def passages(text: str, length: int, overlap: int = 0) -> list[str]:
    return [text[piece.start : piece.end] for piece in cut(text, words(text), length=length, overlap=overlap)]


def test_a_text_that_fits_is_one_passage_without_the_blanks_around_it() -> None:
    assert cut(" \n one two. \n", words(" \n one two. \n"), length=3, overlap=1) == [TextPiece(3, 11, 3)]


def test_nothing_to_cut() -> None:
    assert cut("", np.zeros((0, 2), np.int64), length=5, overlap=1) == []
    assert cut("dropped", np.zeros((0, 2), np.int64), length=5, overlap=1) == []
    assert cut(" \n ", np.array([[0, 1], [1, 3]]), length=5, overlap=1) == []


def test_a_single_token_of_any_size_is_a_passage() -> None:
    text = "x" * 100_000
    assert cut(text, np.array([[0, 100_000]]), length=1, overlap=0) == [TextPiece(0, 100_000, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 10 tokens at most; a cut may come after the fifth
        ("a b c d e f\n\ng h. i j\nk l", ["a b c d e f", "g h. i j\nk l"]),
        ("a b c\nd e f\n- g h i\nj k. l", ["a b c\nd e f", "- g h i\nj k. l"]),
        ("a b c d e f. G h i, j k l", ["a b c d e f.", "G h i, j k l"]),
        ("a b c d e f\ng h, i j k l", ["a b c d e f", "g h, i j k l"]),
        ("a b c d e, f-g h i-j k", ["a b c d e,", "f-g h i-j k"]),
        ("a b c d-e f g h-i-j", ["a b c d-e f g", "h-i-j"]),
        ("a b c d e f\n\n# H\n\ng h i j k", ["a b c d e f", "# H\n\ng h i j k"]),
        ("a b c d e f\n\nTop\n===\n\ng h", ["a b c d e f", "Top\n===\n\ng h"]),
    ],
)  # fmt: skip
def test_a_passage_ends_at_the_best_place_in_the_last_part(text: str, expected: list[str]) -> None:
    assert passages(text, 10) == expected


def test_small_paragraphs_are_merged() -> None:
    text = "\n\n".join(f"p{n} x." for n in range(12))
    assert passages(text, 12) == [
        "\n\n".join(f"p{n} x." for n in group) for group in (range(4), range(4, 8), range(8, 12))
    ]


def test_headings_stay_with_what_follows_them() -> None:
    body = "word " * 6
    text = f"# One\n\n{body}\n\n## Two\n\n### Three\n\n{body}\n\nFour\n----\n{body}\n\n== Five\n\n{body}"
    heads = ["# One", "## Two\n\n### Three", "Four", "== Five"]
    found = passages(text, 13)
    assert len(found) == 4
    assert all(passage.startswith(head) for passage, head in zip(found, heads, strict=True))


def test_a_comment_of_many_lines_is_no_heading() -> None:
    code = "# a b c\n# d e f\n# g h i\n\nx = 1\n\ny = 2\n"
    assert passages(code, 16) == ["# a b c\n# d e f\n# g h i\n\nx = 1", "y = 2"]


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Smith and J. R. Tolkien met Mr. Jones, e.g. (cf. Fig. 3) at 3.5 p. m. or so.",
        "She asked if it had no end ... but nobody knew.",
        "See www.example.com vs. the other.",
    ],
)
def test_no_sentence_ends_at_an_abbreviation(sentence: str) -> None:
    assert list(module._sentence_ends(sentence + " Next one.\n")) == [
        len(sentence),
        len(sentence) + len(" Next one."),
    ]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (
            "One. Two! Three? “Four.” Five (six.) Seven... Eight",
            ["One.", "Two!", "Three?", "“Four.”", "(six.)", "Seven..."],
        ),
        ("今天。你来吗？“好的！”明天", ["今天。", "你来吗？", "“好的！”"]),
        ("यह है। वह है। और", ["यह है।", "वह है।"]),
        ("ما هذا؟ هذا كتاب", ["ما هذا؟"]),
    ],
)
def test_sentences_end_in_many_scripts(text: str, ends: list[str]) -> None:
    found = [text[:end] for end in module._sentence_ends(text)]
    assert len(found) == len(ends)
    assert all(head.endswith(end) for head, end in zip(found, ends, strict=True))


def test_text_without_blanks_is_cut_between_its_sentences() -> None:
    text = "今天天气很好，我们去公园。你来吗？好的！明天见。" * 3
    spans = np.array([(n, n + 1) for n in range(len(text))])
    found = cut(text, spans, length=26, overlap=0)
    assert [text[piece.start : piece.end] for piece in found] == [text[:24]] * 3


def test_the_overlap_begins_with_a_sentence_else_a_line_else_a_word() -> None:
    sentences = "A b c d. E f g h. I j k l. M n o p. Q r s t."
    assert passages(sentences, 15, 7) == ["A b c d. E f g h. I j k l.", "I j k l. M n o p. Q r s t."]
    lines = "a b c d\ne f g h\ni j k l\nm n o p"
    assert passages(lines, 12, 6) == ["a b c d\ne f g h\ni j k l", "i j k l\nm n o p"]
    run = "a b c-d e f-g h i-j k l-m"
    assert passages(run, 10, 3) == ["a b c-d e f-g h", "h i-j k l-m"]
    assert passages("a-b-c-d-e-f", 6, 2) == ["a-b-c-", "c-d-e-", "e-f"]


def test_tokens_of_one_character_are_not_parted() -> None:
    text = "ab🙂cd🙂ef"
    spans = np.array(
        [(0, 1), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4), (4, 5), (5, 6), (5, 6), (5, 6), (6, 7), (7, 8)]
    )
    assert [text[p.start : p.end] for p in cut(text, spans, length=4, overlap=0)] == [
        "ab",
        "🙂c",
        "d🙂",
        "ef",
    ]


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (5, 5), (5, 6), (5, -1), (-3, 0)])
def test_lengths_that_cannot_be_meant(length: int, overlap: int) -> None:
    with pytest.raises(UsageError, match=f"{length}.*{overlap}"):
        cut("text", words("text"), length=length, overlap=overlap)


def test_blanks_are_what_python_calls_blanks() -> None:
    assert set(module._BLANKS.tolist()) == {n for n in range(sys.maxunicode + 1) if chr(n).isspace()}


fragments = st.sampled_from(
    ["word ", "Mr. ", "x", "end. ", "Yes! ", "\n", "\n\n", "# H\n", "- item\n", "  ", "今天。", "好，", "🙂", "a, b; ",
     "};\n",
     "Title\n=====\n", "\x0c", "\u3000", "\xa0", "...", "“q.” ", "\ud800"]
)  # fmt: skip
texts = st.lists(fragments, max_size=60).map("".join)


@st.composite
def tokenized(draw: st.DrawFn, shared: bool) -> tuple[str, Spans]:
    """A text with tokens of one of the shapes that tokenizers give."""
    text = draw(texts)
    shape = draw(st.sampled_from([r"\w+|[^\w\s]", r" ?\w+| ?[^\w\s]+|\s+", r".", r"\S{1,3}", r"[\s\S]{1,7}"]))
    spans = [m.span() for m in re.finditer(shape, text, re.DOTALL)]
    if shared:
        spans = [span for span in spans for _ in range(draw(st.integers(1, 3)))]
    return text, np.array(spans, np.int64).reshape(-1, 2)


@given(st.one_of(tokenized(shared=False), tokenized(shared=True)), st.integers(1, 30), st.data())
def test_whatever_the_text_nothing_is_lost(
    given_text: tuple[str, Spans], length: int, data: st.DataObject
) -> None:
    text, spans = given_text
    overlap = data.draw(st.integers(0, length - 1))
    found = cut(text, spans, length=length, overlap=overlap)

    assert found == cut(text, spans, length=length, overlap=overlap)
    assert all(0 < piece.tokens <= length for piece in found)
    assert all(text[p.start : p.end].strip() == text[p.start : p.end] != "" for p in found)
    assert all(a.start <= b.start and a.end <= b.end for a, b in pairwise(found))
    assert len(found) <= 1 + 2 * len(spans) / (length - overlap)
    kept = {n for piece in found for n in range(piece.start, piece.end)}
    assert all(n in kept for start, end in spans.tolist() for n in range(start, end) if not text[n].isspace())


@given(tokenized(shared=False), st.integers(1, 30), st.data())
def test_no_more_is_repeated_than_was_asked_for(
    given_text: tuple[str, Spans], length: int, data: st.DataObject
) -> None:
    text, spans = given_text
    overlap = data.draw(st.integers(0, length - 1))
    found = cut(text, spans, length=length, overlap=overlap)
    full = [(start, end) for start, end in spans.tolist() if text[start:end].strip()]
    for one, two in pairwise(found):
        both = [span for span in full if span[1] > two.start and span[0] < one.end]
        assert len(both) <= overlap
        assert one.end < two.end


@pytest.mark.parametrize(
    "part", ["A b, c d. ", "\n", "#", "# a\n", "=", "a\n=\n", '."', "\n \n", "- ", "'", "。", "a\n---\n", "x"]
)
def test_a_megabyte_takes_about_a_second(part: str) -> None:
    text = part * (1_000_000 // len(part))
    spans = np.array([(n, n + 5) for n in range(0, len(text), 5)], np.int64)
    start = time.process_time()
    found = cut(text, spans, length=256, overlap=32)
    assert time.process_time() - start < 60  # quadratic time would take hours
    assert len(found) <= 1 + 2 * len(spans) / 224
