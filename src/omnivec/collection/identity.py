"""Whether two models are the same: by what they are made of, and by the vectors that they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec import weights
from omnivec.errors import IdentityError
from omnivec.files import read_kept, write_kept
from omnivec.models.embedder import Embedder
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

# One picture for each thing that decoding, resizing or a precision may get wrong: colours, fine grain, edges, sides.
PICTURES: Mapping[str, tuple[int, int]] = {  # name -> height and width
    "colours": (96, 128),
    "noise": (64, 64),
    "stripes": (224, 160),
    "checks": (75, 301),
}
_PICTURE = "picture:"
_CELL = 24

TOLERANCE = 2e-3
"""1 - cosine that canaries may differ by: bfloat16 stays below 2e-4, another fine-tune of a model does not."""

PICTURE_TOLERANCE = 1e-2
"""The same of pictures: bfloat16 makes up to 3e-3 in a small network of convolutions."""


def identity_of(model: Embedder, cache: Path) -> dict[str, Any]:
    """The model's identity, from the cache while its files are unchanged: hashing weights takes a moment."""
    if not model.model.stored:
        return json_of(model.identity)
    place, state = str(model.folder.resolve()), [model.dim, _state(model.folder)]
    kept = read_kept(cache)
    entry = kept.get(place)
    if isinstance(entry, dict) and entry.get("state") == state and entry.get("seal") == _seal(entry):
        return dict(entry["identity"])
    kept[place] = entry = {"state": state, "identity": json_of(model.identity)}
    entry["seal"] = _seal(entry)
    write_kept(cache, kept)
    return dict(entry["identity"])


def _seal(entry: Mapping[str, Any]) -> str:
    """A hash of what is kept of a model: an entry that was changed since is made again."""
    content = json.dumps([entry.get("state"), entry.get("identity")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def json_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it comes back from JSON: tuples are lists."""
    return dict(json.loads(json.dumps(dict(record))))


def canaries_of(model: Embedder) -> tuple[tuple[str, Floats], ...]:
    """Canary texts, and names of canary pictures, with the vectors that this model makes of them."""
    names = [*CANARIES] if "text" in model.modalities else []
    names += [_PICTURE + name for name in PICTURES] if "image" in model.modalities else []
    made = model.run([_canary(name) for name in names])  # A table may know no word of some.
    return tuple((names[i], vector) for i, vector in made)


def _canary(name: str) -> str | NDArray[np.uint8]:
    return picture(name.removeprefix(_PICTURE)) if name.startswith(_PICTURE) else name


def picture(name: str) -> NDArray[np.uint8]:
    """A canary picture (h, w, 3), the same on every machine: integers alone make it."""
    height, width = PICTURES[name]
    y, x, channel = np.ogrid[:height, :width, :3]
    values: NDArray[np.int64]
    if name == "colours":  # of a coarse grid, and between its points a mixture of theirs
        (top, down), (left, right) = divmod(y, _CELL), divmod(x, _CELL)
        upper, lower = (
            _scattered(row, left, channel) * (_CELL - right) + _scattered(row, left + 1, channel) * right
            for row in (top, top + 1)
        )
        values = (upper * (_CELL - down) + lower * down) // _CELL**2
    elif name == "noise":
        values = _scattered(y, x, channel)
    elif name == "stripes":  # lines of a page, each broken into words
        values = 255 - 235 * ((y // 7 % 2 == 1) & ((x * 5 + y // 14 * 37) % 61 < 47)) + 0 * channel
    else:
        values = 200 * ((y // 15 + x // 25) % 2) + 25 * channel
    pixels: NDArray[np.uint8] = values.astype(np.uint8)
    return pixels


def _scattered(y: NDArray[np.int64], x: NDArray[np.int64], channel: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0 to 255 that look random: the middle bits of a product."""
    mixed: NDArray[np.int64] = (y * 73_856_093 ^ x * 19_349_663 ^ channel * 83_492_791) & 0xFFFF_FFFF
    return (mixed * 2_654_435_761 >> 16) & 255


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
    # Of a later version, a collection may have pictures that are not known here.
    known = [
        one for one in recorded if not one[0].startswith(_PICTURE) or one[0][len(_PICTURE) :] in PICTURES
    ]
    if not known:
        return 0.0
    then = np.stack([vector for _, vector in known])
    now = model.encode([_canary(name) for name, _ in known])
    norms = np.linalg.norm(then, axis=1) * np.linalg.norm(now, axis=1)
    lost = 1 - (then * now).sum(axis=1) / np.maximum(norms, 1e-12)
    allowed = np.array([PICTURE_TOLERANCE if name.startswith(_PICTURE) else TOLERANCE for name, _ in known])
    worst = int((lost / allowed).argmax())
    if lost[worst] > allowed[worst]:
        raise IdentityError(
            f"space {space!r}: the model makes other vectors than it did (1 - cosine up to {lost[worst]:.1e}, allowed "
            f"{allowed[worst]:.0e}), computed now as {dict(model.provenance)}: use the precision and versions that "
            "made them, or make a new collection"
        )
    return float(lost.max())


def describe(identity: Mapping[str, Any]) -> str:
    """An identity in a few words: family, width, and the first digits of its weights' and tokenizer's hashes."""
    hashes = identity["weights"]
    family, dim, metric, tokenizer = (
        identity.get(key, "?") for key in ("family", "dim", "metric", "tokenizer")
    )
    exact = next((grid for grid in ("float32", "float16", "bfloat16") if grid in hashes), "none")
    return (
        f"{family}, {dim} components, {metric}, weights {exact} {str(hashes.get(exact, ''))[:12]}, "
        f"tokenizer {str(tokenizer)[:12]}"
    )


def _state(folder: Path) -> list[list[Any]]:
    # A table may be one file.
    files = sorted(path for path in (folder, *folder.rglob("*")) if path.is_file())
    states = [(path, path.stat()) for path in files]
    return [[path.relative_to(folder).as_posix(), s.st_size, s.st_mtime_ns, s.st_ino] for path, s in states]
