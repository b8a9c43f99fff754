"""ECAPA-TDNN against plain statements of both publishers' networks in torch, from folders as they publish them."""

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
from omnivec.families import ecapa
from omnivec.testing import check_close, check_family, check_rejected
from pictures import with_operation
from sound_families import check_against, discriminate, loaded, sounds, voices
from sound_models import SoundModel

SPEECHBRAIN = """
n_mels: 20
pretrained_path: speechbrain/spkrec-ecapa-voxceleb
out_n_neurons: 7205
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [32, 48, 48, 48, 40]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    groups: [1, 1, 1, 1, 1]
    attention_channels: 12
    se_channels: 16
    lin_neurons: 24
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 192
    out_neurons: !ref <out_n_neurons>
"""
WESPEAKER = """
model: ECAPA_TDNN_GLOB_c32
model_args: {embed_dim: 24, feat_dim: 80, pooling_func: ASTP}
dataset_args:
  fbank_args: {dither: 1.0, frame_length: 25, frame_shift: 10, num_mel_bins: 80}
  resample_rate: 16000
projection_args: {scale: 32.0}
"""
DILATIONS = (1, 2, 3, 4, 1)


class Held(torch.nn.Module):
    """A layer under the name that SpeechBrain's wrapper gives it."""

    def __init__(self, **held: torch.nn.Module) -> None:
        super().__init__()
        for name, module in held.items():
            setattr(self, name, module)


def tdnn(before: int, after: int, kernel: int = 1, dilation: int = 1) -> Any:
    conv = torch.nn.Conv1d(before, after, kernel, dilation=dilation)
    return Held(conv=Held(conv=conv), norm=Held(norm=torch.nn.BatchNorm1d(after)))


def pointwise(before: int, after: int) -> Any:
    return Held(conv=torch.nn.Conv1d(before, after, 1))


