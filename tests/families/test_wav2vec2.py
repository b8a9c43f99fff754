"""Wav2Vec 2.0, HuBERT, WavLM and Data2Vec against transformers, which runs each sound by itself, without padding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import omnivec
from encoders import ENGINES, changed, cosines, with_operation
from omnivec.errors import ItemErrors, ModelError, UnsupportedModel
from omnivec.families import _wav2vec2_encoder as layers
from omnivec.families import _wav2vec2_head as head
from omnivec.families import wav2vec2
from omnivec.families._frames import field_and_stride, frames
from omnivec.models.model import known_keys
from omnivec.testing import check_close, check_family, check_rejected
from omnivec.types import Audio
from speech import HEAD, KINDS, Forward, Read, expected_states, published, read, waveforms

# One second, the shortest sound, and lengths at which a last frame is just complete, and just not.
LENGTHS = [16000, 400, 7759, 7760, 23456]


def read_folder(folder: Path, **changes: Any) -> Read:
    config = json.loads((folder / "config.json").read_text()) | changes
    return read(wav2vec2, config, folder)


def states_of(model: Read, samples: int) -> int:
    """The number of states that the family announces."""
    states = wav2vec2.sound(model.config, {}).states
    assert states is not None
    return states(samples)


@pytest.fixture(scope="module", params=KINDS)
def made(request: Any, tmp_path_factory: Any) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("speech")
    return folder, published(folder, request.param)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_state_equals_transformers(made: tuple[Path, Any], engine: str) -> None:
    folder, model = made
    ours, sounds = read_folder(folder), waveforms(LENGTHS)
    for padding in (0, 1234):
        batched = ours.states(engine, sounds, padding=padding)
        for i, sound in enumerate(sounds):
            expected = expected_states(model, sound)
            assert len(batched) == len(expected) == ours.config.num_hidden_layers + 2
            for k, (state, right) in enumerate(zip(batched, expected, strict=True)):
                check_close(state[i, : len(right)], right, f"{engine}, {len(sound)} samples, state {k}")
            assert len(expected[-1]) == states_of(ours, len(sound))
    alone = ours.states(engine, sounds[:1])
    for state, right in zip(alone, expected_states(model, sounds[0]), strict=True):
        check_close(state[0], right, f"{engine}, alone")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_long_sound_equals_transformers(tmp_path: Path, engine: str) -> None:
    model, [sound] = published(tmp_path, "wavlm"), waveforms([480000])
    state = read_folder(tmp_path).states(engine, [sound])[-1]
    check_close(state[0], expected_states(model, sound)[-1], "30 seconds")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_layer_is_chosen(made: tuple[Path, Any], engine: str) -> None:
    folder, model = made
    [sound] = waveforms([9000])
    for layer in (0, 2, 3):
        ours = read_folder(folder, layer=layer)
        right = expected_states(model, sound)[layer]
        check_close(ours.states(engine, [sound])[-1][0], right, f"layer {layer}")
        assert ours.config.dim == right.shape[1]
        assert states_of(ours, 9000) == len(right)
    with pytest.raises(UnsupportedModel, match="layer 4: the model has the hidden states 0 to 3"):
        read_folder(folder, layer=4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "wavlm, norms first", "data2vec"])
def test_x_vectors_equal_transformers(tmp_path: Path, kind: str, engine: str) -> None:
    model = published(tmp_path, kind, "ForXVector", **HEAD, add_adapter=False)
    ours, sounds = read_folder(tmp_path), waveforms([5200, 16000, 9999])
    assert (ours.config.dim, wav2vec2.pooling(ours.config)) == (20, "cls")
    assert wav2vec2.sound(ours.config, {}).shortest == 5200
    batched = ours.states(engine, sounds, padding=77)[-1]
    for i, sound in enumerate(sounds):
        with torch.no_grad():
            right = model(torch.from_numpy(sound)[None]).embeddings
        check_close(batched[i], right.numpy(), f"{engine}, {len(sound)} samples")


@pytest.mark.parametrize("engine", ENGINES)
def test_weighted_layers_of_a_classifier(tmp_path: Path, engine: str) -> None:
    model = published(tmp_path, "hubert", "ForSequenceClassification", use_weighted_layer_sum=True)
    [sound] = waveforms([8000])
    with torch.no_grad():
        states = torch.stack(
            model.hubert(torch.from_numpy(sound)[None], output_hidden_states=True).hidden_states
        )
        right = (model.layer_weights.softmax(0)[:, None, None, None] * states).sum(0)[0]
    check_close(read_folder(tmp_path).states(engine, [sound])[-1][0], right.numpy(), "the weighted sum")


def test_a_config_with_weighted_layers_needs_weights_for_them(tmp_path: Path) -> None:
    published(tmp_path, "wav2vec2", use_weighted_layer_sum=True)
    assert not read_folder(tmp_path).config.use_weighted_layer_sum


def test_old_names_of_weight_norms(tmp_path: Path) -> None:
    published(tmp_path / "new", "hubert")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    for i, letter in enumerate("gv"):
        name = f"encoder.pos_conv_embed.conv.parametrizations.weight.original{i}"
        tensors[f"encoder.pos_conv_embed.conv.weight_{letter}"] = tensors.pop(name)
    (tmp_path / "old").mkdir()
    config = (tmp_path / "new" / "config.json").read_text()
    (tmp_path / "old" / "config.json").write_text(config)
    save_file(
        {f"hubert.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "old" / "model.safetensors"
    )
    old, new = read_folder(tmp_path / "old"), read_folder(tmp_path / "new")
    assert old.config == new.config
    assert old.tensors.keys() == new.tensors.keys()
    assert all(np.array_equal(old.tensors[name].data, tensor.data) for name, tensor in new.tensors.items())


def patched(module: Any, name: str, wrong: Callable[..., Any]) -> Forward:
    """The family's forward with one function of a module replaced; `wrong` gets the right one first."""

    def forward(*args: Any) -> Any:
        right = getattr(module, name)
        with patch.object(module, name, lambda *given: wrong(right, *given)):
            return wav2vec2.forward(*args)

    return forward


