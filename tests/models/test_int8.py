"""int8: rounding by hand, the engine keeps it, both engines agree, one identity, and what it costs is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import checkpoints
import omnivec
from omnivec import weights
from omnivec.collection import identity
from omnivec.errors import UsageError, WeightsError
from omnivec.inputs.text import TOLERANCE
from omnivec.models import precision
from omnivec.ops import openvino
from omnivec.ops.quantized import LEAST, Quantized, QuantizedWeights, bytes_of, is_matrix, quantize
from omnivec.testing import check_close, open_model
from patience import PATIENCE

TEXTS = [f"text number {i} " + "the quick brown fox " * (i % 5) for i in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("int8")
    checkpoints.bert(place, width=128)
    return place


def tensor(values: np.ndarray) -> weights.Tensor:
    return weights.Tensor("", "F32", values.shape, values)


def test_rounding_by_hand() -> None:
    small = quantize(tensor(np.array([[1.27, -0.5, 0.004], [0, 0, 0], [-254, 1, 3]], np.float32)))
    assert small.data.tolist() == [[127, -50, 0], [0, 0, 0], [-127, 0, 2]]
    np.testing.assert_allclose(small.scale[[0, 2]], [0.01, 2], rtol=1e-6)
    np.testing.assert_allclose(
        small.float32(), [[1.27, -0.5, 0.0], [0.0, 0.0, 0.0], [-254.0, 0.0, 4.0]], rtol=1e-6
    )


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-(2.0**99), 2.0**99, width=32),
    )
)
def test_a_value_is_off_by_half_a_step_at_most(values: np.ndarray) -> None:
    rounded = quantize(tensor(values))
    assert rounded.data.min() >= -127
    step = np.maximum(np.abs(values).max(1), 1e-30) / 127
    assert (np.abs(rounded.float32() - values) <= 0.5001 * step[:, None]).all()
    again = quantize(tensor(rounded.float32()))
    assert np.array_equal(again.data, rounded.data)


def test_blocks_of_rows_are_rounded_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(37, 11)).astype(np.float32)
    whole = quantize(tensor(values))
    monkeypatch.setattr("omnivec.ops.quantized.BLOCK", 30)
    assert np.array_equal(quantize(tensor(values)).data, whole.data)


def test_half_precision_is_read_as_what_it_means() -> None:
    values = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    half = weights.Tensor("", "BF16", bits.shape, bits)
    assert np.array_equal(quantize(half).data, quantize(tensor(half.float32())).data)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(WeightsError, match="not finite"):
        quantize(tensor(np.array([[1, np.nan]], np.float32)))


def test_only_large_matrices_are_rounded() -> None:
    side = int(LEAST**0.5)
    own = {
        "matrix": tensor(np.ones((side, side), np.float32)),
        "strip": tensor(np.ones((side, side - 1), np.float32)),
        "norm": tensor(np.ones(LEAST, np.float32)),
        "kernel": tensor(np.ones((side, side, 3), np.float32)),
        "ids": weights.Tensor("", "I64", (side, side), np.ones((side, side), np.int64)),
    }
    rounded = QuantizedWeights(own)
    assert [name for name in rounded if isinstance(rounded[name], Quantized)] == ["matrix"]
    assert rounded["matrix"] is rounded["matrix"]
    assert [name for name in own if is_matrix(own[name])] == ["matrix"]
    square = side * side
    rest = 4 * sum(own[name].data.size for name in own if name != "matrix")
    assert bytes_of(own, "float32") == 4 * square + rest
    assert bytes_of(own, "int8") == square + 4 * side + rest


def test_the_engine_keeps_int8(folder: Path) -> None:
    """No product or table of the compiled graph has float weights."""
    compiled: Any = open_model(folder, precision="int8").encoder
    nodes = compiled._body._compiled.get_runtime_model().get_ops()
    facts = [{key: node.get_rt_info()[key].astype(str) for key in ("layerType",)} for node in nodes]
    weights_of = {
        kind: [
            node.input_value(1 if kind == "FullyConnected" else 0).get_element_type().to_string()
            for node, fact in zip(nodes, facts, strict=True)
            if fact["layerType"] == kind
        ]
        for kind in ("FullyConnected", "Gather")
    }
    layers = compiled.model.config.num_hidden_layers
    assert weights_of["FullyConnected"] == ["i8"] * (6 * layers)
    assert weights_of["Gather"].count("i8") >= 2


def test_both_engines_compute_the_same_rounded_model(folder: Path) -> None:
    ours = open_model(folder, precision="int8", deterministic=True).encode(TEXTS)
    torch = open_model(folder, engine="torch", precision="int8").encode(TEXTS)
    check_close(ours, torch, "int8 on both engines")
    exact = open_model(folder, precision="float32").encode(TEXTS)
    assert np.abs(ours - exact).max() > 1e-4  # It is another model than the exact one, if nearly the same.


def test_precision_is_provenance_and_not_identity(folder: Path) -> None:
    small, exact = open_model(folder, precision="int8"), open_model(folder, precision="float32")
    assert (small.provenance["precision"], small.card["precision"]) == ("int8", "int8")
    assert small.identity == exact.identity
    identity.check_same(small.identity, exact.identity, "text")
    assert small.card["reasons"]["precision"] == "as requested"
    assert "arithmetic" in small.card["reasons"]


def test_canaries_judge_a_collection_of_int8(minilm: Path) -> None:
    small = omnivec.load("all-MiniLM-L6-v2", precision="int8", offline=True)
    exact = omnivec.load("all-MiniLM-L6-v2", precision="float32", offline=True)
    assert identity.check_canaries(identity.canaries_of(small), small, "text") < 1e-4
    assert 1e-4 < identity.check_canaries(identity.canaries_of(exact), small, "text") <= TOLERANCE


def test_it_is_never_chosen_by_itself_but_may_be_fixed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMNIVEC_PRECISION")
    assert open_model(folder, precision=None).card["precision"] != "int8"  # type: ignore[arg-type]
    monkeypatch.setenv("OMNIVEC_PRECISION", "int8")
    assert open_model(folder, precision=None).card["precision"] == "int8"  # type: ignore[arg-type]


def test_the_cost_is_measured(folder: Path) -> None:
    model = open_model(folder, precision="float32")
    found = model.precision_loss("int8", [*TEXTS, TEXTS[0]])
    assert found.texts == len(TEXTS)
    a, b = model.encode(TEXTS), open_model(folder, precision="int8").encode(TEXTS)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found.cosine_min == pytest.approx(cosines.min(), abs=1e-3)
    assert 0.9 < found.cosine_min <= found.cosine_p1 <= found.cosine_mean < 1
    assert found.bytes < found.bytes_float32 / 2
    assert found.speed > 0
    same = model.precision_loss("float32", TEXTS)
    assert (same.cosine_min, same.same_nearest, same.same_10_nearest) == pytest.approx((1, 1, 1), abs=1e-6)
    with pytest.raises(UsageError, match="1 different"):
        model.precision_loss("int8", ["x", "x"])
    with pytest.raises(UsageError, match="int4"):
        model.precision_loss("int4", TEXTS)


def test_neighbours_by_hand() -> None:
    def circle(*degrees: float) -> np.ndarray:
        angles = np.radians(degrees)
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    a = circle(0, 10, 30, 90)  # nearest: 1 0 1 2
    b = circle(0, 10, 19, 90)  # nearest: 1 2 1 2
    nearest, among = precision.neighbours_kept(a, b, 1)
    assert (nearest, among) == (0.75, 0.75)
    assert precision.neighbours_kept(a, b, 10) == (0.75, 1.0)  # all three others are among the ten nearest


def test_the_command_prints_a_table_or_json(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8")

    def info(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from omnivec.cli.main import run; sys.exit(run(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "info", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)

    texts = ("--texts", str(tmp_path / "texts.txt"))
    table = info("--precision", "int8", *texts)
    assert table.returncode == 0, table.stderr
    assert "same nearest text" in table.stdout and "40 different texts" in table.stdout
    record = json.loads(info("--precision", "int8", *texts, "--json").stdout)
    assert record["texts"] == 40 and 0.9 < record["cosine_min"] < 1
    refused = info(*texts)
    assert refused.returncode == 2 and "--precision int8" in refused.stderr


def test_the_core_is_told_not_to_round_activations(folder: Path) -> None:
    encoder: Any = open_model(folder, precision="int8").encoder
    executable = encoder._body
    assert isinstance(executable, openvino.OpenVINOExecutable)
    assert executable._compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0
