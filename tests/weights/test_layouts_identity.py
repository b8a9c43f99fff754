"""Canonical names, and an identity that files, folders, order and precision do not change."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from omnivec.errors import WeightsError
from omnivec.weights import Tensor, Weights, content_hashes, read, rename, same_weights, save, strip_prefixes
from omnivec.weights.hashes import CHUNK


def weights(**arrays):
    return Weights(
        {n: Tensor(n, "F32", a.shape, a) for n, v in arrays.items() for a in [np.asarray(v, np.float32)]}
    )


def named(*names):
    return Weights({n: Tensor(n, "F32", (1,), np.array([i], np.float32)) for i, n in enumerate(names)})


def values(found):
    return {name: tensor.data.tolist() for name, tensor in found.items()}


# names


def test_the_first_row_that_matches_the_whole_name_wins():
    rows = [
        (r"h\.(\d+)\.ln\.w", r"encoder.layer.\1.norm.weight"),
        (r"h\.(?P<i>\d+)\..*", r"rest.\g<i>"),
        (r".*_ids", None),
        (r".*", r"never"),
    ]
    found = rename(named("h.12.ln.w", "h.3.x", "position_ids"), rows)
    assert values(found) == {"encoder.layer.12.norm.weight": [0], "rest.3": [1]}
    assert found["rest.3"].name == "rest.3"
    assert list(rename(named("xh", "h"), [("h", "g")])) == ["xh", "g"]


def test_a_fused_tensor_is_shared_out_and_a_transposed_one_turned():
    fused = np.arange(24, dtype=np.float32).reshape(6, 4)
    names = (r"\1.q", r"\1.k", r"\1.v")
    found = rename(weights(**{"0.in": fused}), [(r"(\d)\.in", names)])
    for i, name in enumerate(["0.q", "0.k", "0.v"]):
        np.testing.assert_array_equal(found[name].data, fused[2 * i : 2 * i + 2])
        assert found[name].shape == (2, 4) and np.shares_memory(found[name].data, fused)
    turned = rename(weights(**{"0.in": fused}), [(r"(\d)\.in", r"\1.out", "transpose")])["0.out"]
    np.testing.assert_array_equal(turned.data, fused.T)
    assert turned.shape == (4, 6) and turned.data.flags["C_CONTIGUOUS"]
    both = rename(weights(**{"0.in": fused.T}), [(r"(\d)\.in", names, "transpose")])
    np.testing.assert_array_equal(both["0.k"].data, fused[2:4])


def test_what_cannot_be_split_or_turned_is_named():
    with pytest.raises(WeightsError, match=r"'a' of shape \(5,\) cannot be split into 2 equal parts"):
        rename(weights(a=np.ones(5)), [("a", ("b", "c"))])
    with pytest.raises(WeightsError, match=r"shape \(1, 1, 1\) is not a matrix"):
        rename(weights(a=np.ones((1, 1, 1))), [("a", "b", "transpose")])


def test_two_tensors_on_one_name_must_be_equal():
    rows = [("(a|b)", "c")]
    nan = [1.0, np.nan]
    assert list(rename(weights(a=nan, b=nan), rows)) == ["c"]
    with pytest.raises(WeightsError, match="'a' and 'b' differ and both become 'c'"):
        rename(weights(a=[1], b=[2]), rows)
    with pytest.raises(WeightsError, match="differ"):
        rename(weights(a=[0.0], b=[-0.0]), rows)
    with pytest.raises(WeightsError, match="'b' and 'c' differ"):
        rename(weights(b=[1], c=[2]), [("b", "c")])


PREFIXES = ("bert.", "model.", "0.auto_model.", "module.", "roberta.")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["bert.a", "bert.b", "cls.c"], ["a", "b", "cls.c"]),
        (["bert.a", "cls.b"], ["bert.a", "cls.b"]),  # a half is not most
        (["0.auto_model.a", "0.auto_model.b"], ["a", "b"]),
        (["module.bert.a", "module.bert.b"], ["a", "b"]),
        (["model.model.a"], ["model.a"]),
        (["a", "b"], ["a", "b"]),
        ([], []),
    ],
)
def test_a_prefix_that_most_names_share_goes(before, after):
    found = strip_prefixes(named(*before), PREFIXES)
    assert list(found) == after and [tensor.name for tensor in found.values()] == after


def test_a_prefix_that_hides_a_conflict():
    with pytest.raises(WeightsError, match="differ and both become 'a'"):
        strip_prefixes(named("a", "bert.a", "bert.b"), PREFIXES)


# identity


def model(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {
        "embeddings.weight": torch.randn(700, 500, generator=generator),  # two chunks
        "layer.weight": torch.randn(8, 16, generator=generator) * 1e-3,
        "layer.bias": torch.tensor([0.0, -0.0, float("nan"), float("inf"), 1e-40, 70000.0, 65519.9, 3e38]),
        "ids": torch.arange(5),
        "scale": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
    }
    assert state["embeddings.weight"].numel() > CHUNK
    return state


def cast(state, dtype):
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}


@pytest.fixture
def copies(tmp_path):
    """One model in every form that can be read."""
    state = model()
    backwards = dict(reversed(state.items()))
    for name in ("one", "elsewhere", "shards"):
        (tmp_path / name).mkdir()
    save_file(state, tmp_path / "one" / "model.safetensors")
    save_file(backwards, tmp_path / "elsewhere" / "other.safetensors", {"format": "pt"})
    torch.save(backwards, tmp_path / "pytorch_model.bin")
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "x.npz", **{name: value.numpy() for name, value in state.items()})
    names = list(state)
    parts = {"a.safetensors": names[:2], "b.safetensors": names[2:]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, tmp_path / "shards" / file)
    index = {name: file for file, part in parts.items() for name in part}
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return [
        read(tmp_path / place)
        for place in ("one", "elsewhere", "pytorch_model.bin", "old.bin", "x.npz", "shards")
    ]


def test_two_models_in_one_file_are_refused():
    both = {**named("a", "b"), **named("bert.a", "bert.b")}
    same = Weights(both, (), {})
    assert strip_prefixes(same, PREFIXES).keys() == both.keys()
    other = {name: replace(t, data=t.data + 1) if name == "bert.b" else t for name, t in both.items()}
    with pytest.raises(WeightsError, match=r"hold two models: 'b' and 'bert\.b' differ"):
        strip_prefixes(Weights(other, (), {}), PREFIXES)


def test_no_form_changes_the_identity(copies):
    hashes = [content_hashes(copy) for copy in copies]
    assert set(hashes[0]) == {"float32", "float16", "bfloat16"}
    assert all(found == hashes[0] for found in hashes)
    assert all(len(digest) == 64 for digest in hashes[0].values()) and len(set(hashes[0].values())) == 3


def hashed(tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    return content_hashes(read(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")])
def test_a_copy_in_half_precision_is_the_same_model(tmp_path, dtype, name):
    original, copy = hashed(tmp_path, model()), hashed(tmp_path, cast(model(), dtype))
    assert set(copy) == {name} and copy[name] == original[name]
    assert same_weights(original, copy) and same_weights(copy, original) and same_weights(copy, copy)
    again = hashed(tmp_path, cast(cast(model(), dtype), torch.float32))
    assert same_weights(again, copy)
    assert not same_weights(again, original)  # at float32, which both have, they differ


def test_some_tensors_kept_in_full_precision(tmp_path):
    mixed = cast(model(), torch.bfloat16) | {"scale": model()["scale"]}
    assert set(hashed(tmp_path, mixed)) == {"bfloat16"}
    assert same_weights(hashed(tmp_path, mixed), hashed(tmp_path, model()))
    both = cast(model(), torch.bfloat16) | {"scale": model()["scale"].half()}
    assert set(hashed(tmp_path, both)) == {"bfloat16"}


def test_halves_of_different_kinds_cannot_be_compared(tmp_path):
    brain, half = (
        hashed(tmp_path, cast(model(), torch.bfloat16)),
        hashed(tmp_path, cast(model(), torch.float16)),
    )
    assert not same_weights(brain, half)


def changed(name, value):
    return model() | {name: value}


CHANGES = {
    "one weight": changed(
        "embeddings.weight", model()["embeddings.weight"].index_fill(0, torch.tensor([699]), 1.0)
    ),
    "a shape": changed("layer.weight", model()["layer.weight"].reshape(16, 8)),
    "an id": changed("ids", torch.tensor([0, 1, 2, 3, 5])),
    "the kind of numbers": changed("ids", torch.arange(5).float()),
    "an empty shape": changed("none", torch.zeros(3, 0)),
    "one more": changed("more", torch.zeros(1)),
    "a name": {name.replace("scale", "scales"): value for name, value in model().items()},
    "two swapped": model() | {"scale": torch.tensor(1.0)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_content_changes_every_hash(tmp_path, change):
    original, other = hashed(tmp_path, model()), hashed(tmp_path, CHANGES[change])
    assert not same_weights(original, other)
    assert all(original[grid] != other[grid] for grid in original)


def test_integers_count_by_value_and_not_by_width(tmp_path):
    narrow = changed("ids", torch.arange(5, dtype=torch.int32))
    assert hashed(tmp_path, narrow) == hashed(tmp_path, model())


@given(hnp.arrays(np.uint32, st.integers(1, 50), elements=st.integers(0, 2**32 - 1)))
def test_rounding_is_torch_rounding(bits):
    exact = bits.view(np.float32)
    tensor = {"t": Tensor("t", "F32", exact.shape, exact)}
    brain = torch.from_numpy(exact).bfloat16().view(torch.uint16).numpy()
    half = torch.from_numpy(exact).half().numpy()
    assert (
        content_hashes(tensor)["bfloat16"]
        == content_hashes({"t": Tensor("t", "BF16", brain.shape, brain)})["bfloat16"]
    )
    assert (
        content_hashes(tensor)["float16"]
        == content_hashes({"t": Tensor("t", "F16", half.shape, half)})["float16"]
    )


def test_nothing_and_everything_saved_again(tmp_path):
    assert same_weights(content_hashes({}), content_hashes({}))
    found = read_saved(tmp_path, {"t": np.array([1, 2], np.float32)})
    assert same_weights(content_hashes(found), content_hashes(weights(t=[1, 2])))


def read_saved(tmp_path, arrays):
    save(tmp_path / "x.safetensors", arrays, {})
    return read(tmp_path / "x.safetensors")