def sample_variance(right: Any, ops: Any, x: Any, p: Any, keep: Any, channels: int, eps: float) -> Any:
    count = keep.sum(2, keepdim=True)
    mean = (x * keep).sum(2, keepdim=True) / count
    variance = (((x - mean) * keep) ** 2).sum(2, keepdim=True) / (count - 1)
    return (x - mean) / (variance + eps).sqrt() * p["weight"][None, :, None] + p["bias"][None, :, None]


def weight_norm_of_outputs(right: Any, ops: Any, p: Any) -> Any:
    length, direction = (p[f"parametrizations.weight.original{i}"] for i in range(2))
    weight = direction * length / direction.norm(dim=(1, 2), keepdim=True)
    return type(p)(("weight", "bias"), {"weight": weight, "bias": p["bias"]}.__getitem__)


def shifted_positions(right: Any, ops: Any, p: Any, config: Any, x: Any, keep: Any) -> Any:
    return torch.roll(right(ops, p, config, x, keep), 1, 1)


def gate_of_normed(right: Any, ops: Any, p: Any, config: Any, x: Any) -> Any:
    return right(ops, p, config, torch.nn.functional.layer_norm(x, x.shape[-1:]))


def leaky(right: Any, ops: Any, x: Any, keep: Any) -> Any:
    return x


