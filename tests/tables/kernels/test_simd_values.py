"""Sixteen floats as one value: each operation against NumPy."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from omnivec.tables.kernels import simd
from omnivec.tables.kernels.simd import (
    blanks,
    compiled,
    fma,
    fold,
    load,
    lowest_bit,
    prefetch,
    sigmoid,
    splat,
    store,
    total,
)


@compiled
def everything(a, b, out):
    x, y = load(a, 0), load(b, 3)
    prefetch(a, 0)
    store(out, 0, x + y)
    store(out, 16, x - y)
    store(out, 32, x * y)
    store(out, 48, fma(x, y, splat(np.float32(0.5))))
    store(out, 64, sigmoid(x))
    store(out, 80, fold(x, y))
    return total(x)


@compiled
def sixteen_totals(rows, out):
    a = fold(fold(load(rows, 0), load(rows, 16)), fold(load(rows, 32), load(rows, 48)))
    b = fold(fold(load(rows, 64), load(rows, 80)), fold(load(rows, 96), load(rows, 112)))
    c = fold(fold(load(rows, 128), load(rows, 144)), fold(load(rows, 160), load(rows, 176)))
    d = fold(fold(load(rows, 192), load(rows, 208)), fold(load(rows, 224), load(rows, 240)))
    store(out, 0, fold(fold(a, b), fold(c, d)))


@compiled
def blank_bytes(text, spaces):
    return blanks(text, 0, spaces), lowest_bit(blanks(text, 0, spaces))


def test_each_operation_is_numpys():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 24)).astype(np.float32) * 4
    out = np.zeros(96, np.float32)
    summed = everything(a, b, out)
    x, y = a[:16], b[3:19]
    np.testing.assert_array_equal(out[:48], np.concatenate([x + y, x - y, x * y]))
    np.testing.assert_allclose(out[48:64], x * y + np.float32(0.5), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(out[64:80], 1 / (1 + np.exp(-x.astype(float))), rtol=2e-6)
    np.testing.assert_allclose(out[80:], np.concatenate([x, y]).reshape(-1, 2).sum(1), rtol=1e-6)
    assert summed == pytest.approx(float(x.sum()), rel=1e-5)


def test_four_folds_are_sixteen_totals_in_order():
    rows = np.random.default_rng(1).standard_normal((16, 16)).astype(np.float32)
    out = np.zeros(16, np.float32)
    sixteen_totals(rows.reshape(-1), out)
    np.testing.assert_allclose(out, rows.sum(1), rtol=1e-5, atol=1e-6)


def test_the_sigmoid_of_large_numbers_is_finite():
    x = np.array([-1e30, -100, -80, -20, 0, 20, 80, 1e30] * 2, np.float32)
    out = np.zeros(96, np.float32)
    everything(x, np.zeros(24, np.float32), out)
    found = out[64:80]
    assert np.isfinite(found).all()
    assert (found >= 0).all() and (found <= 1).all()
    np.testing.assert_allclose(found[3:6], [1 / (1 + np.exp(20)), 0.5, 1 / (1 + np.exp(-20))], rtol=2e-6)


@pytest.mark.parametrize("spaces", [True, False])
def test_blanks_are_what_parts_words_and_bytes_that_utf8_never_has(spaces):
    for start in range(0, 256, 64):
        text = np.arange(start, start + 64, dtype=np.uint8)
        expected = [b >= 0xFE or (spaces and chr(b) in " \t\n\r\v\f\0") for b in text.tolist()]
        bits, lowest = blank_bytes(text, spaces)
        assert [bool(int(bits) >> i & 1) for i in range(64)] == expected
        assert lowest == (expected.index(True) if any(expected) else 64)


def test_machine_code_lies_apart_from_the_source_by_the_digest_of_all_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path))
    assert simd._machine_code().startswith(str(tmp_path / "numba"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path / "file"))  # no folder can be made below a file
    assert simd._machine_code() == ""


def test_machine_code_of_other_kernels_is_forgotten_after_a_month(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path))
    old, recent, strange = (tmp_path / "numba" / name for name in ("old", "recent", "strange"))
    for folder, days in ((old, 31), (recent, 29), (strange, None)):
        (folder / "word2vec_1").mkdir(parents=True)
        (folder / "word2vec_1" / "learn.nbc").touch()
        if days:
            used = folder / simd.USED
            used.touch()
            os.utime(used, (time.time() - days * 86_400,) * 2)
    own = Path(simd._machine_code())
    left = {path.name for path in (tmp_path / "numba").iterdir()}
    assert left == {"recent", "strange", own.name}  # one without our mark is not ours
    os.utime(own / simd.USED, (0, 0))
    assert simd._machine_code() == str(own) and time.time() - (own / simd.USED).stat().st_mtime < 60
