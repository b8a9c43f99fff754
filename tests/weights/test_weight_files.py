"""safetensors, npz and shards, against the safetensors library and torch."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from omnivec.errors import OmnivecError, WeightsError
from omnivec.weights import Tensor, read, save

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def raw_file(path, header, body=b"", size=None):
    """A safetensors file written by hand; `header` may be any bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + body)
    return path


def same(tensor, reference):
    """Bit for bit the torch tensor."""
    bits = reference.contiguous()
    if reference.dtype == torch.bfloat16:
        bits = bits.view(torch.uint16)
    assert tensor.shape == tensor.data.shape == tuple(reference.shape)
    np.testing.assert_array_equal(tensor.data, bits.numpy())
    assert tensor.data.flags["C_CONTIGUOUS"] and tensor.data.flags["WRITEABLE"]


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 5)])
def test_every_element_type_and_shape(tmp_path, dtype, shape):
    reference = (torch.randn(shape, generator=torch.manual_seed(1)) * 9).to(TORCH[dtype])
    save_file({"t": reference, "u": reference.clone()}, tmp_path / "model.safetensors")
    weights = read(tmp_path)
    assert list(weights) == ["t", "u"] and weights["t"].dtype == dtype and weights["t"].name == "t"
    same(weights["t"], reference)
    np.testing.assert_array_equal(weights["u"].float32(), reference.float().numpy())


def test_every_bfloat16_and_float16_goes_up_exactly():
    bits = np.arange(1 << 16, dtype=np.uint16)
    torch_bits = torch.from_numpy(bits)
    brain = Tensor("t", "BF16", bits.shape, bits).float32()
    np.testing.assert_array_equal(brain, torch_bits.view(torch.bfloat16).float().numpy())
    half = Tensor("t", "F16", bits.shape, bits.view(np.float16)).float32()
    np.testing.assert_array_equal(half, torch_bits.view(torch.float16).float().numpy())


def test_tensors_are_views_of_a_map_that_never_reaches_the_file(tmp_path):
    save(tmp_path / "model.safetensors", {"t": np.ones((2, 2), np.float32)}, {"made by": "a test"})
    weights = read(tmp_path)
    tensor = weights["t"]
    assert tensor.float32() is tensor.data
    assert isinstance(tensor.data.base, np.ndarray | np.memmap) and not tensor.data.flags["OWNDATA"]
    tensor.data[:] = 7
    assert read(tmp_path)["t"].data.tolist() == [[1, 1], [1, 1]]
    assert weights.metadata == {"made by": "a test"}
    assert weights.files == (tmp_path / "model.safetensors",)


def test_a_misaligned_tensor_is_copied(tmp_path):
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = raw_file(tmp_path / "x.safetensors", text, b"\x05" + np.array([1.5, -2], np.float32).tobytes())
    weights = read(path)
    assert weights["b"].data.tolist() == [1.5, -2] and weights["b"].data.flags["ALIGNED"]
    with safe_open(path, "np") as reference:
        assert reference.get_tensor("b").tolist() == [1.5, -2]


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


