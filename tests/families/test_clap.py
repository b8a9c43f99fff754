"""CLAP against transformers: both towers, every hidden state, both engines; wrong formulas are told apart."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ClapConfig

import checkpoints
from claps import KINDS, LENGTH, check, executable, expected, made, ours, spectrograms, texts
from encoders import ENGINES
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import _swin, bert, clap
from omnivec.models import registry
from omnivec.models.model import check_shapes, read_config
from omnivec.ops import grid
from omnivec.ops.base import Params
from omnivec.ops.torch import TorchOps
from omnivec.testing import check_close, check_rejected
from omnivec.vectors.labels import zero_shot
from pictures import read


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clap")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_sounds_equal_transformers(root: Path, kind: str, engine: str) -> None:
    folder, model = made(kind, root)
    for count in (1, 3):
        batch = spectrograms(model, count, seed=count)
        got = executable(folder, engine, "audio").run(batch)
        assert len(got) == len(model.config.audio_config.depths) + 2
        check(got, expected(model, "audio", batch), batch, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["unfused", "other sizes"])
@pytest.mark.parametrize(("lengths", "padding"), [([5], 0), ([LENGTH, 1, 9, 2], 0), ([7, 4], 9)])
def test_texts_equal_transformers(
    root: Path, kind: str, engine: str, lengths: list[int], padding: int
) -> None:
    folder, model = made(kind, root)
    batch = texts(lengths, padding)
    got = executable(folder, engine, "text").run(batch)
    assert len(got) == model.config.text_config.num_hidden_layers + 2
    check(got, expected(model, "text", batch), batch, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sound_does_not_depend_on_its_batch(root: Path, engine: str) -> None:
    folder, model = made("unfused", root)
    batch, one = spectrograms(model, 4), executable(folder, engine, "audio")
    whole = one.run(batch)["vector"]
    for i, sound in enumerate(batch["sound"]):
        alone = {"sound": sound[None], "lengths": batch["lengths"][i : i + 1]}
        check_close(one.run(alone)["vector"][0], whole[i], f"sound {i} by itself")


@pytest.mark.parametrize(("old", "new"), [(1001, 1024), (1001, 2048), (2, 7), (9, 9)])
def test_positions_interpolated_as_torch_interpolates_them(old: int, new: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, old, 5)).astype(np.float32)
    right = torch.nn.functional.interpolate(torch.from_numpy(x), (new, 5), mode="bicubic", align_corners=True)
    check_close(grid.aligned(old, new) @ x[0, 0], right[0, 0].numpy(), f"{old} to {new}")


def test_logits_equal_transformers(root: Path) -> None:
    """From the weights' scale to the probabilities of each text for each sound."""
    folder, model = made("unfused", root)
    said, heard = texts([LENGTH, 9, 4]), spectrograms(model, 3)
    label = executable(folder, "openvino", "text").run(said)["vector"][:, 0]
    sound = executable(folder, "openvino", "audio").run(heard)["vector"][:, 0]
    scale, bias = clap.logits(ours(folder).config, ours(folder).tensors)
    assert scale == pytest.approx(np.exp(2.5)) and bias is None
    ids, mask = (torch.from_numpy(said[name]).long() for name in ("ids", "mask"))
    features = torch.from_numpy(heard["sound"])[:, None]
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, input_features=features)
    right = torch.softmax(out.logits_per_audio, 1).numpy()
    np.testing.assert_allclose(zero_shot(sound, label, scale, bias), right, rtol=2e-4, atol=1e-7)


# --- wrong variants -----------------------------------------------------------------------------------------------


def tower(name: str, **changes: Any) -> Callable[[str], Any]:
    """Forwards whose tower for sounds or texts has another config."""

    def of(modality: str) -> Any:
        def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
            changed = dataclasses.replace(config, **{name: getattr(config, name)._replace(**changes)})
            return getattr(clap, f"forward_{modality}")(ops, p, changed, batch)

        return forward

    return of


def operation(name: str, wrong: Callable[..., Any]) -> Callable[[str], Any]:
    """Forwards with one operation replaced; `wrong` gets the right one and the number of the call first."""

    def of(modality: str) -> Any:
        def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
            right, calls = getattr(ops, name), iter(range(10_000))
            setattr(ops, name, lambda *args: wrong(right, next(calls), *args))
            return getattr(clap, f"forward_{modality}")(ops, p, config, batch)

        return forward

    return of


