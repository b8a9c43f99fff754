"""ONNX files: content against OpenVINO's reader, the ways in which tensors are stored, and damaged files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnivec.errors import WeightsError
from omnivec.weights import Tensor, read_onnx
from onnx_files import FLOAT, INT64, NUMBERS, attribute, field, model, node, stored, tensor, value, varint


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


RANDOM = np.random.default_rng(1)
FILTERS = RANDOM.standard_normal((4, 2, 3)).astype(np.float32)
BIAS = RANDOM.standard_normal(4).astype(np.float32)
CONV = model(
    [
        stored("filters", FILTERS),
        tensor("bias", (4,), FLOAT, field(4, BIAS.tobytes())),
        stored("unused", np.array(7, np.int64)),
    ],
    [
        node(
            "Conv",
            ["x", "filters", "bias"],
            ["y"],
            attribute("strides", 7, 8, 2),
            attribute("pads", 7, 8, 1, 1),
        ),
        node("LeakyRelu", ["y"], ["z"], field(1, "alpha") + field(20, 1) + b"\x15" + struct.pack("<f", 0.25)),
        node("Constant", [], ["one"], attribute("value", 4, 5, stored("", np.ones(1, np.float32)))),
        node("Add", ["z", "one"], ["out"]),
    ],
    [value("x", "batch", 2, 9)],
    [value("out", "batch", 4, 5)],
)


def test_a_graph_is_read_as_openvino_reads_it(tmp_path: Path) -> None:
    path = written(tmp_path, CONV)
    graph = read_onnx(path)
    assert list(graph.tensors) == ["filters", "bias", "unused"] and graph.opsets == {"": 13}
    assert [each.operator for each in graph.nodes] == ["Conv", "LeakyRelu", "Constant", "Add"]
    conv, leaky, constant, _ = graph.nodes
    assert conv.inputs == ("x", "filters", "bias") and conv.outputs == ("y",)
    assert conv.attributes == {"strides": (2,), "pads": (1, 1)} and leaky.attributes == {"alpha": 0.25}
    one = constant.attributes["value"]
    assert isinstance(one, Tensor) and one.data.tolist() == [1.0]
    (given_input,), (output,) = graph.inputs, graph.outputs
    assert (given_input.name, given_input.dtype, given_input.shape) == ("x", "F32", ("batch", 2, 9))
    assert output.shape == ("batch", 4, 5)
    x = RANDOM.standard_normal((3, 2, 9)).astype(np.float32)
    compiled = openvino.compile_model(
        openvino.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, 2)[:, :, ::2]
    filters, bias = graph.tensors["filters"].data, graph.tensors["bias"].data
    y = np.einsum("nitk,oik->not", windows, filters) + bias[:, None]
    np.testing.assert_allclose(compiled(x)[0], np.where(y > 0, y, 0.25 * y) + one.data, atol=1e-5)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_tensors_as_they_lie_in_memory_and_one_by_one(tmp_path: Path, dtype: str) -> None:
    array = (RANDOM.standard_normal((2, 3)) * 50).astype(dtype)
    if array.dtype.kind in "iu":
        array.flat[:2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    if array.dtype.kind == "f":
        number, packed = {4: 4, 8: 10, 2: 5}[array.itemsize], array.tobytes()
        singles: list[bytes] = []
        if dtype == "float16":
            packed = b"".join(varint(int(bits)) for bits in array.view(np.uint16).flat)
    else:
        number = {"int64": 7, "uint32": 11, "uint64": 11}.get(dtype, 5)
        packed = b"".join(varint(int(each)) for each in array.flat)
        singles = [field(number, int(each)) for each in array.flat]
    forms = [stored("t", array), tensor("t", (2, 3), NUMBERS[dtype], field(number, packed))]
    forms += [tensor("t", (2, 3), NUMBERS[dtype], *singles)] if singles else []
    for form in forms:
        read = read_onnx(written(tmp_path, model([form], []))).tensors["t"]
        np.testing.assert_array_equal(read.data, array)
        assert read.data.dtype == array.dtype and read.shape == (2, 3) and read.data.flags.writeable


def test_bfloat16(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000, 0x4049], np.uint16)
    for data in (field(9, bits.tobytes()), field(5, b"".join(varint(int(each)) for each in bits))):
        read = read_onnx(written(tmp_path, model([tensor("t", (3,), 16, data)], []))).tensors["t"]
        assert read.dtype == "BF16" and read.float32().tolist() == [1.0, -2.0, 3.140625]


def test_many_numbers_one_by_one(tmp_path: Path) -> None:
    """Decoded in chunks, whose bounds cut numbers of every length."""
    values = RANDOM.integers(-(2**62), 2**62, 100_000) >> RANDOM.integers(0, 62, 100_000)
    form = tensor("t", values.shape, INT64, field(7, b"".join(varint(int(each)) for each in values)))
    np.testing.assert_array_equal(read_onnx(written(tmp_path, model([form], []))).tensors["t"].data, values)


def entry(key: str, text: str) -> bytes:
    return field(13, field(1, key) + field(2, text))


def elsewhere(location: str, **stated: str) -> bytes:
    places = entry("location", location) + b"".join(entry(*item) for item in stated.items())
    return tensor("t", (3,), FLOAT, places, field(14, 1))


def test_data_in_other_files_are_those_that_were_given(tmp_path: Path) -> None:
    numbers = np.arange(8, dtype=np.float32)
    (tmp_path / "model.data").write_bytes(numbers.tobytes())
    path = written(tmp_path, model([elsewhere("model.data", offset="8", length="12")], []))
    with pytest.raises(WeightsError, match=r"stored in another file, 'model.data', which is not opened"):
        read_onnx(path)
    read = read_onnx(path, external={"model.data": numbers.view(np.uint8)})
    assert read.tensors["t"].data.tolist() == [2.0, 3.0, 4.0]
    inside = read_onnx(
        Path("in.zip"), np.frombuffer(path.read_bytes(), np.uint8), {"model.data": numbers.view("u1")}
    )
    assert inside.tensors["t"].data.tolist() == [2.0, 3.0, 4.0]
    for stated in (
        {"offset": "24"},
        {"offset": "-4"},
        {"offset": "9" * 5000},
        {"offset": "x"},
        {"length": "8"},
    ):
        written(tmp_path, model([elsewhere("model.data", **stated)], []))
        with pytest.raises(WeightsError, match=r"ends at byte|has 8"):
            read_onnx(path, external={"model.data": numbers.view(np.uint8)})


ONE = stored("a", np.ones(2, np.float32))
IMPOSSIBLE: dict[str, tuple[bytes, str]] = {
    "two graphs": (model([], []) + field(7, b""), "2 graphs, expected one"),
    "no graph": (field(1, 8), "0 graphs"),
    "a name twice": (model([ONE, ONE], []), "two tensors are called 'a'"),
    "fewer data": (model([tensor("a", (3,), FLOAT, field(9, bytes(8)))], []), "needs 12 bytes and has 8"),
    "no data": (model([tensor("a", (3,), FLOAT)], []), "needs 12 bytes and has 0"),
    "a large shape": (model([tensor("a", (2**40, 2**40), FLOAT)], []), "of shape"),
    "an axis below 0": (model([tensor("a", (-1,), FLOAT)], []), "of shape"),
    "many axes": (model([tensor("a", (1,) * 65, FLOAT)], []), "a shape of 65 numbers"),
    "texts": (model([tensor("a", (1,), 8, field(6, "text"))], []), "element type 8"),
    "four bits": (model([tensor("a", (1,), 22, field(9, b"1"))], []), "element type 22"),
    "beyond the range": (model([tensor("a", (1,), 3, field(5, varint(300)))], []), "beyond its range"),
    "a graph inside": (
        model([], [node("If", ["c"], ["y"], attribute("then_branch", 5, 6, b""))]),
        "a graph inside",
    ),
    "an attribute without value": (model([], [node("N", [], [], attribute("a", 4, 5))]), "without a value"),
    "an unknown attribute": (model([], [node("N", [], [], attribute("a", 99, 5))]), "of type 99"),
    "a number without end": (b"\xff" * 20, "a number that does not end"),
    "packed numbers without end": (
        model([tensor("a", (1,), INT64, field(7, b"\xff" * 20))], []),
        "does not end",
    ),
    "a long packed number": (
        model([tensor("a", (1,), INT64, field(7, b"\xff" * 20 + b"\0"))], []),
        "does not end",
    ),
    "a wire type of 3": (b"\x0b", "wire type 3"),
    "a length beyond the end": (b"\x3a\xff\xff\xff\xff\x7f", "bytes where 0 are left"),
    "a number where a graph is": (b"\x38\x05", "field 7 of another type"),
    "a name of other bytes": (model([tensor("", (), FLOAT, field(8, b"\xff"))], []), "no text in UTF-8"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    content, named = IMPOSSIBLE[what]
    with pytest.raises(WeightsError) as caught:
        read_onnx(written(tmp_path, content))
    assert named in str(caught.value) and "\n" not in str(caught.value) and "model.onnx" in str(caught.value)


def test_messages_inside_of_messages_are_not_followed(tmp_path: Path) -> None:
    """A million levels: the fields below those that ONNX has are never opened."""
    deep = b""
    for _ in range(2000):
        deep = field(7, deep)
    assert not read_onnx(written(tmp_path, field(7, deep))).nodes


@pytest.mark.parametrize("piece", [b"\x08\x01", b"\x0a\x00"])
def test_small_fields_cost_no_more_than_the_file_may(tmp_path: Path, piece: bytes) -> None:
    """Two bytes in the file are an object in memory: five million of them are refused before they are made."""
    with pytest.raises(WeightsError, match=r"its fields takes|its nodes takes"):
        read_onnx(written(tmp_path, field(7, piece * 5_000_000)))


def test_many_tensors_of_the_same_bytes(tmp_path: Path) -> None:
    places = entry("location", "d") + field(14, 1)
    content = model([tensor(str(i), (10**6,), FLOAT, places) for i in range(1000)], [])
    with pytest.raises(WeightsError, match="bytes of memory"):
        read_onnx(written(tmp_path, content), external={"d": np.zeros(4 * 10**6, np.uint8)})


WHOLE = CONV + field(14, field(1, "key") + field(2, "value"))


@pytest.mark.parametrize("size", range(1, len(WHOLE), 7))
def test_a_file_that_is_cut_short(tmp_path: Path, size: int) -> None:
    """The end of the file is metadata, without which the model is whole."""
    try:
        graph = read_onnx(written(tmp_path, WHOLE[:size]))
    except WeightsError:
        return
    assert size >= len(CONV) and len(graph.nodes) == 4


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4)), max_size=4)
)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, changes: list[tuple[int, bytes]]) -> None:
    content: Any = bytearray(WHOLE)
    for at, piece in changes:
        content[at : at + len(piece)] = piece
    try:
        graph = read_onnx(written(tmp_path, bytes(content)))
    except WeightsError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    else:
        assert all(each.data.shape == each.shape for each in graph.tensors.values())
