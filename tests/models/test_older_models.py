"""Models that older versions saved: each loads, is the same model, and makes the same vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import older
import omnivec
from omnivec.collection.identity import check_same

# Relative to the largest value of the vectors. On the CPU that wrote the archives the difference is 0; with AVX2 in
# place of AVX-512 it is up to 2.8e-7, and torch differs from OpenVINO by up to 1.4e-6.
CLOSE = 2e-6
FULL = [name for name in older.names() if not name.startswith("schema")]
CASES = [(version, model) for version in older.names() for model in older.models(version)]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of an archive -> its contents, unpacked once; nothing is written there."""
    base = tmp_path_factory.mktemp("older")

    def folder(version: str) -> Path:
        return base / version if (base / version).exists() else older.unpack(version, base / version)

    return folder


def loaded(root: Path, model: str) -> Any:
    if model.startswith("doc2vec"):
        pytest.importorskip("numba")  # infers vectors of texts
    return omnivec.load(root / "models" / model)


def same(now: np.ndarray, then: np.ndarray, what: str) -> None:
    assert now.shape == then.shape and now.dtype == then.dtype == np.float32, what
    np.testing.assert_allclose(now, then, rtol=0, atol=CLOSE * float(np.abs(then).max()), err_msg=what)


def test_archives_hold_a_model_of_each_kind_and_small_files(unpacked: Callable[[str], Path]) -> None:
    assert FULL == ["2026-11-21", "2026-11-30"]
    for version in FULL:
        root = unpacked(version)
        assert tuple(sorted(older.recorded(root)[0]["models"])) == tuple(sorted(older.MODELS))
    assert all(place.stat().st_size < 400_000 for place in older.FOLDER.iterdir())


@pytest.mark.parametrize(("version", "model"), CASES)
def test_it_makes_the_vectors_of_the_version_that_saved_it(
    version: str, model: str, unpacked: Callable[[str], Path]
) -> None:
    root = unpacked(version)
    told, arrays = older.recorded(root)
    then = told["models"][model]
    now, vectors = older.model_answers(model, loaded(root, model), root)
    wanted = {name.removeprefix(f"{model}/") for name in arrays if name.startswith(f"{model}/")}
    assert set(vectors) == wanted and now.keys() == then.keys()
    for name in wanted:
        same(vectors[name], arrays[f"{model}/{name}"], name)
    if model in older.TABLES:
        np.testing.assert_array_equal(vectors["table"], arrays[f"{model}/table"])
    check_same(then["identity"], now["identity"], model)
    for name in set(then) - {"similar", "labels", "identity"}:
        assert now[name] == then[name], name
    for rows, expected in zip(
        [now.get("similar", []), *now.get("labels", [])],
        [then.get("similar", []), *then.get("labels", [])],
        strict=True,
    ):
        assert [key for key, _ in rows] == [key for key, _ in expected]
        assert [score for _, score in rows] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize(("version", "model"), CASES)
def test_saved_again_it_is_the_same_model(
    version: str, model: str, unpacked: Callable[[str], Path], tmp_path: Path
) -> None:
    root = unpacked(version)
    first = loaded(root, model)
    again = omnivec.load(first.save(tmp_path / "saved"))
    told, vectors = older.model_answers(model, again, root)
    check_same(older.recorded(root)[0]["models"][model]["identity"], told["identity"], model)
    expected = older.model_answers(model, first, root)[1]
    assert vectors.keys() == expected.keys()
    for name, values in vectors.items():
        same(values, expected[name], name)


@pytest.mark.parametrize("version", FULL)
def test_documents_are_inferred_with_a_table_that_lacks_its_learning_rate(
    version: str, unpacked: Callable[[str], Path]
) -> None:
    vectors = loaded(unpacked(version), older.NO_RATE).encode(older.TEXTS)
    assert np.isfinite(vectors).all() and vectors.any(axis=1).all()
