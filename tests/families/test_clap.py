"""CLAP against transformers: both towers, every hidden state, both engines; wrong formulas are told apart."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ClapConfig, ClapModel

import checkpoints
from encoders import ENGINES
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import bert, clap
from omnivec.inputs.text.text import INPUTS
from omnivec.models import registry
from omnivec.models.model import check_shapes, read_config
from omnivec.ops import grid
from omnivec.ops.base import EngineSettings, Input
from omnivec.testing import check_close, check_rejected
from omnivec.vectors.labels import zero_shot
from pictures import Read, read

VOCABULARY, LENGTH = 90, 24
TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH + 2, "num_hidden_layers": 3}
TEXT |= {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
AUDIO = {"patch_embeds_hidden_size": 16, "depths": [2, 1, 3, 2], "num_attention_heads": [2, 4, 4, 8]}
AUDIO |= {"hidden_size": 128, "mlp_ratio": 2.0}
# Kind -> what each tower has beside the sizes above, and the rest.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "unfused": ({}, {}, {"projection_dim": 48}),
    "fused": ({}, {"enable_fusion": True, "fusion_type": "aff_2d"}, {"projection_dim": 64}),
    "other sizes": (
        {"layer_norm_eps": 1e-5, "hidden_act": "relu"},
        {"num_mel_bins": 32, "patch_size": 8, "window_size": 4, "depths": [2, 2], "hidden_size": 32}
        | {"num_attention_heads": [2, 8], "patch_stride": [8, 8], "layer_norm_eps": 1e-4, "qkv_bias": False}
        | {"enable_patch_layer_norm": False},
        {"projection_dim": 40, "projection_hidden_act": "gelu"},
    ),
    "overlapping patches": (
        {},
        {"patch_size": 8, "depths": [1, 2], "hidden_size": 32, "num_attention_heads": [2, 2]},
        {"projection_dim": 32},
    ),
}
FRAMES = 1001


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clap")


def sounds(model: Any, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Spectrograms in decibels: bands of their own level, slow and quick changes."""
    bands, rng = model.config.audio_config.num_mel_bins, np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.standard_normal((count, 1, 9, 5)))
    slow = torch.nn.functional.interpolate(coarse, (FRAMES, bands), mode="bicubic")[:, 0].numpy()
    level = np.linspace(-20, -60, bands)
    return {"sound": (level + 12 * slow + 6 * rng.standard_normal((count, FRAMES, bands))).astype(np.float32)}


@functools.cache
def made(kind: str, root: Path) -> tuple[Path, Any]:
    """A checkpoint as transformers publishes one, and transformers' model of it."""
    text, audio, rest = KINDS[kind]
    config = ClapConfig(text_config=TEXT | text, audio_config=AUDIO | audio, **rest)
    model = ClapModel._from_config(config, attn_implementation="eager").eval()
    for i, tower in enumerate(model.children()):
        checkpoints.discriminate(tower, i)
    encoder, generator = model.audio_model.audio_encoder, torch.Generator().manual_seed(1)
    with torch.no_grad():
        encoder.patch_embed.proj.weight /= encoder.patch_embed.proj.weight.shape[-1] ** 0.5
        seen = torch.from_numpy(sounds(model, 6, 9)["sound"])
        encoder.batch_norm.running_mean.copy_(seen.mean((0, 1)))
        encoder.batch_norm.running_var.copy_(seen.var((0, 1)))
        for name, value in encoder.named_parameters():
            if name.endswith("bias_table"):
                value.copy_(torch.randn(value.shape, generator=generator))
            elif name.endswith("output.dense.weight"):
                value /= 2  # about as training leaves the ends of branches: layers blow rounding up otherwise
        model.logit_scale_a.fill_(2.5)
        model.logit_scale_t.fill_(1.5)
    model.save_pretrained(root / kind)
    return root / kind, model


@functools.cache
def ours(folder: Path) -> Read:
    published = json.loads((folder / "config.json").read_text())
    assert registry.family_of_config(published, folder).name == "clap"
    found = read(clap, published, folder)
    check_shapes(clap.SHAPES, found.config, found.tensors, folder)
    return found


@functools.cache
def executable(folder: Path, engine: str, tower: str, forward: Any = None, precision: Any = "float32") -> Any:
    """A tower's hidden states and vector on an engine; compiled once."""
    model = ours(folder)
    spectrograms = (Input("sound", np.float32, (None, None, model.config.audio.num_mel_bins)),)
    inputs = INPUTS if tower == "text" else spectrograms

    def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
        batch = SimpleNamespace(**{one.name: get(one.name) for one in inputs})
        vector = (forward or getattr(clap, f"forward_{tower}"))(ops, p, model.config, batch)
        return {str(i): state for i, state in enumerate(ops.states)} | {"vector": vector}

    return ENGINES[engine](program, inputs, model.tensors, EngineSettings(precision, threads=1))


