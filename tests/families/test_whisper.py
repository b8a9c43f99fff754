"""Whisper's encoder against transformers, in the layouts of transformers and of CTranslate2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import ENGINES, changed
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.families import _whisper_features, whisper
from omnivec.models import registry
from omnivec.models.model import known_keys, read_config
from omnivec.testing import check_close, check_rejected
from omnivec.validation.json_files import read_json
from omnivec.weights import content_hashes, same_weights
from pictures import with_operation
from whispers import LENGTHS, checkpoint, ctranslate2, expected, extractor, read, sounds


@pytest.fixture(scope="module", params=["80 bands", "128 bands"])
def made(request: Any, tmp_path_factory: Any) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("whisper")
    changes = {"num_mel_bins": int(request.param.split()[0])}
    return folder, checkpoint(folder, **changes)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_state_of_padded_sounds_equals_transformers(made: tuple[Path, Any], engine: str) -> None:
    folder, model = made
    ours, samples = read(folder, layer=3), sounds()
    got, theirs = ours.states(engine, ours.batch(samples)), expected(model, samples)
    assert len(got) == len(theirs) == 4
    for i, (a, b) in enumerate(zip(got, theirs, strict=True)):
        check_close(a, b, f"state {i}")
    vectors = ours.vectors(engine, ours.batch(samples))
    means = [state[: -(-n // 320)].mean(0) for state, n in zip(theirs[-1], LENGTHS, strict=True)]
    check_close(vectors, np.stack(means), "the vectors")


def cropped(model: Any, samples: np.ndarray) -> list[np.ndarray]:
    """A plain statement of the fast variant: the encoder reads the frames of the states of one sound, and no others.

    transformers' encoder refuses such a spectrogram, so its layers are called here one by one.
    """
    encoder, states = model.model.encoder, -(-len(samples) // 320)
    features = extractor(model.config)(samples, sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        x = torch.nn.functional.gelu(encoder.conv1(features[:, :, : 2 * states]))
        x = (
            torch.nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)
            + encoder.embed_positions.weight[:states]
        )
        out = [x]
        for layer in encoder.layers:
            out.append(layer(out[-1], None))
        out[-1] = encoder.layer_norm(out[-1])
    return [state[0].numpy() for state in out]


@pytest.mark.parametrize("further", [0, 7])
@pytest.mark.parametrize("engine", ENGINES)
def test_fast_reads_each_sound_alone(made: tuple[Path, Any], engine: str, further: int) -> None:
    folder, model = made
    ours, samples = read(folder, layer=3, fast=True), sounds()
    got = ours.states(engine, ours.batch(samples, further))
    for i, one in enumerate(samples):
        theirs = cropped(model, one)
        assert len(got) == len(theirs) == 4
        for j, (a, b) in enumerate(zip(got, theirs, strict=True)):
            check_close(a[i, : len(b)], b, f"sound {i}, state {j}")
    vectors = ours.vectors(engine, ours.batch(samples, further))
    check_close(vectors, np.stack([cropped(model, one)[-1].mean(0) for one in samples]), "the vectors")


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_sound_is_the_same_in_any_batch(made: tuple[Path, Any], engine: str, fast: bool) -> None:
    ours, samples = read(made[0], fast=fast), sounds()
    whole = ours.vectors(engine, ours.batch(samples))
    alone = np.concatenate([ours.vectors(engine, ours.batch([one])) for one in samples])
    check_close(alone, whole, engine)


def test_the_layer_is_chosen_by_the_config(made: tuple[Path, Any]) -> None:
    folder, model = made
    theirs, samples = expected(model, sounds()), sounds()
    for layer, state in ((None, 2), (0, 0), (1, 1), (3, 3)):
        ours = read(folder, layer=layer)
        got = ours.states("openvino", ours.batch(samples))
        assert len(got) == state + 1
        check_close(got[-1], theirs[state], f"layer {layer}")


def by_zeros(right: Any, x: Any, *rest: Any, **more: Any) -> Any:
    return right(x, *rest, **more) * 0.0


VARIANTS = {
    "the tanh formula of GELU": with_operation(whisper, "gelu", lambda right, x: right(x, "tanh")),
    "ReLU for GELU": with_operation(whisper, "gelu", lambda right, x: x * (x > 0)),
    "an epsilon of 0.1": with_operation(whisper, "layer_norm", lambda right, x, p, eps: right(x, p, 0.1)),
    "no positions": with_operation(whisper, "embedding", by_zeros),
    "a stride of 2 in the first convolution": with_operation(
        whisper, "conv", lambda right, x, p, stride, padding: right(x, p, [3 - stride[0]], padding)
    ),
    "another scale of attention": with_operation(
        whisper,
        "attention",
        lambda right, q, k, v, bias, scale, rate: right(q, k, v, bias, 1.1 * scale, rate),
    ),
    "silence of zeros": with_operation(whisper, "maximum", by_zeros),
    "other heads": changed(whisper, encoder_attention_heads=2),
    "a layer left out": changed(whisper, layer=2),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(tmp_path: Path, variant: str) -> None:
    model = checkpoint(tmp_path)
    ours, samples = read(tmp_path, layer=3), sounds()
    reference, batch = expected(model, samples)[-1], ours.batch(samples)
    check_close(ours.states("torch", batch)[-1], reference, "the right one")
    check_rejected(ours.states("torch", batch, VARIANTS[variant])[-1], reference, variant)


def test_fast_is_told_apart_from_padded(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    padded, fast = read(tmp_path), read(tmp_path, fast=True)
    batch = sounds()
    vectors = padded.vectors("torch", padded.batch(batch))
    check_rejected(fast.vectors("torch", fast.batch(batch)), vectors, "fast")


def test_the_front_end_equals_transformers(made: tuple[Path, Any]) -> None:
    """Rows as far as the sound reaches; behind them, all frames of the padded sound have one value."""
    config = made[1].config
    features = _whisper_features.WhisperRows(config.num_mel_bins, 16000)
    samples = [*sounds(), np.zeros(700, np.float32), sounds((1,))[0], sounds((9440,), 5)[0]]
    for one in samples:
        theirs = extractor(config)(one, sampling_rate=16000).input_features[0].T
        rows = features(one)
        assert rows.dtype == np.float32 and len(rows) == features.count(len(one)) == -(-len(one) // 320) + 1
        got = rows.reshape(-1, config.num_mel_bins)[: len(theirs)]
        np.testing.assert_allclose(got, theirs[: len(got)], atol=2e-4)
        assert np.abs(got - theirs[: len(got)]).mean() < 1e-6
        assert np.ptp(theirs[len(got) :]) == 0 if len(got) < len(theirs) else True
        if len(got) < len(theirs):
            assert theirs[-1, 0] == pytest.approx(max(-1.5, got.max() - 2), abs=1e-6)


REFUSED = {
    "do_normalize": True,
    "sampling_rate": 8000,
    "feature_size": 64,
    "chunk_length": 20,
    "dither": 0.1,
    "hop_length": 80,
}


@pytest.mark.parametrize("key", REFUSED)
def test_settings_that_change_vectors_are_refused(made: tuple[Path, Any], key: str) -> None:
    folder, _ = made
    config = read_config(whisper, read_json(folder / "config.json"), folder)
    settings = read_json(folder / "preprocessor_config.json")
    assert whisper.sound(config, settings).rate == 16000
    with pytest.raises(UnsupportedModel, match=f"preprocessor_config.json: {key}"):
        whisper.sound(config, settings | {key: REFUSED[key]})


def test_a_layer_beyond_the_last_is_refused(made: tuple[Path, Any]) -> None:
    published = read_json(made[0] / "config.json")
    with pytest.raises(UnsupportedModel, match="layer 4: the encoder has the hidden states 0 to 3"):
        read_config(whisper, published | {"layer": 4}, Path("folder"))
    with pytest.raises(UnsupportedModel, match="scale_embedding"):
        known_keys(whisper, published | {"scale_embedding": True}, Path("folder"))


def half(model: Any) -> Any:
    """transformers' model with its weights rounded to float16."""
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.half().float())
    return model