def function(name: str, wrong: Callable[..., Any], module: Any = clap) -> Callable[[str], Any]:
    """Forwards with one function replaced while they run; `wrong` gets the right one first."""

    def of(modality: str) -> Any:
        def forward(*args: Any) -> Any:
            right = getattr(module, name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, name, lambda *given: wrong(right, *given))
                return getattr(clap, f"forward_{modality}")(*args)

        return forward

    return of


def linearly(right: Any, old: int, new: int) -> np.ndarray:
    place = np.linspace(0, old - 1, new, dtype=np.float32)[:, None]
    return np.maximum(0, 1 - abs(place - np.arange(old, dtype=np.float32))).astype(np.float32)


def zero_padded(right: Any, old: int, new: int) -> np.ndarray:
    return np.eye(new, old, dtype=np.float32)


def row_by_row(right: Any, ops: Any, p: Any, x: Any, size: tuple[int, int], eps: float) -> Any:
    """Patch merging in the order upper left, upper right, lower left, lower right."""
    side, width = size
    turned = ops.transpose(ops.reshape(x, (0, side, side, width)), (0, 2, 1, 3))
    y = right(ops, p, ops.reshape(turned, (0, side * side, width)), size, eps)
    back = ops.transpose(ops.reshape(y, (0, side // 2, side // 2, 2 * width)), (0, 2, 1, 3))
    return ops.reshape(back, (0, side * side // 4, 2 * width))


def unstacked(right: Any, ops: Any, audio: Any, x: Any, frames: int) -> Any:
    """Time along the first axis of the square, and the bands beside each other."""
    return ops.transpose(right(ops, audio, x, frames), (0, 1, 3, 2))


SOUND_VARIANTS: dict[str, Callable[[str], Any]] = {
    "linear interpolation of frames": function("aligned", linearly, grid),
    "zeros behind the frames": function("aligned", zero_padded, grid),
    "frames interpolated by their middles": function(
        "aligned", lambda right, old, new: grid.bicubic(old, new, False), grid
    ),
    "no norm of the bands": operation("batch_norm", lambda right, _, x, *rest: x),
    "bands and time exchanged": function("_folded", unstacked),
    "no shifted windows": function("_rolled", lambda right, ops, x, shift: x, _swin),
    "windows shifted back": function(
        "_rolled", lambda right, ops, x, shift: right(ops, x, (x.shape[1] - shift) % x.shape[1]), _swin
    ),
    "no mask of shifted windows": function(
        "_apart", lambda right, side, w, shift: np.zeros_like(right(side, w, shift)), _swin
    ),
    "no relative positions": operation("embedding", lambda right, _, ids, table: right(ids, table * 0)),
    "relative positions turned round": function("_offsets", lambda right, w: right(w).T.copy(), _swin),
    "patches merged row by row": function("merge_patches", row_by_row),
    "windows half as wide": tower("audio", window_size=4),
    "scores not scaled": operation(
        "attention", lambda right, _, q, k, v, bias, scale, *rest: right(q, k, v, bias, 1.0, *rest)
    ),
    "a layer left out": tower("audio", depths=(2, 1, 2, 2)),
    "another epsilon": tower("audio", layer_norm_eps=1e-2),
    "ReLU for GELU": tower("audio", hidden_act="relu"),
    "the first patch, not the mean": operation("mean", lambda right, _, x, axis: x[:, 0]),
}
TEXT_VARIANTS: dict[str, Callable[[str], Any]] = {
    "positions from 0": tower("text", pad_token_id=0),
    "half the heads": tower("text", num_attention_heads=2),
    "a layer left out": tower("text", num_hidden_layers=2),
    "the pooler's tanh left out": operation("tanh", lambda right, _, x: x),
    "the last token, not the first": function(
        "forward", lambda right, *args: torch.flip(right(*args), [1]), bert
    ),
    "no activation between the projections": operation("relu", lambda right, _, x: x),
    "no mask": operation("padding_bias", lambda right, _, mask: right(mask) * 0.0),
}


@pytest.mark.parametrize(
    ("modality", "variant"),
    [("audio", name) for name in SOUND_VARIANTS] + [("text", name) for name in TEXT_VARIANTS],
)
def test_wrong_variants_are_told_apart(root: Path, modality: str, variant: str) -> None:
    folder, model = made("unfused", root)
    batch = texts([18, 9, 5]) if modality == "text" else spectrograms(model, 2)
    right = expected(model, modality, batch)["vector"]
    control = executable(folder, "torch", modality).run(batch)["vector"][:, 0]
    check_close(control, right, "the right one")
    forward = (TEXT_VARIANTS if modality == "text" else SOUND_VARIANTS)[variant](modality)
    check_rejected(executable(folder, "torch", modality, forward).run(batch)["vector"][:, 0], right, variant)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("modality", ["text", "audio"])
def test_bfloat16_stays_near(root: Path, engine: str, modality: str) -> None:
    """Cosine of what tells vectors apart: their mean is taken off first."""
    folder, model = made("unfused", root)
    rng = np.random.default_rng(5)
    batch = texts(rng.integers(4, LENGTH, 24).tolist()) if modality == "text" else spectrograms(model, 12)
    half, exact = (
        executable(folder, engine, modality, None, precision).run(batch)["vector"][:, 0]
        for precision in ("bfloat16", "float32")
    )
    a, b = half - exact.mean(0), exact - exact.mean(0)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosine) > 0.99 and cosine.min() > 0.97, (np.median(cosine), cosine.min())


def test_training_reaches_every_weight(root: Path) -> None:
    """Under torch the same forward trains: statistics of the bands move, every weight has a gradient."""
    folder, model = made("unfused", root)
    values = {name: torch.from_numpy(t.float32().copy()) for name, t in ours(folder).tensors.items()}
    moved = "audio_model.audio_encoder.batch_norm.running_mean"
    before = values[moved].clone()
    trained = {n: v.requires_grad_() for n, v in values.items() if "running" not in n and "logit" not in n}
    ops, p = TorchOps(training=True), Params(values, values.__getitem__)
    config = dataclasses.replace(
        ours(folder).config, text=ours(folder).config.text._replace(hidden_dropout_prob=0.0)
    )
    for tower, batch in (("text", texts([LENGTH, 9])), ("audio", spectrograms(model, 2))):
        arrays = SimpleNamespace(**{name: torch.from_numpy(array) for name, array in batch.items()})
        out = getattr(clap, f"forward_{tower}")(ops, p, config, arrays)
        (out * torch.randn(out.shape)).sum().backward()
    without = {n for n, v in trained.items() if v.grad is None or v.grad.abs().max() == 0}
    assert not without
    assert not torch.equal(values[moved], before)


# --- configs ------------------------------------------------------------------------------------------------------


def test_a_bare_config_means_what_transformers_means(tmp_path: Path) -> None:
    config, full = read_config(clap, {"model_type": "clap"}, tmp_path), ClapConfig()
    names = set(clap.Text._fields)
    assert all(getattr(full.text_config, name) == getattr(config.text, name) for name in names)
    for name in set(clap.Audio._fields) - {"width", "depths", "heads", "patch_stride"}:
        assert getattr(full.audio_config, name) == getattr(config.audio, name), name
    assert list(config.audio.depths) == list(full.audio_config.depths)
    assert list(config.audio.heads) == list(full.audio_config.num_attention_heads)
    assert [config.audio.patch_stride] * 2 == list(full.audio_config.patch_stride)
    assert config.audio.width == full.audio_config.patch_embeds_hidden_size
    assert config.audio.last_width == full.audio_config.hidden_size
    assert (config.dim, config.max_length) == (512, 512)


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        ({"enable_fusion": True, "fusion_type": "channel_map"}, "fusion_type 'channel_map'"),
        ({"patch_size": [4, 8]}, "only squares"),
        ({"patch_stride": [4, 2]}, "only squares"),
        ({"patch_size": 5}, "patch_size 5 with patch_stride 4"),
        ({"patch_stride": 8}, "patch_size 4 with patch_stride 8"),
        ({"num_mel_bins": 60}, "spec_size 256 is covered as a multiple of num_mel_bins"),
        ({"window_size": 7}, "windows of 7 x 7"),
        ({"spec_size": 128}, "room for 256 frames; .* at least 1,001"),
        ({"spec_size": 1024}, "256 x 256 patches .* at most 128 x 128 are covered"),
        ({"flatten_patch_embeds": False}, "flatten_patch_embeds False"),
        ({"patch_embed_input_channels": 3}, "patch_embed_input_channels 3"),
        ({"hidden_act": "mish"}, "hidden_act 'mish'"),
    ],
)
def test_refused_variants(audio: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        read_config(clap, {"model_type": "clap", "audio_config": audio}, Path("folder"))


def test_configs_that_contradict_themselves_or_the_weights(root: Path) -> None:
    for audio, said in (
        ({"num_attention_heads": [4, 8]}, r"2 num_attention_heads for 4 stages"),
        ({"num_attention_heads": [4, 8, 16, 31]}, r"num_attention_heads\[3\] is 31"),
    ):
        with pytest.raises(ModelError, match=said):
            read_config(clap, {"model_type": "clap", "audio_config": audio}, Path("folder"))
    with pytest.raises(ModelError, match=r"num_attention_heads is 7, where a divisor of hidden_size"):
        read_config(clap, {"model_type": "clap", "text_config": {"num_attention_heads": 7}}, Path("folder"))
    folder, _ = made("unfused", root)
    published = json.loads((folder / "config.json").read_text())
    published["projection_dim"] = 50
    with pytest.raises(ModelError, match=r"dim is 50, but .*_projection.linear1.weight"):
        check_shapes(clap.SHAPES, read_config(clap, published, folder), ours(folder).tensors, folder)


# --- LAION's files ------------------------------------------------------------------------------------------------


def laions_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' names of weights as LAION's files have them, key for key."""
    spelt = {
        "audio_model.audio_encoder": "audio_branch",
        "text_model": "text_branch",
        ".batch_norm.": ".bn0.",
        "projection.linear1": "projection.0",
        "projection.linear2": "projection.2",
    }
    block = {
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.output.dense": "attn.proj",
        "attention.self.relative": "attn.relative",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    renamed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        for theirs, laions in {**spelt, **(block if ".blocks." in name else {})}.items():
            name = name.replace(theirs, laions)
        renamed["module." + name] = value
    for name in [name for name in renamed if ".blocks." in name and ".attention.self.query." in name]:
        parts = [renamed.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        renamed[name.replace("attention.self.query", "attn.qkv")] = torch.cat(parts)
    more = ["audio_branch.tscam_conv.weight", "audio_branch.spectrogram_extractor.stft.conv_real.weight"]
    more += ["text_transform.sequential.0.weight", "audio_branch.layers.0.blocks.1.attn_mask"]
    return renamed | {f"module.{name}": torch.ones(3, 3) for name in more}


@pytest.mark.parametrize("kind", ["unfused", "fused"])
def test_laions_names(root: Path, kind: str) -> None:
    folder, model = made(kind, root)
    state = laions_names(model.state_dict())
    assert {
        "module.audio_branch.layers.0.blocks.0.attn.qkv.weight",
        "module.audio_branch.layers.2.blocks.1.attn.relative_position_bias_table",
        "module.audio_branch.layers.0.downsample.reduction.weight",
        "module.text_branch.encoder.layer.0.attention.self.query.weight",
        "module.text_branch.pooler.dense.bias",
        "module.audio_projection.2.bias",
        "module.logit_scale_a",
    } <= set(state)
    renamed = read(clap, json.loads((folder / "config.json").read_text()), state)
    assert set(renamed.tensors) == set(ours(folder).tensors)
    for name, tensor in renamed.tensors.items():
        np.testing.assert_array_equal(tensor.float32(), ours(folder).tensors[name].float32(), name)


def test_laions_files(tmp_path: Path, root: Path) -> None:
    claims: Any = clap.CLAIMS
    for name, published in claims["files"].items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).touch()
        assert registry.family_of_config(registry.config_of_files(folder), folder).name == "clap"
        config = read_config(clap, published, folder)
        assert config.text.layer_norm_eps == 1e-5 and config.audio.enable_fusion == ("fusion" in name)
        assert config.audio.last_width == (1024 if name.startswith("music") else 768)
    with pytest.raises(
        ModelError, match=r"copy tokenizer\.json and tokenizer_config\.json of FacebookAI/roberta"
    ):
        clap.load_original(folder, {})
    checkpoints.byte_level(folder)
    torch.save({"epoch": 9, "state_dict": laions_names(made("unfused", root)[1].state_dict())}, folder / name)
    found = clap.load_original(folder, {"projection_dim": 48})
    assert found is not None and found[0] == {"model_type": "clap", "projection_dim": 48}
    assert "module.audio_branch.bn0.weight" in found[1] and found[2].special_count == 2
    assert clap.load_original(root / "unfused", {}) is None
