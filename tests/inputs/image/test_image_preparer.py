"""Images on their way into a model: rows, what of them is seen, reduced decoding, and the graph's first step."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import photographs
from omnivec.errors import ItemError
from omnivec.inputs.image.image import ImagePreparer, normalized
from omnivec.inputs.image.processing import Processing
from omnivec.ops import openvino as openvino_engine
from omnivec.ops import torch as torch_engine
from omnivec.ops.base import EngineSettings

CLIP = Processing((224, 224), (224, 224), mean=(0.48, 0.45, 0.4), std=(0.27, 0.26, 0.28))


def prepared(preparer: ImagePreparer, *items):
    rows: Any = preparer.prepare([preparer.decode(item) for item in items])
    return [row for (row,) in rows]


def test_what_the_loop_asks_of_a_preparer():
    preparer = ImagePreparer(Processing((30, 40), (32, 48), fit="exact"))
    (pixels,) = preparer.inputs
    assert (pixels.name, pixels.dtype, pixels.shape) == ("pixels", np.uint8, (None, 30, 40, 3))
    assert (preparer.unit, preparer.modality, preparer.limit) == ("pixels", "image", 1200)
    picture = preparer.decode(photographs.paths()["china"])
    assert preparer.size(picture) == 640 * 427
    assert preparer.key(picture) == preparer.key(preparer.decode(photographs.paths()["china"]))
    assert preparer.sample()["pixels"].shape[1:] == (30, 40, 3)
    rows = prepared(preparer, photographs.paths()["china"], photographs.rgb("coffee"))
    batch = preparer.collate(rows)["pixels"]
    assert batch.shape == (2, 30, 40, 3) and batch.dtype == np.uint8 and batch.flags.c_contiguous
    assert all(row.cost == 1200 for row in rows)
    assert np.array_equal(batch[1], rows[1].arrays["pixels"])


def test_what_is_cropped_away_is_counted():
    image = Image.new("RGB", (400, 200))
    ((row),) = prepared(ImagePreparer(CLIP), image)  # to 224 x 448, of which the middle half is kept
    assert (row.seen, row.lost) == (40_000, 40_000)
    ((row),) = prepared(ImagePreparer(Processing((9, 9), (9, 9), fit="exact")), image)
    assert (row.seen, row.lost) == (80_000, 0)
    tall = Processing((224, 224), (256, 256), centre="even")  # to 512 x 256
    ((row),) = prepared(ImagePreparer(tall), Image.new("RGB", (100, 200)))
    assert (row.seen, row.lost) == (round(20_000 * 224 / 512 * 224 / 256), 20_000 - 7_656)
    small = Processing((224, 224), (100, 100), fit="contain", fill=(9, 8, 7))
    ((row),) = prepared(ImagePreparer(small), image)
    assert (row.seen, row.lost) == (80_000, 0)
    assert row.arrays["pixels"][0, 0].tolist() == [9, 8, 7]


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    target=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    image=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    fit=st.sampled_from(["cover", "contain", "exact", "none"]),
)
def test_resizing_keeps_its_promises(size, target, image, fit):
    processing = Processing(size, target, fit)
    rows, columns = processing.resized(*image)
    assert rows >= 1 and columns >= 1
    assert 0 <= processing.seen(*image) <= image[0] * image[1]
    if fit == "cover":
        assert rows >= target[0] and columns >= target[1] and (rows == target[0] or columns == target[1])
    if fit == "contain":
        assert rows <= target[0] and columns <= target[1] and (rows == target[0] or columns == target[1])


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("name", ["china", "retina", "hubble_deep_field", "rocket"])
def test_reduced_decoding_shows_the_model_nearly_the_same(name, share):
    """Photographs at a camera's resolution. To a graph of 8-bit pixels a level or two is what resizing rounds to."""
    image = photographs.rgb(name)
    image = image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)
    file = photographs.encoded(image, "JPEG", quality=92)
    processing = Processing((112, 112), (round(112 / share), round(112 / share)))
    (reduced,) = prepared(ImagePreparer(processing), file)
    (exact,) = prepared(ImagePreparer(processing, exact=True), file)
    one, other = (row.arrays["pixels"].astype(np.float64) for row in (reduced, exact))
    assert (reduced.seen, reduced.lost) == (exact.seen, exact.lost)
    assert np.abs(one - other).mean() < 1.5
    one, other = one.ravel() - one.mean(), other.ravel() - other.mean()
    assert one @ other / np.sqrt((one @ one) * (other @ other)) > 0.999


