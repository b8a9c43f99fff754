"""Files that state more than they hold: one line, in time and memory in proportion to the file."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
import torch
from gensim.models import FastText, KeyedVectors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import omnivec
from omnivec.errors import OmnivecError, WeightsError
from omnivec.tables.formats.fasttext import write_fasttext_bin
from omnivec.tables.io import read_table, write_table
from omnivec.tables.ngrams import char_ngrams, word_hashes, word_ngrams
from omnivec.tables.pickles import read_pickle
from omnivec.tables.record import Subwords, Table
from omnivec.weights import read, read_torch
from omnivec.weights.bounds import FLOOR, TIMES, Bounds, brief

SECONDS = 5


@contextlib.contextmanager
def cheap(path: Path):
    """What stands inside takes at most five seconds, and memory as `bounds` states it."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
    assert time.process_time() - begun < SECONDS
    assert peak < max(TIMES * size, FLOOR) + FLOOR // 2


@pytest.fixture
def low(monkeypatch):
    """A floor of 4 MB: what is counted is counted as well, and the test is done sooner."""
    monkeypatch.setattr("omnivec.weights.bounds.FLOOR", 4 << 20)


def refused(path: Path, how=read, match: str | None = None) -> str:
    with cheap(path), pytest.raises(WeightsError, match=match) as caught:
        how(path)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 1000 and path.name in line
    return line


# --- fastText


def fasttext_bin(path: Path, *, model: str = "skipgram", grams: int = 6) -> Path:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4) + 1
    table = Table(
        ["cat", "dog"],
        rows,
        subwords=Subwords(np.ones((grams, 4), np.float32), 2, 3),
        settings={"model": model, "labels": ["__label__a"] if model == "supervised" else []},
        kind="fasttext",
    )
    write_fasttext_bin(path, table)
    return path


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        (10, 10**6, r"greatest length \(max_n\) of 1000000, but only 0 to 255"),
        (9, 2**31 - 1, r"least length \(min_n\) of 2147483647"),
        (9, -1, r"least length \(min_n\) of -1"),
        (5, 2**31 - 1, r"length in words \(word_ngrams\) of 2147483647"),
        (8, 2**31 - 1, "an input matrix of .* 2147483647 buckets"),
        (8, -5, "-5 buckets"),
        (0, 2**31 - 1, "2147483647 dimensions"),
    ],
)
def test_settings_of_fasttext_that_cannot_be(tmp_path, field, value, named):
    """`field` counts the settings behind magic and version, in the file's order."""
    path = fasttext_bin(tmp_path / "m.bin")
    whole = bytearray(path.read_bytes())
    names = ["dim", "ws", "epoch", "min_count", "neg", "word_ngrams", "loss", "model", "bucket", "min", "max"]
    assert len(names) == 11
    struct.pack_into("<i", whole, 8 + 4 * field, value)
    path.write_bytes(whole)
    refused(path, read_table, named)


def test_quantised_rows_of_a_million_numbers_each(tmp_path):
    """A code of one byte stands for a whole row: 20 million numbers from 100 KB would be harmless, 2e11 are not."""
    path = fasttext_bin(tmp_path / "m.bin")
    whole = bytearray(path.read_bytes())
    dim, rows = 2000, 200_000
    struct.pack_into("<i", whole, 8, dim)
    struct.pack_into("<i", whole, 8 + 4 * 8, rows - 2)
    end = 64 + struct.calcsize("<3i2q") + 2 * (4 + 9)
    quantised = struct.pack("<?", True) + struct.pack("<?2qi", False, rows, dim, rows)
    quantised += bytes(rows) + struct.pack("<4i", dim, 1, dim, dim) + bytes(4 * dim * 256)
    path.write_bytes(bytes(whole[:end]) + quantised)
    refused(path, read_table, "rows of a quantised matrix takes 1600000000 bytes")


def test_ngrams_are_no_longer_than_their_words():
    """Once a matrix of all lengths up to the greatest was made."""
    with_room = char_ngrams(["cat", "日本"], 2, 10**9, 97)
    exact = char_ngrams(["cat", "日本"], 2, 5, 97)
    assert with_room.values.tolist() == exact.values.tolist()
    starts = np.array([0, 3])
    words = [word_ngrams(word_hashes(["a", "b", "c"]), starts, n, 97).values.tolist() for n in (3, 10**9)]
    assert words[0] == words[1] and len(words[0]) == 3


# --- torch


