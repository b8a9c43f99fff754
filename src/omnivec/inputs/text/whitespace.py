r"""What parts words, what ends lines, and what text files are encoded in: each defined here, once.

The words of a table are what its training program cut, so a text must be cut alike when a vector is asked for. The
rule of fastText, which agrees with word2vec's and GloVe's programs wherever they are fed text files: a word is a run of
characters without space, \t, \n, \v, \f, \r and NUL. All other characters belong to words, those that Unicode calls
white space too: U+00A0, U+0085, U+2028, U+3000, U+001C to U+001F, U+200B, U+FEFF.

| who | parts words by |
|---|---|
| `train` of word2vec, glove, fasttext, fasttext_supervised, phrases and doc2vec, from files or str | this rule |
| their kernels (`tables.kernels.simd.blanks`) | this rule, in bytes of UTF-8 |
| tables of words: encode, words, spans (`tables.keys`) | this rule; what is no key is looked for in its parts |
| classifiers: encode, predict (`tables.bags`) | this rule; "</s>" ends a text and "__label__..." is no word of it |
| word benchmarks (`evaluation`) | this rule |
| models with a tokenizer, `distill` and `contrastive` | their tokenizer |
| documents of a collection | `inputs.files.cut`, by Unicode |

gensim's LineSentence, TaggedLineDocument and `str.split` part words by all that Unicode calls white space: give lists
of words to train on the same. A list's words are taken as they are, whatever they hold.

Lines end at \n, and a \r before it belongs to no word; nothing else ends a line (str.splitlines knows ten more). Text
files are UTF-8; a byte order mark at a file's beginning is dropped; UTF-16 and NUL bytes are refused by name.
"""

from __future__ import annotations

import codecs
import re

BLANKS = " \t\n\v\f\r\0"
"""The characters that part words."""
BLANK_BYTES = BLANKS.encode()
WORD = re.compile(rf"[^{BLANKS}]+")
"""A word, with its place in a text."""
END = "</s>"
"""The word that fastText puts behind each line."""

BOM = codecs.BOM_UTF8
_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def split_words(text: str) -> list[str]:
    """The words of a text, in order."""
    # Where nothing but spaces could part words this is twice as fast as the expression.
    return list(filter(None, text.split(" "))) if text.isprintable() else WORD.findall(text)


def is_blank(text: str) -> bool:
    """Whether a text has no word."""
    return WORD.search(text) is None


def lines(text: str) -> list[str]:
    r"""The lines of a text, without their ends: \n, or \r\n."""
    split = text.split("\n")
    if not split[-1]:
        split.pop()
    return [line.removesuffix("\r") for line in split]


def why_not_utf8(data: bytes, at: int = 0) -> str | None:
    """Why bytes are no UTF-8 text, as a message goes on after the file's name; None where they are.

    Args:
        data: of a file, cut between two characters.
        at: where in the file they begin.
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
    return f"holds zero bytes at byte {at + zero:,}: is it a text in UTF-8?" if zero >= 0 else None
