"""`Tokenizer`: token ids of texts and the offsets of tokens, as the files in a model's folder specify.

A folder has either tokenizer.json, which is complete, or the vocabulary files that BERT, RoBERTa, GPT-2 and CLIP were
first published with, from which the same tokenizer is built here.

Example, with the tokenizer of all-MiniLM-L6-v2, which puts [CLS] (101) before and [SEP] (102) after each text:

    ids(["Tokenisers split"])       [101, 19204, 17288, 2015, 3975, 102]      token ##iser ##s split
    spans("Tokenisers split")       (0, 5), (5, 9), (9, 10), (11, 16)         without the special tokens
    special_ids()                   ([101], [102])

    text = ids(["one two three four"])[0]      [101, 2028, 2048, 2093, 2176, 102]
    truncate(text, 5)                          [101, 2028, 2048, 2093, 102]       the tail is cut off
    truncate(text, 5, "head")                  [101, 2048, 2093, 2176, 102]       the head is cut off
    windows(text, 5)                           [101, 2028, 2048, 102], [101, 2093, 2176, 102]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ModelError, UsageError
from omnivec.inputs.text.tokenizer_checks import refuse_unusable, why_not
from omnivec.inputs.text.tokenizer_class import (
    GENERIC,
    SETTINGS,
    added_tokens,
    apply_class,
    content_of,
    kind_of_class,
    lower_first,
    published_kind,
    read_settings,
    refuse_own_code,
    table_of,
)
from omnivec.validation.reasons import PASSING, one_line

if TYPE_CHECKING:
    import tokenizers

Ids = NDArray[np.int32]

# Published tokenizers without a limit have one above this.
NO_LIMIT = 10_000_000
# The parts of tokenizer.json that ids do not depend on, and that are left out of the identity.
BESIDE_IDS = ("version", "truncation", "padding", "decoder")


@dataclass(frozen=True)
class Form:
    """A kind of tokenizer that can be built from vocabulary files.

    Attributes:
        model: "wordpiece" (vocab.txt), "bytes" or "words" (vocab.json and merges.txt).
        tokens: the default special tokens by role, for a folder that names none.
        first: role of the token before a text; None if there is none.
        last: role of the token after a text; None if there is none.
    """

    model: Literal["wordpiece", "bytes", "words"]
    tokens: Mapping[str, str]
    first: str | None
    last: str | None


def _roles(**contents: str) -> dict[str, str]:
    return {f"{role}_token": content for role, content in contents.items()}


BERT = Form(
    "wordpiece",
    _roles(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]"),
    first="cls_token",
    last="sep_token",
)
ROBERTA = Form(
    "bytes",
    _roles(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>", cls="<s>", mask="<mask>"),
    first="cls_token",
    last="sep_token",
)
GPT2 = Form("bytes", _roles(bos="<|endoftext|>", eos="<|endoftext|>", unk="<|endoftext|>"), None, None)
CLIP = Form(
    "words",
    _roles(bos="<|startoftext|>", eos="<|endoftext|>", unk="<|endoftext|>", pad="<|endoftext|>"),
    first="bos_token",
    last="eos_token",
)

# By tokenizer_class in tokenizer_config.json, without "Tokenizer" and "Fast", or else model_type in config.json.
FORMS: dict[str, Form] = {
    **dict.fromkeys(
        ("bert", "distilbert", "electra", "mobilebert", "convbert", "layoutlm", "nomic_bert"), BERT
    ),
    **dict.fromkeys(("roberta", "longformer", "bart", "data2vec-text", "clap"), ROBERTA),
    **dict.fromkeys(("gpt2", "gpt_neo", "gptj", "opt"), GPT2),
    "clip": CLIP,
}
# Vocabularies of SentencePiece and others, which transformers can convert to a tokenizer.json.
OTHER_VOCABULARIES = (
    *("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "unigram.json", "bpe.codes", "spm.model"),
    *("tekken.json", "vocab.bpe", "sentencepiece.model"),
)
# The pattern by which CLIP splits texts into words, before bytes are merged.
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Converts texts to token ids; may be called from several threads. The module's docstring has an example.

    Attributes:
        pad_id: id for padding; 0 if the model has no padding token, since padding is masked.
        unknown_id: id of the token for what is not in the vocabulary; None if there is none.
        backend: tokenizer of the library tokenizers, without truncation or padding.
        drops_unknown: whether ids leave out the unknown token.
        side: which end of a text beyond a limit is cut off, by `truncation_side`.
        model_max_length: length limit in tokens, special tokens included; None if the folder has none.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        settings: Mapping[str, Any] | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        settings = settings or {}
        padding, truncation = backend.padding or {}, backend.truncation or {}
        stated = settings.get("truncation_side") or truncation.get("direction")
        self.side: Literal["tail", "head"] = "head" if str(stated).lower() == "left" else "tail"
        backend.no_truncation()
        backend.no_padding()
        self.backend, self._settings = backend, settings
        self.drops_unknown = bool(settings.get("drop_unknown"))
        self._files = list(files)
        pad, unknown = (content_of(settings.get(role)) for role in ("pad_token", "unk_token"))
        pad_id = backend.token_to_id(pad) if pad else None
        self.pad_id = int(pad_id if pad_id is not None else padding.get("pad_id", 0))
        unknown = unknown or getattr(backend.model, "unk_token", None)
        self.unknown_id: int | None = backend.token_to_id(unknown) if unknown else None
        limit = settings.get("model_max_length", settings.get("max_len"))  # the second is the old name
        self.model_max_length = (
            int(limit) if isinstance(limit, int | float) and 0 < limit < NO_LIMIT else None
        )

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary, including added ones."""
        return int(self.backend.get_vocab_size())

    @property
    def special_count(self) -> int:
        """Number of special tokens around a single text."""
        return sum(map(len, self.special_ids()))

    def ids(self, texts: Sequence[str], *, special: bool = True) -> list[Ids]:
        """Returns the token ids (n,) int32 of each text, without truncation.

        Args:
            texts: the texts; an empty one has only special tokens.
            special: whether to put the model's special tokens around each text.

        Raises:
            ItemError: an item is not a str, or contains unpaired surrogates.
        """
        texts = list(texts)
        try:
            rows = self.backend.encode_batch_fast(texts, add_special_tokens=special)
            ids = [np.array(row.ids, np.int32) for row in rows]
        except BaseException as exc:  # panics of the library are not Exceptions
            raise why_not(texts, exc) from exc
        return [row[row != self.unknown_id] for row in ids] if self.drops_unknown else ids

    def spans(self, text: str, *, seen: bool = False) -> NDArray[np.int64]:
        """Returns the start and end offsets (n, 2) int64 of each token in characters, end exclusive.

        Args:
            text: the text; its special tokens are left out.
            seen: whether to leave out the tokens that `ids` drops, the unknown words of a word table.
        """
        try:
            row = self.backend.encode(text, add_special_tokens=False)
        except BaseException as exc:
            raise why_not([text], exc) from exc
        spans = np.array(row.offsets, np.int64).reshape(-1, 2)
        return spans[np.array(row.ids) != self.unknown_id] if seen and self.drops_unknown else spans

    def special_ids(self) -> tuple[Ids, Ids]:
        """Returns the special ids before a text, and those after it."""
        return self._around

    def truncate(self, ids: Ids, limit: int, side: Literal["tail", "head"] = "tail", keep: int = 0) -> Ids:
        """Truncates the ids of a text to `limit`; special tokens are kept.

        Args:
            ids: ids of one text, with its special tokens.
            limit: largest number of ids.
            side: which end of the content is cut off.
            keep: number of leading ids to keep, those of the first special tokens and a prompt.

        Raises:
            UsageError: there are more than `limit` ids to keep.
        """
        if len(ids) <= limit:
            return ids
        before, content, behind = self._parted(ids, keep)
        room = self._room(before, behind, limit)
        shortened = content[:room] if side == "tail" else content[len(content) - room :]
        return np.concatenate([before, shortened, behind])

    def windows(self, ids: Ids, limit: int, keep: int = 0) -> list[Ids]:
        """Splits the ids of a text into windows of at most `limit` ids and nearly equal length.

        Each window has the ids that `truncate` keeps.

        Raises:
            UsageError: the ids to keep leave no room for content.
        """
        if len(ids) <= limit:
            return [ids]
        before, content, behind = self._parted(ids, keep)
        room = self._room(before, behind, limit, least=1)
        pieces = np.array_split(content, -(-len(content) // room))
        return [np.concatenate([before, piece, behind]) for piece in pieces]

    def _parted(self, ids: Ids, keep: int) -> tuple[Ids, Ids, Ids]:
        """Splits ids into those to keep before the content, the content, and those to keep after it."""
        before, behind = self.special_ids()
        first, last = max(keep, len(before)), len(ids) - len(behind)
        return ids[:first], ids[first:last], ids[last:]

    def _room(self, before: Ids, behind: Ids, limit: int, least: int = 0) -> int:
        room = limit - len(before) - len(behind)
        if room < least:
            raise UsageError(
                f"a limit of {limit} tokens has no room for {len(before) + len(behind)} special and prompt tokens"
                + (" and a text." if least else ".")
            )
        return room

    def files(self) -> list[Path]:
        """Returns the files that it was read from; empty if it was not read from files."""
        return list(self._files)

    def save(self, folder: Path) -> None:
        """Writes it to a model's folder, from which `load_tokenizer` reads it."""
        self.backend.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "tokenizer_config.json").write_text(json.dumps(dict(self._settings)), encoding="utf-8")

    def digest(self) -> str:
        """Returns the SHA-256 of everything that ids depend on, independent of the layout of the files."""
        parts = json.loads(self.backend.to_str())
        for name in BESIDE_IDS:
            parts.pop(name, None)
        if self.drops_unknown:
            parts["drop_unknown"] = True
        if self.side == "head":
            parts["truncation_side"] = "left"
        if self.backend.encode_special_tokens:
            parts["split_special_tokens"] = True
        return hashlib.sha256(json.dumps(_canonical(parts), sort_keys=True).encode()).hexdigest()

    def _probes(self) -> Iterator[str]:
        yield from ("a", "0", "A")
        yield from self.backend.get_vocab()

    @cached_property
    def _around(self) -> tuple[Ids, Ids]:
        # The ids of a text with at least one token show the special tokens before and after it.
        for probe in self._probes():
            try:
                row = self.backend.encode(probe)
            except BaseException as exc:
                raise why_not([probe], exc) from exc
            content = np.flatnonzero(np.array(row.special_tokens_mask) == 0)
            if len(content):
                ids = np.array(row.ids, np.int32)
                return ids[: content[0]], ids[content[-1] + 1 :]
        raise ModelError("the tokenizer has no tokens: its files are not those of a model.")


def load_tokenizer(
    folder: Path, overrides: Mapping[str, Any] | None = None, *, lower: bool = False
) -> Tokenizer:
    """Reads the tokenizer in a model's folder, with the changes by its published class; see `tokenizer_class`.

    Args:
        folder: folder of the model.
        overrides: settings that override those of its tokenizer_config.json.
        lower: whether to convert texts to lower case first, except special tokens in them.

    Raises:
        ModelError: the folder has no tokenizer, an unsupported one, or a damaged one.
    """
    import tokenizers

    settings = read_settings(folder, overrides)
    refuse_own_code(folder, settings)
    written = folder / "tokenizer.json"
    names = ("vocab.txt",) if (folder / "vocab.txt").is_file() else ("vocab.json", "merges.txt")
    sources = [written] if written.is_file() else [folder / name for name in names]
    if not all(source.is_file() for source in sources):
        raise ModelError(
            f"{folder} has no tokenizer: looked for tokenizer.json, vocab.txt, vocab.json + merges.txt."
            + _others(folder)
        )
    try:
        if sources == [written]:
            class_name = published_kind(folder, settings)
            backend = tokenizers.Tokenizer.from_file(str(written))
            refuse_unusable(backend, str(folder))
            apply_class(backend, settings, class_name, folder)
        else:
            backend, settings = _build(folder, sources, settings)
            backend.encode_special_tokens = bool(settings.get("split_special_tokens"))
        if lower:
            lower_first(backend)
        refuse_unusable(backend, str(folder))
    except (ModelError, *PASSING):
        raise
    # For an invalid file, the library raises a plain Exception or panics.
    except BaseException as exc:
        held = " and ".join(source.name for source in sources)
        raise ModelError(f"{folder}: no tokenizer can be made of {held}: {one_line(exc)}.") from exc
    beside = [folder / name for name in SETTINGS if (folder / name).is_file()]
    return Tokenizer(backend, settings, [*sources, *beside])


def _others(folder: Path) -> str:
    """Returns the part of a message about vocabularies that cannot be read; "" if there are none."""
    names = [name for name in OTHER_VOCABULARIES if (folder / name).is_file()]
    return (
        f" Its {' and '.join(names)} cannot be read here: save the tokenizer with transformers, which writes "
        "tokenizer.json."
        if names
        else ""
    )


def tokenizer_of(content: bytes, drop_unknown: bool = False) -> Tokenizer:
    """Makes the tokenizer of the bytes of a tokenizer.json.

    Args:
        content: content of the file.
        drop_unknown: whether ids leave out the unknown token.

    Raises:
        ModelError: the content is invalid.
    """
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_buffer(content)
        model = json.loads(content)["model"]
        # A Unigram model specifies its unknown token by its index.
        place = model.get("unk_id")
        unknown = model["vocab"][place][0] if isinstance(place, int) else model.get("unk_token")
        refuse_unusable(backend, "tokenizer.json")
    except (ModelError, *PASSING):
        raise
    except BaseException as exc:
        raise ModelError(
            f"no tokenizer can be made of {len(content):,} bytes of tokenizer.json: {one_line(exc)}."
        ) from exc
    return Tokenizer(backend, {"unk_token": unknown, "drop_unknown": drop_unknown} if unknown else {})


def _build(
    folder: Path, sources: Sequence[Path], settings: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """Builds a tokenizer from vocabulary files; also returns the settings, completed by the default special tokens."""
    class_name = kind_of_class(settings)
    if class_name in GENERIC:
        class_name = str(table_of(folder / "config.json").get("model_type", ""))
    form = FORMS.get(class_name)
    if form is None or (form.model == "wordpiece") != (len(sources) == 1):
        raise ModelError(
            f"{folder} has {' and '.join(source.name for source in sources)} of {class_name or 'an unnamed'} "
            f"tokenizer, built from files are {', '.join(FORMS)}: add its tokenizer.json."
        )
    settings = {**form.tokens, **settings}
    backend = _MODELS[form.model](sources, settings)
    backend.add_tokens(added_tokens(settings))
    backend.post_processor = _ends(backend, form, settings)
    return backend, settings


def _wordpiece(sources: Sequence[Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = models.WordPiece.read_file(str(sources[0]))
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token=content_of(settings["unk_token"])))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def _bytes(sources: Sequence[Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary, merges = models.BPE.read_file(*map(str, sources))
    backend = Tokenizer(
        models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=_prefixed(settings))
    backend.decoder = decoders.ByteLevel()
    return backend


def _words(sources: Sequence[Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary, merges = models.BPE.read_file(*map(str, sources))
    backend = Tokenizer(
        models.BPE(
            vocabulary,
            merges,
            unk_token=content_of(settings["unk_token"]),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


_MODELS = {"wordpiece": _wordpiece, "bytes": _bytes, "words": _words}


def _prefixed(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("add_prefix_space", False))


def _ends(backend: tokenizers.Tokenizer, form: Form, settings: Mapping[str, Any]) -> Any:
    """Returns the post-processor that puts the special tokens around a text."""
    from tokenizers.processors import RobertaProcessing, TemplateProcessing

    first = form.first or ("bos_token" if settings.get("add_bos_token") else None)
    last = form.last or ("eos_token" if settings.get("add_eos_token") else None)
    before, behind = ([str(content_of(settings[role]))] if role else [] for role in (first, last))
    ids: list[tuple[str, Any]] = [(token, backend.token_to_id(token)) for token in before + behind]
    if form in (ROBERTA, CLIP):
        trim = form is ROBERTA and settings.get("trim_offsets", True)
        return RobertaProcessing(ids[1], ids[0], trim, _prefixed(settings))
    single, second = [*before, "$A", *behind], ["$B", *behind]
    pair = [f"{part}:0" for part in single] + [f"{part}:1" for part in second]
    return TemplateProcessing(single=" ".join(pair[: len(single)]), pair=" ".join(pair), special_tokens=ids)


def _canonical(value: Any) -> Any:
    """Removes fields that are None or False, so that new ones in later versions of the library do not matter."""
    if isinstance(value, dict):
        return {
            name: _canonical(part) for name, part in value.items() if part is not None and part is not False
        }
    return [_canonical(part) for part in value] if isinstance(value, list) else value