# Name -> kind of model, state that is compared, and the wrong forward function.
VARIANTS: dict[str, tuple[str, int, Forward]] = {
    "group norm over padding": (
        "wav2vec2",
        0,
        patched(wav2vec2, "masked_norm", lambda right, o, x, p, k, *how: right(o, x, p, k * 0 + 1, *how)),
    ),
    "sample variance": ("wav2vec2", 0, patched(wav2vec2, "masked_norm", sample_variance)),
    "an epsilon of 1e-4 in the group norm": (
        "wav2vec2",
        0,
        patched(wav2vec2, "masked_norm", lambda right, *args: right(*args[:-1], 1e-4)),
    ),
    "padded frames not zeroed": ("wav2vec2", 0, patched(layers, "zeroed", leaky)),
    "padding between the convolutions not zeroed": (
        "data2vec",
        0,
        patched(
            layers, "zeroed", lambda right, ops, x, keep: x if keep.shape[1] == 1 else right(ops, x, keep)
        ),
    ),
    "attention to padding": (
        "wav2vec2",
        -1,
        with_operation(wav2vec2, "padding_bias", lambda right, mask: right(mask) * 0),
    ),
    "positions shifted by a frame": ("wav2vec2", 0, patched(layers, "_positions", shifted_positions)),
    "weight norm of output channels": ("hubert", 0, patched(layers, "_weight_norm", weight_norm_of_outputs)),
    "norms after the layers": ("wav2vec2, norms first", -1, changed(wav2vec2, do_stable_layer_norm=False)),
    "an LN before the projection": ("wav2vec2", 0, changed(wav2vec2, feat_proj_layer_norm=False)),
    "WavLM's gate of normed input": ("wavlm", 1, patched(layers, "_gate", gate_of_normed)),
    "WavLM's bias without its gate": (
        "wavlm",
        1,
        patched(layers, "_gate", lambda right, *args: right(*args) * 0 + 1),
    ),
    "other buckets": ("wavlm", 1, changed(wav2vec2, max_bucket_distance=160)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_rejected(tmp_path: Path, variant: str) -> None:
    kind, at, forward = VARIANTS[variant]
    model, sounds = published(tmp_path, kind), waveforms([16000, 5000])
    ours, right = read_folder(tmp_path), expected_states(model, sounds[1])[at]
    check_close(ours.states("torch", sounds)[at][1, : len(right)], right, "the right one")
    check_rejected(ours.states("torch", sounds, forward)[at][1, : len(right)], right, variant)


def biased_spread(right: Any, ops: Any, p: Any, config: Any, x: Any, keep: Any) -> Any:
    more = torch.cat([keep, keep[:, -1:]], 1)
    return right(ops, p, config, torch.cat([x, x[:, -1:] * 0], 1), more)


X_VARIANTS: dict[str, Forward] = {
    "a frame of padding in the x-vector": patched(wav2vec2, "xvector", biased_spread),
    "no weights of layers": changed(wav2vec2, use_weighted_layer_sum=False),
    "no dilation": changed(wav2vec2, tdnn_dilation=(1, 1, 1, 1, 1)),
    "kernels in reverse": patched(head, "_windows", lambda right, x, *how: right(x, *how)[::-1]),
}


@pytest.mark.parametrize("variant", X_VARIANTS)
def test_wrong_x_vectors_are_rejected(tmp_path: Path, variant: str) -> None:
    model, [sound] = published(tmp_path, "wavlm", "ForXVector", **HEAD), waveforms([8000])
    with torch.no_grad():
        right = model(torch.from_numpy(sound)[None]).embeddings.numpy()
    ours = read_folder(tmp_path)
    check_close(ours.states("torch", [sound])[-1][0], right, "the right one")
    check_rejected(ours.states("torch", [sound], X_VARIANTS[variant])[-1][0], right, variant)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("kind", "task"), [("wav2vec2", "Model"), ("data2vec", "Model"), ("wavlm", "ForXVector")]
)
def test_bfloat16_stays_near(tmp_path: Path, kind: str, task: str, engine: str) -> None:
    # With AMX, oneDNN computes groups of 12 channels wrongly in bfloat16, also in transformers' models. The published
    # ones have groups of 48 or 64.
    published(tmp_path, kind, task, num_conv_pos_embedding_groups=3)
    ours, sounds = read_folder(tmp_path), waveforms([16000] * 6)
    exact, half = (
        ours.states(engine, sounds, precision=precision)[-1].mean(1) for precision in ("float32", "bfloat16")
    )
    # Weights as random as these amplify rounding: transformers' own bfloat16 gives 0.98.
    assert cosines(exact - exact.mean(0), half - exact.mean(0)).min() > 0.97


def test_frames_are_counted_as_transformers_counts_them(tmp_path: Path) -> None:
    model = published(tmp_path, "wav2vec2, adapters")
    ours, lengths = read_folder(tmp_path), torch.arange(400, 40000, 7)
    right = model._get_feat_extract_output_lengths(lengths).tolist()
    assert [states_of(ours, n) for n in lengths.tolist()] == right
    field, stride = field_and_stride(ours.config.conv_kernel, ours.config.conv_stride)
    assert (field, stride, frames(field - 1, field, stride)) == (400, 320, 0)


def test_the_extractors_settings_are_obeyed_or_refused(tmp_path: Path) -> None:
    published(tmp_path, "wav2vec2")
    config = read_folder(tmp_path).config
    read_as = wav2vec2.sound(
        config, {"sampling_rate": 8000, "do_normalize": False, "return_attention_mask": True}
    )
    assert (read_as.rate, read_as.shortest, read_as.short) == (8000, 400, "refuse")
    [sound] = waveforms([5000])
    assert np.array_equal(read_as.features(sound), sound)
    extractor = transformers.Wav2Vec2FeatureExtractor()
    right = extractor(sound, sampling_rate=16000).input_values[0]
    check_close(wav2vec2.sound(config, {}).features(sound), right, "standardised samples")
    for key, value in {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": 2}.items():
        with pytest.raises(UnsupportedModel, match=key):
            wav2vec2.sound(config, {key: value})
    with pytest.raises(ModelError, match="sampling_rate is '16 kHz', where a whole number"):
        wav2vec2.sound(config, {"sampling_rate": "16 kHz"})


def test_what_is_not_covered_is_refused(tmp_path: Path) -> None:
    for change, words in {
        "feat_extract_norm": ("batch", "feat_extract_norm 'batch' is none of group, layer"),
        "hidden_act": ("mish", "hidden_act 'mish'"),
    }.items():
        with pytest.raises(UnsupportedModel, match=words[1]):
            known_keys(wav2vec2, {"model_type": "wav2vec2", change: words[0]}, Path("folder"))
    adapted = {"model_type": "wavlm", "architectures": ["WavLMForXVector"], "add_adapter": True}
    with pytest.raises(UnsupportedModel, match="add_adapter"):
        known_keys(wav2vec2, adapted, Path("folder"))
    published(tmp_path, "wav2vec2")
    with pytest.raises(ModelError, match="conv_bias is True"):
        read_folder(tmp_path, conv_bias=True)
    with pytest.raises(ModelError, match=r"conv_layers\.0\.conv\.weight \(32, 1, 12\), not \(32, 1, 10\)"):
        read_folder(tmp_path, conv_kernel=[12, 3, 3, 3, 3, 2, 2])


@pytest.mark.parametrize(("kind", "task"), [("wav2vec2", "Model"), ("wavlm", "ForXVector")])
def test_sounds_to_vectors(tmp_path: Path, kind: str, task: str) -> None:
    """The whole way: both engines, any batch, saved and loaded; and vectors as transformers makes them."""
    model = published(tmp_path, kind, task, **(HEAD if task == "ForXVector" else {}))
    extractor = transformers.Wav2Vec2FeatureExtractor()
    extractor.save_pretrained(tmp_path)
    sounds = waveforms([16000, 5200, 30001, 9000])
    items = [Audio(sound, 16000) for sound in sounds]
    check_family(tmp_path, items)
    ours = omnivec.load(tmp_path, precision="float32")
    for sound, vector in zip(sounds, ours.encode(items), strict=True):
        with torch.no_grad():
            out = model(**extractor(sound, sampling_rate=16000, return_tensors="pt"))
        right = out.embeddings[0] if task == "ForXVector" else out.last_hidden_state[0].mean(0)
        check_close(vector, right.numpy(), f"{len(sound)} samples")
    assert omnivec.load(tmp_path, layer=1).dim == 48
    short = "399" if task == "Model" else "5,199"
    with pytest.raises(ItemErrors, match=f"{short} samples at 16,000 Hz"):
        ours.encode(Audio(sounds[0][: int(short.replace(",", ""))], 16000))
