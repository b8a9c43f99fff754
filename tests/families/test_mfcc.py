"""The family `mfcc` against librosa: coefficients, deltas, statistics over time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

import omnivec
from encoders import ENGINES
from omnivec import Audio
from omnivec.inputs.audio.canary import sounded
from omnivec.models import registry
from omnivec.testing import check_close, check_embedder, check_modality, check_rejected
from sounds import noise, speechlike, tone

RATE = 22_050
SOUNDS = [
    Audio(speechlike(2.0, RATE, seed=1), RATE),
    Audio(tone(440, 0.7, RATE), RATE),
    Audio(noise(3.0, RATE), RATE),
    Audio(speechlike(0.3, RATE, seed=2), RATE),
]


def coefficients(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return librosa.feature.mfcc(
        y=samples, sr=RATE, n_mfcc=20, n_fft=1024, win_length=551, hop_length=220, n_mels=64
    )


def regression(rows: NDArray[np.float32], edge: str = "edge") -> NDArray[np.float32]:
    """The formula of HTK, for coefficients (20, t)."""
    padded = np.pad(rows, ((0, 0), (4, 4)), edge)  # type: ignore[call-overload]
    t = rows.shape[1]
    total = sum(n * (padded[:, 4 + n : 4 + n + t] - padded[:, 4 - n : 4 - n + t]) for n in range(1, 5))
    return np.asarray(total / (2 * sum(n * n for n in range(1, 5))), np.float32)


def reference(
    samples: NDArray[np.float32],
    deltas: Callable[[NDArray[np.float32]], NDArray[np.float32]] = regression,
    ddof: int = 0,
    start: int = 0,
) -> NDArray[np.float32]:
    rows = coefficients(samples)
    rows = rows - start * rows.mean(1, keepdims=True)
    every = np.concatenate([rows, deltas(rows), deltas(deltas(rows))])
    return np.concatenate([every.mean(1), every.std(1, ddof=ddof)])


@pytest.mark.parametrize("engine", ENGINES)
def test_it_equals_librosas_coefficients(engine: str) -> None:
    model = omnivec.load("mfcc", engine=engine)
    assert (model.dim, model.metric, model.modalities) == (120, "euclidean", ("audio",))
    expected = np.stack([reference(sound.samples) for sound in SOUNDS])
    check_close(model.encode(SOUNDS), expected, engine)


def test_wrong_variants_are_rejected() -> None:
    model = omnivec.load("mfcc")
    ours = model.encode(SOUNDS)

    def stacked(make: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack([make(sound.samples) for sound in SOUNDS])

    wrong = {
        "deltas with zeros beyond the edges": stacked(
            lambda x: reference(x, lambda r: regression(r, "constant"))
        ),
        "deltas of librosa's edges": stacked(lambda x: reference(x, librosa.feature.delta)),
        "sample deviation": stacked(lambda x: reference(x, ddof=1)),
        "mean over time subtracted": stacked(lambda x: reference(x, start=1)),
        "samples in the range of int16": stacked(lambda x: reference(x * 32768)),
        "other half of the components": np.roll(ours, 60, axis=1),
    }
    for name, vectors in wrong.items():
        check_rejected(vectors, ours, name)


def test_the_facts_of_the_bundled_model() -> None:
    facts = registry.known()["mfcc"]
    name = facts["example"].removeprefix("sound:")
    np.testing.assert_allclose(omnivec.load("MFCC").encode(sounded(name))[:5], facts["components"], rtol=1e-4)
    assert omnivec.load("mfcc").card["licence"] == "Apache-2.0"
    with pytest.raises(omnivec.ModelNotFound, match="omnivec contains no model 'x'"):
        omnivec.load("bundled:x")


def test_the_contracts_hold() -> None:
    model = omnivec.load("mfcc")
    check_embedder(model, SOUNDS)
    check_modality(model, SOUNDS)


def test_the_settings_of_a_folder_are_used(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "mfcc", "coefficients": 13, "sampling_rate": 16000}'
    )
    model = omnivec.load(tmp_path)
    assert (model.dim, model.metric) == (78, "cosine")
    saved = omnivec.load(omnivec.load("mfcc").save(tmp_path / "saved"))
    np.testing.assert_array_equal(saved.encode(SOUNDS), omnivec.load("mfcc").encode(SOUNDS))
    with pytest.raises(omnivec.OmnivecError, match="coefficients"):
        (tmp_path / "config.json").write_text('{"model_type": "mfcc", "coefficients": 0}')
        omnivec.load(tmp_path)