def torch_zip(path: Path, code: bytes, storages: dict[str, bytes], method=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x/data.pkl", code)
        for key, content in storages.items():
            archive.writestr(f"x/data/{key}", content)
    return path


def view(size, stride, count=4, key="0", name="t") -> bytes:
    """A pickle of a table with one tensor."""
    buffer = io.BytesIO()
    marker = object()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, key, "cpu", count) if value is marker else None

    class View:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (marker, 0, size, stride, False, OrderedDict())

    Pickler(buffer, 2).dump({name: View()})
    return buffer.getvalue()


FLOATS = np.ones(4, np.float32).tobytes()


def test_a_stride_of_zero_repeats_no_more_than_the_file_may_take(tmp_path):
    code = view((10**5, 10**5), (0, 0))
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", code)
        archive.writestr("x/data/0", bytes(200_000))
    refused(tmp_path / "x.pt", match="takes 40000000000 bytes of memory")
    table = torch.arange(6.0)
    torch.save({"t": table.expand(1000, 6)}, tmp_path / "small.pt")
    assert read(tmp_path / "small.pt")["t"].data.shape == (1000, 6)


def test_tensors_that_share_a_storage_are_counted_together(tmp_path):
    """A thousand views of one storage of 4 MB take no memory, but whoever hashes or converts them does 4 GB of work."""
    storage = torch.zeros(10**6)
    torch.save({str(i): storage[i:] for i in range(1000)}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", match="bytes of memory")
    torch.save({"in": storage, "out": storage}, tmp_path / "tied.pt")
    assert len(read(tmp_path / "tied.pt")) == 2


@pytest.mark.parametrize("key", ["a", "state_dict", "model"])
def test_tables_nested_in_themselves(tmp_path, key):
    inside: dict[str, object] = {"w": 1}
    inside[key] = inside
    path = torch_zip(tmp_path / "x.pt", pickle.dumps(inside, 2), {})
    refused(path, match="contains itself")


def test_shared_tables_do_not_multiply(tmp_path, low):
    """Each of 40 tables holds the one before twice: 2^40 names from 1 KB."""
    table: dict[str, object] = {"w": 1}
    for _ in range(40):
        table = {"a": table, "b": table}
    refused(torch_zip(tmp_path / "x.pt", pickle.dumps(table, 2), {}), match="the names of its tensors")


def test_tables_nested_a_million_deep(tmp_path):
    code = b"\x80\x02" + b"}U\x01a" * 10**5 + b"}" + b"s" * 10**5 + b"."
    refused(torch_zip(tmp_path / "x.pt", code, {}), read_torch)


def test_long_names_on_a_long_way(tmp_path):
    """A key of 1 MB that 300 tables share would make names of 300 MB."""
    key = "k" * 10**6
    table: dict[str, object] = {key: 1}
    for _ in range(300):
        table = {key: table}
    refused(torch_zip(tmp_path / "x.pt", pickle.dumps(table, 2), {}), match="a name of")


@pytest.mark.parametrize("member", ["x/data.pkl", "x/data/0", "x/byteorder"])
def test_deflated_bombs_in_torch_files(tmp_path, member):
    members = {"x/data.pkl": view((4,), (1,), 10**7), "x/data/0": FLOATS, "x/byteorder": b"little"}
    members[member] = bytes(10**8)
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(tmp_path / "x.pt", match=r"10000000[06]")


def test_other_compressions_are_not_unpacked(tmp_path):
    """lzma and bzip2 unpack a block whole: the size stated by the archive would not bound it."""
    refused(
        torch_zip(tmp_path / "x.pt", view((4,), (1,)), {"0": FLOATS}, zipfile.ZIP_LZMA), match="method 14"
    )


def test_pickles_that_make_more_than_they_are(tmp_path, low):
    """An empty set takes a byte in a pickle and 216 in memory; a list is copied by three bytes."""
    sets = b"\x80\x04" + b"\x8f" * 30_000 + b"."
    refused(
        torch_zip(tmp_path / "x.pt", sets, {}, zipfile.ZIP_DEFLATED), read_torch, "what its pickle describes"
    )
    copies = b"\x80\x02cbuiltins\nlist\nq\x00]q\x01(" + b"N" * 10**5 + b"e0" + b"h\x00h\x01\x85R" * 20 + b"."
    refused(torch_zip(tmp_path / "y.pt", copies, {}), read_torch, "what its pickle copies")


def test_numbers_of_one_hash(tmp_path):
    """Keys that are multiples of 2^61 - 1 all hash to 0: a table of 100,000 would take minutes."""
    table = {i * (2**61 - 1): None for i in range(9, 2000)}
    code = b"\x80\x02}(" + b"".join(
        b"\x8a\x10" + (i * (2**61 - 1)).to_bytes(16, "little") + b"N" for i in range(9, 10**5)
    )
    assert len(table) == 1991
    refused(torch_zip(tmp_path / "x.pt", code + b"u.", {}), read_torch, "more than 64 bits")


# --- zip, npz, npy


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(shape, dtype="<f4", content=b"") -> bytes:
    buffer = io.BytesIO()
    described = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue() + content


def test_deflated_bombs_in_npz(tmp_path):
    bomb = npy((10**5, 200), content=bytes(8 * 10**7))
    for how in (read, read_table):
        refused(npz(tmp_path / "x.npz", keys=npy((1,), "<U1", b"a\0\0\0"), vectors=bomb), how, "80000")
    np.savez_compressed(tmp_path / "fine.npz", keys=np.array(["a", "b"]), vectors=np.zeros((2, 10**4), "f4"))
    assert read_table(tmp_path / "fine.npz").keys == ["a", "b"]


def test_many_entries_of_one_member(tmp_path, low):
    """Each entry of the directory unpacks to 8 MB, and all of them are the same bytes."""
    content = npy((2 * 10**6,), content=bytes(8 * 10**6))
    packed = zlib.compressobj(1, zlib.DEFLATED, -15)
    data = packed.compress(content) + packed.flush()
    names = [f"{i}.npy".encode() for i in range(50)]
    sizes = struct.pack("<3I", zlib.crc32(content), len(data), len(content))
    local = (
        b"PK\3\4"
        + struct.pack("<5H", 20, 0, 8, 0, 0)
        + sizes
        + struct.pack("<2H", len(names[0]), 0)
        + names[0]
    )
    entries = b"".join(
        b"PK\1\2"
        + struct.pack("<6H", 20, 20, 0, 8, 0, 0)
        + sizes
        + struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, 0)
        + name
        for name in names
    )
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 50, 50, len(entries), len(local + data), 0)
    (tmp_path / "x.npz").write_bytes(local + data + entries + end)
    refused(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((10**18, 0), "<f4"),
        ((0, 10**18), "<f4"),
        ((10**18,), "|S0"),
        ((2**40, 2**40), "<f4"),
        ((3, 4), "<f4"),
    ],
)
def test_npy_that_states_what_is_not_there(tmp_path, shape, dtype):
    (tmp_path / "v.npy").write_bytes(npy(shape, dtype, bytes(8)))
    refused(tmp_path / "v.npy", read_table)


