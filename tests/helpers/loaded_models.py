"""Models that several of these tests hold, loaded once."""

from __future__ import annotations

import pytest

import omnivec
import small_models


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> omnivec.Embedder:
    """A network of texts, of 32 components."""
    return omnivec.load(small_models.of_texts(tmp_path_factory.mktemp("texts")))


@pytest.fixture(scope="session")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> omnivec.Embedder:
    """A network of images."""
    return omnivec.load(small_models.of_images(tmp_path_factory.mktemp("images")))


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> omnivec.Embedder:
    """A table of words."""
    return omnivec.load(small_models.of_words(tmp_path_factory.mktemp("table")))
