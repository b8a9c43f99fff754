"""A tokenizer whose tokens are whole words of a table of vectors; words that are not in the table are left out.

Texts are split much like the Penn Treebank, which published English word vectors were trained on: n't, 's and other
contractions are words of their own, double quotes become `` and '', and punctuation is separated from words, but not
inside numbers, abbreviations with several points and hyphenated words. Unlike in the Treebank, a full stop is always
separated from the word before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnivec.inputs.text.tokenizer import Tokenizer

UNKNOWN = "<unk>"

_REST = (
    r"|'(?i:s|m|d|ll|re|ve)\b"
    r"|(?:\p{L}\.){2,}"
    r"|\d+(?:[.,:/-]\d+)*"
    r"|\w+(?:[-./]\w+|'(?!(?i:s|m|d|ll|re|ve|t)\b)\w+)*"
    r"|\.{2,}|-{2,}|``|''|[^\w\s]"
)
TREEBANK = r"(?i:\w+(?=n't\b)|n't\b)" + _REST
"""Splits "don't" into "do" and "n't"."""
MOSES = r"(?i:\w*n(?='t\b)|'t\b)" + _REST
"""Splits "don't" into "don" and "'t"."""
_OPENING = r'(?<![^\s(\[{<])"'


def word_tokenizer(words: Sequence[str], pattern: str, around: tuple[str, str]) -> Tokenizer:
    """A tokenizer whose ids are indices in a list of words.

    Args:
        words: the words of a table, in the order of its rows.
        pattern: regular expression that matches a word: TREEBANK or MOSES.
        around: the words put before and after each text, each only if it is in the table.
    """
    import tokenizers
    from tokenizers import Regex, models, normalizers, pre_tokenizers, processors

    # The id of unknown words is one past the table's last row; drop_unknown removes it before any lookup.
    vocabulary = {word: i for i, word in enumerate(words)} | {UNKNOWN: len(words)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(_OPENING), "``"), normalizers.Replace('"', "''")]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    before, behind = ([word] if word in vocabulary else [] for word in around)
    backend.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *behind], special_tokens=[(word, vocabulary[word]) for word in before + behind]
    )
    return Tokenizer(backend, {"unk_token": UNKNOWN, "drop_unknown": True})
