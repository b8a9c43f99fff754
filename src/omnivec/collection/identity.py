"""Checks whether a model is the one that made a collection: by its identity, and by the vectors of canary items."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnivec import weights
from omnivec.errors import IdentityError, ItemErrors
from omnivec.files import read_kept, write_kept
from omnivec.inputs import modality
from omnivec.inputs.modality import Canaries
from omnivec.models import variants
from omnivec.models.embedder import Embedder
from omnivec.types import Floats, SparseRow
from omnivec.validation.arguments import said

_MOST_SETTINGS = 3
"""Number of settings up to which a message shows those that differ."""


def identity_of(model: Embedder, cache: Path) -> dict[str, Any]:
    """Returns a model's identity, from the cache if its files are unchanged, because hashing the weights takes time."""
    if not model.encoder.card.stored:
        return json_of(model.identity)
    place = str(model.folder.resolve()) + variants.suffix(variants.split(model.name)[1])
    state = [model.dim, _state(model.folder)]
    cached = read_kept(cache)
    entry = cached.get(place)
    if isinstance(entry, dict) and entry.get("state") == state and entry.get("seal") == _seal(entry):
        return dict(entry["identity"])
    cached[place] = entry = {"state": state, "identity": json_of(model.identity)}
    entry["seal"] = _seal(entry)
    write_kept(cache, cached)
    return dict(entry["identity"])


def _seal(entry: Mapping[str, Any]) -> str:
    """Returns a hash of a cache entry, by which changed entries are detected."""
    content = json.dumps([entry.get("state"), entry.get("identity")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def json_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record as it is after a round trip through JSON, with lists instead of tuples."""
    return dict(json.loads(json.dumps(dict(record))))


def canaries_of(model: Embedder) -> tuple[tuple[str, Floats], ...]:
    """Returns the names and vectors of the canary items of all modalities that a model reads."""
    records = [modality.get(name).canaries for name in modality.names() if name in model.modalities]
    made = [(name, record.make) for record in records for name in record.names]
    # A table may have no vector for some of them.
    encoded = model.run([make(name) for name, make in made])
    return tuple((made[i][0], _one_vector(row, model.dim)) for i, row in encoded)


def _one_vector(row: Any, dim: int) -> Floats:
    """Returns one vector (dim,) that stands for what a model gives for an item: of several vectors, their mean."""
    if isinstance(row, SparseRow):
        dense = np.zeros(dim, np.float32)
        dense[row.indices] = row.weights
        return dense
    return row if row.ndim == 1 else np.asarray(row.mean(axis=0), np.float32)


def _known(name: str, modalities: Sequence[str]) -> Canaries | None:
    """Returns the canaries that include a recorded name; None if a later version of omnivec has added it."""
    records = [modality.get(one).canaries for one in modality.names() if one in modalities]
    for record in sorted(records, key=lambda one: -len(one.prefix)):
        if name.startswith(record.prefix):
            # The name of a text canary is the text, so it is known in every version.
            return record if record.names and (not record.prefix or name in record.names) else None
    return None


def check_same(recorded: Mapping[str, Any], current: Mapping[str, Any], space: str) -> None:
    """Raises IdentityError, with both identities, unless they are those of the same model."""
    if different := differences(recorded, current):
        raise IdentityError(
            f"space {space!r} was made by another model: {', '.join(different)} differ. "
            f"Recorded: {describe(recorded)}. Current: {describe(current)}. "
            "Open the collection with the model that made it, or make a new collection"
        )


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Names what differs between two identities, with the settings if they are few; [] if they are of one model."""
    before, now = _plain(recorded), _plain(current)
    different = [key for key in before if key != "weights" and before[key] != now.get(key)]
    if not weights.same_weights(recorded["weights"], current["weights"]):
        different.insert(0, "weights")
    if "family" in different:
        return different
    return [_detailed(key, before.get(key), now.get(key)) for key in different]


def _detailed(key: str, before: Any, now: Any) -> str:
    """Adds the settings that differ to a key of an identity, such as "config (layer 2, now 3)", if they are few."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)) or key == "weights":
        return key
    changed = [one for one in before.keys() & now.keys() if before[one] != now[one]]
    plain = all(
        isinstance(table[one], bool | int | float | str) for table in (before, now) for one in changed
    )
    if not (plain and 0 < len(changed) <= _MOST_SETTINGS):
        return key
    return (
        f"{key} ({'; '.join(f'{one} {said(before[one])}, now {said(now[one])}' for one in sorted(changed))})"
    )


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Removes what earlier versions wrote for images: the hash of the preprocessing under "tokenizer"."""
    plain = {key: _plain(value) if isinstance(value, Mapping) else value for key, value in identity.items()}
    if "tokenizer" in plain and isinstance(plain.get("preprocessing"), Mapping):
        record = json.dumps(identity["preprocessing"], sort_keys=True)
        if plain["tokenizer"] == hashlib.sha256(record.encode()).hexdigest():
            del plain["tokenizer"]
    return plain


def check_canaries(recorded: tuple[tuple[str, Floats], ...], model: Embedder, space: str) -> float:
    """Raises IdentityError if the model no longer makes the recorded vectors; returns the largest 1 - cosine."""
    named = [(name, vector, _known(name, model.modalities)) for name, vector in recorded]
    known = [(name, vector, record) for name, vector, record in named if record is not None]
    if not known:
        return 0.0
    then = np.stack([vector for _, vector, _ in known])
    encoded = model.run([record.make(name) for name, _, record in known])
    if encoded.failures:
        raise ItemErrors(encoded.failures, encoded)
    now = np.stack([_one_vector(row, model.dim) for _, row in encoded])
    norms = np.linalg.norm(then, axis=1) * np.linalg.norm(now, axis=1)
    lost = 1 - (then * now).sum(axis=1) / np.maximum(norms, 1e-12)
    allowed = np.array([record.tolerance for _, _, record in known])
    worst = int((lost / allowed).argmax())
    if lost[worst] > allowed[worst]:
        raise IdentityError(
            f"space {space!r}: the model makes other vectors than it did (1 - cosine up to {lost[worst]:.1e}, allowed "
            f"{allowed[worst]:.0e}), computed now as {dict(model.provenance)}: use the precision and versions that "
            "made them, or make a new collection"
        )
    return float(lost.max())


def describe(identity: Mapping[str, Any]) -> str:
    """Describes an identity: family, dim, metric, and the first digits of the hashes of weights and tokenizer."""
    hashes, tokenizer = identity.get("weights", {}), _plain(identity).get("tokenizer")
    family, dim, metric = (identity.get(key, "?") for key in ("family", "dim", "metric"))
    exact = next((grid for grid in ("float32", "float16", "bfloat16") if grid in hashes), "none")
    return f"{family}, {dim} components, {metric}, weights {exact} {str(hashes.get(exact, ''))[:12]}" + (
        f", tokenizer {str(tokenizer)[:12]}" if tokenizer is not None else ""
    )


def _state(folder: Path) -> list[list[Any]]:
    # The model may be a single file, a table.
    files = sorted(path for path in (folder, *folder.rglob("*")) if path.is_file())
    states = [(path, path.stat()) for path in files]
    return [[path.relative_to(folder).as_posix(), s.st_size, s.st_mtime_ns, s.st_ino] for path, s in states]