def test_a_header_of_npy_that_no_parser_bears(tmp_path):
    """Python's parser gives up on it with a MemoryError that says nothing."""
    header = b"-" * 9000 + b"1\n"
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    refused(tmp_path / "v.npy", read_table, "damaged, or not an npy file")


# --- safetensors


def safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"shape": [10**18] * 200_000}, "a shape of 200000 numbers"),
        ({"shape": [2**62, 2**62]}, "of shape"),
        ({"shape": [10**18, 0], "data_offsets": [0, 0]}, "of shape"),
        ({"shape": [0, 10**300]}, "of shape"),
        ({"data_offsets": [0, 10**30]}, "is at bytes 0 to 1000000000000000000000000000000"),
        ({"shape": [True]}, "of shape"),
        ({"shape": [1.0]}, "of shape"),
        ({"dtype": "F" * 10**6}, "has element type"),
    ],
)
def test_safetensors_that_state_what_cannot_be(tmp_path, row, named):
    header = {"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **row}}
    refused(safetensors(tmp_path / "m.safetensors", header, bytes(4)), match=named)


def test_tensors_that_overlap_are_refused(tmp_path):
    one = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}
    header = {"a": one, "b": {**one, "data_offsets": [4, 12]}}
    refused(
        safetensors(tmp_path / "m.safetensors", header, bytes(12)),
        match="begins at byte 4, expected at byte 8",
    )


# --- gensim


def gensim_save(path: Path, dim: int = 3) -> Path:
    vectors = KeyedVectors(dim)
    vectors.add_vectors(["a", "b"], np.arange(2 * dim, dtype=np.float32).reshape(2, dim))
    vectors.save(str(path), sep_limit=0)
    return path


