"""Tokenizer folders as publishers leave them, written out by hand: the same bytes whatever library is installed.

`tests/golden/make_tokenizer_ids.py` runs transformers 4.57 on them; the test compares with what it found.
"""

from __future__ import annotations

from typing import Any

TEXTS = (
    "the cat sat",
    "The Cat Sat, naïve café!",
    "",
    " ",
    "  the  cat ",
    "</s> the <s>cat",
    "the <new> cat <x>the <New>",
    "[CLS] the [MASK] cat [SEP]",
    "北京 the 東",
    "<|end|>the<|start|> cat",
    "e\u0301 É",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARK = "\u2581"

Files = dict[str, Any]


def added(*tokens: str | dict[str, Any], vocabulary: dict[str, int]) -> list[dict[str, Any]]:
    """The list `added_tokens` of a tokenizer.json, of special tokens in the vocabulary."""
    flags: dict[str, Any] = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    entries = [flags | ({"content": one} if isinstance(one, str) else one) for one in tokens]
    return sorted(({"id": vocabulary[e["content"]], **e} for e in entries), key=lambda e: e["id"])


def template(single: list[str], vocabulary: dict[str, int]) -> dict[str, Any]:
    """A TemplateProcessing that puts tokens around "$A"."""
    parts = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if one == "$A"
        else {"SpecialToken": {"id": one, "type_id": 0}}
        for one in single
    ]
    pair = [*parts, {"Sequence": {"id": "B", "type_id": 1}}]
    tokens = {
        one: {"id": one, "ids": [vocabulary[one]], "tokens": [one]}
        for one in dict.fromkeys(single) - {"$A": None}.keys()
    }
    return {"type": "TemplateProcessing", "single": parts, "pair": pair, "special_tokens": tokens}


def whole(model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A tokenizer.json."""
    empty = dict.fromkeys(
        ("truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    )
    return {"version": "1.0", **empty, "added_tokens": [], **parts, "model": model}


def bert(
    lower: bool = True,
    specials: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    **parts: Any,
) -> Any:
    """A tokenizer.json of WordPiece, in upper and lower case, with accents."""
    pieces = [
        "the",
        "The",
        "cat",
        "Cat",
        "sat",
        "Sat",
        "caf",
        "##é",
        "##e",
        "é",
        "É",
        "北",
        "京",
        "北京",
        "##i",
        "ï",
    ]
    pieces += [
        *LETTERS,
        *LETTERS.upper(),
        *(f"##{c}" for c in LETTERS),
        ",",
        "!",
        "<",
        ">",
        "[",
        "]",
        "|",
        "/",
        "new",
    ]
    vocabulary = {piece: i for i, piece in enumerate([*specials, *pieces])}
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    around = template([specials[2], "$A", specials[3]], vocabulary)
    model = {"type": "WordPiece", "unk_token": specials[1], "continuing_subword_prefix": "##"}
    return whole(
        model | {"max_input_chars_per_word": 100, "vocab": vocabulary},
        **{
            "added_tokens": added(*specials, vocabulary=vocabulary),
            "normalizer": normalizer | {"strip_accents": None, "lowercase": lower},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": around,
        }
        | parts,
    )


def byte_alphabet() -> list[str]:
    """The characters that stand for the 256 bytes in byte-level vocabularies, in the order of the bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(rest)) for byte in range(256)]


def byte_level(
    specials: list[str], around: list[str] | None = None, prefix: bool = False, **parts: Any
) -> Any:
    """A tokenizer.json of byte-level BPE."""
    space = "\u0120"
    merges = [("t", "h"), ("th", "e"), ("a", "t"), ("c", "at"), (space, "the"), (space, "cat"), ("s", "at")]
    pieces = [*specials, *byte_alphabet(), *("".join(pair) for pair in merges)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "vocab": vocabulary,
    }
    model |= {"end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False}
    level = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True}
    return whole(
        model | {"merges": [" ".join(pair) for pair in merges]},
        **{
            "added_tokens": added(*specials, vocabulary=vocabulary),
            "pre_tokenizer": level,
            "post_processor": template(around, vocabulary) if around else level,
        }
        | parts,
    )


