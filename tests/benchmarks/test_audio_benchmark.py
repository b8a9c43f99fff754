"""What the benchmark of sounds computes: its lengths, its rows, small models from sounds to vectors."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from speech import SMALL

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("audio_encode")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_a_row_says_how_fast_and_how_near(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark.machine, "peaks", lambda threads: {"float32": 100.0 * threads})
    spent, vectors = benchmark.Spent, np.eye(4, dtype=np.float32)

    def measured(cpu):
        return benchmark.Measured([spent(cpu / 2, cpu)] * 2, [vectors] * 2)

    found = {benchmark.BASE: measured(8.0), "omnivec float32": measured(4.0)}
    line = benchmark.row("m", "equal", "omnivec float32", (60.0, 600e9, 2), found)
    assert (line["sound_s_per_cpu_s"], line["ratio_cpu"], line["ratio_wall"]) == (15.0, 2.0, 2.0)
    assert (line["gflops"], line["peak_part"]) == (300.0, 1.5)  # 600 GFLOP in 4 CPU seconds of 2 threads
    assert line["cosine_min"] == 1 and line["status"] == "ok"


def test_small_models_are_measured_with_equal_and_mixed_lengths(benchmark, monkeypatch, tmp_path):
    import transformers

    def publish(folder):
        model = benchmark.scattered(transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL)))
        model.save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
        return benchmark.Speech(model)

    monkeypatch.setitem(benchmark.SUBJECTS, "small", benchmark.Subject(publish))
    monkeypatch.setattr(benchmark.machine, "peaks", lambda threads: {"float32": 100.0})
    asked = argparse.Namespace(precisions=["float32"], threads=1, seconds=20, batch=2, repetitions=1)
    lines = benchmark.compare("small", asked)
    assert [(line["source"], line["engine"], line["status"]) for line in lines] == [
        ("equal", "torch float32", "ok"),
        ("equal", "omnivec float32", "ok"),
        ("mixed", "torch float32", "ok"),
        ("mixed", "omnivec float32", "ok"),
    ]
    assert min(lines[1]["cosine_min"], lines[3]["cosine_min"]) > 0.99999
    assert benchmark.lengths_of("mixed", asked, 16000) in ([16000, 320000], [320000, 16000])


def test_operations_include_both_products_of_attention(benchmark):
    import torch

    def reference(sounds):
        q, k, v = (torch.ones(1, 2, length, 4) for length in (6, 5, 5))
        linear = torch.nn.functional.linear(torch.ones(len(sounds[0]), 8), torch.ones(3, 8))
        with torch.no_grad():
            torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return linear.numpy()

    attention = 2 * 2 * 2 * 6 * 5 * 4  # two products, two operations, two heads
    expected = 2 * (attention + 2 * 100 * 8 * 3) + (attention + 2 * 200 * 8 * 3)
    assert benchmark.operations(reference, [100, 200, 100], 16000) == expected
