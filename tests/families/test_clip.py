"""CLIP and SigLIP against transformers: both towers, both engines; wrong formulas are told apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPConfig, SiglipConfig

from omnivec.errors import UnsupportedModel
from omnivec.families import clip
from omnivec.models.model import known_keys, read_config
from omnivec.testing import check_close, check_rejected
from omnivec.vectors.labels import zero_shot
from towers import (
    END,
    ENGINES,
    KINDS,
    LENGTH,
    VOCABULARY,
    Made,
    check,
    executable,
    expected,
    make,
    pixels,
    read,
    texts,
)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("towers")
    return folder, request.param, make(folder, request.param)


@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(1, LENGTH), min_size=1, max_size=4),
    padding=st.integers(0, 9),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("engine", ENGINES)
def test_texts_equal_transformers(
    made: Made, engine: str, lengths: list[int], padding: int, seed: int
) -> None:
    folder, kind, model = made
    batch = texts(kind, lengths, padding, seed)
    got = executable(folder, engine, "text").run(batch)
    assert len(got) == model.config.text_config.num_hidden_layers + 2
    check(kind, got, expected(kind, model, "text", batch), batch, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [1, 3])
def test_images_equal_transformers(made: Made, engine: str, count: int) -> None:
    folder, kind, model = made
    batch = pixels(model, count, seed=count)
    got = executable(folder, engine, "image").run(batch)
    assert len(got) == model.config.vision_config.num_hidden_layers + 2
    check(kind, got, expected(kind, model, "image", batch), batch, engine)


@pytest.mark.parametrize("made", ["clip", "clip, named end"], indirect=True)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_end_counts_and_padding_never_does(made: Made, engine: str) -> None:
    folder, kind, model = made
    batch = texts(kind, [9, 14, 20], 4)
    batch["ids"][1, 5] = END[kind]
    right = expected(kind, model, "text", batch)["vector"]
    check_close(executable(folder, engine, "text").run(batch)["vector"][:, 0], right, "two ends")
    for filler in (END[kind], VOCABULARY - 1, 0):
        padded = {"ids": np.where(batch["mask"] == 1, batch["ids"], filler), "mask": batch["mask"]}
        got = executable(folder, engine, "text").run(padded)["vector"][:, 0]
        check_close(got, right, f"padded with {filler}")


@pytest.mark.parametrize("made", ["clip, named end"], indirect=True)
def test_a_text_without_an_end_is_read_as_transformers_reads_it(made: Made) -> None:
    folder, kind, model = made
    batch = texts(kind, [6, 9])
    batch["ids"][batch["ids"] == END[kind]] = 11
    for engine in ENGINES:
        got = executable(folder, engine, "text").run(batch)["vector"][:, 0]
        check_close(got, expected(kind, model, "text", batch)["vector"], engine)


def test_logits_equal_transformers(made: Made) -> None:
    """From the weights' scale and bias to the probabilities of each text for each image."""
    folder, kind, model = made
    said, seen = texts(kind, [LENGTH, 9, 4]), pixels(model, 5)
    label = executable(folder, "openvino", "text").run(said)["vector"][:, 0]
    image = executable(folder, "openvino", "image").run(seen)["vector"][:, 0]
    scale, bias = clip.logits(*read(folder))
    assert scale == pytest.approx(np.exp(2.5)) and bias == (None if kind.startswith("clip") else -1.25)
    ids, mask = (torch.from_numpy(said[name]).long() for name in ("ids", "mask"))
    given = {"attention_mask": mask} if kind.startswith("clip") else {}
    if not given:
        ids = torch.where(mask == 1, ids, model.config.text_config.pad_token_id)
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=torch.from_numpy(seen["pixels"]), **given).logits_per_image
    right = torch.softmax(logits, 1) if kind.startswith("clip") else torch.sigmoid(logits)
    np.testing.assert_allclose(zero_shot(image, label, scale, bias), right.numpy(), rtol=2e-4, atol=1e-7)


# --- wrong variants -----------------------------------------------------------------------------------------------


def towers(**changes: Any) -> Callable[[str], Any]:
    """Forwards whose towers have another config."""

    def of(tower: str) -> Any:
        def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
            said = {name: getattr(config, name)._replace(**changes) for name in ("text", "vision")}
            return getattr(clip, f"forward_{tower}")(ops, p, dataclasses.replace(config, **said), batch)

        return forward

    return of


def operation(name: str, wrong: Callable[..., Any]) -> Callable[[str], Any]:
    """Forwards with one operation replaced; `wrong` gets the right one and the number of the call first."""

    def of(tower: str) -> Any:
        def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
            right, calls = getattr(ops, name), iter(range(10_000))
            setattr(ops, name, lambda *args: wrong(right, next(calls), *args))
            return getattr(clip, f"forward_{tower}")(ops, p, config, batch)

        return forward

    return of