def llama(
    around: list[str], prepend: bool = True, names: tuple[str, ...] = ("<unk>", "<s>", "</s>"), **parts: Any
) -> Any:
    """A tokenizer.json of SentencePiece's BPE with bytes to fall back on, as of Llama, Mistral and Gemma."""
    merges = [("t", "h"), ("th", "e"), ("a", "t"), ("c", "at"), (MARK, "the"), (MARK, "cat"), ("s", "at")]
    pieces = [*names, *(f"<0x{byte:02X}>" for byte in range(256)), MARK, *LETTERS, *LETTERS.upper(), ",", "!"]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    first = [{"type": "Prepend", "prepend": MARK}] if prepend else []
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
    }
    model |= {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": vocabulary}
    return whole(
        model | {"merges": [" ".join(pair) for pair in merges]},
        **{
            "added_tokens": added(*names, vocabulary=vocabulary),
            "normalizer": {"type": "Sequence", "normalizers": [*first, replace]},
            "post_processor": template(around, vocabulary),
        }
        | parts,
    )


def unigram(around: list[str], specials: list[str], **parts: Any) -> Any:
    """A tokenizer.json of SentencePiece's Unigram, as of XLM-RoBERTa and T5."""
    pieces = [
        MARK,
        f"{MARK}the",
        f"{MARK}cat",
        "cat",
        "the",
        "sat",
        *LETTERS,
        *LETTERS.upper(),
        ",",
        "!",
        "é",
        "北",
        "京",
    ]
    listed = [[name, 0.0] for name in specials] + [[piece, -2.0 - i / 8] for i, piece in enumerate(pieces)]
    vocabulary = {piece: i for i, (piece, _) in enumerate(listed)}
    model = {"type": "Unigram", "unk_id": vocabulary["<unk>"], "vocab": listed, "byte_fallback": False}
    scheme = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True}
    return whole(
        model,
        **{
            "added_tokens": added(*specials, vocabulary=vocabulary),
            "pre_tokenizer": scheme,
            "post_processor": template(around, vocabulary),
        }
        | parts,
    )


def folder(model_type: str, tokenizer: Any, settings: Files | None = None, **files: Any) -> Files:
    """The files of a model's folder that its tokenizer is made from."""
    said = {} if settings is None else {"tokenizer_config.json": settings}
    named = {f"{name}.json": content for name, content in files.items()}
    return {"config.json": {"model_type": model_type}, "tokenizer.json": tokenizer} | said | named


ENDS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>")
GEMMA_ENDS = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
XLM = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CODES = [*XLM, "en_XX", "de_DE", "eng_Latn", "deu_Latn"]
LLAMA, MISTRAL = {"tokenizer_class": "LlamaTokenizer", **ENDS}, llama(["<s>", "$A"])
START_END = ["<|start|>", "<|end|>"]
ROLES = {"bos_token": "<|start|>", "eos_token": "<|end|>"}


