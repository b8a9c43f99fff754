"""The real all-MiniLM-L6-v2: published score, known components, both precisions, both engines."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import omnivec
from omnivec.models import registry
from omnivec.testing import check_close, check_family, open_model


def test_known_components(minilm: Path) -> None:
    facts = registry.known()["all-MiniLM-L6-v2"]
    model = omnivec.load("all-MiniLM-L6-v2", precision="float32")
    vector = model.encode(facts["example"])
    np.testing.assert_allclose(vector[:5], facts["components"], atol=2e-6)
    assert (model.dim, model.max_length, model.metric) == (facts["dim"], facts["length"], "cosine")
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_vectors_equal_sentence_transformers(minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["A short text.", "Zürich, 東京 and naïve café!", "word " * 400, "x"]
    reference = SentenceTransformer(str(minilm), device="cpu")
    reference.max_seq_length = 256
    check_close(open_model(minilm).encode(texts), reference.encode(texts), "float32")
    half = open_model(minilm, precision="bfloat16").encode(texts)
    assert (half * reference.encode(texts)).sum(1).min() >= 0.9995


def test_contract(minilm: Path) -> None:
    check_family(minilm)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stsbenchmark_reaches_the_published_score(minilm: Path, data_folder: Path, precision: str) -> None:
    with (data_folder / "stsbenchmark" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as lines:
        left, right, scores = zip(*csv.reader(lines), strict=True)
    assert len(scores) == 1379
    vectors = open_model(minilm, precision=precision).encode([*left, *right])
    cosine = (vectors[: len(left)] * vectors[len(left) :]).sum(1)
    spearman = 100 * spearmanr(cosine, [float(score) for score in scores]).statistic
    assert spearman == pytest.approx(82.0, abs=0.1)
