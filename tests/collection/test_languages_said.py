"""Texts in languages that the model of a collection does not declare."""

from __future__ import annotations

import shutil
from pathlib import Path

from omnivec import Collection
from workbench import CommandLine

TEXTS = {
    "German": "Der Hund schläft auf dem Sofa, und die Katze ist nicht im Haus.",
    "Japanese": "犬はソファで寝ています。猫は家にいません。",
    "Cyrillic": "Собака спит на диване, а кошки нет дома.",
    "English": "The dog sleeps on the sofa, and the cat is not at home.",
}


def test_a_folder_of_german_texts_is_said_once_when_it_is_indexed(tmp_path: Path, tiny: Path) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    (model / "README.md").write_text("---\nlanguage: en\n---\n")
    docs = tmp_path / "docs"
    docs.mkdir()
    for i, language in enumerate(("German", "Japanese", "Cyrillic", "German")):
        (docs / f"{i}.txt").write_text(TEXTS[language], encoding="utf-8")
    with Collection(tmp_path / "notes.omni", model=model) as notes:
        [line] = notes.sync(docs).warnings
        assert line.startswith("100% of the texts look German")
        assert notes.sync(docs).warnings == []  # nothing new came in
        (docs / "english.txt").write_text(TEXTS["English"])
        assert notes.sync(docs).warnings == []


def test_index_says_it_on_stderr_and_is_done(omni: CommandLine, tiny: Path) -> None:
    model = Path(shutil.copytree(tiny, omni.folder / "model"))
    (model / "README.md").write_text("---\nlanguage:\n- en\n---\n")
    (omni.folder / "docs").mkdir()
    (omni.folder / "docs" / "a.txt").write_text(TEXTS["Cyrillic"], encoding="utf-8")
    done = omni("index", "docs", "-c", "notes.omni", "-m", model)
    assert done.code == 0
    [line] = done.errors
    assert "look Cyrillic" in line and "hf:intfloat/multilingual-e5-small" in line
