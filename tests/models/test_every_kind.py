"""Every kind of model is held to the contract of embedders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import omnivec
import small_models
from omnivec.models.joint import JointEmbedder
from omnivec.models.joint_folder import Joint, Side
from omnivec.tables.io import write_table
from omnivec.tables.record import Subwords, Table
from omnivec.testing import check_embedder
from omnivec.training import train

TEXTS = ["the quick brown fox", "a lazy dog", "the fox " * 60, "an engine"]
PIXELS = np.random.default_rng(3)
PICTURES = [PIXELS.integers(0, 256, (40 + i, 50, 3)).astype(np.uint8) for i in range(3)]

BOTH: list[Any] = [*TEXTS, *PICTURES]


def of_ngrams(folder: Path) -> Path:
    """A table of words and of their n-grams."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(len(small_models.WORDS), 8)).astype(np.float32)
    grams = Subwords(random.normal(size=(50, 8)).astype(np.float32), 3, 4)
    write_table(folder, Table(small_models.WORDS, vectors, subwords=grams), "omnivec")
    return folder


def of_documents(folder: Path) -> Path:
    """A table of documents, and of the words that a new one is inferred from."""
    words = small_models.WORDS
    tagged = [
        (f"d{i}{j}", f"the {a} fox and a {b} dog again")
        for i, a in enumerate(words)
        for j, b in enumerate(words)
    ]
    train("doc2vec", tagged, dim=8, epochs=1, seed=1, threads=1).save(folder)
    return folder


def joined(left: omnivec.Embedder, right: omnivec.Embedder) -> JointEmbedder:
    """Two models behind heads that were drawn."""
    random = np.random.default_rng(2)
    first, second = (
        Side(own.name, ((random.normal(size=(6, own.dim)).astype(np.float32), np.zeros(6, np.float32)),))
        for own in (left, right)
    )
    return JointEmbedder.of(left, right, Joint(first, second, 10.0))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, omnivec.Embedder]:
    place = tmp_path_factory.mktemp("kinds")
    made = {
        "texts": small_models.of_texts(place / "texts"),
        "images": small_models.of_images(place / "images"),
        "clip": small_models.of_towers(place / "clip"),
        "static": small_models.of_words(place),
        "fasttext": of_ngrams(place / "fasttext"),
        "doc2vec": of_documents(place / "doc2vec"),
    }
    loaded = {name: omnivec.load(folder) for name, folder in made.items()}
    joint = joined(loaded["texts"], loaded["images"])
    of_table = joined(loaded["static"], loaded["clip"])
    sides = {"side": joint.left, "side of images": joint.right, "side of a table": of_table.left}
    return {**loaded, "joint": joint, **sides, "side of towers": of_table.right}


ITEMS: dict[str, list[Any]] = {
    **dict.fromkeys(("texts", "static", "fasttext", "doc2vec", "side", "side of a table"), TEXTS),
    **dict.fromkeys(("images", "side of images"), PICTURES),
    **dict.fromkeys(("clip", "joint", "side of towers"), BOTH),
}


@pytest.mark.parametrize("kind", ITEMS)
def test_each_kind_of_model_keeps_the_contract(models: dict[str, omnivec.Embedder], kind: str) -> None:
    check_embedder(models[kind], ITEMS[kind])
