"""Which tokenizers may be run chunk by chunk, and how the compiled kernel is to cut for them.

Three ways are exact, by the tokenizer's parts (Hugging Face's tokenizer.json):

- words: characters are normalised one by one, words end at blanks and at single characters, and each word is cut by
  WordPiece or looked up whole: the kernel does all of it for ASCII;
- chunks: words end at blanks at least, and nothing looks beyond: the tokenizer sees each distinct chunk once;
- glued: a blank belongs to the word behind it (byte-level BPE, Metaspace): the same, where blanks stand alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

    from omnivec.tables.kernels.spellings import Spellings
    from omnivec.tables.kernels.wordpiece import Rules, Vocabulary

Part = Mapping[str, Any]
Bytes = NDArray[np.uint8]

# Normalisers that treat each character alone, or a base with its marks: none looks across an ASCII blank.
BY_CHARACTER = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
# Of these, those that make no blank of anything else.
BLANK_KEEPING = {"Lowercase", "NFC", "NFD"}
# Pre-tokenizers that cut at each blank, whatever is beside it.
AT_BLANKS = {"BertPreTokenizer", "WhitespaceSplit"}
# Behind such a cut each of these sees one piece alone.
WITHIN = AT_BLANKS | {"Whitespace", "Punctuation", "Digits", "Split", "ByteLevel", "Metaspace"}
# A blank is joined to these beside it by ByteLevel's pattern: Unicode's White_Space, and what older tables had there.
NARROW_BLANKS = b"\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f"
WIDE_BLANKS = [0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x200C), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
LONGEST_WORD = 1024


@dataclass(frozen=True)
class Cutter:
    """What the kernel works by.

    Attributes:
        rules: how texts are cut.
        vocabulary: the pieces of words; empty where the kernel cuts no words.
    """

    rules: Rules
    vocabulary: Vocabulary


@dataclass(frozen=True)
class _Words:
    """What a model that knows whole words or their pieces says."""

    tokens: Mapping[str, int]
    unknown: int
    prefix: str | None
    longest_word: int


@dataclass(frozen=True)
class _Bytes:
    """What each byte is, and what it is normalised to."""

    kinds: Bytes
    normal: Bytes


def cutter_for(tokenizer: Tokenizer) -> Cutter | None:
    """How to cut for a tokenizer; None where a part of it may look across blanks, or numba is missing."""
    backend = tokenizer.backend
    normalizers = [part["type"] for part in _parts(backend.normalizer, "normalizers")]
    cuts = _parts(backend.pre_tokenizer, "pretokenizers")
    if not cuts or getattr(backend.model, "dropout", None):
        return None
    words, glued = None, False
    try:
        if set(normalizers) <= BY_CHARACTER and cuts[0]["type"] in AT_BLANKS and all(map(_is_local, cuts)):
            words = _words(backend) if all(map(_cuts_characters, cuts)) else None
            letters = _probed(backend, whole=words is None)
        elif set(normalizers) <= BLANK_KEEPING and len(cuts) == 1 and _glues_blanks(cuts[0]):
            letters, glued = _one_blank(), True
        else:
            return None
        return _cutter(tokenizer, letters, words, glued) if letters is not None else None
    except ImportError:
        return None


def _parts(part: Any, inner: str) -> list[Part]:
    """The parts of a normaliser or pre-tokenizer, sequences laid flat."""
    return _flat(json.loads(part.__getstate__()), inner) if part is not None else []


def _flat(part: Part, inner: str) -> list[Part]:
    return (
        [one for each in part[inner] for one in _flat(each, inner)] if part["type"] == "Sequence" else [part]
    )


def _is_local(cut: Part) -> bool:
    """Whether it cuts a piece of a text as it would cut it alone."""
    return cut["type"] in WITHIN and cut.get("prepend_scheme") != "first"


def _cuts_characters(cut: Part) -> bool:
    """Whether what it does with a character of ASCII hangs on that character alone."""
    return (
        cut["type"] in AT_BLANKS
        or (cut["type"] == "Punctuation" and cut["behavior"] == "Isolated")
        or (cut["type"] == "Digits" and cut["individual_digits"])
    )


def _glues_blanks(cut: Part) -> bool:
    return (cut["type"] == "ByteLevel" and bool(cut.get("use_regex", True))) or (
        cut["type"] == "Metaspace" and bool(cut.get("split", True))
    )


def _words(backend: tokenizers.Tokenizer) -> _Words | None:
    from tokenizers import models

    model = backend.model
    if not isinstance(model, models.WordPiece | models.WordLevel):
        return None
    tokens = backend.get_vocab(with_added_tokens=False)
    if model.unk_token not in tokens:
        return None
    if isinstance(model, models.WordPiece):
        prefix, longest = model.continuing_subword_prefix, model.max_input_chars_per_word
    else:
        prefix, longest = None, max(map(len, tokens))
    unknown = tokens[model.unk_token]
    return _Words(tokens, unknown, prefix, longest) if longest <= LONGEST_WORD else None


def _probed(backend: tokenizers.Tokenizer, whole: bool) -> _Bytes | None:
    """What the tokenizer's own parts do with each character of ASCII; None where that is no simple thing."""
    from omnivec.tables.kernels import wordpiece

    kinds, normal = np.full(256, wordpiece.FOREIGN, np.uint8), np.arange(256, dtype=np.uint8)
    for byte in range(128):
        text = f"a{chr(byte)}b"
        text = backend.normalizer.normalize_str(text) if backend.normalizer else text
        cut = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        if len(text) == 3:
            normal[byte] = ord(text[1])
        if text == "ab":
            kinds[byte] = wordpiece.DROPPED
        elif len(text) == 3 and text[1].isspace() and len(cut) == 2:
            kinds[byte] = wordpiece.BLANK
        elif cut == [text] or whole:
            kinds[byte] = wordpiece.INSIDE
        elif cut == list(text):
            kinds[byte] = wordpiece.ALONE
        else:
            return None
    return _Bytes(kinds, normal)


