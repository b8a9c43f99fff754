"""model.bin of CTranslate2: content, quantised tensors, aliases, and damaged files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_bins import model_bin, string, tensor
from omnivec.errors import WeightsError
from omnivec.weights import read_ctranslate2


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.bin"
    path.write_bytes(content)
    return path


RANDOM = np.random.default_rng(0)
CONTENT: dict[str, np.ndarray] = {
    "encoder/num_heads": np.array(6, np.int16),
    "encoder/pre_norm": np.array(1, np.int8),
    "encoder/conv1/weight": RANDOM.standard_normal((4, 3, 2)).astype(np.float32),
    "encoder/conv1/bias": RANDOM.standard_normal(4).astype(np.float16),
    "a/weight": np.array([0x3F80, 0xC000, 0x4049], np.uint16),
    "decoder/ids": np.array([[1, -2], [3, 2**30]], np.int32),
}


def test_tensors_settings_and_aliases(tmp_path: Path) -> None:
    path = written(tmp_path, model_bin(CONTENT, {"again/weight": "encoder/conv1/weight"}))
    read = read_ctranslate2(path)
    assert list(read) == [*CONTENT, "again/weight"]
    assert read.metadata == {"spec": "WhisperSpec", "revision": "3"} and read.files == (path,)
    assert [read[name].dtype for name in CONTENT] == ["I16", "I8", "F32", "F16", "BF16", "I32"]
    for name, array in CONTENT.items():
        assert read[name].shape == array.shape and read[name].name == name
        np.testing.assert_array_equal(read[name].data, array)
    assert read["a/weight"].float32().tolist() == [1.0, -2.0, 3.140625]
    assert read["again/weight"].name == "again/weight"
    assert np.shares_memory(read["again/weight"].data, read["encoder/conv1/weight"].data)


def test_quantised_tensors_are_divided_by_their_scales(tmp_path: Path) -> None:
    """Each row of int8 was multiplied by 127 / its largest magnitude, int16 by 1024 / that of the whole tensor."""
    matrix, filters = np.array([[1.0, -2.0], [0.25, 0.5]], np.float32), np.ones((2, 1, 3), np.float32)
    scales = (127 / np.abs(matrix).max(1)).astype(np.float32)
    content = {
        "l/weight": np.rint(matrix * scales[:, None]).astype(np.int8),
        "l/weight_scale": scales,
        "conv/weight": (filters * 127).astype(np.int8),
        "conv/weight_scale": np.full(2, 127, np.float32),
        "wide/weight": np.array([[1024, -512]], np.int16),
        "wide/weight_scale": np.array(512, np.float32),
        "text": np.frombuffer(b"gelu", np.int8),
    }
    aliases = {"tied/weight": "l/weight", "tied/weight_scale": "l/weight_scale"}
    read = read_ctranslate2(written(tmp_path, model_bin(content, aliases)))
    assert list(read) == ["l/weight", "conv/weight", "wide/weight", "text", "tied/weight"]
    np.testing.assert_allclose(read["l/weight"].data, matrix, atol=2 / 254)
    assert read["l/weight"].dtype == "F32" and read["l/weight"].data[0, 1] == -2.0
    np.testing.assert_array_equal(read["tied/weight"].data, read["l/weight"].data)
    np.testing.assert_array_equal(read["conv/weight"].data, filters)
    assert read["wide/weight"].data.tolist() == [[2.0, -1.0]]
    assert bytes(read["text"].data) == b"gelu"


ONE = np.ones((2, 2), np.float32)
INT8 = np.ones((2, 2), np.int8)
IMPOSSIBLE: dict[str, tuple[bytes, str]] = {
    "another version": (model_bin({}, version=5), "version 5 of CTranslate2's format"),
    "something behind the end": (model_bin({}) + b"\0", "ends at byte 30 of 31"),
    "a name twice": (
        struct.pack("<I", 6) + string("S") + struct.pack("<2I", 1, 2) + 2 * tensor("a", ONE) + bytes(4),
        "'a' occurs twice",
    ),
    "an alias of nothing": (model_bin({"a": ONE}, {"b": "c"}), "alias 'b' of 'c'"),
    "an alias of an alias's name": (model_bin({"a": ONE}, {"a": "a"}), "alias 'a' of 'a'"),
    "int8 without scales": (model_bin({"a": INT8}), "with no scales"),
    "scales of float": (
        model_bin({"a": ONE, "a_scale": np.ones(2, np.float32)}),
        "of F32 (2, 2) with scales",
    ),
    "scales of other rows": (
        model_bin({"a": INT8, "a_scale": np.ones(3, np.float32)}),
        "does not fit 'a' of I8",
    ),
    "a scale of 0": (
        model_bin({"a": INT8, "a_scale": np.zeros(2, np.float32)}),
        "scales that are not above 0",
    ),
    "many tensors": (
        struct.pack("<I", 6) + string("S") + struct.pack("<2I", 1, 2**32 - 1),
        "4294967295 tensors",
    ),
    "a large shape": (
        model_bin({"a": ONE}).replace(struct.pack("<2I", 2, 2), struct.pack("<2I", 2**31, 2)),
        "shape",
    ),
    "an unknown type": (model_bin({"a": ONE}).replace(b"\0\x10\0\0\0", b"\x09\x10\0\0\0"), "element type 9"),
    "another size": (
        model_bin({"a": ONE}).replace(b"\0\x10\0\0\0", b"\0\x0c\0\0\0"),
        "needs 16 bytes and has 12",
    ),
    "a name without its zero": (
        model_bin({"a": ONE}).replace(b"\2\0a\0", b"\2\0aa"),
        "does not end with a zero",
    ),
    "a name of other bytes": (model_bin({"a": ONE}).replace(b"\2\0a\0", b"\2\0\xff\0"), "no name in UTF-8"),
    "nothing": (b"", "is empty"),
    "a zip file": (b"PK\3\4", "version 67324752"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    content, named = IMPOSSIBLE[what]
    with pytest.raises(WeightsError) as caught:
        read_ctranslate2(written(tmp_path, content))
    assert named in str(caught.value) and "\n" not in str(caught.value) and "model.bin" in str(caught.value)


def test_many_aliases_of_a_large_tensor(tmp_path: Path) -> None:
    """Each is a view, but whoever converts the tensors to float32 copies each of them."""
    content = model_bin({"a": np.zeros(10**6, np.float32)}, {str(i): "a" for i in range(1000)})
    with pytest.raises(WeightsError, match=r"alias .* bytes of memory"):
        read_ctranslate2(written(tmp_path, content))


WHOLE = model_bin(
    CONTENT | {"l/weight": INT8, "l/weight_scale": np.ones(2, np.float32)},
    {"tied": "a/weight", "other": "l/weight"},
)


@pytest.mark.parametrize("size", range(0, len(WHOLE), 7))
def test_a_file_that_is_cut_short(tmp_path: Path, size: int) -> None:
    with pytest.raises(WeightsError):
        read_ctranslate2(written(tmp_path, WHOLE[:size]))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4)), max_size=4)
)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, changes: list[tuple[int, bytes]]) -> None:
    content: Any = bytearray(WHOLE)
    for at, piece in changes:
        content[at : at + len(piece)] = piece
    path = written(tmp_path, bytes(content))
    try:
        read = read_ctranslate2(path)
    except WeightsError as error:
        assert "\n" not in str(error)
    else:
        assert all(
            tensor.data.shape == tensor.shape and tensor.float32() is not None for tensor in read.values()
        )
