"""Text to whole words that a table of vectors knows; words that it lacks are left out.

Words are cut near to the Penn Treebank's way, which English word vectors were made with: n't, 's and their like stand
alone, double quotes become `` and '', punctuation parts from words but not from within numbers, abbreviations with
several points and hyphenated words. Unlike the Treebank's, a full stop always parts from the word before it.
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
"""Cuts "don't" into "do" and "n't"."""
MOSES = r"(?i:\w*n(?='t\b)|'t\b)" + _REST
"""Cuts "don't" into "don" and "'t"."""
_OPENING = r'(?<![^\s(\[{<])"'


def word_tokenizer(words: Sequence[str], pattern: str, around: tuple[str, str]) -> Tokenizer:
    """A tokenizer whose ids are places in a list of words.

    Args:
        words: the words of a table, in the order of its rows.
        pattern: TREEBANK or MOSES: what a word is.
        around: the words that go before and behind each text, where the table has them.
    """
    import tokenizers
    from tokenizers import Regex, models, normalizers, pre_tokenizers, processors

    # The unknown word's id lies behind the table; it is dropped before it could be looked up.
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