def test_a_buffer_that_is_a_number(tmp_path):
    """bytearray(10**11) would be 100 GB of zeros."""

    class Numbers:
        def __reduce__(self):
            return import_module("numpy._core.numeric")._frombuffer, (10**11, np.dtype("f4"), (2, 3), "C")

    vectors = KeyedVectors(3)
    vectors.add_vectors(["a", "b"], np.ones((2, 3), np.float32))
    vectors.vectors = Numbers()
    with (tmp_path / "m.kv").open("wb") as stream:
        pickle.dump(vectors, stream)
    refused(tmp_path / "m.kv", read_table, "its numbers are a int")


def test_keys_that_are_shared_lists(tmp_path):
    """Text of a list that holds one list twice, 40 deep, would have 2^40 parts."""
    vectors = KeyedVectors(3)
    vectors.add_vectors(["a", "b"], np.ones((2, 3), np.float32))
    nested: list[object] = []
    for _ in range(40):
        nested = [nested, nested]
    vectors.index_to_key = [nested, "b"]
    with (tmp_path / "m.kv").open("wb") as stream:
        pickle.dump(vectors, stream)
    refused(tmp_path / "m.kv", read_table)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=400), st.just(b"")), at=st.integers(0, 200))
def test_any_bytes_beside_a_gensim_save_are_refused(tmp_path, content, at):
    """In place of the vectors, or put over a part of their header: never other vectors without a word."""
    path = gensim_save(tmp_path / "m.kv")
    beside = tmp_path / "m.kv.vectors.npy"
    whole = beside.read_bytes()
    expected = read_table(path).vectors.copy()
    changed = whole[: min(at, 127)] + content + whole[min(at, 127) + len(content) : 128]
    for damaged in (content, changed[:128] + whole[128:], whole + content, whole[: len(whole) - at % 24 - 1]):
        beside.write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            np.testing.assert_array_equal(read_table(path).vectors, expected)


@pytest.mark.parametrize(
    "other",
    [np.ones((3, 3)), np.ones((2, 4)), np.ones((1, 6)), np.ones(6), np.ones((2, 3), int), np.ones((2, 0))],
)
def test_a_matrix_of_another_model_beside_a_gensim_save(tmp_path, other):
    path = gensim_save(tmp_path / "m.kv")
    np.save(tmp_path / "m.kv.vectors.npy", other.astype(np.float32 if other.dtype == float else other.dtype))
    refused(path, read_table, "belongs to another model|of shape")


@pytest.mark.parametrize("key", [None, 0.0, 2.5, False, True, ()])
def test_keys_of_a_gensim_save_are_texts_or_numbers(tmp_path, key):
    """Those that are false, such as None, became keys by their repr."""
    vectors = KeyedVectors(3)
    vectors.add_vectors(["cat", "dog"], np.eye(2, 3, dtype=np.float32))
    vectors.index_to_key[1] = key
    vectors.save(str(tmp_path / "m.kv"))
    refused(tmp_path / "m.kv", read_table, "neither text nor a number")


@pytest.mark.parametrize("name", ["vectors_ngrams", "vectors_vocab", "syn1neg"])
def test_other_matrices_beside_a_gensim_save(tmp_path, name):
    """Where n-grams had another dimension they were left out, and words not known had no vector any more."""
    model = FastText([["cat", "dog"]] * 9, vector_size=4, min_count=1, bucket=20, workers=1)
    model.save(str(tmp_path / "m"), sep_limit=0)
    [beside] = tmp_path.glob(f"m*.{name}.npy")
    rows = np.load(beside)
    for other in (rows[:, :3], np.concatenate([rows, rows]), np.full(rows.shape, np.nan, np.float32)):
        np.save(beside, other)
        refused(tmp_path / "m", read_table, "NaN|damaged")
    np.save(beside, rows)
    assert read_table(tmp_path / "m").keys == model.wv.index_to_key


# --- packed text, word2vec, Parquet


def test_gzip_that_unpacks_without_end(tmp_path, low):
    line = b"a 0.0" + b"0" * 10**6 + b"\n"
    (tmp_path / "v.gz").write_bytes(gzip.compress(b"1000000 1\n" + line * 10, 6))
    refused(tmp_path / "v.gz", read_table, r"its gzip data of [\d,]+ bytes expands to more than")


def test_word2vec_binary_states_what_is_not_there(tmp_path):
    for head in (b"1000000000000 300\n", b"2 1000000000000000000\n", b"0 1000000000000000000\n"):
        (tmp_path / "v.bin").write_bytes(head + b"a " + bytes(40))
        refused(tmp_path / "v.bin", lambda path: read_table(path, format="word2vec-binary"))


