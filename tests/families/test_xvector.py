"""x-vectors against a plain statement in torch, from a folder as SpeechBrain publishes one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from encoders import ENGINES, changed
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import xvector
from omnivec.models.folder import read_folder
from omnivec.testing import check_close, check_family, check_rejected
from pictures import with_operation
from sound_families import check_against, discriminate, loaded, sounds, voices
from sound_models import SoundModel

YAML = """
n_mels: 24
emb_dim: 40
pretrained_path: speechbrain/spkrec-xvect-voxceleb
out_n_neurons: 7205
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.Xvector.Xvector
    in_channels: !ref <n_mels>
    activation: !name:torch.nn.LeakyReLU
    tdnn_blocks: 5
    tdnn_channels: [32, 36, 32, 32, 60]
    tdnn_kernel_sizes: [5, 3, 3, 1, 1]
    tdnn_dilations: [1, 2, 3, 1, 1]
    lin_neurons: !ref <emb_dim>
__set_seed: !apply:torch.manual_seed [1234]
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
"""
CHANNELS = (24, 32, 36, 32, 32, 60)
ROWS = (24,)


class Held(torch.nn.Module):
    """A layer under the name that SpeechBrain's wrapper gives it."""

    def __init__(self, **held: torch.nn.Module) -> None:
        super().__init__()
        for name, module in held.items():
            setattr(self, name, module)


class Reference(torch.nn.Module):
    """The network as its paper and SpeechBrain's class tell it, with the published names."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[torch.nn.Module] = []
        steps = zip(CHANNELS[:-1], CHANNELS[1:], (5, 3, 3, 1, 1), (1, 2, 3, 1, 1), strict=True)
        for before, after, kernel, dilation in steps:
            conv = torch.nn.Conv1d(before, after, kernel, dilation=dilation)
            norm = torch.nn.BatchNorm1d(after)
            blocks += [Held(conv=conv), torch.nn.LeakyReLU(), Held(norm=norm)]
        blocks += [torch.nn.Identity(), Held(w=torch.nn.Linear(120, 40))]
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, sound: torch.Tensor) -> Sequence[torch.Tensor]:
        """Features (t, 24) of one sound -> the states (t, c) of all layers, and its vector (1, 40)."""
        x, states = sound.T[None], []
        for i in range(0, 15, 3):
            conv: Any = self.blocks[i].conv
            reach = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
            x = conv(F.pad(x, (reach, reach), mode="reflect"))
            x = self.blocks[i + 2].norm(F.leaky_relu(x, 0.01))
            states.append(x[0].T)
        pooled = torch.cat([x.mean(2), x.std(2) + 1e-5], 1)
        return [*states, self.blocks[16].w(pooled)]


def published(folder: Path, seed: int = 0) -> Reference:
    """A random checkpoint in SpeechBrain's format."""
    network = Reference()
    discriminate(
        network, lambda: [network(torch.from_numpy(s)) for s in sounds((60, 90), *ROWS, seed=9)], seed
    )
    torch.save(network.state_dict(), folder / "embedding_model.ckpt")
    (folder / "hyperparams.yaml").write_text(YAML)
    (folder / "config.json").write_text('{"speechbrain_interface": "EncoderClassifier"}')
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> tuple[SoundModel, Reference]:
    folder = tmp_path_factory.mktemp("xvector")
    network = published(folder)
    return loaded(xvector, folder), network


def test_every_layer_equals_torch(made: tuple[SoundModel, Reference]) -> None:
    ours, network = made
    assert ours.config.dim == 40 and ours.config.tdnn_channels == CHANNELS[1:]
    check_against(ours, network.double(), sounds((50, 4, 23, 101), *ROWS))


VARIANTS = {
    "zeros around the sound": with_operation(
        xvector, "pad", lambda right, x, a, b, mode, lengths: right(x, a, b, "zeros", lengths)
    ),
    "the batch's end mirrored": with_operation(
        xvector, "pad", lambda right, x, a, b, mode, lengths: right(x, a, b, mode)
    ),
    "ReLU for LeakyReLU": with_operation(xvector, "maximum", lambda right, x, y: right(x, y * 0.0)),
    "other dilations": changed(xvector, tdnn_dilations=(1, 1, 1, 1, 1)),
    "an epsilon of 1e-3": with_operation(xvector, "batch_norm", lambda right, x, p, eps: right(x, p, 1e-3)),
    "statistics of the padding too": with_operation(
        xvector, "clip", lambda right, x, *limits: right(x, *limits) * 0 + 1
    ),
    "the biased deviation": with_operation(
        xvector,
        "maximum",
        lambda right, x, y: (
            right(x, y) + (1.0 if y == 1e-9 else 0.0) if isinstance(y, float) else right(x, y)
        ),
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(made: tuple[SoundModel, Reference], variant: str) -> None:
    ours, network = made
    listed = sounds((12, 19), *ROWS, seed=1)
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


def test_what_it_reads_of_a_sound(made: tuple[SoundModel, Reference]) -> None:
    reads = xvector.sound(made[0].config, {})
    assert (reads.rate, reads.features.rows, reads.short) == (16_000, ROWS, "refuse")
    assert reads.features.count(reads.shortest) == 4 and reads.features.count(reads.shortest - 1) == 3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("torch.nn.LeakyReLU", "torch.nn.GELU", "activation of embedding_model"),
        ("norm_type: sentence", "norm_type: global", "norm_type of mean_var_norm is 'global'"),
        ("std_norm: False", "std_norm: True", "std_norm of mean_var_norm is True"),
        (
            "    n_mels: !ref <n_mels>",
            "    n_mels: !ref <n_mels>\n    deltas: True",
            "deltas of compute_features",
        ),
        ("    tdnn_blocks: 5", "    tdnn_blocks: 5\n    causal: True", "causal of embedding_model is True"),
    ],
)
def test_what_is_not_covered_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    published(tmp_path)
    (tmp_path / "hyperparams.yaml").write_text(YAML.replace(old, new))
    with pytest.raises(UnsupportedModel, match=words):
        xvector.load_original(tmp_path, {})


def test_settings_without_effect_are_accepted(tmp_path: Path) -> None:
    published(tmp_path)
    harmless = "    n_mels: !ref <n_mels>\n    deltas: False\n    f_max: null\n    left_frames: 5"
    (tmp_path / "hyperparams.yaml").write_text(YAML.replace("    n_mels: !ref <n_mels>", harmless, 1))
    assert loaded(xvector, tmp_path).config.in_channels == 24


def test_another_model_of_speechbrain_is_refused_by_name(tmp_path: Path) -> None:
    published(tmp_path)
    text = YAML.replace("lobes.models.Xvector.Xvector", "lobes.models.ResNet.ResNet")
    (tmp_path / "hyperparams.yaml").write_text(text)
    with pytest.raises(UnsupportedModel, match=r"no family covers the network in its hyperparams\.yaml"):
        read_folder(tmp_path)


def test_bands_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "hyperparams.yaml").write_text(YAML.replace("in_channels: !ref <n_mels>", "in_channels: 40"))
    with pytest.raises(ModelError, match="24 bands, and embedding_model 40"):
        xvector.load_original(tmp_path, {})


def test_it_is_a_family(tmp_path: Path) -> None:
    published(tmp_path)
    check_family(tmp_path, voices(0.4, 1.1, 0.7))