def texts(lengths: list[int], padding: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Random ids, padded."""
    width = max(lengths) + padding
    ids = np.random.default_rng(seed).integers(4, VOCABULARY, (len(lengths), width))
    mask = np.arange(width) < np.array(lengths)[:, None]
    return {"ids": np.where(mask, ids, 1).astype(np.int32), "mask": mask.astype(np.int32)}


INTERPOLATE = torch.nn.functional.interpolate


def in_float32(x: torch.Tensor, size: tuple[int, int], **how: Any) -> torch.Tensor:
    """torch's interpolation of the axis of frames, whose places it computes in float32 for sounds in float32."""
    unit = torch.eye(x.shape[2])[None, None]
    return INTERPOLATE(unit, (size[0], x.shape[2]), **how)[0, 0].to(x.dtype) @ x


def expected(model: Any, tower: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """transformers' hidden states and projected vector; no sound is longer than the model reads.

    In float64, as its own rounding in float32 takes up most of what is allowed, or more.
    """
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "interpolate", in_float32)
        try:
            return _expected(model.double(), tower, batch)
        finally:
            model.float()


def _expected(model: Any, tower: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if tower == "text":
        ids, mask = (torch.from_numpy(batch[name]).long() for name in ("ids", "mask"))
        out = model.text_model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        states, vector = out.hidden_states, model.text_projection(out.pooler_output)
    else:
        sound = torch.from_numpy(batch["sound"]).double()[:, None]
        is_longer = torch.zeros(len(sound), 1, dtype=torch.bool)
        channels = 4 if model.config.audio_config.enable_fusion else 1
        out = model.audio_model(
            input_features=sound.expand(-1, channels, -1, -1),
            is_longer=is_longer,
            output_hidden_states=True,
        )
        states = [state.flatten(2).transpose(1, 2) for state in out.hidden_states]
        vector = model.audio_projection(out.pooler_output)
    return {str(i): state.numpy() for i, state in enumerate(states)} | {"vector": vector.numpy()}


def check(got: dict[str, np.ndarray], right: dict[str, np.ndarray], batch: Any, what: str) -> None:
    assert set(got) == set(right)
    assert got["vector"].shape == (len(right["vector"]), 1, right["vector"].shape[1])
    check_close(got["vector"][:, 0], right["vector"], f"{what}: vector")
    inside = batch["mask"] == 1 if "mask" in batch else np.s_[:]
    for name in right.keys() - {"vector"}:
        check_close(got[name][inside], right[name][inside], f"{what}: hidden state {name}")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_sounds_equal_transformers(root: Path, kind: str, engine: str) -> None:
    folder, model = made(kind, root)
    for count in (1, 3):
        batch = sounds(model, count, seed=count)
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
    batch, one = sounds(model, 4), executable(folder, engine, "audio")
    whole = one.run(batch)["vector"]
    for i, sound in enumerate(batch["sound"]):
        check_close(one.run({"sound": sound[None]})["vector"][0], whole[i], f"sound {i} by itself")


@pytest.mark.parametrize(("old", "new"), [(1001, 1024), (1001, 2048), (2, 7), (9, 9)])
def test_positions_interpolated_as_torch_interpolates_them(old: int, new: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, old, 5)).astype(np.float32)
    right = torch.nn.functional.interpolate(torch.from_numpy(x), (new, 5), mode="bicubic", align_corners=True)
    check_close(grid.aligned(old, new) @ x[0, 0], right[0, 0].numpy(), f"{old} to {new}")


def test_logits_equal_transformers(root: Path) -> None:
    """From the weights' scale to the probabilities of each text for each sound."""
    folder, model = made("unfused", root)
    said, heard = texts([LENGTH, 9, 4]), sounds(model, 3)
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


def row_by_row(right: Any, ops: Any, p: Any, x: Any, side: int, width: int) -> Any:
    """Patch merging in the order upper left, upper right, lower left, lower right."""
    turned = ops.transpose(ops.reshape(x, (0, side, side, width)), (0, 2, 1, 3))
    y = right(ops, p, ops.reshape(turned, (0, side * side, width)), side, width)
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
    "no shifted windows": function("_rolled", lambda right, ops, x, shift: x),
    "windows shifted back": function(
        "_rolled", lambda right, ops, x, shift: right(ops, x, (x.shape[1] - shift) % x.shape[1])
    ),
    "no mask of shifted windows": function(
        "_apart", lambda right, side, w, shift: np.zeros_like(right(side, w, shift))
    ),
    "no relative positions": operation("embedding", lambda right, _, ids, table: right(ids, table * 0)),
    "relative positions turned round": function("_offsets", lambda right, w: right(w).T.copy()),
    "patches merged row by row": function("_merged", row_by_row),
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
    batch = texts([18, 9, 5]) if modality == "text" else sounds(model, 2)
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
    batch = texts(rng.integers(4, LENGTH, 24).tolist()) if modality == "text" else sounds(model, 12)
    half, exact = (
        executable(folder, engine, modality, None, precision).run(batch)["vector"][:, 0]
        for precision in ("bfloat16", "float32")
    )
    a, b = half - exact.mean(0), exact - exact.mean(0)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosine) > 0.99 and cosine.min() > 0.97, (np.median(cosine), cosine.min())


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
        ({"patch_stride": [4, 8]}, "only squares"),
        ({"num_mel_bins": 60}, "spec_size 256 is covered as a multiple of num_mel_bins"),
        ({"window_size": 7}, "windows of 7 x 7"),
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
    folder, _ = made("unfused", root)
    published = json.loads((folder / "config.json").read_text())
    published["projection_dim"] = 50
    with pytest.raises(ModelError, match=r"dim is 50, but .*_projection.linear1.weight"):
        check_shapes(clap.SHAPES, read_config(clap, published, folder), ours(folder).tensors, folder)
