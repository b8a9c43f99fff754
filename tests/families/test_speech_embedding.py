"""Google's speech embedding against a statement in torch; its real weights against openwakeword's graphs."""

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
from omnivec.families import speech_embedding
from omnivec.models import registry
from omnivec.testing import check_close, check_family, check_rejected
from omnivec.types import Audio
from onnx_files import field, stored
from sound_models import SoundModel, read_sound_model
from sounds import noise, speechlike, tone

CONFIG = {"model_type": "speech_embedding"}
WIDTHS = (12, 12, 12, 20, 20, 20, 20, 24, 24, 24, 24, 32, 32, 32, 32, 32, 32, 32, 32, 96)
POOLS = {2: (2, 2), 6: (1, 2), 10: (2, 2), 14: (1, 2), 18: (2, 2)}


class Network(nn.Module):
    """The published graph, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_0 = nn.Conv2d(1, WIDTHS[0], 3, bias=False)
        self.batch_normalization = nn.BatchNorm2d(WIDTHS[0], eps=1e-3)
        for i in range(1, 20):
            kernel = (1, 3) if i % 2 and i < 19 else (3, 1)
            self.add_module(f"conv2d_{i}", nn.Conv2d(WIDTHS[i - 1], WIDTHS[i], kernel, bias=i < 19))

    def states(self, windows: torch.Tensor) -> list[torch.Tensor]:
        """windows (t, 76, 32) -> means (t, channels) over the map of each stage, then the vectors (t, 96)."""

        def act(x: torch.Tensor) -> torch.Tensor:
            return torch.clamp(nn.functional.leaky_relu(x, 0.2), min=-0.4)

        x = nn.functional.pad(windows[:, None], (1, 1, 0, 0))
        x = act(self.batch_normalization(torch.relu(self.conv2d_0(x))))
        found = [x.mean((2, 3))]
        for i in range(1, 19):
            x = nn.functional.pad(x, (1, 1, 0, 0)) if i % 2 else x
            x = act(getattr(self, f"conv2d_{i}")(x))
            if i in POOLS:
                x = nn.functional.max_pool2d(x, POOLS[i])
                found.append(x.mean((2, 3)))
        return [*found, self.conv2d_19(x)[:, :, 0, 0]]


def made(seed: int = 0) -> Network:
    model, generator = Network(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            noise_ = torch.randn(p.shape, generator=generator)
            p.copy_(noise_ * 2 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.3 * noise_)
        norm = model.batch_normalization
        norm.weight += 1
        norm.running_mean.copy_(0.3 * torch.rand(norm.running_mean.shape, generator=generator))
        norm.running_var.copy_(0.01 + 0.5 * torch.rand(norm.running_var.shape, generator=generator))
    return model.eval()


def expected(model: Network, windows: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        found = copy.deepcopy(model).double().states(torch.from_numpy(windows).double())
    return [each.float().numpy() for each in found]


def windows(*counts: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((count, 76, 32)).astype(np.float32) for count in counts]


@pytest.fixture(scope="module")
def network() -> Network:
    return made()


def state_of(network: Network) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if "num_batches" not in name}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_stage_equals_the_statement_in_torch(network: Network, engine: str) -> None:
    ours = read_sound_model(speech_embedding, CONFIG, state_of(network))
    for counts in ((1,), (4, 1, 7)):
        sounds = windows(*counts)
        got = ours.states(engine, sounds)
        for i, sound in enumerate(sounds):
            states = expected(network, sound)
            assert len(got) == len(states) + 1 == 8
            for j, state in enumerate([*states, states[-1]]):
                check_close(got[j][i, : len(sound)], state, f"{engine}, sound {i}, state {j}")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_vector_does_not_depend_on_its_batch(network: Network, engine: str) -> None:
    ours, sounds = read_sound_model(speech_embedding, CONFIG, state_of(network)), windows(2, 9, 1)
    whole = ours.vectors(engine, sounds)
    for i, sound in enumerate(sounds):
        check_close(ours.vectors(engine, [sound])[0], whole[i], f"sound {i} by itself")


def maximum(change: Callable[[Any, Any], Any]) -> Any:
    return with_operation(speech_embedding, "maximum", lambda right, x, y: change(x, y))


WRONG: dict[str, Any] = {
    "no bound at -0.4": maximum(lambda x, y: x if isinstance(y, float) else torch.maximum(x, y)),
    "a slope of 0.1": maximum(
        lambda x, y: x.clamp(min=y) if isinstance(y, float) else torch.maximum(x, y / 2)
    ),
    "an epsilon of 1e-5": with_operation(
        speech_embedding, "batch_norm", lambda right, x, p, eps, *rest: right(x, p, 1e-5, *rest)
    ),
    "no ReLU before the norm": with_operation(speech_embedding, "relu", lambda right, x: x),
    "means for maxima": with_operation(
        speech_embedding,
        "max_pool",
        lambda right, x, kernel, stride, pad: nn.functional.avg_pool2d(x, kernel),
    ),
    "bands without padding at the end": with_operation(
        speech_embedding,
        "conv",
        lambda right, x, p, stride, pad: (
            right(torch.roll(x, 1, 3), p, stride, pad) if pad == (0, 1) else right(x, p, stride, pad)
        ),
    ),
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(network: Network, variant: str) -> None:
    ours, sounds = read_sound_model(speech_embedding, CONFIG, state_of(network)), windows(3)
    right = expected(network, sounds[0])[-1]
    check_close(ours.states("torch", sounds)[-1][0], right, "the right one")
    check_rejected(ours.states("torch", sounds, WRONG[variant])[-1][0], right, variant)


def test_an_onnx_file_of_another_network_is_refused(tmp_path: Path) -> None:
    graph = field(7, field(5, stored("model/conv2d_3/Conv2D_bias_fused_bn", np.ones(4, np.float32))))
    (tmp_path / "embedding_model.onnx").write_bytes(graph)
    with pytest.raises(WeightsError, match="has 1 of 42 tensors and 0 norms: of another network"):
        speech_embedding.load_original(tmp_path, {})


def test_settings_of_a_processor_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="no such settings"):
        speech_embedding.sound(speech_embedding.Config(), {"sampling_rate": 8000})


# --- the real weights


@pytest.fixture(scope="module")
def real() -> tuple[SoundModel, Path]:
    folder = known_folder("speech-embedding")
    config = registry.config_of_files(folder)
    assert registry.family_of_config(config, folder).name == "speech_embedding"
    return read_sound_model(speech_embedding, config, folder), folder


def compiled(path: Path) -> Any:
    graph = openvino.Core().read_model(path)
    return openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


SOUNDS = (speechlike(2.3), noise(0.31), tone(440, 0.05), 1e-3 * speechlike(1.0))


def test_the_front_end_is_openwakewords(real: tuple[SoundModel, Path]) -> None:
    """Its melspectrogram.onnx on 16-bit values, then x / 10 + 2 and windows of 76 frames every 8."""
    ours, folder = real
    spectrogram = compiled(folder / "melspectrogram.onnx")
    features = ours.processing.features
    for samples in SOUNDS:
        padded = np.pad(samples, 8000)
        frames = spectrogram(padded[None] * np.float32(32768))[0][0, 0] / 10 + 2
        cut = [frames[i : i + 76] for i in range(0, len(frames) - 75, 8)]
        rows = features(samples)
        assert len(rows) == features.count(len(samples)) == len(cut)
        np.testing.assert_allclose(rows, np.stack(cut), atol=2e-4)
    assert features.shortest == 1 and features.count(1) == 3 and features(SOUNDS[0][:0]).shape == (0, 76, 32)


def test_without_margins_short_sounds_are_refused() -> None:
    processing = speech_embedding.sound(speech_embedding.Config(margin=0.0), {})
    assert processing.shortest == 75 * 160 + 512 and processing.short == "refuse"
    assert processing.features.count(processing.shortest) == 1
    assert processing.features.count(processing.shortest - 1) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_real_weights_equal_openwakewords_own_graph(real: tuple[SoundModel, Path], engine: str) -> None:
    ours, folder = real
    reference = compiled(folder / "embedding_model.onnx")
    rows = [ours.processing.rows_of(samples) for samples in SOUNDS]
    got = ours.states(engine, rows)[-1]
    for i, row in enumerate(rows):
        check_close(got[i, : len(row)], reference(row[..., None])[0].reshape(len(row), 96), f"sound {i}")


def test_the_contract_of_families() -> None:
    sounds = [Audio(samples, 16_000) for samples in SOUNDS]
    check_family(known_folder("speech-embedding"), sounds)
