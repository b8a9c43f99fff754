"""Wav2vec 1.0 against a plain statement of it in torch, which runs each sound by itself, without padding."""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import omnivec
from encoders import ENGINES, changed, cosines, with_operation
from omnivec import weights
from omnivec.errors import ModelError, UnsupportedModel, WeightsError
from omnivec.families import _fairseq, _frames, wav2vec
from omnivec.models import registry
from omnivec.models.model import known_keys
from omnivec.testing import check_close, check_family, check_rejected
from omnivec.types import Audio
from speech import Forward, Read, read, waveforms

FEATURES = [(24, 10, 5), (24, 8, 4), (32, 4, 2), (32, 4, 2), (32, 4, 2), (32, 1, 1)]
CONTEXT = [(32, 2, 1), (32, 3, 1), (40, 4, 1), (40, 5, 1)]
ARGS: dict[str, Any] = {
    "arch": "wav2vec",
    "conv_feature_layers": "[(24, 10, 5), (24, 8, 4)] + [(32, 4, 2)] * 3 + [(32, 1, 1)]",
    "conv_aggregator_layers": "[(32, 2, 1), (32, 3, 1), (40, 4, 1), (40, 5, 1)]",
    "activation": "relu",
    "log_compression": True,
    "skip_connections_agg": True,
    "skip_connections_feat": False,
    "residual_scale": 0.5,
    "agg_zero_pad": False,
    "vq_type": "none",
    "aggregator": "cnn",
    "no_epoch_checkpoints": True,
}
KINDS: dict[str, dict[str, Any]] = {
    "relu": {},
    "gelu": {"activation": "gelu", "log_compression": False, "residual_scale": 0.3},
    "zeros before": {"agg_zero_pad": True, "no_conv_bias": True},
    "no residuals": {"skip_connections_agg": False},
}
LENGTHS = [9000, 465, 12345]