DAMAGED = {
    "unknown element type": ({"a": entry(dtype="Q7")}, "Q7"),
    "beyond the file": ({"a": entry(shape=(4,), offsets=(0, 16))}, "take 16 bytes, the file has 8"),
    "too few bytes": ({"a": entry(shape=(3,))}, "needs 12 bytes and has 8"),
    "negative": ({"a": entry(offsets=(-8, 0))}, "-8 to 0"),
    "negative shape": ({"a": entry(shape=(-1, -2))}, r"\[-1, -2\]"),
    "backwards": ({"a": entry(offsets=(8, 0))}, "8 to 0"),
    "fraction": ({"a": entry(shape=(2.0,))}, "2.0"),
    "boolean": ({"a": entry(shape=(True, 2))}, "True"),
    "overlap": ({"a": entry(), "b": entry(shape=(1,), offsets=(4, 8))}, "byte 4, expected at byte 8"),
    "hole": ({"a": entry(shape=(1,), offsets=(4, 8))}, "byte 4, expected at byte 0"),
    "not all used": ({"a": entry(shape=(1,), offsets=(0, 4))}, "take 4 bytes, the file has 8"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [2]}}, "lacks"),
    "three offsets": ({"a": entry(offsets=(0, 4, 8))}, "lacks"),
    "a list": ([1], "not a table"),
    "an entry that is text": ({"a": "b"}, "lacks"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, "table of strings"),
    "not JSON": (b"{nonsense", "not readable JSON"),
    "not UTF-8": (b'{"\xff": 1}', "not readable JSON"),
    "a name twice": (b'{"a": 1, "a": 2}', "twice"),
    "nested beyond reason": (b"[" * 100_000, "not readable JSON"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_header_is_refused(tmp_path, case):
    header, message = DAMAGED[case]
    with pytest.raises(WeightsError, match=message) as caught:
        read(raw_file(tmp_path / "x.safetensors", header, bytes(8)))
    assert "x.safetensors" in str(caught.value) and "\n" not in str(caught.value)


def test_a_header_longer_than_the_file_or_the_format_allows(tmp_path):
    with pytest.raises(WeightsError, match="a header of 5000 bytes"):
        read(raw_file(tmp_path / "x.safetensors", {}, size=5000))
    with pytest.raises(WeightsError, match="at most 100000000"):
        read(raw_file(tmp_path / "x.safetensors", {}, size=2**63))


def test_every_truncation_is_noticed(tmp_path):
    save(tmp_path / "whole.safetensors", {"a": np.ones(3, np.float32), "b": np.zeros((), np.int64)})
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.safetensors").write_bytes(whole[:size])
        with pytest.raises(WeightsError):
            read(tmp_path / "cut.safetensors")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_raises_nothing_else(tmp_path, data):
    save(tmp_path / "whole.safetensors", {"a": np.ones(3, np.float32), "b": np.zeros((), np.int64)})
    changed = bytearray((tmp_path / "whole.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "changed.safetensors").write_bytes(changed)
    with contextlib.suppress(WeightsError):
        read(tmp_path / "changed.safetensors")


def test_save_is_read_by_the_library_and_leaves_nothing_behind(tmp_path):
    arrays: dict[str, Any] = {
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "one": np.array(3, np.int64),
    }
    save(tmp_path / "model.safetensors", arrays, {"k": "v"})
    with safe_open(tmp_path / "model.safetensors", "np") as reference:
        assert reference.metadata() == {"k": "v"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(reference.get_tensor(name), array)
    with pytest.raises(WeightsError, match="cannot be written"):
        save(tmp_path / "model.safetensors", {"a": np.array(["text"])})
    with pytest.raises(OmnivecError, match="folder that does not exist"):
        save(tmp_path / "no folder" / "x.safetensors", arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert set(read(tmp_path)) == {"turned", "one"}


# shards and folders


def shards(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_shards_are_one_model(tmp_path):
    save(tmp_path / "one.safetensors", {"a": np.array([1], np.float32), "b": np.array([2], np.float32)})
    save(tmp_path / "two.safetensors", {"c": np.array([3], np.float32)})
    index = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    weights = read(shards(tmp_path, index))
    assert {name: float(tensor.data[0]) for name, tensor in weights.items()} == {"a": 1, "b": 2, "c": 3}
    assert [file.name for file in weights.files] == [
        "model.safetensors.index.json",
        "one.safetensors",
        "two.safetensors",
    ]


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "one.safetensors", "z": "one.safetensors"}, "1 of 2 tensors are missing in its 1 shards.*'z'"),
        ({"a": "one.safetensors", "b": "gone.safetensors"}, "shard gone.safetensors is missing"),
        ({"a": "one.safetensors", "b": "copy.safetensors"}, "1 tensors are in two shards, such as 'a'"),
        ({"a": "../one.safetensors"}, "refused"),
        ({"a": "/etc/passwd"}, "refused"),
        ({"a": "..\\one.safetensors"}, "refused"),
        ({"a": "C:\\one.safetensors"}, "refused"),
        ({"a": "model.safetensors.index.json"}, "refused"),
        ({"a": 3}, "not a file name"),
        ({"a": ["one.safetensors"]}, "weight_map"),
        (["one.safetensors"], "weight_map"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, weight_map, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in (folder / "one.safetensors", folder / "copy.safetensors", tmp_path / "one.safetensors"):
        save(file, {"a": np.array([1], np.float32)})
    with pytest.raises(WeightsError, match=message):
        read(shards(folder, weight_map))


def test_a_folder_is_searched_in_order(tmp_path):
    def value():
        return float(read(tmp_path)["a"].data[0])

    with pytest.raises(WeightsError, match="no weights: looked for model"):
        read(tmp_path)
    np.savez(tmp_path / "words.npz", a=np.array([6], np.float32))
    assert value() == 6
    torch.save({"a": torch.tensor([5.0])}, tmp_path / "part.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "part.bin"}}')
    assert value() == 5
    torch.save({"a": torch.tensor([4.0])}, tmp_path / "pytorch_model.bin")
    assert value() == 4
    save(tmp_path / "other.safetensors", {"a": np.array([3], np.float32)})
    assert value() == 3
    save(tmp_path / "shard.safetensors", {"a": np.array([2], np.float32)})
    assert value() == 4  # two others: neither is meant
    shards(tmp_path, {"a": "shard.safetensors"})
    assert value() == 2
    save(tmp_path / "model.safetensors", {"a": np.array([1], np.float32)})
    assert value() == 1


def test_several_candidates_and_none_of_them_meant(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([1], np.float32))
    np.savez(tmp_path / "b.npz", a=np.array([1], np.float32))
    with pytest.raises(WeightsError, match=r"2 weight files \(a.npz, b.npz\)"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["x.safetensors", "x.npz", "x.bin", "x.index.json"])
def test_a_missing_or_empty_file(tmp_path, name):
    with pytest.raises(WeightsError, match="cannot be read"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsError):
        read(tmp_path / name)


def test_npz_in_either_byte_order_and_never_objects(tmp_path):
    fortran = np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3))
    np.savez(tmp_path / "x.npz", big=np.array([1.5, 2], ">f4"), turned=fortran, one=np.array(True))
    weights = read(tmp_path / "x.npz")
    assert {name: tensor.dtype for name, tensor in weights.items()} == {
        "big": "F32",
        "turned": "F16",
        "one": "BOOL",
    }
    assert weights["big"].data.tolist() == [1.5, 2] and weights["big"].data.dtype == np.float32
    assert weights["turned"].data.tolist() == fortran.tolist() and weights["one"].shape == ()
    assert all(
        tensor.data.flags["C_CONTIGUOUS"] and tensor.data.flags["WRITEABLE"] for tensor in weights.values()
    )
    whole = (tmp_path / "x.npz").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.npz").write_bytes(whole[:size])
        with pytest.raises(WeightsError):
            read(tmp_path / "cut.npz")
    np.savez(tmp_path / "x.npz", text=np.array(["a"]))
    with pytest.raises(WeightsError, match="element type <U1"):
        read(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", thing=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="holds pickled objects"):
        read(tmp_path / "x.npz")
