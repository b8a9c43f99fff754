"""d-vectors against torch's LSTM and the published rules, from a checkpoint as Resemblyzer publishes it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import omnivec
from encoders import ENGINES, changed
from known_models import known_folder
from omnivec.families import dvector
from omnivec.inputs.audio.canary import sounded
from omnivec.testing import check_close, check_family, check_rejected
from omnivec.vectors.verification import equal_error_rate
from pictures import with_operation
from sound_families import check_against, loaded, sounds, voices
from sound_models import SoundModel
from sounds import speechlike

ROWS = (160, 40)


class Reference(torch.nn.Module):
    """The network as its paper tells it, with the published names."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)

    def forward(self, windows: torch.Tensor) -> Sequence[torch.Tensor]:
        """Windows (t, 160, 40) of one sound -> vectors of windows (t, 256), and that of the sound (1, 256)."""
        state = self.lstm(windows)[0][:, -1]
        rectified = self.linear(state).clamp(min=0)
        partial = rectified / rectified.norm(dim=1, keepdim=True)
        mean = partial.mean(0)
        return [partial, (mean / mean.norm())[None]]


def published(folder: Path, seed: int = 0) -> Reference:
    """A random checkpoint as Resemblyzer's is stored: in the old format, beside an optimizer's state."""
    torch.manual_seed(seed)
    network = Reference()
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(torch.randn(p.shape) * (0.3 if "bias" in name else 2 / p.shape[-1] ** 0.5))
    state = {"similarity_weight": torch.ones(1), "similarity_bias": -torch.ones(1), **network.state_dict()}
    checkpoint = {"step": 7, "model_state": state, "optimizer_state": {"state": {0: torch.ones(3)}}}
    torch.save(checkpoint, folder / "pretrained.pt", _use_new_zipfile_serialization=False)
    return network.eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> tuple[SoundModel, Reference]:
    folder = tmp_path_factory.mktemp("dvector")
    network = published(folder)
    return loaded(dvector, folder), network


def test_windows_and_vector_equal_torch(made: tuple[SoundModel, Reference]) -> None:
    ours, network = made
    assert not [name for name in ours.tensors if name.startswith("similarity")]
    check_against(ours, network.double(), sounds((1, 4, 2), *ROWS))


def not_normalised(right: Any, x: Any, *how: Any) -> Any:
    return x if x.ndim == 2 else right(x, *how)


VARIANTS = {
    "no rectifier": with_operation(dvector, "relu", lambda right, x: x),
    "the mean over the states": with_operation(
        dvector, "lstm", lambda right, *given: (right(*given)[0], right(*given)[0].mean(1))
    ),
    "two layers": changed(dvector, layers=2),
    "windows that are not normalised": with_operation(dvector, "normalize", not_normalised),
    "the batch's padding averaged too": with_operation(
        dvector, "clip", lambda right, x, *limits: right(x, *limits) * 0 + 1
    ),
    "time backwards": with_operation(
        dvector, "lstm", lambda right, x, p, lengths: right(x.flip(1), p, lengths)
    ),
    "log mel": lambda ops, p, config, batch: dvector.forward(
        ops, p, config, type(batch)(sound=(batch.sound.abs() + 1e-3).log(), lengths=batch.lengths)
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(made: tuple[SoundModel, Reference], variant: str) -> None:
    ours, network = made
    listed = sounds((1, 3), *ROWS, seed=1)
    with torch.no_grad():
        expected = [network.double()(torch.from_numpy(s).double())[-1].numpy() for s in listed]
    check_close(ours.states("torch", listed)[-1], np.stack(expected), "the right one")
    check_rejected(ours.states("torch", listed, VARIANTS[variant])[-1], np.stack(expected), variant)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(made: tuple[SoundModel, Reference], engine: str) -> None:
    listed = sounds((3, 1, 2), *ROWS, seed=2)
    exact = made[0].vectors(engine, listed)
    half = made[0].vectors(engine, listed, precision="bfloat16")
    assert (exact * half).sum(1).min() > 0.999


def test_what_it_reads_of_a_sound() -> None:
    reads = dvector.sound(dvector.Config(), {})
    assert (reads.rate, reads.features.rows) == (16_000, ROWS)
    # One window up to 1.6 s and what covers three quarters of a second one.
    counts = {1: 1, 16_000: 1, 25_600: 1, 40_000: 2, 160_000: 12}
    assert {n: reads.features.count(n) for n in counts} == counts


def test_it_is_a_family(tmp_path: Path) -> None:
    published(tmp_path)
    check_family(tmp_path, voices(0.4, 3.1, 1.9))


# --- the real weights


@pytest.fixture(scope="module")
def real() -> Path:
    return known_folder("dvector")


def test_the_known_model_is_what_its_facts_say(real: Path) -> None:
    facts = dvector.KNOWN["dvector"]
    model = omnivec.load(real, precision="float32")
    vector = model.encode(sounded("vowel"))
    np.testing.assert_allclose(vector[:5], np.array(facts["components"]), atol=2e-5)
    assert (model.dim, model.max_length) == (facts["dim"], facts["length"])


def test_real_weights_equal_torch(real: Path) -> None:
    network = Reference()
    state = torch.load(real / "pretrained.pt", map_location="cpu", weights_only=True)["model_state"]
    network.load_state_dict({name: p for name, p in state.items() if "similarity" not in name})
    ours = loaded(dvector, real)
    spoken = [
        ours.processing.rows_of(speechlike(seconds, seed=i)) for i, seconds in enumerate((3.0, 0.5, 5.0))
    ]
    check_against(ours, network.double(), spoken)


def test_voices_of_librispeech_are_told_apart(real: Path, data_folder: Path) -> None:
    """All 4,950 pairs of 100 utterances of 10 speakers: Resemblyzer has 0.33 %, a step of 0.22 for each target."""
    with zipfile.ZipFile(data_folder / "librispeech_other_sub" / "flac.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".flac"))
        vectors = omnivec.load(real, precision="float32").encode([archive.read(name) for name in names])
    speakers = np.array([Path(name).name.partition("-")[0] for name in names])
    one, other = np.triu_indices(len(names), 1)
    scores = np.sum(vectors[one] * vectors[other], axis=1)
    rate = equal_error_rate(speakers[one] == speakers[other], scores)
    assert (rate.targets, rate.impostors) == (450, 4500)
    assert rate.value <= 0.005
