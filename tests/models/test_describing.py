"""Classes of vectors, for models that were published with a classifier."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import omnivec
from known_models import known_folder
from omnivec.errors import UsageError
from omnivec.families import yamnet
from omnivec.inputs.audio.recording import described
from omnivec.testing import check_close
from omnivec.types import Audio
from sounds import noise, speechlike, tone


@pytest.fixture(scope="module")
def model() -> omnivec.Embedder:
    return omnivec.load(known_folder("yamnet"), precision="float32")


def test_classes_of_sounds(model: omnivec.Embedder) -> None:
    vectors = model.encode([Audio(tone(1000, 2.0), 16_000), Audio(noise(2.0), 16_000)])
    assert len(model.classes) == 521 and model.classes[132] == "Music"
    found = model.describe(vectors, k=3)
    assert [len(names) for names in found] == [3, 3]
    assert found[0][0][0] == "Beep, bleep" and found[0][0][1] > 0.8
    assert {"White noise", "Waterfall"} <= {name for name, _ in found[1]}
    assert all(a[1] >= b[1] for names in found for a, b in pairwise(names))
    assert model.describe(vectors[0], k=3) == found[:1]
    assert all(share >= 0.5 for names in model.describe(vectors, least=0.5) for _, share in names)
    assert described(model, vectors)[0].startswith("Beep, bleep")


def test_classes_are_words_that_a_collection_finds(model: omnivec.Embedder, tmp_path: Path) -> None:
    for name, samples in {"beep": tone(1000, 2.0), "noise": noise(2.0), "voice": speechlike(3.0)}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
    with omnivec.Collection(tmp_path / "sounds.omni", models={"audio": model}) as sounds:
        sounds.add(sorted(tmp_path.glob("*.wav")))
        for word, file in {"waterfall": "noise.wav", "beep": "beep.wav", "speech": "voice.wav"}.items():
            assert [Path(hit.document).name for hit in sounds.search(word, k=1, mode="text")] == [file]


def test_a_saved_model_keeps_its_classes(model: omnivec.Embedder, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    again = omnivec.load(tmp_path / "saved", precision="float32")
    assert again.identity == model.identity and again.classes == model.classes
    sound = Audio(tone(440, 1.5), 16_000)
    check_close(again.encode(sound), model.encode(sound), "saved")
    assert again.describe(again.encode(sound))[0][0][0] == model.describe(model.encode(sound))[0][0][0]


def test_the_known_example(model: omnivec.Embedder) -> None:
    from omnivec.inputs.audio.canary import sounded

    facts: Any = yamnet.KNOWN["yamnet"]
    vector = model.encode(sounded(facts["example"].removeprefix("sound:")))
    np.testing.assert_allclose(vector[:5], facts["components"], atol=1e-5)
    assert (model.dim, model.max_length) == (facts["dim"], facts["length"])


def test_what_cannot_be_described_is_refused(model: omnivec.Embedder) -> None:
    vector = model.encode(Audio(tone(440, 1.0), 16_000))
    with pytest.raises(UsageError, match="vectors of 512 components, but the classifier was trained on 1024"):
        model.describe(vector[:512])
    with pytest.raises(UsageError, match="vectors is a str"):
        model.describe("a sound")
    mfcc = omnivec.load("mfcc")
    assert mfcc.classes == () and described(mfcc, np.ones((2, 120), np.float32)) == ["", ""]
    with pytest.raises(UsageError, match="mfcc was published without a classifier"):
        mfcc.describe(np.ones((1, 120), np.float32))
