"""The classes of a published classifier."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from omnivec.errors import UsageError
from omnivec.vectors.class_scores import LinearClassifier

NAMES = ("rain", "speech", "music")
WEIGHT = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], np.float32)
BIAS = np.array([0.5, 0.0, -0.5], np.float32)
VECTORS = np.array([[2.0, 0.0], [0.0, 3.0], [-90.0, -90.0]], np.float32)


@pytest.mark.parametrize("independent", [True, False])
def test_probabilities(independent: bool) -> None:
    classes = LinearClassifier(NAMES, WEIGHT, BIAS, independent)
    logits = VECTORS @ WEIGHT.T + BIAS
    expected = expit(logits) if independent else softmax(logits, axis=1)
    np.testing.assert_allclose(classes.probabilities(VECTORS), expected, rtol=1e-5, atol=1e-30)
    described = classes.describe(VECTORS, k=2)
    assert [[name for name, _ in row] for row in described] == [
        ["rain", "speech"],
        ["speech", "rain"],
        ["music", "rain"],
    ]
    assert described[0][0][1] == pytest.approx(expected[0, 0])
    assert [len(row) for row in classes.describe(VECTORS, k=99)] == [3, 3, 3]
    assert classes.describe(VECTORS[:0]) == []
    shares = np.sort(expected, axis=1)[:, ::-1]
    assert [len(row) for row in classes.describe(VECTORS, least=0.2)] == (shares >= 0.2).sum(1).tolist()


def test_what_cannot_be_described_is_refused() -> None:
    classes = LinearClassifier(NAMES, WEIGHT, BIAS)
    with pytest.raises(UsageError, match="vectors of 3 components, but the classifier was trained on 2"):
        classes.describe(np.ones((1, 3), np.float32))
    with pytest.raises(UsageError, match=r"vectors of shape \(2,\)"):
        classes.describe(VECTORS[0])
    with pytest.raises(UsageError, match="1 of 2 numbers are not finite"):
        classes.describe(np.array([[1.0, np.nan]]))
    with pytest.raises(UsageError, match="least"):
        classes.describe(VECTORS, least=1.5)
    with pytest.raises(UsageError, match="k"):
        classes.describe(VECTORS, k=0)
