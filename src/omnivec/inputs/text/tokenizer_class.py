"""Applies the settings beside tokenizer.json in the way of the tokenizer class that it was published with.

A tokenizer.json is complete, but the tokenizer classes of transformers 4.x (4.57 is the reference) change it: some put
their own start and end tokens around a text, some set the normalizer, and all add the tokens that the other files name.
The defaults of a class are applied too, except default special tokens that are not in the vocabulary: their ids would
be beyond the model's embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from omnivec.errors import ModelError, UnsupportedModel
from omnivec.validation import typed
from omnivec.validation.typed import Between

if TYPE_CHECKING:
    import tokenizers

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# tokenizer_class values that say nothing about the vocabulary files.
NEVER_NULL = ("do_lower_case", "tokenize_chinese_chars")
GENERIC = ("", "pretrained", "auto", "tokenizersbackend")


@dataclass(frozen=True)
class TokenizerClass:
    """How a class of transformers changes the tokenizer of tokenizer.json.

    Attributes:
        normalizer: maps a setting to the attribute of a BertNormalizer that it sets, and its default in the class.
        ends: defaults of `add_bos_token` and `add_eos_token`; None for a class that leaves this to tokenizer.json.
        bos: default of `bos_token`.
        eos: default of `eos_token`.
        language: for translation models, default of `src_lang`, the language code that is added to a text.
        language_last: whether the code is put after the end token; else it is put before the text.
        prefix: what `add_prefix_space` sets: "outer" the pre-tokenizer if it has such a field; "inner" also enables it
            in those inside a sequence; "metaspace" that of SentencePiece, if the setting exists.
    """

    normalizer: Mapping[str, tuple[str, bool | None]] | None = None
    ends: tuple[bool, bool] | None = None
    bos: str = "<s>"
    eos: str = "</s>"
    language: str = ""
    language_last: bool = True
    prefix: str = "outer"


_LOWER: dict[str, tuple[str, bool | None]] = {
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
}
_CHINESE: dict[str, tuple[str, bool | None]] = {"tokenize_chinese_chars": ("handle_chinese_chars", True)}

# By tokenizer_class in tokenizer_config.json, without "Tokenizer" and "Fast".
CLASSES: dict[str, TokenizerClass] = {
    **dict.fromkeys(
        (
            *("bert", "distilbert", "electra", "mobilebert", "convbert", "layoutlm", "funnel", "lxmert"),
            *("squeezebert", "retribert", "realm", "dprquestionencoder", "dprcontextencoder", "dprreader"),
        ),
        TokenizerClass(normalizer=_LOWER | _CHINESE),
    ),
    **dict.fromkeys(("mpnet", "splinter", "layoutlmv2"), TokenizerClass(normalizer=_LOWER)),
    "llama": TokenizerClass(ends=(True, False), prefix="metaspace"),
    "codellama": TokenizerClass(ends=(True, False)),
    "gemma": TokenizerClass(ends=(True, False), bos="<bos>", eos="<eos>"),
    "cohere": TokenizerClass(
        ends=(True, False), bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>", prefix="inner"
    ),
    "gptneox": TokenizerClass(ends=(False, False), bos="<|endoftext|>", eos="<|endoftext|>"),
    "bloom": TokenizerClass(prefix="inner"),
    **dict.fromkeys(("t5", "mt5"), TokenizerClass(prefix="metaspace")),
    "mbart": TokenizerClass(language="en_XX"),
    "mbart50": TokenizerClass(language="en_XX", language_last=False),
    "nllb": TokenizerClass(language="eng_Latn", language_last=False),
}

# Classes that split texts with their own code, and ignore a tokenizer.json.
OTHER_PROGRAMS = (
    *(
        "bertjapanese",
        "bertweet",
        "phobert",
        "bartpho",
        "biogpt",
        "byt5",
        "myt5",
        "canine",
        "ctrl",
        "cpm",
        "cpmant",
    ),
    *(
        "esm",
        "flaubert",
        "fsmt",
        "xlm",
        "transfoxl",
        "luke",
        "mluke",
        "tapas",
        "tapex",
        "m2m100",
        "marian",
        "plbart",
    ),
    *(
        "prophetnet",
        "xlmprophetnet",
        "rocbert",
        "roformer",
        "gptneoxjapanese",
        "gptsanjapanese",
        "gptsw3",
        "erniem",
    ),
    *(
        "perceiver",
        "bertgeneration",
        "blenderbotsmall",
        "speecht5",
        "speech2text",
        "seamlessm4t",
        "mistralcommon",
    ),
)

# Model types whose class, if the folder names none, has another name than the model type.
OF_MODEL_TYPES = {
    **dict.fromkeys(
        ("align", "bros", "chinese_clip", "ernie", "megatron-bert", "nezha", "visual_bert"), "bert"
    ),
    **dict.fromkeys(
        ("mistral", "mixtral", "ministral", "phi3", "deepseek_v2", "deepseek_v3", "persimmon"), "llama"
    ),
    **dict.fromkeys(("arcee", "diffllama", "ernie4_5", "jamba", "jetmoe", "zamba", "zamba2"), "llama"),
    **dict.fromkeys(("gemma2", "gemma3", "gemma3_text", "recurrent_gemma", "t5gemma", "siglip2"), "gemma"),
    **dict.fromkeys(("longt5", "switch_transformers", "umt5"), "t5"),
    **dict.fromkeys(
        ("gpt_neox", "falcon_mamba", "mamba", "mamba2", "mpt", "olmo", "olmo2", "olmoe"), "gptneox"
    ),
    **dict.fromkeys(("rwkv", "stablelm", "xlstm"), "gptneox"),
    "code_llama": "codellama",
    "cohere2": "cohere",
    "nllb-moe": "nllb",
    "dpr": "dprquestionencoder",
}


def kind_of_class(settings: Mapping[str, Any]) -> str:
    """Returns the class in a tokenizer_config.json in short form: "bert" for "BertTokenizerFast"; "" if none."""
    name = settings.get("tokenizer_class")
    return name.removesuffix("Fast").removesuffix("Tokenizer").lower() if isinstance(name, str) else ""


def read_settings(folder: Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Reads the settings beside the vocabulary.

    Args:
        folder: folder of the model.
        overrides: settings of its sentence_bert_config.json, which override those of tokenizer_config.json.

    Returns:
        tokenizer_config.json; in the older layout without `added_tokens_decoder`, completed by special_tokens_map.json
        and added_tokens.json.
    """
    settings = {**table_of(folder / "tokenizer_config.json"), **(overrides or {})}
    if "added_tokens_decoder" in settings:
        return settings
    added = {
        str(index): {"content": token} for token, index in table_of(folder / "added_tokens.json").items()
    }
    special = table_of(folder / "special_tokens_map.json")
    name = "additional_special_tokens"
    if isinstance(special.get(name), list) and isinstance(settings.get(name), list):
        special[name] = [*settings[name], *(token for token in special[name] if token not in settings[name])]
    return {**settings, **special, "added_tokens_decoder": added}


