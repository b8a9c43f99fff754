"""Texts against the languages that a model declares: said for whole folders of them, never for code or a few."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from omnivec.collection import languages, spaces, syncing
from omnivec.collection.languages import Tally, declared, language_of, warning

TEXTS = {
    "German": "Der Hund schläft auf dem Sofa, und die Katze ist nicht im Haus.",
    "French": "Le chien dort sur le canapé et les enfants sont dans la maison.",
    "Spanish": "El perro duerme en el sofá y los niños juegan con una pelota.",
    "Italian": "Il cane dorme sul divano e la gatta non è nella casa della nonna.",
    "Dutch": "De hond slaapt op de bank en het kind speelt met een bal.",
    "Portuguese": "O cachorro dorme no sofá e a menina não foi para a escola com os irmãos.",
    "Swedish": "Hunden sover på soffan och det är inte en katt som har ätit maten.",
    "Japanese": "犬はソファで寝ています。猫は家にいません。",
    "Chinese": "狗在沙发上睡觉，猫不在家里。",
    "Korean": "개가 소파에서 자고 있고 고양이는 집에 없습니다.",
    "Cyrillic": "Собака спит на диване, а кошки нет дома.",
    "Greek": "Ο σκύλος κοιμάται στον καναπέ.",
    "Arabic": "الكلب نائم على الأريكة والقط ليس في البيت.",
    "Thai": "สุนัขนอนอยู่บนโซฟา",
    "English": "The dog sleeps on the sofa, and the cat is not at home.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_sentence_tells_its_language(language: str) -> None:
    assert language_of(TEXTS[language]) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42 17 -- ::",
        "def f(x):\n    return x + 1\n\nfor de in range(3):\n    print(de)",
        '{"id": 1, "name": "de la Cruz", "tags": ["a", "b"]}',
        "SELECT id FROM users JOIN orders USING (id)",
        "Müller GmbH, Hauptstraße 5, 10115 Berlin",
        "π ≈ 3.14159, α and β are angles of a triangle",
    ],
)
def test_what_is_no_prose_tells_none(text: str) -> None:
    assert language_of(text) in (None, "English")


def test_our_own_code_and_that_of_python_is_nothing_foreign() -> None:
    tally = Tally()
    for module in (languages, spaces, syncing, inspect, sys.modules["re"], sys.modules["json"]):
        tally.add(inspect.getsource(module)[500:])
    assert tally.foreign({"en"}) is None


def test_only_a_fifth_of_the_texts_or_more_is_worth_a_line(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlanguage: en\n---\n# A model\n")
    few, many = Tally(), Tally()
    for tally, foreign in ((few, 1), (many, 2)):
        for _ in range(foreign):
            tally.add(TEXTS["German"])
        for _ in range(8):
            tally.add(TEXTS["English"])
    assert warning(few, "own", tmp_path) is None
    line = warning(many, "own", tmp_path)
    assert line is not None and "\n" not in line
    assert line.startswith(
        "20% of the texts look German, or another language, but own was made for English: "
    )
    assert "multilingual-e5-small" in line
    (tmp_path / "README.md").write_text("---\nlanguage:\n- en\n- de\n---\n")
    assert warning(many, "own", tmp_path) is None


@pytest.mark.parametrize(
    ("front", "codes"),
    [
        ("language: en", {"en"}),
        ("language: [en, de-DE]", {"en", "de"}),
        ("tags:\n- x\nlanguage:\n- en\n- 'zh'\nlicense: mit", {"en", "zh"}),
        ('language: "fr"', {"fr"}),
        ("language: multilingual", set()),
        ("language:\n- en\n- multilingual", set()),
        ("license: mit", set()),
    ],
)
def test_cards_declare_languages(tmp_path: Path, front: str, codes: set[str]) -> None:
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\nlanguage: xx\n")
    assert declared("own", tmp_path) == codes


def test_the_default_model_is_for_english_and_a_folder_may_say_nothing(tmp_path: Path) -> None:
    assert declared("all-MiniLM-L6-v2", tmp_path) == {"en"}
    assert declared("own", tmp_path) == frozenset()
    (tmp_path / "README.md").write_text("# no front matter\nlanguage: en\n")
    assert declared("own", tmp_path) == frozenset()
    (tmp_path / "config.json").write_text('{"language": "en"}')
    assert declared("own", tmp_path) == {"en"}
    assert declared("own", tmp_path / "table.vec") == frozenset()
