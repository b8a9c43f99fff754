"""Speaker ResNets against a plain statement in torch, from folders as WeSpeaker and pyannote publish them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from encoders import ENGINES, changed
from omnivec.errors import UnsupportedModel
from omnivec.families import resnet34
from omnivec.testing import check_close, check_family, check_rejected
from pictures import with_operation
from sound_families import check_against, discriminate, loaded, sounds, voices
from sound_models import SoundModel

WESPEAKER = """
dataset_args:
  fbank_args:
    dither: 1.0
    frame_length: 25
    frame_shift: 10
    num_mel_bins: 80
  num_frms: 200
model: {name}
model_args:
  embed_dim: 48
  feat_dim: 80
  pooling_func: TSTP
  two_emb_layer: false
projection_args:
  project_type: arc_margin
"""
PYANNOTE = """
model:
  _target_: pyannote.audio.models.embedding.WeSpeaker{name}
  sample_rate: 16000
  num_channels: 1
  num_mel_bins: 80
  frame_length: 25
  frame_shift: 10
  dither: 0.0
  window_type: hamming
  use_energy: false
"""
ROWS = (80,)


class Layer(torch.nn.Module):
    """Two or three convolutions, and the input added."""

    def __init__(self, before: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        sizes = [(before, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        sizes = sizes if bottleneck else [(before, width, 3, stride), (width, width, 3, 1)]
        self.count = len(sizes)
        for i, (a, b, kernel, step) in enumerate(sizes, 1):
            setattr(self, f"conv{i}", torch.nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", torch.nn.BatchNorm2d(b))
        self.shortcut = torch.nn.Sequential()
        if stride != 1 or before != out:
            projection = torch.nn.Conv2d(before, out, 1, stride, bias=False)
            self.shortcut = torch.nn.Sequential(projection, torch.nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y if i == 1 else F.relu(y)))
        return F.relu(y + self.shortcut(x))


class Reference(torch.nn.Module):
    """The network as WeSpeaker's class tells it, with the published names, half as wide; one sound at a time."""

    def __init__(self, depths: Sequence[int], bottleneck: bool, eps: float = 1e-7) -> None:
        super().__init__()
        self.eps, width = eps, 8
        self.conv1 = torch.nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        for i, depth in enumerate(depths):
            layers = []
            for j in range(depth):
                layers.append(Layer(width, 8 * 2**i, 2 if i and not j else 1, bottleneck))
                width = 8 * 2**i * (4 if bottleneck else 1)
            setattr(self, f"layer{i + 1}", torch.nn.Sequential(*layers))
        self.seg_1 = torch.nn.Linear(2 * 10 * width, 48)

    def forward(self, sound: torch.Tensor) -> Sequence[torch.Tensor]:
        """Features (t, 80) of one sound -> the maps (t', c, bands) of all stages, and its vector (1, 48)."""
        x = F.relu(self.bn1(self.conv1(sound.T[None, None])))
        states = [x]
        for i in range(1, 5):
            states.append(getattr(self, f"layer{i}")(states[-1]))
        mean, var = states[-1].mean(3).flatten(1), states[-1].var(3).flatten(1)
        vector = self.seg_1(torch.cat([mean, (var + self.eps).sqrt()], 1))
        return [*(state[0].permute(2, 0, 1) for state in states), vector]


def published(folder: Path, name: str = "ResNet34", pyannote: bool = False) -> Reference:
    """A random checkpoint of WeSpeaker, or pyannote's copy of one."""
    folder.mkdir(exist_ok=True)
    depths, bottleneck = resnet34._DEPTHS[name]
    network = Reference(depths, bottleneck, 0.0 if pyannote else 1e-7)
    discriminate(network, lambda: [network(torch.from_numpy(s)) for s in sounds((60, 90), *ROWS, seed=9)])
    for module in network.modules():
        if isinstance(module, Layer):  # the branches add a third, about as training leaves them
            getattr(module, f"bn{module.count}").weight.data *= 0.3
    if pyannote:
        state = {f"resnet.{key}": value for key, value in network.state_dict().items()}
        torch.save({"epoch": 3, "state_dict": state}, folder / "pytorch_model.bin")
        (folder / "config.yaml").write_text(PYANNOTE.format(name=name))
    else:
        state = network.state_dict() | {"projection.weight": torch.ones(3, 48)}
        torch.save(state, folder / "avg_model.pt")
        (folder / "config.yaml").write_text(WESPEAKER.format(name=name))
    return network