def random_weights(args: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Weights by the names of fairseq, with what is only needed for training."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        fan = shape[1] * shape[2] if len(shape) > 1 else 11
        return torch.randn(shape, generator=generator) * 2 / fan**0.5

    state, width = {"wav2vec_predictions.project_to_steps.weight": noise(32, 40, 1)}, 1
    for i, (out, kernel, _) in enumerate(FEATURES):
        stem = f"feature_extractor.conv_layers.{i}"
        state |= {f"{stem}.0.weight": noise(out, width, kernel), f"{stem}.2.weight": 1 + 0.5 * noise(out)}
        state[f"{stem}.2.bias"], width = 0.5 * noise(out), out
    for i, (out, kernel, _) in enumerate(CONTEXT):
        stem = f"feature_aggregator.conv_layers.{i}"
        state |= {f"{stem}.1.weight": noise(out, width, kernel), f"{stem}.3.weight": 1 + 0.5 * noise(out)}
        state[f"{stem}.3.bias"] = 0.5 * noise(out)
        if not args.get("no_conv_bias"):
            state[f"{stem}.1.bias"] = 0.5 * noise(out)
        if args["skip_connections_agg"] and out != width:
            state[f"feature_aggregator.residual_proj.{i}.weight"] = noise(out, width, 1)
        width = out
    return state


def stated(state: dict[str, torch.Tensor], args: dict[str, Any], sound: np.ndarray) -> list[np.ndarray]:
    """z and c of one sound, each (t, width), as the paper and fairseq's arguments describe them."""
    act: Any = {"relu": F.relu, "gelu": F.gelu}[args["activation"]]
    x = torch.from_numpy(sound)[None, None]
    for i, (_, _, stride) in enumerate(FEATURES):
        stem = f"feature_extractor.conv_layers.{i}"
        x = F.conv1d(x, state[f"{stem}.0.weight"], stride=stride)
        x = act(F.group_norm(x, 1, state[f"{stem}.2.weight"], state[f"{stem}.2.bias"]))
    z = x = (x.abs() + 1).log() if args["log_compression"] else x
    for i, (_, kernel, _) in enumerate(CONTEXT):
        stem = f"feature_aggregator.conv_layers.{i}"
        y = F.pad(x, (kernel - 1, 0), mode="constant" if args["agg_zero_pad"] else "replicate")
        y = F.conv1d(y, state[f"{stem}.1.weight"], state.get(f"{stem}.1.bias"))
        y = act(F.group_norm(y, 1, state[f"{stem}.3.weight"], state[f"{stem}.3.bias"]))
        if args["skip_connections_agg"]:
            shortcut = state.get(f"feature_aggregator.residual_proj.{i}.weight")
            y = (y + (x if shortcut is None else F.conv1d(x, shortcut))) * args["residual_scale"] ** 0.5
        x = y
    return [one[0].T.numpy() for one in (z, x)]


def save(folder: Path, **changes: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A checkpoint as fairseq saves one, with the state of the optimiser."""
    args = ARGS | changes
    state = random_weights(args)
    checkpoint = {
        "args": argparse.Namespace(**args),
        "model": state,
        "optimizer_history": [{"optimizer_name": "FairseqAdam", "num_updates": 3}],
        "last_optimizer_state": {"state": {0: {"step": 3, "exp_avg": torch.ones(4)}}},
    }
    torch.save(checkpoint, folder / "wav2vec_large.pt", _use_new_zipfile_serialization=False)
    return state, args


def read_folder(folder: Path, **changes: Any) -> Read:
    published = registry.config_of_files(folder)
    original = wav2vec.load_original(folder, known_keys(wav2vec, {**published, **changes}, folder))
    assert original is not None
    return read(wav2vec, original[0], folder / "wav2vec_large.pt")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_features_and_context_equal_the_statement(tmp_path: Path, kind: str, engine: str) -> None:
    state, args = save(tmp_path, **KINDS[kind])
    sounds = waveforms(LENGTHS)
    ours, features = read_folder(tmp_path), read_folder(tmp_path, layer="z")
    assert (ours.config.dim, features.config.dim) == (40, 32)
    for padding in (0, 777):
        got, only = (model.states(engine, sounds, padding=padding) for model in (ours, features))
        for i, sound in enumerate(sounds):
            z, c = stated(state, args, sound)
            check_close(got[0][i, : len(z)], z, f"{engine}, z of {len(sound)} samples")
            check_close(got[1][i, : len(c)], c, f"{engine}, c of {len(sound)} samples")
            check_close(only[-1][i, : len(z)], z, "layer z")
            states = wav2vec.sound(ours.config, {}).states
            assert states is not None and states(len(sound)) == len(z) == len(c)
    check_close(ours.states(engine, sounds[:1])[-1][0], stated(state, args, sounds[0])[1], "alone")


def with_norm(wrong: Any) -> Forward:
    """The forward with another group norm, which gets the right one first."""

    def forward(*args: Any) -> Any:
        right = _frames.masked_norm
        with patch.object(wav2vec, "masked_norm", lambda *given: wrong(right, *given)):
            return wav2vec.forward(*args)

    return forward


VARIANTS = {
    "statistics over padding": with_norm(
        lambda right, o, x, p, keep, *how: right(o, x, p, keep * 0 + 1, *how)
    ),
    "a group for each channel": with_norm(lambda right, o, x, p, keep, c, eps: right(o, x, p, keep, 1, eps)),
    "an epsilon of 1e-3": with_norm(lambda right, o, x, p, keep, c, eps: right(o, x, p, keep, c, 1e-3)),
    "zeros for copies of the first frame": changed(wav2vec, agg_zero_pad=True),
    "no logarithm": changed(wav2vec, log_compression=False),
    "log2": with_operation(wav2vec, "log", lambda right, x: right(x) / np.log(2)),
    "residuals scaled by the scale, not its root": changed(wav2vec, residual_scale=0.25),
    "GELU": changed(wav2vec, activation="gelu"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_rejected(tmp_path: Path, variant: str) -> None:
    state, args = save(tmp_path)
    ours, sounds = read_folder(tmp_path), waveforms([9000, 4000])
    right = stated(state, args, sounds[1])[1]
    check_close(ours.states("torch", sounds)[-1][1, : len(right)], right, "the right one")
    check_rejected(ours.states("torch", sounds, VARIANTS[variant])[-1][1, : len(right)], right, variant)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(tmp_path: Path, engine: str) -> None:
    save(tmp_path)
    ours, sounds = read_folder(tmp_path), waveforms([9000] * 4)
    exact, half = (ours.states(engine, sounds, precision=p)[-1].mean(1) for p in ("float32", "bfloat16"))
    assert cosines(exact, half).min() > 0.999


def test_the_meters_of_old_checkpoints_are_read_as_data(tmp_path: Path) -> None:
    module = types.ModuleType("fairseq.meters")
    meter = type("AverageMeter", (), {"__module__": "fairseq.meters"})
    vars(module)["AverageMeter"] = meter
    one = meter()
    one.avg = 1.5
    file = tmp_path / "wav2vec_large.pt"
    with patch.dict(sys.modules, {"fairseq": types.ModuleType("fairseq"), "fairseq.meters": module}):
        torch.save({"extra_state": {"train_meters": {"loss": one}}}, file)
    checkpoint: Any = weights.read_torch(file)
    assert checkpoint["extra_state"]["train_meters"]["loss"] == {"avg": 1.5}


def test_a_saved_config_needs_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path)
    original = wav2vec.load_original(tmp_path, {"model_type": "wav2vec"})
    assert original is not None
    saved = json.loads(json.dumps(original[0]))
    ours = read(wav2vec, saved, tmp_path / "wav2vec_large.pt")
    assert ours.config == read_folder(tmp_path).config
    weights.save(tmp_path / "model.safetensors", {name: t.float32() for name, t in ours.tensors.items()})
    assert wav2vec.load_original(tmp_path, known_keys(wav2vec, saved, tmp_path)) is None


def test_what_is_not_covered_is_refused(tmp_path: Path) -> None:
    for key, value in {
        "aggregator": "gru",
        "vq_type": "kmeans",
        "skip_connections_feat": True,
        "non_affine_group_norm": True,
        "activation": "mish",
    }.items():
        with pytest.raises(UnsupportedModel, match=key):
            read(wav2vec, {"model_type": "wav2vec", key: value}, tmp_path)
    save(tmp_path, arch="wav2vec2")
    with pytest.raises(UnsupportedModel, match="arch 'wav2vec2' is not covered"):
        read_folder(tmp_path)
    with pytest.raises(UnsupportedModel, match="only strides of 1"):
        layers = [[8, 3, 2]]
        known_keys(wav2vec, {"model_type": "wav2vec", "conv_aggregator_layers": layers}, tmp_path)


def test_convolutions_are_read_without_evaluating_them() -> None:
    read_layers = _fairseq.convolutions
    assert read_layers("[(512, 10, 5)] + [(512, 3, 2)] * 2", "file") == (
        (512, 10, 5),
        (512, 3, 2),
        (512, 3, 2),
    )
    for text in (
        "__import__('os').getcwd()",
        "[(1, 2, 3)] * 10**9",
        "[(1, 2, 3)] * 1000 * 1000",
        "[(1, 2)]",
        "[(1, 2, x)]",
        "[]",
        "(" * 5000,
        "",
    ):
        with pytest.raises(UnsupportedModel, match="no list of convolutions"):
            read_layers(text, "file")


def test_checkpoints_that_cannot_be_read(tmp_path: Path) -> None:
    assert _fairseq.read_checkpoint(tmp_path) is None
    torch.save({"model": {"a.weight": torch.ones(2)}}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="no settings under args or cfg"):
        _fairseq.read_checkpoint(tmp_path)
    torch.save({"args": Path("x"), "model": {}}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="would run code"):
        _fairseq.read_checkpoint(tmp_path)
    (tmp_path / "b.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"2 checkpoints \(a.pt, b.pt\): keep one"):
        _fairseq.read_checkpoint(tmp_path)


def test_sounds_to_vectors(tmp_path: Path) -> None:
    state, args = save(tmp_path)
    sounds = waveforms([9000, 465, 12345])
    items = [Audio(sound, 16000) for sound in sounds]
    check_family(tmp_path, items)
    for layer, at in (("z", 0), ("c", 1)):
        vectors = omnivec.load(tmp_path, layer=layer, precision="float32").encode(items)
        for sound, vector in zip(sounds, vectors, strict=True):
            check_close(vector, stated(state, args, sound)[at].mean(0), f"layer {layer}")