@dataclass(frozen=True)
class _Token:
    """A token in its form as a JSON object."""

    content: str
    single_word: bool | None = None
    lstrip: bool | None = None
    rstrip: bool | None = None
    normalized: bool | None = None
    special: bool | None = None


_Named = str | _Token


@dataclass(frozen=True)
class _TokenizerSettings:
    """The keys of tokenizer_config.json and special_tokens_map.json that are read."""

    tokenizer_class: str | None = None
    model_max_length: Annotated[int, Between(1, 10**40)] | float | None = None
    max_len: Annotated[int, Between(1, 10**40)] | float | None = None
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool | None = None
    add_prefix_space: bool | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    trim_offsets: bool | None = None
    split_special_tokens: bool | None = None
    legacy: bool | None = None
    legacy_behaviour: bool | None = None
    src_lang: str | None = None
    bos_token: _Named | None = None
    eos_token: _Named | None = None
    unk_token: _Named | None = None
    sep_token: _Named | None = None
    pad_token: _Named | None = None
    cls_token: _Named | None = None
    mask_token: _Named | None = None
    additional_special_tokens: tuple[_Named, ...] | None = None
    extra_special_tokens: tuple[_Named, ...] | Mapping[str, _Named] | None = None
    added_tokens_decoder: Mapping[int, _Token] | None = None
    model_type: str | None = None


