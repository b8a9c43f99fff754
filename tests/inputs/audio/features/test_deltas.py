"""Deltas against their libraries, and what is true of any derivative."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec.errors import UsageError
from omnivec.inputs.audio.features import regression_deltas, savitzky_golay_deltas


def rows(count: int = 40, width: int = 13):
    return np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_regression_is_that_of_python_speech_features(reach):
    psf = pytest.importorskip("python_speech_features")
    assert np.abs(regression_deltas(rows(), reach) - psf.delta(rows(), reach)).max() < 1e-5


@pytest.mark.parametrize("width, order", [(9, 1), (5, 1), (9, 2), (7, 3)])
def test_savitzky_golay_is_that_of_librosa(width, order):
    librosa = pytest.importorskip("librosa")
    reference = librosa.feature.delta(rows().T, width=width, order=order).T
    assert np.abs(savitzky_golay_deltas(rows(), width, order) - reference).max() < 1e-5


def test_the_two_differ_at_the_ends_only():
    ours, others = savitzky_golay_deltas(rows(), 9), regression_deltas(rows(), 4)
    assert np.abs(ours - others)[4:-4].max() < 1e-6
    assert np.abs(ours - others)[:4].max() > 0.05


def test_the_slope_of_a_line():
    line = np.arange(20, dtype=np.float32)[:, None] * np.array([2, -3], np.float32)
    assert np.allclose(savitzky_golay_deltas(line), [2, -3], atol=1e-5)
    assert np.allclose(regression_deltas(line)[2:-2], [2, -3], atol=1e-5)


def test_few_rows():
    assert regression_deltas(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert np.array_equal(regression_deltas(np.ones((1, 3), np.float32)), np.zeros((1, 3)))
    with pytest.raises(UsageError, match="8 rows are fewer than the width of 9"):
        savitzky_golay_deltas(rows(8))
    with pytest.raises(UsageError, match="odd width"):
        savitzky_golay_deltas(rows(), 4)
    with pytest.raises(UsageError, match="at least 1"):
        regression_deltas(rows(), 0)
