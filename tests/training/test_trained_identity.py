"""A trained model is another model than the one it began with, before it is saved and after."""

from __future__ import annotations

from pathlib import Path

import pytest

import checkpoints
import omnivec
from omnivec.collection import identity

PAIRS = [
    ("the quick fox", "a fast animal"),
    ("the engine", "a machine"),
    ("café owners", "people"),
    ("one", "1"),
]


def test_a_collection_of_the_base_refuses_what_was_trained_from_it(tmp_path: Path) -> None:
    checkpoints.bert(tmp_path / "base")
    base = omnivec.load(tmp_path / "base")
    with omnivec.Collection(tmp_path / "notes.omni", base) as notes:
        notes.add("the quick brown fox")
    trained = omnivec.train("contrastive", PAIRS, model=base, steps=5, lr=1e-2, show_progress_bar=False)
    cache = tmp_path / "identities.json"
    assert identity.identity_of(base, cache)["weights"] != identity.identity_of(trained, cache)["weights"]
    saved = trained.save(tmp_path / "trained")
    for other in (trained, saved):
        with pytest.raises(omnivec.IdentityError, match="weights differ"):
            omnivec.Collection(tmp_path / "notes.omni", other)
    with omnivec.Collection(tmp_path / "new.omni", trained) as notes:
        notes.add("the quick brown fox")
    with omnivec.Collection(tmp_path / "new.omni", saved) as notes:
        assert notes.search("fox")[0].text == "the quick brown fox"