def table_of(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; empty if there is no such file."""
    raw = typed.table(_TokenizerSettings, path, {})
    # null means the default of the class, except for strip_accents, where it is a third value.
    return {key: value for key, value in raw.items() if value is not None or key not in NEVER_NULL}


def published_kind(folder: Path, settings: Mapping[str, Any]) -> str:
    """Returns the published class of a tokenizer: that in the settings or config.json, or that of the model type.

    Raises:
        UnsupportedModel: the class splits texts with its own code.
    """
    class_name = kind_of_class(settings)
    if not class_name:
        config = table_of(folder / "config.json")
        class_name = kind_of_class(config)
        if not class_name:
            model_type = str(config.get("model_type", ""))
            class_name = OF_MODEL_TYPES.get(model_type, model_type.replace("-", "").replace("_", ""))
    if class_name in OTHER_PROGRAMS:
        raise UnsupportedModel(
            f"{folder}: its tokenizer is of the class {settings.get('tokenizer_class') or class_name!r}, which splits "
            "texts with its own code, which is not covered and ignores tokenizer.json. If tokenizer.json "
            'gives the same ids, set "tokenizer_class": "PreTrainedTokenizerFast" in a copy of the folder'
        )
    return class_name


def refuse_own_code(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel if the code of the tokenizer is in the folder."""
    auto_map = settings.get("auto_map")
    named = auto_map.get("AutoTokenizer") if isinstance(auto_map, Mapping) else auto_map
    if named:
        raise UnsupportedModel(
            f"{folder}/tokenizer_config.json: auto_map names a tokenizer whose code is in the folder, {named}: it is "
            "never run. If tokenizer.json gives the same ids, remove auto_map from a copy of the folder"
        )


def apply_class(
    backend: tokenizers.Tokenizer, settings: Mapping[str, Any], class_name: str, folder: Path
) -> None:
    """Changes the tokenizer of tokenizer.json as its class does, with these settings.

    Parts that need no change are kept as they are, so that the identity does not depend on their spelling.

    Raises:
        ModelError: a start or end token or a language code to put around texts is not in the vocabulary.
    """
    if settings.get("drop_unknown"):  # a word table saved by omnivec, which has no published class
        return
    known = CLASSES.get(class_name, TokenizerClass())
    if known.normalizer is not None:
        _set_normalizer(backend, settings, known.normalizer)
    _set_prefix(backend, settings, known.prefix)
    _add_tokens(backend, settings)
    backend.encode_special_tokens = bool(settings.get("split_special_tokens"))
    if known.language:
        _set_language(backend, settings, known, folder)
        return
    ends = known.ends
    if class_name == "tokenizersbackend" and {"add_bos_token", "add_eos_token"} & settings.keys():
        ends = (False, False)  # transformers 5 uses this name, and both settings if one exists
    if ends is not None:
        _set_ends(backend, settings, known, ends, folder)


def _set_normalizer(
    backend: tokenizers.Tokenizer,
    settings: Mapping[str, Any],
    fields: Mapping[str, tuple[str, bool | None]],
) -> None:
    from tokenizers.normalizers import BertNormalizer

    normalizer = backend.normalizer
    if isinstance(normalizer, BertNormalizer):
        for setting, (name, default) in fields.items():
            setattr(normalizer, name, settings.get(setting, default))


def lower_first(backend: tokenizers.Tokenizer) -> None:
    """Converts texts to lower case first, as `do_lower_case` of sentence-transformers' Transformer module does."""
    from tokenizers.normalizers import Lowercase, Sequence

    normalizer = backend.normalizer
    if normalizer is None:
        backend.normalizer = Lowercase()
        return
    state = _state(normalizer)
    if all(part["type"] != "Lowercase" for part in state.get("normalizers", [state])):
        backend.normalizer = Sequence([Lowercase(), normalizer])


def _set_prefix(backend: tokenizers.Tokenizer, settings: Mapping[str, Any], where: str) -> None:
    """Applies `add_prefix_space`: whether a text is tokenised as if there were a space before it."""
    from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence

    add_prefix = settings.get("add_prefix_space", False)
    pre_tokenizer = backend.pre_tokenizer
    if where == "metaspace":
        if settings.get("add_prefix_space") is not None:
            _set_metaspace(backend, bool(add_prefix), bool(settings.get("legacy", True)))
        return
    if isinstance(pre_tokenizer, ByteLevel) and add_prefix is not None:
        pre_tokenizer.add_prefix_space = bool(add_prefix)
    if where == "inner" and add_prefix and isinstance(pre_tokenizer, Sequence):
        for i in range(len(_state(pre_tokenizer)["pretokenizers"])):
            inner: PreTokenizer = pre_tokenizer[i]
            if isinstance(inner, ByteLevel):
                inner.add_prefix_space = True


def _set_metaspace(backend: tokenizers.Tokenizer, prefixed: bool, legacy: bool) -> None:
    """Sets the leading space of SentencePiece, which has two forms in tokenizer.json."""
    from tokenizers.normalizers import Prepend, Replace, Sequence
    from tokenizers.pre_tokenizers import Metaspace

    if isinstance(backend.pre_tokenizer, Metaspace):
        scheme = "never" if not prefixed else "always" if legacy else "first"
        if (backend.pre_tokenizer.prepend_scheme == "never") == prefixed:
            backend.pre_tokenizer.prepend_scheme = scheme
        return
    parts = _state(backend.normalizer) if backend.normalizer is not None else {}
    kinds = [part["type"] for part in parts.get("normalizers", [parts] if parts else [])]
    if set(kinds) <= {"Prepend", "Replace"} and "Replace" in kinds and ("Prepend" in kinds) != prefixed:
        replace = Replace(" ", "\u2581")
        backend.normalizer = Sequence([Prepend("\u2581"), replace] if prefixed else [replace])


def _state(part: Any) -> dict[str, Any]:
    """Returns a part of a tokenizer as in tokenizer.json."""
    return dict(json.loads(part.__getstate__()))


def _add_tokens(backend: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Adds the tokens that other files than tokenizer.json name, and updates the flags of present ones."""
    present = backend.get_added_tokens_decoder().values()
    known, contents = set(map(repr, present)), {token.content for token in present}
    # Entries of added_tokens.json have no flags, so those of tokenizer.json are kept.
    entries = settings["added_tokens_decoder"].items()
    declared = {index: one for index, one in entries if len(one) > 1 or one["content"] not in contents}
    settings = {**settings, "added_tokens_decoder": declared}
    decoded = [token for token in added_tokens(settings, named=False) if repr(token) not in known]
    listed = contents | {token.content for token in decoded}
    backend.add_tokens(decoded + [token for token in added_tokens(settings) if token.content not in listed])


def added_tokens(settings: Mapping[str, Any], named: bool = True) -> list[tokenizers.AddedToken]:
    """Returns the tokens beside the vocabulary, in the order in which new ones get their ids.

    Args:
        settings: result of `read_settings`.
        named: whether to include the special tokens that the settings name by their roles.
    """
    roles = [settings.get(role) for role in ROLES]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        declared = settings.get(name)
        roles += (
            declared
            if isinstance(declared, list)
            else declared.values()
            if isinstance(declared, Mapping)
            else []
        )
    specials = {
        content_of(token): token for token in reversed(roles) if token
    }  # the first of equal names is used
    entries = sorted(settings["added_tokens_decoder"].items(), key=lambda entry: int(entry[0]))
    tokens = [
        _token(declared, declared.get("special", False) or declared["content"] in specials)
        for _, declared in entries
    ]
    if not named:
        return tokens
    listed = {token.content for token in tokens}
    return tokens + [_token(token, True) for name, token in reversed(specials.items()) if name not in listed]


def _token(entry: str | Mapping[str, Any], special: bool) -> tokenizers.AddedToken:
    from tokenizers import AddedToken

    if isinstance(entry, str):
        return AddedToken(entry, special=special)
    flags = {name: entry[name] for name in ("single_word", "lstrip", "rstrip", "normalized") if name in entry}
    return AddedToken(entry["content"], special=special, **flags)


def content_of(token: str | Mapping[str, Any] | None) -> str | None:
    """Returns the text of a special token, which may be a string or an object."""
    return token["content"] if isinstance(token, Mapping) else token


def _set_ends(
    backend: tokenizers.Tokenizer,
    settings: Mapping[str, Any],
    known: TokenizerClass,
    ends: tuple[bool, bool],
    folder: Path,
) -> None:
    """Puts the start and end tokens around texts."""
    around: list[list[str]] = []
    for side, default, token in (("bos", ends[0], known.bos), ("eos", ends[1], known.eos)):
        wanted = settings.get(f"add_{side}_token", default)
        unsaid = not {f"add_{side}_token", f"{side}_token"} & settings.keys()
        if wanted and unsaid and backend.token_to_id(token) is None:
            return  # according to its vocabulary, the tokenizer is not of this class
        around.append([_present(backend, settings, f"{side}_token", token, folder)] if wanted else [])
    _set_template(backend, around[0], around[1])


def _set_language(
    backend: tokenizers.Tokenizer, settings: Mapping[str, Any], known: TokenizerClass, folder: Path
) -> None:
    """Puts the language code and the end token of a translation model around texts."""
    code = _present(backend, settings, "src_lang", known.language, folder)
    eos = _present(backend, settings, "eos_token", known.eos, folder)
    if known.language_last or settings.get("legacy_behaviour"):
        _set_template(backend, [], [eos, code])
    else:
        _set_template(backend, [code], [eos])


def _present(
    backend: tokenizers.Tokenizer, settings: Mapping[str, Any], name: str, default: str, folder: Path
) -> str:
    """Returns the token of a setting or its default; ModelError if it is not in the vocabulary."""
    token_setting = settings.get(name) if name == "src_lang" else settings.get(name, default)
    token = content_of(token_setting or (default if name == "src_lang" else None))
    if token is None or backend.token_to_id(token) is None:
        raise ModelError(
            f"{folder}/tokenizer_config.json: {name} {token!r}, which is put around each text, is not in the vocabulary"
        )
    return token


def _set_template(backend: tokenizers.Tokenizer, before: list[str], behind: list[str]) -> None:
    """Sets a post-processor that puts tokens around a text, unless the present one already does so."""
    from tokenizers.processors import TemplateProcessing

    ids = [(token, backend.token_to_id(token)) for token in dict.fromkeys(before + behind)]
    if _around(backend) == (
        [backend.token_to_id(t) for t in before],
        [backend.token_to_id(t) for t in behind],
    ):
        return
    single, second = [*before, "$A", *behind], [*before, "$B", *behind]
    pair = [f"{part}:0" for part in single] + [f"{part}:1" for part in second]
    backend.post_processor = TemplateProcessing(
        single=" ".join(pair[: len(single)]), pair=" ".join(pair), special_tokens=ids
    )


def _around(backend: tokenizers.Tokenizer) -> tuple[list[int], list[int]] | None:
    """Returns the ids that the present post-processor puts before and after a text; None if they are unknown."""
    from tokenizers import Encoding

    if backend.post_processor is None:
        return [], []
    empty: Encoding = backend.encode("")
    filled = next(
        (row for row in map(backend.encode, ("a", "0", "A")) if len(row.ids) > len(empty.ids)), None
    )
    if filled is None:
        return None
    content = [i for i, special in enumerate(filled.special_tokens_mask) if not special]
    return (filled.ids[: content[0]], filled.ids[content[-1] + 1 :]) if content else None
