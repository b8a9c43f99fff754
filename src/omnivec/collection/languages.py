"""Checks whether texts are in the languages that a model declares, by a simple detection of languages.

Most languages are recognised by their script, those in Latin script by their most frequent words. Unclear or unknown
texts, such as code, are not counted: the purpose is a warning if a model is unsuitable, not to name every language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from omnivec.errors import ModelError
from omnivec.models import registry
from omnivec.validation.json_files import read_json

SAMPLE = 2000
"""Number of characters of each text that are examined."""

SHARE = 0.2
"""Share of texts in undeclared languages at which a warning is given."""

MULTILINGUAL = (
    "hf:intfloat/multilingual-e5-small",
    "hf:sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
)
"""Models for about a hundred, and about fifty languages."""

# Name of a script or language: its letters, and the codes of the languages that are written in it.
_SCRIPTS: dict[str, tuple[str, frozenset[str]]] = {
    "Japanese": ("\u3040-\u30ff", frozenset(("ja",))),
    "Korean": ("\u1100-\u11ff\u3130-\u318f\uac00-\ud7af", frozenset(("ko",))),
    "Chinese": ("\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff", frozenset(("zh", "ja", "yue"))),
    "Cyrillic": (
        "\u0400-\u052f",
        frozenset(["ru", "uk", "be", "bg", "mk", "sr", "kk", "ky", "tg", "mn", "tt", "ba"]),
    ),
    "Greek": ("\u0370-\u03ff\u1f00-\u1fff", frozenset(("el",))),
    "Hebrew": ("\u0590-\u05ff", frozenset(("he", "yi"))),
    "Arabic": ("\u0600-\u06ff\u0750-\u077f", frozenset(["ar", "fa", "ur", "ps", "ckb", "ug"])),
    "Devanagari": ("\u0900-\u097f", frozenset(["hi", "mr", "ne", "sa"])),
    "Bengali": ("\u0980-\u09ff", frozenset(("bn", "as"))),
    "Tamil": ("\u0b80-\u0bff", frozenset(("ta",))),
    "Telugu": ("\u0c00-\u0c7f", frozenset(("te",))),
    "Thai": ("\u0e00-\u0e7f", frozenset(("th",))),
    "Georgian": ("\u10a0-\u10ff", frozenset(("ka",))),
    "Armenian": ("\u0530-\u058f", frozenset(("hy",))),
}
_LETTERS = {name: re.compile(f"[{letters}]") for name, (letters, _) in _SCRIPTS.items()}
_LEAST_LETTERS = 8

# Code: name, and words that are in nearly every text in the language, and in few texts in the others.
_WORDS: dict[str, tuple[str, frozenset[str]]] = {
    code: (name, frozenset(words.split()))
    for code, name, words in (
        (
            "en",
            "English",
            "the of and to is that it for was with this are be as on by at from or you not have which",
        ),
        (
            "de",
            "German",
            "der die das und ist nicht ein eine den dem mit von zu auf für im sich auch wird sind wie oder bei",
        ),
        (
            "fr",
            "French",
            "le les des est et une dans pour que qui pas sur avec au du ce il nous vous sont par",
        ),
        ("es", "Spanish", "el los las una que y por con para del se es como más pero su al lo está son"),
        ("it", "Italian", "il di che è la per una sono con del della non gli nel alla anche come più dei"),
        ("pt", "Portuguese", "que não uma para com os do da em por mais dos das ao como é são foi"),
        ("nl", "Dutch", "het een van en dat niet zijn op te met voor de ik je aan er maar om ook als"),
        ("pl", "Polish", "nie się na jest że do to jak ale po co tak o przez dla są od który"),
        ("sv", "Swedish", "och att det som en är inte jag på av för med den har till ett om vi"),
        ("da", "Danish", "og at det er en ikke på af for med til den har jeg et som vi om der"),
        ("fi", "Finnish", "ja on ei että se hän oli mutta ovat kuin myös tai sen joka olla"),
        ("cs", "Czech", "se na je že do to jak ale po jsou jako pro by od při který"),
        ("tr", "Turkish", "ve bir bu için ile da de ne çok olarak daha gibi ama en var"),
    )
}
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_WORDS, _LEAST_SHARE = 2, 0.15

_FRONT = re.compile(r"\A---\s*\n(.*?)^---\s*$", re.M | re.S)
_LANGUAGE = re.compile(r"^languages?:[ \t]*([^\n]*)\n((?:[ \t]*-[ \t]*[^\n]*\n)*)", re.M)
_CODE = re.compile(r"[a-z]{2,3}\Z")


def declared(name: str, folder: Path) -> frozenset[str]:
    """Returns the codes of the languages that a model declares; empty if it declares none.

    Args:
        name: name of the model; for known models, the registry has the languages.
        folder: folder of the model; the languages are in its README.md under `language`, or in config.json.
    """
    listed = registry.known().get(name, {}).get("languages") or _of_card(folder) or _of_config(folder)
    codes = [str(one).strip().strip("\"'").lower().partition("-")[0] for one in listed]
    return frozenset(codes) if all(_CODE.match(code) for code in codes) else frozenset()


def _of_card(folder: Path) -> list[str]:
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            front = _FRONT.match(file.read(1 << 16))
    except OSError:
        return []
    match = _LANGUAGE.search(front[1]) if front else None
    if match is None:
        return []
    return [one for one in re.split(r"[\[\],\s]+|^-", match[1]) if one] or re.findall(
        r"-[ \t]*(\S+)", match[2]
    )


def _of_config(folder: Path) -> list[Any]:
    config: dict[str, Any] = {}
    with suppress(ModelError):
        config = read_json(folder / "config.json", {}, dict)
    language = config.get("language", config.get("languages", []))
    return [language] if isinstance(language, str) else language if isinstance(language, list) else []


def language_of(text: str) -> str | None:
    """Returns the name of the language or script of a text; None if it is not clear."""
    some = text[:SAMPLE]
    letters = sum(map(str.isalpha, some))
    if not some.isascii() and letters:
        counts = {name: len(pattern.findall(some)) for name, pattern in _LETTERS.items()}
        kana = counts["Japanese"]
        if kana and kana * 10 >= counts["Chinese"]:  # Japanese also uses Chinese characters
            counts["Japanese"] += counts.pop("Chinese")
        name, most = max(counts.items(), key=lambda item: item[1])
        if most >= _LEAST_LETTERS and most * 2 >= letters:
            return name
    words = _WORD.findall(some.lower())
    counts = Counter(words)
    hits = {code: sum(counts[word] for word in marker_words) for code, (_, marker_words) in _WORDS.items()}
    first, second = sorted(hits, key=lambda code: -hits[code])[:2]
    enough = hits[first] >= max(_LEAST_WORDS, _LEAST_SHARE * len(words))
    if not enough or (first != "en" and hits[first] < 2 * hits["en"]) or hits[first] == hits[second]:
        return None
    return _WORDS[first][0]


class Tally:
    """Counts the languages of texts."""

    def __init__(self) -> None:
        self._found: Counter[str | None] = Counter()

    def add(self, text: str) -> None:
        """Counts a text."""
        self._found[language_of(text)] += 1

    def __len__(self) -> int:
        """Number of texts."""
        return self._found.total()

    def foreign(self, languages: Iterable[str]) -> tuple[str, float] | None:
        """Returns the most frequent other language and the share of texts in others; None if it is below `SHARE`."""
        codes = set(languages)
        others = Counter({name: n for name, n in self._found.items() if name and not _codes(name) & codes})
        share = others.total() / max(1, len(self))
        return (others.most_common(1)[0][0], share) if share >= SHARE else None


def _codes(name: str) -> frozenset[str]:
    """Returns the codes of the languages that a name returned by `language_of` may mean."""
    if name in _SCRIPTS:
        return _SCRIPTS[name][1]
    return frozenset(code for code, (language, _) in _WORDS.items() if language == name)


def warning(tally: Tally, name: str, folder: Path) -> str | None:
    """Returns a warning, one line, if many texts are in languages that the model does not declare; else None."""
    languages = declared(name, folder)
    foreign = tally.foreign(languages) if languages else None
    if foreign is None:
        return None
    known = [_WORDS[code][0] if code in _WORDS else code for code in sorted(languages)]
    made = ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")
    return (
        f"{foreign[1]:.0%} of the texts look {foreign[0]}, or another language, but {name} was made for {made}: "
        f"searching them by meaning will work poorly; multilingual models are {' and '.join(MULTILINGUAL)}: "
        "omnivec index --collection NEW --model NAME PATHS"
    )
