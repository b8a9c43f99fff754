"""Silero VAD against a statement of the network in torch; its real weights against the package's own ONNX graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import nn

from encoders import ENGINES, with_operation
from known_models import known_folder
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families import silero_vad
from omnivec.models import registry
from omnivec.testing import check_close, check_family, check_rejected
from omnivec.types import Audio
from onnx_files import field, stored
from sound_models import SoundModel, read_sound_model
from sounds import noise, speechlike, tone

CONFIG = {"model_type": "silero_vad"}


class Network(nn.Module):
    """The network in the names of the published file."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, 128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, 1, 1)
        self.conv2 = nn.Conv1d(128, 64, 3, 2, 1)
        self.conv3 = nn.Conv1d(64, 64, 3, 2, 1)
        self.conv4 = nn.Conv1d(64, 128, 3, 1, 1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def states(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """frames (t, 576) -> features (t, 128), states (t, 128), probabilities (t,)."""
        x = self.stft_conv(nn.functional.pad(frames[:, None], (0, 64), mode="reflect"))
        x = torch.sqrt(x[:, :129] ** 2 + x[:, 129:] ** 2)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = torch.relu(conv(x))
        features, states, state = x.squeeze(2), [], None
        for row in features:
            state = self.lstm_cell(row[None], state)
            states.append(torch.relu(state[0][0]))
        stacked = torch.stack(states)
        return features, stacked, torch.sigmoid(self.final_conv(stacked[:, :, None]))[:, 0, 0]


def made(seed: int = 0) -> Network:
    model, generator = Network(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            noise_ = torch.randn(p.shape, generator=generator)
            p.copy_(noise_ * 2 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.3 * noise_)
        model.conv1.weight /= 4
    return model


def expected(model: Network, frames: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        found = copy.deepcopy(model).double().states(torch.from_numpy(frames).double())
    return [each.float().numpy() for each in found]


def frames(*counts: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((count, 576)).astype(np.float32) for count in counts]


@pytest.fixture(scope="module")
def network() -> Network:
    return made()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_state_equals_the_statement_in_torch(network: Network, engine: str) -> None:
    ours = read_sound_model(silero_vad, CONFIG, network.state_dict())
    for counts in ((1,), (7, 2, 12, 1)):
        sounds = frames(*counts)
        got = ours.states(engine, sounds)
        for i, sound in enumerate(sounds):
            features, states, shares = expected(network, sound)
            for mine, theirs in zip(got, (features, states, states), strict=True):
                check_close(mine[i, : len(sound)], theirs, f"{engine}, sound {i}")
            classes = silero_vad.labels(CONFIG, ours.tensors)
            assert classes is not None
            check_close(classes.probabilities(got[-1][i, : len(sound)])[:, 0], shares, "probabilities")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_vector_does_not_depend_on_its_batch(network: Network, engine: str) -> None:
    ours, sounds = read_sound_model(silero_vad, CONFIG, network.state_dict()), frames(3, 40, 1, 11)
    whole = ours.vectors(engine, sounds)
    for i, sound in enumerate(sounds):
        check_close(ours.vectors(engine, [sound])[0], whole[i], f"sound {i} by itself")


def without_context(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    batch.sound = torch.cat([torch.zeros_like(batch.sound[..., :64]), batch.sound[..., 64:]], -1)
    return silero_vad.forward(ops, p, config, batch)


def power(right: Callable[..., Any], x: Any) -> Any:
    return x


WRONG: dict[str, Any] = {
    "zeros behind a frame": with_operation(
        silero_vad, "pad", lambda right, x, before, after, mode: right(x, before, after, "zeros")
    ),
    "no samples before a frame": without_context,
    "power for magnitude": with_operation(silero_vad, "sqrt", power),
    "real and imaginary parts one after the other": with_operation(
        silero_vad,
        "conv",
        lambda right, x, p, stride, padding: (
            right(x, p, stride, padding).reshape(len(x), 129, 2, -1).transpose(1, 2).reshape(len(x), 258, -1)
            if padding == (0,)
            else right(x, p, stride, padding)
        ),
    ),
    "a new state for each frame": with_operation(
        silero_vad,
        "lstm",
        lambda right, x, p, lengths: (
            right(x.reshape(-1, 1, 128), p, torch.ones(len(x) * x.shape[1]))[0].reshape(x.shape),
            None,
        ),
    ),
    "from the end to the beginning": with_operation(
        silero_vad, "lstm", lambda right, x, p, lengths: (right(x.flip(1), p, lengths)[0].flip(1), None)
    ),
    "states without ReLU": with_operation(
        silero_vad, "relu", lambda right, x: right(x) if x.shape[-1] != 128 else x
    ),
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(network: Network, variant: str) -> None:
    ours, sounds = read_sound_model(silero_vad, CONFIG, network.state_dict()), frames(6)
    right = expected(network, sounds[0])[1]
    check_close(ours.states("torch", sounds)[-1][0], right, "the right one")
    check_rejected(ours.states("torch", sounds, WRONG[variant])[-1][0], right, variant)


def test_frames_have_the_end_of_those_before_them() -> None:
    front = silero_vad.FramesWithContext()
    for count in (0, 1, 511, 512, 513, 5000):
        samples = np.arange(1, count + 1, dtype=np.float32)
        rows = front(samples)
        assert rows.shape == (front.count(count), 576) and rows.dtype == np.float32
        padded = np.concatenate([np.zeros(64), samples, np.zeros(len(rows) * 512 - count)])
        for i, row in enumerate(rows):
            np.testing.assert_array_equal(row, padded[512 * i : 512 * i + 576])


def test_settings_of_a_processor_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="no such settings"):
        silero_vad.sound(silero_vad.Config(), {"sampling_rate": 8000})


def test_an_onnx_file_of_another_network_is_refused(tmp_path: Path) -> None:
    graph = field(7, field(5, stored("output.weight", np.ones((1, 4, 1), np.float32))))
    (tmp_path / "silero_vad_16k_sequence.onnx").write_bytes(graph)
    with pytest.raises(WeightsError, match="has 1 of 11 tensors and 0 LSTM: of another network"):
        silero_vad.load_original(tmp_path, {})


# --- the real weights


@pytest.fixture(scope="module")
def real() -> tuple[SoundModel, Path]:
    folder = known_folder("silero-vad")
    config = registry.config_of_files(folder)
    assert registry.family_of_config(config, folder).name == "silero_vad"
    return read_sound_model(silero_vad, config, folder), folder


@pytest.mark.parametrize("engine", ENGINES)
def test_real_weights_equal_the_packages_own_graph(real: tuple[SoundModel, Path], engine: str) -> None:
    ours, folder = real
    graph = openvino.Core().read_model(folder / "silero_vad_16k_sequence.onnx")
    reference = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    classes = silero_vad.labels(CONFIG, ours.tensors)
    assert classes is not None
    shares = []
    for samples in (speechlike(6.0), noise(2.0), tone(440, 1.0), 0.01 * speechlike(1.0, seed=3)):
        rows = ours.processing.rows_of(samples)
        zeros = np.zeros((1, 1, 128), np.float32)
        theirs = reference({"input": rows, "h": zeros, "c": zeros})["speech_probs"]
        mine = classes.probabilities(ours.states(engine, [rows])[-1][0])[:, 0]
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
        shares.append(float(mine.mean()))
    assert shares[0] > 0.5 and max(shares[1:3]) < 0.1


def test_the_contract_of_families() -> None:
    sounds = [
        Audio(samples, 16_000) for samples in (tone(440, 1.2), noise(0.3), speechlike(2.0), noise(12.0))
    ]
    check_family(known_folder("silero-vad"), sounds)
