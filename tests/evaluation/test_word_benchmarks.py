"""Google's analogies and word similarity, equal to gensim; the real files where they are at hand."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from omnivec.errors import UsageError
from omnivec.evaluation.word_analogies import read_questions, score_analogies
from omnivec.evaluation.word_similarity import read_pairs, score_pairs

DATA = Path(os.environ.get("OMNIVEC_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
SECTIONS = {"capital": "A", "gram1-opposite": "B", "family tree": "C"}


def keyed(keys, vectors) -> KeyedVectors:
    made = KeyedVectors(vectors.shape[1])
    made.add_vectors(list(keys), vectors)
    return made


def words_and_vectors(noise=0.7):
    """Words in pairs one offset apart, blurred, so that some analogies hold; some words in two spellings."""
    generator = np.random.default_rng(11)
    keys, rows = [], []
    for letter in SECTIONS.values():
        offset = generator.normal(size=16) * 2
        for number in range(12):
            base = generator.normal(size=16)
            keys += [f"{letter}{number}one", f"{letter}{number}Two"]
            rows += [base, base + offset + noise * generator.normal(size=16)]
    keys += [key.swapcase() for key in keys[::5]]
    rows += [row + 0.1 * generator.normal(size=16) for row in rows[::5]]
    order = generator.permutation(len(keys))
    return [keys[place] for place in order], np.array(rows, np.float32)[order]


@pytest.fixture
def questions(tmp_path):
    lines = []
    for name, letter in SECTIONS.items():
        lines.append(f": {name}")
        pairs = [f"{letter}{n}One {letter}{n}tWO" for n in range(14)]  # the last two are unknown
        lines += [f"{a} {b}" for a in pairs for b in pairs if a != b]
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("any_case", [True, False])
@pytest.mark.parametrize("first", [300_000, 60])
def test_analogies_equal_gensim(questions, any_case, first):
    keys, vectors = words_and_vectors()
    if not any_case:
        questions.write_text(questions.read_text().replace("One", "one").replace("tWO", "Two"))
    theirs, sections = keyed(keys, vectors).evaluate_word_analogies(
        str(questions), restrict_vocab=first, case_insensitive=any_case
    )
    ours = score_analogies(keys, vectors, read_questions(questions), first, any_case)
    *each, total = sections
    assert ours.total.accuracy == theirs
    assert 0.1 < theirs < 0.95  # some of each
    assert [(one.name, one.correct, one.asked) for one in ours.sections] == [
        (one["section"], len(one["correct"]), len(one["correct"]) + len(one["incorrect"])) for one in each
    ]
    assert ours.total.asked == len(total["correct"]) + len(total["incorrect"])
    assert all(one.asked + one.unknown == 14 * 13 for one in ours.sections)


def test_semantic_and_syntactic(questions):
    keys, vectors = words_and_vectors(noise=0)
    result = score_analogies(keys, vectors, read_questions(questions))
    capital, opposite, family = result.sections
    assert result.syntactic.correct == opposite.correct and result.syntactic.asked == opposite.asked
    assert result.semantic.correct == capital.correct + family.correct
    assert result.total.asked == result.semantic.asked + result.syntactic.asked
    multiplied = score_analogies(keys, vectors, read_questions(questions), method="mul")
    assert multiplied.total.asked == result.total.asked
    assert multiplied.total.correct not in (0, result.total.correct)


def test_no_word_is_known(questions):
    result = score_analogies(["x", "y", "z", "w"], np.eye(4, dtype=np.float32), read_questions(questions))
    assert result.total.asked == 0 and result.total.accuracy == 0 and result.total.unknown == 3 * 14 * 13


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a b c d\n", "line 1: 4 words before the first section"),
        (": x\na b c\n", "line 2: 3 words where"),
        (": x\na b c d e\n", "line 2: 5 words"),
        (b": x\n\xff", "is not UTF-8 at byte 4"),
    ],
)
def test_damaged_questions(tmp_path, content, named):
    path = tmp_path / "q.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=named):
        read_questions(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_questions(tmp_path / "none.txt")


@pytest.mark.parametrize("any_case", [True, False])
@pytest.mark.parametrize("first", [300_000, 60])
def test_similarity_equals_gensim(tmp_path, any_case, first):
    keys, vectors = words_and_vectors()
    generator = np.random.default_rng(1)
    chosen = generator.choice([*keys, "unknown"], size=(80, 2))
    lines = ["# a comment", *(f"{a}\t{b}\t{generator.integers(10)}" for a, b in chosen)]
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    _, theirs, unknown = keyed(keys, vectors).evaluate_word_pairs(
        str(path), restrict_vocab=first, case_insensitive=any_case
    )
    ours = score_pairs(keys, vectors, read_pairs(path), first, any_case)
    assert ours.spearman == pytest.approx(theirs.statistic, abs=1e-9)
    assert ours.unknown / 80 * 100 == pytest.approx(unknown) and ours.pairs + ours.unknown == 80


@pytest.mark.parametrize("line", ["a\tb\t1.5", "a b 1.5", "a,b,1.5", " a ; b ; 1.5"])
def test_lines_of_pairs(tmp_path, line):
    (tmp_path / "p.txt").write_text(f"Word 1;Word 2;Mean\n\n{line}\n")
    (pair,) = read_pairs(tmp_path / "p.txt")
    assert (pair.one, pair.other, pair.score) == ("a", "b", 1.5)
    (tmp_path / "p.txt").write_text(f"{line}\na\tb\n")
    with pytest.raises(UsageError, match=r"line 2: .* is not two words and a score"):
        read_pairs(tmp_path / "p.txt")


def test_too_few_pairs(tmp_path):
    (tmp_path / "p.txt").write_text("a b 1\nx y 2\n")
    result = score_pairs(["a", "b"], np.eye(2, dtype=np.float32), read_pairs(tmp_path / "p.txt"))
    assert math.isnan(result.spearman) and result.pairs == 1 and result.unknown == 1


@pytest.mark.skipif(not (DATA / "word_analogies").is_dir(), reason=f"no word_analogies in {DATA}")
def test_the_real_questions():
    sections = read_questions(DATA / "word_analogies" / "questions-words.txt")
    assert len(sections) == 14 and sum(len(section.questions) for section in sections) == 19_544
    assert sum(section.name.startswith("gram") for section in sections) == 9
    assert sections[0].questions[0] == ("Athens", "Greece", "Baghdad", "Iraq")


@pytest.mark.skipif(not (DATA / "word_similarity").is_dir(), reason=f"no word_similarity in {DATA}")
@pytest.mark.parametrize(
    ("name", "count"), [("WS-353-ALL", 353), ("SIMLEX-999", 999), ("RG-65", 65), ("MC-30", 30)]
)
def test_the_real_pairs(name, count):
    pairs = read_pairs(DATA / "word_similarity" / f"EN-{name}.txt")
    assert len(pairs) == count and all(0 <= pair.score <= 10 for pair in pairs)
