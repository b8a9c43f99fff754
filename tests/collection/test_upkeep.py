"""`Collection.check` also looks at the files beside the catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omnivec import Collection
from omnivec.store.index_builder import build


def test_a_damaged_index_file_is_named(tmp_path: Path) -> None:
    with Collection(tmp_path / "notes.omni") as notes:
        vectors = np.random.default_rng(0).standard_normal((400, 8))
        notes.add(ids=[str(i) for i in range(400)], vectors=vectors)
        build(notes._catalogue, notes.folder, "vectors", "faiss")
        [file] = notes.folder.glob("index-*")
        assert notes.check() == notes.check(deep=True) == []
        file.write_bytes(file.read_bytes()[:-1])
        [line] = notes.check()
        assert str(file) in line and notes.check(deep=True) == [line]