def test_what_is_not_twice_as_large_is_decoded_whole():
    file = photographs.encoded(photographs.rgb("china"), "JPEG", quality=95)  # 427 x 640
    for edge, same in ((107, True), (106, False)):
        processing = Processing((edge, edge), (edge, edge))
        (reduced,) = prepared(ImagePreparer(processing), file)
        (exact,) = prepared(ImagePreparer(processing, exact=True), file)
        assert np.array_equal(reduced.arrays["pixels"], exact.arrays["pixels"]) == same


def test_exact_decoding_is_pillows(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(photographs.encoded(photographs.rgb("china"), "JPEG", quality=80))
    (row,) = prepared(ImagePreparer(CLIP, exact=True), path)
    with Image.open(path) as image:
        resized = np.asarray(image.resize((335, 224), Image.Resampling.BICUBIC))
    assert np.array_equal(row.arrays["pixels"], resized[:, 55:279])


def test_threads_change_nothing_and_are_used(tmp_path, monkeypatch):
    items = [photographs.rgb(name) for name in ("china", "coffee", "rocket", "camera")] * 3
    alone = prepared(ImagePreparer(CLIP), *items)
    used = set()
    apply = Processing.apply

    def noted(self, upright):
        used.add(threading.current_thread())
        return apply(self, upright)

    monkeypatch.setattr(Processing, "apply", noted)
    together = prepared(ImagePreparer(CLIP, threads=3), *items)
    assert threading.main_thread() not in used
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.arrays["pixels"], other.arrays["pixels"])
        assert (one.seen, one.lost, one.cost) == (other.seen, other.lost, other.cost)


def test_what_is_damaged_behind_its_header_fails_when_it_is_prepared(tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(photographs.encoded(photographs.rgb("china"), "JPEG")[:20_000])
    for threads in (1, 2):
        preparer = ImagePreparer(CLIP, threads=threads)
        pictures = [preparer.decode(item) for item in (photographs.rgb("coffee"), path)]
        whole, cut = preparer.prepare(pictures)
        assert isinstance(whole, tuple)
        assert isinstance(cut, ItemError)
        assert "cut.jpg: damaged or cut off" in str(cut)


def test_nothing_is_held_of_a_file_that_was_looked_at(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(photographs.encoded(photographs.rgb("china"), "JPEG"))
    picture = ImagePreparer(CLIP).decode(path)
    assert picture.data == path
    assert sum(sys.getsizeof(value) for value in vars(picture).values()) < 2_000
    path.unlink()  # no handle is open: on every system it can be deleted


@pytest.mark.parametrize("engine", [openvino_engine, torch_engine], ids=["openvino", "torch"])
@pytest.mark.parametrize(
    "processing",
    [CLIP, Processing((5, 7), (5, 7), mean=(103.9, 116.8, 123.7), scale=1.0, order="BGR")],
    ids=["clip", "caffe"],
)
def test_the_graph_normalises(engine, processing):
    preparer = ImagePreparer(processing)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *processing.size, 3), np.uint8)
    program = lambda ops, get, p: {"out": normalized(ops, get("pixels"), processing)}  # noqa: E731
    compiled = engine.compile_program(program, preparer.inputs, {}, EngineSettings())
    got = compiled.run({"pixels": pixels})["out"]
    want = (pixels * processing.scale - np.array(processing.mean)) / np.array(processing.std)
    want = want.transpose(0, 3, 1, 2)
    assert got.shape == (3, 3, *processing.size) and got.dtype == np.float32
    assert np.abs(got - want).max() <= 1e-6 * max(1, np.abs(want).max())
