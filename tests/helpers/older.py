"""Archives of models and collections that older versions wrote: how they are unpacked, and what is asked of them.

golden/make_older.py asks the older version, and the tests ask the present one. Nothing but public names is used, which
both have.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import omnivec

FOLDER = Path(__file__).parents[1] / "golden" / "older"
SUFFIX = ".tar.xz"
NO_RATE = "doc2vec_no_rate"
"""Trained with the default learning rate, which older versions stored as null and could then not infer with."""
TABLES = ("doc2vec", NO_RATE, "fasttext", "fasttext_supervised", "glove", "static", "word2vec")
MODELS = ("clip", "image", "joint", "text", "tuned", *TABLES)
COLLECTIONS = {  # name -> the models of its modalities
    "album.omni": {"text": "text", "image": "image"},
    "both.omni": {"text": "text", "image": "clip"},
    "clip.omni": {"text": "clip", "image": "clip"},
    "texts.omni": {"text": "text"},
    "words.omni": {"text": "word2vec"},
}
PICTURES = 6
TEXTS = [
    "The quick brown fox jumps over the lazy dog",
    "graph",
    "café owners, naïve: 北京!",
    "weights engine compiles " * 30,
    "graphs brownish foxy dog",  # all but one known by their parts alone, to tables that have parts
]
QUESTIONS: list[dict[str, Any]] = [
    *({"query": "a dog and the fox", "mode": mode} for mode in ("vector", "text", "hybrid")),
    {"query": "café engine", "mode": "vector", "where": {"year": {"$gte": 2022}}},
    {"query": "café engine", "mode": "hybrid", "where": {"suffix": ".txt"}},
    {"query": "quick capital", "mode": "text", "where": {"tags": "even"}},
    {"query": "capital", "mode": "text"},
    {"query": "graph", "mode": "hybrid", "where": {"$not": {"year": 2024}}},
]
SEEN: list[dict[str, Any]] = [
    {"picture": 0, "mode": "vector"},
    {"picture": 1, "mode": "vector", "where": {"width": 24}},
]


def names() -> list[str]:
    """The archives: by the date of their version, or by the schema of their one collection."""
    return sorted(place.name.removesuffix(SUFFIX) for place in FOLDER.glob(f"*{SUFFIX}"))


def models(name: str) -> tuple[str, ...]:
    """The models that an archive holds."""
    return ("text",) if name.startswith("schema") else MODELS


def collections(name: str) -> tuple[str, ...]:
    """The collections that an archive holds."""
    return ("texts.omni",) if name.startswith("schema") else tuple(COLLECTIONS)


def unpack(name: str, folder: Path) -> Path:
    """An archive's contents in a folder, which is made; nothing in it can leave the folder."""
    folder.mkdir()
    with tarfile.open(FOLDER / f"{name}{SUFFIX}") as archive:
        archive.extractall(folder, filter="data")
    return folder


def recorded(root: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What the older version answered: JSON, and arrays by name."""
    with np.load(root / "answers.npz", allow_pickle=False) as arrays:
        return json.loads((root / "answers.json").read_text(encoding="utf-8")), dict(arrays)


def answers(root: Path, model: Any = None) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """All that the imported omnivec answers to the models and collections in a folder: JSON, and arrays by name.

    Args:
        root: the folder.
        model: the only one, loaded; None loads each.
    """
    told, found = {}, {}
    arrays: dict[str, NDArray[Any]] = {}
    for folder in sorted((root / "models").iterdir()):
        told[folder.name], vectors = model_answers(folder.name, model or omnivec.load(folder), root)
        arrays |= {f"{folder.name}/{what}": values for what, values in vectors.items()}
    for folder in sorted(root.glob("*.omni")):
        with omnivec.Collection(folder, model=model, readonly=True) as collection:
            found[folder.name] = collection_answers(collection, root)
    return {"models": told, "collections": found}, arrays


def pictures(root: Path) -> list[Path]:
    """Files of images."""
    return [root / "pictures" / f"p{i}.png" for i in range(PICTURES)]


def model_answers(name: str, model: Any, root: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a model says of itself, and its vectors."""
    said = {"dim": model.dim, "metric": model.metric, "modalities": sorted(model.modalities)}
    said["identity"] = json.loads(json.dumps(dict(model.identity)))
    arrays = {}
    if "text" in model.modalities and name != NO_RATE:
        arrays["texts"] = model.encode(TEXTS)
        arrays["query"] = model.encode_query(TEXTS[0])
        arrays["documents"] = model.encode_document(TEXTS[:2])
    if "image" in model.modalities:
        arrays["images"] = model.encode(pictures(root))
    if name in TABLES:
        said["keys"] = list(model.keys)
        arrays["table"] = np.asarray(model.vectors)
        said["similar"] = [[key, float(score)] for key, score in model.most_similar(model.keys[0], k=5)]
    if name == "fasttext_supervised":
        said["labels"] = [[list(row) for row in rows] for rows in model.predict(TEXTS, k=3)]
    return said, arrays


def collection_answers(collection: Any, root: Path) -> dict[str, Any]:
    """What a collection holds, and what it finds."""
    made = collection.spaces() if hasattr(collection, "spaces") else {"text": collection.space()}
    documents = [
        {"id": entry.id, "metadata": dict(entry.metadata), "passages": entry.passages}
        for entry in collection.documents()
    ]
    questions = QUESTIONS + (SEEN if any("image" in name for name in made) else [])
    return {
        "spaces": {name: [one.dim, one.metric] for name, one in made.items()},
        "roots": list(collection.roots()),
        "documents": documents,
        "filtered": [entry.id for entry in collection.documents({"year": {"$lt": 2023}})],
        "questions": questions,
        "hits": [found(collection, root, **question) for question in questions],
        "recommended": _told(collection.recommend("note 0", "note 1", k=5)),
    }


def found(
    collection: Any,
    root: Path,
    mode: str,
    query: str = "",
    picture: int | None = None,
    where: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """All hits of a question."""
    asked = query if picture is None else pictures(root)[picture]
    return _told(collection.search(asked, k=100, where=where, mode=mode))


def _told(hits: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": hit.id,
            "score": float(hit.score),
            "span": list(hit.span),
            "space": hit.space,
            "text": hit.text,
        }
        for hit in hits
    ]