def function(name: str, wrong: Callable[..., Any]) -> Callable[[str], Any]:
    """Forwards with one function of the family replaced while they run."""

    def of(tower: str) -> Any:
        def forward(*args: Any) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(clip, name, wrong)
                return getattr(clip, f"forward_{tower}")(*args)

        return forward

    return of


def post_norm(ops: Any, p: Any, tower: Any, x: Any, bias: Any) -> Any:
    x = ops.layer_norm(x + clip._attention(ops, p["self_attn"], tower, x, x, bias), p["layer_norm1"], 1e-5)
    return ops.layer_norm(x + clip._network(ops, p["mlp"], tower, x), p["layer_norm2"], 1e-5)


def bare(ops: Any, p: Any, tower: Any, x: Any, bias: Any) -> Any:
    x = x + clip._attention(ops, p["self_attn"], tower, x, x, bias)
    return x + clip._network(ops, p["mlp"], tower, ops.layer_norm(x, p["layer_norm2"], tower.layer_norm_eps))


def unpadded(ops: Any, config: Any, batch: Any) -> Any:
    return batch.ids


def last_linear(right: Any, call: int, x: Any, p: Any) -> Any:
    return x if call == 18 else right(x, p)  # behind the 6 of each of 3 layers


def mean_of_patches(ops: Any, p: Any, tower: Any, x: Any) -> Any:
    return ops.mean(x, 1, keep=True)


def without_residual(ops: Any, p: Any, tower: Any, x: Any) -> Any:
    y = clip._attention(ops, p["attention"], tower, ops.expand(p["probe"], x), x, None)
    return clip._network(ops, p["mlp"], tower, ops.layer_norm(y, p["layernorm"], tower.layer_norm_eps))


def turned(right: Any, call: int, x: Any, order: Any) -> Any:
    if call == 0:  # of the patches: those of a column follow each other
        return right(x, order)[:, [0, 3, 6, 1, 4, 7, 2, 5, 8]]
    return right(x, order)


BOTH = {
    "another epsilon": towers(layer_norm_eps=1e-3),
    "norms before the sublayers dropped": function("_layer", bare),
    "norms behind the sublayers": function("_layer", post_norm),
    "half the heads": towers(num_attention_heads=2),
    "a layer left out": towers(num_hidden_layers=2),
    "scale left out": operation(
        "attention", lambda right, _, q, k, v, bias, scale, *rest: right(q, k, v, bias, 1.0, *rest)
    ),
}
CAUSAL = function("_encoder", lambda ops, p, tower, x, bias, run=clip._encoder: run(ops, p, tower, x, None))
WRONG: dict[tuple[str, str], dict[str, Any]] = {
    ("clip", "text"): BOTH
    | {
        "exact GELU for QuickGELU": towers(hidden_act="gelu"),
        "no causal mask": CAUSAL,
        "the place before the end": operation(
            "take", lambda right, _, x, index: right(x, index - (index * 0 + 1))
        ),
        "the first place": operation("take", lambda right, _, x, index: right(x, index * 0)),
        "projection left out": operation("linear", last_linear),
        "last norm left out": operation(
            "layer_norm", lambda right, call, x, p, eps: x if call == 6 else right(x, p, eps)
        ),
    },
    ("clip", "image"): BOTH
    | {
        "exact GELU for QuickGELU": towers(hidden_act="gelu"),
        "first norm left out": operation(
            "layer_norm", lambda right, call, x, p, eps: x if call == 0 else right(x, p, eps)
        ),
        "last norm left out": operation(
            "layer_norm", lambda right, call, x, p, eps: x if call == 7 else right(x, p, eps)
        ),
        "projection left out": operation("linear", last_linear),
        "the class token last": operation("concat", lambda right, _, xs, axis: right(xs[::-1], axis)),
        "columns for rows": operation("transpose", turned),
    },
    ("siglip", "text"): BOTH
    | {
        "exact GELU for the tanh formula": towers(hidden_act="gelu"),
        "a causal mask": function(
            "_encoder",
            lambda ops, p, tower, x, bias, run=clip._encoder: run(
                ops, p, tower, x, ops.causal_bias(ops.cast(ops.not_equal(x[:, :, 0], 1e9), "int32"))
            ),
        ),
        "not padded to its length": function("_padded", unpadded),
        "padded with another token": lambda tower: (
            lambda ops, p, config, batch: clip.forward_text(
                ops, p, dataclasses.replace(config, pad_token_id=0), batch
            )
        ),
        "head left out": operation("linear", last_linear),
        "last norm left out": operation(
            "layer_norm", lambda right, call, x, p, eps: x if call == 6 else right(x, p, eps)
        ),
    },
    ("siglip", "image"): BOTH
    | {
        "exact GELU for the tanh formula": towers(hidden_act="gelu"),
        "the mean of the patches": function("_look", mean_of_patches),
        "no residual around the pooling's network": function("_look", without_residual),
        "last norm left out": operation(
            "layer_norm", lambda right, call, x, p, eps: x if call == 6 else right(x, p, eps)
        ),
        "columns for rows": operation("transpose", turned),
    },
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    folders = {kind: tmp_path_factory.mktemp("two") for kind in ("clip", "siglip")}
    return {kind: (folder, make(folder, kind)) for kind, folder in folders.items()}


@pytest.mark.parametrize(
    ("kind", "tower", "variant"), [(*place, name) for place, found in WRONG.items() for name in found]
)
def test_wrong_variants_are_told_apart(
    two: dict[str, tuple[Path, Any]], kind: str, tower: str, variant: str
) -> None:
    folder, model = two[kind]
    batch = texts(kind, [18, 9, 5]) if tower == "text" else pixels(model)
    right = expected(kind, model, tower, batch)["vector"]
    engine = "torch"
    control = executable(folder, engine, tower).run(batch)["vector"][:, 0]
    check_close(control, right, "the right one")
    wrong = executable(folder, engine, tower, WRONG[kind, tower][variant](tower)).run(batch)["vector"][:, 0]
    check_rejected(wrong, right, variant)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tower", ["text", "image"])
def test_bfloat16_stays_near(made: Made, engine: str, tower: str) -> None:
    """Cosine of what tells vectors apart: their mean is taken off first."""
    folder, kind, model = made
    rng = np.random.default_rng(5)
    batch = texts(kind, rng.integers(4, LENGTH, 48).tolist()) if tower == "text" else pixels(model, 48)
    half, exact = (
        executable(folder, engine, tower, None, precision).run(batch)["vector"][:, 0]
        for precision in ("bfloat16", "float32")
    )
    a, b = half - exact.mean(0), exact - exact.mean(0)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosine) > 0.999 and cosine.min() > 0.99, (np.median(cosine), cosine.min())