KINDS: dict[str, dict[str, Any]] = {
    "ResNet34": {},
    "ResNet18 of pyannote": {"name": "ResNet18", "pyannote": True},
    "ResNet50": {"name": "ResNet50"},
}


@pytest.fixture(scope="module", params=KINDS)
def made(request: Any, tmp_path_factory: Any) -> tuple[SoundModel, Reference]:
    folder = tmp_path_factory.mktemp("resnet34")
    network = published(folder, **KINDS[request.param])
    return loaded(resnet34, folder), network


def test_every_stage_equals_torch(made: tuple[SoundModel, Reference]) -> None:
    ours, network = made
    check_against(ours, network.double(), sounds((50, 9, 23, 16), *ROWS))


VARIANTS = {
    "the batch's padding read": with_operation(
        resnet34, "clip", lambda right, x, *limits: right(x, *limits) * 0 + 1
    ),
    "GELU for ReLU": with_operation(resnet34, "relu", lambda right, x: F.gelu(x)),
    "an epsilon of 1e-3": with_operation(resnet34, "batch_norm", lambda right, x, p, eps: right(x, p, 1e-3)),
    "TensorFlow's padding": with_operation(
        resnet34, "conv", lambda right, x, p, stride, padding: right(x, p, stride, "same")
    ),
    "the biased deviation": with_operation(
        resnet34, "maximum", lambda right, x, y: right(x, y) + (1.0 if y == 1e-9 else 0.0)
    ),
    "deviation before mean": with_operation(
        resnet34, "concat", lambda right, xs, axis: right(xs[::-1], axis)
    ),
    "a layer left out": lambda ops, p, config, batch: changed(resnet34, depths=(*config.depths[:-1], 1))(
        ops, p, config, batch
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(made: tuple[SoundModel, Reference], variant: str) -> None:
    ours, network = made
    listed = sounds((17, 40), *ROWS, seed=1)
    with torch.no_grad():
        expected = np.stack([network.double()(torch.from_numpy(s).double())[-1].numpy() for s in listed])
    check_close(ours.states("torch", listed)[-1], expected, "the right one")
    check_rejected(ours.states("torch", listed, VARIANTS[variant])[-1], expected, variant)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(made: tuple[SoundModel, Reference], engine: str) -> None:
    listed = sounds((40, 70, 33, 90), *ROWS, seed=2)
    exact, half = (made[0].vectors(engine, listed, precision=p) for p in ("float32", "bfloat16"))
    a, b = exact - exact.mean(0), half - exact.mean(0)
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.99


def test_what_it_reads_of_a_sound() -> None:
    reads = resnet34.sound(resnet34.Config(), {})
    assert (reads.rate, reads.features.rows, reads.short) == (16_000, ROWS, "refuse")
    assert reads.features.count(reads.shortest) == 9 > reads.features.count(reads.shortest - 1)


@pytest.mark.parametrize(
    ("pyannote", "old", "new", "words"),
    [
        (False, "TSTP", "MQMHASTP", "pooling_func is 'MQMHASTP'"),
        (False, "two_emb_layer: false", "two_emb_layer: true", "two_emb_layer is True"),
        (False, "ResNet34", "ResNet35", "'ResNet35' is none of ResNet18"),
        (False, "frame_length: 25", "frame_length: 20", "frame_length is 20"),
        (True, "hamming", "povey", "window_type of model is 'povey'"),
        (True, "dither: 0.0", "fbank_centering_span: 3.0", "fbank_centering_span of model is 3.0"),
    ],
)
def test_what_is_not_covered_is_refused(
    tmp_path: Path, pyannote: bool, old: str, new: str, words: str
) -> None:
    published(tmp_path, "ResNet18", pyannote)
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text().replace("ResNet18", "ResNet34").replace(old, new))
    with pytest.raises(UnsupportedModel, match=words):
        resnet34.load_original(tmp_path, {})


def test_it_is_a_family(tmp_path: Path) -> None:
    published(tmp_path, "ResNet18")
    check_family(tmp_path, voices(0.4, 1.1, 0.7))
