"""Whether two models are the same: by what they are made of, and by the vectors that they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omnivec import weights
from omnivec.embedder import Embedder
from omnivec.errors import IdentityError
from omnivec.files import read_kept, write_kept
from omnivec.types import Floats

# One text for each thing that a tokenizer or a precision may get wrong: case, accents, scripts, digits, code, length.
CANARIES = (
    "The committee met on Tuesday.",
    "THE COMMITTEE MET ON TUESDAY!",
    "naïve café, Zürich, smörgåsbord",
    "東京は日本の首都です。 北京是中国的首都。",
    "for i in range(10): print(x[i] ** 2)  # 3.14159",
    "1234567890 items at $9.99, 50 % off",
    " ".join(["A long text is cut where the model's limit is, and must be cut alike."] * 40),
    "x",
)

TOLERANCE = 2e-3
"""1 - cosine that canaries may differ by: bfloat16 stays below 2e-4, another fine-tune of a model does not."""


def identity_of(model: Embedder, cache: Path) -> dict[str, Any]:
    """The model's identity, from the cache while its files are unchanged: hashing weights takes a moment."""
    if not model.model.stored:
        return json_of(model.identity)
    place, state = str(model.folder.resolve()), [model.dim, _state(model.folder)]
    kept = read_kept(cache)
    entry = kept.get(place)
    if not isinstance(entry, dict) or entry.get("state") != state:
        kept[place] = entry = {"state": state, "identity": json_of(model.identity)}
        write_kept(cache, kept)
    return dict(entry["identity"])


def json_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it comes back from JSON: tuples are lists."""
    return dict(json.loads(json.dumps(dict(record))))


def canaries_of(model: Embedder) -> tuple[tuple[str, Floats], ...]:
    """Canary texts and the vectors that this model makes of them."""
    made = model.run(CANARIES)  # A table may know no word of some.
    return tuple((CANARIES[i], vector) for i, vector in made)


def check_same(recorded: Mapping[str, Any], given: Mapping[str, Any], space: str) -> None:
    """Raises IdentityError, with both identities, unless both are of one model."""
    different = [key for key in recorded if key != "weights" and recorded[key] != given.get(key)]
    if not weights.same_weights(recorded["weights"], given["weights"]):
        different.insert(0, "weights")
    if different:
        raise IdentityError(
            f"space {space!r} was made by another model: {', '.join(different)} differ. "
            f"Recorded: {describe(recorded)}. Given: {describe(given)}. "
            "Open the collection with the model that made it, or make a new collection"
        )


def check_canaries(recorded: tuple[tuple[str, Floats], ...], model: Embedder, space: str) -> float:
    """Raises IdentityError where the model no longer makes the recorded vectors; returns the largest 1 - cosine."""
    if not recorded:
        return 0.0
    then = np.stack([vector for _, vector in recorded])
    now = model.encode([text for text, _ in recorded])
    norms = np.linalg.norm(then, axis=1) * np.linalg.norm(now, axis=1)
    worst = float(1 - ((then * now).sum(axis=1) / np.maximum(norms, 1e-12)).min())
    if worst > TOLERANCE:
        raise IdentityError(
            f"space {space!r}: the model makes other vectors than it did (1 - cosine up to {worst:.1e}, allowed "
            f"{TOLERANCE:.0e}), computed now as {dict(model.provenance)}: use the precision and versions that made "
            "them, or make a new collection"
        )
    return worst


def describe(identity: Mapping[str, Any]) -> str:
    """An identity in a few words: family, width, and the first digits of its weights' and tokenizer's hashes."""
    hashes = identity["weights"]
    exact = next((grid for grid in ("float32", "float16", "bfloat16") if grid in hashes), "none")
    return (
        f"{identity['family']}, {identity['dim']} components, {identity['metric']}, weights {exact} "
        f"{hashes.get(exact, '')[:12]}, tokenizer {identity['tokenizer'][:12]}"
    )


def _state(folder: Path) -> list[list[Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    states = [(path, path.stat()) for path in files]
    return [[path.relative_to(folder).as_posix(), s.st_size, s.st_mtime_ns, s.st_ino] for path, s in states]