def _one_blank() -> _Bytes:
    from omnivec.tables.kernels import wordpiece

    kinds, normal = np.full(256, wordpiece.FOREIGN, np.uint8), np.arange(256, dtype=np.uint8)
    kinds[:128] = wordpiece.INSIDE
    kinds[list(NARROW_BLANKS)] = wordpiece.HEAVY
    kinds[ord(" ")] = wordpiece.BLANK
    normal[ord("A") : ord("Z") + 1] += ord("a") - ord("A")
    return _Bytes(kinds, normal)


def _cutter(tokenizer: Tokenizer, letters: _Bytes, words: _Words | None, glued: bool) -> Cutter | None:
    from omnivec.tables.kernels import wordpiece

    reserved = _reserved(tokenizer.backend, letters)
    if reserved is None or any(letters.kinds[one[0]] == wordpiece.BLANK for one in reserved):
        return None
    if glued:
        reserved += [chr(point).encode() for point in WIDE_BLANKS]
    opens = np.zeros(256, np.bool_)
    opens[[one[0] for one in reserved]] = True
    tokens = words.tokens if words else {}
    prefix = words.prefix if words else None
    plain = {token: index for token, index in tokens.items() if token and token.isascii()}
    behind = {
        token[len(prefix) :]: index
        for token, index in plain.items()
        if prefix is not None and token.startswith(prefix) and token != prefix
    }
    rules = wordpiece.Rules(
        letters.kinds,
        letters.normal,
        opens,
        np.frombuffer(b"".join(reserved), np.uint8),
        np.cumsum([0, *map(len, reserved)]),
        pieces=words is not None,
        glued=glued,
        unknown=words.unknown if words else 0,
        dropped=-1 if not tokenizer.drops_unknown or tokenizer.unknown_id is None else tokenizer.unknown_id,
        longest_word=words.longest_word if words else 0,
    )
    return Cutter(rules, wordpiece.Vocabulary(_spelt(plain), _spelt(behind)))


def _reserved(backend: tokenizers.Tokenizer, letters: _Bytes) -> list[bytes] | None:
    """What makes a text heavy: the spellings, normalised byte by byte, that are cut out before anything else."""
    from omnivec.tables.kernels import wordpiece

    spellings = []
    for token in backend.get_added_tokens_decoder().values():
        content = token.content
        if token.normalized:
            # It is looked for in what a text is normalised to, which is known here of ASCII only.
            letters.kinds[(letters.kinds == wordpiece.FOREIGN) | (letters.kinds == wordpiece.DROPPED)] = (
                wordpiece.HEAVY
            )
            content = backend.normalizer.normalize_str(content) if backend.normalizer else content
        if not content:
            return None
        spellings.append(bytes(letters.normal[byte] for byte in content.encode()))
    return spellings


def _spelt(tokens: Mapping[str, int]) -> Spellings:
    from omnivec.tables.kernels import spellings

    return spellings.of([token.encode() for token in tokens], list(tokens.values()))
