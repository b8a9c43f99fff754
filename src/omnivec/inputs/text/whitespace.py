r"""Defines the characters that separate words, the ends of lines, and the encoding of text files.

The words of a table were produced by its training program, so a text must be split in the same way to look them up. The
rule is that of fastText, and of word2vec's and GloVe's programs for text files: a word is a run of characters without
space, \t, \n, \v, \f, \r and NUL. All other characters are part of words, including those that are
white space in Unicode: U+00A0, U+0085, U+2028, U+3000, U+001C to U+001F, U+200B, U+FEFF.

| used by | words are separated by |
|---|---|
| `train` of word2vec, glove, fasttext, fasttext_supervised, phrases and doc2vec, from files or str | this rule |
| their kernels (`tables.kernels.simd.blanks`) | this rule, in bytes of UTF-8 |
| tables of words: encode, words, spans (`tables.keys`) | this rule; a word that is not a key is looked up by parts |
| classifiers: encode, predict (`tables.bags`) | this rule; "</s>" ends a text and "__label__..." is not a word |
| word benchmarks (`evaluation`) | this rule |
| models with a tokenizer, `distill` and `contrastive` | their tokenizer |
| documents of a collection | `inputs.files.cut`, by Unicode |

gensim's LineSentence, TaggedLineDocument and `str.split` separate words at all white space of Unicode: to train on the
same words, pass lists of words, which are used unchanged.

Lines end with \n or \r\n and with nothing else (str.splitlines knows ten more characters). Text files are UTF-8; a byte
order mark at the beginning is skipped; UTF-16 and NUL bytes are refused.
"""

from __future__ import annotations

import codecs
import re

BLANKS = " \t\n\v\f\r\0"
"""The characters that separate words."""
BLANK_BYTES = BLANKS.encode()
WORD = re.compile(rf"[^{BLANKS}]+")
"""Pattern of a word."""
END = "</s>"
"""The word that fastText appends to each line."""

BOM = codecs.BOM_UTF8
_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def split_words(text: str) -> list[str]:
    """Returns the words of a text in order."""
    # A printable text can only contain spaces as separators, for which str.split is twice as fast as the pattern.
    return list(filter(None, text.split(" "))) if text.isprintable() else WORD.findall(text)


def is_blank(text: str) -> bool:
    """Whether a text has no word."""
    return WORD.search(text) is None


def lines(text: str) -> list[str]:
    r"""Returns the lines of a text without their ends, \n or \r\n."""
    split = text.split("\n")
    if not split[-1]:
        split.pop()
    return [line.removesuffix("\r") for line in split]


def why_not_utf8(data: bytes, at: int = 0) -> str | None:
    """Explains why bytes are not a UTF-8 text, as the rest of a message after the name of the file; None if they are.

    Args:
        data: bytes of a file, which begin and end between two characters.
        at: offset of the bytes in the file.
    """
    if at == 0:
        for mark, name in _OTHERS.items():
            if data.startswith(mark):
                return f"is {name}: save it as UTF-8"
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {at + error.start:,}: save it as UTF-8"
    zero = data.find(0)
    return f"contains zero bytes at byte {at + zero:,}: is it a text in UTF-8?" if zero >= 0 else None