def flags(content: str, **changes: bool) -> Files:
    """A token of `added_tokens_decoder`."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {"content": content, **plain, **changes}


BERT_IDS = {str(i): flags(name) for i, name in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))}

CASES: dict[str, Files] = {
    # Start and end, as the class puts them.
    "llama, as its file": folder("llama", MISTRAL, LLAMA),
    "llama, add_eos_token": folder(
        "mistral", MISTRAL, LLAMA | {"add_bos_token": True, "add_eos_token": True}
    ),
    "llama, add_eos_token alone": folder(
        "mistral", MISTRAL, LLAMA | {"add_bos_token": False, "add_eos_token": True}
    ),
    "llama, neither": folder("llama", MISTRAL, LLAMA | {"add_bos_token": False}),
    "llama, null is no": folder("llama", MISTRAL, LLAMA | {"add_bos_token": None}),
    "llama, a file without a start": folder("llama", llama(["$A"]), LLAMA),
    "llama, by its model type": folder("mistral", llama(["$A"]), {"add_eos_token": True}),
    "llama, no settings": folder("llama", llama(["$A"])),
    "llama, another end": folder(
        "llama",
        MISTRAL,
        LLAMA | {"add_eos_token": True, "eos_token": {**flags("<new>"), "__type": "AddedToken"}},
    ),
    "llama, an end by special_tokens_map": folder(
        "llama", MISTRAL, LLAMA | {"add_eos_token": True}, special_tokens_map={"eos_token": "<new>"}
    ),
    "llama, generic class": folder(
        "llama", MISTRAL, ENDS | {"tokenizer_class": "PreTrainedTokenizerFast", "add_eos_token": True}
    ),
    "llama, metaspace": folder(
        "llama",
        llama(
            ["<s>", "$A"],
            normalizer=None,
            pre_tokenizer={
                "type": "Metaspace",
                "replacement": MARK,
                "prepend_scheme": "first",
                "split": False,
            },
        ),
        LLAMA | {"legacy": False, "add_eos_token": True},
    ),
    "codellama": folder(
        "llama", llama(["$A"]), {"tokenizer_class": "CodeLlamaTokenizer", **ENDS, "add_eos_token": True}
    ),
    "gemma": folder("gemma", llama(["$A"], False, GEMMA), GEMMA_ENDS | {"tokenizer_class": "GemmaTokenizer"}),
    "gemma, add_eos_token": folder(
        "gemma2", llama(["<bos>", "$A"], False, GEMMA), GEMMA_ENDS | {"add_eos_token": True}
    ),
    "cohere": folder(
        "cohere",
        byte_level(["<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>"]),
        {"tokenizer_class": "CohereTokenizerFast", "add_eos_token": True, "unk_token": "<UNK>"},
    ),
    "gpt-neox": folder("gpt_neox", byte_level(["<|endoftext|>"]), {"tokenizer_class": "GPTNeoXTokenizer"}),
    "gpt-neox, with ends": folder(
        "gpt_neox",
        byte_level([*START_END, "<|endoftext|>"]),
        {"tokenizer_class": "GPTNeoXTokenizerFast", **ROLES, "add_bos_token": True, "add_eos_token": True},
    ),
    "gpt-neox drops the file's ends": folder(
        "gpt_neox",
        byte_level([*START_END, "<|endoftext|>"], ["<|start|>", "$A"]),
        {"tokenizer_class": "GPTNeoXTokenizer"},
    ),
    "qwen2, its file's end": folder(
        "qwen2", byte_level(["<|endoftext|>"], ["$A", "<|endoftext|>"]), {"tokenizer_class": "Qwen2Tokenizer"}
    ),
    "qwen2 heeds no add_eos_token": folder(
        "qwen2", byte_level(["<|endoftext|>"]), {"tokenizer_class": "Qwen2Tokenizer", "add_eos_token": True}
    ),
    "xlm-roberta": folder(
        "xlm-roberta", unigram(["<s>", "$A", "</s>"], XLM), {"tokenizer_class": "XLMRobertaTokenizer", **ENDS}
    ),
    "xlm-roberta heeds no add_eos_token": folder(
        "xlm-roberta",
        unigram(["<s>", "$A", "</s>"], XLM),
        {"tokenizer_class": "XLMRobertaTokenizer", "add_bos_token": False, "add_eos_token": False},
    ),
    "t5": folder(
        "t5",
        unigram(["$A", "</s>"], ["<pad>", "</s>", "<unk>"]),
        {"tokenizer_class": "T5Tokenizer", "extra_ids": 0},
    ),
    "mbart": folder(
        "mbart",
        unigram(["$A", "</s>", "en_XX"], CODES),
        {"tokenizer_class": "MBartTokenizer", "src_lang": "de_DE"},
    ),
    "mbart, no language": folder("mbart", unigram(["$A"], CODES), {"tokenizer_class": "MBartTokenizer"}),
    "mbart50": folder(
        "mbart", unigram(["$A"], CODES), {"tokenizer_class": "MBart50Tokenizer", "src_lang": "de_DE"}
    ),
    "nllb": folder(
        "m2m_100", unigram(["$A"], CODES), {"tokenizer_class": "NllbTokenizer", "src_lang": "deu_Latn"}
    ),
    "nllb, old behaviour": folder(
        "m2m_100", unigram(["$A"], CODES), {"tokenizer_class": "NllbTokenizer", "legacy_behaviour": True}
    ),
    # A leading space.
    "gpt2": folder("gpt2", byte_level(["<|endoftext|>"]), {"tokenizer_class": "GPT2Tokenizer"}),
    "gpt2, add_prefix_space": folder("gpt2", byte_level(["<|endoftext|>"]), {"add_prefix_space": True}),
    "gpt2, the file alone says a space": folder(
        "gpt2", byte_level(["<|endoftext|>"], prefix=True), {"tokenizer_class": "GPT2Tokenizer"}
    ),
    "gpt2 heeds no add_bos_token": folder("gpt2", byte_level(["<|endoftext|>"]), {"add_bos_token": True}),
    "generic, the file alone says a space": folder(
        "gpt2", byte_level(["<|end|>"], prefix=True), {"tokenizer_class": "PreTrainedTokenizerFast"}
    ),
    "generic, both say a space": folder(
        "gpt2",
        byte_level(["<|end|>"], prefix=True),
        {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True},
    ),
    "roberta, add_prefix_space": folder(
        "roberta",
        byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], ["<s>", "$A", "</s>"]),
        {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True},
    ),
    "roberta, the file alone says a space": folder(
        "roberta",
        byte_level(XLM, ["<s>", "$A", "</s>"], prefix=True),
        {"tokenizer_class": "RobertaTokenizer"},
    ),
    "bloom, a space inside a sequence": folder(
        "bloom",
        byte_level(
            ["<unk>", "<s>", "</s>", "<pad>"],
            pre_tokenizer={
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {"Regex": " ?[^(\\s|[.,!?])]+"},
                        "behavior": "Isolated",
                        "invert": False,
                    },
                    {
                        "type": "ByteLevel",
                        "add_prefix_space": False,
                        "trim_offsets": True,
                        "use_regex": False,
                    },
                ],
            },
        ),
        {"tokenizer_class": "BloomTokenizerFast", "add_prefix_space": True},
    ),
    # The normalizer.
    "bert, do_lower_case true over its file": folder(
        "bert", bert(False), {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    ),
    "bert, do_lower_case false over its file": folder(
        "bert", bert(True), {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}
    ),
    "bert, lower case unless it is said": folder("bert", bert(False), {"tokenizer_class": "BertTokenizer"}),
    "bert, no settings": folder("bert", bert(False)),
    "bert, strip_accents": folder("bert", bert(False), {"do_lower_case": False, "strip_accents": True}),
    "bert, keeps accents": folder("bert", bert(True), {"strip_accents": False}),
    "bert, tokenize_chinese_chars": folder("bert", bert(True), {"tokenize_chinese_chars": False}),
    "bert, generic class": folder(
        "bert", bert(False), {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}
    ),
    "bert, class of config.json": {
        **folder("nomic_bert", bert(False), {"do_lower_case": True}),
        "config.json": {"model_type": "albert", "tokenizer_class": "BertTokenizer"},
    },
    "distilbert": folder("distilbert", bert(False), {"do_lower_case": True}),
    "electra": folder("electra", bert(True), {"do_lower_case": False, "tokenizer_class": "ElectraTokenizer"}),
    "mpnet": folder(
        "mpnet",
        bert(False, ("<pad>", "[UNK]", "<s>", "</s>", "<mask>")),
        {"tokenizer_class": "MPNetTokenizer", "tokenize_chinese_chars": False},
    ),
    # Tokens.
    "added_tokens_decoder": folder(
        "bert",
        bert(),
        {
            "added_tokens_decoder": BERT_IDS
            | {
                "150": flags("<new>", lstrip=True, rstrip=True),
                "151": flags("<New>", normalized=True, special=False),
            }
        },
    ),
    "added_tokens_decoder, other flags": folder(
        "bert", bert(), {"added_tokens_decoder": BERT_IDS | {"4": flags("[MASK]", lstrip=True, rstrip=True)}}
    ),
    "added_tokens_decoder, a whole word": folder(
        "bert",
        bert(),
        {
            "added_tokens_decoder": BERT_IDS
            | {"150": flags("the", single_word=True, normalized=True, special=False)}
        },
    ),
    "added_tokens_decoder, a word of the vocabulary": folder(
        "bert", bert(), {"added_tokens_decoder": BERT_IDS | {"7": flags("cat", special=False)}}
    ),
    "added_tokens.json": folder("bert", bert(), {}, added_tokens={"<new>": 200, "<x>": 199, "[MASK]": 4}),
    "additional_special_tokens": folder(
        "bert",
        bert(),
        {"additional_special_tokens": ["<new>", flags("<x>", rstrip=True) | {"__type": "AddedToken"}]},
    ),
    "additional_special_tokens in both files": folder(
        "bert",
        bert(),
        {"additional_special_tokens": ["<x>"]},
        special_tokens_map={"additional_special_tokens": ["<new>", "<x>"]},
    ),
    "extra_special_tokens by name": folder(
        "bert", bert(), {"extra_special_tokens": {"image_token": "<new>"}}
    ),
    "special_tokens_map.json": folder(
        "bert", bert(), {}, special_tokens_map={"mask_token": flags("<new>", lstrip=True), "pad_token": "<x>"}
    ),
    "special_tokens_map.json beside added_tokens_decoder": folder(
        "bert", bert(), {"added_tokens_decoder": BERT_IDS}, special_tokens_map={"mask_token": "<new>"}
    ),
    "a special token of the vocabulary": folder("bert", bert(), {"mask_token": "cat"}),
    "split_special_tokens": folder("bert", bert(), {"split_special_tokens": True}),
    "irrelevant settings": folder(
        "bert",
        bert(),
        {
            "padding_side": "left",
            "truncation_side": "left",
            "clean_up_tokenization_spaces": True,
            "chat_template": "{{ messages }}",
            "model_input_names": ["input_ids"],
            "never_split": ["cat"],
            "use_fast": False,
            "errors": "replace",
            "name_or_path": "x",
            "stride": 3,
            "max_length": 4,
        },
    ),
}
