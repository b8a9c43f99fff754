"""What a user holds: items in, vectors out, tokens and words, threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import checkpoints
import omnivec
from omnivec.errors import ItemErrors, ModelNotFound, UsageError
from omnivec.testing import check_close, open_model
from patience import PATIENCE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    checkpoints.bert(place)
    return place


def test_one_item_gives_one_vector_and_several_a_matrix(folder: Path) -> None:
    model = omnivec.load(folder)
    assert model.encode("a text").shape == (model.dim,)
    assert model.encode(["a text"]).shape == (1, model.dim)
    assert model.encode(iter(["a", "b"])).shape == (2, model.dim)
    assert model.encode(np.array(["a", "b", "c"])).shape == (3, model.dim)
    assert model.encode([]).shape == (0, model.dim)


def test_a_path_is_a_file_and_a_string_is_a_text(folder: Path, tmp_path: Path) -> None:
    model = omnivec.load(folder)
    (tmp_path / "a.txt").write_text("the quick brown fox")
    check_close(model.encode(tmp_path / "a.txt"), model.encode("the quick brown fox"), "a file's text")
    assert not np.allclose(model.encode(str(tmp_path / "a.txt")), model.encode(tmp_path / "a.txt"))


def test_failures_are_named_and_the_others_are_there(folder: Path, tmp_path: Path) -> None:
    model = omnivec.load(folder)
    items = ["one", tmp_path / "missing.txt", "two", 3, "half \ud800 pair"]
    with pytest.raises(ItemErrors) as caught:
        model.encode(items)
    assert list(caught.value.failures) == [1, 3, 4]
    assert "missing.txt" in caught.value.failures[1]
    check_close(caught.value.partial.vectors, model.encode(["one", "two"]), "the others")
    encoded = model.run(items)
    assert encoded.kept.tolist() == [0, 2]
    assert [i for i, _ in encoded] == [0, 2]
    assert str(caught.value).endswith("returns both without raising.")
    for alone in (tmp_path / "missing.txt", [3, None]):
        with pytest.raises(ItemErrors) as caught:
            model.encode(alone)
        assert "others" not in str(caught.value) and str(caught.value) == caught.value.summary


def test_an_unknown_argument_is_an_error(folder: Path) -> None:
    model = omnivec.load(folder)
    with pytest.raises(TypeError, match="normalise"):
        model.encode("x", normalise=True)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="batch_size=0"):
        model.encode("x", batch_size=0)


def test_tokens_and_words_lie_where_their_spans_say(folder: Path) -> None:
    model = omnivec.load(folder)
    text = "The quick brown fox's don't-care, naïve!"
    tokens, words = model.tokens(text), model.words(text)
    assert words.texts == ("The", "quick", "brown", "fox's", "don't", "-", "care", ",", "naïve", "!")
    for part in (tokens, words):
        assert part.vectors.shape == (len(part.spans), model.model.config.dim)
        assert tuple(text[a:b] for a, b in part.spans) == part.texts
    inside = (tokens.spans[:, 0] >= 4) & (tokens.spans[:, 1] <= 9)
    check_close(words.vectors[1], tokens.vectors[inside].mean(0), "a word is the mean of its tokens")
    assert model.words("").vectors.shape == (0, model.model.config.dim)


def test_layers_are_picked_and_averaged(folder: Path) -> None:
    model = omnivec.load(folder)
    states = [model.tokens("the quick brown fox", layer=i).vectors for i in range(4)]
    assert np.array_equal(states[3], model.tokens("the quick brown fox").vectors)
    np.testing.assert_allclose(
        model.tokens("the quick brown fox", layer=[1, -1]).vectors, (states[1] + states[3]) / 2, atol=1e-6
    )
    with pytest.raises(UsageError, match="0 to 3"):
        model.words("x", layer=4)


def test_a_word_has_another_vector_in_another_sense(minilm: Path, data_folder: Path) -> None:
    """Bank, of money or of a river: the sense of the nearest use against the most frequent sense."""
    model = omnivec.load("all-MiniLM-L6-v2", precision="float32")

    def uses(part: str, most: int) -> tuple[np.ndarray, np.ndarray]:
        place = data_folder / "coarsewsd20" / "bank"
        rows = (place / f"{part}.data.txt").read_text(encoding="utf-8").splitlines()[:most]
        vectors = []
        for row in rows:
            position, sentence = row.split("\t")
            at = len(" ".join(sentence.split(" ")[: int(position)])) + (int(position) > 0)
            words = model.words(sentence)
            vectors.append(words.vectors[words.spans[:, 0].tolist().index(at)])
        gold = (place / f"{part}.gold.txt").read_text().split()[:most]
        return np.array(vectors), np.array(gold)

    (known, senses), (asked, gold) = uses("train", 300), uses("test", 200)
    nearest = omnivec.similarity(asked, known).argmax(1)
    frequent = max((senses == s).mean() for s in set(senses))
    assert (senses[nearest] == gold).mean() > max(
        frequent, (gold == max(set(senses), key=senses.tolist().count)).mean()
    )


def test_similarity() -> None:
    a, b = np.eye(2, dtype=np.float32), np.array([[1, 1], [2, 0]], np.float32)
    np.testing.assert_allclose(omnivec.similarity(a, b), [[0.5**0.5, 1], [0.5**0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(omnivec.similarity(a, b, "dot"), [[1, 2], [1, 0]])
    np.testing.assert_allclose(
        omnivec.similarity(a, b, "euclidean"), [[-1.0, -1.0], [-1.0, -(5.0**0.5)]], atol=1e-6
    )


def test_a_model_that_is_nowhere_names_the_near_ones() -> None:
    with pytest.raises(ModelNotFound, match="all-MiniLM-L6-v2"):
        omnivec.load("all-MiniLM-L6", offline=True)


def test_unstated_pooling_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    omnivec.load(folder)
    assert "using their mean" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_refused_instead_of_hanging(folder: Path) -> None:
    code = f"""
import os, omnivec
model = omnivec.load({str(folder)!r}); model.encode("x")
if os.fork() == 0:
    for attempt in (lambda: model.encode("x"), lambda: omnivec.load({str(folder)!r})):
        try: attempt()
        except omnivec.ItemErrors as error: assert "spawn" in str(error), error
        except omnivec.ModelError as error: assert "spawn" in str(error), error
        else: os._exit(3)
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=False).returncode == 0


def test_memory_stays_flat_over_varied_lengths(folder: Path) -> None:
    resource = pytest.importorskip("resource")
    model = open_model(folder)
    rng = np.random.default_rng(0)

    def work() -> None:
        for _ in range(300):
            model.encode("word " * int(rng.integers(1, 90)))

    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 24, f"{grown:.0f} MB more after 300 more calls"