@pytest.mark.parametrize("engine", ENGINES)
def test_ctranslate2s_folder_is_the_same_model(tmp_path: Path, engine: str) -> None:
    model = half(checkpoint(tmp_path / "published"))
    model.save_pretrained(tmp_path / "published")
    folder = ctranslate2(tmp_path / "converted", model)
    assert registry.family_of_config(read_json(folder / "config.json"), folder).name == "whisper"
    ours, samples = read(folder, layer=3), sounds()
    for i, (a, b) in enumerate(
        zip(ours.states(engine, ours.batch(samples)), expected(model, samples), strict=True)
    ):
        check_close(a, b, f"state {i}")
    published = read(tmp_path / "published", layer=3)
    assert ours.config == published.config and ours.tensors.keys() == published.tensors.keys()
    assert same_weights(content_hashes(ours.tensors), content_hashes(published.tensors))


def test_what_is_not_whisper_in_ctranslate2s_layout_is_refused(tmp_path: Path) -> None:
    folder = ctranslate2(tmp_path / "converted", checkpoint(tmp_path / "published"))
    whole = (folder / "model.bin").read_bytes()
    gelu = b"encoder/activation\0\0\2\2\0\0\0\3"
    assert gelu in whole
    for wrong, error, words in (
        (whole.replace(b"WhisperSpec", b"MarianxSpec"), UnsupportedModel, "'MarianxSpec'"),
        (whole.replace(gelu, gelu[:-1] + b"\1"), UnsupportedModel, "encoder/activation 1; only 3"),
        (whole.replace(b"encoder/conv1/weight", b"encoder/convX/weight"), WeightsError, "conv1.weight"),
    ):
        (folder / "model.bin").write_bytes(wrong)
        with pytest.raises(error, match=words):
            read(folder)
