"""What the benchmark of images computes: cosines of what tells images apart, shares of decoding, absent families."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("image_encode")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_what_all_images_share_does_not_make_them_alike(benchmark):
    shared = np.array([[100.0, 0.0]], np.float32)
    own = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], np.float32)
    turned = own[:, ::-1] * [1, -1]  # each by a right angle
    near = benchmark.cosines([shared + own], [shared + own])
    np.testing.assert_allclose(near, np.ones(4), atol=1e-5)
    np.testing.assert_allclose(benchmark.cosines([shared + turned], [shared + own]), np.zeros(4), atol=1e-5)


def test_a_row_says_how_fast_how_near_and_what_decoding_takes(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark.machine, "peaks", lambda threads: {"float32": 100.0 * threads})
    spent, vectors = benchmark.Spent, np.eye(4, dtype=np.float32)

    def measured(seconds, preparing):
        return benchmark.Measured(
            [spent(preparing, preparing)] * 2,
            [spent(seconds - preparing, seconds - preparing)] * 2,
            [vectors] * 2,
        )

    found = {benchmark.BASE: measured(4.0, 1.0), "omnivec float32": measured(2.0, 0.5)}
    line = benchmark.row("m", "files", "omnivec float32", (8, 30e9, 2), found)
    assert (line["images_per_s"], line["ratio_cpu"], line["decoding"]) == (4.0, 2.0, 0.25)
    assert (line["gflops"], line["peak_part"]) == (160.0, 0.8)  # 8 images of 30 GFLOP in the network's 1.5 s
    assert line["cosine_min"] == 1 and line["status"] == "ok"


def test_a_model_whose_family_is_not_there_is_skipped_with_the_reason(benchmark, monkeypatch):
    subject = benchmark.SUBJECTS["ViT-B/32"]
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    absent = dataclasses.replace(subject, family="nowhere", settings={**small, "patch_size": 32})
    monkeypatch.setitem(benchmark.SUBJECTS, "ViT-B/32", absent)
    asked = argparse.Namespace(precisions=["float32"], threads=1)
    (line,) = benchmark.compare("ViT-B/32", asked)
    assert line["status"] == "skipped: No module named 'omnivec.families.nowhere'"
    assert line["images_per_s"] == ""


def test_small_models_are_measured_from_arrays_and_files(benchmark, monkeypatch):
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    small = dataclasses.replace(benchmark.SUBJECTS["ViT-B/32"], settings={**settings, "patch_size": 32})
    monkeypatch.setitem(benchmark.SUBJECTS, "ViT-B/32", small)
    asked = argparse.Namespace(precisions=["float32"], threads=1, images=4, batch=3, repetitions=1)
    lines = benchmark.compare("ViT-B/32", asked)
    assert [(line["source"], line["engine"], line["status"]) for line in lines] == [
        ("arrays", "torch float32", "ok"),
        ("arrays", "omnivec float32", "ok"),
        ("files", "torch float32", "ok"),
        ("files", "omnivec float32", "ok"),
    ]
    assert lines[1]["cosine_min"] > 0.99999 and lines[3]["decoding"] > 0