# --- configs ------------------------------------------------------------------------------------------------------


def test_bare_configs_mean_what_transformers_means(tmp_path: Path) -> None:
    for kind, config_class in (("clip", CLIPConfig), ("siglip", SiglipConfig)):
        config, full = read_config(clip, {"model_type": kind}, tmp_path), config_class()
        for own, theirs in ((config.text, full.text_config), (config.vision, full.vision_config)):
            assert all(getattr(theirs, name) == value for name, value in own._asdict().items())
        assert config.max_length == full.text_config.max_position_embeddings
        assert config.vocab_size == full.text_config.vocab_size
        assert config.image_size == full.vision_config.image_size
        assert config.patch_size == full.vision_config.patch_size
        assert config.dim == (512 if kind == "clip" else 768)


def test_old_configs_keep_their_towers_elsewhere(tmp_path: Path) -> None:
    """text_config_dict is the whole truth where it is there, as transformers reads it."""
    said = {"text_config": {"hidden_size": 99}, "text_config_dict": {"num_hidden_layers": 5}}
    config = read_config(clip, {"model_type": "clip", **said}, tmp_path)
    full = CLIPConfig(**said).text_config
    assert (config.text.hidden_size, config.text.num_hidden_layers) == (512, 5)
    assert full.num_hidden_layers == 5


def test_siglip_2_pads_as_its_tokenizer_does(tmp_path: Path) -> None:
    config = read_config(
        clip, {"model_type": "siglip", "text_config": {"vocab_size": 256000}, "vision_config": {}}, tmp_path
    )
    assert config.pad_token_id == 0
    assert read_config(clip, {"model_type": "siglip"}, tmp_path).pad_token_id == 1
    assert clip.with_tokenizer(config, SimpleNamespace(pad_id=4)).pad_token_id == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ({"model_type": "siglip2"}, "take a SigLIP 2 of fixed resolution"),
        ({"model_type": "clip", "text_config": {"hidden_act": "mish"}}, "hidden_act 'mish'"),
        ({"model_type": "siglip", "vision_config": {"vision_use_head": False}}, "vision_use_head"),
        ({"model_type": "clip", "vision_config": {"image_size": [224, 112]}}, "only squares"),
    ],
)
def test_refused_variants(published: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        known_keys(clip, published, Path("folder"))
