"""Decides whether a tokenizer can be run chunk by chunk, and derives the compiled kernel's rules from it.

A chunk is a run of text between whitespace. Three modes give the tokenizer's exact ids; which one applies depends on
the components in its tokenizer.json (Hugging Face):

- words: characters are normalised one by one, words end at whitespace and at punctuation, and each word is split by
  WordPiece or looked up whole. The kernel does all of this for ASCII.
- chunks: words end at whitespace or earlier, and no component looks across it. The tokenizer runs once for each
  distinct chunk.
- space-prefixed (`glued`): a space belongs to the word after it (byte-level BPE, Metaspace). As chunks, for texts in
  which words are separated by single spaces.

A text that contains an added token, or whitespace that the mode does not cover, is called heavy and is given to the
tokenizer whole.

Example, for BERT's uncased normaliser and pre-tokenizer, WordPiece, and the added tokens [UNK], [CLS] and [SEP]
(mode "words"):

    byte        a       A       ","     " "     tab     0x01        0xC3
    kinds       INSIDE  INSIDE  ALONE   BLANK   BLANK   DROPPED     FOREIGN (not ASCII)
    normal      a       a       ","     " "     " "     0x01        0xC3

    reserved    "[unk][cls][sep]", normalised, starting at 0, 5, 10 and ending at 15; `opens` is true for "[" alone
    so          "x [SEP]" is heavy, while "x [a]" is split into x, [, a, ]
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
    from omnivec.tables.kernels.wordpiece import Rules, WordPieces

Part = Mapping[str, Any]
Bytes = NDArray[np.uint8]

# Normalisers that handle each character (or a base character with its marks) by itself, never across ASCII whitespace.
BY_CHARACTER = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
# Of these, the ones that turn no other character into whitespace.
BLANK_KEEPING = {"Lowercase", "NFC", "NFD"}
# Pre-tokenizers that split at each whitespace character, whatever is next to it.
AT_BLANKS = {"BertPreTokenizer", "WhitespaceSplit"}
# Pre-tokenizers that, once the text is split at whitespace, work on each piece by itself.
WITHIN = AT_BLANKS | {"Whitespace", "Punctuation", "Digits", "Split", "ByteLevel", "Metaspace"}
# Whitespace that ByteLevel's pattern joins to a space beside it: Unicode's White_Space, now and in older versions.
NARROW_BLANKS = b"\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f"
WIDE_BLANKS = [0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x200C), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
LONGEST_WORD = 1024


@dataclass(frozen=True)
class Cutter:
    """The kernel's parameters for one tokenizer.

    Attributes:
        rules: how texts are split.
        vocabulary: the word pieces; empty if the kernel does not split words.
    """

    rules: Rules
    vocabulary: WordPieces


@dataclass(frozen=True)
class _Words:
    """A WordPiece or WordLevel model; `prefix` is None for WordLevel, `longest_word` is in characters."""

    tokens: Mapping[str, int]
    unknown: int
    prefix: str | None
    longest_word: int


@dataclass(frozen=True)
class _Bytes:
    """The kind (`wordpiece.INSIDE`, ...) and the normalised value of each byte, (256,) uint8 each."""

    kinds: Bytes
    normal: Bytes


def cutter_for(tokenizer: Tokenizer) -> Cutter | None:
    """The kernel's parameters for a tokenizer; None if a component may look across whitespace, or without numba."""
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
    """The settings of a normaliser or pre-tokenizer, with nested sequences flattened."""
    return _flat(json.loads(part.__getstate__()), inner) if part is not None else []


def _flat(part: Part, inner: str) -> list[Part]:
    return (
        [one for each in part[inner] for one in _flat(each, inner)] if part["type"] == "Sequence" else [part]
    )


def _is_local(cut: Part) -> bool:
    """Whether a pre-tokenizer splits a piece of a text just as it would split that piece by itself."""
    return cut["type"] in WITHIN and cut.get("prepend_scheme") != "first"


def _cuts_characters(cut: Part) -> bool:
    """Whether a pre-tokenizer's treatment of an ASCII character depends on that character alone."""
    return (
        cut["type"] in AT_BLANKS
        or (cut["type"] == "Punctuation" and cut["behavior"] == "Isolated")
        or (cut["type"] == "Digits" and cut["individual_digits"])
    )


def _glues_blanks(cut: Part) -> bool:
    """Whether a pre-tokenizer puts a space at the beginning of the word after it."""
    return (cut["type"] == "ByteLevel" and bool(cut.get("use_regex", True))) or (
        cut["type"] == "Metaspace" and bool(cut.get("split", True))
    )


def _words(backend: tokenizers.Tokenizer) -> _Words | None:
    """The parameters of a tokenizer's model; None if it is neither WordPiece nor WordLevel, or has too long words."""
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
    """Runs the normaliser and pre-tokenizer on "a?b" for each ASCII character "?"; None for any unexpected result.

    With `whole`, a character that splits the text is allowed: chunks are then not split here.
    """
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
    """Bytes of the space-prefixed mode: only " " separates chunks; other whitespace makes a text heavy."""
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
    return Cutter(rules, wordpiece.WordPieces(_to_spellings(plain), _to_spellings(behind)))


def _reserved(backend: tokenizers.Tokenizer, letters: _Bytes) -> list[bytes] | None:
    """The added tokens, normalised byte by byte; the tokenizer extracts them first, so they make a text heavy.

    None if a token is empty. If a token is matched in normalised text, `letters` is changed so that any non-ASCII or
    dropped character makes a text heavy.
    """
    from omnivec.tables.kernels import wordpiece

    spellings = []
    for token in backend.get_added_tokens_decoder().values():
        content = token.content
        if token.normalized:
            # The token is matched in the normalised text, and only ASCII's normalisation is known here.
            letters.kinds[(letters.kinds == wordpiece.FOREIGN) | (letters.kinds == wordpiece.DROPPED)] = (
                wordpiece.HEAVY
            )
            content = backend.normalizer.normalize_str(content) if backend.normalizer else content
        if not content:
            return None
        spellings.append(bytes(letters.normal[byte] for byte in content.encode()))
    return spellings


def _to_spellings(tokens: Mapping[str, int]) -> Spellings:
    """The hash table of tokens (in UTF-8) and their ids."""
    from omnivec.tables.kernels import spellings

    return spellings.of([token.encode() for token in tokens], list(tokens.values()))
