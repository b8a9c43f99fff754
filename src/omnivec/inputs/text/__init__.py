"""The modality of texts, measured in characters and tokens: a str, or a text file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnivec.errors import ModelError
from omnivec.inputs.files.suffixes import NAMES, SUFFIXES
from omnivec.inputs.modality import Canaries, Modality

if TYPE_CHECKING:
    from omnivec.inputs.content import Content, Cutting, Piece
    from omnivec.inputs.preparer import Preparer, PreparerSource

# A text for each aspect in which tokenizers or precisions may differ: case, accents, scripts, digits, code, length.
CANARIES = (
    "The committee met on Tuesday.",
    "THE COMMITTEE MET ON TUESDAY!",
    "naïve café, Zürich, smörgåsbord",
    "東京は日本の首都です。 北京是中国的首都。",
    "for i in range(10): print(x[i] ** 2)  # 3.14159",
    "1234567890 items at $9.99, 50 % off",
    " ".join(["A long text is cut where the model's limit is, and must be cut alike."] * 40),
    "x",
)

TOLERANCE = 2e-3
"""Largest 1 - cosine of canaries: bfloat16 stays below 2e-4; other fine-tuned versions of a model do not."""


def _accepts(item: Any) -> bool:
    return isinstance(item, str)


def _read(data: bytes, path: Path, encodings: Sequence[str]) -> Content:
    from omnivec.inputs.content import Content
    from omnivec.inputs.files.read import text_of

    source = text_of(data, path, encoding=encodings)
    chosen = source.encoding if source.given else None
    digest, text = bytes.fromhex(source.digest), source.text
    return Content("text", digest, text, text, source.line, encoding=chosen, held=len(text))


def _content(item: Any) -> Content:
    import hashlib

    from omnivec.inputs.content import Content
    from omnivec.inputs.text.text import decode

    text = decode(item)
    return Content("text", hashlib.sha256(text.encode("utf-8")).digest(), text, text, held=len(text))


def _passages(content: Content, model: Any, cutting: Cutting) -> list[Piece]:
    from omnivec.inputs.text.passages import passages_of

    return passages_of(content, model, cutting)


def _preparer(source: PreparerSource) -> Preparer:
    from omnivec.inputs.text.text import TextPreparer

    if source.tokenizer is None:
        raise ModelError(f"{source.root}: the model reads texts, but has no tokenizer")
    config, family = source.config, source.family
    usual = getattr(config, "usual_length", getattr(family, "USUAL_LENGTH", config.max_length))
    stated = source.tokenizer_settings.get("model_max_length") or source.sentence.get("max_seq_length")
    limit = min(int(stated or source.tokenizer.model_max_length or usual), config.max_length)
    return TextPreparer(source.tokenizer, limit, config.vocab_size, source.lower)


MODALITY = Modality(
    name="text",
    one="a text",
    plural="texts",
    given="a str",
    unit="tokens",
    rank=0,
    accepts=_accepts,
    suffixes=frozenset(SUFFIXES),
    file_names=frozenset(NAMES),
    otherwise=True,
    read=_read,
    content=_content,
    pipeline="text/1",
    is_cut=True,
    passages=_passages,
    span_unit="characters",
    counts_lost=True,
    encode_options=("prompt_name", "prompt", "truncate", "chunk"),
    needs_tokenizer=True,
    preparer=_preparer,
    canaries=Canaries(CANARIES, str, TOLERANCE),
    default_model="all-MiniLM-L6-v2",
)
