"""What users of speech and sound libraries complain about, each asked of omnivec from outside."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

import omnivec
from omnivec import Audio, Collection, ItemErrors, UsageError
from omnivec.models import registry
from sounds import noise, speechlike, tone
from speech import published

RATE = 16_000


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> omnivec.Embedder:
    """A small wav2vec 2.0 whose first layer has a group norm, the kind that padding changes in transformers."""
    folder = tmp_path_factory.mktemp("wav2vec2")
    published(folder, "wav2vec2")
    return omnivec.load(folder, precision="float32")


def test_a_wrong_rate_is_not_taken_for_another() -> None:
    """RTVC 526: 8 kHz read as 16 kHz gives a wrong voice, without an error."""
    model = omnivec.load("mfcc")
    with pytest.raises(UsageError, match="contains no items"):
        model.encode(speechlike(1.0))
    low = Audio(speechlike(2.0, 8_000, seed=3), 8_000)
    right = model.encode(low)
    wrong = model.encode(Audio(low.samples, RATE))
    assert np.linalg.norm(right - wrong) > 20


def test_short_clips_have_a_reason_and_no_nan(speech: omnivec.Embedder) -> None:
    """speechbrain 2284, pyannote 824: a short clip raises from within a convolution, or gives NaN."""
    encoded = speech.run(
        [Audio(noise(0.02), RATE), Audio(noise(0.1), RATE), Audio(np.zeros(1, np.float32), RATE)]
    )
    assert sorted(encoded.failures) == [0, 2] and np.isfinite(encoded.vectors).all()
    assert "320 samples at 16,000 Hz), but the model needs 0.025 s (400 samples)" in encoded.failures[0]
    with pytest.raises(ItemErrors, match="the model needs"):
        speech.encode([Audio(noise(0.02), RATE)])


def test_a_vector_is_the_same_in_every_batch(speech: omnivec.Embedder) -> None:
    """transformers 21534, fairseq 3227: padding changes the vectors of models with a group norm."""
    sounds = [Audio(speechlike(seconds, seed=i), RATE) for i, seconds in enumerate((0.3, 3.1, 1.0, 2.2))]
    together = speech.encode(sounds)
    alone = np.stack([speech.encode(sound) for sound in sounds])
    assert np.abs(together - alone).max() <= 1e-5 * np.abs(alone).max()


def test_a_vector_is_the_same_in_every_run(tmp_path: Path) -> None:
    """LAION-AI/CLAP 166: of a long clip a random part is embedded; two runs have a cosine down to 0.3."""
    long = Audio(np.concatenate([tone(200, 12.0), noise(12.0)]), RATE)
    first, second = (omnivec.load("mfcc").encode(long, chunk="pool") for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_no_torchaudio_is_needed(tmp_path: Path) -> None:
    """speechbrain 2977, whisperX 1302: torchaudio needs backends, and breaks with each version of torch."""
    soundfile.write(tmp_path / "a.wav", tone(440, 1.0), RATE)
    program = (
        "import sys, omnivec, pathlib; v = omnivec.load('mfcc').encode(pathlib.Path(sys.argv[1]));"
        "heavy = {'torch', 'torchaudio', 'librosa', 'transformers'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy or v.shape != (120,) else 0)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.wav"], check=True)


def test_a_format_that_needs_an_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """librosa 1075, soundfile 389: NoBackendError for M4A, with no way out."""
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(200))
    monkeypatch.setitem(sys.modules, "av", None)
    [why] = omnivec.load("mfcc").run([tmp_path / "a.m4a"]).failures.values()
    assert "pip install 'omnivec[video]'" in why and "\n" not in why


def test_hours_of_sound_take_the_memory_of_minutes(tmp_path: Path) -> None:
    """pyannote 1819, whisperX 951: 4 hours take 12 to 18 GB."""
    minutes, rate = 120, 8_000
    file = tmp_path / "long.wav"
    block = (0.3 * tone(440, 60.0, rate)).astype(np.float32)
    with soundfile.SoundFile(file, "w", rate, 1) as out:
        for _ in range(minutes):
            out.write(block)
    size = 4 * minutes * len(block)  # as float32
    with Collection(tmp_path / "talks.omni", models={"audio": "mfcc"}) as notes:
        tracemalloc.start()
        try:
            assert notes.sync(file).passages == minutes * 6
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < size / 3, f"{peak:,} of {size:,} bytes"


def test_weights_are_pinned_by_their_hashes() -> None:
    """openl3 40, PANNs 4: a model that changes or disappears at its address breaks every installation."""
    of_sounds = {name: facts for name, facts in registry.known().items() if facts["family"] in SOUND_FAMILIES}
    assert {"yamnet", "dvector", "whisper-base", "silero-vad", "speech-embedding"} <= set(of_sounds)
    for name, facts in of_sounds.items():
        assert facts["sha256"], name
        assert all(
            "==" in part for source in facts["sources"] for part in source.split(" + ") if "pypi:" in part
        )
    assert omnivec.load("mfcc").folder.is_relative_to(Path(omnivec.__file__).parent)


SOUND_FAMILIES = ("yamnet", "whisper", "dvector", "silero_vad", "speech_embedding")
