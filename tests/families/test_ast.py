"""AST against transformers, every hidden state, on both engines; the authors' names; wrong variants are told apart."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel

import checkpoints
import omnivec
from encoders import ENGINES, changed
from omnivec import Audio
from omnivec.errors import ItemError, ModelError, UnsupportedModel
from omnivec.families import ast
from omnivec.models import registry
from omnivec.models.model import check_shapes, known_keys
from omnivec.ops.base import EngineSettings, Input
from omnivec.ops.maps import rows
from omnivec.testing import check_close, check_family, check_rejected
from pictures import Read, read, with_operation
from sounds import speechlike

SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
SMALL |= {"num_mel_bins": 32, "max_length": 66, "patch_size": 8}
KINDS: dict[str, dict[str, Any]] = {
    "square strides": {"frequency_stride": 5, "time_stride": 5},
    "two strides": {"frequency_stride": 6, "time_stride": 9, "layer_norm_eps": 1e-5},
    "no overlap, no bias": {"frequency_stride": 8, "time_stride": 8, "qkv_bias": False, "hidden_act": "relu"},
}

NAMES = dict(enumerate(["Speech", "Dog", "Rain", "Siren", "Music", "Sine wave", "Silence"]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ast")


@functools.cache
def made(kind: str, root: Path) -> tuple[Path, ASTModel]:
    """A checkpoint as transformers publishes one, with its classifier, and transformers' model of it."""
    config = ASTConfig(**SMALL, **KINDS[kind], id2label=NAMES, attn_implementation="eager")
    model = checkpoints.discriminate(ASTForAudioClassification(config), len(kind))
    folder = root / kind
    with torch.no_grad():
        model.audio_spectrogram_transformer.embeddings.patch_embeddings.projection.weight /= 8**0.5
    model.save_pretrained(folder)
    return folder, model.audio_spectrogram_transformer


def ours(folder: Path) -> Read:
    published = json.loads((folder / "config.json").read_text())
    assert registry.family_of_config(published, folder).name == "ast"
    found = read(ast, published, folder)
    check_shapes(ast.SHAPES, found.config, found.tensors, folder)
    return found


def sounds(count: int, seed: int = 0) -> np.ndarray:
    shape = (count, SMALL["max_length"], SMALL["num_mel_bins"])
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.cache
def compiled(model: Read, engine: str, forward: Any = ast.forward, precision: Any = "float32") -> Any:
    def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
        last = forward(ops, p, model.config, SimpleNamespace(sound=get("sound"), lengths=None, mask=None))
        return {str(i): state for i, state in enumerate([*ops.states, last])}

    inputs = [Input("sound", np.float32, (None, None, model.config.num_mel_bins))]
    return ENGINES[engine](program, inputs, model.tensors, EngineSettings(precision, threads=1))


def states(model: Read, engine: str, batch: np.ndarray, *how: Any) -> list[np.ndarray]:
    found = compiled(model, engine, *how).run({"sound": batch})
    return [found[str(i)] for i in range(len(found))]


