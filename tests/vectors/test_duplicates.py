"""Groups of copies: against all pairs and their components, and on copies of real photographs."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

import omnivec
import photographs
from omnivec.errors import UsageError
from omnivec.inputs.image.hashes import image_hash
from omnivec.vectors import duplicates
from omnivec.vectors.duplicates import by_hash, by_vector, hash_pairs, joined, vector_pairs


def components(near: np.ndarray) -> list[list[int]]:
    """What is joined by pairs, however far: the reference."""
    _, labels = connected_components(coo_matrix(near), directed=False)
    groups = [np.flatnonzero(labels == label).tolist() for label in dict.fromkeys(labels)]
    return [group for group in groups if len(group) > 1]


def listed(groups: list[np.ndarray]) -> list[list[int]]:
    return [group.tolist() for group in groups]


@settings(max_examples=150, deadline=None)
@given(
    hashes=st.lists(
        st.sampled_from([0, 1, 3, 7, 2**63, 2**64 - 1, 0xFF00FF, 0xFF00FE]) | st.integers(0, 2**64 - 1)
    ),
    distance=st.integers(0, 64),
    pairs=st.integers(1, 20),
)
def test_groups_by_hash_are_the_components_of_near_pairs(hashes, distance, pairs):
    bits = np.zeros((len(hashes), len(hashes)), int)
    for i, j in np.ndindex(bits.shape):
        bits[i, j] = (hashes[i] ^ hashes[j]).bit_count()
    near = (bits <= distance) & np.array([one != 0 for one in hashes], bool)
    near &= near.T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_PAIRS", pairs)
        found = by_hash(np.array(hashes, np.uint64), distance)
    assert listed(found) == components(near)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 1000), count=st.integers(0, 60), cosine=st.floats(-1, 1), pairs=st.integers(1, 500)
)
def test_groups_by_vector_are_the_components_of_near_pairs(seed, count, cosine, pairs):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 3)).astype(np.float32)
    vectors[rng.random(count) < 0.1] = 0
    vectors[count // 2 :] *= 7
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    rows = vectors / np.where(norms > 0, norms, np.nan)[:, None]
    cosines = np.nan_to_num(rows @ rows.T, nan=-2)
    if np.abs(cosines - cosine).min(initial=1) < 1e-5:
        return  # rounding decides
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_PAIRS", pairs)
        found = by_vector(vectors, cosine)
    assert listed(found) == components(cosines >= cosine)


@settings(max_examples=60, deadline=None)
@given(
    hashes=st.lists(st.sampled_from([0, 1, 3, 7, 2**63, 0xFF00FF, 0xFF00FE]) | st.integers(0, 2**64 - 1)),
    distance=st.integers(0, 64),
    pairs=st.integers(1, 20),
)
def test_pairs_of_hashes_are_all_near_ones_once(hashes, distance, pairs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_PAIRS", pairs)
        found = [tuple(pair) for part in hash_pairs(np.array(hashes, np.uint64), distance) for pair in part]
    expected = [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if hashes[i] and hashes[j] and (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]
    assert sorted(found) == expected


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 40),
    cosine=st.floats(-0.9, 0.9),
    most=st.integers(1, 50),
    pairs=st.integers(1, 500),
)
def test_pairs_of_vectors_are_the_nearest_of_each(seed, count, cosine, most, pairs):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 5)).astype(np.float32)
    vectors[rng.random(count) < 0.1] = 0
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    rows = vectors / np.where(norms > 0, norms, np.nan)[:, None]
    cosines = np.nan_to_num(rows @ rows.T, nan=-2)
    np.fill_diagonal(cosines, -2)
    if np.abs(cosines - cosine).min(initial=1) < 1e-5:
        return  # rounding decides
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_PAIRS", pairs)
        found = {tuple(pair) for part in vector_pairs(vectors, cosine, most) for pair in part.tolist()}
    expected = {
        (min(i, j), max(i, j))
        for i in range(count)
        for j in np.argsort(-cosines[i])[:most].tolist()
        if cosines[i, j] >= cosine
    }
    assert found == expected


def test_pairs_join_groups():
    pairs = np.array([[0, 4], [2, 3], [4, 5]])
    assert listed(joined(7, pairs)) == [[0, 4, 5], [2, 3]]
    assert joined(3, np.zeros((0, 2), np.int64)) == []
    with pytest.raises(UsageError, match="most=0"):
        list(vector_pairs(np.ones((2, 2), np.float32), 0.5, 0))


def test_equal_rows_are_one_group_at_the_strictest():
    rows = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    assert listed(by_vector(np.concatenate([rows, 3 * rows]), 1.0)) == [[i, i + 40] for i in range(40)]
    hashes = np.arange(1, 9, dtype=np.uint64)
    assert listed(by_hash(np.concatenate([hashes, hashes]), 0)) == [[i, i + 8] for i in range(8)]


def test_many_copies_of_one_are_one_group():
    hashes = np.full(20_000, 5, np.uint64)
    assert [len(group) for group in by_hash(hashes)] == [20_000]
    assert [len(group) for group in by_vector(np.ones((3_000, 4), np.float32))] == [3_000]


def test_nothing_has_no_groups():
    assert by_hash(np.zeros(0, np.uint64)) == []
    assert by_hash(np.zeros(3, np.uint64)) == []
    assert by_vector(np.zeros((0, 4), np.float32)) == []
    assert by_vector(np.zeros((3, 4), np.float32)) == []


def test_what_cannot_be_meant_is_refused():
    wrong: Any
    for wrong in (np.zeros(3, np.int64), np.zeros((3, 1), np.uint64)):
        with pytest.raises(UsageError, match=r"\(n,\) uint64"):
            by_hash(wrong)
    with pytest.raises(UsageError, match="distance=65"):
        by_hash(np.zeros(3, np.uint64), 65)
    with pytest.raises(UsageError, match=r"cosine=1\.5"):
        by_vector(np.zeros((3, 1), np.float32), 1.5)
    with pytest.raises(UsageError, match=r"vectors \(3,\)"):
        by_vector(np.zeros(3, np.float32))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(photographs.encoded(image, "JPEG", quality=quality))).convert("RGB")


def cut(image: Image.Image, share: float, across: float, down: float) -> Image.Image:
    width, height = (int(side * share) for side in image.size)
    left, top = int((image.width - width) * across), int((image.height - height) * down)
    return image.crop((left, top, left + width, top + height))


def scaled(image: Image.Image, share: float) -> Image.Image:
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.BICUBIC)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact": lambda image: image.copy(),
    "half as large": lambda image: scaled(image, 1 / 2),
    "a third as large": lambda image: scaled(image, 1 / 3),
    "twice as large": lambda image: scaled(image, 2),
    "quality 30": lambda image: jpeg(image, 30),
    "half as large at quality 50": lambda image: jpeg(scaled(image, 1 / 2), 50),
    "flattened": lambda image: image.resize((image.width, round(image.height * 0.9))),
}
CROPS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "nine tenths": lambda image: cut(image, 0.9, 0.5, 0.5),
    "a corner": lambda image: cut(image, 0.9, 0, 1),
    "four fifths": lambda image: cut(image, 0.8, 0.2, 0.3),
}


def judged(groups: list[np.ndarray], photograph: np.ndarray) -> tuple[float, float]:
    """Precision and recall of pairs, of which `photograph` says what each image shows."""
    group = np.arange(len(photograph)) + len(photograph)
    for number, rows in enumerate(groups):
        group[rows] = number
    above = np.triu_indices(len(photograph), 1)
    found = (group[:, None] == group)[above]
    true = (photograph[:, None] == photograph)[above]
    return (found & true).sum() / found.sum(), (found & true).sum() / true.sum()


def test_hashes_find_resized_and_recompressed_photographs_and_nothing_else():
    images = [photographs.rgb(name) for name in photographs.paths()]
    hashes = np.array([image_hash(copy(image)) for copy in COPIES.values() for image in images])
    shows = np.tile(np.arange(len(images)), len(COPIES))
    precision, recall = judged(by_hash(hashes), shows)
    assert precision == 1.0
    assert recall == 1.0
    precision, recall = judged(by_hash(hashes, 16), shows)
    assert precision == 1.0, "there is room above the threshold"
    assert judged(by_hash(hashes, 0), shows)[1] < 0.9, "and need for it"


def test_vectors_find_cropped_photographs_too_and_nothing_else(lite0):
    images = [photographs.rgb(name) for name in photographs.paths()]
    crops = [copy(image) for copy in (COPIES["exact"], *CROPS.values()) for image in images]
    shows = np.tile(np.arange(len(images)), 1 + len(CROPS))
    vectors = omnivec.load(lite0).encode(crops)
    precision, recall = judged(by_vector(vectors, 0.8), shows)
    assert precision == 1.0
    assert recall >= 0.95
    hashes = np.array([image_hash(crop) for crop in crops])
    assert judged(by_hash(hashes), shows)[1] < 0.5, "which hashes do not"
