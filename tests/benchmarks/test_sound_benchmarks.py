"""What the benchmarks of sound compute: word errors, votes of neighbours, folds."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("said", "written", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b c", "x a b c", 1),
        ("a b c", "", 3),
        ("", "a", 1),
        ("kitten sat", "sat kitten sat sat", 2),
    ],
)
def test_word_errors_are_the_least_changes(benchmark: Any, said: str, written: str, errors: int) -> None:
    assert benchmark("transcribe").distance(said.split(), written.split()) == errors


def test_every_utterance_has_a_transcript(benchmark: Any) -> None:
    lines = benchmark("transcribe").TRANSCRIPTS.read_text(encoding="utf-8").splitlines()
    said = dict(line.split("\t") for line in lines if not line.startswith("#"))
    assert len(said) == 100 and sum(len(text.split()) for text in said.values()) == 1892


def test_neighbours_vote_and_the_nearer_ones_break_ties(benchmark: Any) -> None:
    known = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1]], np.float32)
    labels = np.array(["a", "b", "b", "c", "c"])
    asked = np.array([[1, 0], [0, 1]], np.float32)
    voted = benchmark("whisper_layers").voted
    assert voted(known, labels, asked, 1).tolist() == ["a", "c"]
    assert voted(known, labels, asked, 2).tolist() == ["a", "c"]
    assert voted(known, labels, asked, 3).tolist() == ["b", "c"]


def test_each_group_is_asked_about_with_the_others_known(benchmark: Any) -> None:
    """Speakers a and b say two words alike, and c the other way round."""
    vectors = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1], [0.1, 0.9], [0.9, 0.1]], np.float32)
    labels, groups = np.array(["yes", "no"] * 3), np.array(list("aabbcc"))
    accuracies = benchmark("whisper_layers").accuracies
    assert accuracies(vectors[:4], labels[:4], groups[:4], "free_spoken_digit")["nearest_1_%"] == 100
    assert accuracies(vectors, labels, groups, "free_spoken_digit")["nearest_1_%"] < 100