class SpeechBrain(torch.nn.Module):
    """The network as SpeechBrain's class tells it, with the published names; one sound at a time."""

    def __init__(self, bands: int = 20, channels: Sequence[int] = (32, 48, 48, 48, 40)) -> None:
        super().__init__()
        first, *middle, last = channels
        self.blocks = torch.nn.ModuleList([tdnn(bands, first, 5)])
        for i, width in enumerate(middle):
            before, part = channels[i], width // 8
            block = Held(
                tdnn1=tdnn(before, width),
                res2net_block=Held(
                    blocks=torch.nn.ModuleList(tdnn(part, part, 3, DILATIONS[i + 1]) for _ in range(7))
                ),
                tdnn2=tdnn(width, width),
                se_block=Held(conv1=pointwise(width, 16), conv2=pointwise(16, width)),
            )
            if before != width:
                block.shortcut = pointwise(before, width)
            self.blocks.append(block)
        self.mfa = tdnn(sum(middle), last)
        self.asp = Held(tdnn=tdnn(3 * last, 12), conv=pointwise(12, last))
        self.asp_bn = Held(norm=torch.nn.BatchNorm1d(2 * last))
        self.fc = pointwise(2 * last, 24)

    def layer(self, p: Any, x: torch.Tensor) -> torch.Tensor:
        conv = p.conv.conv
        reach = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
        return p.norm.norm(F.relu(conv(F.pad(x, (reach, reach), mode="reflect"))))

    def block(self, p: Any, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(p.tdnn1, x)
        pieces = list(y.chunk(8, 1))
        for i in range(1, 8):
            before = pieces[i - 1] if i > 1 else 0.0
            pieces[i] = self.layer(p.res2net_block.blocks[i - 1], pieces[i] + before)
        y = self.layer(p.tdnn2, torch.cat(pieces, 1))
        gate = F.relu(p.se_block.conv1.conv(y.mean(2, keepdim=True)))
        y = y * torch.sigmoid(p.se_block.conv2.conv(gate))
        return y + (p.shortcut.conv(x) if hasattr(p, "shortcut") else x)

    def forward(self, sound: torch.Tensor) -> Sequence[torch.Tensor]:
        """Features (t, bands) of one sound -> the states (t, c) of all layers, and its vector (1, 24)."""
        states = [self.layer(self.blocks[0], sound.T[None])]
        for block in list(self.blocks)[1:]:
            states.append(self.block(block, states[-1]))
        x = self.layer(self.mfa, torch.cat(states[1:], 1))
        states.append(x)
        mean = x.mean(2, keepdim=True)
        std = ((x - mean) ** 2).mean(2, keepdim=True).clamp(min=1e-12).sqrt()
        scores = self.layer(self.asp.tdnn, torch.cat([x, mean.expand_as(x), std.expand_as(x)], 1))
        shares = torch.softmax(self.asp.conv.conv(torch.tanh(scores)), 2)
        mean = (shares * x).sum(2, keepdim=True)
        std = (shares * (x - mean) ** 2).sum(2, keepdim=True).clamp(min=1e-12).sqrt()
        pooled = self.asp_bn.norm(torch.cat([mean, std], 1))
        return [*(state[0].T for state in states), self.fc.conv(pooled)[:, :, 0]]


class Res2(torch.nn.Module):
    """WeSpeaker's Res2Net layer: the last piece is passed on."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv1d(width // 8, width // 8, 3, padding=dilation, dilation=dilation) for _ in range(7)
        )
        self.bns = torch.nn.ModuleList(torch.nn.BatchNorm1d(width // 8) for _ in range(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pieces = list(x.chunk(8, 1))
        for i in range(7):
            inner = pieces[i] + pieces[i - 1] if i else pieces[i]
            pieces[i] = self.bns[i](F.relu(self.convs[i](inner)))
        return torch.cat(pieces, 1)


class ReluBn(torch.nn.Module):
    """Convolution, ReLU, batch norm."""

    def __init__(self, before: int, after: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(before, after, kernel, padding=kernel // 2)
        self.bn = torch.nn.BatchNorm1d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(F.relu(self.conv(x)))


class Excitation(torch.nn.Module):
    """Squeeze and excitation by linear maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = torch.nn.Linear(width, 16), torch.nn.Linear(16, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.linear2(F.relu(self.linear1(x.mean(2)))))[:, :, None]


class WeSpeaker(torch.nn.Module):
    """The network as WeSpeaker's class tells it, with the published names; one sound at a time."""

    def __init__(self, whole: bool = True) -> None:
        super().__init__()
        self.whole = whole
        self.layer1 = ReluBn(80, 32, 5)
        for i in (2, 3, 4):
            layers = [ReluBn(32, 32), Res2(32, i), ReluBn(32, 32), Excitation(32)]
            setattr(self, f"layer{i}", Held(se_res2block=torch.nn.Sequential(*layers)))
        self.conv = torch.nn.Conv1d(96, 56, 1)
        attention = torch.nn.Conv1d(168 if whole else 56, 12, 1)
        self.pool = Held(linear1=attention, linear2=torch.nn.Conv1d(12, 56, 1))
        self.bn = torch.nn.BatchNorm1d(112)
        self.linear = torch.nn.Linear(112, 24)

    def forward(self, sound: torch.Tensor) -> Sequence[torch.Tensor]:
        """Features (t, 80) of one sound -> the states (t, c) of all layers, and its vector (1, 24)."""
        states = [self.layer1(sound.T[None])]
        for i in (2, 3, 4):
            states.append(states[-1] + getattr(self, f"layer{i}").se_res2block(states[-1]))
        x = F.relu(self.conv(torch.cat(states[1:], 1)))
        context = [x.mean(2, keepdim=True), (x.var(2, keepdim=True) + 1e-7).sqrt()]
        scores = torch.cat([x, *(c.expand_as(x) for c in context)], 1) if self.whole else x
        shares = torch.softmax(self.pool.linear2(torch.tanh(self.pool.linear1(scores))), 2)
        mean = (shares * x).sum(2)
        std = ((shares * x**2).sum(2) - mean**2).clamp(min=1e-7).sqrt()
        vector = self.linear(self.bn(torch.cat([mean, std], 1)))
        return [*(state[0].T for state in (*states, x)), vector]


def published(folder: Path, network: Any, bands: int) -> Any:
    """A random checkpoint in the format of the network's publisher."""
    folder.mkdir(exist_ok=True)
    discriminate(network, lambda: [network(torch.from_numpy(s)) for s in sounds((60, 90), bands, seed=9)])
    state = network.state_dict()
    if isinstance(network, SpeechBrain):
        torch.save(state, folder / "embedding_model.ckpt")
        (folder / "hyperparams.yaml").write_text(SPEECHBRAIN)
        (folder / "config.json").write_text('{"speechbrain_interface": "EncoderClassifier"}')
    else:
        torch.save({**state, "projection.weight": torch.ones(3, 24)}, folder / "avg_model.pt")
        (folder / "config.yaml").write_text(WESPEAKER if network.whole else WESPEAKER.replace("GLOB_", ""))
    return network


KINDS: dict[str, tuple[Any, int]] = {
    "speechbrain": (SpeechBrain, 20),
    "wespeaker": (WeSpeaker, 80),
    "wespeaker, local attention": (lambda: WeSpeaker(False), 80),
}


@pytest.fixture(scope="module", params=KINDS)
def made(request: Any, tmp_path_factory: Any) -> tuple[SoundModel, Any, int]:
    make, bands = KINDS[request.param]
    folder = tmp_path_factory.mktemp("ecapa")
    network = published(folder, make(), bands)
    return loaded(ecapa, folder), network, bands


def test_every_layer_equals_torch(made: tuple[SoundModel, Any, int]) -> None:
    ours, network, bands = made
    assert ours.config.dim == 24
    check_against(ours, network.double(), sounds((50, 5, 23, 101), bands))


def with_flag(name: str, wrong: Any) -> Any:
    """The forward with one step of its own replaced."""

    def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            right = getattr(ecapa, name)
            patch.setattr(ecapa, name, lambda *given, **said: wrong(right, *given, **said))
            return ecapa.forward(ops, p, config, batch)

    return forward


def normed_first(right: Any, ops: Any, p: Any, x: Any) -> Any:
    return ops.relu(ops.batch_norm(x, p["norm.norm"], 1e-5)) if "norm" in p else right(ops, p, x)


VARIANTS = {
    "the other layout": lambda ops, p, config, batch: changed(
        ecapa, layout="wespeaker" if config.layout == "speechbrain" else "speechbrain"
    )(ops, p, config, batch),
    "the norm before ReLU": with_flag("_activated", normed_first),
    "no attention": with_operation(ecapa, "softmax", lambda right, x, axis: right(x * 0.0, axis)),
    "an epsilon of 1e-3": with_operation(ecapa, "batch_norm", lambda right, x, p, eps: right(x, p, 1e-3)),
    "statistics of the padding too": with_operation(
        ecapa, "clip", lambda right, x, *limits: right(x, *limits) * 0 + 1
    ),
    "other dilations": changed(ecapa, dilations=(1, 1, 1, 1, 1)),
    "ReLU for tanh": with_operation(ecapa, "tanh", lambda right, x: x.clamp(min=0)),
    "no excitation": with_operation(ecapa, "sigmoid", lambda right, x: right(x) * 0 + 1),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(made: tuple[SoundModel, Any, int], variant: str) -> None:
    ours, network, bands = made
    listed = sounds((12, 19), bands, seed=1)
    with torch.no_grad():
        expected = np.stack([network.double()(torch.from_numpy(s).double())[-1].numpy() for s in listed])
    check_close(ours.states("torch", listed)[-1], expected, "the right one")
    check_rejected(ours.states("torch", listed, VARIANTS[variant])[-1], expected, variant)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(made: tuple[SoundModel, Any, int], engine: str) -> None:
    listed = sounds((40, 70, 33, 90), made[2], seed=2)
    exact, half = (made[0].vectors(engine, listed, precision=p) for p in ("float32", "bfloat16"))
    a, b = exact - exact.mean(0), half - exact.mean(0)
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.99


def test_what_it_reads_of_a_sound(made: tuple[SoundModel, Any, int]) -> None:
    reads = ecapa.sound(made[0].config, {})
    assert (reads.rate, reads.features.rows, reads.short) == (16_000, (made[2],), "refuse")
    frames = 5 if made[0].config.layout == "speechbrain" else 2
    assert reads.features.count(reads.shortest) == frames > reads.features.count(reads.shortest - 1)


@pytest.mark.parametrize(
    ("kind", "old", "new", "words"),
    [
        ("speechbrain", "groups: [1, 1", "groups: [2, 1", "groups of embedding_model"),
        ("speechbrain", "n_mels: !ref <n_mels>", "f_max: 7600", "f_max of compute_features is 7600"),
        ("wespeaker", "pooling_func: ASTP", "pooling_func: MQMHASTP", "pooling_func is 'MQMHASTP'"),
        ("wespeaker", "pooling_func: ASTP", "emb_bn: true", "emb_bn is True"),
        ("wespeaker", "frame_shift: 10", "frame_shift: 20", "frame_shift is 20"),
        ("wespeaker", "feat_dim: 80", "feat_dim: 40", "feat_dim is 40"),
        ("wespeaker", "GLOB_c32", "GLOB_X_c32", "'ECAPA_TDNN_GLOB_X_c32' is not covered"),
    ],
)
def test_what_is_not_covered_is_refused(tmp_path: Path, kind: str, old: str, new: str, words: str) -> None:
    make, bands = KINDS[kind]
    published(tmp_path, make(), bands)
    [file] = tmp_path.glob("*.yaml")
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UnsupportedModel, match=words):
        ecapa.load_original(tmp_path, {"layout": kind})


@pytest.mark.parametrize("kind", ["speechbrain", "wespeaker"])
def test_it_is_a_family(tmp_path: Path, kind: str) -> None:
    make, bands = KINDS[kind]
    published(tmp_path, make(), bands)
    check_family(tmp_path, voices(0.4, 1.1, 0.7))
