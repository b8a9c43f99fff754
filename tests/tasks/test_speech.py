"""Speech in recordings, by Silero's real weights."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import soundfile

import omnivec
from known_models import known_folder
from omnivec.errors import ItemError, UsageError
from omnivec.tasks import speech
from omnivec.tasks.speech import SpeechFinder, speech_probabilities, speech_spans
from omnivec.tasks.voice_reading import speech_detector
from omnivec.types import Audio
from sounds import noise, speechlike

RATE = speech.RATE


@pytest.fixture(scope="module")
def model() -> omnivec.Embedder:
    return omnivec.load(known_folder("silero-vad"), precision="float32")


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Noise of 3 s, speech of 4.01 s, noise of 3 s."""
    quiet = noise(3.0, amplitude=1e-3)
    return np.concatenate([quiet, speechlike(4.01), quiet])


def reference(samples: np.ndarray) -> np.ndarray:
    """The package's own graph in one call: the probabilities of all frames."""
    graph = openvino.Core().read_model(known_folder("silero-vad") / "silero_vad_16k_sequence.onnx")
    run = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    count = -(-len(samples) // 512)
    padded = np.zeros(64 + count * 512, np.float32)
    padded[64 : 64 + len(samples)] = samples
    rows = np.stack([padded[512 * i : 512 * i + 576] for i in range(count)])
    zeros = np.zeros((1, 1, 128), np.float32)
    return run({"input": rows, "h": zeros, "c": zeros})["speech_probs"]


@pytest.mark.parametrize("block", [1, 7, 6000])
def test_probabilities_are_the_packages_whatever_the_blocks(
    model: omnivec.Embedder, sound: np.ndarray, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "_BLOCK", block)
    found = speech_probabilities(Audio(sound, RATE), model)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(sound), atol=1e-5)


def test_the_engine_torch_gives_the_same(model: omnivec.Embedder, sound: np.ndarray) -> None:
    torch = omnivec.load(model.folder, engine="torch", precision="float32")
    expected = speech_probabilities(Audio(sound, RATE), model)
    np.testing.assert_allclose(speech_probabilities(Audio(sound, RATE), torch), expected, atol=1e-5)


def test_spans_of_speech_between_noise(model: omnivec.Embedder, sound: np.ndarray, tmp_path: Path) -> None:
    spans = speech_spans(Audio(sound, RATE), model, min_silence=1.0)
    assert len(spans) == 1
    assert spans[0] == pytest.approx((3.0, 7.0), abs=0.5)
    soundfile.write(tmp_path / "sound.wav", sound, RATE, subtype="FLOAT")
    for same in (tmp_path / "sound.wav", (tmp_path / "sound.wav").read_bytes()):
        assert speech_spans(same, model, min_silence=1.0) == spans
    finder = SpeechFinder(model, min_silence=1.0)
    assert (
        finder(sound).tolist() == [list(span) for span in spans] == finder.spans(Audio(sound, RATE)).tolist()
    )
    assert speech_spans(Audio(sound[: 3 * RATE], RATE), model) == []
    assert finder(sound[:0]).shape == (0, 2)
    assert speech_spans(Audio(sound, RATE), model, min_speech=60.0) == []
    wide = speech_spans(Audio(sound, RATE), model, min_silence=1.0, pad=0.5)
    assert wide[0] == pytest.approx((spans[0][0] - 0.47, spans[0][1] + 0.47))


def test_a_sound_of_another_rate_is_converted(model: omnivec.Embedder) -> None:
    one, other = (speech_spans(Audio(speechlike(4.0, rate), rate), model) for rate in (16_000, 48_000))
    assert sum(end - start for start, end in one) > 2
    assert sum(end - start for start, end in other) > 2


def test_the_identity_has_the_weights_and_the_settings(model: omnivec.Embedder) -> None:
    finder, other = SpeechFinder(model), SpeechFinder(model, threshold=0.6)
    assert finder.identity["weights"] == model.model.hashes and finder.identity["threshold"] == 0.5
    assert {key for key in finder.identity if finder.identity[key] != other.identity[key]} == {"threshold"}


def test_what_cannot_be_read_or_set_is_refused(model: omnivec.Embedder, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_bytes(b"not a sound")
    with pytest.raises(ItemError, match=r"text\.wav"):
        speech_spans(tmp_path / "text.wav", model)
    with pytest.raises(UsageError, match="threshold"):
        SpeechFinder(model, threshold=2.0)
    with pytest.raises(UsageError, match="min_speech"):
        speech_spans(Audio(noise(1.0), RATE), model, min_speech=-1.0)
    with pytest.raises(UsageError, match="is not an embedder"):
        name: Any = "silero-vad"
        speech_spans(Audio(noise(1.0), RATE), name)
    with pytest.raises(UsageError, match=r"of the family mfcc, which gives no probabilities of speech"):
        SpeechFinder(omnivec.load("mfcc"))


def test_voice_tasks_leave_out_silence_by_it(model: omnivec.Embedder, sound: np.ndarray) -> None:
    found = speech_detector()(sound)
    assert found[0, 0] > 2.5 and found[-1, 1] < 7.5


def test_recordings_of_speech_and_of_other_sounds(model: omnivec.Embedder, data_folder: Path) -> None:
    """Of read speech, most is found, and next to nothing in rain, waves and helicopters."""
    finder = SpeechFinder(model)

    def share(archive: str, wanted: str, count: int) -> float:
        path = data_folder / archive
        if not path.is_file():
            pytest.skip(f"{archive} is not in the data folder")
        with zipfile.ZipFile(path) as content:
            names = sorted(name for name in content.namelist() if wanted in name)
            found, whole = 0.0, 0.0
            for name in names[:: max(1, len(names) // count)][:count]:
                spans = finder.spans(content.read(name))
                found += float((spans[:, 1] - spans[:, 0]).sum())
                whole += soundfile.info(io.BytesIO(content.read(name))).duration
        return found / whole

    assert share("librispeech_other_sub/flac.zip", ".flac", 10) > 0.6
    assert max(share("esc10/audio.zip", kind, 5) for kind in ("Rain", "Sea waves", "Helicopter")) < 0.02