@pytest.mark.parametrize("stated", [b"2 3\n", b"3 2\n"])
def test_a_first_line_that_disagrees_with_a_binary_file(tmp_path, stated):
    """Fewer rows than follow were read without a word."""
    vectors = np.arange(9, dtype=np.float32).reshape(3, 3)
    write_table(tmp_path / "v.bin", Table(["a", "b", "c"], vectors), "word2vec-binary")
    whole = (tmp_path / "v.bin").read_bytes()
    (tmp_path / "v.bin").write_bytes(whole.replace(b"3 3\n", stated, 1))
    refused(tmp_path / "v.bin", lambda path: read_table(path, format="word2vec-binary"))


def test_parquet_of_a_million_equal_rows(tmp_path):
    """80 MB of vectors from a few KB, and as much of keys."""
    rows = 150_000
    vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(np.zeros(rows * 128, np.float32)), 128)
    keys = arrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["k"])
    parquet.write_table(arrow.table({"k": keys.cast(arrow.string()), "v": vectors}), tmp_path / "v.parquet")
    refused(tmp_path / "v.parquet", read_table, "bytes of memory")
    long = arrow.DictionaryArray.from_arrays(np.zeros(500, np.int32), ["k" * 200_000]).cast(
        arrow.large_string()
    )
    parquet.write_table(
        arrow.table({"k": long, "x": np.zeros(500)}), tmp_path / "k.parquet", compression="zstd"
    )
    refused(tmp_path / "k.parquet", read_table, "its keys takes")


# --- folders


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"min_n": 10**9}, "min_n"),
        ({"max_n": 10**6}, "max_n"),
        ({"buckets": 10**12}, "buckets"),
        ({"dim": []}, "dim is"),
        ({"settings": []}, "settings is"),
        ({"settings": {"word_ngrams": 10**9}}, "word_ngrams"),
        ({"settings": {"labels": "abc"}}, "labels"),
        ({"settings": {"prompts": [1]}}, "prompts"),
        ({"words": 7}, "words is 7"),
    ],
)
def test_our_folder_states_what_cannot_be(tmp_path, change, named):
    table = Table(
        ["a", "b"],
        np.ones((2, 3), np.float32),
        subwords=Subwords(np.ones((5, 3), np.float32), 2, 3),
        kind="fasttext",
    )
    write_table(tmp_path / "t", table, "omnivec")
    config = json.loads((tmp_path / "t" / "config.json").read_text())
    (tmp_path / "t" / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(OmnivecError, match=named):
        omnivec.load(tmp_path / "t").encode("a b")


def test_ngrams_of_another_dimension_in_our_folder(tmp_path):
    table = Table(
        ["a"],
        np.ones((1, 3), np.float32),
        subwords=Subwords(np.ones((5, 4), np.float32), 2, 3),
        kind="fasttext",
    )
    write_table(tmp_path / "t", table, "omnivec")
    with pytest.raises(WeightsError, match="n-grams of 4 dimensions for keys of 3"):
        read_table(tmp_path / "t")


# --- the helper


@given(
    stated=st.one_of(
        st.integers(), st.floats(), st.booleans(), st.text(), st.none(), st.lists(st.integers())
    ),
    each=st.integers(1, 100),
    begin=st.integers(0, 300),
)
def test_a_count_that_passes_fits_the_file(stated, each, begin):
    bounds = Bounds(Path("f"), 200)
    try:
        count = bounds.count("pieces", stated, each, begin)
    except WeightsError as error:
        assert "\n" not in str(error)
    else:
        assert type(count) is int and begin + count * each <= 200


@given(value=st.recursive(st.one_of(st.integers(), st.text(), st.binary(), st.floats()), st.lists))
def test_a_value_is_shown_in_one_short_line(value):
    assert len(brief(value)) <= 123 and "\n" not in brief(value)
    assert len(brief([value] * 1000)) <= 123 and len(brief(10**5000)) < 50


def test_what_a_library_says_on_two_lines_is_said_on_one(tmp_path):
    """Python's own message about a persistent id has a line break in it."""
    persistent = b"\x80\x02X\x01\x00\x00\x00xQ."
    with pytest.raises(pickle.UnpicklingError, match="\n"):
        pickle.loads(persistent)
    (tmp_path / "model").write_bytes(persistent)
    with pytest.raises(WeightsError, match="persistent") as said:
        read_pickle(tmp_path / "model")
    assert "\n" not in str(said.value)
