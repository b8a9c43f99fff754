"""What runs where, and why: each choice, its reason, and the trial that is kept."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkpoints
from omnivec.errors import MissingExtra, ModelError, UsageError
from omnivec.inputs.preparer import ReadOptions
from omnivec.models import runtime
from omnivec.models.model import read_model
from omnivec.models.network import Choice, Network, _measure
from omnivec.models.runtime import decide, kept_trial
from omnivec.ops import openvino


def never() -> str:
    raise AssertionError("no trial was needed")


def choose(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], can: bool, trial: Any = "float32", **given: object
) -> runtime.Runtime:
    monkeypatch.delenv("OMNIVEC_PRECISION", raising=False)
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(openvino, "cpu_can_bfloat16", lambda: can)
    asked: dict[str, Any] = {
        "engine": None,
        "precision": None,
        "device": None,
        "threads": None,
        "deterministic": False,
    } | given
    return decide(**asked, trial=lambda: trial)


@pytest.mark.parametrize(
    ("flags", "can", "trial", "expected", "reason"),
    [
        ({"amx_bf16"}, True, "float32", "bfloat16", "AMX"),
        ({"avx512_bf16"}, True, "bfloat16", "bfloat16", "trial"),
        ({"avx512_bf16"}, True, "float32", "float32", "trial"),
        ({"avx2"}, False, "bfloat16", "float32", "no bfloat16"),
    ],
)
def test_precision_by_cpu(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], can: bool, trial: str, expected: str, reason: str
) -> None:
    chosen = choose(monkeypatch, flags, can, trial)
    assert chosen.settings.precision == expected
    assert reason in chosen.reasons["precision"]


def test_what_is_asked_for_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose(monkeypatch, {"amx_bf16"}, True, precision="float32", threads=3)
    assert (chosen.settings.precision, chosen.settings.threads, chosen.settings.streams) == ("float32", 3, 3)
    assert chosen.reasons["precision"] == chosen.reasons["threads"] == "as requested"
    assert choose(monkeypatch, {"amx_bf16"}, True, deterministic=True).settings.precision == "float32"


def test_the_environment_may_fix_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(precision: str | None) -> runtime.Runtime:
        return decide(None, precision, None, None, False, never)  # type: ignore[arg-type]

    monkeypatch.setenv("OMNIVEC_PRECISION", "bfloat16")
    assert asked(None).settings.precision == "bfloat16"
    assert "OMNIVEC_PRECISION" in asked(None).reasons["precision"]
    assert asked("float32").settings.precision == "float32"
    monkeypatch.setenv("OMNIVEC_PRECISION", "half")
    with pytest.raises(UsageError, match="half"):
        asked(None)


def test_a_gpu_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(monkeypatch, set(), False, device="cuda").engine == "torch"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'omnivec\[train\]'"):
        choose(monkeypatch, set(), False, engine="torch")


@pytest.mark.parametrize("wrong", [{"engine": "onnx"}, {"precision": "int4"}, {"threads": 0}])
def test_wrong_choices_name_the_right_ones(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        choose(monkeypatch, set(), False, **wrong)


def test_a_trial_is_made_once_and_kept(tmp_path: Path) -> None:
    file, calls = tmp_path / "trials.json", []

    def measure() -> dict[str, float]:
        calls.append(1)
        return {"float32": 1.0, "bfloat16": 0.5}

    assert kept_trial(file, "cpu a", measure) == "bfloat16"  # type: ignore[arg-type]
    assert kept_trial(file, "cpu a", never) == "bfloat16"  # type: ignore[arg-type]
    assert kept_trial(file, "cpu b", lambda: {"float32": 1.0, "bfloat16": 0.95}) == "float32"
    assert set(json.loads(file.read_text())) == {"cpu a", "cpu b"}
    file.write_text("{damaged")
    assert kept_trial(file, "cpu a", measure) == "bfloat16"  # type: ignore[arg-type]
    assert len(calls) == 2


def test_a_place_that_cannot_be_written_costs_only_the_trial(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert (
        kept_trial(tmp_path / "file" / "trials.json", "k", lambda: {"float32": 1.0, "bfloat16": 2.0})
        == "float32"
    )


def test_the_trial_measures_this_machine(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path / "m")
    seconds = _measure(read_model(tmp_path / "m"))
    assert set(seconds) == {"float32", "bfloat16"}
    assert all(0 < value < 60 for value in seconds.values())


def test_no_gpu_is_said_in_one_line(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    checkpoints.bert(tmp_path / "m")
    with pytest.raises(ModelError, match="sees no GPU"):
        Network.of(read_model(tmp_path / "m"), Choice(device="cuda"), tmp_path / "t.json")


def test_deterministic_vectors_do_not_depend_on_threads(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path / "m")
    texts = ["one", "two words", "and a somewhat longer third text " * 3] * 9
    vectors = []
    for threads in (1, 2, 4):
        compiled = Network.of(
            read_model(tmp_path / "m"), Choice(threads=threads, deterministic=True), tmp_path / "t.json"
        )
        rows: Any = compiled.preparer.prepare(texts, ReadOptions())
        vectors.append(np.concatenate([compiled.compute([row], alone=False) for [row] in rows]))
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])
    assert np.array_equal(vectors[0][:3], vectors[0][3:6])
