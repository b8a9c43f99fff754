"""torch checkpoints, old and new, read without torch and without running them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import enum
import io
import mmap
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnivec.errors import WeightsError
from omnivec.weights import Tensor, read, read_torch

FORMATS = {"zip": True, "legacy": False}
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


@pytest.fixture(params=FORMATS)
def store(request, tmp_path):
    """Writes an object as torch does and returns the file."""

    def write(thing, name="model.bin", **options):
        torch.save(thing, tmp_path / name, _use_new_zipfile_serialization=FORMATS[request.param], **options)
        return tmp_path / name

    return write


def bits(reference):
    kept = reference.detach().contiguous()
    return (kept.view(torch.uint16) if kept.dtype == torch.bfloat16 else kept).numpy()


def checkpoint():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(4, 6, generator=generator)
    state = {str(dtype): (table * 5).to(dtype) for dtype in DTYPES}
    state |= {
        "turned": table.T,
        "stepped": table[1::2, ::3],
        "expanded": table[0].expand(3, 6),
        "row": table[2],
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(table[:2].clone()),
        "permuted": torch.randn(2, 3, 4, generator=generator).permute(2, 0, 1),
    }
    return OrderedDict(state)


def test_every_element_type_and_view_equals_torch(store):
    reference = checkpoint()
    weights = read(store(reference))
    assert list(weights) == list(reference)
    for name, tensor in weights.items():
        assert tensor.name == name and tensor.shape == tuple(reference[name].shape)
        np.testing.assert_array_equal(tensor.data, bits(reference[name]))
        assert tensor.data.flags["C_CONTIGUOUS"] and tensor.data.flags["WRITEABLE"]
    assert weights[str(torch.bfloat16)].dtype == "BF16"


def test_tied_tensors_share_their_memory(store):
    table = torch.randn(5, 3)
    weights = read(store({"in": table, "out": table, "part": table[1:3]}))
    assert np.shares_memory(weights["in"].data, weights["out"].data)
    assert np.shares_memory(weights["in"].data, weights["part"].data)
    assert (weights["in"].name, weights["out"].name) == ("in", "out")


def test_a_module_state_dict_with_its_metadata(store):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    weights = read(store(module.state_dict()))
    assert set(weights) == set(module.state_dict())
    np.testing.assert_array_equal(weights["0.weight"].data, module[0].weight.detach().numpy())


def test_the_new_format_is_mapped_in_place(tmp_path):
    torch.save({"a": torch.ones(100)}, tmp_path / "model.pt")
    tensor = read(tmp_path / "model.pt")["a"]
    owner: Any = tensor.data
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.base
    assert owner is not None
    tensor.data[:] = 3
    assert read(tmp_path / "model.pt")["a"].data.max() == 1


def test_a_compressed_archive_is_unpacked(tmp_path):
    reference = checkpoint()
    torch.save(reference, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    for name, tensor in read(tmp_path / "packed.pt").items():
        np.testing.assert_array_equal(tensor.data, bits(reference[name]))
        assert tensor.data.flags["WRITEABLE"]


def test_a_big_endian_archive(tmp_path):
    values = torch.tensor([1.5, -3.25])
    torch.save({"a": values}, tmp_path / "little.pt")
    with zipfile.ZipFile(tmp_path / "little.pt") as little, zipfile.ZipFile(tmp_path / "big.pt", "w") as big:
        for name in little.namelist():
            content = little.read(name)
            if name.endswith("byteorder"):
                content = b"big"
            if "/data/" in name:
                content = np.frombuffer(content, "<f4").astype(">f4").tobytes()
            big.writestr(name, content)
    np.testing.assert_array_equal(read(tmp_path / "big.pt")["a"].data, values.numpy())


def test_nested_checkpoints_come_back_whole(store):
    saved = {
        "epoch": 3,
        "model": {"encoder": {"w": torch.ones(2)}},
        "list": [torch.zeros(1), (1, "two", None)],
        "args": argparse.Namespace(rate=0.1, kinds=["a"]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "size": torch.Size([2, 3]),
        "set": {1, 2},
    }
    loaded: Any = read_torch(store(saved))
    assert loaded["epoch"] == 3 and loaded["list"][1] == (1, "two", None) and loaded["set"] == {1, 2}
    assert loaded["args"] == {"rate": 0.1, "kinds": ["a"]}
    assert loaded["device"] == "cpu" and loaded["dtype"] == "torch.float16" and loaded["size"] == (2, 3)
    tensor = loaded["model"]["encoder"]["w"]
    assert isinstance(tensor, Tensor) and tensor.name == "model.encoder.w" and tensor.data.tolist() == [1, 1]


def test_what_pyannote_stores_beside_the_weights_is_plain(store, monkeypatch):
    """Its classes are stood in for by plain values; nothing of pyannote is imported."""
    task: Any = types.ModuleType("pyannote.audio.core.task")
    for name, members in {"Problem": {"MONO": 1}, "Resolution": {"CHUNK": 2}}.items():
        setattr(task, name, enum.Enum(name, members, module=task.__name__))
    task.Specifications = dataclasses.make_dataclass("Specifications", ["problem", "resolution", "duration"])
    task.Specifications.__module__ = task.__name__
    for name in ("pyannote", "pyannote.audio", "pyannote.audio.core"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, task.__name__, task)
    stated = task.Specifications(task.Problem.MONO, task.Resolution.CHUNK, 5.0)
    version = torch.torch_version.TorchVersion("2.1.0")
    state = {"resnet.conv1.weight": torch.ones(2, 3)}
    file = store(
        {"pyannote.audio": {"specifications": stated, "versions": {"torch": version}}, "state_dict": state}
    )
    for name in [name for name in sys.modules if name.startswith("pyannote")]:
        monkeypatch.delitem(sys.modules, name)
    stored: Any = read_torch(file)
    beside = stored["pyannote.audio"]
    assert beside["specifications"] == {"problem": 1, "resolution": 2, "duration": 5.0}
    assert beside["versions"] == {"torch": "2.1.0"}
    assert read(file)["resnet.conv1.weight"].data.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "model_state"])
def test_the_state_dict_is_found_in_a_training_checkpoint(store, wrapper):
    optimizer = {"state": {0: {"exp_avg": torch.zeros(9)}}}
    saved = {"step": torch.tensor(7), wrapper: {"a.w": torch.ones(2)}, "optimizer_state": optimizer}
    assert list(read(store(saved))) == ["a.w"]


def test_wrappers_nest_and_parts_are_named_by_their_path(store):
    saved = {"model": {"state_dict": {"encoder": {"w": torch.ones(1)}, "count": 3, "b": torch.ones(1)}}}
    assert list(read(store(saved))) == ["encoder.w", "b"]


@pytest.mark.parametrize(
    ("saved", "message"), [([torch.ones(1)], "holds a list"), ({"a": 1}, "no tensors under 'a'")]
)
def test_no_state_dict_inside(store, saved, message):
    with pytest.raises(WeightsError, match=message):
        read(store(saved))


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(store, tmp_path, protocol):
    file = store({"a": torch.ones(1), "b": Evil(tmp_path / "harmed")}, pickle_protocol=protocol)
    with pytest.raises(
        WeightsError, match=r"would run code \((posix|nt)\.system\): refused; re-save as safetensors"
    ):
        read(file)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "thing",
    [torch.nn.Linear(1, 1), np.float64(3), {1: len}, [torch.ones(1).to_sparse()], getattr],
    ids=["module", "numpy", "builtin", "sparse", "getattr"],
)
def test_other_globals_are_refused_by_name(store, thing):
    with pytest.raises(WeightsError, match=r"would run code \([\w.]+\): refused"):
        read_torch(store(thing))


@pytest.mark.parametrize(
    "name", [("builtins", "eval"), ("torch.storage", "_load_from_bytes"), ("torch", "load")]
)
def test_names_that_look_near_are_refused_too(tmp_path, name):
    code = b"c" + "\n".join(name).encode() + b"\n(V1+1\ntR."
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", code)
    with pytest.raises(WeightsError, match="would run code"):
        read_torch(tmp_path / "x.pt")


def test_one_file_cannot_spoil_the_next(tmp_path):
    # BUILD writes an attribute on the class that stands for argparse.Namespace.
    spoil, plain = b"cargparse\nNamespace\n(N}Vgreeting\nVhello\nstb.", b"cargparse\nNamespace\n."
    found: list[Any] = []
    for name, code in (("spoil.pt", spoil), ("plain.pt", plain)):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x/data.pkl", code)
        found.append(read_torch(tmp_path / name))
    assert found[0].greeting == "hello" and not hasattr(found[1], "greeting")


def described(*storage, offset=0, size=(2,), stride=(1,)):
    """A zip whose pickle describes one tensor as told; its storage holds 4 float32."""
    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return storage if value is marker else None

    class View:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (marker, offset, size, stride, False, OrderedDict())

    marker = object()
    Pickler(buffer, 2).dump({"t": View()})
    return buffer.getvalue()


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "beyond its storage": ({"offset": 3}, "leaves its storage of 4 elements"),
    "a long stride": ({"stride": (4,)}, "leaves its storage"),
    "a negative stride": ({"offset": 3, "stride": (-1,)}, "leaves its storage"),
    "a negative offset": ({"offset": -1}, "leaves its storage"),
    "a negative size": ({"size": (-1,)}, r"of shape \[-1\]"),
    "strides of another rank": ({"stride": (1, 1)}, "damaged"),
    "numbers that are text": ({"offset": "1"}, "damaged"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_view_is_refused(tmp_path, case):
    view, message = FORGED[case]
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", described("storage", torch.FloatStorage, "0", "cpu", 4, **view))
        archive.writestr("x/data/0", np.zeros(4, np.float32).tobytes())
    with pytest.raises(WeightsError, match=message):
        read(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (("storage", torch.FloatStorage, "0", "cpu", 5), "needs 20 bytes and has 16"),
        (("storage", torch.FloatStorage, "0", "cpu", -5), "truncated"),
        (("storage", torch.FloatStorage, "../0", "cpu", 4), "'../0' is missing"),
        (("module", torch.FloatStorage, "0", "cpu", 4), "not the description of a storage"),
        (("storage",), "not the description of a storage"),
    ],
)
def test_a_forged_storage_is_refused(tmp_path, storage, message):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", described(*storage))
        archive.writestr("x/data/0", np.zeros(4, np.float32).tobytes())
    with pytest.raises(WeightsError, match=message):
        read(tmp_path / "x.pt")


def test_a_forged_memo_asks_for_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"}r" + struct.pack("<I", 2**32 - 1) + b".")
    with pytest.raises(WeightsError, match="memo of 4294967295 entries"):
        read(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"PK\x03\x04 nothing", b"just text", bytes(100), pickle.dumps({"a": 1})])
def test_what_is_no_torch_file(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / "x.pt")
    assert "\n" not in str(caught.value) and "x.pt" in str(caught.value)


def test_every_truncation_is_noticed(store, tmp_path):
    whole = store({"a": torch.ones(3), "b": torch.zeros(2, dtype=torch.int16)}).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.bin").write_bytes(whole[:size])
        with pytest.raises(WeightsError):
            read(tmp_path / "cut.bin")


@pytest.fixture
def small(store):
    return store({"a": torch.ones(3), "b": [torch.zeros(2), {"c": 1}]}).read_bytes()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_raises_nothing_else(small, tmp_path, data):
    changed = bytearray(small)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "changed.bin").write_bytes(changed)
    with contextlib.suppress(WeightsError):
        read_torch(tmp_path / "changed.bin")


def test_reading_weights_imports_no_torch(store):
    file = store({"a": torch.ones(1)})
    code = f"import sys, omnivec.weights as w; w.read({str(file)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