def expected(model: ASTModel, batch: np.ndarray) -> list[np.ndarray]:
    """transformers' hidden states, and its pooled vector."""
    with torch.no_grad():
        out = model(torch.from_numpy(batch), output_hidden_states=True)
    return [*(state.numpy() for state in out.hidden_states), out.pooler_output.numpy()[:, None]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_hidden_state_equals_transformers(root: Path, kind: str, engine: str) -> None:
    folder, model = made(kind, root)
    for count in (1, 3):
        batch = sounds(count, seed=count)
        got, right = states(ours(folder), engine, batch), expected(model, batch)
        assert len(got) == len(right) == SMALL["num_hidden_layers"] + 2
        for i, (a, b) in enumerate(zip(got, right, strict=True)):
            check_close(a, b, f"{engine}, hidden state {i}")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sound_does_not_depend_on_its_batch(root: Path, engine: str) -> None:
    model, batch = ours(made("two strides", root)[0]), sounds(4)
    whole = states(model, engine, batch)[-1]
    for i, sound in enumerate(batch):
        check_close(states(model, engine, sound[None])[-1][0], whole[i], f"sound {i} by itself")


def by_function(name: str, wrong: Callable[..., Any]) -> Any:
    """The family's forward with one function of the module replaced."""

    def forward(*args: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ast, name, wrong)
            return ast.forward(*args)

    return forward


def only_token(index: int) -> Any:
    return with_operation(ast, "mean", lambda right, x, axis, keep: x[:, index : index + 1])


def mean_of_all_tokens(ops: Any, p: Any, config: Any, batch: Any) -> Any:
    ast.forward(ops, p, config, batch)
    return ops.mean(ops.layer_norm(ops.states[-1], p["layernorm"], config.layer_norm_eps), 1, keep=True)


WRONG: dict[str, Any] = {
    "the class token only": only_token(0),
    "the distillation token only": only_token(1),
    "the mean of all tokens": mean_of_all_tokens,
    "the last norm left out": with_operation(
        ast, "layer_norm", lambda right, x, *rest: x if x.shape[1] == 2 else right(x, *rest)
    ),
    "another epsilon": changed(ast, layer_norm_eps=1e-3),
    "half the heads": changed(ast, num_attention_heads=2),
    "a layer left out": changed(ast, num_hidden_layers=2),
    "ReLU for GELU": changed(ast, hidden_act="relu"),
    "tanh for erf GELU": changed(ast, hidden_act="gelu_new"),
    "patches six bands apart, not five": changed(ast, frequency_stride=6),
    "patches in the order of frames": by_function(
        "rows", lambda ops, x, right=rows: right(ops, ops.transpose(x, (0, 1, 3, 2)))
    ),
    "the tokens exchanged": with_operation(
        ast, "concat", lambda right, xs, axis: right([xs[1], xs[0], *xs[2:]], axis)
    ),
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(root: Path, variant: str) -> None:
    folder, model = made("square strides", root)
    batch = sounds(2)
    right = expected(model, batch)[-1]
    check_close(states(ours(folder), "torch", batch)[-1], right, "the right one")
    check_rejected(states(ours(folder), "torch", batch, WRONG[variant])[-1], right, variant)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(root: Path, engine: str) -> None:
    model, batch = ours(made("square strides", root)[0]), sounds(12)
    exact, half = (
        states(model, engine, batch, ast.forward, how)[-1][:, 0] for how in ("float32", "bfloat16")
    )
    a, b = exact - exact.mean(0), half - exact.mean(0)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.99, cosine.min()


def authors_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' names of weights as the authors' files have them, key for key."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        name = re.sub(r"^layers\.(\d+)\.", r"v.blocks.\1.", name)
        name = re.sub(r"\.layernorm_(before|after)\.", lambda m: f".norm{1 + (m[1] == 'after')}.", name)
        name = name.replace(".attention.o_proj.", ".attn.proj.")
        name = re.sub(r"^embeddings\.(cls_token)", r"v.\1", name)
        name = name.replace("embeddings.distillation_token", "v.dist_token")
        name = name.replace("embeddings.position_embeddings", "v.pos_embed")
        name = name.replace("embeddings.patch_embeddings.projection", "v.patch_embed.proj")
        name = re.sub(r"^layernorm\.", "v.norm.", name)
        renamed["module." + name] = value
    for name in [name for name in renamed if ".q_proj." in name]:
        parts = [renamed.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        renamed[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    heads = {"v.head.weight": (9, 48), "v.head_dist.bias": (9,), "mlp_head.0.weight": (48,)}
    heads |= {"mlp_head.0.bias": (48,), "mlp_head.1.weight": (7, 48), "mlp_head.1.bias": (7,)}
    return renamed | {f"module.{name}": torch.ones(shape) for name, shape in heads.items()}


def test_the_authors_names(root: Path) -> None:
    folder, model = made("square strides", root)
    state = authors_names(model.state_dict())
    assert {
        "module.v.blocks.0.attn.qkv.weight",
        "module.v.blocks.2.mlp.fc1.bias",
        "module.v.norm.bias",
    } <= set(state)
    published = json.loads((folder / "config.json").read_text())
    renamed, batch = read(ast, published, state), sounds(2)
    assert set(renamed.tensors) == set(ours(folder).tensors)
    check_close(states(renamed, "torch", batch)[-1], expected(model, batch)[-1], "the authors' names")


def test_the_authors_files_state_their_strides(tmp_path: Path) -> None:
    claims: Any = ast.CLAIMS
    for name, published in claims["files"].items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).touch()
        assert registry.family_of_config(registry.config_of_files(folder), folder).name == "ast"
        stride = int(name.split("_")[1])
        assert published.get("frequency_stride", 10) == published.get("time_stride", 10) == stride


def test_a_bare_config_means_what_transformers_means(tmp_path: Path) -> None:
    config = read(ast, {"model_type": "audio-spectrogram-transformer"}, {}).config
    full = ASTConfig()
    assert config.positions == 1214 and config.frames == full.max_length
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "num_mel_bins"):
        assert getattr(config, name) == getattr(full, name)
    for name in ("frequency_stride", "time_stride", "hidden_act", "layer_norm_eps"):
        assert getattr(config, name) == getattr(full, name)


def test_what_does_not_fit_is_refused(root: Path) -> None:
    folder, _ = made("square strides", root)
    published = json.loads((folder / "config.json").read_text())
    with pytest.raises(UnsupportedModel, match="hidden_act 'mish'"):
        known_keys(ast, published | {"hidden_act": "mish"}, folder)
    with pytest.raises(ModelError, match="patch_size"):
        known_keys(ast, published | {"patch_size": [16, 8]}, folder)
    with pytest.raises(
        ModelError, match=r"positions is \d+, but embeddings.position_embeddings of the weights"
    ):
        longer = read(ast, published | {"max_length": 90}, folder)
        check_shapes(ast.SHAPES, longer.config, longer.tensors, folder)


# --- the front end ------------------------------------------------------------------------------------------------

CUT = {"num_mel_bins": 32, "max_length": 66}  # as SMALL has them
SETTINGS: dict[str, dict[str, Any]] = {
    "as published": CUT,
    "other statistics": CUT | {"mean": -6.85, "std": 5.57},
    "not normalised": CUT | {"do_normalize": False},
}


def small_config() -> Any:
    return read(ast, SMALL | {"model_type": "audio-spectrogram-transformer"}, {}).config


@pytest.mark.parametrize("kind", SETTINGS)
def test_spectrograms_equal_transformers(kind: str) -> None:
    extractor = ASTFeatureExtractor(**SETTINGS[kind])
    processing = ast.sound(small_config(), extractor.to_dict())
    assert (processing.rate, processing.shortest, processing.longest) == (16000, 400, 400 + 65 * 160)
    for count in (400, 5000, processing.longest, processing.longest + 900):
        samples = speechlike(1.0, seed=count)[:count]
        right = extractor(samples, sampling_rate=16000, return_tensors="np")["input_values"][0]
        rows = processing.rows_of(samples)
        assert rows.shape == right.shape and processing.features.count(count) == len(rows) == 66
        np.testing.assert_allclose(rows, right, atol=1e-3)
    with pytest.raises(ItemError, match=r"needs 0\.025 s"):
        processing.rows_of(samples[:399])


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_without_settings_they_are_audiosets() -> None:
    config = read(ast, {"model_type": "audio-spectrogram-transformer"}, {}).config
    alone, stated = ast.sound(config, {}), ast.sound(config, ASTFeatureExtractor().to_dict())
    assert alone.identity == stated.identity
    assert alone.seconds == 10.255  # 1024 frames of 25 ms every 10 ms


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"sampling_rate": 22050}, UnsupportedModel, "sampling_rate 22050"),
        ({"return_attention_mask": True}, UnsupportedModel, "return_attention_mask True"),
        ({"num_mel_bins": 64}, ModelError, "num_mel_bins is 64, but config.json has 32"),
        ({"max_length": 128}, ModelError, "max_length is 128, but config.json has 66"),
        ({"std": 0.0}, ModelError, "std is 0.0"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ast.sound(small_config(), CUT | settings)


# --- from sounds to vectors and classes -----------------------------------------------------------------------------

RATE = 16_000


@pytest.fixture(scope="module")
def loaded(root: Path) -> tuple[Path, ASTFeatureExtractor, ASTForAudioClassification]:
    """A folder with the settings of its front end, transformers' front end, and its model with the classifier."""
    folder, _ = made("two strides", root)
    extractor = ASTFeatureExtractor(**CUT)
    extractor.save_pretrained(folder)
    return folder, extractor, ASTForAudioClassification.from_pretrained(folder).eval()


def recordings() -> list[Audio]:
    """Up to what the small model reads, 0.675 seconds."""
    return [Audio(speechlike(seconds, RATE, seed=5), RATE) for seconds in (0.03, 0.3, 0.675)]


def heard(loaded: Any, sounds: list[Audio]) -> tuple[np.ndarray, np.ndarray]:
    """transformers' vectors of sounds, and the logits of its classes."""
    _, extractor, model = loaded
    batch = extractor([sound.samples for sound in sounds], sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        vectors = model.audio_spectrogram_transformer(**batch).pooler_output.numpy()
        return vectors, model(**batch).logits.numpy()


def test_vectors_equal_transformers(loaded: Any) -> None:
    right, _ = heard(loaded, recordings())
    for engine in ENGINES:
        model = omnivec.load(loaded[0], engine=engine, precision="float32")
        assert (model.modalities, model.dim, model.max_length) == (("audio",), 48, 0.675)
        check_close(model.encode(recordings()), right, engine)


def test_the_contract_of_families(loaded: Any) -> None:
    check_family(loaded[0], recordings())


def test_a_long_sound_is_cut_with_a_word_or_read_in_windows(loaded: Any) -> None:
    model = omnivec.load(loaded[0], precision="float32")
    samples = speechlike(1.75, RATE, seed=3)
    run = model.run([Audio(samples, RATE)])
    assert (run.seen.tolist(), run.lost.tolist()) == ([0.675], [pytest.approx(1.075)])
    windows = [Audio(part, RATE) for part in np.split(samples, [10_800, 21_600])]
    vectors = model.encode(windows)
    check_close(run.vectors[0], vectors[0], "its beginning")
    mean = np.average(vectors, axis=0, weights=[0.675, 0.675, 0.4])
    check_close(model.encode(Audio(samples, RATE), chunk="pool"), mean, "the mean of its windows")


def test_classes_equal_transformers(loaded: Any) -> None:
    _, logits = heard(loaded, recordings())
    model = omnivec.load(loaded[0], precision="float32")
    found = model.describe(model.encode(recordings()))
    assert [best[0][0] for best in found] == [NAMES[i] for i in logits.argmax(1)]
    right = 1 / (1 + np.exp(-logits))
    for best, row in zip(found, right, strict=True):
        assert [share for _, share in best] == pytest.approx(sorted(row, reverse=True)[: len(best)], rel=1e-4)


def test_classes_that_exclude_each_other_sum_to_one(loaded: Any) -> None:
    tensors, published = ours(loaded[0]).tensors, json.loads((loaded[0] / "config.json").read_text())
    single = ast.labels(published | {"problem_type": "single_label_classification"}, tensors)
    assert single is not None and single.names == tuple(NAMES.values())
    vectors, logits = heard(loaded, recordings())
    right = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(single.probabilities(vectors), right, rtol=1e-4)
    assert ast.labels({}, tensors) is None
    assert ast.labels(published, {}) is None
