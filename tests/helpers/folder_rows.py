"""What the tests of docs/load.md's table of files and keys share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer

import tokenizer_folders as folders
from omnivec.errors import UnsupportedModel
from omnivec.inputs.text.tokenizer import load_tokenizer
from omnivec.models.model import Model, read_model, read_models
from omnivec.testing import TEXTS, check_close, open_model

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokenizer_ids.json").read_text())["cases"]
FULL = [text for text in TEXTS if text.strip()]
Row = Callable[[Path], None]
ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    """Registers the test of a row by the first cell of the table, without its quotes."""
    return lambda test: ROWS.setdefault(name, test)


def change(file: Path, **values: Any) -> None:
    """Sets keys of a JSON file, which need not exist yet."""
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(before | values))


def facts(model: Model) -> Any:
    """All that vectors hang on."""
    ids = [row.tolist() for row in model.texts.tokenizer.ids(TEXTS)]
    return json.loads(json.dumps([model.identity, ids, model.default_prompt]))


def same(folder: Path, changed: Callable[[], object]) -> None:
    """Checks that a change of a folder is irrelevant."""
    before = facts(read_model(folder))
    changed()
    assert facts(read_model(folder)) == before


def refused(folder: Path, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message) as caught:
        read_models(folder)
    assert "\n" not in str(caught.value)


def equal(folder: Path) -> None:
    """Checks the vectors against sentence-transformers'."""
    check_close(open_model(folder).encode(FULL), SentenceTransformer(str(folder)).encode(FULL), folder.name)


def published_ids(tmp_path: Path, *starts: str) -> None:
    """Checks ids of all folders whose names begin so."""
    cases = [case for case in folders.CASES if case.startswith(starts)]
    assert len(cases) >= len(starts)
    for i, case in enumerate(cases):
        place = tmp_path / f"tokenizer {i}"
        place.mkdir()
        for name, content in folders.CASES[case].items():
            (place / name).write_text(json.dumps(content), encoding="utf-8")
        found = load_tokenizer(place).ids(folders.TEXTS)
        assert [ids.tolist() for ids in found] == GOLDEN[case]["ids"], case
