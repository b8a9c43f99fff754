"""Excerpts that a page plays: the part that was asked for, in a format of browsers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

import omnivec
from omnivec.inputs.audio.excerpt import LONGEST, excerpt
from sounds import tone


def pitch(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency in Hz."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(spectrum.argmax() * rate / len(middle))


def test_an_excerpt_is_the_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tones.wav"
    soundfile.write(file, np.concatenate([tone(300, 2.0), tone(900, 3.0), tone(500, 60.0)]), 16_000)
    media, content = excerpt(file, 2.0, 5.0)
    assert media == "audio/mpeg"
    samples, rate = soundfile.read(io.BytesIO(content))
    assert len(samples) / rate == pytest.approx(3.0, abs=0.1)
    assert pitch(samples, rate) == pytest.approx(900, abs=5)
    samples, rate = soundfile.read(io.BytesIO(excerpt(file, 6.0, float("inf"))[1]))
    assert len(samples) / rate == pytest.approx(LONGEST, abs=0.1)
    assert pitch(samples, rate) == pytest.approx(500, abs=5)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(omnivec.ItemError, match=r"gone\.wav"):
        excerpt(tmp_path / "gone.wav", 0, 1)
